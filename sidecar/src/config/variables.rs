//! The sidecar's own variables: one that is set and not among them is a misspelt one.

use service::config::Env;

const PREFIX: &str = "SIDECAR_";

/// All that are read anywhere, the command line's included; some are only when another is set.
const KNOWN: [&str; 65] = [
    "SIDECAR_APP_HEALTH_INTERVAL",
    "SIDECAR_APP_HEALTH_URL",
    "SIDECAR_APP_METRICS_MAX",
    "SIDECAR_APP_METRICS_TIMEOUT",
    "SIDECAR_APP_METRICS_URL",
    "SIDECAR_APP_SERIES_MAX",
    "SIDECAR_CONFIG",
    "SIDECAR_ECS_REFRESH",
    "SIDECAR_EMF_DIMENSIONS",
    "SIDECAR_EMF_INTERVAL",
    "SIDECAR_EMF_METRICS",
    "SIDECAR_EMF_METRICS_MAX",
    "SIDECAR_EMF_NAMESPACE",
    "SIDECAR_EMF_PRICE_GIGABYTE",
    "SIDECAR_EMF_PRICE_METRIC",
    "SIDECAR_FIRELENS_CONFIG",
    "SIDECAR_FLUENT_LISTEN",
    "SIDECAR_FLUENT_SOCKET",
    "SIDECAR_IMAGE",
    "SIDECAR_LISTEN",
    "SIDECAR_LOGS_FILE",
    "SIDECAR_LOGS_FORWARD",
    "SIDECAR_LOGS_OUTPUT",
    "SIDECAR_LOG_EXCLUDE",
    "SIDECAR_LOG_FILES",
    "SIDECAR_LOG_GIVE_UP_AFTER",
    "SIDECAR_LOG_GROUP_CREATE",
    "SIDECAR_LOG_INCLUDE",
    "SIDECAR_LOG_KEEP",
    "SIDECAR_LOG_LEVEL_MIN",
    "SIDECAR_LOG_LINE_MAX",
    "SIDECAR_LOG_MULTILINE",
    "SIDECAR_LOG_QUEUE",
    "SIDECAR_LOG_RATE",
    "SIDECAR_LOG_REDACT",
    "SIDECAR_LOG_SPOOL_MAX",
    "SIDECAR_LOG_START",
    "SIDECAR_LOG_STDIN",
    "SIDECAR_LOG_XRAY",
    "SIDECAR_MEMORY_MAX",
    "SIDECAR_METRICS_GIVE_UP_AFTER",
    "SIDECAR_METRICS_INTERVAL",
    "SIDECAR_METRICS_QUEUE",
    "SIDECAR_OTLP_BODY_MAX",
    "SIDECAR_OTLP_GRPC_LISTEN",
    "SIDECAR_OTLP_LISTEN",
    "SIDECAR_PROBES",
    "SIDECAR_RED",
    "SIDECAR_REMOTE_WRITE_HEADERS",
    "SIDECAR_REMOTE_WRITE_URL",
    "SIDECAR_REMOTE_WRITE_VERSION",
    "SIDECAR_SERVICE",
    "SIDECAR_SERVICE_VERSION",
    "SIDECAR_STATE_DIR",
    "SIDECAR_STATSD_LISTEN",
    "SIDECAR_STATSD_SOCKET",
    "SIDECAR_STOP_TIMEOUT",
    "SIDECAR_STUCK_AFTER",
    "SIDECAR_TASK_ID",
    "SIDECAR_TRACE_GIVE_UP_AFTER",
    "SIDECAR_TRACE_QUEUE",
    "SIDECAR_TRACE_SAMPLE",
    "SIDECAR_TRACE_SLOW",
    "SIDECAR_TRACE_TAIL_BUFFER",
    "SIDECAR_TRACE_TAIL_WAIT",
];

/// Letters by which a name may differ from the one that was meant.
const DIFFERENCE_MAX: usize = 4;

/// A line for each variable that nobody reads. Its value stays out of it.
pub(super) fn unknown(env: &dyn Env) -> Vec<String> {
    let mut names = env.names();
    names.retain(|name| name.starts_with(PREFIX) && !KNOWN.contains(&name.as_str()));
    names.sort();
    names.iter().map(|name| format!("{name} is set but is no setting{}", suggestion(name))).collect()
}

/// The nearest name, or those that are equally near.
fn suggestion(name: &str) -> String {
    let distance = |known: &&str| strsim::damerau_levenshtein(name, known);
    let nearest = KNOWN.iter().map(distance).min().filter(|least| *least <= DIFFERENCE_MAX);
    let meant: Vec<&str> = KNOWN.into_iter().filter(|known| Some(distance(known)) == nearest).collect();
    match meant.is_empty() {
        false => format!(": is {} meant?", meant.join(" or ")),
        true => ", and none has a name like it".to_owned(),
    }
}
