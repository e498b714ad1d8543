//! What is done to log lines, and where they go, as it was configured.

use regex::bytes::Regex;
use telemetry::log_record::Level;

use super::*;
use crate::outputs::destination::{CloudWatch, Stream};
use crate::pipeline::choose::{self, by_level};
use crate::pipeline::multiline::Rule;
use crate::pipeline::redact::Patterns;
use crate::pipeline::route::Routes;

/// Records of one level in a second: as good as no limit.
const RATE_MAX: f64 = 1e9;

pub(super) fn intake(s: &mut Settings<'_>, file: &File, routes: Routes, line_bytes_max: usize) -> intake::Config {
    let logs = &file.logs;
    let redact = s.text("SIDECAR_LOG_REDACT", &logs.redact, "tokens,cards");
    let multiline = s.text("SIDECAR_LOG_MULTILINE", &logs.multiline, "auto");
    intake::Config {
        output: output(s, file),
        routes,
        choose: choose(s, file),
        redact: s.parsed("SIDECAR_LOG_REDACT (logs.redact)", &redact, "tokens,cards", patterns),
        xray: s.flag("SIDECAR_LOG_XRAY", &logs.xray, "true"),
        multiline: s.parsed("SIDECAR_LOG_MULTILINE (logs.multiline)", &multiline, "auto", rules),
        line_bytes_max,
    }
}

/// `auto`, `java`, `app=java,worker=python`.
fn rules(text: &str) -> Result<Vec<(Option<String>, Rule)>, String> {
    let rule = |part: &str| match part.split_once('=') {
        Some((container, rule)) => Ok((Some(container.trim().to_owned()), Rule::parse(rule.trim())?)),
        None => Ok((None, Rule::parse(part)?)),
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(rule).collect()
}

fn patterns(text: &str) -> Result<Patterns, String> {
    let mut patterns = Patterns { tokens: false, cards: false, email: false };
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != OFF) {
        match word {
            "tokens" => patterns.tokens = true,
            "cards" => patterns.cards = true,
            "email" => patterns.email = true,
            other => return Err(format!("{other:?} is none of tokens, cards, email, off")),
        }
    }
    Ok(patterns)
}

fn choose(s: &mut Settings<'_>, file: &File) -> choose::Config {
    let logs = &file.logs;
    let include = s.optional("SIDECAR_LOG_INCLUDE", &file.logs.include);
    let include = pattern(s, "SIDECAR_LOG_INCLUDE (logs.include)", include);
    let exclude = s.optional("SIDECAR_LOG_EXCLUDE", &file.logs.exclude);
    let exclude = pattern(s, "SIDECAR_LOG_EXCLUDE (logs.exclude)", exclude);
    let level_min = s.optional("SIDECAR_LOG_LEVEL_MIN", &logs.level_min);
    let level_min = level_min.and_then(|text| {
        s.parsed("SIDECAR_LOG_LEVEL_MIN (logs.level_min)", &text, "", |word| match word {
            "" => Ok(None),
            word => Level::recognise(word).map(Some).ok_or("write trace, debug, info, warn or error"),
        })
    });
    let keep = s.text("SIDECAR_LOG_KEEP", &logs.keep, "");
    let rate = s.text("SIDECAR_LOG_RATE", &logs.rate, "");
    choose::Config {
        level_min,
        include,
        exclude,
        keep: s.parsed("SIDECAR_LOG_KEEP (logs.keep)", &keep, "", |text| by_level(text, 1.0)),
        per_second: s.parsed("SIDECAR_LOG_RATE (logs.rate)", &rate, "", |text| by_level(text, RATE_MAX)),
    }
}

fn pattern(s: &mut Settings<'_>, name: &str, text: Option<String>) -> Vec<Regex> {
    let Some(text) = text else { return Vec::new() };
    match Regex::new(&text) {
        Ok(regex) => vec![regex],
        Err(error) => {
            let why = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
            s.problems.push(format!("{name}: {text:?} is no regular expression ({why}), it is not applied"));
            Vec::new()
        }
    }
}

