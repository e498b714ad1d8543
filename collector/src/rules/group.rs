//! One rule group: its rules in order, each one's output stored before one that reads it is asked. Rules that
//! cannot tell run beside each other.
//!
//! In: a time on the group's grid. Out: recorded samples, `ALERTS`, staleness markers of series that
//! vanished, and the notices that are due. Follows prometheus rules/group.go. The group knows neither clock
//! nor storage: a [`Backend`] stands for both, live or in a unit test.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use promql::VectorSample;
use telemetry::{Labels, Sample, Timestamp, stale_nan};

use super::alerting::{ActiveAlerts, Alert, Notice, Observed, Timing, alert_labels};
use super::file::{GroupSpec, RuleKind, RuleSpec};
use super::order;
use super::recording::{self, Recorded};
use super::template::{Data, Expansion, QueryAnswer, Template};
use crate::phase;

/// Rules of one group that are evaluated at the same time, as Prometheus' --rules.max-concurrent-rule-evals.
const CONCURRENT_MAX: usize = 4;

/// Where a group asks and where its samples go.
pub trait Backend: Send + Sync {
    /// A vector; a scalar counts as one element without labels.
    fn instant(&self, expr: &str, at: Timestamp) -> impl Future<Output = QueryAnswer> + Send;
    /// Returns when the samples can be asked for.
    fn write(&self, recorded: Recorded) -> impl Future<Output = Result<(), String>> + Send;
}

/// What the configuration says about timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupTiming {
    pub interval: Duration,
    pub query_offset: Duration,
    pub resend_delay: Duration,
}

/// A rule's last outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RuleHealth {
    /// Not evaluated yet.
    #[default]
    Unknown,
    Ok,
    Failed(String),
}

/// A rule with its state.
#[derive(Clone, Debug)]
pub struct Rule {
    pub spec: RuleSpec,
    /// Empty for recording rules.
    pub alerts: ActiveAlerts,
    pub health: RuleHealth,
    pub last_evaluation: Option<Timestamp>,
    pub evaluation_time: Duration,
    /// Series of the last successful evaluation: what is missing next time is marked stale.
    pub(super) written: Arc<BTreeSet<Labels>>,
}

/// A group with its state.
#[derive(Clone, Debug)]
pub struct Group {
    pub spec: GroupSpec,
    pub timing: GroupTiming,
    pub rules: Vec<Rule>,
    pub last_evaluation: Option<Timestamp>,
    pub evaluation_time: Duration,
    /// Per rule: those of one turn run together.
    turns: Vec<usize>,
}

/// What one evaluation brought.
#[derive(Debug, Default)]
pub struct Outcome {
    pub notices: Vec<Notice>,
    /// Per rule that failed, its name and why.
    pub failures: Vec<(String, String)>,
}

impl Group {
    pub fn new(spec: GroupSpec, timing: GroupTiming) -> Self {
        let rules = spec.rules.iter().cloned().map(Rule::new).collect();
        let turns = order::turns(&spec.rules);
        Group { spec, timing, rules, last_evaluation: None, evaluation_time: Duration::ZERO, turns }
    }

    /// Takes over what rules with the same name and labels knew before a reload (rules/group.go, `CopyState`).
    /// Returns the series that nobody writes any more.
    pub fn take_over(&mut self, old: Group) -> Vec<Labels> {
        self.last_evaluation = old.last_evaluation;
        let mut old_rules: BTreeMap<String, Rule> = old.rule_keys().into_iter().zip(old.rules).collect();
        for (key, rule) in keys(&self.spec.rules).into_iter().zip(&mut self.rules) {
            if let Some(old) = old_rules.remove(&key) {
                rule.alerts = old.alerts;
                rule.written = old.written;
            }
        }
        old_rules.into_values().flat_map(|rule| rule.written.iter().cloned().collect::<Vec<_>>()).collect()
    }

    /// The names that the rules' state has in SQL, in their order.
    pub fn rule_keys(&self) -> Vec<String> {
        keys(&self.spec.rules)
    }

    /// Every series of the last evaluation.
    pub fn written(&self) -> impl Iterator<Item = &Labels> {
        self.rules.iter().flat_map(|rule| rule.written.iter())
    }

