//! Probes: the app's health, asked on loopback and relayed, for a distroless app cannot have a health check of its
//! own; and of what the app depends on, where that is configured.
//!
//! In: the address of the app's probe, usually `/health/ready`, whose siblings `/health/live` and `/health/startup`
//! are asked too (one that answers 404 does not exist), and further probes by name. Out: `app_probe_*` metrics, the
//! check `app` of our own readiness, `/health/app` and what lies below it. Our own liveness depends on nobody, and
//! nothing here asks for a destination of logs, traces or metrics: that one of them is down makes nobody sick.

pub mod probe;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use futures::future::join_all;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use reqwest::Client;
use serde_json::{Value, json};
use service::metrics::Metrics;
use service::{Health, Shutdown};
use telemetry::names::sidecar as names;
use tokio::sync::watch;
use tokio::time::Instant;

use self::probe::{Answer, Target};

#[derive(Clone, Debug)]
pub struct Config {
    /// None: the app has no probes, and our readiness is our own alone.
    pub url: Option<String>,
    pub interval: Duration,
    /// What else is asked, by name. They are told and measured; only `healthcheck --app --deep` depends on them.
    pub probes: Vec<(String, Target)>,
}

/// Probes that the app's address names by its last part.
const KINDS: [&str; 3] = ["ready", "live", "startup"];

/// The probes by name, and what each last said.
#[derive(Clone)]
pub struct AppHealth {
    results: watch::Receiver<Results>,
    main: Option<&'static str>,
}

/// None before the first round.
type Results = Option<Arc<BTreeMap<String, Seen>>>;
type Label = [(&'static str, String); 1];

#[derive(Clone, Debug)]
struct Seen {
    result: Result<(), String>,
    took: Duration,
    /// In seconds since 1970.
    changed: f64,
}

pub struct Prober {
    client: Client,
    /// Only where there is a gRPC probe.
    http2: Option<Client>,
    interval: Duration,
    probes: Vec<Probe>,
    publish: watch::Sender<Results>,
    metrics: ProbeMetrics,
}

struct Probe {
    name: String,
    target: Target,
    /// Asked for by the configuration: its 404 is a failure.
    configured: bool,
}

#[derive(Clone, Default)]
struct ProbeMetrics {
    up: Family<Label, Gauge>,
    duration: Family<Label, Gauge<f64, AtomicU64>>,
    changed: Family<Label, Gauge<f64, AtomicU64>>,
}

impl Config {
    /// Reads `name=address`, separated by commas. Addresses are not repeated in messages.
    ///
    /// # Errors
    /// What is wrong with the first one that cannot be used.
    pub fn parse_probes(text: &str) -> Result<Vec<(String, Target)>, String> {
        let mut probes: Vec<(String, Target)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, address) = part.split_once('=').ok_or("write name=address, separated by commas")?;
            let name = name.trim();
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            if !is_name {
                return Err(format!("{name:?} is no name: letters, digits, _ and -"));
            }
            if KINDS.contains(&name) || name == "health" || probes.iter().any(|(other, _)| other == name) {
                return Err(format!("the name {name:?} is taken"));
            }
            probes.push((name.to_owned(), address.trim().parse().map_err(|why| format!("{name}: {why}"))?));
        }
        Ok(probes)
    }

    pub fn build(&self, client: Client, health: &Health, metrics: &Metrics) -> (AppHealth, Option<Prober>) {
        let (publish, results) = watch::channel(Results::default());
        let (mut probes, main) = self.url.as_deref().map_or((Vec::new(), None), app_probes);
        probes.extend(self.probes.iter().map(|(name, target)| Probe {
            name: name.clone(),
            target: target.clone(),
            configured: true,
        }));
        let app = AppHealth { results, main };
        if probes.is_empty() {
            return (app, None);
        }
        let asked = app.clone();
        health.check("app", move || std::future::ready(asked.result()));
        let own = ProbeMetrics::default();
        metrics.register(|r| {
            r.register(names::APP_PROBE_UP, "1 when the app's probe succeeds", own.up.clone());
            r.register(names::APP_PROBE_DURATION_SECONDS, "How long the app's probe last took", own.duration.clone());
            r.register(
                names::APP_PROBE_CHANGED_TIMESTAMP_SECONDS,
                "When the result of the app's probe last changed",
                own.changed.clone(),
            );
        });
        let speaks_grpc = probes.iter().any(|probe| matches!(probe.target, Target::Grpc { .. }));
        let http2 = || Client::builder().no_proxy().http2_prior_knowledge().build().ok();
        let http2 = speaks_grpc.then(http2).flatten();
        (app, Some(Prober { client, http2, interval: self.interval, probes, publish, metrics: own }))
    }
}

/// The configured probe and, where its path is `…/health/<kind>`, its siblings; the configured one's name.
fn app_probes(url: &str) -> (Vec<Probe>, Option<&'static str>) {
    let (base, last) = url.rsplit_once('/').unwrap_or((url, ""));
    let Some(configured) = KINDS.into_iter().find(|kind| *kind == last) else {
        let probe = Probe { name: "health".to_owned(), target: Target::Http(url.to_owned()), configured: true };
        return (vec![probe], Some("health"));
    };
    let probe = |kind: &str| Probe {
        name: kind.to_owned(),
        target: Target::Http(format!("{base}/{kind}")),
        configured: kind == configured,
    };
    (KINDS.into_iter().map(probe).collect(), Some(configured))
}

