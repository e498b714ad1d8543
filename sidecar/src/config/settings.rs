//! Settings as they were written, and how one of them is found: environment, then file, then default.

use std::fmt::Display;

use serde::Deserialize;

use super::found::{Found, Origin};
use super::*;

/// The YAML file. Durations and sizes are human: `15s`, `64MiB`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// `SIDECAR_SERVICE`: the service's name; as the task's metadata has it where absent.
    pub(super) service: Option<String>,
    /// `SIDECAR_SERVICE_VERSION`: on lines that do not say their version.
    pub(super) service_version: Option<String>,
    /// `ENVIRONMENT`.
    pub(super) environment: Option<String>,
    /// `SIDECAR_TASK_ID`: as the task's metadata has it where absent.
    pub(super) task_id: Option<String>,
    /// `SIDECAR_LISTEN`: metrics, health and recent log lines.
    pub(super) listen: Option<String>,
    /// `SIDECAR_STOP_TIMEOUT`: two seconds less than the container's stopTimeout.
    pub(super) stop_timeout: Option<String>,
    /// `SIDECAR_STUCK_AFTER`: an event loop that has stood still for so long ends the process, to be restarted.
    pub(super) stuck_after: Option<String>,
    /// `SIDECAR_STATE_DIR`: a directory on a volume of the task, for what must survive a restart of the sidecar.
    pub(super) state_dir: Option<String>,
    /// `SIDECAR_MEMORY_MAX`: the whole process stays below; three quarters of the container's limit where absent.
    pub(super) memory_max: Option<String>,
    pub(super) app: App,
    pub(super) ecs: Ecs,
    pub(super) logs: Logs,
    pub(super) traces: Traces,
    pub(super) statsd: Statsd,
    pub(super) metrics: MetricsOut,
    pub(super) emf: Emf,
}

/// Metrics pushed to where they are stored.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MetricsOut {
    /// `SIDECAR_REMOTE_WRITE_URL`: signed for where it is Amazon Managed Prometheus.
    pub(super) remote_write_url: Option<String>,
    /// `SIDECAR_REMOTE_WRITE_VERSION`: `1.0` or `2.0`; a receiver that knows 1.0 alone gets that.
    pub(super) remote_write_version: Option<String>,
    /// `SIDECAR_REMOTE_WRITE_HEADERS`: `name=value`, separated by commas.
    pub(super) remote_write_headers: Option<String>,
    /// `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`: the whole address; signed for where it is CloudWatch.
    pub(super) otlp_endpoint: Option<String>,
    /// `SIDECAR_METRICS_INTERVAL`: of remote write and OTLP.
    pub(super) interval: Option<String>,
    /// `SIDECAR_METRICS_QUEUE`: of each of them.
    pub(super) queue: Option<String>,
    /// `SIDECAR_METRICS_GIVE_UP_AFTER`.
    pub(super) give_up_after: Option<String>,
}

/// Chosen metrics as lines in the log group.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Emf {
    /// `SIDECAR_EMF_METRICS`, separated by commas: names of metrics; none without.
    pub(super) metrics: Vec<String>,
    /// `SIDECAR_EMF_NAMESPACE`.
    pub(super) namespace: Option<String>,
    /// `SIDECAR_EMF_DIMENSIONS`, separated by commas: labels.
    pub(super) dimensions: Vec<String>,
    /// `SIDECAR_EMF_INTERVAL`.
    pub(super) interval: Option<String>,
    /// `SIDECAR_EMF_METRICS_MAX`: combinations of name and dimensions.
    pub(super) metrics_max: Option<String>,
    /// `SIDECAR_EMF_PRICE_METRIC`: dollars a month for one metric.
    pub(super) price_metric: Option<String>,
    /// `SIDECAR_EMF_PRICE_GIGABYTE`: dollars for a GB of log lines.
    pub(super) price_gigabyte: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Statsd {
    /// `SIDECAR_STATSD_LISTEN`: UDP, or `off`.
    pub(super) listen: Option<String>,
    /// `SIDECAR_STATSD_SOCKET`: a unix datagram socket, such as `/var/run/datadog/dsd.socket`.
    pub(super) socket: Option<String>,
}

