//! The configuration that ECS writes for a FireLens router of type `fluentbit`, read as ours.
//!
//! In: `/fluent-bit/etc/fluent-bit.conf` and what it includes. Out: where to listen, which containers' lines go where,
//! what they must match, what is added to them. So an image of aws-for-fluent-bit in a task definition can be replaced
//! by ours, and a service team says all it wants in `logConfiguration.options`. What we do not have is told by file,
//! line and key, and never keeps the task from starting.

pub mod conf;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use regex::bytes::Regex;
use service::config::Env;

use self::conf::{Entry, Item, Section};
use super::fluent_forward;
use crate::outputs::destination::{CloudWatch, LogsOutput, Stream};
use crate::pipeline::multiline::Rule as Multiline;
use crate::pipeline::route::{Filter, Routes, Rule, TagPattern};

/// Where ECS mounts it.
pub const DEFAULT_PATH: &str = "/fluent-bit/etc/fluent-bit.conf";
/// Includes within includes.
const INCLUDES_MAX: usize = 8;

/// What the file comes to.
#[derive(Clone, Debug, Default)]
pub struct FireLens {
    pub forward: fluent_forward::Config,
    /// TCP that only has to be open: ECS' FireLens health check.
    pub health: Option<SocketAddr>,
    pub routes: Routes,
    pub problems: Vec<String>,
}

impl FireLens {
    /// Reads the file and what it includes; what cannot be used is among the problems.
    pub fn read(path: &Path, env: &dyn Env) -> FireLens {
        let mut firelens = FireLens::default();
        firelens.read_file(path, env, 0);
        firelens
    }

    fn read_file(&mut self, path: &Path, env: &dyn Env, depth: usize) {
        let shown = path.display();
        match std::fs::read_to_string(path) {
            Ok(text) => self.read_text(&text, path, env, depth),
            Err(error) => self.problems.push(format!("failed to read FireLens configuration {shown}: {error}")),
        }
    }

    /// Takes the text of a file over; `path` is where it came from.
    pub fn read_text(&mut self, text: &str, path: &Path, env: &dyn Env, depth: usize) {
        let (items, faults) = conf::parse(text, env);
        let shown = path.display().to_string();
        self.problems.extend(faults.into_iter().map(|fault| format!("{shown}:{}: {}", fault.line, fault.why)));
        for item in items {
            match item {
                Item::Section(section) => {
                    let mut reading = Reading { file: &shown, problems: Vec::new() };
                    self.take(&section, &mut reading);
                    self.problems.extend(reading.problems);
                }
                Item::Include { line, .. } if depth == INCLUDES_MAX => {
                    self.problems.push(format!("{shown}:{line}: files include each other"));
                }
                Item::Include { file, .. } => {
                    let file = PathBuf::from(file);
                    let file =
                        if file.is_absolute() { file } else { path.parent().unwrap_or(Path::new("")).join(file) };
                    self.read_file(&file, env, depth + 1);
                }
            }
        }
    }

    fn take(&mut self, section: &Section, reading: &mut Reading<'_>) {
        let plugin = section.get("Name").unwrap_or_default().to_ascii_lowercase();
        match (section.name.as_str(), plugin.as_str()) {
            // Of the engine itself: how often it flushes and what it logs.
            ("SERVICE", _) => {}
            ("INPUT", "forward") => self.forward_input(section, reading),
            ("INPUT", "tcp") if section.get("Tag") == Some("firelens-healthcheck") => {
                self.health = reading.address(section, "8877");
            }
            ("FILTER", "grep") => self.grep(section, reading),
            ("FILTER", "record_modifier") => self.record_modifier(section, reading),
            ("OUTPUT", _) => self.output(section, &plugin, reading),
            ("INPUT" | "FILTER", name) => {
                let kind = section.name.to_lowercase();
                reading.problem(section.line, "Name", &format!("the {kind} {name:?} is not supported and left out"));
            }
            (name, _) => reading.problem(section.line, name, "sections of this kind are not supported and left out"),
        }
    }

    fn forward_input(&mut self, section: &Section, reading: &mut Reading<'_>) {
        if let Some(path) = section.get("unix_path") {
            self.forward.socket = Some(PathBuf::from(path));
        } else if let Some(address) = reading.address(section, "24224") {
            self.forward.listen = Some(address);
        }
        for key in ["shared_key", "security.users", "tls"] {
            if let Some(entry) = section.entry(key).filter(|e| !e.value.eq_ignore_ascii_case("off")) {
                reading.problem(entry.line, key, "Forward is taken from this task alone, without key and TLS");
            }
        }
    }

