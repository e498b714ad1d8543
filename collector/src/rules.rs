//! Alert and recording rules: rule files in, query results judged, alerts out.
//!
//! One task per group evaluates on the group's own grid. Recorded samples and `ALERTS` go back to the writer,
//! notices go on to [`crate::notify`], what the API shows stands in [`Status`]. A reload keeps the state of
//! what did not change; a bad file leaves the old rules running and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use telemetry::{Labels, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use url::Url;

use crate::clock::Clock;
use crate::config::{Config as WholeConfig, ConfigWatch};
use crate::file_changes::FileChanges;
use crate::notify::Outbox;
use crate::query::Querier;
use crate::state::State;
use crate::write::{Origin, WriteHandle};

pub mod file;
pub mod template;

pub mod alerting;
pub mod group;
pub mod recording;

pub mod backtest;
pub mod lint;
mod live;
mod metrics;
pub mod noise;
mod order;
mod paths;
mod restore;
mod status;
pub mod tools;
pub mod unit_test;

use file::{GroupSpec, NameValidation, RuleFileError};
use group::{Grid, Group, GroupTiming};
use live::{GroupTask, Live};
use metrics::RuleMetrics;
use restore::Memory;
pub use status::{AlertStatus, AlertingStatus, GroupStatus, Reload, RuleStatus, Status};
use template::Globals;

/// How often the rule files are looked at where the kernel announces no changes (network file systems).
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// The `rules:` block: what Prometheus takes from its command line.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where people reach this collector: links in alerts begin with it. The listening address when absent.
    pub external_url: Option<ExternalUrl>,
    /// How long a firing alert waits before it is sent again.
    #[serde(with = "service::config::duration")]
    pub resend_delay: Duration,
    /// State older than this is not taken up after a restart.
    #[serde(with = "service::config::duration")]
    pub for_outage_tolerance: Duration,
    /// After an outage, a pending alert with a longer `for` waits at least this long before it fires.
    #[serde(with = "service::config::duration")]
    pub for_grace_period: Duration,
    /// How long after a restart an alert is kept that the storage does not show yet.
    #[serde(with = "service::config::duration")]
    pub restore_hold: Duration,
    /// Rules are asked as of this long ago, so that late samples count; a group may say otherwise.
    #[serde(with = "service::config::duration")]
    pub query_offset: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            external_url: None,
            // Prometheus' own: rules.alert.resend-delay, for-outage-tolerance, for-grace-period.
            resend_delay: Duration::from_secs(60),
            for_outage_tolerance: Duration::from_secs(3600),
            for_grace_period: Duration::from_secs(600),
            // Eight scrapes at the usual 15 s: enough for every rate to exist again.
            restore_hold: Duration::from_secs(120),
            query_offset: Duration::ZERO,
        }
    }
}

impl Config {
    /// Where people reach this collector.
    pub fn external_url(&self, listen_url: &Url) -> Url {
        self.external_url.as_ref().map_or_else(|| listen_url.clone(), |url| url.0.clone())
    }
}

/// An absolute http or https URL.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExternalUrl(Url);

impl TryFrom<String> for ExternalUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match Url::parse(&text) {
            Ok(url) if ["http", "https"].contains(&url.scheme()) => Ok(ExternalUrl(url)),
            _ => Err(format!("{text:?} is no URL; write for example https://picket.example.com")),
        }
    }
}

impl From<ExternalUrl> for String {
    fn from(url: ExternalUrl) -> Self {
        url.0.into()
    }
}

/// The handles that the stage needs.
pub struct Inputs {
    pub config: ConfigWatch,
    /// Counts the reloads that found the configuration as it was.
    pub repeated: watch::Receiver<u64>,
    pub clock: Clock,
    pub querier: Querier,
    pub write: WriteHandle,
    pub outbox: Outbox,
    /// None: alerts do not survive a restart.
    pub state: Option<State>,
    /// Where this collector listens, for links when `rules.external_url` is absent.
    pub listen_url: Url,
}

/// Why the rules cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("{0}")]
    Path(String),
    #[error(transparent)]
    File(#[from] RuleFileError),
}

/// Reads the rule files and starts evaluating.
///
/// # Errors
/// A rule file that is missing or wrong: at the start there are no old rules to go on with.
pub fn spawn(inputs: Inputs, metrics: &Metrics, tasks: &mut Tasks, shutdown: Shutdown) -> Result<Status, RulesError> {
    let status = Status::default();
    let memory = inputs.state.clone().map(Memory::new);
    let started = inputs.clock.now();
    let mut config = inputs.config.clone();
    let first = config.borrow_and_update().clone();
    let wanted = wanted(&first, &inputs.listen_url)?;
    status.reloaded(Reload { at: inputs.clock.now(), error: None });
    // Whoever asks before the saved state is there sees the groups too, not yet evaluated.
    for (spec, timing) in wanted.groups.values() {
        status.publish(&Group::new(spec.clone(), *timing));
    }
    let manager = Manager {
        config,
        repeated: inputs.repeated,
        live: Live { querier: inputs.querier, write: inputs.write },
        clock: inputs.clock,
        outbox: inputs.outbox,
        memory: memory.clone(),
        listen_url: inputs.listen_url,
        status: status.clone(),
        metrics: RuleMetrics::register(metrics),
        shutdown,
        running: BTreeMap::new(),
        orphans: Vec::new(),
    };
    // The memory outlives the groups: it stops when they have made their last offer.
    let memory_stop = Shutdown::new();
    if let Some(memory) = memory {
        tasks.spawn("alert state", memory.run(memory_stop.clone(), started));
    }
    tasks.spawn("rules", async move {
        manager.run(wanted).await;
        memory_stop.request();
        Ok(())
    });
    Ok(status)
}

