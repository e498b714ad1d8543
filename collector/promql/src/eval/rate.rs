//! How a range rises: rate, increase, delta, irate, idelta; resets and changes.

use std::sync::Arc;

use telemetry::Timestamp;

use super::native_rate::starts_anew;
use super::over_time::{RangeCall, Slice};
use super::{Cell, Evaluator};
use crate::annotation::Operation;

/// A sample that starts later than the one before it ended says that the counter began anew in between.
pub(super) fn is_start_reset(prev_start: i64, prev_ts: i64, start: i64, ts: i64) -> bool {
    if start == 0 || start >= ts || start < prev_ts {
        return false;
    }
    if start > prev_ts {
        return true;
    }
    // The start is the sample before: so it is with deltas, and with counters whose start is not known.
    prev_start <= prev_ts && prev_start != 0 && prev_start != prev_ts
}

fn overlaps(prev_start: i64, prev_ts: i64, start: i64) -> bool {
    start != 0 && start < prev_ts && start != prev_start
}

fn float_reset(slice: &Slice<'_>, i: usize) -> bool {
    let ((prev_ts, prev), (ts, value)) = (slice.floats[i - 1], slice.floats[i]);
    value < prev
        || (i < slice.float_starts.len()
            && is_start_reset(slice.float_starts[i - 1], prev_ts.as_millis(), slice.float_starts[i], ts.as_millis()))
}

/// The times that extrapolation goes by.
struct Extent {
    first: i64,
    last: i64,
    samples: usize,
    /// The counter's start within the window, where it is known.
    start: Option<i64>,
}

impl Extent {
    fn new(
        slice: &Slice<'_>,
        first: Timestamp,
        last: Timestamp,
        samples: usize,
        starts: &[i64],
        counter: bool,
    ) -> Self {
        let first = first.as_millis();
        let within = |start: &i64| counter && *start != 0 && *start > slice.start && *start < first;
        Extent { first, last: last.as_millis(), samples, start: starts.first().copied().filter(within) }
    }

    /// By how much a rise between the samples is to be multiplied to be the rise over the window.
    ///
    /// `to_zero` gives, for the time between the samples, how long before the first the counter was zero.
    fn factor(&self, slice: &Slice<'_>, per_second: bool, to_zero: impl Fn(f64) -> Option<f64>) -> f64 {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let mut to_start = seconds(self.first - slice.start);
        let mut to_end = seconds(slice.end - self.last);
        let mut sampled = seconds(self.last - self.first);
        let average = if self.samples > 1 { sampled / (self.samples - 1) as f64 } else { 0.0 };
        // Samples that end within 1.1 intervals of the window's edge are taken to go on to it; otherwise the
        // series is taken to begin or end half an interval beyond them.
        let threshold = average * 1.1;
        if let Some(start) = self.start {
            to_start = 0.0;
            sampled = seconds(self.last - start);
        } else {
            if to_start >= threshold {
                to_start = average / 2.0;
            }
            if let Some(zero) = to_zero(sampled)
                && zero < to_start
            {
                to_start = zero;
            }
        }
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        let factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
        if per_second { factor / (slice.range_ms as f64 / 1000.0) } else { factor }
    }
}

