//! Expected against scraped: what ECS wants and runs, what of it is scraped, and for each task that is not, why.
//!
//! In: what discovery knows of ECS, the targets, what became of their scrapes. Out: series per service, and answers in
//! words. Only reads; a task counts as scraped when one of its targets is up.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use service::Shutdown;
use service::metrics::Metrics;
use telemetry::{Labels, Timestamp};

use crate::clock::Clock;
use crate::discovery::{self, ClusterFacts, TaskFacts};
use crate::scrape::{self, TargetHealth, TargetStatus};

/// How often the series are brought up to date.
const INTERVAL: Duration = Duration::from_secs(5);
const TASK_ARN: &str = "__meta_ecs_task_arn";
const CONTAINER: &str = "__meta_ecs_container_name";

/// Why a task is not scraped; also the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// ECS has not started it yet, or is stopping it.
    NotRunning,
    /// It runs, but has no network address.
    NoAddress,
    /// The relabelling of every job that finds it drops all of its containers.
    Dropped,
    /// No job has targets of it: it has just been found.
    NoTarget,
    /// A target of it has not been scraped yet.
    NotScrapedYet,
    /// Its targets are scraped and fail.
    Down,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NotRunning => "not_running",
            Reason::NoAddress => "no_address",
            Reason::Dropped => "dropped",
            Reason::NoTarget => "no_target",
            Reason::NotScrapedYet => "not_scraped_yet",
            Reason::Down => "down",
        }
    }
}

/// A task and why it is not scraped.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskReport {
    pub task: String,
    /// None: it is scraped.
    pub reason: Option<Reason>,
    /// In words, container by container.
    pub words: Vec<String>,
}

/// A service: what is wanted, what runs, what is scraped.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceReport {
    pub cluster: String,
    pub service: String,
    pub desired: i32,
    pub running: i32,
    pub scraped: usize,
    pub tasks: Vec<TaskReport>,
}

/// What the stages know; all cheap to clone.
#[derive(Clone)]
pub struct Expected {
    pub discovery: discovery::Status,
    pub scrape: scrape::Status,
    pub clock: Clock,
}

impl Expected {
    /// All services of all clusters that discovery reads.
    pub fn services(&self) -> Vec<ServiceReport> {
        let evidence = Evidence::new(&self.scrape.snapshot(), &self.discovery.snapshot());
        let clusters = self.discovery.inventory().snapshot();
        clusters.values().flat_map(|facts| services_of(facts, &evidence)).collect()
    }

    /// The task with this id, ARN or the beginning of its id.
    pub fn explain(&self, task: &str) -> Option<Explanation> {
        let evidence = Evidence::new(&self.scrape.snapshot(), &self.discovery.snapshot());
        let clusters = self.discovery.inventory().snapshot();
        let is_it = |facts: &&TaskFacts| facts.arn == task || (!task.is_empty() && facts.id().starts_with(task));
        clusters.values().find_map(|cluster| {
            let facts = cluster.tasks.iter().find(is_it)?;
            let report = report(facts, &evidence);
            Some(Explanation {
                task_arn: facts.arn.clone(),
                cluster: cluster.name.clone(),
                service: facts.service.clone(),
                age_seconds: self.clock.now().since(cluster.read).as_secs_f64(),
                error: cluster.error.clone(),
                report,
            })
        })
    }
}

/// The answer of `discovery/explain`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub task_arn: String,
    pub cluster: String,
    pub service: Option<String>,
    /// Of the knowledge of its cluster.
    pub age_seconds: f64,
    /// Why that is old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(flatten)]
    pub report: TaskReport,
}

/// Targets and dropped label sets by task.
struct Evidence {
    targets: HashMap<String, Vec<TargetStatus>>,
    dropped: HashMap<String, Vec<(Arc<str>, Labels)>>,
}

impl Evidence {
    fn new(targets: &[TargetStatus], snapshot: &discovery::Snapshot) -> Self {
        let mut evidence = Evidence { targets: HashMap::new(), dropped: HashMap::new() };
        for status in targets {
            if let Some(arn) = status.target.discovered.get(TASK_ARN) {
                evidence.targets.entry(arn.to_owned()).or_default().push(status.clone());
            }
        }
        for dropped in &snapshot.dropped {
            if let Some(arn) = dropped.discovered.get(TASK_ARN) {
                let entry = (dropped.pool.clone(), dropped.discovered.clone());
                evidence.dropped.entry(arn.to_owned()).or_default().push(entry);
            }
        }
        evidence
    }
}

fn services_of(cluster: &ClusterFacts, evidence: &Evidence) -> Vec<ServiceReport> {
    let mut tasks: BTreeMap<&str, Vec<TaskReport>> = BTreeMap::new();
    for task in &cluster.tasks {
        if let Some(service) = &task.service {
            tasks.entry(service).or_default().push(report(task, evidence));
        }
    }
    let services = cluster.services.iter().map(|(name, facts)| {
        let tasks = tasks.remove(name.as_str()).unwrap_or_default();
        ServiceReport {
            cluster: cluster.name.clone(),
            service: name.clone(),
            desired: facts.desired,
            running: facts.running,
            scraped: tasks.iter().filter(|task| task.reason.is_none()).count(),
            tasks,
        }
    });
    services.collect()
}

fn report(task: &TaskFacts, evidence: &Evidence) -> TaskReport {
    let (reason, words) = judge(task, evidence);
    TaskReport { task: task.id().to_owned(), reason, words }
}

