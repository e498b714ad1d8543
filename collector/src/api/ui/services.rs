//! The table of services: what queries know of each, and a verdict in words.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use dashboards::expr::Scope;
use dashboards::objective::{ERROR_RATIO_MAX, P95_SECONDS_MAX};
use promql::{Answer, Value};
use serde::Serialize;
use telemetry::names::label::{ENVIRONMENT, SERVICE};
use telemetry::{Labels, Timestamp};

use super::changes::TaskCounts;
use crate::query::{Querier, QueryError};

pub(super) const BY: &str = "environment, service";

/// A service that had no target for longer is forgotten by the page; alerts on it are not.
const REMEMBERED: Duration = Duration::from_secs(3600);
const HISTORY_POINTS: u32 = 60;
const TASKS_STEP: Duration = Duration::from_secs(15);

/// One service in one environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct ServiceKey {
    pub environment: String,
    pub service: String,
}

impl ServiceKey {
    /// None for series that belong to no service.
    pub(super) fn of(labels: &Labels) -> Option<ServiceKey> {
        let service = labels.get(SERVICE)?.to_owned();
        Some(ServiceKey { environment: labels.get(ENVIRONMENT).unwrap_or_default().to_owned(), service })
    }
}

/// Worst first: the derived order sorts the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    Unknown,
    Warning,
    Critical,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Service {
    pub environment: String,
    pub service: String,
    pub state: State,
    /// Why, in a few words.
    pub reason: String,
    pub requests_per_second: Option<f64>,
    pub error_ratio: Option<f64>,
    pub p95_seconds: Option<f64>,
    pub tasks_up: Option<u32>,
    pub tasks_expected: Option<u32>,
    /// Error ratios over the charts' window, oldest first; null where nothing is known.
    pub error_history: Vec<Option<f64>>,
}

/// Error ratios over time by service.
pub(super) type History = BTreeMap<ServiceKey, Vec<Option<f64>>>;

/// An alert that fires for a service: name and how bad.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FiringFor {
    pub key: ServiceKey,
    pub name: String,
    pub critical: bool,
}

/// What is known of one service, before it is judged. None is "not known".
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub requests_per_second: Option<f64>,
    pub error_ratio: Option<f64>,
    pub p95_seconds: Option<f64>,
    /// Targets that answer, of those that discovery knows.
    pub tasks_up: Option<u32>,
    pub tasks_known: Option<u32>,
    /// The lower bound of its scalable target: ECS runs no fewer.
    pub tasks_least: Option<u32>,
    /// It has had requests: their absence now means that something is missing.
    pub serves_http: bool,
    /// Worst alert that fires for it.
    pub alert: Option<(String, bool)>,
}

impl Facts {
    fn tasks_expected(&self) -> Option<u32> {
        self.tasks_least.max(self.tasks_known)
    }

    /// State and reason; the first thing that is wrong, worst first.
    pub(super) fn judge(&self) -> (State, String) {
        let (up, expected) = (self.tasks_up.unwrap_or(0), self.tasks_expected().unwrap_or(0));
        if self.tasks_known.is_none() {
            return (State::Critical, "no task is discovered".to_owned());
        }
        if up == 0 {
            return (State::Critical, "no task answers".to_owned());
        }
        if let Some(ratio) = self.error_ratio.filter(|ratio| *ratio > ERROR_RATIO_MAX) {
            return (State::Critical, format!("errors {}, objective {}", percent(ratio), percent(ERROR_RATIO_MAX)));
        }
        if let Some((name, true)) = &self.alert {
            return (State::Critical, name.clone());
        }
        if let Some(p95) = self.p95_seconds.filter(|p95| *p95 > P95_SECONDS_MAX) {
            return (State::Warning, format!("p95 {p95:.2} s, objective {P95_SECONDS_MAX} s"));
        }
        if up < expected {
            return (State::Warning, format!("{up} of {expected} tasks up"));
        }
        if let Some((name, false)) = &self.alert {
            return (State::Warning, name.clone());
        }
        match self.requests_per_second {
            None if self.serves_http => (State::Unknown, "no request metrics".to_owned()),
            // A worker: what is known of it is that its tasks are up.
            None if up == 1 => (State::Ok, "its task is up".to_owned()),
            None => (State::Ok, format!("all {up} tasks up")),
            Some(0.0) => (State::Ok, "no traffic".to_owned()),
            Some(_) => (State::Ok, "healthy".to_owned()),
        }
    }

    fn into_row(self, key: ServiceKey, error_history: Vec<Option<f64>>) -> Service {
        let (state, reason) = self.judge();
        let tasks_expected = self.tasks_expected();
        let ServiceKey { environment, service } = key;
        Service {
            environment,
            service,
            state,
            reason,
            requests_per_second: self.requests_per_second,
            error_ratio: self.error_ratio,
            p95_seconds: self.p95_seconds,
            tasks_up: self.tasks_up,
            tasks_expected,
            error_history,
        }
    }
}

