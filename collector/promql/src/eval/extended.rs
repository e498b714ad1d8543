//! The experimental range modifiers: `anchored` takes the sample before the range as its beginning, `smoothed`
//! interpolates at both of its edges. Neither extrapolates.

use std::sync::Arc;

use telemetry::Timestamp;

use super::over_time::{RangeCall, Slice};
use super::quantile::first_index;
use super::{Cell, Evaluator, Grid, RangeVector, Row, Window};
use crate::annotation::Operation;
use crate::ast::*;
use crate::engine::EvalError;
use crate::histogram::{CounterResetHint, Histogram};

type Floats = [(Timestamp, f64)];
type Histograms = [(Timestamp, Arc<Histogram>)];

const ANCHORED_FUNCTIONS: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
const SMOOTHED_FUNCTIONS: [&str; 3] = ["delta", "increase", "rate"];

fn millis<T>(samples: &[(Timestamp, T)], index: usize) -> i64 {
    samples[index].0.as_millis()
}

/// Which samples make up the window: from the one at or before its start, to the last in it (or, smoothed, the
/// first at or after its end). None where nothing of it lies in the window.
fn edges<T>(samples: &[(Timestamp, T)], start: i64, end: i64, smoothed: bool) -> Option<(usize, usize)> {
    let mut last = samples.len().checked_sub(1)?;
    let first = first_index(last, |i| millis(samples, i) > start).saturating_sub(1);
    if smoothed {
        last = first_index(last, |i| millis(samples, i) >= end);
    }
    let outside = millis(samples, last) <= start || (smoothed && millis(samples, first) > end);
    (!outside).then_some((first, last))
}

/// On the line between two samples; a counter that fell is taken to have begun anew at zero.
fn interpolate(floats: &Floats, i: usize, at: i64, counter: bool) -> f64 {
    let ((_, mut from), (_, to)) = (floats[i], floats[i + 1]);
    if counter && to < from {
        from = 0.0;
    }
    let (t0, t1) = (millis(floats, i), millis(floats, i + 1));
    from + (to - from) * (at - t0) as f64 / (t1 - t0) as f64
}

fn edge_values(
    floats: &Floats,
    (first, last): (usize, usize),
    start: i64,
    end: i64,
    smoothed: bool,
    counter: bool,
) -> (f64, f64) {
    let left = if smoothed && millis(floats, first) < start && first + 1 < floats.len() {
        interpolate(floats, first, start, counter)
    } else {
        floats[first].1
    };
    let right = if smoothed && last > 0 && millis(floats, last) > end {
        interpolate(floats, last - 1, end, counter)
    } else {
        floats[last].1
    };
    (left, right)
}

/// The samples strictly within the window.
fn inside<T>(samples: &[(Timestamp, T)], (first, last): (usize, usize), start: i64, end: i64) -> &[(Timestamp, T)] {
    let from = if millis(samples, first) <= start { first + 1 } else { first };
    let to = if millis(samples, last) >= end { last } else { last + 1 };
    samples.get(from..to).unwrap_or(&[])
}

