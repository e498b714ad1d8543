//! Who this task is: the labels on everything that leaves the sidecar.
//!
//! Known before anything starts, so that no series changes its labels on the way: from the environment,
//! else from the address of the metadata endpoint, else from one answer of it, waited for a moment only. An
//! answer is also where CloudWatch Logs learns of region and cluster.

use std::time::Duration;

use telemetry::names::label;
use tokio::time::Instant;

use crate::config::Config;
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
    /// What the task metadata says beside; empty outside ECS.
    pub task: AwsTask,
}

/// The task definition and the place of the task. Empty where the metadata has not said it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsTask {
    pub family: String,
    pub revision: String,
    pub availability_zone: String,
    pub task_arn: String,
    pub cluster_arn: String,
    pub account: String,
    pub launch_type: String,
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
            task: AwsTask::default(),
        };
        if let Some(uri) = &config.ecs.uri {
            if identity.task_id.is_empty() {
                identity.task_id = ecs_task::task_id_in_uri(uri).unwrap_or_default().to_owned();
            }
            match describe(client, uri).await {
                Ok(task) => identity.complete(&task),
                Err(error) => tracing::warn!(error = format!("{error:#}"), "the task's metadata is not known yet"),
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
        let mut arn = task.task_arn.splitn(6, ':').skip(3);
        self.region = arn.next().filter(|region| !region.is_empty()).map(str::to_owned);
        let account = arn.next().unwrap_or_default().to_owned();
        if self.task_id.is_empty() {
            self.task_id = task.task_arn.rsplit('/').next().unwrap_or_default().to_owned();
        }
        let cluster = task.cluster.rsplit('/').next().unwrap_or_default();
        self.cluster = (!cluster.is_empty()).then(|| cluster.to_owned());
        // On EC2 the cluster is said by its name alone.
        let arn_of = |kind: &str| match (&self.region, cluster.is_empty()) {
            (Some(region), false) => format!("arn:aws:ecs:{region}:{account}:{kind}/{cluster}"),
            _ => String::new(),
        };
        self.task = AwsTask {
            family: task.family.clone(),
            revision: task.revision.clone(),
            availability_zone: task.availability_zone.clone(),
            task_arn: task.task_arn.clone(),
            cluster_arn: if task.cluster.starts_with("arn:") { task.cluster.clone() } else { arn_of("cluster") },
            account,
            launch_type: task.launch_type.clone(),
        };
    }

    /// The standard labels, in order of their names; those that only the metadata knows where it has answered.
    pub fn labels(&self) -> Vec<(&'static str, String)> {
        let mut labels = vec![
            (label::AZ, self.task.availability_zone.clone()),
            (label::ENVIRONMENT, self.environment.clone()),
            (label::FAMILY, self.task.family.clone()),
            (label::REVISION, self.task.revision.clone()),
            (label::SERVICE, self.service.clone()),
            (label::TASK_ID, self.task_id.clone()),
        ];
        labels.retain(|(_, value)| !value.is_empty());
        labels
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
            task: AwsTask::default(),
        };
        let json = include_str!("../tests/testdata/fargate_task_metadata.json");
        identity.complete(&serde_json::from_str(json).expect("task"));
        assert_eq!(identity.service, "prom-ecs-exporter-sandbox-main-fargate");
        assert_eq!(identity.task_id, "bae32def0ab64f06818e8862e58f8d6d");
        assert_eq!(identity.cluster.as_deref(), Some("prom-ecs-exporter-sandbox"));
        assert_eq!(identity.region.as_deref(), Some("us-east-1"));
        assert_eq!(identity.task.account, "829490980523");
        assert_eq!(identity.task.cluster_arn, "arn:aws:ecs:us-east-1:829490980523:cluster/prom-ecs-exporter-sandbox");
        let names: Vec<&str> = identity.labels().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["az", "environment", "family", "revision", "service", "task_id"]);
    }
}
