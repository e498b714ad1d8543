//! The first page: is anything broken, where, since when, and what changed?

use std::sync::Arc;
use std::time::Duration;

use dashboards::expr::Scope;
use dashboards::objective::{ERROR_RATIO_MAX, P95_SECONDS_MAX};
use serde::Serialize;
use telemetry::Timestamp;

use super::Cached;
use super::alerts::{self, Alert};
use super::changes::{self, Change, Resolved, TaskCounts};
use super::operations::{self, CloudWatch, Scaling};
use super::services::{self, BY, FiringFor, History, Missing, Service, State};
use crate::api::Sources;
use crate::query::QueryError;
use crate::scrape::TargetHealth;

/// Charts show at most this much.
const CHART_SPAN: Duration = Duration::from_secs(3600);
/// More points than pixels tell nothing.
const CHART_POINTS_MAX: u32 = 240;
/// A rate needs a few samples; and below half a minute one request makes a mountain.
const RATE_SCRAPES: u32 = 4;
const RATE_WINDOW_MIN: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize)]
pub(super) struct Overview {
    at: Timestamp,
    verdict: Verdict,
    objective: Objective,
    services: Vec<Service>,
    /// Those that fire.
    alerts: Vec<Alert>,
    /// How many will fire if it goes on like this.
    pending: usize,
    last_resolved: Option<Resolved>,
    targets: Targets,
    /// None where nothing is configured.
    scaling: Option<Scaling>,
    cloudwatch: Option<CloudWatch>,
    changes: Vec<Change>,
    window: Window,
    charts: Vec<Chart>,
    /// What could not be asked; its figures are not known, the others are.
    missing: Vec<Missing>,
}

/// One sentence, and how bad it is.
#[derive(Debug, PartialEq, Serialize)]
struct Verdict {
    state: State,
    sentence: String,
}

