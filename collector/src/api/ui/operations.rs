//! What the collector does in AWS: whether the dashboards are as published, what the schedules did and do next.

use serde::Serialize;
use telemetry::Timestamp;

use super::changes::Change;
use crate::api::Sources;
use crate::publish::{self, DashboardStatus};
use crate::reconcile::Handle;
use crate::scaling::{self, HistoryEntry, NextAction, TargetStatus};

/// Enough to see whether the last ones worked.
const HISTORY_SHOWN_MAX: usize = 5;

/// None where nothing is published.
#[derive(Debug, Serialize)]
pub(super) struct CloudWatch {
    region: String,
    checked_at: Option<Timestamp>,
    /// Why the last run failed.
    error: Option<String>,
    dashboards: Vec<DashboardStatus>,
}

/// None where there is no schedule.
#[derive(Debug, Serialize)]
pub(super) struct Scaling {
    checked_at: Option<Timestamp>,
    /// Why the last run failed.
    error: Option<String>,
    pub targets: Vec<TargetStatus>,
    next: Option<NextAction>,
    /// The newest first.
    history: Vec<HistoryEntry>,
}

pub(super) fn cloudwatch(sources: &Sources) -> Option<CloudWatch> {
    sources.config.borrow().cloudwatch.as_ref().filter(|config| config.enabled)?;
    let publish::Status { region, checked_at, dashboards, .. } = sources.publish.status.borrow().as_ref().clone();
    Some(CloudWatch { region, checked_at, error: error(&sources.publish.job), dashboards })
}

pub(super) fn scaling(sources: &Sources) -> Option<Scaling> {
    sources.config.borrow().scaling.as_ref().filter(|config| !config.schedules.is_empty())?;
    let scaling::Status { checked_at, targets, next, mut history, .. } =
        sources.scaling.status.borrow().as_ref().clone();
    history.truncate(HISTORY_SHOWN_MAX);
    Some(Scaling { checked_at, error: error(&sources.scaling.job), targets, next, history })
}

/// What was done in AWS.
pub(super) fn changes(sources: &Sources) -> Vec<Change> {
    let mut changes = scaling_changes(&sources.scaling.status.borrow().history);
    changes.extend(publish_change(&sources.publish.status.borrow().dashboards));
    changes
}

fn error(job: &Handle) -> Option<String> {
    job.status().last.as_ref().filter(|run| !run.ok).map(|run| run.message.clone())
}

/// Actions that did something, or were kept from it.
fn scaling_changes(history: &[HistoryEntry]) -> Vec<Change> {
    let change = |entry: &HistoryEntry| {
        let service = entry.resource.rsplit('/').next().unwrap_or_default();
        let (state, text, mark) = match (entry.outcome.as_str(), &entry.after) {
            ("applied", Some(after)) => {
                let bounds = format!("{}\u{2013}{}", after.min, after.max);
                ("ok", format!("{service} scaled to {bounds} tasks"), Some(format!("{service} {bounds}")))
            }
            ("failed", _) => ("critical", format!("scaling of {service} failed: {}", entry.reason), None),
            _ => ("info", format!("scaling of {service} held back: {}", entry.reason), None),
        };
        Change { at: entry.at, state, text, mark }
    };
    history.iter().map(change).collect()
}

/// Dashboards that were written, as one change: they are written together.
fn publish_change(dashboards: &[DashboardStatus]) -> Option<Change> {
    let at = dashboards.iter().filter_map(|dashboard| dashboard.published_at).max()?;
    let written = dashboards.iter().filter(|dashboard| dashboard.published_at.is_some()).count();
    let noun = if written == 1 { "dashboard" } else { "dashboards" };
    Some(Change { at, state: "ok", text: format!("{written} CloudWatch {noun} written"), mark: None })
}

#[cfg(test)]
mod tests {
    use crate::publish::SyncState;
    use crate::scaling::schedule::Bounds;

    use super::*;

    fn entry(outcome: &str, after: Option<Bounds>) -> HistoryEntry {
        HistoryEntry {
            at: Timestamp::from_millis(1),
            resource: "service/platform/product".into(),
            schedule: "evening".into(),
            outcome: outcome.into(),
            before: Some(Bounds { min: 1, max: 4 }),
            after,
            reason: "HighErrorRate fires".into(),
        }
    }

    #[test]
    fn an_action_is_told_by_what_came_of_it() {
        let history = [entry("applied", Some(Bounds { min: 3, max: 9 })), entry("held", None), entry("failed", None)];
        let told: Vec<String> =
            scaling_changes(&history).into_iter().map(|change| format!("{} {}", change.state, change.text)).collect();
        assert_eq!(
            told,
            [
                "ok product scaled to 3\u{2013}9 tasks",
                "info scaling of product held back: HighErrorRate fires",
                "critical scaling of product failed: HighErrorRate fires",
            ]
        );
    }

    #[test]
    fn dashboards_that_were_written_are_one_change() {
        let dashboard = |published_at: Option<i64>| DashboardStatus {
            name: "picket-demo-order".into(),
            service: "order".into(),
            state: SyncState::InSync,
            published_at: published_at.map(Timestamp::from_millis),
            drifts: 0,
            messages: Vec::new(),
            url: String::new(),
        };
        let change = publish_change(&[dashboard(Some(5)), dashboard(None), dashboard(Some(9))]).unwrap();
        assert_eq!((change.at.as_millis(), change.text.as_str()), (9, "2 CloudWatch dashboards written"));
        assert_eq!(publish_change(&[dashboard(None)]), None);
    }
}
