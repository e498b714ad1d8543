//! The outside of a run: targets whose values begin to fail, and a stand-in for Alertmanager that notes arrivals.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime};

use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;
use service::Shutdown;

use super::RULES;

/// One alert: a rule about a service.
pub(super) type Alert = (usize, usize);

/// An alert on its way through one subject.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    /// When it first arrived as firing.
    pub(super) arrived: Instant,
    /// From the evaluation that found it (its `startsAt`) to the arrival, seconds.
    pub(super) since_evaluation: f64,
}

/// Targets and receiver of one run.
#[derive(Default)]
pub(super) struct Lab {
    /// Since when a value fails.
    failing: Mutex<HashMap<Alert, Instant>>,
    /// Per subject: when it first scraped the failing value.
    scraped: Mutex<HashMap<(String, Alert), Instant>>,
    /// Per subject.
    passages: Mutex<HashMap<(String, Alert), Passage>>,
}

type Shared = State<Arc<Lab>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no one panics holding it")
}

impl Lab {
    /// Serves both on a free port until the shutdown.
    ///
    /// # Errors
    /// When no port can be had.
    pub(super) async fn open() -> anyhow::Result<(Arc<Lab>, SocketAddr, Shutdown)> {
        let lab = Arc::new(Lab::default());
        let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "the measurement's port").await?;
        let (address, shutdown) = (listener.local_addr()?, Shutdown::new());
        let router = Router::new()
            .route("/{who}/target/{service}", get(expose))
            .route("/{who}/api/v2/alerts", post(take))
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(lab.clone());
        service::task::spawn("lab", service::http::serve(listener, router, shutdown.clone()));
        Ok((lab, address, shutdown))
    }

    /// From now on the value that the rule reads of the service fails.
    pub(super) fn fail(&self, alert: Alert) {
        locked(&self.failing).insert(alert, Instant::now());
    }

    pub(super) fn arrivals(&self) -> usize {
        locked(&self.passages).len()
    }

    pub(super) fn passage(&self, who: &str, alert: Alert) -> Option<Passage> {
        locked(&self.passages).get(&(who.to_owned(), alert)).copied()
    }

    /// Seconds from the failing value to its first scrape, and to the arrival.
    pub(super) fn waits(&self, who: &str, alert: Alert) -> Option<(f64, f64)> {
        let failed = *locked(&self.failing).get(&alert)?;
        let scraped = *locked(&self.scraped).get(&(who.to_owned(), alert))?;
        let arrived = self.passage(who, alert)?.arrived;
        let since = |at: Instant| at.duration_since(failed).as_secs_f64();
        Some((since(scraped), since(arrived)))
    }
}

async fn expose(State(lab): Shared, UrlPath((who, service)): UrlPath<(String, usize)>) -> impl IntoResponse {
    let now = Instant::now();
    let mut text = String::with_capacity(RULES * 64);
    let failing = locked(&lab.failing);
    let mut scraped = locked(&lab.scraped);
    for rule in 0..RULES {
        let fails = failing.contains_key(&(rule, service));
        if fails {
            scraped.entry((who.clone(), (rule, service))).or_insert(now);
        }
        writeln!(text, "bench_failing{{service=\"s{service}\",kind=\"k{rule}\"}} {}", u8::from(fails))
            .expect("writing to a string cannot fail");
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

async fn take(State(lab): Shared, UrlPath(who): UrlPath<String>, Json(alerts): Json<Vec<Value>>) {
    let (now, wall) = (Instant::now(), SystemTime::now());
    let mut passages = locked(&lab.passages);
    for alert in &alerts {
        let number = |label: &str, prefix: &str| -> Option<usize> {
            alert["labels"][label].as_str()?.strip_prefix(prefix)?.parse().ok()
        };
        let started = alert["startsAt"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        if let (Some(rule), Some(service), Some(started)) =
            (number("alertname", "Bench"), number("service", "s"), started)
        {
            let since_evaluation = wall.duration_since(started.into()).unwrap_or_default().as_secs_f64();
            passages.entry((who.clone(), (rule, service))).or_insert(Passage { arrived: now, since_evaluation });
        }
    }
}
