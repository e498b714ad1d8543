//! Who this task is: the labels on everything that leaves the sidecar.
//!
//! Known before anything starts, so that no series changes its labels on the way: from the environment,
//! else from the address of the metadata endpoint, else from one answer of it, waited for a moment only. An
//! answer is also where CloudWatch Logs learns of region and cluster.

use std::time::Duration;

use telemetry::names::label;
use tokio::time::Instant;

use crate::config::{Config, LogsOutput};
use crate::inputs::ecs_task;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub service: String,
    pub version: String,
    pub environment: String,
    pub task_id: String,
    /// The cluster's name, where the task metadata says it.
    pub cluster: Option<String>,
    /// From the task's ARN, where AWS' own variables do not say it.
    pub region: Option<String>,
}

/// The metadata endpoint is there before the first container starts; a start does not wait longer for it.
const BUDGET: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);

pub const UNKNOWN: &str = "unknown";

impl Identity {
    pub async fn find(config: &Config, client: &reqwest::Client) -> Self {
        let mut identity = Identity {
            service: config.service.clone().unwrap_or_default(),
            version: config.version.clone(),
            environment: config.environment.clone(),
            task_id: config.task_id.clone().unwrap_or_default(),
            cluster: None,
            region: None,
        };
        if let Some(uri) = &config.ecs.uri {
            if identity.task_id.is_empty() {
                identity.task_id = ecs_task::task_id_in_uri(uri).unwrap_or_default().to_owned();
            }
            let to_cloudwatch = matches!(config.logs_output, LogsOutput::CloudWatch(_));
            if identity.service.is_empty() || identity.task_id.is_empty() || to_cloudwatch {
                match describe(client, uri).await {
                    Ok(task) => identity.complete(&task),
                    Err(error) => tracing::warn!(error = format!("{error:#}"), "the task's metadata is not known yet"),
                }
            }
        }
        for field in [&mut identity.service, &mut identity.task_id] {
            if field.is_empty() {
                *field = UNKNOWN.to_owned();
            }
        }
        identity
    }

    fn complete(&mut self, task: &ecs_task::wire::Task) {
        if self.service.is_empty() {
            let name = if task.service_name.is_empty() { &task.family } else { &task.service_name };
            self.service = name.clone();
        }
        // arn:aws:ecs:<region>:<account>:task/<cluster>/<id>
        let mut arn = task.task_arn.splitn(6, ':');
        self.region = arn.nth(3).filter(|region| !region.is_empty()).map(str::to_owned);
        if self.task_id.is_empty() {
            self.task_id = task.task_arn.rsplit('/').next().unwrap_or_default().to_owned();
        }
        let cluster = task.cluster.rsplit('/').next().unwrap_or_default();
        self.cluster = (!cluster.is_empty()).then(|| cluster.to_owned());
    }

    /// The standard labels, in order of their names.
    pub fn labels(&self) -> Vec<(&'static str, String)> {
        vec![
            (label::ENVIRONMENT, self.environment.clone()),
            (label::SERVICE, self.service.clone()),
            (label::TASK_ID, self.task_id.clone()),
        ]
    }
}

/// Asks until there is an answer or the budget is spent.
async fn describe(client: &reqwest::Client, uri: &str) -> anyhow::Result<ecs_task::wire::Task> {
    let end = Instant::now() + BUDGET;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match ecs_task::describe(client, uri, left).await {
            Err(_) if left > PAUSE => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_s_metadata_fills_what_nobody_said() {
        let mut identity = Identity {
            service: String::new(),
            version: "1".into(),
            environment: "prod".into(),
            task_id: String::new(),
            cluster: None,
            region: None,
        };
        let json = include_str!("../tests/testdata/fargate_task_metadata.json");
        identity.complete(&serde_json::from_str(json).expect("task"));
        assert_eq!(identity.service, "prom-ecs-exporter-sandbox-main-fargate");
        assert_eq!(identity.task_id, "bae32def0ab64f06818e8862e58f8d6d");
        assert_eq!(identity.cluster.as_deref(), Some("prom-ecs-exporter-sandbox"));
        assert_eq!(identity.region.as_deref(), Some("us-east-1"));
    }
}
