//! Serves the synthetic targets on one port, each server under paths of its own, and counts what each has taken.
//!
//! A body is a copy of the lines' text with the numbers put in: half a million series every ten seconds for three servers
//! cost a few per cent of a core, which the servers do not lack then.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use service::Shutdown;

use super::fleet::{Fleet, Target};

/// Serves `/{who}/{target}` and counts the samples that each `who` has taken.
pub struct Exporter {
    state: Arc<Served>,
    address: SocketAddr,
    shutdown: Shutdown,
}

struct Served {
    fleet: Fleet,
    targets: Vec<Mutex<Target>>,
    taken: Mutex<HashMap<String, u64>>,
    is_open: AtomicBool,
}

impl Exporter {
    /// Targets that have run since `at`, in seconds since 1970.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(fleet: Fleet, at: f64) -> anyhow::Result<Self> {
        let targets = (0..fleet.targets).map(|number| Mutex::new(fleet.target(number, at))).collect();
        let state = Arc::new(Served { fleet, targets, taken: Mutex::default(), is_open: AtomicBool::default() });
        let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "the exporter's port").await?;
        let (address, shutdown) = (listener.local_addr()?, Shutdown::new());
        let router = Router::new().route("/{who}/{target}", get(expose)).with_state(state.clone());
        service::task::spawn("exporter", service::http::serve(listener, router, shutdown.clone()));
        Ok(Exporter { state, address, shutdown })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn fleet(&self) -> &Fleet {
        &self.state.fleet
    }

    /// A target's values as of a time; times must not go back.
    pub fn values(&self, target: usize, at: f64, take: impl FnOnce(&[f64])) {
        let mut target = self.state.targets[target].lock().expect("no one panics holding it");
        self.state.fleet.go_on(&mut target, at);
        take(target.values());
    }

    /// Lets scrapes in, or answers them with 503, as it does at first.
    pub fn open(&self, is_open: bool) {
        self.state.is_open.store(is_open, Ordering::Relaxed);
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

async fn expose(State(served): State<Arc<Served>>, Path((who, number)): Path<(String, usize)>) -> Response {
    if !served.is_open.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let Some(target) = served.targets.get(number) else { return StatusCode::NOT_FOUND.into_response() };
    let body = {
        let mut target = target.lock().expect("no one panics holding it");
        served.fleet.go_on(&mut target, seconds());
        served.fleet.render(&target)
    };
    *served.taken.lock().expect("no one panics holding it").entry(who).or_default() += served.fleet.series() as u64;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], body).into_response()
}

/// Since 1970.
pub fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
