//! The task as ECS sees it: polls the task metadata endpoint v4 and keeps the latest answer as metrics.
//!
//! In: `/task` and `/task/stats`. Out: a [`TaskView`], which the exposition reads. Promises the numbers
//! of [`figures`]; does not stand in the way of a start: where there is no endpoint, there are no metrics.
//!
//! An endpoint that is slow, busy (429) or broken (500) costs one poll: what was read stays for a minute, with the
//! time of its reading on it, and the next poll comes when it is due and no sooner.

pub mod ending;
pub mod figures;
mod last;
mod starvation;
pub mod wire;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use serde::de::DeserializeOwned;
use service::Shutdown;
use service::metrics::Metrics;
use telemetry::exposition::Family;
use telemetry::names::{sidecar as names, without_total};
use tokio::sync::watch;
use tokio::time::Instant;

use self::last::LastReadings;
use self::starvation::Starvation;
use self::wire::{Task, TaskStats};
use crate::pipeline::enrich::Enrich;

#[derive(Clone, Debug)]
pub struct Config {
    /// `ECS_CONTAINER_METADATA_URI_V4`; None outside ECS.
    pub uri: Option<String>,
    /// Fargate reads its figures every ten seconds; asking more often yields the same ones.
    pub refresh: Duration,
}

/// A task of ten containers with all their labels takes a tenth of this.
const BODY_BYTES_MAX: usize = 2 << 20;
/// How often timers are checked for being late.
const TIMER: Duration = Duration::from_secs(5);
/// How often `/proc` is looked at for want of CPU.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The endpoint is on the same host and answers in milliseconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Figures of an endpoint that has been silent for longer are no news any more.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// The latest metrics of the task, empty until the endpoint has answered, and of its CPU's shortage.
#[derive(Clone)]
pub struct TaskView {
    families: watch::Receiver<Arc<Vec<Family>>>,
    starvation: Arc<Mutex<Starvation>>,
    enrich: Enrich,
    scraped: Arc<Mutex<Option<Instant>>>,
}

impl TaskView {
    /// For somebody who will see them: last readings are let go afterwards.
    pub fn families(&self) -> Arc<Vec<Family>> {
        *self.scraped.lock().expect("no one panics holding it") = Some(Instant::now());
        self.families.borrow().clone()
    }

    pub fn starvation(&self) -> Vec<Family> {
        let mut families = self.starvation.lock().expect("no one panics holding it").families();
        self.enrich.families(&mut families);
        families
    }

    /// Looks for want of CPU until it is told to stop; with an endpoint or without.
    pub async fn watch_cpu(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut looked: Option<Instant> = None;
        loop {
            if looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
                looked = Some(Instant::now());
                self.starvation.lock().expect("no one panics holding it").look();
            }
            let due = Instant::now() + TIMER;
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = shutdown.requested() => return Ok(()),
            }
            self.starvation.lock().expect("no one panics holding it").late(due.elapsed());
        }
    }
}

/// Polls until it is told to stop.
pub struct Poller {
    uri: String,
    refresh: Duration,
    client: reqwest::Client,
    enrich: Enrich,
    publish: watch::Sender<Arc<Vec<Family>>>,
    scraped: Arc<Mutex<Option<Instant>>>,
    last: LastReadings,
    /// The last answer of `/task/stats`, and when it came.
    stats: (TaskStats, Option<Instant>),
    up: Gauge,
    failures: Counter,
}