/// What is to run: groups by file and name, and what their templates share.
struct Wanted {
    groups: BTreeMap<(String, String), (GroupSpec, GroupTiming)>,
    rule_files: Vec<PathBuf>,
    settings: Config,
    /// Groups begin behind the scrapes.
    scrape_interval: Duration,
}

impl Wanted {
    fn grid(&self, spec: &GroupSpec, timing: &GroupTiming) -> Grid {
        Grid::new(spec, timing.interval, self.scrape_interval)
    }
}

fn wanted(config: &WholeConfig, listen_url: &Url) -> Result<Wanted, RulesError> {
    let globals = Globals {
        external_url: config.rules.external_url(listen_url),
        external_labels: config.global.external_labels.clone(),
    };
    let mut groups = BTreeMap::new();
    let mut problems = Vec::new();
    for path in paths::resolve(&config.rule_files).map_err(RulesError::Path)? {
        match file::load(&path, &globals, NameValidation::Utf8) {
            Ok(file) => {
                for group in file.groups {
                    let timing = GroupTiming {
                        interval: group.interval.unwrap_or(config.global.evaluation_interval),
                        query_offset: group.query_offset.unwrap_or(config.rules.query_offset),
                        resend_delay: config.rules.resend_delay,
                    };
                    groups.insert((group.file.clone(), group.name.clone()), (group, timing));
                }
            }
            Err(RuleFileError(more)) => problems.extend(more),
        }
    }
    if !problems.is_empty() {
        return Err(RuleFileError(problems).into());
    }
    let (rule_files, settings) = (config.rule_files.clone(), config.rules.clone());
    Ok(Wanted { groups, rule_files, settings, scrape_interval: config.global.scrape_interval })
}

/// Checks the rule files that a configuration names.
///
/// # Errors
/// Every mistake in them.
pub fn check(config: &WholeConfig) -> Result<usize, RulesError> {
    let anywhere = Url::parse("http://localhost/").expect("a constant URL");
    Ok(wanted(config, &anywhere)?.groups.values().map(|(group, _)| group.rules.len()).sum())
}

/// The names of all alerts of a configuration.
///
/// # Errors
/// Every mistake in its rule files.
pub fn alert_names(config: &WholeConfig) -> Result<BTreeSet<String>, RulesError> {
    let anywhere = Url::parse("http://localhost/").expect("a constant URL");
    let groups = wanted(config, &anywhere)?.groups;
    let rules = groups.values().flat_map(|(group, _)| &group.rules);
    let alerts = rules.filter(|rule| matches!(rule.kind, file::RuleKind::Alert { .. }));
    Ok(alerts.map(|rule| rule.name().to_owned()).collect())
}

struct Running {
    spec: GroupSpec,
    timing: GroupTiming,
    grid: Grid,
    stop: Shutdown,
    task: JoinHandle<Group>,
}

/// Starts, replaces and stops groups.
struct Manager {
    config: ConfigWatch,
    repeated: watch::Receiver<u64>,
    live: Live,
    clock: Clock,
    outbox: Outbox,
    memory: Option<Memory>,
    listen_url: Url,
    status: Status,
    metrics: RuleMetrics,
    shutdown: Shutdown,
    running: BTreeMap<(String, String), Running>,
    /// Series of rules that are gone, and when they shall end.
    orphans: Vec<(Timestamp, Vec<Labels>)>,
}

impl Manager {
    async fn run(mut self, first: Wanted) {
        let mut changes = FileChanges::new();
        let mut poll = tokio::time::interval(POLL_INTERVAL);
        let mut patterns = first.rule_files.clone();
        let mut seen = paths::state(&patterns);
        self.apply(first, true).await;
        loop {
            changes.watch(paths::directories(&patterns));
            let next_orphan = self.orphans.iter().map(|(due, _)| *due).min();
            let now = self.clock.now();
            tokio::select! {
                () = self.shutdown.requested() => break,
                changed = self.config.changed() => {
                    if changed.is_err() {
                        self.shutdown.requested().await;
                        break;
                    }
                }
                // Whoever asks for a reload need not wait for what the kernel says of the files.
                Ok(()) = self.repeated.changed() => {}
                // The directory may hold other files, logs for one.
                () = changes.changed() => if paths::state(&patterns) == seen { continue },
                _ = poll.tick() => if paths::state(&patterns) == seen { continue },
                () = sleep_until(next_orphan, now) => {
                    self.end_orphans().await;
                    continue;
                }
            }
            let config = self.config.borrow_and_update().clone();
            patterns.clone_from(&config.rule_files);
            seen = paths::state(&patterns);
            if let Some(wanted) = self.reload(&config) {
                self.apply(wanted, false).await;
            }
        }
        for ((_, name), running) in std::mem::take(&mut self.running) {
            running.stop.request();
            if running.task.await.is_err() {
                tracing::error!(group = name, "a rule group's task failed");
            }
        }
    }

