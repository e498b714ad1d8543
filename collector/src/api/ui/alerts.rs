//! Alerts as a person needs them: what, where, since when, the task's last words, whether Alertmanager knows.

use std::collections::BTreeMap;

use serde::Serialize;
use telemetry::names::label::{ENVIRONMENT, SERVICE};
use telemetry::{Labels, Timestamp};

use super::services::{FiringFor, ServiceKey};
use crate::notify::{self, Delivery as Sent, evidence};
use crate::rules::alerting::{AlertState, Fingerprint};
use crate::rules::group::RuleHealth;
use crate::rules::{self, AlertStatus};

const CRITICAL: &str = "critical";
/// The severity of alerts that fire on purpose: a dead man's switch.
pub(super) const NONE: &str = "none";

/// The page of alerts.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    /// Firing and pending ones, worst and oldest first.
    alerts: Vec<Alert>,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Alert {
    id: Fingerprint,
    pub name: String,
    pub severity: String,
    pub state: AlertState,
    service: Option<String>,
    environment: Option<String>,
    active_at: Timestamp,
    value: f64,
    summary: Option<String>,
    description: Option<String>,
    runbook_url: Option<String>,
    labels: BTreeMap<String, String>,
    evidence: Option<Evidence>,
    delivery: Option<Delivery>,
}

