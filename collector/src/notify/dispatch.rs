//! The middle of the stage: adds evidence and external labels to notices and hands them to every sender.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use telemetry::{Labels, Timestamp};
use tokio::task::JoinHandle;
use url::Url;

use super::Inputs;
use super::alertmanager::{Sender, name};
use super::endpoints::Endpoint;
use super::evidence::{self, GATHER_TIMEOUT};
use super::metrics::NotifyMetrics;
use super::queue::{QUEUE_LEN_MAX, Queue};
use super::status::Status;
use super::webhook::{Webhook, WebhookConfig};
use crate::config::Config;
use crate::discovery::{Targets, relabel};
use crate::rules::alerting::{Fingerprint, Notice};
use crate::state::{EvidenceRow, State};

/// Notices taken at once; the senders make their own batches.
const TAKE_MAX: usize = 1024;
/// Lookups under way at once: more alerts than this at one moment are one incident, and its first alerts say it.
const GATHERING_MAX: usize = 64;
/// Evidence does not wait for a database that is slow.
const REMEMBER_TIMEOUT: Duration = Duration::from_millis(250);
/// What is left in the queues at the stop has this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// An alert that nobody mentions any more is forgotten: longer than a resolved one is re-sent.
const FORGET_AFTER: Duration = Duration::from_secs(30 * 60);
/// Evidence in SQL is kept for a week: it is part of what people look up after an incident.
const EVIDENCE_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

struct Known {
    notice: Notice,
    evidence: Evidence,
    seen_at: Timestamp,
}

enum Evidence {
    /// Not asked for.
    None,
    Gathering,
    Found(Labels),
}

struct Gathered {
    fingerprint: Fingerprint,
    /// Of the firing it was gathered for.
    fired_at: Timestamp,
    annotations: Labels,
}

struct Running {
    endpoint: Endpoint,
    queue: Arc<Queue>,
    task: JoinHandle<()>,
}

struct RunningWebhook {
    config: WebhookConfig,
    queue: Arc<Queue>,
    task: JoinHandle<()>,
}

/// Owns what is known of each alert.
pub(super) struct Dispatcher {
    inputs: Inputs,
    queue: Arc<Queue>,
    client: reqwest::Client,
    metrics: NotifyMetrics,
    status: Status,
    config: Arc<Config>,
    /// What discovery says the Alertmanagers are.
    alertmanagers: Targets,
    senders: Vec<Running>,
    webhooks: Vec<RunningWebhook>,
    /// Senders of Alertmanagers that a reload removed, on their way out.
    leaving: Vec<JoinHandle<()>>,
    known: HashMap<Fingerprint, Known>,
    gathering: FuturesUnordered<BoxFuture<'static, Gathered>>,
}

impl Dispatcher {
    pub(super) fn new(
        inputs: Inputs,
        alertmanagers: Targets,
        queue: Arc<Queue>,
        metrics: NotifyMetrics,
        status: Status,
    ) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("picket-collector/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(2))
            .build()?;
        let config = inputs.config.borrow().clone();
        Ok(Dispatcher {
            inputs,
            queue,
            client,
            metrics,
            status,
            config,
            alertmanagers,
            senders: Vec::new(),
            webhooks: Vec::new(),
            leaving: Vec::new(),
            known: HashMap::new(),
            gathering: FuturesUnordered::new(),
        })
    }

