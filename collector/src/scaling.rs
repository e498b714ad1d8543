//! Scheduled scaling of ECS services: the `scaling:` block.
//!
//! In: schedules, the time, what Application Auto Scaling has, firing alerts, deployments. Out: minimum and maximum of
//! scalable targets, a status with the next action, a history in `state`. Level-triggered: every run compares and
//! corrects, so a missed edge heals itself. Writes bounds and never a desired count. Alerts and deployments hold back
//! what would lower a bound, never what raises one; without knowledge nothing is lowered.

pub mod guard;
pub mod plan;
pub mod schedule;

mod autoscaling;
mod ecs;
mod history;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_applicationautoscaling::Client as AutoScaling;
use aws_sdk_ecs::Client as Ecs;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use telemetry::{Labels, Timestamp};
use tokio::sync::watch;

use crate::aws::Aws;
use crate::clock::Clock;
use crate::config::ConfigWatch;
use crate::reconcile::{self, Done, Job, JobMetrics, Leased, Stage};
use crate::rules;
use crate::rules::alerting::AlertState;
use crate::state::State;
use crate::state::lease::Lease;
use guard::Facts;
use history::History;
use plan::{Decision, Wanted};
use schedule::{Bounds, Change, Resource, Schedule};

const IDLE: Duration = Duration::from_secs(60);

/// The `scaling:` block.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How often the bounds in AWS are compared with the schedules; an edge of a window is acted on at once.
    #[serde(default = "interval", with = "service::config::duration")]
    pub interval: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(default)]
    pub guards: guard::Config,
    pub schedules: Vec<Schedule>,
}

/// A hand-made change of the bounds is noticed within half a minute.
fn interval() -> Duration {
    Duration::from_secs(30)
}

