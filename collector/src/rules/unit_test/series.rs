//! The samples of a unit test: promtool's notation in, a store that a query can read out.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use promql::histogram::CounterResetHint;
use promql::{Engine, Histogram, Limits, PointSeries, Series, SeriesValue, Source, SourceError};
use telemetry::{Labels, Matcher, Timestamp};

use super::super::group::Backend;
use super::super::live::vector;
use super::super::recording::Recorded;
use super::super::template::QueryAnswer;

/// One input series, its values at their times.
#[derive(Clone, Debug)]
pub(in crate::rules) struct InputSamples {
    pub(in crate::rules) labels: Labels,
    pub(in crate::rules) samples: Vec<(Timestamp, TestValue)>,
}

/// A sample's value.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rules) enum TestValue {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// Reads `name{a="b"}` and `1 2+3x4 _ stale {{count:1}}`, the values `interval` apart from `start` on.
pub(in crate::rules) fn parse(
    series: &str,
    values: &str,
    start: Timestamp,
    interval: Duration,
) -> Result<InputSamples, String> {
    let described = promql::parse_series(&format!("{} {}", series.trim(), values.trim()))
        .map_err(|error| format!("series {series:?}: {error}"))?;
    let mut at = start;
    let mut samples = Vec::new();
    for value in described.values {
        samples.extend(test_value(value).map(|value| (at, value)));
        at = at + interval;
    }
    Ok(InputSamples { labels: described.labels, samples })
}

fn test_value(value: SeriesValue) -> Option<TestValue> {
    match value {
        SeriesValue::Omitted => None,
        SeriesValue::Float(value) => Some(TestValue::Float(value)),
        SeriesValue::Histogram { histogram, .. } => Some(TestValue::Histogram(histogram)),
    }
}

/// `name{a="b"}`, `{a="b"}`, `name` or nothing, as labels.
pub(super) fn labels(text: &str) -> Result<Labels, String> {
    let described = promql::parse_series(text.trim()).map_err(|error| format!("labels {text:?}: {error}"))?;
    match described.values.is_empty() {
        true => Ok(described.labels),
        false => Err(format!("labels {text:?}: there is more than labels")),
    }
}

/// `{{count:1}}`.
pub(super) fn histogram(text: &str) -> Result<TestValue, String> {
    let mut described = promql::parse_series(&format!("{{}} {}", text.trim()))
        .map_err(|error| format!("histogram {text:?}: {error}"))?;
    match (described.values.pop().and_then(test_value), described.values.is_empty()) {
        (Some(histogram @ TestValue::Histogram(_)), true) => Ok(histogram),
        _ => Err(format!("histogram {text:?}: this is not one histogram")),
    }
}

/// A store and an engine for one test.
pub(in crate::rules) struct MemoryStore {
    engine: Engine,
    series: Memory,
}

#[derive(Default)]
struct Memory(RwLock<BTreeMap<Labels, PointSeries>>);

impl Source for Memory {
    fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Result<Vec<Series>, SourceError> {
        let points = self.select_points(matchers, start, end)?;
        Ok(points.into_iter().map(|series| Series { labels: series.labels, samples: series.floats }).collect())
    }

    fn select_points(
        &self,
        matchers: &[Matcher],
        start: Timestamp,
        end: Timestamp,
    ) -> Result<Vec<PointSeries>, SourceError> {
        let series = self.0.read().expect("no one panics holding it");
        let is_meant = |labels: &Labels| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()));
        let cut = |series: &PointSeries| PointSeries {
            labels: series.labels.clone(),
            floats: within(&series.floats, start, end),
            histograms: within(&series.histograms, start, end),
            ..PointSeries::default()
        };
        let found = series.values().filter(|series| is_meant(&series.labels)).map(cut);
        Ok(found.filter(|series| !series.floats.is_empty() || !series.histograms.is_empty()).collect())
    }
}