    /// Reads the files again; None, and a message, when they cannot be used.
    fn reload(&self, config: &Arc<WholeConfig>) -> Option<Wanted> {
        let result = wanted(config, &self.listen_url);
        let error = result.as_ref().err().map(ToString::to_string);
        self.metrics.reloaded(error.is_none(), self.clock.now());
        self.status.reloaded(Reload { at: self.clock.now(), error: error.clone() });
        match error {
            None => tracing::info!("rule files read again"),
            Some(error) => tracing::error!(error, "rule files cannot be used, the rules from before go on"),
        }
        result.ok()
    }

    async fn apply(&mut self, wanted: Wanted, first: bool) {
        let unchanged = |running: &Running, (spec, timing): &(GroupSpec, GroupTiming)| {
            let same = running.spec == *spec && running.timing == *timing && running.grid == wanted.grid(spec, timing);
            same && !running.task.is_finished()
        };
        let outdated: Vec<_> = self
            .running
            .iter()
            .filter(|(key, running)| !wanted.groups.get(*key).is_some_and(|group| unchanged(running, group)))
            .map(|(key, _)| key.clone())
            .collect();
        let mut old = BTreeMap::new();
        for key in outdated {
            let Some(running) = self.running.remove(&key) else { continue };
            running.stop.request();
            match running.task.await {
                Ok(group) => drop(old.insert(key, group)),
                Err(_) => tracing::error!(group = key.1, "a rule group's task failed, its state is lost"),
            }
        }
        let rules = wanted.groups.values().map(|(spec, _)| spec.rules.len()).sum();
        self.metrics.loaded(wanted.groups.len(), rules);
        let mut new = Vec::new();
        for (key, (spec, timing)) in &wanted.groups {
            if self.running.contains_key(key) {
                continue;
            }
            let mut group = Group::new(spec.clone(), *timing);
            if let Some(old) = old.remove(key) {
                let gone = group.take_over(old);
                self.orphan(gone, timing.interval);
            }
            new.push((key, group));
        }
        if let Some(memory) = self.memory.as_ref().filter(|_| first) {
            let now = self.clock.now();
            // Side by side: where the database does not answer, alerting waits for one timeout, not for each group's.
            let restore = new.iter_mut().map(|(_, group)| memory.restore(group, &wanted.settings, now));
            futures::future::join_all(restore).await;
        }
        for (key, group) in new {
            self.status.publish(&group);
            let grid = wanted.grid(&group.spec, &group.timing);
            let running = self.start(group, grid);
            self.running.insert(key.clone(), running);
        }
        for ((file, name), group) in old {
            self.status.remove(&file, &name);
            let written = group.written().cloned().collect();
            self.orphan(written, group.timing.interval);
        }
    }

    fn start(&self, group: Group, grid: Grid) -> Running {
        let (spec, timing, stop) = (group.spec.clone(), group.timing, Shutdown::new());
        let task = GroupTask {
            grid,
            group,
            live: self.live.clone(),
            clock: self.clock,
            outbox: self.outbox.clone(),
            memory: self.memory.clone(),
            status: self.status.clone(),
            metrics: self.metrics.clone(),
            stop: stop.clone(),
        };
        Running { spec, timing, grid, stop, task: service::task::spawn("rule group", task.run()) }
    }

    /// Series that nobody writes any more end after two intervals, unless another rule took them over.
    fn orphan(&mut self, series: Vec<Labels>, interval: Duration) {
        if !series.is_empty() {
            self.orphans.push((self.clock.now() + 2 * interval, series));
        }
    }

    async fn end_orphans(&mut self) {
        let now = self.clock.now();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.orphans).into_iter().partition(|(at, _)| *at <= now);
        self.orphans = later;
        let written = self.status.written();
        let orphans = due.into_iter().flat_map(|(_, series)| series);
        let ended: Vec<_> = orphans.filter(|labels| !written.iter().any(|set| set.contains(labels))).collect();
        if self.live.write.write(group::stale_markers(&ended, now), Origin::Rules).await.is_err() {
            tracing::debug!("the writer has stopped before the series of old rules were ended");
        }
    }
}

async fn sleep_until(at: Option<Timestamp>, now: Timestamp) {
    match at {
        Some(at) => tokio::time::sleep(at.since(now)).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod compliance;
#[cfg(test)]
mod tests;