#[derive(Debug, Serialize)]
struct Objective {
    error_ratio: f64,
    p95_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Targets {
    up: usize,
    total: usize,
}

/// What charts ask for, in whole seconds.
#[derive(Debug, PartialEq, Serialize)]
struct Window {
    start: i64,
    end: i64,
    step: i64,
}

/// A question that the page asks the Prometheus API itself.
#[derive(Debug, Serialize)]
struct Chart {
    title: &'static str,
    unit: Unit,
    expr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<Threshold>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Count,
    Percent,
}

#[derive(Debug, Serialize)]
struct Threshold {
    value: f64,
    label: String,
}

/// What is asked over the whole hour.
#[derive(Default)]
pub(super) struct LastHour {
    errors: History,
    tasks: TaskCounts,
}

/// Asks the stages and makes the document.
///
/// A query that fails takes its figures with it and nothing else.
pub(super) async fn assemble(sources: &Sources, last_hour: &Cached<LastHour>) -> Overview {
    let now = sources.clock.now();
    let scrape_interval = sources.config.borrow().global.scrape_interval;
    let rate = telemetry::duration::format((scrape_interval * RATE_SCRAPES).max(RATE_WINDOW_MIN));
    let querier = &sources.querier;

    let scaling = operations::scaling(sources);
    let cloudwatch = operations::cloudwatch(sources);
    let (mut facts, mut missing) = services::facts(querier, now, &rate).await;
    for target in scaling.iter().flat_map(|scaling| &scaling.targets) {
        let of_service = facts.iter_mut().filter(|(key, _)| key.service == target.service);
        of_service.for_each(|(_, facts)| facts.tasks_least = target.actual.map(|bounds| bounds.min));
    }
    let window = window(now, sources.started, scrape_interval);
    let hour = last_hour.get(async || ask_last_hour(sources, now, &window, &rate).await).await;
    let hour = hour.unwrap_or_else(|error| {
        missing.push(Missing::new("the last hour", &error));
        Arc::default()
    });
    let mut active = alerts::active(&sources.rules, &sources.notify);
    active.retain(|alert| !alert.is_on_purpose());
    let (firing, pending): (Vec<Alert>, Vec<Alert>) = active.into_iter().partition(Alert::is_firing);
    let firing_for: Vec<FiringFor> = firing.iter().map(Alert::firing_for).collect();
    let mut services = services::rows(facts, &firing_for, &hour.errors);
    if !missing.is_empty() {
        services::doubt(&mut services);
    }
    let targets = sources.scrape.snapshot();
    Overview {
        at: now,
        verdict: verdict(&services, &firing_for, &missing),
        objective: Objective { error_ratio: ERROR_RATIO_MAX, p95_seconds: P95_SECONDS_MAX },
        alerts: firing,
        pending: pending.len(),
        last_resolved: changes::last_resolved(&sources.rules),
        targets: Targets {
            up: targets.iter().filter(|target| target.health == TargetHealth::Up).count(),
            total: targets.len(),
        },
        changes: all_changes(sources, &hour, now),
        scaling,
        cloudwatch,
        window,
        charts: charts(&rate),
        services,
        missing,
    }
}

async fn ask_last_hour(sources: &Sources, now: Timestamp, window: &Window, rate: &str) -> Result<LastHour, QueryError> {
    let [start, end] = [window.start, window.end].map(|seconds| Timestamp::from_millis(seconds * 1000));
    Ok(LastHour {
        errors: services::errors_over_time(&sources.querier, start, end, rate).await?,
        tasks: services::tasks_of_last_hour(&sources.querier, now).await?,
    })
}

fn all_changes(sources: &Sources, hour: &LastHour, now: Timestamp) -> Vec<Change> {
    let mut all = changes::of_alerts(&sources.rules);
    all.extend(changes::of_reload(&sources.rules, sources.started));
    all.extend(changes::of_tasks(&hour.tasks));
    all.extend(operations::changes(sources));
    all.push(changes::started(sources.started));
    changes::newest(all, now)
}

fn charts(rate: &str) -> Vec<Chart> {
    let scope = Scope { matchers: r#"service!="""#, by: BY, window: rate };
    let objective = format!("objective {}%", ERROR_RATIO_MAX * 100.0);
    vec![
        Chart {
            title: "Requests per second by service",
            unit: Unit::Count,
            expr: scope.request_rate(),
            threshold: None,
        },
        Chart {
            title: "Error ratio by service",
            unit: Unit::Percent,
            expr: scope.error_ratio(),
            threshold: Some(Threshold { value: ERROR_RATIO_MAX, label: objective }),
        },
    ]
}

/// The last hour, or since the collector knows anything; on whole steps, so that a refresh moves no point.
fn window(now: Timestamp, since: Timestamp, scrape_interval: Duration) -> Window {
    let span = now.since(since).clamp(Duration::from_secs(60), CHART_SPAN);
    let step = (span / CHART_POINTS_MAX).max(scrape_interval).as_secs_f64().ceil() as i64;
    let end = now.as_millis().div_euclid(1000 * step) * step;
    let points = (span.as_secs_f64() / step as f64).floor() as i64;
    Window { start: end - points * step, end, step }
}

/// The page in one sentence. Alerts of no service that is shown count as well.
fn verdict(services: &[Service], firing: &[FiringFor], missing: &[Missing]) -> Verdict {
    let count = |state: State| services.iter().filter(|service| service.state == state).count();
    let (critical, warning, unknown) = (count(State::Critical), count(State::Warning), count(State::Unknown));
    let total = services.len();
    let state = if critical > 0 || firing.iter().any(|alert| alert.critical) {
        State::Critical
    } else if warning > 0 || !firing.is_empty() {
        State::Warning
    } else if unknown > 0 || total == 0 || !missing.is_empty() {
        State::Unknown
    } else {
        State::Ok
    };
    let of = if total == 1 { "1 service".to_owned() } else { format!("{total} services") };
    let sentence = if critical > 0 {
        let verb = if critical == 1 { "is" } else { "are" };
        format!("{critical} of {of} {verb} failing")
    } else if warning > 0 {
        let verb = if warning == 1 { "needs" } else { "need" };
        format!("{warning} of {of} {verb} attention")
    } else if !firing.is_empty() {
        let noun = if firing.len() == 1 { "alert fires" } else { "alerts fire" };
        format!("The services are well, {} {noun}", firing.len())
    } else if !missing.is_empty() {
        "Not everything could be asked: whether all is well is not known".to_owned()
    } else if total == 0 {
        "No service has been found yet".to_owned()
    } else if unknown > 0 {
        format!("{} of {of} known to be well", total - unknown)
    } else if total == 1 {
        "The service meets its objectives".to_owned()
    } else {
        format!("All {of} meet their objectives")
    };
    Verdict { state, sentence }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(state: State) -> Service {
        Service {
            environment: "demo".into(),
            service: "order".into(),
            state,
            reason: String::new(),
            requests_per_second: None,
            error_ratio: None,
            p95_seconds: None,
            tasks_up: None,
            tasks_expected: None,
            error_history: Vec::new(),
        }
    }

    #[test]
    fn the_verdict_is_the_worst_that_is_known() {
        use State::{Critical, Ok, Unknown, Warning};
        let say = |states: &[State]| {
            let services: Vec<Service> = states.iter().copied().map(service).collect();
            let Verdict { state, sentence } = verdict(&services, &[], &[]);
            format!("{state:?}: {sentence}")
        };
        assert_eq!(say(&[]), "Unknown: No service has been found yet");
        assert_eq!(say(&[Ok]), "Ok: The service meets its objectives");
        assert_eq!(say(&[Ok, Ok]), "Ok: All 2 services meet their objectives");
        assert_eq!(say(&[Ok, Unknown]), "Unknown: 1 of 2 services known to be well");
        assert_eq!(say(&[Ok, Warning, Warning]), "Warning: 2 of 3 services need attention");
        assert_eq!(say(&[Ok, Warning, Critical]), "Critical: 1 of 3 services is failing");
    }

    #[test]
    fn an_alert_that_belongs_to_no_service_spoils_the_verdict() {
        let alert = FiringFor { key: services::ServiceKey::default(), name: "RuleFails".into(), critical: true };
        let verdict = verdict(&[service(State::Ok)], &[alert], &[]);
        assert_eq!(
            (verdict.state, verdict.sentence.as_str()),
            (State::Critical, "The services are well, 1 alert fires")
        );
    }

    #[test]
    fn what_could_not_be_asked_is_never_called_well() {
        let missing = [Missing::new("error ratios", &"query timed out")];
        let Verdict { state, sentence } = verdict(&[service(State::Unknown)], &[], &missing);
        assert_eq!(
            (state, sentence.as_str()),
            (State::Unknown, "Not everything could be asked: whether all is well is not known")
        );
        let failing = [service(State::Critical), service(State::Unknown)];
        assert_eq!(verdict(&failing, &[], &missing).sentence, "1 of 2 services is failing", "what is known counts");
    }

    #[test]
    fn charts_start_where_the_collector_did_and_lie_on_whole_steps() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let window = |now, since, scrape| super::window(at(now), at(since), Duration::from_secs(scrape));
        assert_eq!(window(1_000_000, 0, 15), Window { start: 996_390, end: 999_990, step: 15 });
        assert_eq!(window(1_000_000, 999_400, 2), Window { start: 999_399, end: 999_999, step: 3 });
        // Just started: a minute is shown, or nothing could be drawn.
        assert_eq!(window(1_000_000, 999_995, 2), Window { start: 999_940, end: 1_000_000, step: 2 });
    }
}