impl Evaluator<'_> {
    /// rate (counter, per second), increase (counter) and delta.
    pub(super) fn extrapolated(
        &mut self,
        call: &RangeCall<'_>,
        slice: &Slice<'_>,
        counter: bool,
        per_second: bool,
    ) -> Option<Cell> {
        if !slice.floats.is_empty() && !slice.histograms.is_empty() {
            self.annotations.mixed_floats_histograms(slice.metric(), call.span);
            return None;
        }
        if slice.extension.is_some() {
            self.extended_rise(call, slice, counter, per_second)
        } else if slice.histograms.is_empty() {
            self.extrapolated_floats(call, slice, counter, per_second)
        } else {
            self.extrapolated_histograms(call, slice, counter, per_second)
        }
    }

    fn extrapolated_histograms(
        &mut self,
        call: &RangeCall<'_>,
        slice: &Slice<'_>,
        counter: bool,
        per_second: bool,
    ) -> Option<Cell> {
        let points = slice.histograms;
        let ((first_ts, first), (last_ts, _)) = (points.first()?, points.last()?);
        let mut rise = if points.len() > 1 { Some(self.histogram_rise(call, slice, counter)?) } else { None };
        let extent = Extent::new(slice, *first_ts, *last_ts, points.len(), slice.histogram_starts, counter);
        if extent.start.is_some() {
            match &mut rise {
                Some(rise) => self.combine(call, slice, rise, first, Operation::Addition)?,
                none => *none = Some((**first).clone()),
            }
        }
        let mut rise = rise?;
        let to_zero = |sampled: f64| {
            (counter && rise.count > 0.0 && first.count >= 0.0).then(|| sampled * (first.count / rise.count))
        };
        let factor = extent.factor(slice, per_second, to_zero);
        rise.scale(factor);
        Some(Cell::Histogram(Arc::new(rise)))
    }

    fn extrapolated_floats(
        &mut self,
        call: &RangeCall<'_>,
        slice: &Slice<'_>,
        counter: bool,
        per_second: bool,
    ) -> Option<Cell> {
        let floats = slice.floats;
        let ((first_ts, first), (last_ts, last)) = (*floats.first()?, *floats.last()?);
        let mut rise = last - first;
        if counter {
            let mut overlap = false;
            for i in 1..floats.len() {
                if !overlap && i < slice.float_starts.len() {
                    let (prev_ts, starts) = (floats[i - 1].0.as_millis(), slice.float_starts);
                    overlap = overlaps(starts[i - 1], prev_ts, starts[i]);
                    if overlap {
                        self.annotations.start_time_overlap(slice.metric(), call.span);
                    }
                }
                if float_reset(slice, i) {
                    rise += floats[i - 1].1;
                }
            }
        }
        let extent = Extent::new(slice, first_ts, last_ts, floats.len(), slice.float_starts, counter);
        if extent.start.is_some() {
            rise += first;
        } else if floats.len() < 2 {
            return None;
        }
        let to_zero = |sampled: f64| (counter && rise > 0.0 && first >= 0.0).then(|| sampled * (first / rise));
        Some(Cell::Float(rise * extent.factor(slice, per_second, to_zero)))
    }

    /// irate (counter, per second) and idelta: between the last two samples.
    pub(super) fn instant_rise(&mut self, call: &RangeCall<'_>, slice: &Slice<'_>, counter: bool) -> Option<Cell> {
        if slice.floats.len() + slice.histograms.len() < 2 {
            return None;
        }
        let latest = last_two(slice);
        let interval = latest[1].0 - latest[0].0;
        if interval == 0 {
            return None;
        }
        let seconds = interval as f64 / 1000.0;
        match (latest[0].1, latest[1].1) {
            (Kind::Float, Kind::Float) => {
                let last = slice.floats.len() - 1;
                let (previous, value) = (slice.floats[last - 1].1, slice.floats[last].1);
                let rise = if counter && float_reset(slice, last) { value } else { value - previous };
                Some(Cell::Float(if counter { rise / seconds } else { rise }))
            }
            (Kind::Histogram, Kind::Histogram) => {
                let mut rise = self.instant_histogram_rise(call, slice, counter)?;
                if counter {
                    rise.divide(seconds);
                }
                Some(Cell::Histogram(Arc::new(rise)))
            }
            _ => {
                self.annotations.mixed_floats_histograms(slice.metric(), call.span);
                None
            }
        }
    }

    pub(super) fn resets(&mut self, slice: &Slice<'_>) -> Option<Cell> {
        let reset = |a: Point, b: Point| match (a, b) {
            (Point::Float(_), Point::Float(i)) => float_reset(slice, i),
            (Point::Histogram(i), Point::Histogram(j)) => {
                starts_anew(slice, j) || slice.histograms[j].1.is_reset_after(&slice.histograms[i].1)
            }
            _ => true,
        };
        count_pairs(slice, reset)
    }

    pub(super) fn changes(&mut self, slice: &Slice<'_>) -> Option<Cell> {
        let changed = |a: Point, b: Point| match (a, b) {
            (Point::Float(i), Point::Float(j)) => {
                let (a, b) = (slice.floats[i].1, slice.floats[j].1);
                a != b && !(a.is_nan() && b.is_nan())
            }
            (Point::Histogram(i), Point::Histogram(j)) => !slice.histograms[j].1.same_value(&slice.histograms[i].1),
            _ => true,
        };
        count_pairs(slice, changed)
    }
}

/// A sample of a slice by its index among its kind.
#[derive(Clone, Copy)]
enum Point {
    Float(usize),
    Histogram(usize),
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Float,
    Histogram,
}

/// Times and kinds of the last two samples, in their order.
fn last_two(slice: &Slice<'_>) -> [(i64, Kind); 2] {
    let floats = slice.floats.iter().rev().take(2).map(|(ts, _)| (ts.as_millis(), Kind::Float));
    let histograms = slice.histograms.iter().rev().take(2).map(|(ts, _)| (ts.as_millis(), Kind::Histogram));
    let mut latest: Vec<(i64, Kind)> = floats.chain(histograms).collect();
    latest.sort_by_key(|(ts, _)| std::cmp::Reverse(*ts));
    [latest[1], latest[0]]
}

/// For how many neighbours in time `test` holds; nothing without samples.
fn count_pairs(slice: &Slice<'_>, test: impl Fn(Point, Point) -> bool) -> Option<Cell> {
    let (mut float, mut histogram) = (0, 0);
    let mut previous = None;
    let mut count = 0;
    loop {
        let next_float = slice.floats.get(float).map(|(ts, _)| *ts);
        let next_histogram = slice.histograms.get(histogram).map(|(ts, _)| *ts);
        let point = match (next_float, next_histogram) {
            (None, None) => break,
            (Some(f), h) if h.is_none_or(|h| f < h) => {
                float += 1;
                Point::Float(float - 1)
            }
            _ => {
                histogram += 1;
                Point::Histogram(histogram - 1)
            }
        };
        if previous.is_some_and(|previous| test(previous, point)) {
            count += 1;
        }
        previous = Some(point);
    }
    previous.map(|_| Cell::Float(f64::from(count)))
}
