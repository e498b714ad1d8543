//! Selectors: series from the source, samples to steps.

use std::sync::Arc;

use telemetry::{Timestamp, is_stale_nan};

use super::{Cell, Evaluator, Grid, RangeSeries, RangeVector, Row, Window, weight};
use crate::ast::{At, Extension, MatrixSelector, VectorSelector};
use crate::engine::EvalError;
use crate::histogram::{CounterResetHint, Histogram};
use crate::source::PointSeries;

/// How often a loop over series asks whether it should stop.
const SERIES_BETWEEN_STOP_CHECKS: usize = 256;

pub(super) fn pinned(at: Option<At>) -> Option<i64> {
    match at {
        Some(At::Time(ms)) => Some(ms),
        _ => None,
    }
}

impl Evaluator<'_> {
    fn fetch(&mut self, n: &VectorSelector, start: i64, end: i64) -> Result<Vec<PointSeries>, EvalError> {
        let (start, end) = (Timestamp::from_millis(start), Timestamp::from_millis(end));
        let mut series = self.source.select_points(&n.matchers, start, end).map_err(EvalError::Source)?;
        if n.histogram_stats {
            series.iter_mut().for_each(keep_histogram_stats);
        }
        self.stats.series += series.len() as u64;
        let samples: usize = series.iter().map(|s| s.floats.len() + weight(&s.histograms)).sum();
        self.hold(samples.saturating_mul(size_of::<(Timestamp, f64)>()))?;
        Ok(series)
    }

    pub(super) fn instant_selector(&mut self, n: &VectorSelector, window: Window) -> Result<Grid, EvalError> {
        self.instant_samples(n, window, |sample| Some(sample.cell))
    }

    /// Each step's latest sample within the lookback; `value` makes a cell of it.
    pub(super) fn instant_samples(
        &mut self,
        n: &VectorSelector,
        window: Window,
        value: impl Fn(Latest) -> Option<Cell>,
    ) -> Result<Grid, EvalError> {
        let at = pinned(n.at);
        let reference = |ts: i64| at.unwrap_or(ts).saturating_sub(n.offset_ms);
        let start = reference(window.start).saturating_sub(self.lookback_ms);
        let series = self.fetch(n, start, reference(window.last()))?;
        let steps = window.steps();
        self.check_grid(series.len(), steps)?;
        let mut grid = Grid::new(steps);
        grid.rows.reserve(series.len());
        grid.cells.reserve(series.len() * steps);
        for (i, series) in series.into_iter().enumerate() {
            if i % SERIES_BETWEEN_STOP_CHECKS == 0 {
                self.check_stop()?;
            }
            let mut cursor = LatestSample::new(&series, self.lookback_ms);
            let mut found = 0;
            for step in 0..steps {
                let cell = cursor.at(reference(window.at(step))).and_then(&value);
                if let Some(cell) = &cell {
                    found += cell.weight();
                    self.tally.count(step, cell.weight() as u64, cell.weight() as u64);
                }
                grid.cells.push(cell);
            }
            grid.rows.push(Row { labels: series.labels, drop_name: false });
            grid.drop_last_if_empty();
            self.charge(found)?;
        }
        Ok(grid)
    }

    pub(super) fn range_selector(&mut self, n: &MatrixSelector, window: Window) -> Result<RangeVector, EvalError> {
        let s = &n.selector;
        let at = pinned(s.at);
        let (back, ahead) = match s.extension {
            None => (0, 0),
            Some(Extension::Anchored) => (self.lookback_ms, 0),
            Some(Extension::Smoothed) => (self.lookback_ms, self.lookback_ms),
        };
        let first = at.unwrap_or(window.start).saturating_sub(s.offset_ms);
        let last = at.unwrap_or(window.last()).saturating_sub(s.offset_ms);
        let start = first.saturating_sub(n.range_ms).saturating_sub(back);
        let series = self.fetch(s, start, last.saturating_add(ahead))?;
        let series = series.into_iter().map(without_stale_markers).collect();
        let (range_ms, offset_ms, extension) = (n.range_ms, s.offset_ms, s.extension);
        Ok(RangeVector { series, range_ms, offset_ms, at, extension, from_subquery: false })
    }
}