impl Evaluator<'_> {
    /// Whether the function can be used with the modifier.
    pub(super) fn check_extension(&self, function: &str, extension: Option<Extension>) -> Result<(), EvalError> {
        let (name, allowed): (_, &[&str]) = match extension {
            None => return Ok(()),
            Some(Extension::Anchored) => ("anchored", &ANCHORED_FUNCTIONS),
            Some(Extension::Smoothed) => ("smoothed", &SMOOTHED_FUNCTIONS),
        };
        if allowed.contains(&function) {
            return Ok(());
        }
        let allowed = allowed.join(", ");
        Err(EvalError::Query(format!("{name} modifier can only be used with: {allowed} - not with {function}")))
    }

    /// rate, increase and delta of an anchored or smoothed range.
    pub(super) fn extended_rise(
        &mut self,
        call: &RangeCall<'_>,
        slice: &Slice<'_>,
        counter: bool,
        per_second: bool,
    ) -> Option<Cell> {
        let smoothed = slice.extension == Some(Extension::Smoothed);
        let seconds = slice.range_ms as f64 / 1000.0;
        if !slice.histograms.is_empty() {
            let mut rise = self.extended_histogram_rise(call, slice, counter, smoothed)?;
            if per_second {
                rise.divide(seconds);
            }
            rise.counter_reset_hint = CounterResetHint::Gauge;
            rise.compact();
            return Some(Cell::Histogram(Arc::new(rise)));
        }
        let (floats, start, end) = (slice.floats, slice.start, slice.end);
        let found = edges(floats, start, end, smoothed)?;
        let (left, right) = edge_values(floats, found, start, end, smoothed, counter);
        let mut rise = right - left;
        if counter {
            let mut previous = left;
            for value in inside(floats, found, start, end).iter().map(|(_, value)| *value).chain([right]) {
                if value < previous {
                    rise += previous;
                }
                previous = value;
            }
        }
        Some(Cell::Float(if per_second { rise / seconds } else { rise }))
    }

    fn extended_histogram_rise(
        &mut self,
        call: &RangeCall<'_>,
        slice: &Slice<'_>,
        counter: bool,
        smoothed: bool,
    ) -> Option<Histogram> {
        let (points, start, end) = (slice.histograms, slice.start, slice.end);
        let (first, last) = edges(points, start, end, smoothed)?;
        let custom = points[first].1.uses_custom_buckets();
        for (_, histogram) in &points[first..=last] {
            if histogram.uses_custom_buckets() != custom {
                self.annotations.mixed_schemas(slice.metric(), call.span);
                return None;
            }
            if counter && histogram.counter_reset_hint == CounterResetHint::Gauge {
                self.annotations.not_counter(slice.metric(), call.span);
            }
        }
        let left = if smoothed && millis(points, first) < start && first + 1 < points.len() {
            self.interpolated(call, slice.metric(), points, first, start, counter)?
        } else {
            (*points[first].1).clone()
        };
        let right = if smoothed && last > 0 && millis(points, last) > end {
            self.interpolated(call, slice.metric(), points, last - 1, end, counter)?
        } else {
            (*points[last].1).clone()
        };
        let gauges = [&left, &right].map(|h| h.counter_reset_hint == CounterResetHint::Gauge);
        if !counter && gauges.contains(&false) {
            self.annotations.not_gauge(slice.metric(), call.span);
        }
        let mut rise = right.clone();
        self.combine(call, slice, &mut rise, &left, Operation::Subtraction)?;
        if counter
            && let Some(correction) = self.reset_correction(call, slice, (first, last), &left, &right, smoothed)?
        {
            self.combine(call, slice, &mut rise, &correction, Operation::Addition)?;
        }
        Some(rise)
    }

    /// What was lost at resets between the edges; the outer option is none where histograms do not combine.
    fn reset_correction(
        &mut self,
        call: &RangeCall<'_>,
        slice: &Slice<'_>,
        (first, last): (usize, usize),
        left: &Histogram,
        right: &Histogram,
        smoothed: bool,
    ) -> Option<Option<Histogram>> {
        let points = slice.histograms;
        let mut from = first + 1;
        let mut previous = left;
        if smoothed
            && millis(points, first) < slice.start
            && points.get(first + 1).is_some_and(|(_, next)| next.is_reset_after(&points[first].1))
        {
            // The interpolation at the left edge has seen to this reset.
            previous = &points[first + 1].1;
            from += 1;
        }
        // Both edges lie between the same two samples.
        if from > last {
            return Some(None);
        }
        let mut correction: Option<Histogram> = None;
        let inner = points[from..last].iter().map(|(_, histogram)| &**histogram);
        for histogram in inner.chain([right]) {
            if histogram.is_reset_after(previous) {
                match &mut correction {
                    Some(sum) => self.combine(call, slice, sum, previous, Operation::Addition)?,
                    none => *none = Some(previous.clone()),
                }
            }
            previous = histogram;
        }
        Some(correction)
    }

    fn interpolated(
        &mut self,
        call: &RangeCall<'_>,
        metric: &str,
        points: &Histograms,
        i: usize,
        at: i64,
        counter: bool,
    ) -> Option<Histogram> {
        let ((_, before), (_, after)) = (&points[i], &points[i + 1]);
        let (t0, t1) = (millis(points, i), millis(points, i + 1));
        if at == t0 {
            return Some((**before).clone());
        }
        if at == t1 {
            return Some((**after).clone());
        }
        let fraction = (at - t0) as f64 / (t1 - t0) as f64;
        let mut result = (**after).clone();
        if counter && after.is_reset_after(before) {
            result.scale(fraction);
            return Some(result);
        }
        for (operation, factor) in [(Operation::Subtraction, Some(fraction)), (Operation::Addition, None)] {
            let combined = match operation {
                Operation::Subtraction => result.sub(before),
                _ => result.add(before),
            };
            let Ok(combined) = combined else {
                self.annotations.mixed_schemas(metric, call.span);
                return None;
            };
            if combined.bounds_reconciled {
                self.annotations.mismatched_custom_buckets(operation, call.span);
            }
            if let Some(factor) = factor {
                result.scale(factor);
            }
        }
        Some(result)
    }

    /// An instant selector that interpolates between the samples round each step.
    pub(super) fn smoothed_selector(&mut self, n: &VectorSelector, window: Window) -> Result<Grid, EvalError> {
        let selector = MatrixSelector { selector: n.clone(), range_ms: 0, range_expr: None, span: n.span };
        let ranges = self.range_selector(&selector, window)?;
        let call = RangeCall { name: "smoothed", span: n.span, scalars: Vec::new() };
        let steps = window.steps();
        let mut grid = Grid::new(steps);
        for series in &ranges.series {
            let row = grid.push_row(Row { labels: series.labels.clone(), drop_name: false });
            let metric = series.labels.metric_name().unwrap_or_default();
            for step in 0..steps {
                let at = ranges.window_end(window.at(step));
                let floats = within(&series.floats, at - self.lookback_ms, at + self.lookback_ms);
                let histograms = within(&series.histograms, at - self.lookback_ms, at + self.lookback_ms);
                if !floats.is_empty() && !histograms.is_empty() {
                    self.annotations.mixed_floats_histograms(metric, n.span);
                    continue;
                }
                grid.cells[row * steps + step] = if histograms.is_empty() {
                    smoothed_float(floats, at).map(Cell::Float)
                } else {
                    self.smoothed_histogram(&call, metric, histograms, at)
                };
            }
            grid.drop_last_if_empty();
        }
        Ok(grid)
    }

    fn smoothed_histogram(&mut self, call: &RangeCall<'_>, metric: &str, points: &Histograms, at: i64) -> Option<Cell> {
        let next = points.partition_point(|(ts, _)| ts.as_millis() < at);
        if points.get(next).is_some_and(|(ts, _)| ts.as_millis() == at) {
            return Some(Cell::Histogram(points[next].1.clone()));
        }
        let before = next.checked_sub(1)?;
        if next == points.len() {
            let mut histogram = (*points[before].1).clone();
            histogram.counter_reset_hint = CounterResetHint::Unknown;
            return Some(Cell::Histogram(Arc::new(histogram)));
        }
        let (a, b) = (&points[before].1, &points[next].1);
        if a.uses_custom_buckets() != b.uses_custom_buckets() {
            self.annotations.mixed_schemas(metric, call.span);
            return None;
        }
        let counter = [a, b].iter().any(|h| h.counter_reset_hint != CounterResetHint::Gauge);
        let histogram = self.interpolated(call, metric, points, before, at, counter)?;
        Some(Cell::Histogram(Arc::new(histogram)))
    }

    /// An anchored or smoothed range as the result of a query: its edges have values.
    pub(super) fn with_edges(&self, ranges: &mut RangeVector, window: Window) -> Result<(), EvalError> {
        let Some(extension) = ranges.extension else { return Ok(()) };
        let smoothed = extension == Extension::Smoothed;
        let end = ranges.window_end(window.start);
        let start = end.saturating_sub(ranges.range_ms);
        for series in &mut ranges.series {
            if !series.histograms.is_empty() {
                let name = if smoothed { "smoothed" } else { "anchored" };
                return Err(EvalError::Query(format!("{name} modifier is not supported with histograms")));
            }
            series.floats = match edges(&series.floats, start, end, smoothed) {
                None => Vec::new(),
                Some(found) => {
                    let (left, right) = edge_values(&series.floats, found, start, end, smoothed, false);
                    let mut floats = vec![(Timestamp::from_millis(start), left)];
                    floats.extend_from_slice(inside(&series.floats, found, start, end));
                    floats.push((Timestamp::from_millis(end), right));
                    floats
                }
            };
        }
        Ok(())
    }
}

