//! One test of a test file: evaluates the groups step by step on a virtual clock and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use telemetry::{Labels, Timestamp};
use url::Url;

use super::super::alerting::AlertState;
use super::super::file::{self, ALERT_NAME, NameValidation, RuleKind};
use super::super::group::{Group, GroupTiming};
use super::super::template::Globals;
use super::series::{InputSamples, MemoryStore, TestValue, histogram, labels, parse};
use super::{AlertTest, Coverage, ExprTest, Test};

/// One ulp of difference, in `fuzzy_compare`.
const FUZZY: f64 = f64::EPSILON;

/// A test and what it shares with the others of its file.
pub(super) struct Run<'a> {
    pub(super) test: &'a Test,
    pub(super) rule_files: &'a [PathBuf],
    pub(super) group_order: &'a BTreeMap<String, usize>,
    pub(super) evaluation_interval: Duration,
    pub(super) fuzzy: bool,
}

/// What an alert is compared by.
type LabelsAndAnnotations = (Labels, Labels);

impl Run<'_> {
    /// Every expectation that was not met; what fired is noted.
    pub(super) async fn run(&self, coverage: &mut Coverage) -> Vec<String> {
        let prepared = self.start().and_then(|start| Ok((start, self.input(start)?, self.groups()?)));
        let (start, input, mut groups) = match prepared {
            Ok(prepared) => prepared,
            Err(why) => return vec![why],
        };
        if let Some(nameless) = self.test.alert_rule_test.iter().find(|test| test.alertname.is_empty()) {
            let at = shown(nameless.eval_time.unwrap_or_default());
            return vec![format!("an item under alert_rule_test misses the key alertname at eval_time {at}")];
        }
        let store = MemoryStore::new(self.evaluation_interval);
        let mut failures = match self.evaluate(start, &store, input, &mut groups, coverage).await {
            Ok(failures) => failures,
            Err(rule_failures) => return rule_failures,
        };
        for test in &self.test.promql_expr_test {
            failures.extend(self.check_expression(test, start, &store).err());
        }
        failures
    }

    fn start(&self) -> Result<Timestamp, String> {
        let Some(text) = &self.test.start_timestamp else { return Ok(Timestamp(0)) };
        if let Ok(seconds) = text.parse::<f64>() {
            return Ok(Timestamp::from_secs_f64(seconds));
        }
        let time: jiff::Timestamp =
            text.parse().map_err(|_| format!("start_timestamp {text:?} is neither seconds nor RFC 3339"))?;
        Ok(Timestamp(time.as_millisecond()))
    }

    fn input(&self, start: Timestamp) -> Result<Vec<InputSamples>, String> {
        let interval = self.test.interval.unwrap_or(self.evaluation_interval);
        self.test.input_series.iter().map(|series| parse(&series.series, &series.values, start, interval)).collect()
    }

    fn groups(&self) -> Result<Vec<Group>, String> {
        let external_url = match self.test.external_url.as_str() {
            "" => Url::parse("http://localhost/").expect("a constant URL"),
            url => Url::parse(url).map_err(|error| format!("external_url {url:?}: {error}"))?,
        };
        let external_labels = Labels::from_pairs(&self.test.external_labels);
        let globals = Globals { external_url, external_labels };
        let mut groups = Vec::new();
        for path in self.rule_files {
            let file = file::load(path, &globals, NameValidation::Utf8).map_err(|error| error.to_string())?;
            groups.extend(file.groups.into_iter().map(|spec| {
                let timing = GroupTiming {
                    interval: spec.interval.unwrap_or(self.evaluation_interval),
                    query_offset: spec.query_offset.unwrap_or_default(),
                    resend_delay: Duration::from_secs(60),
                };
                Group::new(spec, timing)
            }));
        }
        // Groups that the order does not name come first, by file and name.
        groups.sort_by_key(|group| self.group_order.get(&group.spec.name).map_or(0, |position| position + 1));
        Ok(groups)
    }

    /// Steps through time; `Err` when a rule failed, which ends the test.
    async fn evaluate(
        &self,
        start: Timestamp,
        store: &MemoryStore,
        mut input: Vec<InputSamples>,
        groups: &mut [Group],
        coverage: &mut Coverage,
    ) -> Result<Vec<String>, Vec<String>> {
        let tests = by_time(&self.test.alert_rule_test);
        let end = start + self.end();
        let mut failures = Vec::new();
        let mut at = start;
        while at <= end {
            append_until(store, &mut input, at);
            let mut rule_failures = Vec::new();
            for group in &mut *groups {
                let failed = group.evaluate(store, at).await.failures;
                let time = shown(at.since(start));
                rule_failures
                    .extend(failed.iter().map(|(rule, why)| format!("rule: {rule}, time: {time}, err: {why}")));
            }
            if !rule_failures.is_empty() {
                return Err(rule_failures);
            }
            groups.iter().for_each(|group| note_fired(group, coverage));
            let (from, until) = (at.since(start), at.since(start) + self.evaluation_interval);
            for (_, tests) in tests.range(from..until) {
                failures.extend(tests.iter().filter_map(|test| check_alerts(test, groups).err()));
            }
            at = at + self.evaluation_interval;
        }
        Ok(failures)
    }

    /// The last time that any expectation speaks of.
    fn end(&self) -> Duration {
        let alerts = self.test.alert_rule_test.iter().filter_map(|test| test.eval_time);
        let expressions = self.test.promql_expr_test.iter().filter_map(|test| test.eval_time);
        alerts.chain(expressions).max().unwrap_or_default()
    }

    fn check_expression(&self, test: &ExprTest, start: Timestamp, store: &MemoryStore) -> Result<(), String> {
        let after = test.eval_time.unwrap_or_default();
        let place = || format!("expr: {:?}, time: {}", test.expr, shown(after));
        let mut got = store.query(&test.expr, start + after).map_err(|why| format!("{}, err: {why}", place()))?;
        let mut expected = Vec::new();
        for sample in &test.exp_samples {
            let value = match sample.histogram.as_str() {
                "" => Ok(TestValue::Float(sample.value)),
                text => histogram(text),
            };
            let read = labels(&sample.labels).and_then(|labels| Ok((labels, value?)));
            expected.push(read.map_err(|why| format!("{}, err: {why}", place()))?);
        }
        got.sort_by(|(a, _), (b, _)| a.cmp(b));
        expected.sort_by(|(a, _), (b, _)| a.cmp(b));
        let equal = |((a, x), (b, y)): (&(Labels, TestValue), &(Labels, TestValue))| a == b && self.same(x, y);
        if got.len() == expected.len() && got.iter().zip(&expected).all(equal) {
            return Ok(());
        }
        Err(format!("{},\n    exp: {}\n    got: {}", place(), print_samples(&expected), print_samples(&got)))
    }

    fn same(&self, x: &TestValue, y: &TestValue) -> bool {
        match (x, y) {
            (TestValue::Float(x), TestValue::Float(y)) => {
                let close = |x: f64, y: f64| (x - y).abs() <= FUZZY * x.abs().max(y.abs());
                x == y || (x.is_nan() && y.is_nan()) || (self.fuzzy && close(*x, *y))
            }
            (TestValue::Histogram(x), TestValue::Histogram(y)) => {
                let (mut x, mut y) = (x.as_ref().clone(), y.as_ref().clone());
                x.compact() == y.compact()
            }
            _ => false,
        }
    }
}

