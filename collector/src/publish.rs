//! Dashboards in CloudWatch: the `cloudwatch:` block.
//!
//! In: the services of the configuration, what CloudWatch has, what we last wrote (from `state`). Out: one dashboard
//! per service, as the `dashboards` crate draws it, and a status that says whether each is in sync. A dashboard that
//! somebody edited is put back and counted as drift; one that is no longer wanted is deleted if it is still as we
//! wrote it. Never touches a dashboard that it did not write itself, except to take over a wanted name.

pub mod plan;

mod dashboards;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use telemetry::Timestamp;
use tokio::sync::watch;

use crate::aws::Aws;
use crate::clock::Clock;
use crate::config::ConfigWatch;
use crate::reconcile::{self, Done, Job, JobMetrics, Leased, Stage};
use crate::state::State;
use crate::state::lease::Lease;

/// Where dashboards are not published there is nothing to do but to notice a new configuration.
const IDLE: Duration = Duration::from_secs(60);

/// The `cloudwatch:` block.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// False keeps the block and publishes nothing.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Part of the dashboards' names: `picket-<environment>-<service>`.
    pub environment: String,
    /// The ECS cluster in which the services run.
    pub cluster: String,
    /// ECS services that get a dashboard.
    pub services: Vec<String>,
    /// Whose metrics are shown and where the dashboards are written; the environment's (`AWS_REGION`) by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// How often CloudWatch is compared with what is wanted.
    #[serde(default = "interval", with = "service::config::duration")]
    pub interval: Duration,
}

fn yes() -> bool {
    true
}

/// Three calls per dashboard and hour cost nothing, and an edit is put back within minutes.
fn interval() -> Duration {
    Duration::from_secs(300)
}

impl Config {
    /// # Errors
    /// A service named twice or not at all, an interval that would only earn throttling.
    pub fn check(&self) -> Result<(), String> {
        if self.interval < Duration::from_secs(1) {
            return Err("cloudwatch.interval must be at least 1s".to_owned());
        }
        let mut names = self.services.clone();
        names.sort();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("cloudwatch.services names {:?} twice", pair[0])),
            None => Ok(()),
        }
    }
}

/// What is published, for the API and the UI.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    pub enabled: bool,
    pub environment: String,
    pub region: String,
    /// When CloudWatch was last compared; None before the first time.
    pub checked_at: Option<Timestamp>,
    pub dashboards: Vec<DashboardStatus>,
}

impl Status {
    pub fn in_sync(&self) -> usize {
        self.dashboards.iter().filter(|d| d.state == SyncState::InSync).count()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DashboardStatus {
    pub name: String,
    pub service: String,
    pub state: SyncState,
    /// When we last wrote it.
    pub published_at: Option<Timestamp>,
    /// How often since our start somebody else had changed it.
    pub drifts: u64,
    /// What stands against it, or CloudWatch's remarks about a body that it took.
    pub messages: Vec<String>,
    /// The dashboard in the AWS console.
    pub url: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// CloudWatch holds what is wanted.
    InSync,
    /// Writing or reading it failed.
    Failed,
}

/// The stage's handle: status and job.
pub type Handle = Stage<Status>;

/// The handles that the stage needs.
pub struct Inputs {
    pub config: ConfigWatch,
    pub clock: Clock,
    pub aws: Arc<Aws>,
    pub state: State,
    /// Only its holder publishes.
    pub lease: Lease,
    pub jobs: JobMetrics,
}

/// Starts comparing and publishing.
pub fn spawn(inputs: Inputs, metrics: &Metrics, tasks: &mut Tasks, shutdown: Shutdown) -> Handle {
    let (job, status) = Publisher::new(inputs.aws, inputs.config, inputs.state.clone(), metrics);
    let publisher = Leased { job, lease: inputs.lease, state: inputs.state };
    Stage { status, job: reconcile::spawn(publisher, inputs.clock, inputs.jobs, tasks, shutdown) }
}

#[derive(Clone, Default)]
struct PublishMetrics {
    writes: Family<Write, Counter>,
    dashboards: Family<InState, Gauge>,
    drifts: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    action: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

/// The job that keeps CloudWatch as the configuration wants it.
pub struct Publisher {
    aws: Arc<Aws>,
    config: ConfigWatch,
    state: State,
    metrics: PublishMetrics,
    status: watch::Sender<Arc<Status>>,
    /// Per name, since our start.
    drifts: BTreeMap<String, u64>,
}

impl Publisher {
    pub fn new(
        aws: Arc<Aws>,
        config: ConfigWatch,
        state: State,
        metrics: &Metrics,
    ) -> (Self, watch::Receiver<Arc<Status>>) {
        let (status, watch) = watch::channel(Arc::default());
        let counts = PublishMetrics::default();
        metrics.register(|registry| {
            let help = "Dashboards written to or deleted from CloudWatch";
            registry.register("collector_publish_writes", help, counts.writes.clone());
            let help = "Dashboards by whether CloudWatch holds what is wanted";
            registry.register("collector_publish_dashboards", help, counts.dashboards.clone());
            let help = "Dashboards found changed by somebody else";
            registry.register("collector_publish_drifts", help, counts.drifts.clone());
        });
        (Publisher { aws, config, state, metrics: counts, status, drifts: BTreeMap::new() }, watch)
    }

    fn wanted_config(&self) -> Option<Config> {
        self.config.borrow().cloudwatch.clone().filter(|c| c.enabled)
    }
}

impl Job for Publisher {
    const NAME: &'static str = "publish-dashboards";

    fn interval(&self) -> Duration {
        self.wanted_config().map_or(IDLE, |c| c.interval)
    }

    async fn run(&mut self, now: Timestamp) -> anyhow::Result<Done> {
        let Some(config) = self.wanted_config() else {
            self.status.send_replace(Arc::default());
            return Ok(Done { summary: "nothing to publish".to_owned(), next: None });
        };
        let status = self.sync(&config, now).await?;
        let (in_sync, all) = (status.in_sync(), status.dashboards.len());
        for (state, count) in [("in_sync", in_sync), ("failed", all - in_sync)] {
            let gauge = self.metrics.dashboards.get_or_create(&InState { state });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let failed = status.dashboards.iter().find(|d| d.state == SyncState::Failed).cloned();
        self.status.send_replace(Arc::new(status));
        match failed {
            None => Ok(Done { summary: format!("{in_sync} dashboards in sync"), next: None }),
            Some(first) => anyhow::bail!(
                "{} of {all} dashboards failed, first `{}`: {}",
                all - in_sync,
                first.name,
                first.messages.join("; ")
            ),
        }
    }
}