impl Config {
    /// # Errors
    /// Two schedules for one service, two windows at one time, an interval that would only earn throttling.
    pub fn check(&self) -> Result<(), String> {
        if self.interval < Duration::from_secs(1) {
            return Err("scaling.interval must be at least 1s".to_owned());
        }
        let mut owners: BTreeMap<&Resource, &str> = BTreeMap::new();
        for schedule in &self.schedules {
            schedule.check().map_err(|why| format!("scaling schedule {:?}: {why}", schedule.name))?;
            for target in &schedule.targets {
                if let Some(other) = owners.insert(target, &schedule.name) {
                    return Err(format!(
                        "scaling schedules {other:?} and {:?} both have the target {target}: put the windows into one",
                        schedule.name
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What the schedules want and AWS has, for the API and the UI.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    pub enabled: bool,
    pub checked_at: Option<Timestamp>,
    pub targets: Vec<TargetStatus>,
    /// The earliest change that is coming.
    pub next: Option<NextAction>,
    /// The newest first.
    pub history: Vec<HistoryEntry>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetStatus {
    /// `service/CLUSTER/SERVICE`, as AWS names it.
    pub resource: String,
    pub cluster: String,
    pub service: String,
    pub schedule: String,
    pub timezone: String,
    /// `Mon-Fri 07:00-20:00`; None where the schedule's default holds.
    pub window: Option<String>,
    pub wanted: Bounds,
    /// None when there is no scalable target, or it could not be read.
    pub actual: Option<Bounds>,
    pub state: TargetState,
    /// Why it is held or failed.
    pub reason: Option<String>,
    pub next: Option<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetState {
    InSync,
    /// A reduction waits for an alert to resolve or a deployment to end.
    Held,
    Failed,
}

/// What happens next, and where.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NextAction {
    pub resource: String,
    pub service: String,
    pub schedule: String,
    #[serde(flatten)]
    pub change: Change,
}

/// One decision that did something, or was kept from it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HistoryEntry {
    pub at: Timestamp,
    pub resource: String,
    pub schedule: String,
    /// `applied`, `held` or `failed`.
    pub outcome: String,
    pub before: Option<Bounds>,
    pub after: Option<Bounds>,
    pub reason: String,
}

/// The stage's handle: status and job.
pub type Handle = Stage<Status>;

/// The labels of the alerts that fire now.
pub type FiringAlerts = Box<dyn Fn() -> Vec<Labels> + Send + Sync>;

/// The handles that the stage needs.
pub struct Inputs {
    pub config: ConfigWatch,
    pub clock: Clock,
    pub aws: Arc<Aws>,
    pub state: State,
    /// Only its holder sets bounds.
    pub lease: Lease,
    pub jobs: JobMetrics,
    pub alerts: FiringAlerts,
}

/// Starts comparing and setting bounds.
pub fn spawn(inputs: Inputs, metrics: &Metrics, tasks: &mut Tasks, shutdown: Shutdown) -> Handle {
    let Inputs { config, clock, aws, state, lease, jobs, alerts } = inputs;
    let (job, status) = Scaler::new(aws, config, state.clone(), alerts, metrics);
    let scaler = Leased { job, lease, state };
    Stage { status, job: reconcile::spawn(scaler, clock, jobs, tasks, shutdown) }
}

/// What the rules say is firing now.
pub fn firing(rules: rules::Status) -> FiringAlerts {
    Box::new(move || {
        let active = rules.active_alerts().into_iter().map(|(_, _, alert)| alert);
        active.filter(|alert| alert.state == AlertState::Firing).map(|alert| alert.labels).collect()
    })
}

#[derive(Clone, Default)]
struct ScalingMetrics {
    actions: Family<ActionLabels, Counter>,
    bounds: Family<BoundLabels, Gauge>,
    in_sync: Family<ServiceLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    cluster: String,
    service: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BoundLabels {
    cluster: String,
    service: String,
    bound: &'static str,
    /// `wanted` by the schedule, `actual` in AWS.
    side: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    cluster: String,
    service: String,
}

/// The job that keeps the scalable targets' bounds as the schedules want them.
pub struct Scaler {
    aws: Arc<Aws>,
    config: ConfigWatch,
    alerts: FiringAlerts,
    metrics: ScalingMetrics,
    status: watch::Sender<Arc<Status>>,
    history: History,
}

impl Scaler {
    pub fn new(
        aws: Arc<Aws>,
        config: ConfigWatch,
        state: State,
        alerts: FiringAlerts,
        metrics: &Metrics,
    ) -> (Self, watch::Receiver<Arc<Status>>) {
        let (status, watch) = watch::channel(Arc::default());
        let counts = ScalingMetrics::default();
        metrics.register(|registry| {
            let help = "Scaling decisions that did something or were kept from it";
            registry.register("collector_scaling_actions", help, counts.actions.clone());
            let help = "Bounds of scalable targets, as scheduled and as AWS has them";
            registry.register("collector_scaling_bound_tasks", help, counts.bounds.clone());
            let help = "Whether AWS has the bounds that the schedule wants (1) or not (0)";
            registry.register("collector_scaling_in_sync", help, counts.in_sync.clone());
        });
        let history = History::new(state);
        (Scaler { aws, config, alerts, metrics: counts, status, history }, watch)
    }

    /// Compares and corrects one service's bounds.
    async fn reconcile(
        &mut self,
        clients: &Clients,
        guards: &guard::Config,
        wanted: Wanted,
        actual: Option<Bounds>,
        now: Timestamp,
    ) -> TargetStatus {
        let (state, reason, actual) = match self.decide(clients, guards, &wanted, actual).await {
            Decision::Keep => {
                self.history.settle(&wanted.resource.to_string());
                (TargetState::InSync, None, actual)
            }
            Decision::Apply(bounds) => match self.apply(clients, &wanted, actual, bounds, wanted.reason(), now).await {
                Ok(()) => (TargetState::InSync, None, Some(bounds)),
                Err(why) => (TargetState::Failed, Some(why), actual),
            },
            Decision::Hold { raise: None, why } => {
                self.record(&wanted, "held", actual, None, &why, now).await;
                (TargetState::Held, Some(why), actual)
            }
            Decision::Hold { raise: Some(bounds), why } => {
                let reason = format!("{}; lowering is held: {why}", wanted.reason());
                match self.apply(clients, &wanted, actual, bounds, reason, now).await {
                    Ok(()) => (TargetState::Held, Some(why), Some(bounds)),
                    Err(failure) => (TargetState::Failed, Some(failure), actual),
                }
            }
        };
        self.measure(&wanted, actual, state);
        TargetStatus {
            resource: wanted.resource.to_string(),
            cluster: wanted.resource.cluster,
            service: wanted.resource.service,
            schedule: wanted.schedule,
            timezone: wanted.timezone,
            window: wanted.window,
            wanted: wanted.bounds,
            actual,
            state,
            reason,
            next: wanted.next,
        }
    }

    /// ECS and the alerts are asked only where a bound would fall.
    async fn decide(
        &self,
        clients: &Clients,
        guards: &guard::Config,
        wanted: &Wanted,
        actual: Option<Bounds>,
    ) -> Decision {
        if actual.is_some() && !plan::is_reduction(wanted.bounds, actual, None) {
            return plan::decide(wanted.bounds, actual, false, None);
        }
        let facts = ecs::facts(&clients.ecs, &wanted.resource).await;
        let desired = facts.as_ref().ok().map(|f: &Facts| f.desired);
        let reduction = plan::is_reduction(wanted.bounds, actual, desired);
        let objection = guard::objection(guards, &wanted.resource.service, &(self.alerts)(), &facts);
        plan::decide(wanted.bounds, actual, reduction, objection)
    }

    async fn apply(
        &mut self,
        clients: &Clients,
        wanted: &Wanted,
        before: Option<Bounds>,
        bounds: Bounds,
        reason: String,
        now: Timestamp,
    ) -> Result<(), String> {
        let result = autoscaling::write(&clients.autoscaling, &wanted.resource, bounds).await;
        match &result {
            Ok(()) => self.record(wanted, "applied", before, Some(bounds), &reason, now).await,
            Err(why) => self.record(wanted, "failed", before, None, why, now).await,
        }
        result
    }

    async fn record(
        &mut self,
        wanted: &Wanted,
        outcome: &'static str,
        before: Option<Bounds>,
        after: Option<Bounds>,
        reason: &str,
        now: Timestamp,
    ) {
        let entry = HistoryEntry {
            at: now,
            resource: wanted.resource.to_string(),
            schedule: wanted.schedule.clone(),
            outcome: outcome.to_owned(),
            before,
            after,
            reason: reason.to_owned(),
        };
        if !self.history.add(entry).await {
            return;
        }
        let (resource, wanted_bounds) = (&wanted.resource, wanted.bounds);
        match outcome {
            "applied" => tracing::info!(%resource, bounds = %wanted_bounds, "scaling bounds set: {reason}"),
            _ => tracing::warn!(%resource, bounds = %wanted_bounds, outcome, "scaling bounds not set: {reason}"),
        }
        let labels = ActionLabels { cluster: resource.cluster.clone(), service: resource.service.clone(), outcome };
        self.metrics.actions.get_or_create(&labels).inc();
    }

    fn measure(&self, wanted: &Wanted, actual: Option<Bounds>, state: TargetState) {
        let Resource { cluster, service } = &wanted.resource;
        for (side, bounds) in [("wanted", Some(wanted.bounds)), ("actual", actual)] {
            let Some(bounds) = bounds else { continue };
            for (bound, tasks) in [("min", bounds.min), ("max", bounds.max)] {
                let labels = BoundLabels { cluster: cluster.clone(), service: service.clone(), bound, side };
                self.metrics.bounds.get_or_create(&labels).set(i64::from(tasks));
            }
        }
        let labels = ServiceLabels { cluster: cluster.clone(), service: service.clone() };
        self.metrics.in_sync.get_or_create(&labels).set(i64::from(state == TargetState::InSync));
    }
}

struct Clients {
    autoscaling: AutoScaling,
    ecs: Ecs,
}

impl Job for Scaler {
    const NAME: &'static str = "scaling";

    fn interval(&self) -> Duration {
        self.config.borrow().scaling.as_ref().map_or(IDLE, |c| c.interval)
    }

    async fn run(&mut self, now: Timestamp) -> anyhow::Result<Done> {
        let config = self.config.borrow().scaling.clone();
        let Some(config) = config.filter(|c| !c.schedules.is_empty()) else {
            self.status.send_replace(Arc::default());
            return Ok(Done { summary: "no schedules".to_owned(), next: None });
        };
        self.history.load().await;
        let region = config.region.as_deref();
        let clients = Clients { autoscaling: self.aws.autoscaling(region).await, ecs: self.aws.ecs(region).await };
        let wanted = plan::wanted(&config.schedules, now);
        let resources: Vec<Resource> = wanted.iter().map(|w| w.resource.clone()).collect();
        let actual = autoscaling::read(&clients.autoscaling, &resources).await?;
        let mut targets = Vec::new();
        for wanted in wanted {
            let actual = actual.get(&wanted.resource).copied();
            targets.push(self.reconcile(&clients, &config.guards, wanted, actual, now).await);
        }
        let done = summary(&targets);
        self.status.send_replace(Arc::new(Status {
            enabled: true,
            checked_at: Some(now),
            next: next_action(&targets),
            history: self.history.shown(),
            targets,
        }));
        done
    }
}

fn next_action(targets: &[TargetStatus]) -> Option<NextAction> {
    let action = |target: &TargetStatus| {
        Some(NextAction {
            resource: target.resource.clone(),
            service: target.service.clone(),
            schedule: target.schedule.clone(),
            change: target.next.clone()?,
        })
    };
    targets.iter().filter_map(action).min_by_key(|action| action.change.at)
}

fn summary(targets: &[TargetStatus]) -> anyhow::Result<Done> {
    let count = |state| targets.iter().filter(|t| t.state == state).count();
    if let Some(failed) = targets.iter().find(|t| t.state == TargetState::Failed) {
        anyhow::bail!(
            "{} of {} services failed: {}",
            count(TargetState::Failed),
            targets.len(),
            failed.reason.as_deref().unwrap_or_default()
        );
    }
    let held = match count(TargetState::Held) {
        0 => String::new(),
        n => format!(", {n} held"),
    };
    Ok(Done {
        summary: format!("{} services in sync{held}", count(TargetState::InSync)),
        next: next_action(targets).map(|action| action.change.at),
    })
}
