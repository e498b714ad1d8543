//! A webhook receiver told directly, in Alertmanager's payload: for a small installation without Alertmanager.
//!
//! What Alertmanager would do is done in its simplest form: alerts of one group are one message, which waits long
//! enough for the evidence; an alert that goes on is told again after the repeat interval; its end is told once.
//! There are no silences and no inhibition. What was told is in SQL: a restart tells nothing again, and of several
//! replicas only the one with the lease tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use service::backoff::Backoff;
use service::config::Secret;
use telemetry::{Labels, Timestamp};
use url::Url;

use super::metrics::NotifyMetrics;
use super::queue::Queue;
use super::status::Status;
use super::{PostableAlert, rfc3339};
use crate::clock::Clock;
use crate::rules::alerting::{Fingerprint, Notice, RESOLVED_RETENTION};
use crate::scrape::{Auth, Authorization, BasicAuth};
use crate::state::lease::Lease;
use crate::state::{State, ToldRow};
use crate::tls::TlsConfig;

const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// Notices taken at once.
const TAKE_MAX: usize = 1024;
/// Nothing is due and nothing comes: looked at again after this.
const IDLE: Duration = Duration::from_secs(60);

/// One entry of `webhooks`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Often a secret itself, so it is not shown.
    pub url: Secret,
    /// Of one request.
    #[serde(default = "ten_seconds", with = "service::config::duration")]
    pub timeout: Duration,
    /// Alerts with the same values of these are one message.
    #[serde(default = "by_service")]
    pub group_by: Vec<String>,
    /// How long a new alert waits for its evidence and for others of its group.
    #[serde(default = "five_seconds", with = "service::config::duration")]
    pub group_wait: Duration,
    /// How long until an alert that goes on is told again.
    #[serde(default = "four_hours", with = "service::config::duration")]
    pub repeat_interval: Duration,
    /// Whether the end of an alert is told.
    #[serde(default = "yes")]
    pub send_resolved: bool,
    #[serde(default)]
    pub tls_config: TlsConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

fn four_hours() -> Duration {
    Duration::from_secs(4 * 3600)
}

fn by_service() -> Vec<String> {
    ["alertname", "environment", "service"].map(str::to_owned).into()
}

fn yes() -> bool {
    true
}

impl WebhookConfig {
    fn parsed(&self) -> Result<Url, String> {
        let url = Url::parse(self.url.expose()).ok().filter(|url| url.has_host() && url.scheme().starts_with("http"));
        url.ok_or_else(|| "webhooks: url is no http or https URL".to_owned())
    }

    /// # Errors
    /// Names what cannot be used.
    pub(super) fn check(&self) -> Result<(), String> {
        self.parsed()?;
        if self.basic_auth.is_some() && self.authorization.is_some() {
            return Err("webhooks: at most one of basic_auth and authorization must be configured".to_owned());
        }
        if self.timeout.is_zero() || self.repeat_interval.is_zero() {
            return Err("webhooks: timeout and repeat_interval cannot be 0".to_owned());
        }
        self.tls_config.check()
    }
}

/// What the receiver gets: Alertmanager's webhook payload, version 4.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    version: &'static str,
    group_key: String,
    truncated_alerts: u32,
    status: &'static str,
    receiver: &'static str,
    group_labels: Labels,
    common_labels: Labels,
    common_annotations: Labels,
    #[serde(rename = "externalURL")]
    external_url: String,
    alerts: Vec<PayloadAlert>,
}

#[derive(Debug, Serialize)]
struct PayloadAlert {
    status: &'static str,
    #[serde(flatten)]
    alert: PostableAlert,
    fingerprint: String,
}