/// Asks for all services at once.
pub(super) async fn facts(
    querier: &Querier,
    now: Timestamp,
    window: &str,
) -> (BTreeMap<ServiceKey, Facts>, Vec<Missing>) {
    let scope = Scope { matchers: "", by: BY, window };
    let mut services: BTreeMap<ServiceKey, Facts> = BTreeMap::new();
    let remembered = format!(r#"count by ({BY}) (max_over_time(up{{service!=""}}[{}s]))"#, REMEMBERED.as_secs());
    let mut missing = Vec::new();
    match querier.instant(&remembered, now).await {
        Ok(answer) => values(answer).for_each(|(key, _)| _ = services.entry(key).or_default()),
        Err(error) => missing.push(Missing::new("services of the last hour", &error)),
    }
    type Put = fn(&mut Facts, f64);
    let questions: [(&str, String, Put); 5] = [
        ("tasks that are up", scope.tasks_up(), |facts, value| facts.tasks_up = Some(value as u32)),
        ("tasks", scope.tasks_known(), |facts, value| facts.tasks_known = Some(value as u32)),
        ("request rates", scope.request_rate(), |facts, value| facts.requests_per_second = Some(value)),
        ("error ratios", scope.error_ratio(), |facts, value| facts.error_ratio = Some(value)),
        ("latencies", scope.duration_quantile(0.95), |facts, value| facts.p95_seconds = Some(value)),
    ];
    for (what, question, put) in questions {
        match querier.instant(&question, now).await {
            Ok(answer) => values(answer).for_each(|(key, value)| put(services.entry(key).or_default(), value)),
            Err(error) => missing.push(Missing::new(what, &error)),
        }
    }
    (services, missing)
}

/// Figures that the page has not, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Missing {
    what: &'static str,
    error: String,
}

impl Missing {
    pub(super) fn new(what: &'static str, error: &dyn std::fmt::Display) -> Self {
        Missing { what, error: error.to_string() }
    }
}

/// Where something could not be asked, nobody knows whether a service is well.
pub(super) fn doubt(rows: &mut [Service]) {
    for row in rows.iter_mut().filter(|row| row.state == State::Ok) {
        row.state = State::Unknown;
        row.reason = "not everything could be asked".to_owned();
    }
}

/// The rows, worst first.
pub(super) fn rows(mut facts: BTreeMap<ServiceKey, Facts>, firing: &[FiringFor], history: &History) -> Vec<Service> {
    for alert in firing {
        let Some(facts) = facts.get_mut(&alert.key) else { continue };
        let worse = facts.alert.as_ref().is_none_or(|(_, critical)| alert.critical && !critical);
        if worse {
            facts.alert = Some((alert.name.clone(), alert.critical));
        }
    }
    let mut rows: Vec<Service> = facts
        .into_iter()
        .map(|(key, facts)| {
            let history = history.get(&key).cloned().unwrap_or_default();
            let serves_http = history.iter().any(Option::is_some);
            Facts { serves_http, ..facts }.into_row(key, history)
        })
        .collect();
    // Stable: equally bad ones stay in the order of their names.
    rows.sort_by_key(|row| Reverse(row.state));
    rows
}