pub(super) fn delivery(s: &mut Settings<'_>, file: &File, state_dir: Option<PathBuf>) -> DeliveryConfig {
    let bytes_max = s.bytes("SIDECAR_LOG_SPOOL_MAX", &file.logs.spool_max, "1GiB") as u64;
    let endpoint = s.url("AWS_ENDPOINT_URL_LOGS", &None, None).or_else(|| s.url("AWS_ENDPOINT_URL", &None, None));
    DeliveryConfig {
        queue_bytes: s.bytes("SIDECAR_LOG_QUEUE", &file.logs.queue, "8MiB"),
        spool: state_dir
            .filter(|_| bytes_max > 0)
            .map(|directory| SpoolConfig { directory: directory.join("logs"), bytes_max }),
        give_up_after: s.duration("SIDECAR_LOG_GIVE_UP_AFTER", &file.logs.give_up_after, "1h"),
        endpoint,
    }
}

fn output(s: &mut Settings<'_>, file: &File) -> LogsOutput {
    let output = s.text("SIDECAR_LOGS_OUTPUT", &file.logs.output, "none");
    match output.as_str() {
        "none" => LogsOutput::None,
        "stdout" => LogsOutput::Stdout,
        "cloudwatch" => cloudwatch(s, file),
        "otlp" => otlp(s, file),
        "file" => match s.optional("SIDECAR_LOGS_FILE", &file.logs.output_file) {
            Some(path) => LogsOutput::File(path.into()),
            None => unsaid(s, "file", "SIDECAR_LOGS_FILE (logs.output_file)"),
        },
        "forward" => match s.optional("SIDECAR_LOGS_FORWARD", &file.logs.forward) {
            Some(address) => LogsOutput::Forward(address),
            None => unsaid(s, "forward", "SIDECAR_LOGS_FORWARD (logs.forward)"),
        },
        other => {
            s.problems.push(format!(
                "SIDECAR_LOGS_OUTPUT (logs.output): {other:?} is no output: write `cloudwatch`, `otlp`, `forward`, \
                 `file`, `stdout` or `none`"
            ));
            LogsOutput::None
        }
    }
}

fn unsaid(s: &mut Settings<'_>, output: &str, what: &str) -> LogsOutput {
    s.problems.push(format!(
        "SIDECAR_LOGS_OUTPUT (logs.output) is `{output}`, but it is not said where: set {what}; until then log records \
         go nowhere"
    ));
    LogsOutput::None
}

fn cloudwatch(s: &mut Settings<'_>, file: &File) -> LogsOutput {
    let Some(group) = s.optional("LOG_GROUP", &file.logs.group) else {
        s.problems.push(
            "SIDECAR_LOGS_OUTPUT (logs.output) is `cloudwatch`, but no log group is named: set LOG_GROUP \
             (logs.group); until then log records go nowhere"
                .to_owned(),
        );
        return LogsOutput::None;
    };
    LogsOutput::CloudWatch(CloudWatch {
        group,
        stream: s.optional("LOG_STREAM", &file.logs.stream).map_or(Stream::OfTask, Stream::Named),
        region: None,
        endpoint: None,
        create_group: s.flag("SIDECAR_LOG_GROUP_CREATE", &file.logs.create_group, "false"),
        retention_days: None,
    })
}

/// As the OTLP exporter specification has it: the signal's own address is whole, the general one a base.
fn otlp(s: &mut Settings<'_>, file: &File) -> LogsOutput {
    let whole = s.url("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &file.logs.otlp_endpoint, None);
    let base = s.url("OTEL_EXPORTER_OTLP_ENDPOINT", &None, None);
    let Some(url) = whole.or(base.map(|base| format!("{}/v1/logs", base.trim_end_matches('/')))) else {
        return unsaid(s, "otlp", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT (logs.otlp_endpoint)");
    };
    let own = s.optional("OTEL_EXPORTER_OTLP_LOGS_HEADERS", &file.logs.otlp_headers);
    let headers = own.or_else(|| s.optional("OTEL_EXPORTER_OTLP_HEADERS", &None)).unwrap_or_default();
    LogsOutput::Otlp { url, headers: s.headers("OTEL_EXPORTER_OTLP_LOGS_HEADERS", &headers) }
}