/// An alert that the receiver knows of, or is about to.
struct Tracked {
    notice: Notice,
    /// Since when it waits to be told for the first time.
    since: Timestamp,
    told: Option<Told>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Told {
    resolved: bool,
    at: Timestamp,
}

/// Owns the messages to one receiver.
pub(super) struct Webhook {
    pub(super) config: WebhookConfig,
    pub(super) queue: Arc<Queue>,
    pub(super) clock: Clock,
    pub(super) external_url: Url,
    pub(super) state: Option<State>,
    /// None where there is nobody to share with.
    pub(super) lease: Option<Lease>,
    pub(super) metrics: NotifyMetrics,
    pub(super) status: Status,
}

/// Why a message was not taken.
struct Failure {
    reason: &'static str,
    message: String,
    /// The same message will never be taken.
    is_final: bool,
}

struct Running {
    hook: Webhook,
    url: Url,
    client: reqwest::Client,
    /// `webhook http://host:port`: what it is called where its path may not be shown.
    name: String,
    /// The same in SQL, told from others of the same host.
    key: String,
    alerts: BTreeMap<Fingerprint, Tracked>,
    failures: u32,
    /// Nothing is sent before this.
    not_before: Timestamp,
}

impl Webhook {
    /// Tells until the queue is closed, and then once more what is due.
    pub(super) async fn run(self) {
        let built = self.config.parsed().map_err(anyhow::Error::msg).and_then(|url| Ok((url, self.client()?)));
        let (url, client) = match built {
            Ok(built) => built,
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "a webhook cannot be used as configured, it is told nothing"
                );
                return;
            }
        };
        let name = format!("webhook {}", url.origin().ascii_serialization());
        let key = format!("{name}#{:016x}", xxhash_rust::xxh3::xxh3_64(url.as_str().as_bytes()));
        let not_before = Timestamp::default();
        Running { hook: self, url, client, name, key, alerts: BTreeMap::new(), failures: 0, not_before }.run().await;
    }

    fn client(&self) -> anyhow::Result<reqwest::Client> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("picket-collector/", env!("CARGO_PKG_VERSION")))
            .timeout(self.config.timeout);
        Ok(self.config.tls_config.apply(client)?.build()?)
    }
}

impl Running {
    async fn run(mut self) {
        loop {
            let now = self.hook.clock.now();
            let wait = self.next_due().map_or(IDLE, |due| due.max(self.not_before).since(now));
            tokio::select! {
                notices = self.hook.queue.take(TAKE_MAX) => match notices {
                    Some(notices) => notices.into_iter().for_each(|notice| self.note(notice)),
                    None => break,
                },
                () = tokio::time::sleep(wait) => {}
            }
            self.tell_due().await;
        }
        self.not_before = Timestamp::default();
        self.tell_due().await;
    }

    fn note(&mut self, notice: Notice) {
        let now = self.hook.clock.now();
        match self.alerts.get_mut(&notice.fingerprint) {
            Some(tracked) if tracked.notice.starts_at == notice.starts_at => tracked.notice = notice,
            _ => drop(self.alerts.insert(notice.fingerprint, Tracked { notice, since: now, told: None })),
        }
        // Nobody has mentioned it for longer than a resolved alert is mentioned.
        self.alerts.retain(|_, tracked| now.since(tracked.notice.ends_at) <= RESOLVED_RETENTION);
    }

    fn next_due(&self) -> Option<Timestamp> {
        self.alerts.values().filter_map(|tracked| due(tracked, &self.hook.config)).min()
    }

    fn is_ours(&self) -> bool {
        self.hook.lease.as_ref().is_none_or(Lease::is_held)
    }

    async fn tell_due(&mut self) {
        let now = self.hook.clock.now();
        if now < self.not_before {
            return;
        }
        if !self.is_ours() {
            // Looked at again soon: the lease may come to us.
            self.not_before = now + Duration::from_secs(1);
            return;
        }
        self.remember(now).await;
        let is_due = |tracked: &Tracked| due(tracked, &self.hook.config).is_some_and(|at| at <= now);
        let groups: BTreeSet<Labels> =
            self.alerts.values().filter(|tracked| is_due(tracked)).map(|tracked| self.group(&tracked.notice)).collect();
        for group in groups {
            if !self.tell(group, now).await {
                return;
            }
        }
    }

    /// What another process told before us is not told again.
    async fn remember(&mut self, now: Timestamp) {
        let Some(state) = &self.hook.state else { return };
        for (fingerprint, tracked) in &mut self.alerts {
            let is_due = due(tracked, &self.hook.config).is_some_and(|at| at <= now);
            if tracked.told.is_some() || !is_due {
                continue;
            }
            // Where SQL is away, telling twice is better than not at all.
            if let Ok(Some(row)) = state.told(&self.key, &fingerprint.to_string()).await
                && row.starts_at == tracked.notice.starts_at
            {
                tracked.told = Some(Told { resolved: row.resolved, at: row.told_at });
            }
        }
    }

    fn group(&self, notice: &Notice) -> Labels {
        notice.labels.retain(|name| self.hook.config.group_by.iter().any(|by| by == name))
    }