/// The app beside us.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct App {
    /// `SIDECAR_APP_METRICS_URL`, or `off`.
    pub(super) metrics_url: Option<String>,
    /// `SIDECAR_APP_METRICS_TIMEOUT`.
    pub(super) metrics_timeout: Option<String>,
    /// `SIDECAR_APP_METRICS_MAX`: the largest exposition that is read.
    pub(super) metrics_max: Option<String>,
    /// `SIDECAR_APP_SERIES_MAX`: of one metric; series beyond it are summed up in one.
    pub(super) series_max: Option<String>,
    /// `SIDECAR_APP_HEALTH_URL`, or `off`.
    pub(super) health_url: Option<String>,
    /// `SIDECAR_APP_HEALTH_INTERVAL`: between two rounds of all probes.
    pub(super) health_interval: Option<String>,
    /// `SIDECAR_PROBES`: what else is asked, as `name=address` separated by commas; `http://`, `tcp://`, `grpc://`,
    /// `postgres://` and `redis://`.
    pub(super) probes: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ecs {
    /// `SIDECAR_ECS_REFRESH`.
    pub(super) refresh: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Logs {
    /// `SIDECAR_LOG_FILES`, separated by commas: paths and globs.
    pub(super) files: Vec<String>,
    /// `SIDECAR_LOG_START`: `end` or `beginning` of files that are there at the start.
    pub(super) start: Option<String>,
    /// `SIDECAR_FLUENT_LISTEN`: Fluent Forward by TCP, usually `127.0.0.1:24224`.
    pub(super) fluent_listen: Option<String>,
    /// `SIDECAR_FLUENT_SOCKET`: Fluent Forward by unix socket, under FireLens `/var/run/fluent.sock`.
    pub(super) fluent_socket: Option<String>,
    /// `SIDECAR_LOG_LINE_MAX`.
    pub(super) line_max: Option<String>,
    /// `SIDECAR_LOG_STDIN`: read lines from standard input too.
    pub(super) stdin: Option<String>,
    /// `SIDECAR_LOG_MULTILINE`: how stack traces are joined: `auto`, `off`, a language, or `container=language,…`.
    pub(super) multiline: Option<String>,
    /// `SIDECAR_LOG_LEVEL_MIN`: lesser records are left out.
    pub(super) level_min: Option<String>,
    /// `SIDECAR_LOG_INCLUDE`: a regular expression that a line must match.
    pub(super) include: Option<String>,
    /// `SIDECAR_LOG_EXCLUDE`: a regular expression that a line must not match.
    pub(super) exclude: Option<String>,
    /// `SIDECAR_LOG_KEEP`: the part of a level's records that is kept: `info=0.1,debug=0.01`.
    pub(super) keep: Option<String>,
    /// `SIDECAR_LOG_RATE`: records of a level per second and container: `info=100`.
    pub(super) rate: Option<String>,
    /// `SIDECAR_LOG_REDACT`: what is struck out by its looks: `tokens`, `cards`, `email`, or `off`.
    pub(super) redact: Option<String>,
    /// `SIDECAR_LOG_XRAY`: the trace id in X-Ray's form beside W3C's.
    pub(super) xray: Option<String>,
    /// `SIDECAR_LOGS_OUTPUT`: `cloudwatch`, `otlp`, `forward`, `file`, `stdout` or `none`.
    pub(super) output: Option<String>,
    /// `SIDECAR_LOGS_FILE`: where the output `file` writes.
    pub(super) output_file: Option<String>,
    /// `SIDECAR_LOGS_FORWARD`: `host:port` of the output `forward`.
    pub(super) forward: Option<String>,
    /// `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT`: where the output `otlp` sends.
    pub(super) otlp_endpoint: Option<String>,
    /// `OTEL_EXPORTER_OTLP_LOGS_HEADERS`: `name=value`, separated by commas.
    pub(super) otlp_headers: Option<String>,
    /// `LOG_GROUP`.
    pub(super) group: Option<String>,
    /// `LOG_STREAM`: `<service>/<task id>` where absent.
    pub(super) stream: Option<String>,
    /// `SIDECAR_LOG_GROUP_CREATE`.
    pub(super) create_group: Option<String>,
    /// `SIDECAR_LOG_SPOOL_MAX`: what may wait on disk, in `state_dir`.
    pub(super) spool_max: Option<String>,
    /// `SIDECAR_LOG_QUEUE`: of each destination in memory.
    pub(super) queue: Option<String>,
    /// `SIDECAR_LOG_GIVE_UP_AFTER`.
    pub(super) give_up_after: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Traces {
    /// `SIDECAR_OTLP_LISTEN`, or `off`.
    pub(super) listen: Option<String>,
    /// `SIDECAR_OTLP_GRPC_LISTEN`, or `off`.
    pub(super) grpc_listen: Option<String>,
    /// `SIDECAR_RED`: `on` or `off`: requests counted from server spans, where the app does not count them itself.
    pub(super) red: Option<String>,
    /// `SIDECAR_TRACE_SAMPLE`: the share of traces that is kept, 0 to 1.
    pub(super) sample: Option<String>,
    /// `SIDECAR_TRACE_TAIL_WAIT`: how long a trace's spans wait for its end; unset or `off`: decided by its id alone.
    pub(super) tail_wait: Option<String>,
    /// `SIDECAR_TRACE_SLOW`: a span of this length keeps its trace; with `tail_wait`.
    pub(super) slow: Option<String>,
    /// `SIDECAR_TRACE_TAIL_BUFFER`: of all spans that wait.
    pub(super) tail_buffer: Option<String>,
    /// `SIDECAR_OTLP_BODY_MAX`.
    pub(super) body_max: Option<String>,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: the backend, without `/v1/traces`.
    pub(super) endpoint: Option<String>,
    /// `OTEL_EXPORTER_OTLP_HEADERS`: `name=value`, separated by commas.
    pub(super) headers: Option<String>,
    /// `OTEL_EXPORTER_OTLP_COMPRESSION`: `gzip` or `none`.
    pub(super) compression: Option<String>,
    /// `SIDECAR_TRACE_QUEUE`.
    pub(super) queue: Option<String>,
    /// `SIDECAR_TRACE_GIVE_UP_AFTER`.
    pub(super) give_up_after: Option<String>,
}

/// Finds and parses settings; collects what is wrong with them.
pub(super) struct Settings<'a> {
    pub(super) env: &'a dyn Env,
    pub(super) problems: Vec<String>,
    pub(super) found: Found,
}

impl<'a> Settings<'a> {
    pub(super) fn new(env: &'a dyn Env, problems: Vec<String>) -> Self {
        Settings { env, problems, found: Found::default() }
    }

    pub(super) fn optional(&self, variable: &str, file: &Option<String>) -> Option<String> {
        let usable = |value: String| Some(value.trim().to_owned()).filter(|v| !v.is_empty());
        let own = self.env.get(variable).and_then(usable).map(|value| (value, Origin::Environment));
        let found = own.or_else(|| Some((file.clone().and_then(usable)?, Origin::File)));
        self.found.note(variable, found.clone());
        found.map(|(value, _)| value)
    }

    pub(super) fn text(&self, variable: &str, file: &Option<String>, default: &str) -> String {
        self.optional(variable, file).unwrap_or_else(|| self.default(variable, default))
    }

    fn default(&self, variable: &str, default: &str) -> String {
        let shown = Some((default.to_owned(), Origin::Default)).filter(|_| !default.is_empty());
        self.found.note(variable, shown);
        default.to_owned()
    }

    /// The value, or the default's where the text cannot be parsed.
    pub(super) fn parsed<T, E: Display>(
        &mut self,
        name: &str,
        text: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> T {
        match parse(text) {
            Ok(value) => value,
            Err(error) => {
                self.problems.push(format!("{name}: {text:?} cannot be used ({error}), using {default}"));
                parse(default).ok().expect("defaults parse")
            }
        }
    }

    pub(super) fn duration(&mut self, variable: &str, file: &Option<String>, default: &str) -> Duration {
        let text = self.text(variable, file, default);
        self.parsed(variable, &text, default, |text| match duration::parse(text) {
            Ok(Duration::ZERO) => Err("it must be longer than 0".to_owned()),
            Ok(value) => Ok(value),
            Err(error) => Err(error.to_string()),
        })
    }

    pub(super) fn bytes(&mut self, variable: &str, file: &Option<String>, default: &str) -> usize {
        let text = self.text(variable, file, default);
        let bytes = self.parsed(variable, &text, default, byte_size::parse);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    pub(super) fn number(&mut self, variable: &str, file: &Option<String>, default: &str) -> usize {
        let text = self.text(variable, file, default);
        self.parsed(variable, &text, default, str::parse)
    }

    /// An address to listen on; None where it is `off`.
    pub(super) fn listen(&mut self, variable: &str, file: &Option<String>, default: &str) -> Option<SocketAddr> {
        let text = self.text(variable, file, default);
        self.parsed(variable, &text, default, |text| match text {
            OFF => Ok(None),
            text => text.parse::<SocketAddr>().map(Some),
        })
    }

    /// Dollars.
    pub(super) fn price(&mut self, variable: &str, file: &Option<String>, default: &str) -> f64 {
        let text = self.text(variable, file, default);
        self.parsed(variable, &text, default, |text| match text.parse::<f64>() {
            Ok(price) if price >= 0.0 && price.is_finite() => Ok(price),
            _ => Err("write dollars, such as 0.30"),
        })
    }

    /// Words separated by commas.
    pub(super) fn list(&self, variable: &str, file: &[String], default: &str) -> Vec<String> {
        let words = |text: &str| text.split(',').map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect();
        match self.optional(variable, &None) {
            Some(text) => words(&text),
            None if file.is_empty() => words(&self.default(variable, default)),
            None => {
                self.found.note(variable, Some((file.join(","), Origin::File)));
                file.to_vec()
            }
        }
    }

    pub(super) fn switch(&mut self, variable: &str, file: &Option<String>, default: &str) -> bool {
        let text = self.text(variable, file, default);
        self.parsed(variable, &text, default, |word| match word {
            "on" | "true" => Ok(true),
            OFF | "false" => Ok(false),
            _ => Err("write `on` or `off`"),
        })
    }

    pub(super) fn flag(&mut self, variable: &str, file: &Option<String>, default: &str) -> bool {
        let text = self.text(variable, file, default);
        self.parsed(variable, &text, default, str::parse::<bool>)
    }

    /// FireLens' configuration, where one is named or ECS has put one.
    pub(super) fn firelens(&mut self, named: Option<&Path>) -> Option<FireLens> {
        let default = Path::new(firelens::DEFAULT_PATH);
        let path = named.or_else(|| Some(default).filter(|path| path.exists()))?;
        let firelens = FireLens::read(path, self.env);
        self.problems.extend(firelens.problems.iter().cloned());
        Some(firelens)
    }

    /// An http(s) address; None where it is `off`, and where it is absent or unusable and has no default.
    pub(super) fn url(&mut self, variable: &str, file: &Option<String>, default: Option<&str>) -> Option<String> {
        let text = self.optional(variable, file).or_else(|| Some(self.default(variable, default?)))?;
        if text == OFF {
            return None;
        }
        match reqwest::Url::parse(&text) {
            Ok(url) if ["http", "https"].contains(&url.scheme()) && url.has_host() => Some(text),
            _ => {
                let using = default.unwrap_or("none");
                self.problems.push(format!("{variable}: {text:?} is no http:// or https:// address, using {using}"));
                default.map(str::to_owned)
            }
        }
    }

    /// `name=value,name=value`, as OpenTelemetry writes headers. Values are not repeated in messages.
    pub(super) fn headers(&mut self, variable: &str, text: &str) -> Vec<(String, Secret)> {
        let mut headers = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').map_or((pair, ""), |(n, v)| (n.trim(), v.trim()));
            let usable = !value.is_empty()
                && reqwest::header::HeaderName::try_from(name).is_ok()
                && reqwest::header::HeaderValue::from_str(value).is_ok();
            match usable {
                true => headers.push((name.to_owned(), Secret::new(value))),
                false => self.problems.push(format!("{variable}: the header {name:?} is not written as name=value")),
            }
        }
        headers
    }
}
