//! The app's health, asked on loopback and relayed: a distroless app cannot have a health check of its own.
//!
//! In: the address of one probe, usually `/health/ready`. Its siblings `/health/live` and
//! `/health/startup` are asked too; one that answers 404 does not exist. Out: `app_probe_*` metrics, the
//! check `app` of our own readiness, and `/health/app`. Our own liveness does not depend on the app.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use reqwest::Client;
use service::metrics::Metrics;
use service::{Health, Shutdown};
use telemetry::names::sidecar as names;
use tokio::sync::watch;
use tokio::time::Instant;

#[derive(Clone, Debug)]
pub struct Config {
    /// None: the app has no probes, and our readiness is our own alone.
    pub url: Option<String>,
    pub interval: Duration,
}

/// An answer that takes longer is as good as none.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Of a failed probe's body, in reports.
const BODY_CHARS: usize = 200;

/// The probes of the app by name, and what each last said.
#[derive(Clone)]
pub struct AppHealth {
    results: watch::Receiver<Results>,
    main: Option<&'static str>,
}

type Results = Arc<BTreeMap<&'static str, Result<(), String>>>;
type Label = [(&'static str, &'static str); 1];

pub struct Prober {
    client: Client,
    interval: Duration,
    probes: Vec<Probe>,
    publish: watch::Sender<Results>,
    metrics: ProbeMetrics,
}

struct Probe {
    name: &'static str,
    url: String,
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
    pub fn build(&self, client: Client, health: &Health, metrics: &Metrics) -> (AppHealth, Option<Prober>) {
        let (publish, results) = watch::channel(Results::default());
        let Some(url) = &self.url else { return (AppHealth { results, main: None }, None) };
        let probes = probes(url);
        let main = probes.iter().find(|p| p.configured).map(|p| p.name);
        let app = AppHealth { results, main };
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
        (app, Some(Prober { client, interval: self.interval, probes, publish, metrics: own }))
    }
}

/// The configured probe and, where its path is `…/health/<kind>`, its siblings.
fn probes(url: &str) -> Vec<Probe> {
    const KINDS: [&str; 3] = ["ready", "live", "startup"];
    let (base, last) = url.rsplit_once('/').unwrap_or((url, ""));
    let Some(configured) = KINDS.iter().find(|kind| **kind == last) else {
        return vec![Probe { name: "health", url: url.to_owned(), configured: true }];
    };
    KINDS
        .iter()
        .map(|kind| Probe { name: kind, url: format!("{base}/{kind}"), configured: kind == configured })
        .collect()
}

impl AppHealth {
    /// Whether the configured probe succeeds; Ok where there is none.
    pub fn result(&self) -> Result<(), String> {
        let Some(main) = self.main else { return Ok(()) };
        let results = self.results.borrow();
        results.get(main).cloned().unwrap_or_else(|| Err("not probed yet".to_owned()))
    }

    /// `/health/app`: the app alone, without what we think of ourselves.
    pub fn router(&self) -> Router {
        let app = self.clone();
        let answer = move || async move {
            let probes = app.results.borrow().clone();
            let texts: BTreeMap<&str, &str> = probes
                .iter()
                .map(|(name, result)| (*name, result.as_ref().map_or_else(String::as_str, |()| "ok")))
                .collect();
            let (status, word) = match app.result() {
                Ok(()) => (StatusCode::OK, "ok"),
                Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            };
            (status, Json(serde_json::json!({"status": word, "checks": texts})))
        };
        Router::new().route("/health/app", get(answer))
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
            let mut results = BTreeMap::new();
            for probe in &self.probes {
                if let Some(result) = self.ask(probe).await {
                    results.insert(probe.name, result);
                }
            }
            self.note(results);
        }
    }

    /// None where the probe does not exist.
    async fn ask(&self, probe: &Probe) -> Option<Result<(), String>> {
        let begun = Instant::now();
        let answer = self.client.get(&probe.url).timeout(PROBE_TIMEOUT).send().await;
        let result = match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) if answer.status() == reqwest::StatusCode::NOT_FOUND && !probe.configured => return None,
            Ok(answer) => {
                let status = answer.status();
                let body = answer.text().await.unwrap_or_default();
                Err(format!("{} answered {status}: {}", probe.url, body.chars().take(BODY_CHARS).collect::<String>()))
            }
            Err(error) if error.is_timeout() => Err(format!("{} did not answer within {PROBE_TIMEOUT:?}", probe.url)),
            Err(_) => Err(format!("nothing answers at {}", probe.url)),
        };
        let label = [("probe", probe.name)];
        self.metrics.duration.get_or_create(&label).set(begun.elapsed().as_secs_f64());
        self.metrics.up.get_or_create(&label).set(i64::from(result.is_ok()));
        Some(result)
    }

    fn note(&self, results: BTreeMap<&'static str, Result<(), String>>) {
        let before = self.publish.borrow().clone();
        for (name, result) in &results {
            let was_up = before.get(name).map(Result::is_ok);
            if was_up == Some(result.is_ok()) {
                continue;
            }
            self.metrics.changed.get_or_create(&[("probe", name)]).set(epoch_seconds());
            match result {
                Ok(()) => tracing::info!(probe = name, "the app's probe succeeds"),
                Err(why) => tracing::warn!(probe = name, error = why, "the app's probe fails"),
            }
        }
        self.publish.send_replace(Arc::new(results));
    }
}

fn epoch_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_are_asked_where_the_path_has_the_usual_form() {
        let named = |url: &str| -> Vec<(&str, String, bool)> {
            probes(url).into_iter().map(|p| (p.name, p.url, p.configured)).collect()
        };
        assert_eq!(
            named("http://127.0.0.1:3000/health/live"),
            [
                ("ready", "http://127.0.0.1:3000/health/ready".to_owned(), false),
                ("live", "http://127.0.0.1:3000/health/live".to_owned(), true),
                ("startup", "http://127.0.0.1:3000/health/startup".to_owned(), false),
            ]
        );
        assert_eq!(named("http://a/ping"), [("health", "http://a/ping".to_owned(), true)]);
    }
}