    /// `Regex log ERROR` and `Exclude log DEBUG`, as ECS makes them of include-pattern and exclude-pattern.
    fn grep(&mut self, section: &Section, reading: &mut Reading<'_>) {
        let Some(matches) = reading.matches(section) else { return };
        for entry in &section.entries {
            let exclude = match entry.key.to_ascii_lowercase().as_str() {
                "regex" => false,
                "exclude" => true,
                "name" | "match" | "match_regex" => continue,
                _ => {
                    reading.problem(entry.line, &entry.key, "is not supported in the filter grep");
                    continue;
                }
            };
            let (key, pattern) = entry.value.split_once(char::is_whitespace).unwrap_or((&entry.value, ""));
            if key.trim_start_matches('$') != "log" {
                reading.problem(entry.line, &entry.key, "only patterns for the key `log` are supported");
                continue;
            }
            match Regex::new(pattern.trim()) {
                Ok(pattern) => self.routes.filters.push(Filter { matches: matches.clone(), pattern, exclude }),
                Err(error) => {
                    let why = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
                    reading.problem(
                        entry.line,
                        &entry.key,
                        &format!("{pattern:?} cannot be used, every line passes it ({why})"),
                    );
                }
            }
        }
    }

    fn record_modifier(&mut self, section: &Section, reading: &mut Reading<'_>) {
        let Some(matches) = reading.matches(section) else { return };
        for entry in &section.entries {
            match entry.key.to_ascii_lowercase().as_str() {
                "record" => {
                    let (key, value) = entry.value.split_once(char::is_whitespace).unwrap_or((&entry.value, ""));
                    self.routes.members.push((matches.clone(), key.to_owned(), value.trim().to_owned()));
                }
                "name" | "match" | "match_regex" => {}
                _ => reading.problem(entry.line, &entry.key, "is not supported in the filter record_modifier"),
            }
        }
    }

    fn output(&mut self, section: &Section, plugin: &str, reading: &mut Reading<'_>) {
        // The health check's data goes nowhere already.
        if section.get("Match") == Some("firelens-healthcheck") {
            return;
        }
        let Some(matches) = reading.matches(section) else { return };
        let output = match plugin {
            "null" => LogsOutput::None,
            "stdout" => LogsOutput::Stdout,
            "cloudwatch" | "cloudwatch_logs" => reading.cloudwatch(section),
            "forward" => {
                reading.known(section, &["host", "port", "require_ack_response", "retry_limit"]);
                let (host, port) = (section.get("host").unwrap_or("127.0.0.1"), section.get("port").unwrap_or("24224"));
                LogsOutput::Forward(format!("{host}:{port}"))
            }
            "opentelemetry" => reading.opentelemetry(section),
            "file" => {
                let directory = section.get("path").unwrap_or(".");
                LogsOutput::File(Path::new(directory).join(section.get("file").unwrap_or("app.log")))
            }
            // Ours: the destination is the one that the options speak of.
            "sidecar" | "picket" if section.get("log_group_name").is_some() => reading.cloudwatch(section),
            "sidecar" | "picket" if section.get("host").or(section.get("url")).is_some() => {
                reading.opentelemetry(section)
            }
            "sidecar" | "picket" if section.get("output") == Some("stdout") => LogsOutput::Stdout,
            "sidecar" | "picket" if section.get("output") == Some("none") => LogsOutput::None,
            // Nothing else is said: as the sidecar itself is configured.
            "sidecar" | "picket" => return,
            other => {
                reading.problem(
                    section.line,
                    "Name",
                    &format!(
                        "the output {other:?} is not supported: write sidecar, cloudwatch_logs, opentelemetry, forward, \
                         file, stdout or null; these records go where the sidecar itself is configured to send"
                    ),
                );
                return;
            }
        };
        let bare = section.get("log_key").is_some_and(|key| key.trim_start_matches('$') == "log");
        let multiline = section.entry("multiline").and_then(|entry| {
            Multiline::parse(&entry.value).inspect_err(|why| reading.problem(entry.line, "multiline", why)).ok()
        });
        self.routes.rules.push(Rule { matches, output, bare, multiline });
    }
}

/// A section on its way, and what is wrong with it.
struct Reading<'a> {
    file: &'a str,
    problems: Vec<String>,
}

/// Of Fluent Bit's outputs in general, without meaning here: batches, repetition and connections are ours.
const IGNORED: [&str; 16] = [
    "name",
    "match",
    "match_regex",
    "alias",
    "retry_limit",
    "workers",
    "log_level",
    "auto_retry_requests",
    "net.keepalive",
    "net.connect_timeout",
    "net.keepalive_idle_timeout",
    "storage.total_limit_size",
    "extra_user_agent",
    "multiline",
    "output",
    "tls.verify",
];

