//! Alert state over a restart: groups offer what they know, SQL keeps it, the next process takes it up.
//!
//! Saving is level-triggered and never in the way of an evaluation: only the newest offer of a group counts,
//! and it is tried again until the database has it. Where there is no database, nothing is remembered and
//! everything else goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use service::Shutdown;
use service::backoff::Backoff;
use telemetry::Timestamp;
use tokio::sync::Notify;

use super::Config;
use super::alerting::{Alert, AlertState, RESOLVED_RETENTION};
use super::file::{ALERT_NAME, RuleKind};
use super::group::Group;
use crate::state::{AlertRow, FiringRow, GroupRows, State};

/// A database that refuses is asked again, at first soon.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// Away for at most this many intervals (and at least a minute): a restart, in which time went on counting.
const RESTART_INTERVALS: u32 = 4;
const RESTART_MIN: Duration = Duration::from_secs(60);

/// A season of noise is enough to judge an alert by.
const HISTORY_RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);

type Rows = BTreeMap<(String, String), AlertRow>;

/// Where groups leave what they know; clones share it.
#[derive(Clone)]
pub(super) struct Memory(Arc<Inner>);

struct Inner {
    state: State,
    offered: Mutex<BTreeMap<String, (Timestamp, Rows)>>,
    wake: Notify,
}

/// The name of a group in SQL: the file's name without its directory, which differs between images.
pub(super) fn group_key(group: &Group) -> String {
    let file = std::path::Path::new(&group.spec.file).file_name().map(|name| name.to_string_lossy().into_owned());
    format!("{}/{}", file.unwrap_or_default(), group.spec.name)
}

impl Memory {
    pub(super) fn new(state: State) -> Self {
        Memory(Arc::new(Inner { state, offered: Mutex::default(), wake: Notify::new() }))
    }

    /// Replaces what the group offered before.
    pub(super) fn offer(&self, group: &Group) {
        let Some(evaluated_at) = group.last_evaluation else { return };
        self.0.offered.lock().expect("no one panics holding it").insert(group_key(group), (evaluated_at, rows(group)));
        self.0.wake.notify_one();
    }

    /// Puts the alerts that SQL knows into a group that has just been made; failing that, says so and goes on.
    pub(super) async fn restore(&self, group: &mut Group, config: &Config, now: Timestamp) {
        match self.0.state.load_group(&group_key(group)).await {
            Ok(rows) => restore(group, rows, config, now),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(group = group.spec.name, error, "failed to load alert state, starting without it");
            }
        }
    }

    /// Writes offers until the stop, then what is left.
    pub(super) async fn run(self, shutdown: Shutdown, now: Timestamp) -> anyhow::Result<()> {
        // A failure is counted by the state; the next start tries again.
        let _ = self.0.state.forget_firings(now - HISTORY_RETENTION).await;
        let mut saved = BTreeMap::new();
        let mut failures = 0;
        loop {
            let stopping = tokio::select! {
                () = self.0.wake.notified() => false,
                () = shutdown.requested() => true,
            };
            match self.save(&mut saved).await {
                Ok(()) if failures > 0 => {
                    tracing::info!(failures, "alert state is saved again");
                    failures = 0;
                }
                Ok(()) => {}
                Err(error) => {
                    // Once when it begins and then every tenth time: the counter has them all.
                    if failures % 10 == 0 {
                        let error = format!("{:#}", anyhow::Error::from(error));
                        tracing::error!(failures, error, "failed to save alert state, alerting goes on without it");
                    }
                    failures += 1;
                    tokio::select! {
                        () = tokio::time::sleep(RETRY.delay(failures)) => self.0.wake.notify_one(),
                        () = shutdown.requested() => {}
                    }
                }
            }
            if stopping {
                return Ok(());
            }
        }
    }

    async fn save(&self, saved: &mut BTreeMap<String, Rows>) -> Result<(), crate::state::StateError> {
        loop {
            let next = self.0.offered.lock().expect("no one panics holding it").pop_first();
            let Some((group, (evaluated_at, rows))) = next else { return Ok(()) };
            let result = self.save_group(saved, &group, evaluated_at, &rows).await;
            if let Err(error) = result {
                let mut offered = self.0.offered.lock().expect("no one panics holding it");
                offered.entry(group).or_insert((evaluated_at, rows));
                return Err(error);
            }
            saved.insert(group, rows);
        }
    }

    async fn save_group(
        &self,
        saved: &mut BTreeMap<String, Rows>,
        group: &str,
        evaluated_at: Timestamp,
        rows: &Rows,
    ) -> Result<(), crate::state::StateError> {
        // What the database holds from before this process is read once, so that what is gone is deleted.
        if !saved.contains_key(group) {
            let known = self.0.state.load_group(group).await?.alerts.into_iter();
            let known = known.map(|row| ((row.rule_key.clone(), row.fingerprint.clone()), row)).collect();
            saved.insert(group.to_owned(), known);
        }
        let old = &saved[group];
        let changed = rows.iter().filter(|(key, row)| old.get(*key).is_none_or(|old| differs(old, row)));
        let changed: Vec<_> = changed.map(|(_, row)| row.clone()).collect();
        let gone: BTreeSet<_> = old.keys().filter(|key| !rows.contains_key(*key)).cloned().collect();
        if gone.is_empty() && rows.is_empty() {
            return Ok(());
        }
        self.0.state.save_group(group, evaluated_at, &changed, &gone).await?;
        let fired = changed.iter().filter(|row| {
            let before = old.get(&(row.rule_key.clone(), row.fingerprint.clone()));
            before.is_none_or(|old| (old.fired_at, old.resolved_at) != (row.fired_at, row.resolved_at))
        });
        let firings: Vec<FiringRow> = fired.filter_map(|row| firing(group, row)).collect();
        if firings.is_empty() { Ok(()) } else { self.0.state.note_firings(&firings).await }
    }
}