/// What the offending task said; `error` where it could not be asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Evidence {
    logs: Vec<String>,
    trace_id: Option<String>,
    task: Option<String>,
    image_digest: Option<String>,
    deployment: Option<String>,
    stops: Option<String>,
    error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Delivery {
    state: DeliveryState,
    at: Option<Timestamp>,
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum DeliveryState {
    Delivered,
    Failed,
    Waiting,
}

/// An alert rule, quiet or not.
#[derive(Debug, Serialize)]
struct Rule {
    name: String,
    group: String,
    severity: String,
    query: String,
    for_seconds: f64,
    state: AlertState,
    health: &'static str,
    last_error: Option<String>,
    evaluated_at: Option<Timestamp>,
}

pub(super) fn page(rules: &rules::Status, notify: &notify::Status) -> Page {
    let alerts = active(rules, notify);
    let rules = rules.groups().into_iter().flat_map(|group| {
        let of_group = group.rules.iter().filter_map(|rule| {
            let alerting = rule.alerting.as_ref()?;
            let (health, last_error) = match &rule.health {
                RuleHealth::Unknown => ("unknown", None),
                RuleHealth::Ok => ("ok", None),
                RuleHealth::Failed(why) => ("err", Some(why.clone())),
            };
            Some(Rule {
                name: rule.name.clone(),
                group: group.name.clone(),
                severity: rule.labels.get("severity").unwrap_or_default().to_owned(),
                query: rule.query.clone(),
                for_seconds: alerting.hold.as_secs_f64(),
                state: alerting.state,
                health,
                last_error,
                evaluated_at: rule.last_evaluation,
            })
        });
        of_group.collect::<Vec<_>>()
    });
    Page { rules: rules.collect(), alerts }
}

/// Firing and pending alerts: firing before pending, critical before the rest, the oldest first.
pub(super) fn active(rules: &rules::Status, notify: &notify::Status) -> Vec<Alert> {
    let anybody = !notify.alertmanagers().is_empty();
    let alerts = rules.active_alerts().into_iter();
    let mut alerts: Vec<Alert> = alerts
        .map(|(_, _, status)| {
            let sent = notify.delivery(status.fingerprint);
            Alert::new(status, sent, anybody)
        })
        .collect();
    alerts.sort_by_key(|alert| (alert.state != AlertState::Firing, alert.severity != CRITICAL, alert.active_at));
    alerts
}

impl Alert {
    fn new(status: AlertStatus, sent: Option<Sent>, anybody: bool) -> Alert {
        let AlertStatus { labels, annotations, .. } = &status;
        let label = |name: &str| labels.get(name).map(str::to_owned);
        let annotation = |name: &str| annotations.get(name).map(str::to_owned);
        let firing = status.state == AlertState::Firing;
        Alert {
            id: status.fingerprint,
            name: name(labels),
            severity: label("severity").unwrap_or_else(|| "info".to_owned()),
            state: status.state,
            service: label(SERVICE),
            environment: label(ENVIRONMENT),
            active_at: status.active_at,
            value: status.value,
            summary: annotation("summary"),
            description: annotation("description"),
            runbook_url: annotation("runbook_url").filter(|url| is_web_address(url)),
            labels: labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            evidence: sent.as_ref().and_then(|sent| Evidence::read(&sent.evidence)),
            delivery: firing.then(|| Delivery::read(sent.as_ref(), anybody)),
        }
    }

    pub(super) fn is_firing(&self) -> bool {
        self.state == AlertState::Firing
    }

    /// Fires on purpose: nothing is wrong while it does.
    pub(super) fn is_on_purpose(&self) -> bool {
        self.severity == NONE
    }

    /// For the table of services.
    pub(super) fn firing_for(&self) -> FiringFor {
        let key = ServiceKey {
            environment: self.environment.clone().unwrap_or_default(),
            service: self.service.clone().unwrap_or_default(),
        };
        FiringFor { key, name: self.name.clone(), critical: self.severity == CRITICAL }
    }
}

pub(super) fn name(labels: &Labels) -> String {
    labels.get("alertname").unwrap_or_default().to_owned()
}

/// A rule's annotation ends up in a link: only addresses that open a page.
fn is_web_address(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

impl Evidence {
    fn read(labels: &Labels) -> Option<Evidence> {
        let get = |name: &str| labels.get(name).map(str::to_owned);
        let logs: Vec<String> = labels.get(evidence::LOGS).unwrap_or_default().lines().map(str::to_owned).collect();
        let found = Evidence {
            logs,
            trace_id: get(evidence::TRACE_ID),
            task: get(evidence::TASK),
            image_digest: get(evidence::IMAGE_DIGEST),
            deployment: get(evidence::DEPLOYMENT),
            stops: get(evidence::STOPS),
            error: get(evidence::ERROR),
        };
        (labels.iter().next().is_some()).then_some(found)
    }
}

impl Delivery {
    /// Delivered when one Alertmanager has it: they tell each other.
    fn read(sent: Option<&Sent>, anybody: bool) -> Delivery {
        let receipts = || sent.into_iter().flat_map(|sent| sent.receipts.values());
        if let Some(at) = receipts().filter(|receipt| receipt.error.is_none()).map(|receipt| receipt.at).max() {
            return Delivery { state: DeliveryState::Delivered, at: Some(at), error: None };
        }
        if let Some(failed) = receipts().max_by_key(|receipt| receipt.at) {
            return Delivery { state: DeliveryState::Failed, at: Some(failed.at), error: failed.error.clone() };
        }
        let error = (!anybody).then(|| "no Alertmanager is configured".to_owned());
        Delivery { state: DeliveryState::Waiting, at: None, error }
    }
}

#[cfg(test)]
mod tests {
    use crate::notify::Receipt;

    use super::*;

    fn status() -> AlertStatus {
        let labels = Labels::from_pairs([
            ("alertname", "HighErrorRate"),
            ("severity", "critical"),
            ("service", "order"),
            ("environment", "demo"),
        ]);
        AlertStatus {
            fingerprint: Fingerprint::of(&labels),
            state: AlertState::Firing,
            labels,
            annotations: Labels::from_pairs([("summary", "order fails"), ("runbook_url", "javascript:alert(1)")]),
            value: 0.098,
            active_at: Timestamp::from_millis(1_000),
            fired_at: Some(Timestamp::from_millis(2_000)),
            keep_firing_since: None,
            resolved_at: None,
        }
    }

    fn sent(receipts: &[(i64, Option<&str>)]) -> Sent {
        let receipts = receipts.iter().enumerate().map(|(index, (at, error))| {
            let receipt = Receipt { at: Timestamp::from_millis(*at), error: error.map(str::to_owned) };
            (format!("http://am-{index}"), receipt)
        });
        Sent { evidence: Labels::empty(), receipts: receipts.collect() }
    }

    #[test]
    fn a_link_is_shown_only_when_it_opens_a_page() {
        let alert = Alert::new(status(), None, true);
        assert_eq!(
            (alert.name.as_str(), alert.runbook_url, alert.summary.as_deref()),
            ("HighErrorRate", None, Some("order fails"))
        );
    }

    #[test]
    fn delivery_is_what_the_best_alertmanager_said() {
        let read = |sent: Option<&Sent>, anybody| {
            let Delivery { state, at, error } = Delivery::read(sent, anybody);
            format!("{state:?} {:?} {}", at.map(Timestamp::as_millis), error.unwrap_or_default())
        };
        assert_eq!(read(Some(&sent(&[(5, Some("refused")), (7, None)])), true), "Delivered Some(7) ");
        assert_eq!(read(Some(&sent(&[(5, Some("refused")), (9, Some("timeout"))])), true), "Failed Some(9) timeout");
        assert_eq!(read(Some(&sent(&[])), true), "Waiting None ");
        assert_eq!(read(None, false), "Waiting None no Alertmanager is configured");
    }

    #[test]
    fn evidence_is_lines_a_trace_and_a_task_or_the_reason_why_not() {
        let labels = Labels::from_pairs([
            (evidence::LOGS, "10:00 payment failed\n10:01 payment failed"),
            (evidence::TRACE_ID, "4bf92f3577b34da6a3ce929d0e0e4736"),
            (evidence::TASK, "a1b2"),
        ]);
        let found = Evidence::read(&labels).unwrap();
        assert_eq!((found.logs.len(), found.task.as_deref(), found.error), (2, Some("a1b2"), None));
        let stopped =
            Labels::from_pairs([(evidence::STOPS, "a1b2 OutOfMemory"), (evidence::IMAGE_DIGEST, "sha256:0a")]);
        let found = Evidence::read(&stopped).unwrap();
        assert_eq!(
            (found.stops.as_deref(), found.image_digest.as_deref(), found.deployment),
            (Some("a1b2 OutOfMemory"), Some("sha256:0a"), None)
        );
        let failed = Evidence::read(&Labels::from_pairs([(evidence::ERROR, "no answer")])).unwrap();
        assert_eq!((failed.logs.len(), failed.error.as_deref()), (0, Some("no answer")));
        assert_eq!(Evidence::read(&Labels::empty()), None);
    }
}