fn note_fired(group: &Group, coverage: &mut Coverage) {
    for rule in group.rules.iter().filter(|rule| matches!(rule.spec.kind, RuleKind::Alert { .. })) {
        let key = (PathBuf::from(&group.spec.file), rule.spec.place.line, rule.spec.name().to_owned());
        let fires = rule.alerts.iter().any(|alert| alert.state == AlertState::Firing);
        *coverage.entry(key).or_default() |= fires;
    }
}

fn by_time(tests: &[AlertTest]) -> BTreeMap<Duration, Vec<&AlertTest>> {
    let mut by_time = BTreeMap::<_, Vec<_>>::new();
    for test in tests {
        by_time.entry(test.eval_time.unwrap_or_default()).or_default().push(test);
    }
    by_time
}

fn append_until(store: &MemoryStore, input: &mut [InputSamples], until: Timestamp) {
    for series in input {
        let due = series.samples.partition_point(|(at, _)| *at <= until);
        store.append(&series.labels, series.samples.drain(..due));
    }
}

fn check_alerts(test: &AlertTest, groups: &[Group]) -> Result<(), String> {
    let firing = |group: &Group| -> Vec<LabelsAndAnnotations> {
        let alerts = group
            .alerts()
            .filter(|(rule, alert)| rule.spec.name() == test.alertname && alert.state == AlertState::Firing);
        alerts.map(|(_, alert)| (alert.labels.clone(), alert.annotations.clone())).collect()
    };
    let mut got: Vec<_> = groups.iter().flat_map(firing).collect();
    let expected = test.exp_alerts.iter().map(|alert| {
        let labels = Labels::from_pairs(&alert.exp_labels).with(ALERT_NAME, &test.alertname);
        (labels, Labels::from_pairs(&alert.exp_annotations))
    });
    let mut expected: Vec<_> = expected.collect();
    got.sort();
    expected.sort();
    if got == expected {
        return Ok(());
    }
    let time = shown(test.eval_time.unwrap_or_default());
    let (expected, got) = (print_alerts(&expected), print_alerts(&got));
    Err(format!("alertname: {}, time: {time},\n    exp: {expected}\n    got: {got}", test.alertname))
}

fn print_alerts(alerts: &[LabelsAndAnnotations]) -> String {
    let lines: BTreeSet<_> = alerts.iter().map(|(l, a)| format!("\n      Labels:{l} Annotations:{a}")).collect();
    format!("[{}]", lines.into_iter().collect::<String>())
}

fn print_samples(samples: &[(Labels, TestValue)]) -> String {
    if samples.is_empty() {
        return "nil".to_owned();
    }
    let value = |value: &TestValue| match value {
        TestValue::Float(value) => promql::format_value(*value),
        TestValue::Histogram(histogram) => histogram.notation(),
    };
    samples.iter().map(|(labels, v)| format!("\n      {labels} {}", value(v))).collect()
}

fn shown(duration: Duration) -> String {
    telemetry::duration::format(duration)
}