impl Config {
    /// A view for the exposition, and the task that feeds it where there is an endpoint.
    pub fn build(&self, client: reqwest::Client, enrich: Enrich, metrics: &Metrics) -> (TaskView, Option<Poller>) {
        let (publish, families) = watch::channel(Arc::default());
        let (starvation, scraped) = (Arc::default(), Arc::default());
        let view = TaskView { families, starvation, enrich: enrich.clone(), scraped: Arc::clone(&scraped) };
        let poller = self.uri.clone().map(|uri| {
            let (up, failures) = (Gauge::default(), Counter::default());
            metrics.register(|r| {
                r.register(names::ECS_METADATA_UP, "1 when the task metadata endpoint answers", up.clone());
                r.register(
                    without_total(names::ECS_METADATA_FAILURES_TOTAL),
                    "Failed requests to the task metadata endpoint",
                    failures.clone(),
                );
            });
            let (last, stats) = (LastReadings::default(), (TaskStats::new(), None));
            Poller { uri, refresh: self.refresh, client, enrich, publish, scraped, last, stats, up, failures }
        });
        (view, poller)
    }
}

impl Poller {
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(self.refresh);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_answer = Instant::now();
        let mut answering = true;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.requested() => return Ok(()),
            }
            // An endpoint that hangs must not hold up the end.
            let polled = tokio::select! {
                polled = self.poll() => polled,
                () = shutdown.requested() => return Ok(()),
            };
            match polled {
                Ok(()) => {
                    if !answering {
                        tracing::info!("task metadata endpoint answers again");
                    }
                    (answering, last_answer) = (true, Instant::now());
                    self.up.set(1);
                }
                Err(error) => {
                    if answering {
                        tracing::warn!(error = format!("{error:#}"), "task metadata endpoint does not answer");
                    }
                    answering = false;
                    self.up.set(0);
                    self.failures.inc();
                    if last_answer.elapsed() > STALE_AFTER {
                        self.publish.send_replace(Arc::default());
                    }
                }
            }
        }
    }

    /// What one of the two answers says is published even where the other failed.
    async fn poll(&mut self) -> anyhow::Result<()> {
        let task: Task = get(&self.client, &format!("{}/task", self.uri)).await?;
        let stats: anyhow::Result<TaskStats> = get(&self.client, &format!("{}/task/stats", self.uri)).await;
        let now = Instant::now();
        let failed = match stats {
            Ok(stats) => {
                let scraped = *self.scraped.lock().expect("no one panics holding it");
                self.last.update(&task, &stats, scraped, now);
                self.stats = (stats, Some(now));
                Ok(())
            }
            Err(error) => {
                if self.stats.1.is_some_and(|at| now.duration_since(at) > STALE_AFTER) {
                    self.stats = (TaskStats::new(), None);
                }
                Err(error)
            }
        };
        let mut families = figures::families(&task, &self.stats.0, &self.last.kept());
        self.enrich.families(&mut families);
        self.publish.send_replace(Arc::new(families));
        failed
    }
}

/// Asks for the task once, within `budget`; for those who need to know where they are before they start.
pub async fn describe(client: &reqwest::Client, uri: &str, budget: Duration) -> anyhow::Result<Task> {
    let url = format!("{uri}/task");
    tokio::time::timeout(budget, get(client, &url)).await.with_context(|| format!("no answer from {url}"))?
}

async fn get<T: DeserializeOwned>(client: &reqwest::Client, url: &str) -> anyhow::Result<T> {
    let mut answer = client.get(url).timeout(REQUEST_TIMEOUT).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            bail!("answer of {url} is larger than {BODY_BYTES_MAX} bytes");
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).with_context(|| format!("answer of {url} is not what task metadata v4 says"))
}

/// The task's id as the endpoint's address has it on Fargate: `…/v4/<32 hex digits>-<digits>`.
pub fn task_id_in_uri(uri: &str) -> Option<&str> {
    let id = uri.trim_end_matches('/').rsplit('/').next()?.split('-').next()?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_s_id_is_read_from_the_address() {
        let id = "bae32def0ab64f06818e8862e58f8d6d";
        assert_eq!(task_id_in_uri(&format!("http://169.254.170.2/v4/{id}-1819985369")), Some(id));
        assert_eq!(task_id_in_uri("http://169.254.170.2/v4/3f2a"), None);
    }
}