fn within<T: Clone>(samples: &[(Timestamp, T)], start: Timestamp, end: Timestamp) -> Vec<(Timestamp, T)> {
    let from = samples.partition_point(|(at, _)| *at <= start);
    let to = samples.partition_point(|(at, _)| *at <= end).max(from);
    samples[from..to].to_vec()
}

/// A database says of each histogram whether it goes on from the one before.
fn with_hint(mut histogram: Arc<Histogram>, previous: Option<&Histogram>) -> Arc<Histogram> {
    let plain = Histogram { counter_reset_hint: CounterResetHint::Unknown, ..histogram.as_ref().clone() };
    let goes_on = |previous: &Histogram| plain.schema == previous.schema && !plain.is_reset_after(previous);
    let hint = match (histogram.counter_reset_hint, previous) {
        (CounterResetHint::Gauge, _) => CounterResetHint::Gauge,
        (_, Some(previous)) if goes_on(previous) => CounterResetHint::NotCounterReset,
        _ => CounterResetHint::Unknown,
    };
    Arc::make_mut(&mut histogram).counter_reset_hint = hint;
    histogram
}

fn insert<T>(samples: &mut Vec<(Timestamp, T)>, at: Timestamp, value: T) {
    match samples.binary_search_by_key(&at, |(at, _)| *at) {
        Ok(i) => samples[i].1 = value,
        Err(i) => samples.insert(i, (at, value)),
    }
}

impl MemoryStore {
    /// Subqueries without a step of their own use the evaluation interval, as in promtool.
    pub(in crate::rules) fn new(evaluation_interval: Duration) -> Self {
        let limits = Limits { default_step: evaluation_interval, ..Limits::default() };
        MemoryStore { engine: Engine::new(limits), series: Memory::default() }
    }

    /// Adds samples in time order; of two at one time the later wins.
    pub(in crate::rules) fn append(&self, labels: &Labels, samples: impl IntoIterator<Item = (Timestamp, TestValue)>) {
        let mut series = self.series.0.write().expect("no one panics holding it");
        let new = || PointSeries { labels: labels.clone(), ..PointSeries::default() };
        let stored = series.entry(labels.clone()).or_insert_with(new);
        for (at, value) in samples {
            match value {
                TestValue::Float(value) => insert(&mut stored.floats, at, value),
                TestValue::Histogram(histogram) => {
                    let previous = stored.histograms.last().map(|(_, previous)| previous.clone());
                    insert(&mut stored.histograms, at, with_hint(histogram, previous.as_deref()));
                }
            }
        }
    }

    fn answer(&self, expr: &str, at: Timestamp) -> Result<promql::Value, String> {
        let expr = promql::parse(expr).map_err(|error| error.to_string())?;
        Ok(self.engine.instant(&expr, &self.series, at).map_err(|error| error.to_string())?.value)
    }

    /// The result of an expression test, by labels.
    pub(in crate::rules) fn query(&self, expr: &str, at: Timestamp) -> Result<Vec<(Labels, TestValue)>, String> {
        let value = |sample: promql::VectorSample| match sample.histogram {
            Some(histogram) => TestValue::Histogram(histogram),
            None => TestValue::Float(sample.value),
        };
        Ok(vector(self.answer(expr, at)?)?.into_iter().map(|s| (s.labels.clone(), value(s))).collect())
    }
}

impl Backend for MemoryStore {
    async fn instant(&self, expr: &str, at: Timestamp) -> QueryAnswer {
        vector(self.answer(expr, at)?)
    }

    async fn write(&self, recorded: Recorded) -> Result<(), String> {
        for sample in recorded.floats {
            self.append(&sample.labels, [(sample.timestamp, TestValue::Float(sample.value))]);
        }
        for sample in recorded.histograms {
            let histogram = Arc::new(Histogram::from(&sample.histogram));
            self.append(&sample.labels, [(sample.timestamp, TestValue::Histogram(histogram))]);
        }
        Ok(())
    }
}