fn judge(task: &TaskFacts, evidence: &Evidence) -> (Option<Reason>, Vec<String>) {
    if task.last_status != "RUNNING" {
        return (Some(Reason::NotRunning), vec![format!("ECS says that it is {}, not RUNNING", task.last_status)]);
    }
    if !task.has_address {
        return (Some(Reason::NoAddress), vec!["it runs, but ECS knows no network address of it".to_owned()]);
    }
    let targets = evidence.targets.get(&task.arn).map(Vec::as_slice).unwrap_or_default();
    let dropped = evidence.dropped.get(&task.arn).map(Vec::as_slice).unwrap_or_default();
    let mut words: Vec<String> = targets.iter().map(target_in_words).collect();
    // One line for a container and job, however many ports it has.
    let mut said = HashSet::new();
    for (pool, labels) in dropped {
        let container = labels.get(CONTAINER).unwrap_or("without a name");
        if said.insert((pool.clone(), container.to_owned())) {
            words.push(format!(
                "container {container}: dropped by relabel_configs of job {pool:?}; its labels were {labels}"
            ));
        }
    }
    let health = |wanted: TargetHealth| targets.iter().any(|status| status.health == wanted);
    let reason = match () {
        () if health(TargetHealth::Up) => None,
        () if health(TargetHealth::Unknown) => Some(Reason::NotScrapedYet),
        () if health(TargetHealth::Down) => Some(Reason::Down),
        () if !dropped.is_empty() => Some(Reason::Dropped),
        () => {
            words.push("it was found, but no job has a target of it yet".to_owned());
            Some(Reason::NoTarget)
        }
    };
    (reason, words)
}

fn target_in_words(status: &TargetStatus) -> String {
    let container = status.target.discovered.get(CONTAINER).unwrap_or("without a name");
    let (pool, url) = (&status.target.pool, &status.target.scrape_url);
    match status.health {
        TargetHealth::Up => format!("container {container}: target {url} of job {pool:?} is up"),
        TargetHealth::Unknown => format!("container {container}: target {url} of job {pool:?} is not scraped yet"),
        TargetHealth::Down => {
            format!("container {container}: target {url} of job {pool:?} is down: {}", status.last_error)
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct ServiceLabels {
    cluster: String,
    ecs_service: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct UnscrapedLabels {
    cluster: String,
    ecs_service: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct ClusterLabels {
    cluster: String,
}

#[derive(Clone, Default)]
struct ExpectedMetrics {
    desired: Family<ServiceLabels, Gauge>,
    running: Family<ServiceLabels, Gauge>,
    scraped: Family<ServiceLabels, Gauge>,
    unscraped: Family<UnscrapedLabels, Gauge>,
    age: Family<ClusterLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
}

impl ExpectedMetrics {
    fn register(metrics: &Metrics) -> Self {
        let own = ExpectedMetrics::default();
        metrics.register(|r| {
            r.register("collector_ecs_service_tasks_desired", "Tasks that ECS wants", own.desired.clone());
            r.register("collector_ecs_service_tasks_running", "Tasks that ECS runs", own.running.clone());
            r.register("collector_ecs_service_tasks_scraped", "Tasks with a target that is up", own.scraped.clone());
            let help = "Tasks that are not scraped, by reason";
            r.register("collector_ecs_service_tasks_unscraped", help, own.unscraped.clone());
            let help = "Age of what is known of the cluster, in seconds";
            r.register("collector_discovery_cluster_age_seconds", help, own.age.clone());
        });
        own
    }

    /// Series of services and reasons that are gone go, too.
    fn set(&self, services: &[ServiceReport], clusters: &[(String, f64)]) {
        self.desired.clear();
        self.running.clear();
        self.scraped.clear();
        self.unscraped.clear();
        self.age.clear();
        for report in services {
            let (cluster, ecs_service) = (report.cluster.clone(), report.service.clone());
            let labels = ServiceLabels { cluster: cluster.clone(), ecs_service: ecs_service.clone() };
            self.desired.get_or_create(&labels).set(report.desired.into());
            self.running.get_or_create(&labels).set(report.running.into());
            self.scraped.get_or_create(&labels).set(i64::try_from(report.scraped).unwrap_or(i64::MAX));
            for reason in report.tasks.iter().filter_map(|task| task.reason) {
                let (cluster, ecs_service) = (cluster.clone(), ecs_service.clone());
                let labels = UnscrapedLabels { cluster, ecs_service, reason: reason.as_str() };
                self.unscraped.get_or_create(&labels).inc();
            }
        }
        for (cluster, age) in clusters {
            self.age.get_or_create(&ClusterLabels { cluster: cluster.clone() }).set(*age);
        }
    }
}

/// Keeps the series up to date until the stop.
///
/// # Errors
/// Never.
pub async fn run(expected: Expected, metrics: Metrics, shutdown: Shutdown) -> anyhow::Result<()> {
    let own = ExpectedMetrics::register(&metrics);
    loop {
        let now: Timestamp = expected.clock.now();
        let clusters = expected.discovery.inventory().snapshot();
        let ages: Vec<(String, f64)> =
            clusters.values().map(|facts| (facts.name.clone(), now.since(facts.read).as_secs_f64())).collect();
        own.set(&expected.services(), &ages);
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests;