impl AppHealth {
    /// Whether the app's probe succeeds; Ok where there is none.
    pub fn result(&self) -> Result<(), String> {
        let Some(main) = self.main else { return Ok(()) };
        let results = self.results.borrow();
        let seen = results.as_ref().and_then(|results| results.get(main));
        seen.map_or_else(|| Err("not probed yet".to_owned()), |seen| seen.result.clone())
    }

    /// Whether all probes succeed, of what the app depends on too.
    fn deep(&self) -> Result<(), String> {
        self.result()?;
        let results = self.results.borrow();
        let failed = results.iter().flat_map(|results| results.values()).find_map(|seen| seen.result.clone().err());
        failed.map_or(Ok(()), Err)
    }

    /// `/health/app`: the app alone, without what we think of ourselves; `/health/app/deep`: with what it depends
    /// on; `/health/app/{live,ready,startup}`: one probe, relayed. `/health/deep`: ourselves in full, without the app.
    pub fn router(&self, health: &Health) -> Router {
        let mut router = Router::new();
        let (app, deep) = (self.clone(), self.clone());
        router = router
            .route("/health/app", get(move || async move { app.answer(app.result()) }))
            .route("/health/app/deep", get(move || async move { deep.answer(deep.deep()) }));
        for kind in KINDS {
            let app = self.clone();
            router = router.route(&format!("/health/app/{kind}"), get(move || async move { app.relay(kind) }));
        }
        let health = health.clone();
        router.route("/health/deep", get(move || async move { ourselves(&health).await }))
    }

    fn answer(&self, result: Result<(), String>) -> (StatusCode, Json<Value>) {
        let results = self.results.borrow().clone().unwrap_or_default();
        let text = |seen: &Seen| seen.result.as_ref().map_or_else(|why| why.clone(), |()| "ok".to_owned());
        let checks: BTreeMap<&str, String> = results.iter().map(|(name, seen)| (name.as_str(), text(seen))).collect();
        let probes: BTreeMap<&str, Value> = results.iter().map(|(name, seen)| (name.as_str(), seen.json())).collect();
        let (status, word) = match result {
            Ok(()) => (StatusCode::OK, "ok"),
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        (status, Json(json!({"status": word, "checks": checks, "probes": probes})))
    }

    fn relay(&self, kind: &str) -> (StatusCode, Json<Value>) {
        let results = self.results.borrow();
        let unavailable =
            |why: &str| (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "unavailable", "error": why})));
        match results.as_ref().map(|results| results.get(kind)) {
            None if self.main.is_some() => unavailable("not probed yet"),
            None | Some(None) => (StatusCode::NOT_FOUND, Json(json!({"status": "absent"}))),
            Some(Some(seen)) => match &seen.result {
                Ok(()) => (StatusCode::OK, Json(json!({"status": "ok"}))),
                Err(why) => unavailable(why),
            },
        }
    }
}

/// What is ours to be well: a fault of the configuration and a stage that has not started count, the app does not,
/// nor that we are on our way out.
async fn ourselves(health: &Health) -> (StatusCode, Json<Value>) {
    let mut checks = health.ready().await.checks;
    checks.retain(|name, _| name != "app" && name != "draining");
    let (status, word) = match checks.values().all(|text| text == "ok") {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    (status, Json(json!({"status": word, "checks": checks})))
}

impl Seen {
    fn json(&self) -> Value {
        json!({"up": self.result.is_ok(), "latency_seconds": self.took.as_secs_f64(), "changed_timestamp_seconds": self.changed})
    }
}

impl Prober {
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.requested() => return Ok(()),
            }
            // At once: one that hangs must not make the others late.
            let asked = join_all(self.probes.iter().map(|probe| self.ask(probe))).await;
            self.note(asked.into_iter().flatten());
        }
    }

    /// None where the probe does not exist.
    async fn ask(&self, probe: &Probe) -> Option<(String, Result<(), String>, Duration)> {
        let begun = Instant::now();
        let result = match probe.target.ask(&self.client, self.http2.as_ref()).await {
            Answer::Yes => Ok(()),
            Answer::No(why) => Err(why),
            Answer::Absent if !probe.configured => return None,
            Answer::Absent => Err(format!("{} answered 404 Not Found", probe.target)),
        };
        Some((probe.name.clone(), result, begun.elapsed()))
    }

    fn note(&self, asked: impl Iterator<Item = (String, Result<(), String>, Duration)>) {
        let before = self.publish.borrow().clone().unwrap_or_default();
        let mut results = BTreeMap::new();
        for (name, result, took) in asked {
            let label = [("probe", name.clone())];
            self.metrics.duration.get_or_create(&label).set(took.as_secs_f64());
            self.metrics.up.get_or_create(&label).set(i64::from(result.is_ok()));
            let last = before.get(&name).filter(|last| last.result.is_ok() == result.is_ok());
            let changed = last.map_or_else(epoch_seconds, |last| last.changed);
            if last.is_none() {
                self.metrics.changed.get_or_create(&label).set(changed);
                match &result {
                    Ok(()) => tracing::info!(probe = name, "the app's probe succeeds"),
                    Err(why) => tracing::warn!(probe = name, error = why, "the app's probe fails"),
                }
            }
            results.insert(name, Seen { result, took, changed });
        }
        self.publish.send_replace(Some(Arc::new(results)));
    }
}

fn epoch_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests;
