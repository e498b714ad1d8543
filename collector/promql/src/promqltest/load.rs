//! What a script has loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use telemetry::labels::METRIC_NAME;
use telemetry::{Labels, Timestamp};

use super::ScriptError;
use super::script::{Load, LoadedSeries};
use crate::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram};
use crate::{PointSeries, SeriesTable, SeriesValue};

#[derive(Default)]
pub(super) struct Loaded {
    series: BTreeMap<Labels, PointSeries>,
}

impl Loaded {
    pub(super) fn load(&mut self, load: &Load) -> Result<(), ScriptError> {
        for series in &load.series {
            let mut at = 0;
            for (i, value) in series.values.iter().enumerate() {
                let start = series.starts.get(i).copied().flatten().map_or(0, |start| at + start);
                match value {
                    SeriesValue::Omitted => {}
                    SeriesValue::Float(value) => self.append_float(&series.labels, at, start, *value),
                    SeriesValue::Histogram { histogram, .. } => {
                        self.append_histogram(&series.labels, at, start, histogram.clone());
                    }
                }
                at += load.interval_ms;
            }
        }
        if load.with_nhcb { self.load_custom_buckets(load) } else { Ok(()) }
    }

    pub(super) fn table(&self) -> SeriesTable {
        let known = |starts: &mut Vec<i64>| {
            if starts.iter().all(|start| *start == 0) {
                starts.clear();
            }
        };
        SeriesTable::new(self.series.values().cloned().map(|mut series| {
            known(&mut series.float_starts);
            known(&mut series.histogram_starts);
            series
        }))
    }

    fn series(&mut self, labels: &Labels) -> &mut PointSeries {
        let new = || PointSeries { labels: labels.clone(), ..PointSeries::default() };
        self.series.entry(labels.clone()).or_insert_with(new)
    }

    fn append_float(&mut self, labels: &Labels, at: i64, start: i64, value: f64) {
        let series = self.series(labels);
        let ts = Timestamp::from_millis(at);
        let place = series.floats.partition_point(|(other, _)| *other < ts);
        if series.floats.get(place).is_some_and(|(other, _)| *other == ts) {
            return;
        }
        series.floats.insert(place, (ts, value));
        series.float_starts.insert(place, start);
    }

    /// Histograms come back from a database with hints that tell whether they go on from the one before.
    fn append_histogram(&mut self, labels: &Labels, at: i64, start: i64, mut histogram: Arc<Histogram>) {
        let series = self.series(labels);
        let ts = Timestamp::from_millis(at);
        let last_float = series.floats.last().map(|(ts, _)| *ts);
        let previous = series.histograms.last().filter(|(ts, _)| last_float.is_none_or(|float| float < *ts));
        if previous.is_some_and(|(other, _)| *other >= ts) {
            return;
        }
        let hint = match (histogram.counter_reset_hint, previous) {
            (CounterResetHint::Gauge, _) => CounterResetHint::Gauge,
            (CounterResetHint::CounterReset, _) => CounterResetHint::Unknown,
            (_, Some((_, previous))) if continues(&histogram, previous) => CounterResetHint::NotCounterReset,
            _ => CounterResetHint::Unknown,
        };
        Arc::make_mut(&mut histogram).counter_reset_hint = hint;
        series.histograms.push((ts, histogram));
        series.histogram_starts.push(start);
    }

    /// Classic histograms become, besides, native ones with custom buckets.
    fn load_custom_buckets(&mut self, load: &Load) -> Result<(), ScriptError> {
        let mut classic: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
        for series in &load.series {
            collect(series, load.interval_ms, &mut classic);
        }
        for (labels, by_time) in classic {
            for (at, classic) in by_time {
                let histogram = classic.convert().map_err(|message| ScriptError { line: load.line, message })?;
                self.append_histogram(&labels, at, 0, Arc::new(histogram));
            }
        }
        Ok(())
    }
}

/// Whether a histogram may follow another without a counter reset, in the same layout.
fn continues(histogram: &Histogram, previous: &Histogram) -> bool {
    let plain = Histogram { counter_reset_hint: CounterResetHint::Unknown, ..histogram.clone() };
    previous.counter_reset_hint != CounterResetHint::Gauge
        && histogram.schema == previous.schema
        && histogram.zero_threshold == previous.zero_threshold
        && histogram.custom_values == previous.custom_values
        && !plain.is_reset_after(previous)
}

/// A classic histogram at one time.
#[derive(Default)]
struct Classic {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

fn collect(series: &LoadedSeries, interval_ms: i64, classic: &mut BTreeMap<Labels, BTreeMap<i64, Classic>>) {
    let name = series.labels.metric_name().unwrap_or_default();
    let Some((base, part)) = ["_bucket", "_count", "_sum"].iter().find_map(|s| Some((name.strip_suffix(s)?, *s)))
    else {
        return;
    };
    let bound = series.labels.get("le").unwrap_or_default().parse::<f64>().ok().filter(|le| !le.is_nan());
    if part == "_bucket" && bound.is_none() {
        return;
    }
    let labels = series.labels.with("le", "").with(METRIC_NAME, base);
    let by_time = classic.entry(labels).or_default();
    for (at, value) in (0..).step_by(usize::try_from(interval_ms).unwrap_or(1).max(1)).zip(&series.values) {
        let SeriesValue::Float(value) = value else { continue };
        let histogram: &mut Classic = by_time.entry(at).or_default();
        match (part, bound) {
            ("_bucket", Some(bound)) => histogram.buckets.push((bound, *value)),
            ("_count", _) => histogram.count = Some(*value),
            _ => histogram.sum = *value,
        }
    }
}

impl Classic {
    fn convert(mut self) -> Result<Histogram, String> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|a, b| a.0 == b.0);
        if self.buckets.windows(2).any(|pair| pair[0].1 > pair[1].1) {
            return Err("bucket counts are not cumulative".to_owned());
        }
        let highest = self.buckets.last().map(|(_, count)| *count);
        let count = self.count.or(highest).unwrap_or_default();
        if self.buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        if self.buckets.last().is_some_and(|(_, last)| *last != count) {
            return Err("the count is not that of the highest bucket".to_owned());
        }
        let mut previous = 0.0;
        let own = |(_, count): &(f64, f64)| {
            let own = count - previous;
            previous = *count;
            own
        };
        let counts: Vec<f64> = self.buckets.iter().map(own).collect();
        let mut histogram = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive: (0..).zip(counts).collect(),
            custom_values: self.buckets.iter().map(|(bound, _)| *bound).filter(|b| b.is_finite() || *b < 0.0).collect(),
            ..Histogram::default()
        };
        histogram.compact();
        Ok(histogram)
    }
}
