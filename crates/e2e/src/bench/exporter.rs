//! Synthetic targets: request counters and latency histograms of five services, advancing with each scrape.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use service::Shutdown;

const SERVICES: [&str; 5] = ["user", "product", "order", "analytics", "notification"];
const STATUSES: [&str; 4] = ["200", "201", "404", "500"];
const BUCKETS: [&str; 8] = ["0.005", "0.025", "0.1", "0.25", "0.5", "1", "2.5", "+Inf"];

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
}

impl Exporter {
    /// # Errors
    /// When no port can be had.
    pub async fn start(targets: usize, series: usize) -> anyhow::Result<Self> {
        let state = Arc::new(Fleet { targets, series, started: Instant::now(), taken: Mutex::default() });
        let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "the exporter's port").await?;
        let (address, shutdown) = (listener.local_addr()?, Shutdown::new());
        let router = Router::new().route("/{who}/{target}", get(expose)).with_state(state.clone());
        service::task::spawn("exporter", service::http::serve(listener, router, shutdown.clone()));
        Ok(Exporter { state, address, shutdown })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
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

async fn expose(State(fleet): State<Arc<Fleet>>, Path((who, target)): Path<(String, usize)>) -> impl IntoResponse {
    let target = target % fleet.targets.max(1);
    let body = body(target, fleet.series, fleet.started.elapsed().as_secs_f64());
    *fleet.taken.lock().expect("no one panics holding it").entry(who).or_default() += fleet.series as u64;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], body)
}

/// Half counters, half histogram buckets; exactly `series` lines of samples.
fn body(target: usize, series: usize, seconds: f64) -> String {
    let service = SERVICES[target % SERVICES.len()];
    let mut text = String::with_capacity(series * 110);
    text.push_str("# TYPE http_requests_total counter\n");
    let counters = series / 2;
    for i in 0..counters {
        let (status, path) = (STATUSES[i % STATUSES.len()], i / STATUSES.len());
        let value = (seconds * (1 + i % 17) as f64).floor();
        line(
            &mut text,
            format_args!(
                "http_requests_total{{service=\"{service}\",environment=\"bench\",method=\"GET\",path=\"/api/v1/items/{path}\",status=\"{status}\"}} {value}"
            ),
        );
    }
    text.push_str("# TYPE http_request_duration_seconds histogram\n");
    for i in 0..series - counters {
        let (bucket, path) = (i % BUCKETS.len(), i / BUCKETS.len());
        let value = (seconds * (bucket + 1) as f64 * (1 + path % 5) as f64).floor();
        line(
            &mut text,
            format_args!(
                "http_request_duration_seconds_bucket{{service=\"{service}\",environment=\"bench\",method=\"GET\",path=\"/api/v1/items/{path}\",le=\"{}\"}} {value}",
                BUCKETS[bucket]
            ),
        );
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string cannot fail");
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