    pub fn alerts(&self) -> impl Iterator<Item = (&Rule, &Alert)> {
        self.rules.iter().flat_map(|rule| rule.alerts.iter().map(move |alert| (rule, alert)))
    }

    /// Evaluates every rule as of `at` and gives the notices in the order of the rules.
    pub async fn evaluate(&mut self, backend: &impl Backend, at: Timestamp) -> Outcome {
        let told = Mutex::new(BTreeMap::new());
        let tell = |rule, notices| drop(told.lock().expect("no one panics holding it").insert(rule, notices));
        let failures = self.evaluate_and_tell(backend, at, &tell).await;
        let told = told.into_inner().expect("no one panicked holding it");
        Outcome { notices: told.into_values().flatten().collect(), failures }
    }

    /// Evaluates every rule as of `at`; a rule that fails keeps its state and does not stop the others. What is due
    /// is told with the rule's number as soon as the rule knows it: before its samples are stored, and while other
    /// rules are still to come. Returns what [`Outcome::failures`] says.
    pub async fn evaluate_and_tell(
        &mut self,
        backend: &impl Backend,
        at: Timestamp,
        tell: &(impl Fn(usize, Vec<Notice>) + Sync),
    ) -> Vec<(String, String)> {
        let started = Instant::now();
        for turn in 0..=self.turns.iter().copied().max().unwrap_or(0) {
            let mut due = Vec::new();
            for (index, rule) in self.rules.iter_mut().enumerate() {
                if self.turns[index] == turn {
                    let tell = move |notices| tell(index, notices);
                    due.push(rule.take_turn(backend, at, &self.timing, self.spec.limit, tell));
                }
            }
            futures::stream::iter(due).buffer_unordered(CONCURRENT_MAX).collect::<()>().await;
        }
        self.last_evaluation = Some(at);
        self.evaluation_time = started.elapsed();
        let failed = |rule: &Rule| match &rule.health {
            RuleHealth::Failed(why) => Some((rule.spec.name().to_owned(), why.clone())),
            _ => None,
        };
        self.rules.iter().filter_map(failed).collect()
    }
}

/// A rule's identity within its group: name, labels, and a number where several are alike.
fn keys(rules: &[RuleSpec]) -> Vec<String> {
    let mut alike = BTreeMap::<String, usize>::new();
    rules
        .iter()
        .map(|rule| {
            let labels: Vec<_> = rule.labels.iter().map(|(n, v)| format!("{n}={:?}", v.source())).collect();
            let key = format!("{}{{{}}}", rule.name(), labels.join(","));
            let number = alike.entry(key.clone()).or_default();
            *number += 1;
            format!("{key}#{}", *number - 1)
        })
        .collect()
}

impl Rule {
    fn new(spec: RuleSpec) -> Self {
        Rule {
            spec,
            alerts: ActiveAlerts::default(),
            health: RuleHealth::Unknown,
            last_evaluation: None,
            evaluation_time: Duration::ZERO,
            written: Arc::default(),
        }
    }

    /// Evaluates and notes how it went; a failure leaves the alerts as they were.
    async fn take_turn(
        &mut self,
        backend: &impl Backend,
        at: Timestamp,
        timing: &GroupTiming,
        limit: usize,
        tell: impl Fn(Vec<Notice>) + Send,
    ) {
        let began = Instant::now();
        let result = self.evaluate(backend, at, timing, limit, tell).await;
        self.last_evaluation = Some(at);
        self.evaluation_time = began.elapsed();
        self.health = result.map_or_else(RuleHealth::Failed, |()| RuleHealth::Ok);
    }