fn within<T>(samples: &[(Timestamp, T)], after: i64, until: i64) -> &[(Timestamp, T)] {
    let from = samples.partition_point(|(ts, _)| ts.as_millis() <= after);
    let to = samples.partition_point(|(ts, _)| ts.as_millis() <= until);
    samples.get(from..to).unwrap_or(&[])
}

fn smoothed_float(floats: &Floats, at: i64) -> Option<f64> {
    let next = floats.partition_point(|(ts, _)| ts.as_millis() < at);
    if floats.get(next).is_some_and(|(ts, _)| ts.as_millis() == at) {
        return Some(floats[next].1);
    }
    let before = next.checked_sub(1)?;
    if next == floats.len() { Some(floats[before].1) } else { Some(interpolate(floats, before, at, false)) }
}

/// An anchored range for `resets` and `changes`: from the last sample at or before its start on. None where no
/// sample lies after the start.
pub(super) fn anchored<'s>(slice: &Slice<'s>) -> Option<Slice<'s>> {
    let (floats, histograms) = (slice.floats, slice.histograms);
    let float = floats.partition_point(|(ts, _)| ts.as_millis() <= slice.start);
    let histogram = histograms.partition_point(|(ts, _)| ts.as_millis() <= slice.start);
    if float >= floats.len() && histogram >= histograms.len() {
        return None;
    }
    let anchor_float = float.checked_sub(1).map(|i| millis(floats, i));
    let anchor_histogram = histogram.checked_sub(1).map(|i| millis(histograms, i));
    let (float, histogram) = match (anchor_float, anchor_histogram) {
        (None, None) => (0, 0),
        (Some(f), h) if h.is_none_or(|h| f >= h) => (float - 1, histogram),
        _ => (float, histogram - 1),
    };
    Some(slice.from(float, histogram))
}