    /// One message; false when the receiver did not take it and the rest shall wait.
    async fn tell(&mut self, group: Labels, now: Timestamp) -> bool {
        let members: Vec<Fingerprint> = self
            .alerts
            .iter()
            .filter(|(_, tracked)| self.group(&tracked.notice) == group && is_news(tracked))
            .map(|(fingerprint, _)| *fingerprint)
            .collect();
        let notices: Vec<Notice> = members.iter().map(|f| self.alerts[f].notice.clone()).collect();
        let result = match notices.is_empty() {
            true => Ok(()),
            false => self.post(&payload(group, &notices, &self.hook.external_url)).await,
        };
        let error = result.as_ref().err().map(|failure| failure.message.as_str());
        self.hook.status.attempted(&self.name, members.iter().copied(), now, error, self.alerts.len());
        match result {
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!(receiver = self.name, failures = self.failures, "webhook takes alerts again");
                }
                self.failures = 0;
                self.hook.metrics.sent(&self.name, notices.len());
                self.told(&members, now).await;
                true
            }
            Err(failure) => {
                self.hook.metrics.failed(&self.name, failure.reason);
                if self.failures == 0 {
                    tracing::error!(receiver = self.name, error = failure.message, "failed to tell a webhook");
                }
                if failure.is_final {
                    self.hook.metrics.dropped("refused", notices.len());
                    self.told(&members, now).await;
                    return true;
                }
                self.not_before = now + RETRY.delay(self.failures);
                self.failures += 1;
                false
            }
        }
    }

    async fn told(&mut self, members: &[Fingerprint], now: Timestamp) {
        let mut rows = Vec::new();
        for fingerprint in members {
            let Some(tracked) = self.alerts.get_mut(fingerprint) else { continue };
            let resolved = tracked.notice.resolved;
            tracked.told = Some(Told { resolved, at: now });
            let starts_at = tracked.notice.starts_at;
            rows.push(ToldRow { fingerprint: fingerprint.to_string(), starts_at, resolved, told_at: now });
        }
        if let Some(state) = &self.hook.state {
            // A failure is counted by the state; the cost is one message too many after a restart.
            let _ = state.note_told(&self.key, &rows).await;
        }
    }

    async fn post(&self, payload: &Payload) -> Result<(), Failure> {
        let mut request = self.client.post(self.url.clone()).json(payload);
        let config = &self.hook.config;
        let header = config.authorization.clone().map(Auth::Header);
        if let Some(auth) = config.basic_auth.clone().map(Auth::Basic).or(header) {
            let transient = |message| Failure { reason: "credentials", message, is_final: false };
            request = request.header(AUTHORIZATION, auth.header().await.map_err(transient)?);
        }
        let response = request.send().await.map_err(|error| {
            let reason = if error.is_timeout() { "timeout" } else { "connect" };
            let message = format!("{:#}", anyhow::Error::from(error.without_url()));
            Failure { reason, message, is_final: false }
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let is_final = !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS;
        let reason = if is_final { "refused" } else { "unavailable" };
        Err(Failure { reason, message: format!("answered {status}"), is_final })
    }
}

/// When an alert is to be told next; None when there is nothing left to say.
fn due(tracked: &Tracked, config: &WebhookConfig) -> Option<Timestamp> {
    match (tracked.told, tracked.notice.resolved) {
        (None, _) => Some(tracked.since + config.group_wait),
        (Some(Told { resolved: false, at }), false) => Some(at + config.repeat_interval),
        (Some(Told { resolved: false, at }), true) if config.send_resolved => Some(at),
        (Some(_), _) => None,
    }
}

/// Whether a message about its group says anything of it: what resolved before it was told does not.
fn is_news(tracked: &Tracked) -> bool {
    !tracked.notice.resolved || tracked.told.is_some_and(|told| !told.resolved)
}

fn payload(group: Labels, notices: &[Notice], external_url: &Url) -> Payload {
    let status = |resolved: bool| if resolved { "resolved" } else { "firing" };
    let alerts = notices.iter().map(|notice| PayloadAlert {
        status: status(notice.resolved),
        fingerprint: Fingerprint::of(&notice.labels).to_string(),
        alert: PostableAlert {
            // As Alertmanager: an alert that fires has no end.
            ends_at: if notice.resolved { rfc3339(notice.ends_at) } else { "0001-01-01T00:00:00Z".to_owned() },
            ..PostableAlert::new(notice, external_url)
        },
    });
    Payload {
        version: "4",
        group_key: format!("{{}}:{group}"),
        truncated_alerts: 0,
        status: status(notices.iter().all(|notice| notice.resolved)),
        receiver: "webhook",
        common_labels: common(notices.iter().map(|notice| &notice.labels)),
        common_annotations: common(notices.iter().map(|notice| &notice.annotations)),
        group_labels: group,
        external_url: external_url.as_str().trim_end_matches('/').to_owned(),
        alerts: alerts.collect(),
    }
}

/// What all of them have in common.
fn common<'a>(mut all: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = all.next() else { return Labels::empty() };
    all.fold(first.clone(), |common, labels| common.retain(|name| labels.get(name) == common.get(name)))
}
