//! What the API and the UI show of the rules: snapshots that cost a pointer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use telemetry::{Labels, Timestamp};

use super::alerting::{AlertState, Fingerprint};
use super::file::RuleKind;
use super::group::{Group, Rule, RuleHealth};

/// The rules of the moment; clones share it.
#[derive(Clone, Default)]
pub struct Status(Arc<RwLock<Inner>>);

#[derive(Default)]
struct Inner {
    /// By file and name, the order in which Prometheus lists them.
    groups: BTreeMap<(String, String), Arc<GroupStatus>>,
    reload: Option<Reload>,
}

/// The last attempt to read the rule files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    pub at: Timestamp,
    /// Why the files could not be used; the rules from before are still running then.
    pub error: Option<String>,
}

#[derive(Clone, Debug)]
pub struct GroupStatus {
    pub name: String,
    pub file: String,
    pub interval: Duration,
    pub query_offset: Duration,
    pub limit: usize,
    pub last_evaluation: Option<Timestamp>,
    pub evaluation_time: Duration,
    pub rules: Vec<RuleStatus>,
    /// The series of the last evaluation, by rule.
    written: Vec<Arc<BTreeSet<Labels>>>,
}

#[derive(Clone, Debug)]
pub struct RuleStatus {
    pub name: String,
    pub query: String,
    pub labels: Labels,
    pub health: RuleHealth,
    pub last_evaluation: Option<Timestamp>,
    pub evaluation_time: Duration,
    /// None for a recording rule.
    pub alerting: Option<AlertingStatus>,
}

#[derive(Clone, Debug)]
pub struct AlertingStatus {
    /// The liveliest state among its alerts; inactive when there are none.
    pub state: AlertState,
    /// `for`.
    pub hold: Duration,
    pub keep_firing_for: Duration,
    pub annotations: Labels,
    /// Pending and firing ones, and those that resolved within the last quarter of an hour.
    pub alerts: Vec<AlertStatus>,
}

#[derive(Clone, Debug)]
pub struct AlertStatus {
    /// The key of the delivery status in the notify stage.
    pub fingerprint: Fingerprint,
    pub state: AlertState,
    pub labels: Labels,
    /// As the rule wrote them; evidence is added by the notify stage.
    pub annotations: Labels,
    pub value: f64,
    pub active_at: Timestamp,
    pub fired_at: Option<Timestamp>,
    pub keep_firing_since: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
}

impl Status {
    /// All groups, by file and name.
    pub fn groups(&self) -> Vec<Arc<GroupStatus>> {
        self.0.read().expect("no one panics holding it").groups.values().cloned().collect()
    }

    /// Every alert that is pending or firing, with the group and rule it belongs to.
    pub fn active_alerts(&self) -> Vec<(Arc<GroupStatus>, usize, AlertStatus)> {
        let mut active = Vec::new();
        for group in self.groups() {
            for (index, rule) in group.rules.iter().enumerate() {
                let alerts = rule.alerting.iter().flat_map(|alerting| &alerting.alerts);
                let alerts = alerts.filter(|alert| alert.state != AlertState::Inactive);
                active.extend(alerts.map(|alert| (group.clone(), index, alert.clone())));
            }
        }
        active
    }

    /// The last attempt to read the rule files; None before the first.
    pub fn reload(&self) -> Option<Reload> {
        self.0.read().expect("no one panics holding it").reload.clone()
    }

    pub(super) fn publish(&self, group: &Group) {
        let key = (group.spec.file.clone(), group.spec.name.clone());
        let status = Arc::new(GroupStatus::of(group));
        self.0.write().expect("no one panics holding it").groups.insert(key, status);
    }

    /// The series that rules write, in sets by rule.
    pub(super) fn written(&self) -> Vec<Arc<BTreeSet<Labels>>> {
        self.groups().iter().flat_map(|group| group.written.clone()).collect()
    }

    pub(super) fn remove(&self, file: &str, name: &str) {
        self.0.write().expect("no one panics holding it").groups.remove(&(file.to_owned(), name.to_owned()));
    }

    pub(super) fn reloaded(&self, reload: Reload) {
        self.0.write().expect("no one panics holding it").reload = Some(reload);
    }
}

impl GroupStatus {
    fn of(group: &Group) -> Self {
        GroupStatus {
            name: group.spec.name.clone(),
            file: group.spec.file.clone(),
            interval: group.timing.interval,
            query_offset: group.timing.query_offset,
            limit: group.spec.limit,
            last_evaluation: group.last_evaluation,
            evaluation_time: group.evaluation_time,
            rules: group.rules.iter().map(RuleStatus::of).collect(),
            written: group.rules.iter().map(|rule| rule.written.clone()).collect(),
        }
    }
}

impl RuleStatus {
    fn of(rule: &Rule) -> Self {
        let sources = |texts: &[(String, super::template::Template)]| -> Labels {
            Labels::from_pairs(texts.iter().map(|(name, text)| (name.as_str(), text.source())))
        };
        let alerting = match &rule.spec.kind {
            RuleKind::Record { .. } => None,
            RuleKind::Alert { hold, keep_firing_for, annotations, .. } => Some(AlertingStatus {
                state: rule.alerts.iter().map(|alert| alert.state).max().unwrap_or(AlertState::Inactive),
                hold: *hold,
                keep_firing_for: *keep_firing_for,
                annotations: sources(annotations),
                alerts: rule.alerts.iter().map(AlertStatus::of).collect(),
            }),
        };
        RuleStatus {
            name: rule.spec.name().to_owned(),
            query: rule.spec.expr.clone(),
            labels: sources(&rule.spec.labels),
            health: rule.health.clone(),
            last_evaluation: rule.last_evaluation,
            evaluation_time: rule.evaluation_time,
            alerting,
        }
    }
}

impl AlertStatus {
    fn of(alert: &super::alerting::Alert) -> Self {
        AlertStatus {
            fingerprint: alert.fingerprint(),
            state: alert.state,
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            value: alert.value,
            active_at: alert.active_at,
            fired_at: alert.fired_at,
            keep_firing_since: alert.keep_firing_since,
            resolved_at: alert.resolved_at,
        }
    }
}
