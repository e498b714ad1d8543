//! Alerts to Alertmanager: the `alerting:` block of Prometheus' configuration.
//!
//! In: notices from the rules, by an [`Outbox`] that never makes a group wait. Out: `POST /api/v2/alerts` to
//! every Alertmanager, each with its own queue and task, so that a slow one never delays another. An alert
//! that has just fired is sent at once, and again when the evidence for it is there. Grouping, silences and
//! inhibition are Alertmanager's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::Tasks;
use service::metrics::Metrics;
use url::Url;

use crate::clock::Clock;
use crate::config::ConfigWatch;
use crate::discovery::{Stops, Targets, relabel};
use crate::rules::alerting::Notice;
use crate::state::State;

mod alertmanager;
mod dispatch;
pub mod evidence;
mod metrics;
pub(crate) mod queue;
mod redact;
mod status;

use dispatch::Dispatcher;
use metrics::NotifyMetrics;
use queue::{QUEUE_LEN_MAX, Queue};
pub use status::{AlertmanagerStatus, Delivery, Receipt, Status};

/// The `alerting:` block.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Applied to each alert after the external labels are on it.
    pub alert_relabel_configs: Vec<relabel::Rule>,
    /// Every one of them gets every alert.
    pub alertmanagers: Vec<AlertmanagerConfig>,
    /// What is looked up when an alert fires; not in Prometheus.
    pub evidence: EvidenceConfig,
}

/// One entry of `alertmanagers`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertmanagerConfig {
    pub scheme: Scheme,
    /// Before `/api/v2/alerts`.
    pub path_prefix: String,
    /// Of one request.
    #[serde(with = "service::config::duration")]
    pub timeout: Duration,
    pub api_version: ApiVersion,
    pub static_configs: Vec<StaticAlertmanagers>,
}

impl Default for AlertmanagerConfig {
    fn default() -> Self {
        // Prometheus' own defaults.
        AlertmanagerConfig {
            scheme: Scheme::Http,
            path_prefix: String::new(),
            timeout: Duration::from_secs(10),
            api_version: ApiVersion::V2,
            static_configs: Vec::new(),
        }
    }
}

/// One entry of an Alertmanager's `static_configs`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StaticAlertmanagers {
    /// `host:port`.
    pub targets: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

/// Version 1 is gone from Alertmanager since 0.27.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiVersion {
    #[default]
    V2,
}

/// The `evidence:` key of `alerting:`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvidenceConfig {
    /// Whether the sidecars are asked for their last error lines when an alert fires.
    pub enabled: bool,
}

impl Default for EvidenceConfig {
    fn default() -> Self {
        EvidenceConfig { enabled: true }
    }
}

/// Where one Alertmanager takes alerts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub url: Url,
    pub timeout: Duration,
}

impl Config {
    /// Every Alertmanager's address.
    ///
    /// # Errors
    /// Names the target that is no address.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, String> {
        let mut endpoints = Vec::new();
        for config in &self.alertmanagers {
            let scheme = match config.scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            };
            let prefix = config.path_prefix.trim_matches('/');
            let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
            for target in config.static_configs.iter().flat_map(|list| &list.targets) {
                let url = format!("{scheme}://{target}{prefix}/api/v2/alerts");
                let url = Url::parse(&url).ok().filter(|url| url.has_host() && !target.contains('/'));
                let url = url.ok_or_else(|| format!("alertmanager target {target:?} is not HOST:PORT"))?;
                endpoints.push(Endpoint { url, timeout: config.timeout });
            }
        }
        Ok(endpoints)
    }
}

/// Where the rules leave their notices. When the last clone is dropped, the stage sends what is left and ends.
#[derive(Clone)]
pub struct Outbox(Arc<OutboxInner>);

struct OutboxInner {
    queue: Arc<Queue>,
    metrics: NotifyMetrics,
}

impl Outbox {
    /// Never waits: when the queue is full the oldest notices go and are counted.
    pub fn push(&self, notices: Vec<Notice>) {
        if notices.is_empty() {
            return;
        }
        let dropped = self.0.queue.push(notices);
        self.0.metrics.dropped("queue_full", dropped);
    }
}

impl Drop for OutboxInner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[cfg(test)]
impl Outbox {
    /// An outbox whose other end the test holds.
    pub(crate) fn with_queue() -> (Self, Arc<Queue>) {
        let queue = Arc::new(Queue::new(QUEUE_LEN_MAX));
        let metrics = NotifyMetrics::register(&Metrics::new());
        (Outbox(Arc::new(OutboxInner { queue: queue.clone(), metrics })), queue)
    }
}

/// The handles that the stage needs.
pub struct Inputs {
    pub config: ConfigWatch,
    pub clock: Clock,
    /// Whose sidecars are asked for evidence.
    pub targets: Targets,
    /// Tasks that have ended, and why.
    pub stops: Stops,
    /// None: evidence is gathered anew after a restart.
    pub state: Option<State>,
    /// Where this collector listens, for links when `rules.external_url` is absent.
    pub listen_url: Url,
}

/// Starts the stage.
///
/// # Errors
/// An Alertmanager's address that is none.
pub fn spawn(inputs: Inputs, metrics: &Metrics, tasks: &mut Tasks) -> anyhow::Result<(Outbox, Status)> {
    let first = inputs.config.borrow().clone();
    first.alerting.endpoints().map_err(anyhow::Error::msg)?;
    let metrics = NotifyMetrics::register(metrics);
    let queue = Arc::new(Queue::new(QUEUE_LEN_MAX));
    let status = Status::default();
    let dispatcher = Dispatcher::new(inputs, queue.clone(), metrics.clone(), status.clone())?;
    tasks.spawn("notify", dispatcher.run());
    Ok((Outbox(Arc::new(OutboxInner { queue, metrics })), status))
}

/// A notice as Alertmanager's API takes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PostableAlert {
    labels: telemetry::Labels,
    annotations: telemetry::Labels,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
}

impl PostableAlert {
    fn new(notice: &Notice, external_url: &Url) -> Self {
        let external = external_url.as_str().trim_end_matches('/');
        PostableAlert {
            labels: notice.labels.clone(),
            annotations: notice.annotations.clone(),
            starts_at: rfc3339(notice.starts_at),
            ends_at: rfc3339(notice.ends_at),
            generator_url: format!("{external}{}", crate::rules::template::functions::table_link(&notice.expr)),
        }
    }
}

fn rfc3339(at: telemetry::Timestamp) -> String {
    service::logging::rfc3339_millis(u128::try_from(at.as_millis()).unwrap_or(0))
}

type ByEndpoint<T> = BTreeMap<Endpoint, T>;

#[cfg(test)]
mod tests;
