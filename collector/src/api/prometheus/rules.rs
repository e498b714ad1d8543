//! `rules`, `alerts`, `alertmanagers`: what is evaluated, what it found, where that goes.

use std::sync::Arc;

use axum::extract::State;
use promql::format_value;
use serde::Serialize;
use sha2::{Digest, Sha256};
use telemetry::{Labels, Matcher, Timestamp};

use super::params::Params;
use super::targets::rfc3339;
use super::{ApiError, ApiResult, Success};
use crate::api::Sources;
use crate::rules::alerting::AlertState;
use crate::rules::group::RuleHealth;
use crate::rules::{AlertStatus, GroupStatus, RuleStatus};

/// What Go prints for a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Groups {
    groups: Vec<Group>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    file: String,
    rules: Vec<Rule>,
    interval: f64,
    limit: usize,
    evaluation_time: f64,
    last_evaluation: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rule {
    Alerting(AlertingRule),
    Recording(RecordingRule),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertingRule {
    state: AlertState,
    name: String,
    query: String,
    duration: f64,
    keep_firing_for: f64,
    labels: Labels,
    annotations: Labels,
    alerts: Vec<Alert>,
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    evaluation_time: f64,
    last_evaluation: String,
    r#type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordingRule {
    name: String,
    query: String,
    labels: Labels,
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    evaluation_time: f64,
    last_evaluation: String,
    r#type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    labels: Labels,
    annotations: Labels,
    state: AlertState,
    active_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_firing_since: Option<String>,
    value: String,
}

/// Which groups and rules are wanted.
struct Wanted<'a> {
    /// None: both kinds.
    alerting: Option<bool>,
    names: Vec<&'a str>,
    groups: Vec<&'a str>,
    files: Vec<&'a str>,
    matchers: Vec<Vec<Matcher>>,
    with_alerts: bool,
}

impl<'a> Wanted<'a> {
    fn read(params: &'a Params) -> Result<Self, ApiError> {
        let alerting = match params.get("type").map(str::to_ascii_lowercase).as_deref() {
            None => None,
            Some("alert") => Some(true),
            Some("record") => Some(false),
            Some(other) => return Err(ApiError::parameter("type", format!("not supported value {other:?}"))),
        };
        let exclude_alerts = params.flag("exclude_alerts")?;
        Ok(Wanted {
            alerting,
            names: params.all("rule_name[]").collect(),
            groups: params.all("rule_group[]").collect(),
            files: params.all("file[]").collect(),
            matchers: params.selectors().map_err(ApiError::BadData)?,
            with_alerts: !exclude_alerts,
        })
    }

    fn group(&self, group: &GroupStatus) -> Option<Group> {
        if !is_among(&self.groups, &group.name) || !is_among(&self.files, &group.file) {
            return None;
        }
        let rules: Vec<Rule> = group.rules.iter().filter(|r| self.has(r)).map(|r| rule(r, self.with_alerts)).collect();
        // Whoever asked for certain rules does not want to see groups without any.
        if rules.is_empty() {
            return None;
        }
        Some(Group {
            name: group.name.clone(),
            file: group.file.clone(),
            rules,
            interval: group.interval.as_secs_f64(),
            limit: group.limit,
            evaluation_time: group.evaluation_time.as_secs_f64(),
            last_evaluation: at(group.last_evaluation),
        })
    }

    fn has(&self, rule: &RuleStatus) -> bool {
        let matches =
            |matchers: &Vec<Matcher>| matchers.iter().all(|m| m.matches(rule.labels.get(&m.name).unwrap_or_default()));
        self.alerting.is_none_or(|alerting| alerting == rule.alerting.is_some())
            && is_among(&self.names, &rule.name)
            && (self.matchers.is_empty() || self.matchers.iter().any(matches))
    }
}

/// An empty list lets everything through.
fn is_among(list: &[&str], value: &str) -> bool {
    list.is_empty() || list.contains(&value)
}

pub(super) async fn rules(State(sources): State<Sources>, params: Params) -> ApiResult<Groups> {
    let wanted = Wanted::read(&params)?;
    let page = Page::read(&params)?;
    let (groups, group_next_token) = page.cut(&sources.rules.groups(), &wanted)?;
    Ok(Success::new(Groups { groups, group_next_token }))
}

/// Which part of the list is wanted.
struct Page<'a> {
    groups_max: usize,
    /// The group that the page begins with; None: the first.
    first: Option<&'a str>,
}

impl<'a> Page<'a> {
    fn read(params: &'a Params) -> Result<Self, ApiError> {
        let (limit, first) = (params.get("group_limit"), params.get("group_next_token"));
        let bad = |why: String| ApiError::parameter("group_limit", why);
        let groups_max = match limit.map(str::parse::<i32>) {
            None if first.is_some() => {
                let why = "group_limit needs to be present in order to paginate over the groups";
                return Err(ApiError::parameter("group_next_token", why));
            }
            None => usize::MAX,
            Some(Ok(limit)) => match usize::try_from(limit) {
                Ok(limit) if limit > 0 => limit,
                _ => return Err(bad("group_limit needs to be greater than 0".to_owned())),
            },
            Some(Err(error)) => return Err(bad(format!("group_limit needs to be a valid number: {error}"))),
        };
        Ok(Page { groups_max, first })
    }

