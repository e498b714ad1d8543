//! Which targets there are: lists, files and ECS in, relabelled [`Target`]s out.
//!
//! Promises that targets vanish on evidence only: a source that cannot be read keeps what it last said, and says so.
//! Does not scrape and does not know who does.

pub mod dns;
pub mod ecs;
pub mod file;
pub mod fixed;
pub mod http;
pub mod relabel;
mod source;
mod target;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use telemetry::names::label::{INSTANCE, JOB};
use telemetry::{Labels, Timestamp};
use tokio::sync::{Notify, watch};

use crate::aws::Aws;
use crate::clock::Clock;
use crate::config::ConfigWatch;
use crate::scrape::{self, Settings};
pub use ecs::{ClusterFacts, Inventory, ServiceFacts, StopReason, StoppedTask, Stops, TaskFacts};
pub use fixed::Config as StaticConfig;
use source::{Source, SourceConfig};
use target::Outcome;

/// Where to scrape, `host:port`; every source sets it.
const ADDRESS: &str = "__address__";

/// The targets of the moment; only the newest counts.
pub type Targets = watch::Receiver<Arc<[Target]>>;

/// Something to scrape. Exists only after relabelling, so it always has an address, a job and an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// What every series of the target carries: job, instance and what relabelling left.
    pub labels: Labels,
    /// What discovery said, before relabelling.
    pub discovered: Labels,
    /// `job_name` of the scrape configuration it came from.
    pub pool: Arc<str>,
    /// `http://10.0.1.7:9464/metrics`, parameters included.
    pub scrape_url: url::Url,
    pub scrape_interval: Duration,
    pub scrape_timeout: Duration,
    /// How to read it: limits, relabelling of samples, authentication.
    pub settings: Arc<Settings>,
    /// Why it may not be scraped: its job has too many targets. It is down then.
    pub refused: Option<Arc<str>>,
}

impl Target {
    pub fn job(&self) -> &str {
        self.labels.get(JOB).unwrap_or_default()
    }

    pub fn instance(&self) -> &str {
        self.labels.get(INSTANCE).unwrap_or_default()
    }

    /// Another path on the target's own address: where a sidecar answers `/logs/recent`.
    pub fn sibling_url(&self, path: &str) -> url::Url {
        let mut url = self.scrape_url.clone();
        url.set_path(path);
        url.set_query(None);
        url
    }
}

/// Targets that one source found together; `source` tells groups apart.
#[derive(Clone, Debug, PartialEq)]
struct TargetGroup {
    source: String,
    targets: Vec<Labels>,
}

/// What discovery knows beside the targets.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Found, but dropped by relabelling.
    pub dropped: Vec<Dropped>,
    /// Per source of each scrape configuration.
    pub sources: Vec<SourceStatus>,
}

#[derive(Clone, Debug)]
pub struct Dropped {
    pub pool: Arc<str>,
    pub discovered: Labels,
}

#[derive(Clone, Debug)]
pub struct SourceStatus {
    pub pool: Arc<str>,
    /// `static`, `file`, `http`, `dns`, `ecs`.
    pub kind: &'static str,
    /// Targets it knows, before relabelling.
    pub found: usize,
    /// When it last succeeded in full.
    pub refreshed: Option<Timestamp>,
    /// Why what it says is old.
    pub error: Option<String>,
}

/// A cheap handle to the newest [`Snapshot`], and to what is known of tasks that have ended.
#[derive(Clone, Default)]
pub struct Status {
    snapshot: Arc<ArcSwap<Snapshot>>,
    known: ecs::Known,
}

impl Status {
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    pub fn stops(&self) -> &Stops {
        &self.known.stops
    }

    /// What ECS says there should be.
    pub fn inventory(&self) -> &Inventory {
        &self.known.inventory
    }

    #[cfg(test)]
    pub(crate) fn with_inventory(inventory: Inventory) -> Self {
        Status { known: ecs::Known { inventory, ..ecs::Known::default() }, ..Status::default() }
    }
}

/// Starts discovery; the first list of targets is complete before this returns.
pub fn spawn(
    tasks: &mut Tasks,
    config: ConfigWatch,
    aws: Arc<Aws>,
    clock: Clock,
    metrics: &Metrics,
    shutdown: Shutdown,
) -> (Targets, Status) {
    let (sender, mut targets) = watch::channel(Arc::default());
    let status = Status::default();
    let driver = Driver {
        config,
        pools: Vec::new(),
        sources: Vec::new(),
        changed: Arc::new(Notify::new()),
        aws,
        clock,
        metrics: DiscoveryMetrics::register(metrics, status.stops()),
        sender,
        status: status.clone(),
        shutdown,
    };
    tasks.spawn("discovery", driver.start().run());
    // The first list is where a reader starts, not a change.
    targets.mark_unchanged();
    (targets, status)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    scrape_job: String,
}

struct DiscoveryMetrics {
    targets: Family<PoolLabels, Gauge>,
    dropped: Family<PoolLabels, Gauge>,
    failed_sources: Family<PoolLabels, Gauge>,
}

impl DiscoveryMetrics {
    fn register(metrics: &Metrics, stops: &Stops) -> Self {
        let own = DiscoveryMetrics {
            targets: Family::default(),
            dropped: Family::default(),
            failed_sources: Family::default(),
        };
        metrics.register(|r| {
            let help = "ECS tasks that have ended since the start, by reason";
            r.register("collector_ecs_task_stops", help, stops.count.clone());
            r.register("collector_discovery_targets", "Targets after relabelling", own.targets.clone());
            r.register(
                "collector_discovery_targets_dropped",
                "Found, but dropped by relabelling or not usable",
                own.dropped.clone(),
            );
            r.register(
                "collector_discovery_sources_failed",
                "Sources that keep old targets because their last refresh failed",
                own.failed_sources.clone(),
            );
        });
        own
    }
}

