//! What changed in the last hour: the question after every alert.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use telemetry::names::label::SERVICE;
use telemetry::{Labels, Timestamp};

use super::alerts;
use super::services::ServiceKey;
use crate::rules;

const REACH: Duration = Duration::from_secs(3600);
/// The newest; a longer list is not read.
const SHOWN_MAX: usize = 15;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Change {
    pub at: Timestamp,
    /// How it is marked: a severity or `ok`.
    pub state: &'static str,
    pub text: String,
    /// Two or three words for the charts; None where a line across them would only disturb.
    pub mark: Option<String>,
}

/// The alert that ended last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Resolved {
    at: Timestamp,
    text: String,
}

/// How many tasks each service had, at even times.
pub(super) type TaskCounts = BTreeMap<ServiceKey, Vec<(Timestamp, f64)>>;

/// The newest first.
pub(super) fn newest(mut changes: Vec<Change>, now: Timestamp) -> Vec<Change> {
    changes.retain(|change| now.since(change.at) <= REACH);
    changes.sort_by_key(|change| Reverse(change.at));
    changes.truncate(SHOWN_MAX);
    changes
}

pub(super) fn started(at: Timestamp) -> Change {
    Change { at, state: "ok", text: "collector started".to_owned(), mark: None }
}

/// Alerts that began to fire, and alerts that ended; one that fires on purpose changes nothing.
pub(super) fn of_alerts(rules: &rules::Status) -> Vec<Change> {
    let mut changes = Vec::new();
    for group in rules.groups() {
        let alertings = group.rules.iter().filter_map(|rule| rule.alerting.as_ref());
        let alerts = alertings.flat_map(|alerting| &alerting.alerts);
        for alert in alerts.filter(|alert| alert.labels.get("severity") != Some(alerts::NONE)) {
            let name = alerts::name(&alert.labels);
            let place = on(&alert.labels);
            let state = if alert.labels.get("severity") == Some("critical") { "critical" } else { "warning" };
            if let Some(at) = alert.fired_at {
                changes.push(Change { at, state, text: format!("{name} fires{place}"), mark: Some(name.clone()) });
            }
            if let (Some(at), Some(_)) = (alert.resolved_at, alert.fired_at) {
                let mark = Some(format!("{name} ends"));
                changes.push(Change { at, state: "ok", text: format!("{name} resolved{place}"), mark });
            }
        }
    }
    changes
}

/// None while nothing has resolved since the rules remember.
pub(super) fn last_resolved(rules: &rules::Status) -> Option<Resolved> {
    let groups = rules.groups();
    let rules = groups.iter().flat_map(|group| &group.rules);
    let alerts = rules.filter_map(|rule| rule.alerting.as_ref()).flat_map(|alerting| &alerting.alerts);
    let resolved = alerts.filter(|alert| alert.fired_at.is_some()).filter_map(|alert| {
        let text = format!("{}{}", alerts::name(&alert.labels), on(&alert.labels));
        Some(Resolved { at: alert.resolved_at?, text })
    });
    resolved.max_by_key(|resolved| resolved.at)
}

/// The rule files were read again, or could not be.
pub(super) fn of_reload(rules: &rules::Status, started: Timestamp) -> Option<Change> {
    let reload = rules.reload()?;
    match reload.error {
        Some(why) => {
            Some(Change { at: reload.at, state: "warning", text: format!("rule files not used: {why}"), mark: None })
        }
        // The first reading belongs to the start.
        None if reload.at.since(started) < Duration::from_secs(10) => None,
        None => Some(Change {
            at: reload.at,
            state: "ok",
            text: "rule files read".to_owned(),
            mark: Some("rules".to_owned()),
        }),
    }
}

/// Services that got or lost tasks.
pub(super) fn of_tasks(counts: &TaskCounts) -> Vec<Change> {
    let mut changes = Vec::new();
    for (key, points) in counts {
        for pair in points.windows(2) {
            let [(_, before), (at, after)] = pair else { continue };
            if before == after {
                continue;
            }
            let text = format!("{}: {before} \u{2192} {after} tasks", key.service);
            changes.push(Change { at: *at, state: "info", text, mark: Some(format!("{} {after}", key.service)) });
        }
    }
    changes
}

/// ` on order`, or nothing.
fn on(labels: &Labels) -> String {
    labels.get(SERVICE).map(|service| format!(" on {service}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn only_the_last_hour_newest_first() {
        let changes = [10, 3700, 3800].map(|seconds| started(at(seconds))).to_vec();
        let seen: Vec<i64> = newest(changes, at(4000)).iter().map(|change| change.at.as_millis() / 1000).collect();
        assert_eq!(seen, [3800, 3700]);
    }

    #[test]
    fn a_change_of_the_number_of_tasks_is_told_once() {
        let key = ServiceKey { environment: "demo".into(), service: "product".into() };
        let points = vec![(at(0), 1.0), (at(15), 1.0), (at(30), 3.0), (at(45), 3.0)];
        let told = of_tasks(&TaskCounts::from([(key, points)]));
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].at, told[0].text.as_str()), (at(30), "product: 1 \u{2192} 3 tasks"));
    }
}