/// Reduces histograms to count and sum. What the buckets tell of counter resets is put into the hints first.
fn keep_histogram_stats(series: &mut PointSeries) {
    let mut previous: Option<Arc<Histogram>> = None;
    for (_, histogram) in series.histograms.iter_mut().filter(|(_, h)| !is_stale_nan(h.sum)) {
        let counter_reset_hint = match (&previous, histogram.counter_reset_hint) {
            (Some(previous), CounterResetHint::Unknown) if histogram.is_reset_after(previous) => {
                CounterResetHint::CounterReset
            }
            (Some(_), CounterResetHint::Unknown) => CounterResetHint::NotCounterReset,
            (_, hint) => hint,
        };
        let Histogram { schema, count, sum, .. } = **histogram;
        let stats = Histogram { counter_reset_hint, schema, count, sum, ..Histogram::default() };
        previous = Some(std::mem::replace(histogram, Arc::new(stats)));
    }
}

fn without_stale_markers(mut series: PointSeries) -> RangeSeries {
    if series.floats.iter().any(|(_, value)| is_stale_nan(*value)) {
        if !series.float_starts.is_empty() {
            let kept = series.floats.iter().zip(&series.float_starts).filter(|((_, v), _)| !is_stale_nan(*v));
            series.float_starts = kept.map(|(_, start)| *start).collect();
        }
        series.floats.retain(|(_, value)| !is_stale_nan(*value));
    }
    if series.histograms.iter().any(|(_, h)| is_stale_nan(h.sum)) {
        if !series.histogram_starts.is_empty() {
            let kept =
                series.histograms.iter().zip(&series.histogram_starts).filter(|((_, h), _)| !is_stale_nan(h.sum));
            series.histogram_starts = kept.map(|(_, start)| *start).collect();
        }
        series.histograms.retain(|(_, h)| !is_stale_nan(h.sum));
    }
    RangeSeries {
        labels: series.labels,
        drop_name: false,
        floats: series.floats,
        histograms: series.histograms,
        float_starts: series.float_starts,
        histogram_starts: series.histogram_starts,
    }
}

/// Finds the latest sample at rising times.
struct LatestSample<'a> {
    series: &'a PointSeries,
    lookback_ms: i64,
    /// Samples of each kind that are not after the time asked for last.
    floats: usize,
    histograms: usize,
}

impl<'a> LatestSample<'a> {
    fn new(series: &'a PointSeries, lookback_ms: i64) -> Self {
        LatestSample { series, lookback_ms, floats: 0, histograms: 0 }
    }

    fn at(&mut self, time: i64) -> Option<Latest> {
        let (floats, histograms) = (&self.series.floats, &self.series.histograms);
        while floats.get(self.floats).is_some_and(|(ts, _)| ts.as_millis() <= time) {
            self.floats += 1;
        }
        while histograms.get(self.histograms).is_some_and(|(ts, _)| ts.as_millis() <= time) {
            self.histograms += 1;
        }
        let float = self.floats.checked_sub(1).map(|i| (i, floats[i]));
        let histogram = self.histograms.checked_sub(1).map(|i| (i, &histograms[i]));
        let (ts, start, cell) = match (float, histogram) {
            (Some((i, (ts, value))), h) if h.is_none_or(|(_, (other, _))| *other <= ts) => {
                if is_stale_nan(value) {
                    return None;
                }
                (ts, self.series.float_starts.get(i), Cell::Float(value))
            }
            (_, Some((i, (ts, histogram)))) => {
                if is_stale_nan(histogram.sum) {
                    return None;
                }
                (*ts, self.series.histogram_starts.get(i), Cell::Histogram(histogram.clone()))
            }
            _ => return None,
        };
        let ts = ts.as_millis();
        let start = start.copied().unwrap_or_default();
        (ts > time.saturating_sub(self.lookback_ms)).then_some(Latest { ts, start, cell })
    }
}

/// A sample that an instant selector found.
pub(super) struct Latest {
    pub ts: i64,
    /// Zero where it is not known.
    pub start: i64,
    pub cell: Cell,
}