/// Error ratios from `start` to `end`, at even times.
pub(super) async fn errors_over_time(
    querier: &Querier,
    start: Timestamp,
    end: Timestamp,
    rate: &str,
) -> Result<History, QueryError> {
    let step = (end.since(start) / (HISTORY_POINTS - 1)).max(Duration::from_secs(1));
    let expr = Scope { matchers: r#"service!="""#, by: BY, window: rate }.error_ratio();
    let mut history = History::new();
    for (key, samples) in lines(querier.range(&expr, start, end, step).await?) {
        let mut points = vec![None; (end.since(start).as_millis() / step.as_millis()) as usize + 1];
        for (at, value) in samples {
            let index = at.since(start).as_millis() / step.as_millis();
            if let Some(point) = points.get_mut(index as usize) {
                *point = Some(value).filter(|value| value.is_finite());
            }
        }
        history.insert(key, points);
    }
    Ok(history)
}

/// How many tasks each service had in the last hour, four times a minute.
pub(super) async fn tasks_of_last_hour(querier: &Querier, now: Timestamp) -> Result<TaskCounts, QueryError> {
    let scope = Scope { matchers: "", by: BY, window: "" };
    // On whole steps: the next look must find a change at the same time.
    let step = TASKS_STEP.as_millis() as i64;
    let end = Timestamp::from_millis(now.as_millis().div_euclid(step) * step);
    let answer = querier.range(&scope.tasks_known(), end - REMEMBERED, end, TASKS_STEP).await?;
    Ok(lines(answer).collect())
}

fn lines(answer: Answer) -> impl Iterator<Item = (ServiceKey, Vec<(Timestamp, f64)>)> {
    let series = match answer.value {
        Value::Matrix(series) => series,
        _ => Vec::new(),
    };
    series.into_iter().filter_map(|series| Some((ServiceKey::of(&series.labels)?, series.samples)))
}

/// Values by service; what is no number (no request in the window) is not known.
fn values(answer: Answer) -> impl Iterator<Item = (ServiceKey, f64)> {
    let samples = match answer.value {
        Value::Vector(samples) => samples,
        _ => Vec::new(),
    };
    samples
        .into_iter()
        .filter(|sample| sample.value.is_finite())
        .filter_map(|sample| Some((ServiceKey::of(&sample.labels)?, sample.value)))
}

/// `9.8%`, `5%`.
fn percent(ratio: f64) -> String {
    let text = format!("{:.1}", ratio * 100.0);
    format!("{}%", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Facts {
        Facts {
            requests_per_second: Some(12.0),
            error_ratio: Some(0.002),
            p95_seconds: Some(0.08),
            tasks_up: Some(2),
            tasks_known: Some(2),
            ..Facts::default()
        }
    }

    #[test]
    fn the_worst_thing_decides_and_is_said_in_words() {
        let judged = |facts: Facts| {
            let (state, reason) = facts.judge();
            format!("{state:?}: {reason}")
        };
        assert_eq!(judged(healthy()), "Ok: healthy");
        assert_eq!(judged(Facts { error_ratio: Some(0.098), ..healthy() }), "Critical: errors 9.8%, objective 5%");
        assert_eq!(judged(Facts { p95_seconds: Some(2.31), ..healthy() }), "Warning: p95 2.31 s, objective 2 s");
        assert_eq!(judged(Facts { tasks_up: Some(1), ..healthy() }), "Warning: 1 of 2 tasks up");
        assert_eq!(judged(Facts { tasks_least: Some(6), ..healthy() }), "Warning: 2 of 6 tasks up");
        assert_eq!(judged(Facts { tasks_up: Some(0), ..healthy() }), "Critical: no task answers");
        assert_eq!(judged(Facts { tasks_up: None, tasks_known: None, ..healthy() }), "Critical: no task is discovered");
        let alert = |critical| Some(("QueueBacklog".to_owned(), critical));
        assert_eq!(judged(Facts { alert: alert(false), ..healthy() }), "Warning: QueueBacklog");
        assert_eq!(judged(Facts { alert: alert(true), p95_seconds: Some(3.0), ..healthy() }), "Critical: QueueBacklog");
    }

    #[test]
    fn what_is_not_known_is_neither_zero_nor_ok() {
        let worker = Facts { tasks_up: Some(1), tasks_known: Some(1), ..Facts::default() };
        assert_eq!(worker.judge(), (State::Ok, "its task is up".to_owned()));
        let silent = Facts { serves_http: true, ..worker };
        assert_eq!(silent.judge(), (State::Unknown, "no request metrics".to_owned()));
        let row = silent.into_row(ServiceKey::default(), Vec::new());
        assert_eq!((row.requests_per_second, row.error_ratio, row.p95_seconds), (None, None, None));
        let idle = Facts { requests_per_second: Some(0.0), error_ratio: None, p95_seconds: None, ..healthy() };
        assert_eq!(idle.judge(), (State::Ok, "no traffic".to_owned()));
    }

    #[test]
    fn rows_come_worst_first_and_a_critical_alert_hides_a_warning() {
        let key = |service: &str| ServiceKey { environment: "demo".into(), service: service.into() };
        let facts = BTreeMap::from([
            (key("analytics"), healthy()),
            (key("order"), healthy()),
            (key("user"), Facts { tasks_up: Some(0), ..healthy() }),
            (key("worker"), Facts { requests_per_second: None, ..healthy() }),
        ]);
        let firing = [
            FiringFor { key: key("order"), name: "QueueBacklog".into(), critical: false },
            FiringFor { key: key("order"), name: "DiskSpace".into(), critical: true },
            FiringFor { key: key("gone"), name: "ServiceDown".into(), critical: true },
        ];
        let history = History::from([(key("worker"), vec![None, Some(0.0), None])]);
        let rows = rows(facts, &firing, &history);
        let seen: Vec<_> = rows.iter().map(|row| (row.service.as_str(), row.state, row.reason.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("order", State::Critical, "DiskSpace"),
                ("user", State::Critical, "no task answers"),
                ("worker", State::Unknown, "no request metrics"),
                ("analytics", State::Ok, "healthy"),
            ]
        );
    }
}