impl Reading<'_> {
    fn problem(&mut self, line: usize, key: &str, why: &str) {
        self.problems.push(format!("{}:{line}: {key}: {why}", self.file));
    }

    fn known(&mut self, section: &Section, keys: &[&str]) {
        for Entry { key, line, .. } in &section.entries {
            let lower = key.to_ascii_lowercase();
            if !IGNORED.contains(&lower.as_str()) && !keys.contains(&lower.as_str()) {
                self.problem(*line, key, "this option is not supported and has no effect");
            }
        }
    }

    fn matches(&mut self, section: &Section) -> Option<TagPattern> {
        if let Some(pattern) = section.get("Match") {
            return Some(TagPattern::Glob(pattern.to_owned()));
        }
        let Some(entry) = section.entry("Match_Regex") else {
            self.problem(section.line, "Match", "is missing, the section is left out");
            return None;
        };
        match Regex::new(&entry.value) {
            Ok(regex) => Some(TagPattern::Regex(regex)),
            Err(_) => {
                self.problem(entry.line, "Match_Regex", "is no regular expression, the section is left out");
                None
            }
        }
    }

    /// Nothing but this task's own is listened for: an address that is open to others becomes loopback.
    fn address(&mut self, section: &Section, default_port: &str) -> Option<SocketAddr> {
        let port = section.get("Port").unwrap_or(default_port);
        let Ok(port) = port.parse::<u16>() else {
            self.problem(section.line, "Port", &format!("{port:?} is no port, nothing listens there"));
            return None;
        };
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        match section.get("Listen").unwrap_or("127.0.0.1").parse::<std::net::IpAddr>() {
            Ok(ip) if ip.is_loopback() => Some((ip, port).into()),
            _ => Some(address),
        }
    }

    fn cloudwatch(&mut self, section: &Section) -> LogsOutput {
        self.known(
            section,
            &[
                "region",
                "endpoint",
                "log_group_name",
                "log_stream_name",
                "log_stream_prefix",
                "auto_create_group",
                "auto_create_stream",
                "log_key",
                "log_retention_days",
                "default_log_group_name",
                "default_log_stream_name",
            ],
        );
        let group = section.get("log_group_name").or(section.get("default_log_group_name"));
        let Some(group) = group else {
            self.problem(section.line, "log_group_name", "is missing, these records go nowhere");
            return LogsOutput::None;
        };
        let stream = match (section.get("log_stream_name"), section.get("log_stream_prefix")) {
            (Some(name), _) => Stream::Named(name.to_owned()),
            (None, Some(prefix)) => Stream::PrefixAndTag(prefix.to_owned()),
            (None, None) => match section.get("default_log_stream_name") {
                Some(name) => Stream::Named(name.to_owned()),
                None => Stream::PrefixAndTag(String::new()),
            },
        };
        let retention_days = section.entry("log_retention_days").and_then(|entry| {
            let days = entry.value.parse().ok();
            if days.is_none() {
                self.problem(entry.line, "log_retention_days", "is no number of days");
            }
            days
        });
        let is_true = |value: &str| ["true", "on", "yes"].iter().any(|word| value.eq_ignore_ascii_case(word));
        LogsOutput::CloudWatch(CloudWatch {
            group: group.to_owned(),
            stream,
            region: section.get("region").map(str::to_owned),
            endpoint: section.get("endpoint").map(endpoint_url),
            create_group: section.get("auto_create_group").is_some_and(is_true),
            retention_days,
        })
    }

    fn opentelemetry(&mut self, section: &Section) -> LogsOutput {
        self.known(section, &["host", "port", "logs_uri", "tls", "header", "url", "log_key"]);
        let secure = section.get("tls").is_some_and(|tls| tls.eq_ignore_ascii_case("on"));
        let (scheme, default_port) = if secure { ("https", "443") } else { ("http", "4318") };
        let host = section.get("host").unwrap_or("127.0.0.1");
        let port = section.get("port").unwrap_or(default_port);
        let path = section.get("logs_uri").unwrap_or("/v1/logs");
        let authority = if (scheme, port) == ("https", "443") { host.to_owned() } else { format!("{host}:{port}") };
        let url = section.get("url").map_or_else(|| format!("{scheme}://{authority}{path}"), str::to_owned);
        let headers = section.all("header").filter_map(|entry| {
            let (name, value) = entry.value.split_once(char::is_whitespace)?;
            reqwest::header::HeaderName::try_from(name).ok()?;
            reqwest::header::HeaderValue::from_str(value.trim()).ok()?;
            Some((name.to_owned(), service::config::Secret::new(value.trim())))
        });
        LogsOutput::Otlp { url, headers: headers.collect() }
    }
}

/// Fluent Bit wants a host, everybody else an address.
fn endpoint_url(endpoint: &str) -> String {
    match endpoint.contains("://") {
        true => endpoint.to_owned(),
        false => format!("https://{endpoint}"),
    }
}

#[cfg(test)]
mod tests;
