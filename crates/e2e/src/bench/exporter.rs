//! Synthetic targets: request counters and latency histograms of five services, advancing with each scrape.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use service::Shutdown;

const SERVICES: [&str; 5] = ["user", "product", "order", "analytics", "notification"];
const STATUSES: [&str; 4] = ["200", "201", "404", "500"];
/// As all servers store them: some write `le="1"` of the text format as `1.0`.
const BUCKETS: [&str; 8] = ["0.005", "0.025", "0.1", "0.25", "0.5", "1.0", "2.5", "+Inf"];

/// Counters are older than this when the exporter starts, so that what is pushed of their past is positive.
pub const HISTORY_MAX: Duration = Duration::from_secs(6 * 3600);

/// Serves `/{who}/{target}` and counts the samples that each `who` has taken.
pub struct Exporter {
    state: Arc<Fleet>,
    address: SocketAddr,
    shutdown: Shutdown,
}

struct Fleet {
    targets: usize,
    series: usize,
    started: Instant,
    taken: Mutex<HashMap<String, u64>>,
    is_open: AtomicBool,
}

impl Exporter {
    /// # Errors
    /// When no port can be had.
    pub async fn start(targets: usize, series: usize) -> anyhow::Result<Self> {
        let state = Arc::new(Fleet {
            targets,
            series,
            started: Instant::now(),
            taken: Mutex::default(),
            is_open: AtomicBool::default(),
        });
        let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "the exporter's port").await?;
        let (address, shutdown) = (listener.local_addr()?, Shutdown::new());
        let router = Router::new().route("/{who}/{target}", get(expose)).with_state(state.clone());
        service::task::spawn("exporter", service::http::serve(listener, router, shutdown.clone()));
        Ok(Exporter { state, address, shutdown })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets scrapes in, or answers them with 503, as it does at first.
    pub fn open(&self, is_open: bool) {
        self.state.is_open.store(is_open, Ordering::Relaxed);
    }

    /// How long ago the counters began.
    pub fn seconds(&self) -> f64 {
        self.state.started.elapsed().as_secs_f64() + HISTORY_MAX.as_secs_f64()
    }

    /// Samples that `who` has scraped so far.
    pub fn samples(&self, who: &str) -> u64 {
        self.state.taken.lock().expect("no one panics holding it").get(who).copied().unwrap_or(0)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

async fn expose(State(fleet): State<Arc<Fleet>>, Path((who, target)): Path<(String, usize)>) -> Response {
    if !fleet.is_open.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let target = target % fleet.targets.max(1);
    let seconds = fleet.started.elapsed().as_secs_f64() + HISTORY_MAX.as_secs_f64();
    let body = body(target, fleet.series, seconds);
    *fleet.taken.lock().expect("no one panics holding it").entry(who).or_default() += fleet.series as u64;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], body).into_response()
}

/// Half counters, half histogram buckets; exactly `series` of them, as (name, labels, value).
pub fn each(target: usize, series: usize, seconds: f64, mut visit: impl FnMut(&str, &[(&str, &str)], f64)) {
    let service = SERVICES[target % SERVICES.len()];
    let counters = series / 2;
    for i in 0..counters {
        let path = format!("/api/v1/items/{}", i / STATUSES.len());
        let labels = [
            ("service", service),
            ("environment", "bench"),
            ("method", "GET"),
            ("path", &path),
            ("status", STATUSES[i % STATUSES.len()]),
        ];
        visit("http_requests_total", &labels, (seconds * (1 + i % 17) as f64).floor());
    }
    for i in 0..series - counters {
        let (bucket, item) = (i % BUCKETS.len(), i / BUCKETS.len());
        let path = format!("/api/v1/items/{item}");
        let labels = [
            ("service", service),
            ("environment", "bench"),
            ("method", "GET"),
            ("path", &path),
            ("le", BUCKETS[bucket]),
        ];
        let value = (seconds * (bucket + 1) as f64 * (1 + item % 5) as f64).floor();
        visit("http_request_duration_seconds_bucket", &labels, value);
    }
}

fn body(target: usize, series: usize, seconds: f64) -> String {
    let mut text = String::with_capacity(series * 110);
    text.push_str("# TYPE http_requests_total counter\n");
    let mut of_histogram = false;
    each(target, series, seconds, |name, labels, value| {
        if !of_histogram && name.ends_with("_bucket") {
            of_histogram = true;
            text.push_str("# TYPE http_request_duration_seconds histogram\n");
        }
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        writeln!(text, "{name}{{{}}} {value}", labels.join(",")).expect("writing to a string cannot fail");
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_exactly_the_wanted_samples_and_no_series_twice() {
        let body = body(3, 1001, 12.5);
        let mut series: Vec<&str> =
            body.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.rsplit_once(' ')).map(|(s, _)| s).collect();
        assert_eq!(series.len(), 1001);
        series.sort_unstable();
        series.dedup();
        assert_eq!(series.len(), 1001);
    }
}