/// Owns the sources; joins what they find into one list of targets.
struct Driver {
    config: ConfigWatch,
    pools: Vec<Arc<Settings>>,
    sources: Vec<Source>,
    changed: Arc<Notify>,
    aws: Arc<Aws>,
    clock: Clock,
    metrics: DiscoveryMetrics,
    sender: watch::Sender<Arc<[Target]>>,
    status: Status,
    shutdown: Shutdown,
}

impl Driver {
    fn start(mut self) -> Self {
        self.configure();
        self.publish();
        self
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let changed = self.changed.clone();
        loop {
            tokio::select! {
                () = self.shutdown.requested() => return Ok(()),
                reload = self.config.changed() => match reload {
                    Ok(()) => self.configure(),
                    // Nobody is left who could change it.
                    Err(_) => self.shutdown.requested().await,
                },
                () = changed.notified() => {}
            }
            self.publish();
        }
    }

    /// Keeps the sources that are configured as before: a reload must not make them forget.
    fn configure(&mut self) {
        let config = self.config.borrow_and_update().clone();
        let mut running = std::mem::take(&mut self.sources);
        self.pools.clear();
        for job in &config.scrape_configs {
            let settings = Arc::new(Settings::new(job, &config.global));
            for source in source_configs(job) {
                let same = running.iter().position(|s| s.pool == settings.job_name && s.config == source);
                self.sources.push(match same {
                    Some(index) => running.swap_remove(index),
                    None => Source::start(
                        settings.job_name.clone(),
                        source,
                        self.changed.clone(),
                        &self.aws,
                        &self.status.known,
                        self.clock,
                        &self.shutdown,
                    ),
                });
            }
            self.pools.push(settings);
        }
    }

    fn publish(&self) {
        let (mut targets, mut snapshot) = (Vec::new(), Snapshot::default());
        for settings in &self.pools {
            let pool = PoolLabels { scrape_job: settings.job_name.to_string() };
            let (dropped_before, targets_before) = (snapshot.dropped.len(), targets.len());
            let mut failed = 0;
            for source in self.sources.iter().filter(|s| s.pool == settings.job_name) {
                let found = source.found();
                failed += i64::from(found.error.is_some());
                self.assemble(settings, &found.groups, &mut targets, &mut snapshot);
                snapshot.sources.push(SourceStatus {
                    pool: source.pool.clone(),
                    kind: source.config.kind(),
                    found: found.groups.iter().map(|g| g.targets.len()).sum(),
                    refreshed: found.refreshed,
                    error: found.error,
                });
            }
            refuse_too_many(settings, &mut targets[targets_before..]);
            let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
            self.metrics.targets.get_or_create(&pool).set(count(targets.len() - targets_before));
            self.metrics.dropped.get_or_create(&pool).set(count(snapshot.dropped.len() - dropped_before));
            self.metrics.failed_sources.get_or_create(&pool).set(failed);
        }
        self.status.snapshot.store(Arc::new(snapshot));
        self.sender.send_if_modified(|current| {
            let changed = **current != *targets;
            if changed {
                *current = targets.into();
            }
            changed
        });
    }

    /// Two entries that give the same series are one target.
    fn assemble(
        &self,
        settings: &Arc<Settings>,
        groups: &[TargetGroup],
        targets: &mut Vec<Target>,
        snapshot: &mut Snapshot,
    ) {
        let mut seen: HashSet<(Labels, url::Url)> = HashSet::new();
        for (group, found) in groups.iter().flat_map(|g| g.targets.iter().map(move |t| (g, t))) {
            match target::build(settings, found) {
                Outcome::Target(target) => {
                    if seen.insert((target.labels.clone(), target.scrape_url.clone())) {
                        targets.push(*target);
                    }
                }
                Outcome::Dropped(discovered) => {
                    snapshot.dropped.push(Dropped { pool: settings.job_name.clone(), discovered });
                }
                Outcome::Invalid(error) => {
                    tracing::error!(job = %settings.job_name, source = group.source, labels = %found, %error,
                        "what was discovered is no usable target");
                    snapshot.dropped.push(Dropped { pool: settings.job_name.clone(), discovered: found.clone() });
                }
            }
        }
    }
}

/// As in Prometheus a job above its limit fails as a whole: a few of many targets would look like all of them.
fn refuse_too_many(settings: &Settings, targets: &mut [Target]) {
    let (count, limit) = (targets.len(), settings.limits.targets_max);
    if count as u64 > limit {
        let why: Arc<str> = format!("target_limit exceeded (number of targets: {count}, limit: {limit})").into();
        targets.iter_mut().for_each(|target| target.refused = Some(why.clone()));
    }
}

fn source_configs(job: &scrape::Config) -> impl Iterator<Item = SourceConfig> {
    let fixed = job.static_configs.iter().cloned().map(SourceConfig::Fixed);
    let files = job.file_sd_configs.iter().cloned().map(SourceConfig::File);
    let http = job.http_sd_configs.iter().cloned().map(SourceConfig::Http);
    let dns = job.dns_sd_configs.iter().cloned().map(SourceConfig::Dns);
    let ecs = job.aws_sd_configs.iter().cloned().map(SourceConfig::Ecs);
    fixed.chain(files).chain(http).chain(dns).chain(ecs)
}

#[cfg(test)]
mod tests;