    async fn evaluate(
        &mut self,
        backend: &impl Backend,
        at: Timestamp,
        timing: &GroupTiming,
        limit: usize,
        tell: impl Fn(Vec<Notice>) + Send,
    ) -> Result<(), String> {
        let asked_at = at - timing.query_offset;
        let result = backend.instant(&self.spec.expr, asked_at).await?;
        let recorded = match &self.spec.kind {
            RuleKind::Record { name } => {
                let labels = literal(&self.spec.labels);
                recording::samples(name, &labels, &result, asked_at, limit).map_err(|e| e.to_string())?
            }
            RuleKind::Alert { name, hold, keep_firing_for, annotations, .. } => {
                let mut observed = Vec::with_capacity(result.len());
                for element in &result {
                    let labels = expand_all(&self.spec.labels, element, backend, asked_at).await;
                    let texts = expand_all(annotations, element, backend, asked_at).await;
                    let labels = alert_labels(&element.labels, &labels, name);
                    observed.push(Observed { labels, annotations: Labels::from_pairs(texts), value: element.value });
                }
                let timings = Timing { hold: *hold, keep_firing_for: *keep_firing_for };
                self.alerts.advance(at, timings, limit, observed).map_err(|e| e.to_string())?;
                // Before anything is stored: a page waits for no disk.
                tell(self.alerts.take_due(at, timing.resend_delay, timing.interval, &self.spec.expr));
                Recorded { floats: self.alerts.samples(asked_at), histograms: Vec::new() }
            }
        };
        if let Err(why) = backend.write(self.with_stale_markers(recorded, asked_at)).await {
            tracing::warn!(rule = self.spec.name(), error = why, "failed to store the samples of a rule");
        }
        Ok(())
    }

    /// Adds an end to every series that was written last time and is not now.
    fn with_stale_markers(&mut self, mut recorded: Recorded, at: Timestamp) -> Recorded {
        let written: BTreeSet<Labels> = recorded.series().cloned().collect();
        recorded.floats.extend(stale_markers(self.written.difference(&written), at));
        self.written = Arc::new(written);
        recorded
    }
}

/// The ends of series, as samples.
pub fn stale_markers<'a>(series: impl IntoIterator<Item = &'a Labels>, at: Timestamp) -> Vec<Sample> {
    let end = |labels: &Labels| Sample { labels: labels.clone(), timestamp: at, value: stale_nan() };
    series.into_iter().map(end).collect()
}

fn literal(texts: &[(String, Template)]) -> Vec<(String, String)> {
    texts.iter().map(|(name, text)| (name.clone(), text.source().to_owned())).collect()
}

async fn expand_all(
    texts: &[(String, Template)],
    element: &VectorSample,
    backend: &impl Backend,
    at: Timestamp,
) -> Vec<(String, String)> {
    let mut expanded = Vec::with_capacity(texts.len());
    for (name, template) in texts {
        let text = expand(template, &element.into(), backend, at).await;
        expanded.push((name.clone(), text));
    }
    expanded
}

/// Expands a template, answering the queries it asks; what goes wrong becomes its text, as in Prometheus.
async fn expand(template: &Template, data: &Data<'_>, backend: &impl Backend, at: Timestamp) -> String {
    let mut answers = BTreeMap::new();
    loop {
        match template.expand(data, &answers) {
            Ok(Expansion::Done(text)) => return text,
            Ok(Expansion::NeedsQuery(expr)) => {
                let answer = backend.instant(&expr, at).await;
                answers.insert(expr, answer);
            }
            Err(error) => return format!("<error expanding template: {error}>"),
        }
    }
}

/// The times at which a group is evaluated: `offset + n * interval`, the same in every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    interval_ms: i64,
    offset_ms: i64,
}

impl Grid {
    /// The offset spreads the groups behind the scrapes; it depends on the group's name and file and on these alone.
    pub fn new(spec: &GroupSpec, interval: Duration, scrape_interval: Duration) -> Self {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let hash = xxhash_rust::xxh3::xxh3_64(format!("{}\u{ff}{}", spec.name, spec.file).as_bytes());
        let offset = phase::of_rules(hash, interval, scrape_interval);
        Grid { interval_ms, offset_ms: i64::try_from(offset.as_millis()).unwrap_or(0) }
    }

    /// The first point after `at`.
    pub fn after(&self, at: Timestamp) -> Timestamp {
        let steps = (at.as_millis() - self.offset_ms).div_euclid(self.interval_ms) + 1;
        Timestamp(self.offset_ms + steps * self.interval_ms)
    }

    /// The next point to evaluate when the one at `last` ended at `now`, and how many had to be skipped.
    pub fn next(&self, last: Timestamp, now: Timestamp) -> (Timestamp, u64) {
        let missed = ((now.as_millis() - last.as_millis()) / self.interval_ms - 1).max(0);
        (Timestamp(last.as_millis() + (missed + 1) * self.interval_ms), missed.unsigned_abs())
    }
}

#[cfg(test)]
mod tests;
