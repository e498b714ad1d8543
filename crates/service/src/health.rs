//! Health of the program: alive, started, ready.
//!
//! Liveness never depends on a neighbour: it says that this process still answers. Readiness is a set
//! of latches that each stage releases once, of checks that are asked, and of not being on the way out.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::time::Instant;

/// How long an answer of a check serves the next caller too.
const CHECK_CACHE: Duration = Duration::from_secs(2);
/// A check that takes longer has failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

type CheckFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
type CheckFn = Box<dyn Fn() -> CheckFuture + Send + Sync>;

/// Shared by the stages (which release latches) and the admin server (which answers probes).
#[derive(Clone, Default)]
pub struct Health(Arc<Inner>);

#[derive(Default)]
struct Inner {
    latches: Mutex<BTreeMap<&'static str, bool>>,
    checks: Mutex<Vec<Arc<Check>>>,
    draining: AtomicBool,
}

struct Check {
    name: &'static str,
    ask: CheckFn,
    last: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
}

/// What `/health` and its siblings answer.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `ok` or `unavailable`.
    pub status: &'static str,
    /// Per latch and check `ok`, or what is wrong.
    pub checks: BTreeMap<String, String>,
}

/// Keeps the program unready until it is released.
#[must_use = "a latch that is dropped unreleased keeps the program unready for ever"]
pub struct Latch {
    health: Health,
    name: &'static str,
}

impl Latch {
    pub fn release(self) {
        self.health.0.latches.lock().expect("no one panics holding it").insert(self.name, true);
    }
}

impl Health {
    pub fn new() -> Self {
        Health::default()
    }

    /// Adds something that must have happened before the program is ready.
    pub fn latch(&self, name: &'static str) -> Latch {
        self.0.latches.lock().expect("no one panics holding it").insert(name, false);
        Latch { health: self.clone(), name }
    }

    /// Adds something that must hold for the program to be ready; asked at most every two seconds.
    pub fn check<F, Fut>(&self, name: &'static str, ask: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        let check = Check { name, ask: Box::new(move || Box::pin(ask())), last: tokio::sync::Mutex::default() };
        self.0.checks.lock().expect("no one panics holding it").push(Arc::new(check));
    }

    /// From now on the program is unready: the load balancer shall send nothing more.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// All latches released; checks are not asked.
    pub fn is_started(&self) -> bool {
        self.0.latches.lock().expect("no one panics holding it").values().all(|released| *released)
    }

    /// Latches and checks together; `ok` means that requests may come.
    pub async fn ready(&self) -> Report {
        let mut report = self.startup();
        if self.0.draining.load(Ordering::Relaxed) {
            report.fail("draining", "the program is stopping");
        }
        let checks = self.0.checks.lock().expect("no one panics holding it").clone();
        for check in checks {
            match check.result().await {
                Ok(()) => drop(report.checks.insert(check.name.to_owned(), "ok".to_owned())),
                Err(why) => report.fail(check.name, &why),
            }
        }
        report
    }

    fn startup(&self) -> Report {
        let mut report = Report { status: "ok", checks: BTreeMap::new() };
        for (name, released) in self.0.latches.lock().expect("no one panics holding it").iter() {
            match released {
                true => drop(report.checks.insert((*name).to_owned(), "ok".to_owned())),
                false => report.fail(name, "not started yet"),
            }
        }
        report
    }

    /// `/health`, `/health/live`, `/health/ready` and `/health/startup`: 200, or 503 with the reasons.
    pub fn router(&self) -> Router {
        let (all, ready, startup) = (self.clone(), self.clone(), self.clone());
        let live = || async { Json(Report { status: "ok", checks: BTreeMap::new() }) };
        Router::new()
            .route("/health", get(move || async move { all.ready().await.into_answer() }))
            .route("/health/live", get(live))
            .route("/health/ready", get(move || async move { ready.ready().await.into_answer() }))
            .route("/health/startup", get(move || async move { startup.startup().into_answer() }))
    }
}

impl Check {
    async fn result(&self) -> Result<(), String> {
        let mut last = self.last.lock().await;
        if let Some((at, result)) = &*last
            && at.elapsed() < CHECK_CACHE
        {
            return result.clone();
        }
        let result = tokio::time::timeout(CHECK_TIMEOUT, (self.ask)())
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {CHECK_TIMEOUT:?}")));
        *last = Some((Instant::now(), result.clone()));
        result
    }
}

impl Report {
    pub fn is_ok(&self) -> bool {
        self.status == "ok"
    }

    fn fail(&mut self, name: &str, why: &str) {
        self.status = "unavailable";
        self.checks.insert(name.to_owned(), why.to_owned());
    }

    fn into_answer(self) -> (StatusCode, Json<Report>) {
        (if self.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn readiness_needs_every_latch_and_every_check_and_no_draining() {
        let health = Health::new();
        let latch = health.latch("listener");
        let database = Arc::new(AtomicBool::new(false));
        let up = database.clone();
        health.check("database", move || {
            let up = up.load(Ordering::Relaxed);
            async move { if up { Ok(()) } else { Err("connection refused".to_owned()) } }
        });
        let report = health.ready().await;
        assert_eq!(report.checks["listener"], "not started yet");
        assert_eq!(report.checks["database"], "connection refused");

        latch.release();
        database.store(true, Ordering::Relaxed);
        assert!(!health.ready().await.is_ok(), "the failed check's answer is still cached");
        tokio::time::advance(CHECK_CACHE).await;
        assert!(health.ready().await.is_ok());

        health.drain();
        assert!(!health.ready().await.is_ok());
        assert!(health.is_started());
    }
}