    /// The groups of the page, and the token of the next. Groups without wanted rules do not count.
    fn cut(&self, groups: &[Arc<GroupStatus>], wanted: &Wanted<'_>) -> Result<(Vec<Group>, Option<String>), ApiError> {
        let begin = match self.first {
            None => 0,
            Some(token) => groups.iter().position(|group| token_of(group) == token).ok_or_else(|| {
                let why = format!("invalid group_next_token '{token}'. were rule groups changed?");
                ApiError::parameter("group_next_token", why)
            })?,
        };
        let mut page = Vec::new();
        for group in &groups[begin..] {
            let Some(shown) = wanted.group(group) else { continue };
            if page.len() == self.groups_max {
                return Ok((page, Some(token_of(group))));
            }
            page.push(shown);
        }
        Ok((page, None))
    }
}

/// Stands for a group in the paging of the list.
fn token_of(group: &GroupStatus) -> String {
    hex::encode(Sha256::digest(format!("{};{}", group.file, group.name)))
}

fn rule(status: &RuleStatus, with_alerts: bool) -> Rule {
    let (health, last_error) = match &status.health {
        RuleHealth::Unknown => ("unknown", None),
        RuleHealth::Ok => ("ok", None),
        RuleHealth::Failed(error) => ("err", Some(error.clone())),
    };
    // As Prometheus prints it, however the file has it.
    let query = promql::parse(&status.query).map_or_else(|_| status.query.clone(), |expr| expr.to_string());
    let (name, labels) = (status.name.clone(), status.labels.clone());
    let (evaluation_time, last_evaluation) = (status.evaluation_time.as_secs_f64(), at(status.last_evaluation));
    let Some(alerting) = &status.alerting else {
        let r#type = "recording";
        return Rule::Recording(RecordingRule {
            name,
            query,
            labels,
            health,
            last_error,
            evaluation_time,
            last_evaluation,
            r#type,
        });
    };
    let active = alerting.alerts.iter().filter(|a| with_alerts && a.state != AlertState::Inactive);
    Rule::Alerting(AlertingRule {
        state: alerting.state,
        name,
        query,
        duration: alerting.hold.as_secs_f64(),
        keep_firing_for: alerting.keep_firing_for.as_secs_f64(),
        labels,
        annotations: alerting.annotations.clone(),
        alerts: active.map(alert).collect(),
        health,
        last_error,
        evaluation_time,
        last_evaluation,
        r#type: "alerting",
    })
}

fn alert(status: &AlertStatus) -> Alert {
    Alert {
        labels: status.labels.clone(),
        annotations: status.annotations.clone(),
        state: status.state,
        active_at: rfc3339(status.active_at),
        keep_firing_since: status.keep_firing_since.map(rfc3339),
        value: scientific(status.value),
    }
}

fn at(time: Option<Timestamp>) -> String {
    time.map_or_else(|| NEVER.to_owned(), rfc3339)
}

/// Go's `%e` with the fewest digits: `1e+00`, which is how Prometheus prints the value of an alert.
fn scientific(value: f64) -> String {
    if !value.is_finite() {
        return format_value(value);
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[derive(Serialize)]
pub(super) struct Alerts {
    alerts: Vec<Alert>,
}

pub(super) async fn alerts(State(sources): State<Sources>) -> ApiResult<Alerts> {
    // Here, where somebody looks into an alert, the evidence stands among its annotations.
    let annotated = |status: &AlertStatus| Alert {
        annotations: sources.notify.annotated(status.fingerprint, &status.annotations),
        ..alert(status)
    };
    let alerts = sources.rules.active_alerts().iter().map(|(_, _, status)| annotated(status)).collect();
    Ok(Success::new(Alerts { alerts }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Alertmanagers {
    active_alertmanagers: Vec<Alertmanager>,
    dropped_alertmanagers: Vec<Alertmanager>,
}

#[derive(Serialize)]
struct Alertmanager {
    url: String,
}

pub(super) async fn alertmanagers(State(sources): State<Sources>) -> ApiResult<Alertmanagers> {
    let active_alertmanagers = sources.notify.alertmanagers().into_keys().map(|url| Alertmanager { url }).collect();
    Ok(Success::new(Alertmanagers { active_alertmanagers, dropped_alertmanagers: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_an_alert_is_printed_as_go_prints_it() {
        for (value, expected) in
            [(1.0, "1e+00"), (0.0, "0e+00"), (0.0512, "5.12e-02"), (-1234.5, "-1.2345e+03"), (1e123, "1e+123")]
        {
            assert_eq!(scientific(value), expected);
        }
    }
}
