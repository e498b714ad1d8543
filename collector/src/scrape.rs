//! Targets in, batches of samples out: one task per target, each at its own stable phase of the interval.
//!
//! Promises what Prometheus promises: a scrape is stored as a whole or not at all, `up` and the report series always,
//! staleness markers for series and targets that are gone. A failed scrape is data: its reason is kept and counted.
//! Knows neither discovery nor storage: it is handed a list of targets and a queue to write to.

mod body;
mod budget;
mod cache;
mod config;
mod native;
mod own;
mod pool;
mod protocol;
mod request;
mod settings;
mod target_task;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use telemetry::exposition::{LinePool, MetricKind};
use telemetry::{Alike, Labels, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::Clock;
use crate::discovery::{Target, Targets};
use crate::write::WriteHandle;

pub use crate::http_client::Auth;
pub use config::{Authorization, BasicAuth, Config, Scheme};
pub use own::OwnTarget;
pub use protocol::{ScrapeProtocol, check as check_protocols};
pub use settings::Settings;

/// What became of a target's last scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetHealth {
    /// Not scraped yet.
    #[default]
    Unknown,
    Up,
    Down,
}

/// A target and its last scrape.
#[derive(Clone, Debug)]
pub struct TargetStatus {
    pub target: Target,
    pub health: TargetHealth,
    pub last_scrape: Option<Timestamp>,
    pub last_duration: Duration,
    /// Samples after relabelling.
    pub samples: usize,
    /// Why it is down; empty when it is not.
    pub last_error: String,
    /// What the target says of its metrics, by family name.
    pub metadata: Arc<HashMap<String, Metadata>>,
}

/// `# HELP`, `# TYPE` and `# UNIT` of a family.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metadata {
    pub kind: &'static str,
    pub help: String,
    pub unit: String,
}

impl TargetStatus {
    pub(crate) fn new(target: Target) -> Self {
        TargetStatus {
            target,
            health: TargetHealth::Unknown,
            last_scrape: None,
            last_duration: Duration::ZERO,
            samples: 0,
            last_error: String::new(),
            metadata: Arc::default(),
        }
    }
}

/// One target's place in the status: its task writes, everybody reads.
type Cell = Arc<Mutex<TargetStatus>>;

/// The targets and their health; cheap to clone.
#[derive(Clone, Default)]
pub struct Status(Arc<ArcSwap<Vec<Cell>>>);

impl Status {
    /// All targets as they are now, in the order of the configuration.
    pub fn snapshot(&self) -> Arc<Vec<TargetStatus>> {
        let cells = self.0.load();
        Arc::new(cells.iter().map(|c| c.lock().expect("no one panics holding it").clone()).collect())
    }
}

/// Why a scrape failed; also the metric's label. One value per thing that somebody would do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// Nothing listens, or no route.
    Connect,
    Timeout,
    /// Another status than 200.
    HttpStatus,
    /// The connection broke while the body was read.
    Body,
    BodySizeLimit,
    ContentType,
    Parse,
    SampleLimit,
    LabelLimit,
    /// A native histogram that cannot be made coarse enough.
    BucketLimit,
    /// A file with credentials or certificates cannot be read.
    Credentials,
    /// The job has more targets than it may.
    TargetLimit,
}

impl FailureReason {
    /// The value of the metric's label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureReason::Connect => "connect",
            FailureReason::Timeout => "timeout",
            FailureReason::HttpStatus => "http_status",
            FailureReason::Body => "body",
            FailureReason::BodySizeLimit => "body_size_limit",
            FailureReason::ContentType => "content_type",
            FailureReason::Parse => "parse",
            FailureReason::SampleLimit => "sample_limit",
            FailureReason::LabelLimit => "label_limit",
            FailureReason::BucketLimit => "bucket_limit",
            FailureReason::Credentials => "credentials",
            FailureReason::TargetLimit => "target_limit",
        }
    }
}

/// A failed scrape: the reason to count and the text to show.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeError {
    pub reason: FailureReason,
    pub message: String,
}

impl ScrapeError {
    fn new(reason: FailureReason, message: impl Into<String>) -> Self {
        ScrapeError { reason, message: message.into() }
    }
}

impl fmt::Display for ScrapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    reason: &'static str,
}

/// What the stage counts.
#[derive(Clone, Default)]
struct ScrapeMetrics {
    targets: Gauge,
    scrapes: Counter,
    samples: Counter,
    failures: Family<FailureLabels, Counter>,
    skipped: Counter,
}

impl ScrapeMetrics {
    fn register(metrics: &Metrics) -> Self {
        let own = ScrapeMetrics::default();
        metrics.register(|r| {
            r.register("collector_scrape_targets", "Targets that are scraped", own.targets.clone());
            r.register("collector_scrapes", "Scrapes made", own.scrapes.clone());
            r.register("collector_scraped_samples", "Samples scraped, after relabelling", own.samples.clone());
            r.register("collector_scrape_failures", "Failed scrapes by reason", own.failures.clone());
            r.register(
                "collector_scrapes_skipped",
                "Scrapes that came too late and were left out",
                own.skipped.clone(),
            );
        });
        own
    }
}

/// What every target's task shares.
#[derive(Clone)]
struct Shared {
    write: WriteHandle,
    clock: Clock,
    metrics: ScrapeMetrics,
    /// Differs between replicas, so that they scrape the same target at different times.
    phase_seed: u64,
    budgets: budget::Budgets,
    bodies: request::Bodies,
    rows: target_task::SpareRows,
    alike: AlikeTargets,
    shutdown: Shutdown,
}

/// What targets have in common: replicas of one service mostly say the same but for their values.
#[derive(Clone, Default)]
struct AlikeTargets {
    lines: Arc<LinePool>,
    metadata: Arc<Alike<HashMap<String, Metadata>>>,
}

impl AlikeTargets {
    fn share_metadata(&self, metadata: &mut Arc<HashMap<String, Metadata>>) {
        // In whatever order they come.
        let of_family = |(family, metadata): (&String, &Metadata)| {
            xxh3_64(family.as_bytes()) ^ xxh3_64(metadata.help.as_bytes()).rotate_left(1)
        };
        let hash = metadata.iter().map(of_family).fold(0, u64::wrapping_add);
        self.metadata.share(hash, metadata);
    }
}

/// Starts scraping whatever `targets` lists. Ends when the shutdown is ordered; then no markers are written.
pub fn spawn(
    tasks: &mut Tasks,
    targets: Targets,
    write: WriteHandle,
    external_labels: &Labels,
    clock: Clock,
    metrics: &Metrics,
    shutdown: Shutdown,
) -> anyhow::Result<Status> {
    let status = Status::default();
    let phase_seed = settings::phase_seed(external_labels);
    let shared = Shared {
        write,
        clock,
        metrics: ScrapeMetrics::register(metrics),
        phase_seed,
        budgets: budget::Budgets::register(metrics),
        bodies: request::Bodies::default(),
        rows: target_task::SpareRows::default(),
        alike: AlikeTargets::default(),
        shutdown,
    };
    tasks.spawn("scrape", pool::Pool::new(targets, status.clone(), shared)?.run());
    Ok(status)
}

/// The metadata API's word for a kind.
fn kind_name(kind: MetricKind) -> &'static str {
    kind.as_str()
}

#[cfg(test)]
mod tests;