    /// Runs until the last outbox is gone, then sends what is left.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        self.set_senders();
        self.set_webhooks();
        let (mut config_alive, mut discovery_alive) = (true, true);
        loop {
            tokio::select! {
                changed = self.inputs.config.changed(), if config_alive => {
                    config_alive = changed.is_ok();
                    self.config = self.inputs.config.borrow_and_update().clone();
                    self.set_senders();
                    self.set_webhooks();
                }
                changed = self.alertmanagers.changed(), if discovery_alive => {
                    // Discovery ends at the stop; the Alertmanagers of that moment get what is left.
                    discovery_alive = changed.is_ok();
                    if discovery_alive {
                        self.set_senders();
                    }
                }
                Some(gathered) = self.gathering.next() => self.found(gathered),
                notices = self.queue.take(TAKE_MAX) => match notices {
                    Some(notices) => self.dispatch(notices),
                    None => break,
                },
            }
        }
        self.drain().await;
        Ok(())
    }

    fn dispatch(&mut self, notices: Vec<Notice>) {
        let now = self.inputs.clock.now();
        for notice in notices {
            self.note(&notice, now);
            self.send(&notice);
        }
        let forgotten: Vec<_> =
            self.known.iter().filter(|(_, known)| now.since(known.seen_at) > FORGET_AFTER).map(|(f, _)| *f).collect();
        for fingerprint in forgotten {
            self.known.remove(&fingerprint);
            self.status.forget(fingerprint);
        }
    }

    /// Remembers the newest state; a firing that is new has its evidence looked up.
    fn note(&mut self, notice: &Notice, now: Timestamp) {
        let fingerprint = notice.fingerprint;
        let evidence = match self.known.remove(&fingerprint) {
            Some(known) if known.notice.starts_at == notice.starts_at => known.evidence,
            Some(_) => {
                // It fired again: what was found last time belongs to last time.
                self.status.has_evidence(fingerprint, Labels::empty());
                Evidence::None
            }
            None => Evidence::None,
        };
        let evidence = match evidence {
            Evidence::None if self.is_evidence_wanted(notice) => {
                self.gathering.push(Box::pin(self.gather(notice, now)));
                Evidence::Gathering
            }
            other => other,
        };
        self.known.insert(fingerprint, Known { notice: notice.clone(), evidence, seen_at: now });
    }

    fn is_evidence_wanted(&self, notice: &Notice) -> bool {
        let wanted = self.config.alerting.evidence.enabled && !notice.resolved && evidence::is_wanted(&notice.labels);
        if wanted && self.gathering.len() >= GATHERING_MAX {
            // Asked for again at the next resend.
            self.metrics.evidence("postponed");
            return false;
        }
        wanted
    }

    fn gather(&self, notice: &Notice, now: Timestamp) -> impl Future<Output = Gathered> + Send + use<> {
        let (client, state, metrics) = (self.client.clone(), self.inputs.state.clone(), self.metrics.clone());
        let (targets, stops) = (self.inputs.targets.borrow().clone(), self.inputs.stops.clone());
        let (fingerprint, fired_at, labels) = (notice.fingerprint, notice.starts_at, notice.labels.clone());
        async move {
            let annotations = match remembered(state.as_ref(), fingerprint, fired_at).await {
                Some(annotations) => annotations,
                None => {
                    let gathering = evidence::gather(&client, &labels, &targets, &stops);
                    let found = tokio::time::timeout(GATHER_TIMEOUT, gathering).await.unwrap_or_else(|_| {
                        Labels::from_pairs([(evidence::ERROR, format!("no answer within {GATHER_TIMEOUT:?}"))])
                    });
                    metrics.evidence(if found.get(evidence::LOGS).is_some() { "found" } else { "nothing" });
                    remember(state.as_ref(), fingerprint, fired_at, found, now).await
                }
            };
            Gathered { fingerprint, fired_at, annotations }
        }
    }

    /// The alert is sent again at once, unless it has resolved or fired anew meanwhile.
    fn found(&mut self, gathered: Gathered) {
        let Some(known) = self.known.get_mut(&gathered.fingerprint) else { return };
        if known.notice.starts_at != gathered.fired_at {
            return;
        }
        known.evidence = Evidence::Found(gathered.annotations.clone());
        self.status.has_evidence(gathered.fingerprint, gathered.annotations);
        let notice = known.notice.clone();
        if !notice.resolved {
            self.send(&notice);
        }
    }

    fn send(&self, notice: &Notice) {
        let Some(notice) = self.finished(notice) else { return };
        for running in &self.senders {
            self.hand(running, notice.clone());
        }
        for hook in &self.webhooks {
            let dropped = hook.queue.push([notice.clone()]);
            self.metrics.dropped("queue_full", dropped);
        }
    }

    fn hand(&self, running: &Running, notice: Notice) {
        if let Some(notice) = self.relabelled(notice, &running.endpoint.settings.alert_relabel_configs) {
            let dropped = running.queue.push([notice]);
            self.metrics.dropped("queue_full", dropped);
            self.metrics.queued(&name(&running.endpoint.url), running.queue.len());
        }
    }

    /// None where relabelling drops it.
    fn relabelled(&self, mut notice: Notice, rules: &[relabel::Rule]) -> Option<Notice> {
        if rules.is_empty() {
            return Some(notice);
        }
        let mut labels = notice.labels.to_builder();
        if !relabel::apply(rules, &mut labels) {
            self.metrics.dropped("relabelled", 1);
            return None;
        }
        notice.labels = labels.build();
        Some(notice)
    }

    /// As it leaves: evidence among the annotations, external labels where the alert has none of that name,
    /// relabelled; None where relabelling drops it.
    fn finished(&self, notice: &Notice) -> Option<Notice> {
        let mut notice = notice.clone();
        if let Some(Known { evidence: Evidence::Found(found), .. }) = self.known.get(&notice.fingerprint) {
            let mut annotations = notice.annotations.to_builder();
            for (name, value) in found.iter() {
                annotations.set(name, value);
            }
            notice.annotations = annotations.build();
        }
        let mut labels = notice.labels.to_builder();
        for (name, value) in self.config.global.external_labels.iter() {
            if notice.labels.get(name).is_none() {
                labels.set(name, value);
            }
        }
        notice.labels = labels.build();
        self.relabelled(notice, &self.config.alerting.alert_relabel_configs)
    }

    /// Starts a sender for each new Alertmanager and lets those go that are no longer there.
    fn set_senders(&mut self) {
        let endpoints = self.config.alerting.endpoints(&self.alertmanagers.borrow_and_update());
        let mut old = std::mem::take(&mut self.senders);
        for endpoint in endpoints {
            let same = old.iter().position(|running| running.endpoint == endpoint);
            match same.map(|index| old.swap_remove(index)).map_or_else(|| self.introduce(endpoint), Ok) {
                Ok(running) => self.senders.push(running),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "an alertmanager cannot be spoken to as configured, it gets no alerts");
                }
            }
        }
        for running in old {
            running.queue.close();
            self.leaving.push(running.task);
        }
        self.leaving.retain(|task| !task.is_finished());
        self.metrics.alertmanagers(self.senders.len());
        self.status.set_alertmanagers(self.senders.iter().map(|running| name(&running.endpoint.url)));
    }

    /// A sender that begins with what fires already: whoever is found late, or comes new, need not wait for a resend.
    fn introduce(&self, endpoint: Endpoint) -> anyhow::Result<Running> {
        let running = self.start(endpoint)?;
        let now = self.inputs.clock.now();
        for known in self.known.values().filter(|known| !known.notice.resolved && known.notice.ends_at > now) {
            if let Some(notice) = self.finished(&known.notice) {
                self.hand(&running, notice);
            }
        }
        Ok(running)
    }

    fn start(&self, endpoint: Endpoint) -> anyhow::Result<Running> {
        let queue = Arc::new(Queue::new(QUEUE_LEN_MAX));
        let sender = Sender {
            name: name(&endpoint.url),
            auth: endpoint.settings.auth(),
            client: endpoint.settings.client()?,
            endpoint: endpoint.clone(),
            queue: queue.clone(),
            clock: self.inputs.clock,
            external_url: self.external_url(),
            metrics: self.metrics.clone(),
            status: self.status.clone(),
        };
        Ok(Running { endpoint, queue, task: service::task::spawn("alertmanager", sender.run()) })
    }

    /// The same for webhooks: what is configured as before goes on with what it knows.
    fn set_webhooks(&mut self) {
        let mut old = std::mem::take(&mut self.webhooks);
        for config in self.config.alerting.webhooks.clone() {
            let same = old.iter().position(|running| running.config == config && !running.task.is_finished());
            let running = same.map(|index| old.swap_remove(index)).unwrap_or_else(|| self.start_webhook(config));
            self.webhooks.push(running);
        }
        for running in old {
            running.queue.close();
            self.leaving.push(running.task);
        }
    }

    fn start_webhook(&self, config: WebhookConfig) -> RunningWebhook {
        let queue = Arc::new(Queue::new(QUEUE_LEN_MAX));
        let hook = Webhook {
            config: config.clone(),
            queue: queue.clone(),
            clock: self.inputs.clock,
            external_url: self.external_url(),
            state: self.inputs.state.clone(),
            lease: self.inputs.lease.clone(),
            metrics: self.metrics.clone(),
            status: self.status.clone(),
        };
        RunningWebhook { config, queue, task: service::task::spawn("webhook", hook.run()) }
    }

    fn external_url(&self) -> Url {
        self.config.rules.external_url(&self.inputs.listen_url)
    }

    async fn drain(&mut self) {
        let mut tasks = std::mem::take(&mut self.leaving);
        let mut left = Vec::new();
        for running in std::mem::take(&mut self.senders) {
            running.queue.close();
            left.push(running.queue);
            tasks.push(running.task);
        }
        for running in std::mem::take(&mut self.webhooks) {
            running.queue.close();
            left.push(running.queue);
            tasks.push(running.task);
        }
        if tokio::time::timeout(DRAIN_TIMEOUT, futures::future::join_all(tasks)).await.is_err() {
            let alerts: usize = left.iter().map(|queue| queue.len()).sum();
            self.metrics.dropped("stopping", alerts);
            tracing::warn!(alerts, "alerts could not be sent before the stop");
        }
        if let Some(state) = &self.inputs.state {
            let before = self.inputs.clock.now() - EVIDENCE_RETENTION;
            // A failure is counted by the state; the next stop tries again.
            let _ = state.forget_evidence(before).await;
        }
    }
}

async fn remembered(state: Option<&State>, fingerprint: Fingerprint, fired_at: Timestamp) -> Option<Labels> {
    let fingerprint = fingerprint.to_string();
    let row = tokio::time::timeout(REMEMBER_TIMEOUT, state?.evidence(&fingerprint)).await.ok()?.ok().flatten()?;
    (row.fired_at == fired_at).then_some(row.annotations)
}

/// Of two replicas that gathered at once, the first to save is right for both.
async fn remember(
    state: Option<&State>,
    fingerprint: Fingerprint,
    fired_at: Timestamp,
    found: Labels,
    now: Timestamp,
) -> Labels {
    let Some(state) = state else { return found };
    let row =
        EvidenceRow { fingerprint: fingerprint.to_string(), fired_at, annotations: found.clone(), gathered_at: now };
    match tokio::time::timeout(REMEMBER_TIMEOUT, state.save_evidence(&row)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "failed to save evidence");
            return found;
        }
        // It may be saved yet; this replica does not wait for it.
        Err(_) => return found,
    }
    remembered(Some(state), fingerprint, fired_at).await.unwrap_or(found)
}
