//! The program's own metrics: one registry, answered as OpenMetrics, with the process' own figures in it.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A shared registry. Stages register their metrics when they are built.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    pub fn new() -> Self {
        Metrics::default()
    }

    /// Lets a stage register what it counts.
    pub fn register<T>(&self, with: impl FnOnce(&mut Registry) -> T) -> T {
        with(&mut self.0.lock().expect("no one panics while registering"))
    }

    /// The exposition in OpenMetrics 1.0 text, the process' figures included.
    pub fn expose(&self) -> String {
        let mut text = String::new();
        process_figures(&mut text);
        let registry = self.0.lock().expect("no one panics while registering");
        encode(&mut text, &registry).expect("writing to a string cannot fail");
        text
    }

    /// Answers `GET /metrics`.
    pub fn router(&self) -> Router {
        let metrics = self.clone();
        Router::new().route(
            "/metrics",
            get(move || async move { ([(CONTENT_TYPE, OPENMETRICS)], metrics.expose()).into_response() }),
        )
    }
}

/// CPU, memory, descriptors and start time from /proc, under the names that every Prometheus client uses.
fn process_figures(text: &mut String) {
    let Some(figures) = ProcessFigures::read() else { return };
    let mut metric = |name: &str, kind: &str, help: &str, suffix: &str, value: f64| {
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{suffix} {value}")
            .expect("writing to a string cannot fail");
    };
    if let Some(refused) = crate::http::refused() {
        let help = "Connections closed at once because there were too many.";
        metric("process_http_connections_refused", "counter", help, "_total", refused as f64);
    }
    metric(
        "process_cpu_seconds",
        "counter",
        "CPU time used, user and system, in seconds.",
        "_total",
        figures.cpu_seconds,
    );
    metric("process_resident_memory_bytes", "gauge", "Resident memory in bytes.", "", figures.resident_bytes);
    metric("process_open_fds", "gauge", "Open file descriptors.", "", figures.open_fds);
    metric(
        "process_start_time_seconds",
        "gauge",
        "Start of the process, seconds since the epoch.",
        "",
        figures.start_seconds,
    );
}

struct ProcessFigures {
    cpu_seconds: f64,
    resident_bytes: f64,
    open_fds: f64,
    start_seconds: f64,
}

impl ProcessFigures {
    /// None where there is no Linux /proc. Fields of proc_pid_stat(5), counted after the command's `)`.
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |i: usize| fields.get(i)?.parse::<f64>().ok();
        // USER_HZ is 100 on every Linux that we run on; pages are 4 KiB on x86-64 and on Fargate's ARM.
        let (ticks_per_second, page_bytes) = (100.0, 4096.0);
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot_seconds: f64 = boot.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(ProcessFigures {
            cpu_seconds: (number(11)? + number(12)?) / ticks_per_second,
            resident_bytes: number(21)? * page_bytes,
            open_fds: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
            start_seconds: boot_seconds + number(19)? / ticks_per_second,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn a_registered_counter_and_the_process_are_exposed_with_one_end_marker() {
        let metrics = Metrics::new();
        let counter = Counter::<u64>::default();
        metrics.register(|r| r.register("widgets", "Widgets made", counter.clone()));
        counter.inc_by(3);
        let text = metrics.expose();
        assert!(text.contains("widgets_total 3\n"), "{text}");
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
        assert_eq!(text.matches("# EOF").count(), 1);
        assert!(text.ends_with("# EOF\n"));
    }
}