/// What the history keeps of an alert that has fired.
fn firing(group: &str, row: &AlertRow) -> Option<FiringRow> {
    Some(FiringRow {
        rule_group: group.to_owned(),
        alert: row.labels.get(ALERT_NAME)?.to_owned(),
        fingerprint: row.fingerprint.clone(),
        fired_at: row.fired_at?,
        resolved_at: row.resolved_at,
        labels: row.labels.clone(),
    })
}

/// Value and annotations change with every evaluation and are not worth a write of their own.
fn differs(old: &AlertRow, new: &AlertRow) -> bool {
    let identity = |row: &AlertRow| {
        (row.state.clone(), row.active_at, row.fired_at, row.keep_firing_since, row.resolved_at, row.last_sent_at)
    };
    identity(old) != identity(new)
}

fn rows(group: &Group) -> Rows {
    let mut rows = Rows::new();
    for (key, rule) in group.rule_keys().into_iter().zip(&group.rules) {
        for alert in rule.alerts.iter() {
            let row = row(&key, alert);
            rows.insert((row.rule_key.clone(), row.fingerprint.clone()), row);
        }
    }
    rows
}

fn row(rule_key: &str, alert: &Alert) -> AlertRow {
    AlertRow {
        rule_key: rule_key.to_owned(),
        fingerprint: alert.fingerprint().to_string(),
        state: alert.state.as_str().to_owned(),
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        value: alert.value,
        active_at: alert.active_at,
        fired_at: alert.fired_at,
        keep_firing_since: alert.keep_firing_since,
        resolved_at: alert.resolved_at,
        last_sent_at: alert.last_sent_at,
    }
}

/// Puts rows into the rules they belong to. Pure.
pub(super) fn restore(group: &mut Group, rows: GroupRows, config: &Config, now: Timestamp) {
    let Some(evaluated_at) = rows.evaluated_at else { return };
    let away = now.since(evaluated_at);
    if away > config.for_outage_tolerance {
        return;
    }
    let restart = (group.timing.interval * RESTART_INTERVALS).max(RESTART_MIN);
    let mut by_rule = BTreeMap::<String, Vec<AlertRow>>::new();
    for row in rows.alerts {
        by_rule.entry(row.rule_key.clone()).or_default().push(row);
    }
    let keys = group.rule_keys();
    for (key, rule) in keys.into_iter().zip(&mut group.rules) {
        let RuleKind::Alert { hold, .. } = &rule.spec.kind else { continue };
        let outage =
            (away > restart).then_some(Outage { began: evaluated_at, ended: now, grace: config.for_grace_period });
        let rows = by_rule.remove(&key).unwrap_or_default();
        rule.alerts.restore(rows.into_iter().filter_map(|row| {
            let mut alert = alert(row)?;
            match alert.state {
                AlertState::Inactive if now.since(alert.resolved_at?) > RESOLVED_RETENTION => return None,
                AlertState::Inactive | AlertState::Firing => {}
                AlertState::Pending => alert.active_at = active_after(alert.active_at, *hold, outage.as_ref()),
            }
            alert.held_until = Some(now + config.restore_hold);
            Some(alert)
        }));
    }
}

/// A time in which nobody evaluated.
struct Outage {
    began: Timestamp,
    ended: Timestamp,
    grace: Duration,
}

/// Since when a pending alert counts as active. A short restart changes nothing; an outage does not count
/// towards `for`, and after it a long `for` has at least the grace period to go (prometheus rules/group.go,
/// `RestoreForState`).
fn active_after(active_at: Timestamp, hold: Duration, outage: Option<&Outage>) -> Timestamp {
    let Some(outage) = outage else { return active_at };
    let remaining = hold.saturating_sub(outage.began.since(active_at));
    if remaining.is_zero() {
        active_at
    } else if remaining < outage.grace && hold >= outage.grace {
        outage.ended + outage.grace - hold
    } else {
        active_at + outage.ended.since(outage.began)
    }
}

/// None for a row that makes no sense.
fn alert(row: AlertRow) -> Option<Alert> {
    Some(Alert {
        state: AlertState::parse(&row.state)?,
        labels: row.labels,
        annotations: row.annotations,
        value: row.value,
        active_at: row.active_at,
        fired_at: row.fired_at,
        keep_firing_since: row.keep_firing_since,
        resolved_at: row.resolved_at,
        last_sent_at: row.last_sent_at,
        held_until: None,
    })
}

#[cfg(test)]
mod tests;
