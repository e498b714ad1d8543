//! Targets in, batches of samples out: one task per target, each at its own stable phase of the interval.
//!
//! Promises what Prometheus promises: a scrape is stored as a whole or not at all, `up` and the report series always,
//! staleness markers for series and targets that are gone. A failed scrape is data: its reason is kept and counted.
//! Knows neither discovery nor storage: it is handed a list of targets and a queue to write to.

mod body;
mod cache;
mod own;
mod pool;
mod request;
mod settings;
mod target_task;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};
use service::config::Secret;
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use telemetry::exposition::MetricKind;
use telemetry::{Labels, Timestamp};

use crate::clock::Clock;
use crate::discovery::{Target, Targets, ecs, file, fixed, http, relabel};
use crate::tls::TlsConfig;
use crate::write::WriteHandle;

pub use crate::http_client::Auth;
pub use own::OwnTarget;
pub use settings::Settings;

/// One entry of `scrape_configs`, as written. What is absent here comes from `global`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Becomes the `job` label; unique.
    pub job_name: String,
    #[serde(default, with = "service::config::duration_option", skip_serializing_if = "Option::is_none")]
    pub scrape_interval: Option<Duration>,
    /// At most the interval.
    #[serde(default, with = "service::config::duration_option", skip_serializing_if = "Option::is_none")]
    pub scrape_timeout: Option<Duration>,
    #[serde(default = "default_metrics_path")]
    pub metrics_path: String,
    #[serde(default)]
    pub scheme: Scheme,
    /// URL parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Vec<String>>,
    /// On a conflict the target's own labels win; otherwise they are renamed to `exported_…`.
    #[serde(default)]
    pub honor_labels: bool,
    /// Timestamps that the target exposes are kept.
    #[serde(default = "yes")]
    pub honor_timestamps: bool,
    /// Ask for gzip.
    #[serde(default = "yes")]
    pub enable_compression: bool,
    #[serde(default = "yes")]
    pub follow_redirects: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    #[serde(default, skip_serializing_if = "TlsConfig::is_default")]
    pub tls_config: TlsConfig,
    /// How to read an answer whose content type says nothing; without it such a scrape fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Uncompressed; 0 is no limit. A scrape over any limit fails as a whole.
    #[serde(default, with = "service::config::byte_size", skip_serializing_if = "is_zero")]
    pub body_size_limit: u64,
    /// Samples after relabelling; 0 is no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sample_limit: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub label_limit: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub label_name_length_limit: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub label_value_length_limit: u64,
    /// Targets after relabelling; 0 is no limit. Above it none of the job's targets is scraped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub target_limit: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub static_configs: Vec<fixed::Config>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_sd_configs: Vec<file::Config>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http_sd_configs: Vec<http::Config>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aws_sd_configs: Vec<ecs::Config>,
    /// Of targets, before they are scraped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relabel_configs: Vec<relabel::Rule>,
    /// Of samples, before they are stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metric_relabel_configs: Vec<relabel::Rule>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

/// The text formats that we read, by Prometheus' names for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ScrapeProtocol {
    #[serde(rename = "PrometheusText0.0.4")]
    PrometheusText004,
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetricsText100,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    pub username: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Read at every scrape, so that it can be rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

/// The `Authorization` header.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    #[serde(default = "bearer", rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Secret>,
    /// Read at every scrape, so that it can be rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
}

fn default_metrics_path() -> String {
    "/metrics".to_owned()
}

fn bearer() -> String {
    "Bearer".to_owned()
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Config {
    /// A job with everything else at its default.
    pub fn new(job_name: &str) -> Self {
        Config {
            job_name: job_name.to_owned(),
            scrape_interval: None,
            scrape_timeout: None,
            metrics_path: default_metrics_path(),
            scheme: Scheme::default(),
            params: BTreeMap::new(),
            honor_labels: false,
            honor_timestamps: true,
            enable_compression: true,
            follow_redirects: true,
            basic_auth: None,
            authorization: None,
            tls_config: TlsConfig::default(),
            fallback_scrape_protocol: None,
            body_size_limit: 0,
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            target_limit: 0,
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
            http_sd_configs: Vec::new(),
            aws_sd_configs: Vec::new(),
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
        }
    }

    /// # Errors
    /// What is wrong, the job's name included.
    pub fn check(&self) -> Result<(), String> {
        let job = &self.job_name;
        if job.is_empty() {
            return Err("job_name is empty".to_owned());
        }
        if let (Some(interval), Some(timeout)) = (self.scrape_interval, self.scrape_timeout)
            && timeout > interval
        {
            return Err(format!("scrape timeout greater than scrape interval for scrape config with job name {job:?}"));
        }
        if self.basic_auth.is_some() && self.authorization.is_some() {
            return Err(format!("job {job:?}: at most one of basic_auth and authorization must be configured"));
        }
        let named = |why: String| format!("job {job:?}: {why}");
        self.tls_config.check().map_err(named)?;
        self.file_sd_configs.iter().try_for_each(|f| f.check().map_err(named))?;
        self.http_sd_configs.iter().try_for_each(|h| h.check().map_err(named))?;
        self.aws_sd_configs.iter().try_for_each(|a| a.check().map_err(named))
    }

    pub fn resolve_paths(&mut self, base: &Path) {
        self.file_sd_configs.iter_mut().for_each(|f| f.resolve_paths(base));
        self.http_sd_configs.iter_mut().for_each(|h| h.resolve_paths(base));
        let secrets = [
            self.basic_auth.as_mut().and_then(|a| a.password_file.as_mut()),
            self.authorization.as_mut().and_then(|a| a.credentials_file.as_mut()),
        ];
        secrets.into_iter().flatten().for_each(|f| *f = base.join(&*f));
        self.tls_config.resolve_paths(base);
    }
}

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
    bodies: request::Bodies,
    rows: target_task::SpareRows,
    shutdown: Shutdown,
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
        bodies: request::Bodies::default(),
        rows: target_task::SpareRows::default(),
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
