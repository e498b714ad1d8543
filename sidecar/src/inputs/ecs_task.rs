//! The task as ECS sees it: polls the task metadata endpoint v4 and keeps the latest answer as metrics.
//!
//! In: `/task` and `/task/stats`. Out: a [`TaskView`], which the exposition reads. Promises the numbers
//! of [`figures`]; does not stand in the way of a start: where there is no endpoint, there are no metrics.

pub mod ending;
pub mod figures;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use serde::de::DeserializeOwned;
use service::Shutdown;
use service::metrics::Metrics;
use telemetry::exposition::Family;
use telemetry::names::{sidecar as names, without_total};
use tokio::sync::watch;
use tokio::time::Instant;

use self::wire::{Task, TaskStats};
use crate::pipeline::enrich::Enrich;

#[derive(Clone, Debug)]
pub struct Config {
    /// `ECS_CONTAINER_METADATA_URI_V4`; None outside ECS.
    pub uri: Option<String>,
    /// Fargate reads its figures every ten seconds; asking more often yields the same ones.
    pub refresh: Duration,
}

/// The endpoint is on the same host and answers in milliseconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Figures of an endpoint that has been silent for longer are no news any more.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// The latest metrics of the task; empty until the endpoint has answered.
#[derive(Clone)]
pub struct TaskView(watch::Receiver<Arc<Vec<Family>>>);

impl TaskView {
    pub fn families(&self) -> Arc<Vec<Family>> {
        self.0.borrow().clone()
    }
}

/// Polls until it is told to stop.
pub struct Poller {
    uri: String,
    refresh: Duration,
    client: reqwest::Client,
    enrich: Enrich,
    publish: watch::Sender<Arc<Vec<Family>>>,
    up: Gauge,
    failures: Counter,
}

impl Config {
    /// A view for the exposition, and the task that feeds it where there is an endpoint.
    pub fn build(&self, client: reqwest::Client, enrich: Enrich, metrics: &Metrics) -> (TaskView, Option<Poller>) {
        let (publish, view) = watch::channel(Arc::default());
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
            Poller { uri, refresh: self.refresh, client, enrich, publish, up, failures }
        });
        (TaskView(view), poller)
    }
}

impl Poller {
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(self.refresh);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_answer = Instant::now();
        let mut answering = true;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.requested() => return Ok(()),
            }
            match self.poll().await {
                Ok(families) => {
                    if !answering {
                        tracing::info!("task metadata endpoint answers again");
                    }
                    (answering, last_answer) = (true, Instant::now());
                    self.up.set(1);
                    self.publish.send_replace(Arc::new(families));
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

    async fn poll(&self) -> anyhow::Result<Vec<Family>> {
        let task: Task = get(&self.client, &format!("{}/task", self.uri)).await?;
        let stats: TaskStats = get(&self.client, &format!("{}/task/stats", self.uri)).await?;
        let mut families = figures::families(&task, &stats);
        self.enrich.families(&mut families);
        Ok(families)
    }
}

/// Asks for the task once, within `budget`; for those who need to know where they are before they start.
pub async fn describe(client: &reqwest::Client, uri: &str, budget: Duration) -> anyhow::Result<Task> {
    let url = format!("{uri}/task");
    tokio::time::timeout(budget, get(client, &url)).await.with_context(|| format!("no answer from {url}"))?
}

async fn get<T: DeserializeOwned>(client: &reqwest::Client, url: &str) -> anyhow::Result<T> {
    let answer = client.get(url).timeout(REQUEST_TIMEOUT).send().await?.error_for_status()?;
    let body = answer.bytes().await?;
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
