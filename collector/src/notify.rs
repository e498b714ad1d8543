//! Alerts to Alertmanager: the `alerting:` block of Prometheus' configuration.
//!
//! In: notices from the rules, by an [`Outbox`] that never makes a group wait. Out: `POST /api/v2/alerts` to
//! every Alertmanager, each with its own queue and task, so that a slow one never delays another. An alert
//! that has just fired is sent at once, and again when the evidence for it is there. Grouping, silences and
//! inhibition are Alertmanager's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use url::Url;

use crate::aws::Aws;
use crate::clock::Clock;
use crate::config::ConfigWatch;
use crate::discovery::{self, StaticConfig, Stops, Targets, relabel};
use crate::rules::alerting::Notice;
use crate::scrape::{Authorization, BasicAuth, Scheme};
use crate::state::State;
use crate::state::lease::Lease;
use crate::tls::TlsConfig;

mod alertmanager;
mod dispatch;
mod endpoints;
pub mod evidence;
mod metrics;
pub(crate) mod queue;
mod redact;
mod status;
mod webhook;

use dispatch::Dispatcher;
use metrics::NotifyMetrics;
use queue::{QUEUE_LEN_MAX, Queue};
pub use status::{AlertmanagerStatus, Delivery, Receipt, Status};
pub use webhook::WebhookConfig;

/// The `alerting:` block.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Applied to each alert after the external labels are on it.
    pub alert_relabel_configs: Vec<relabel::Rule>,
    /// Every one of them gets every alert.
    pub alertmanagers: Vec<AlertmanagerConfig>,
    /// Receivers that are told without Alertmanager; not in Prometheus.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<WebhookConfig>,
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
    pub tls_config: TlsConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    pub static_configs: Vec<StaticConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub file_sd_configs: Vec<discovery::file::Config>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http_sd_configs: Vec<discovery::http::Config>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_sd_configs: Vec<discovery::dns::Config>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aws_sd_configs: Vec<discovery::ecs::Config>,
    /// Of what discovery finds; `__metrics_path__` is the path of the API.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relabel_configs: Vec<relabel::Rule>,
    /// Of alerts on their way to these Alertmanagers alone, after the common ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alert_relabel_configs: Vec<relabel::Rule>,
}

impl Default for AlertmanagerConfig {
    fn default() -> Self {
        // Prometheus' own defaults.
        AlertmanagerConfig {
            scheme: Scheme::Http,
            path_prefix: String::new(),
            timeout: Duration::from_secs(10),
            api_version: ApiVersion::V2,
            tls_config: TlsConfig::default(),
            basic_auth: None,
            authorization: None,
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
            http_sd_configs: Vec::new(),
            dns_sd_configs: Vec::new(),
            aws_sd_configs: Vec::new(),
            relabel_configs: Vec::new(),
            alert_relabel_configs: Vec::new(),
        }
    }
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

impl Config {
    /// # Errors
    /// Names what cannot be used.
    pub fn check(&self) -> Result<(), String> {
        self.alertmanagers.iter().try_for_each(AlertmanagerConfig::check)?;
        self.webhooks.iter().try_for_each(WebhookConfig::check)
    }

    pub fn resolve_paths(&mut self, base: &Path) {
        for entry in &mut self.alertmanagers {
            entry.tls_config.resolve_paths(base);
            entry.file_sd_configs.iter_mut().for_each(|files| files.resolve_paths(base));
            entry.http_sd_configs.iter_mut().for_each(|http| http.resolve_paths(base));
            let secrets = [
                entry.basic_auth.as_mut().and_then(|auth| auth.password_file.as_mut()),
                entry.authorization.as_mut().and_then(|auth| auth.credentials_file.as_mut()),
            ];
            secrets.into_iter().flatten().for_each(|file| *file = base.join(&*file));
        }
        for hook in &mut self.webhooks {
            hook.tls_config.resolve_paths(base);
            let secrets = [
                hook.basic_auth.as_mut().and_then(|auth| auth.password_file.as_mut()),
                hook.authorization.as_mut().and_then(|auth| auth.credentials_file.as_mut()),
            ];
            secrets.into_iter().flatten().for_each(|file| *file = base.join(&*file));
        }
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
    /// For Alertmanagers that run in ECS.
    pub aws: Arc<Aws>,
    /// None: evidence is gathered anew after a restart.
    pub state: Option<State>,
    /// Of several replicas its holder tells the webhooks; None where there is one only.
    pub lease: Option<Lease>,
    /// Where this collector listens, for links when `rules.external_url` is absent.
    pub listen_url: Url,
}

/// Starts the stage.
///
/// # Errors
/// A certificate or key of an Alertmanager that cannot be used.
pub fn spawn(
    inputs: Inputs,
    metrics: &Metrics,
    tasks: &mut Tasks,
    shutdown: &Shutdown,
) -> anyhow::Result<(Outbox, Status)> {
    let first = inputs.config.borrow().clone();
    first.alerting.alertmanagers.iter().try_for_each(|entry| entry.client().map(drop))?;
    let alertmanagers = endpoints::discover(inputs.config.clone(), inputs.aws.clone(), inputs.clock, tasks, shutdown);
    let metrics = NotifyMetrics::register(metrics);
    let queue = Arc::new(Queue::new(QUEUE_LEN_MAX));
    let status = Status::default();
    let dispatcher = Dispatcher::new(inputs, alertmanagers, queue.clone(), metrics.clone(), status.clone())?;
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

#[cfg(test)]
mod tests;
