//! The life of an alert: pending, firing, resolved, forgotten. Pure: time is an argument.
//!
//! In: what a rule's expression returned at a time, templates expanded. Out: the `ALERTS` series and the
//! notices that are due. Follows prometheus rules/alerting.go (`Eval`, `needsSending`, `sendAlerts`); beyond
//! it, an alert restored from SQL is held for a while although the young storage does not show it yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use telemetry::labels::METRIC_NAME;
use telemetry::{Labels, Sample, Timestamp};

use super::file::ALERT_NAME;

/// How long a resolved alert is kept and re-sent (rules/alerting.go, `resolvedRetention`).
pub const RESOLVED_RETENTION: Duration = Duration::from_secs(15 * 60);
const ALERTS: &str = "ALERTS";
const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";
const ALERT_STATE: &str = "alertstate";

/// What an alert is called everywhere: Alertmanager's hash of its labels (FNV-1a, 64 bits).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// prometheus/common model/labelset.go: each name and value, both followed by a byte that UTF-8 cannot hold.
    pub fn of(labels: &Labels) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        for (name, value) in labels.iter() {
            name.bytes().for_each(&mut add);
            add(0xff);
            value.bytes().for_each(&mut add);
            add(0xff);
        }
        Fingerprint(hash)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Was firing, is not any more.
    Inactive,
    /// True, but not yet for as long as `for` asks.
    Pending,
    Firing,
}

impl AlertState {
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Inactive => "inactive",
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [AlertState::Inactive, AlertState::Pending, AlertState::Firing].into_iter().find(|s| s.as_str() == text)
    }
}

/// One alert of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub labels: Labels,
    pub annotations: Labels,
    pub state: AlertState,
    /// Of the expression, when it was last true.
    pub value: f64,
    pub active_at: Timestamp,
    pub fired_at: Option<Timestamp>,
    /// Since when it only fires because of `keep_firing_for`.
    pub keep_firing_since: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
    pub last_sent_at: Option<Timestamp>,
    /// Restored and not seen since: until then its absence is our ignorance, not its end.
    pub held_until: Option<Timestamp>,
}

impl Alert {
    fn new(observed: Observed, at: Timestamp) -> Self {
        Alert {
            labels: observed.labels,
            annotations: observed.annotations,
            state: AlertState::Pending,
            value: observed.value,
            active_at: at,
            fired_at: None,
            keep_firing_since: None,
            resolved_at: None,
            last_sent_at: None,
            held_until: None,
        }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.labels)
    }

    /// rules/alerting.go, `needsSending`.
    fn needs_sending(&self, at: Timestamp, resend_delay: Duration) -> bool {
        if self.state == AlertState::Pending {
            return false;
        }
        let Some(last_sent_at) = self.last_sent_at else { return true };
        self.resolved_at.is_some_and(|resolved_at| resolved_at > last_sent_at) || last_sent_at + resend_delay < at
    }
}

/// One element of a rule's result, templates expanded.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    pub labels: Labels,
    pub annotations: Labels,
    pub value: f64,
}

/// An alert on its way to whoever is to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    pub fingerprint: Fingerprint,
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at: Timestamp,
    /// When it resolved, or until when it counts as firing if nobody says so again.
    pub ends_at: Timestamp,
    pub resolved: bool,
    /// The expression, for the link back.
    pub expr: String,
}

/// How long a rule waits before it fires and after it stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// `for`.
    pub hold: Duration,
    pub keep_firing_for: Duration,
}

/// Why a rule's result cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlertingError {
    #[error("vector contains metrics with the same labelset after applying alert labels")]
    DuplicateLabels,
    #[error("exceeded limit of {limit} with {active} alerts")]
    Limit { limit: usize, active: usize },
}

/// The alerts of one rule, by their labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActiveAlerts(BTreeMap<Labels, Alert>);

impl ActiveAlerts {
    pub fn iter(&self) -> impl Iterator<Item = &Alert> {
        self.0.values()
    }

    /// Puts alerts back that were remembered elsewhere.
    pub fn restore(&mut self, alerts: impl IntoIterator<Item = Alert>) {
        self.0.extend(alerts.into_iter().map(|alert| (alert.labels.clone(), alert)));
    }

