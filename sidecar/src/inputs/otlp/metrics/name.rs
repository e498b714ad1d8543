//! From OpenTelemetry's names and units to Prometheus' (opentelemetry.io, "Prometheus and OpenMetrics Compatibility").

use telemetry::exposition::MetricKind;

use crate::inputs::statsd::parse::plain_name;

/// UCUM and what Prometheus calls it.
const UNITS: [(&str, &str); 27] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("KBy", "kilobytes"),
    ("kBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
    ("bit", "bits"),
    ("mo", "months"),
    ("wk", "weeks"),
];

const PER: [(&str, &str); 7] =
    [("s", "second"), ("min", "minute"), ("h", "hour"), ("d", "day"), ("wk", "week"), ("mo", "month"), ("y", "year")];

/// A family's name: without `_total` for a counter, whose samples have it.
pub(super) fn family(name: &str, unit: &str, kind: MetricKind) -> String {
    let mut out = plain_name(name);
    while out.contains("__") {
        out = out.replace("__", "_");
    }
    if kind == MetricKind::Counter {
        out = out.strip_suffix("_total").unwrap_or(&out).to_owned();
    }
    let suffix = unit_suffix(unit, kind);
    if !suffix.is_empty() && !out.ends_with(&suffix) {
        out.push('_');
        out.push_str(&suffix);
    }
    out
}

fn unit_suffix(unit: &str, kind: MetricKind) -> String {
    // Annotations such as {request} say nothing of the unit.
    let unit: String = unit.split('{').next().unwrap_or_default().trim_end_matches('/').to_owned();
    if unit == "1" {
        return if kind == MetricKind::Gauge { "ratio".to_owned() } else { String::new() };
    }
    let known = |table: &[(&str, &str)], unit: &str| {
        table.iter().find(|(ucum, _)| *ucum == unit).map_or_else(|| plain_name(unit), |(_, name)| (*name).to_owned())
    };
    match unit.split_once('/') {
        Some(("", per)) => format!("per_{}", known(&PER, per)),
        Some((unit, per)) => format!("{}_per_{}", known(&UNITS, unit), known(&PER, per)),
        None if unit.is_empty() => String::new(),
        None => known(&UNITS, &unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_units_are_prometheus_own() {
        for (name, unit, kind, expected) in [
            ("http.server.request.duration", "s", MetricKind::Histogram, "http_server_request_duration_seconds"),
            ("jobs.done", "1", MetricKind::Counter, "jobs_done"),
            ("jobs_total", "{job}", MetricKind::Counter, "jobs"),
            ("cpu.utilization", "1", MetricKind::Gauge, "cpu_utilization_ratio"),
            ("process.memory.usage", "By", MetricKind::Gauge, "process_memory_usage_bytes"),
            ("disk.speed", "By/s", MetricKind::Gauge, "disk_speed_bytes_per_second"),
            ("request_seconds", "s", MetricKind::Histogram, "request_seconds"),
            ("a..b-c", "", MetricKind::Gauge, "a_b_c"),
            ("x", "furlong", MetricKind::Gauge, "x_furlong"),
        ] {
            assert_eq!(family(name, unit, kind), expected, "{name} {unit}");
        }
    }
}
