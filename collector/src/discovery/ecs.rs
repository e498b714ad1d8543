//! `aws_sd_configs` with `role: ecs`: the running tasks of ECS clusters, as Prometheus 3.8 finds them, and more.
//!
//! Per task one target for each container and each of its ports, with Prometheus' `__meta_ecs_*` labels and those of
//! the container and its docker labels. Targets that relabelling makes equal are one target, so a configuration
//! written for Prometheus, which has one target per task, finds the same.
//!
//! Promises that a cluster that cannot be read keeps its last targets; tasks go when a successful listing lacks them.
//! Does not ask EC2: no public addresses, no instance types.

mod fetch;
mod inventory;
mod meta;
pub(crate) mod pace;
mod stopped;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use service::Shutdown;

use super::TargetGroup;
use super::source::Publisher;
use crate::aws::Aws;
use fetch::Api;
pub use inventory::{ClusterFacts, Inventory, ServiceFacts, TaskFacts};
pub use stopped::{StopReason, StoppedTask, Stops};

/// One entry of `aws_sd_configs`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub role: Role,
    /// The environment's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Names or ARNs; all of the region when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// Of `__address__`; relabelling can choose `__meta_ecs_container_port` instead.
    #[serde(default = "default_port")]
    pub port: u16,
    #[serde(default = "default_refresh", with = "service::config::duration")]
    pub refresh_interval: Duration,
    /// Clusters that are read at the same time.
    #[serde(default = "default_concurrency")]
    pub request_concurrency: usize,
}

/// The only one of Prometheus' roles that there is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Ecs,
}

// Prometheus' defaults.

fn default_port() -> u16 {
    80
}

fn default_refresh() -> Duration {
    Duration::from_secs(60)
}

fn default_concurrency() -> usize {
    20
}

impl Config {
    /// # Errors
    /// A value that cannot work.
    pub fn check(&self) -> Result<(), String> {
        match () {
            () if self.refresh_interval.is_zero() => Err("aws_sd_configs: refresh_interval cannot be 0".to_owned()),
            () if self.request_concurrency == 0 => Err("aws_sd_configs: request_concurrency cannot be 0".to_owned()),
            () => Ok(()),
        }
    }
}

/// Asks ECS again and again.
pub(super) struct EcsSource {
    config: Config,
    aws: Arc<Aws>,
    /// What each cluster last had, by ARN.
    clusters: BTreeMap<String, Vec<TargetGroup>>,
    complaint: Option<String>,
    publisher: Publisher,
    stops: Stops,
    inventory: Inventory,
    /// Clusters whose stopped tasks were listed before: what ends from now on is counted.
    looked_at: BTreeSet<String>,
}

/// What outlives a source: how tasks ended, and what ECS says there should be.
#[derive(Clone, Default)]
pub(super) struct Known {
    pub(super) stops: Stops,
    pub(super) inventory: Inventory,
}

impl EcsSource {
    pub(super) fn new(config: Config, aws: Arc<Aws>, publisher: Publisher, known: Known) -> Self {
        let Known { stops, inventory } = known;
        EcsSource {
            config,
            aws,
            clusters: BTreeMap::new(),
            complaint: None,
            publisher,
            stops,
            inventory,
            looked_at: BTreeSet::new(),
        }
    }

    pub(super) async fn run(mut self, stop: Shutdown) {
        let region = self.config.region.as_deref();
        let api = Api::new(self.aws.ecs(region).await, self.aws.ecs_pace(region).await);
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = self.refresh(&api) => {}
            }
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(self.config.refresh_interval) => {}
            }
        }
    }

    async fn refresh(&mut self, api: &Api) {
        let error = match api.clusters(&self.config.clusters).await {
            Ok(clusters) => {
                // Gone from a listing that succeeded: gone.
                let inventory = &self.inventory;
                self.clusters.retain(|arn, _| {
                    let is_there = clusters.iter().any(|c| c.cluster_arn() == Some(arn));
                    if !is_there {
                        inventory.gone(arn);
                    }
                    is_there
                });
                let (port, stops, looked_at) = (self.config.port, &self.stops, &self.looked_at);
                let now = self.publisher.now();
                let read = async |cluster: aws_sdk_ecs::types::Cluster| {
                    let arn = cluster.cluster_arn().unwrap_or_default().to_owned();
                    let tasks = api.tasks(&cluster).await;
                    // Their absence is no reason to do without targets; the call's failure is counted with all others.
                    if let (Ok(tasks), Ok(stopped)) = (&tasks, api.stopped(&arn, stops).await) {
                        let name = cluster.cluster_name().unwrap_or_default();
                        tasks.services.keys().for_each(|service| stops.expect(name, service));
                        for task in stopped {
                            let (known, task_arn) = (looked_at.contains(&arn), task.task_arn().unwrap_or_default());
                            if let Some(ended) = StoppedTask::of(name, &task) {
                                stops.add(task_arn.to_owned(), ended, known);
                            }
                        }
                    }
                    match &tasks {
                        Ok(tasks) => inventory.read(&cluster, tasks, now),
                        Err(why) => inventory.failed(&arn, why),
                    }
                    (arn, tasks.map(|tasks| meta::groups(&cluster, &tasks, port)))
                };
                let answers: Vec<_> = futures::stream::iter(clusters.into_iter().map(read))
                    .buffer_unordered(self.config.request_concurrency)
                    .collect()
                    .await;
                self.looked_at.extend(answers.iter().map(|(arn, _)| arn.clone()));
                self.take(answers)
            }
            Err(error) => {
                self.clusters.keys().for_each(|arn| self.inventory.failed(arn, &error));
                Some(error)
            }
        };
        self.complain(error.as_ref());
        self.publisher.publish(self.clusters.values().flatten().cloned().collect(), error);
    }

    /// The clusters that answered are replaced, the others stay; returns one of the errors.
    fn take(&mut self, answers: Vec<(String, Result<Vec<TargetGroup>, String>)>) -> Option<String> {
        let mut error = None;
        for (arn, answer) in answers {
            match answer {
                Ok(groups) => drop(self.clusters.insert(arn, groups)),
                Err(why) => error = Some(format!("cluster {arn}: {why}")),
            }
        }
        error
    }

    /// Once per fault, however often it is met.
    fn complain(&mut self, error: Option<&String>) {
        match error {
            Some(error) if self.complaint.is_none() => {
                tracing::error!(error, "ECS cannot be read in full, keeping the last targets of what failed");
            }
            None if self.complaint.is_some() => tracing::info!("ECS can be read in full again"),
            _ => {}
        }
        self.complaint = error.cloned();
    }
}