    /// Takes what the expression returned at `at` and moves every alert on.
    ///
    /// # Errors
    /// Two results with one label set change nothing; more than `limit` alerts (0: no limit) forget them all,
    /// as Prometheus does.
    pub fn advance(
        &mut self,
        at: Timestamp,
        timing: Timing,
        limit: usize,
        observed: Vec<Observed>,
    ) -> Result<(), AlertingError> {
        let mut seen = BTreeSet::new();
        if !observed.iter().all(|o| seen.insert(o.labels.clone())) {
            return Err(AlertingError::DuplicateLabels);
        }
        for new in observed {
            match self.0.get_mut(&new.labels) {
                Some(alert) if alert.state != AlertState::Inactive => {
                    alert.value = new.value;
                    alert.annotations = new.annotations;
                    alert.held_until = None;
                }
                _ => drop(self.0.insert(new.labels.clone(), Alert::new(new, at))),
            }
        }
        self.0.retain(|labels, alert| match seen.contains(labels) {
            true => {
                alert.keep_firing_since = None;
                move_on(alert, at, timing.hold);
                true
            }
            false => outlives_absence(alert, at, timing.keep_firing_for),
        });
        let active = self.iter().filter(|alert| alert.state != AlertState::Inactive).count();
        if limit > 0 && active > limit {
            self.0.clear();
            return Err(AlertingError::Limit { limit, active });
        }
        Ok(())
    }

    /// `ALERTS` and `ALERTS_FOR_STATE` of every alert that is pending or firing.
    pub fn samples(&self, at: Timestamp) -> Vec<Sample> {
        let mut samples = Vec::new();
        for alert in self.iter().filter(|alert| alert.state != AlertState::Inactive) {
            let mut labels = alert.labels.to_builder();
            labels.set(METRIC_NAME, ALERTS).set(ALERT_STATE, alert.state.as_str());
            samples.push(Sample { labels: labels.build(), timestamp: at, value: 1.0 });
            let active_at = alert.active_at.as_millis().div_euclid(1000) as f64;
            let labels = alert.labels.with(METRIC_NAME, ALERTS_FOR_STATE);
            samples.push(Sample { labels, timestamp: at, value: active_at });
        }
        samples
    }

    /// The notices that are due at `at`; they count as sent.
    pub fn take_due(&mut self, at: Timestamp, resend_delay: Duration, interval: Duration, expr: &str) -> Vec<Notice> {
        // Four times: two failed evaluations or deliveries do not resolve an alert.
        let valid_until = at + 4 * resend_delay.max(interval);
        let due = self.0.values_mut().filter(|alert| alert.needs_sending(at, resend_delay));
        due.map(|alert| {
            alert.last_sent_at = Some(at);
            Notice {
                fingerprint: alert.fingerprint(),
                labels: alert.labels.clone(),
                annotations: alert.annotations.clone(),
                starts_at: alert.fired_at.unwrap_or(alert.active_at),
                ends_at: alert.resolved_at.unwrap_or(valid_until),
                resolved: alert.resolved_at.is_some(),
                expr: expr.to_owned(),
            }
        })
        .collect()
    }
}

fn move_on(alert: &mut Alert, at: Timestamp, hold: Duration) {
    let held = at.since(alert.active_at) >= hold;
    if alert.state == AlertState::Pending && held {
        alert.state = AlertState::Firing;
        alert.fired_at = Some(at);
    } else if alert.state == AlertState::Firing && !held {
        // A reload raised `for`.
        alert.state = AlertState::Pending;
        alert.fired_at = None;
    }
}

/// What becomes of an alert that the expression did not return; false forgets it.
fn outlives_absence(alert: &mut Alert, at: Timestamp, keep_firing_for: Duration) -> bool {
    match alert.state {
        AlertState::Inactive => alert.resolved_at.is_some_and(|resolved| at.since(resolved) <= RESOLVED_RETENTION),
        _ if alert.held_until.is_some_and(|until| at < until) => true,
        AlertState::Pending => false,
        AlertState::Firing => {
            let kept =
                !keep_firing_for.is_zero() && at.since(*alert.keep_firing_since.get_or_insert(at)) < keep_firing_for;
            if !kept {
                alert.state = AlertState::Inactive;
                alert.resolved_at = Some(at);
                alert.held_until = None;
            }
            true
        }
    }
}

/// The labels of an alert: the result's without the metric's name, the rule's over them, the name on top.
pub fn alert_labels(result: &Labels, rule_labels: &[(String, String)], alert_name: &str) -> Labels {
    let mut labels = result.to_builder();
    labels.remove(METRIC_NAME);
    for (name, value) in rule_labels {
        labels.set(name, value);
    }
    labels.set(ALERT_NAME, alert_name);
    labels.build()
}

#[cfg(test)]
mod tests;
