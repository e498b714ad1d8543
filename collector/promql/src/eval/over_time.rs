//! Functions over range vectors: the window slides over each series' samples, and the function sees a slice.

use std::sync::Arc;

use telemetry::labels::METRIC_NAME;
use telemetry::{Labels, Timestamp};

use super::extended::anchored;
use super::labels::absent_labels;
use super::native::HistogramTotal;
use super::quantile::quantile;
use super::{Cell, Evaluator, Grid, RangeSeries, RangeVector, Row, Window, weight};
use crate::annotation::Operation;
use crate::ast::*;
use crate::engine::EvalError;
use crate::histogram::Histogram;
use crate::kahan::{KahanSum, Mean};

/// What a function over a range needs to know besides the samples.
pub(super) struct RangeCall<'a> {
    pub name: &'a str,
    /// The place of the function's first argument.
    pub span: Span,
    /// The values of the scalar arguments at this step, in their order.
    pub scalars: Vec<f64>,
}

/// The samples of one series in one window `(start, end]`.
pub(super) struct Slice<'a> {
    pub floats: &'a [(Timestamp, f64)],
    pub histograms: &'a [(Timestamp, Arc<Histogram>)],
    pub float_starts: &'a [i64],
    pub histogram_starts: &'a [i64],
    pub start: i64,
    pub end: i64,
    pub range_ms: i64,
    /// The time of evaluation.
    pub ts: i64,
    pub(super) extension: Option<Extension>,
    labels: &'a Labels,
}

impl<'a> Slice<'a> {
    /// Floats alone, of a plain range.
    pub(super) fn of_floats(
        floats: &'a [(Timestamp, f64)],
        (start, end): (i64, i64),
        range_ms: i64,
        ts: i64,
        labels: &'a Labels,
    ) -> Self {
        let (histograms, float_starts, histogram_starts) = (&[], &[], &[]);
        Slice { floats, histograms, float_starts, histogram_starts, start, end, range_ms, ts, extension: None, labels }
    }

    /// The same without the first samples of each kind.
    pub(super) fn from(&self, float: usize, histogram: usize) -> Slice<'a> {
        Slice {
            floats: &self.floats[float..],
            histograms: &self.histograms[histogram..],
            float_starts: self.float_starts.get(float..).unwrap_or(&[]),
            histogram_starts: self.histogram_starts.get(histogram..).unwrap_or(&[]),
            ..*self
        }
    }

    pub(super) fn metric(&self) -> &str {
        self.labels.get(METRIC_NAME).unwrap_or_default()
    }
}

/// Indices of the samples that lie in a window that only moves forward.
#[derive(Default)]
struct Cursor {
    low: usize,
    high: usize,
}

impl Cursor {
    fn slide<T>(&mut self, samples: &[(Timestamp, T)], start: i64, end: i64) -> std::ops::Range<usize> {
        while samples.get(self.high).is_some_and(|(ts, _)| ts.as_millis() <= end) {
            self.high += 1;
        }
        while self.low < self.high && samples[self.low].0.as_millis() <= start {
            self.low += 1;
        }
        self.low..self.high
    }
}

impl Evaluator<'_> {
    /// Calls a function one of whose arguments, at `range_arg`, is a range vector.
    pub(super) fn range_call(&mut self, n: &Call, range_arg: usize, window: Window) -> Result<Grid, EvalError> {
        let subquery = match &n.args[range_arg] {
            Node::Subquery(subquery) => Some(self.subquery(subquery, window, true)?),
            _ => None,
        };
        let mut scalars = Vec::new();
        for (_, arg) in n.args.iter().enumerate().filter(|(i, _)| *i != range_arg) {
            scalars.push(self.eval(arg, window)?);
        }
        let ranges = match subquery {
            Some(ranges) => ranges,
            None => self.range_vector(&n.args[range_arg], window)?,
        };
        self.check_extension(n.function.name, ranges.extension)?;
        let steps = window.steps();
        self.check_grid(ranges.series.len(), steps)?;
        let keeps_name = matches!(n.function.name, "last_over_time" | "first_over_time");
        let mut call = RangeCall { name: n.function.name, span: n.args[0].span(), scalars: vec![0.0; scalars.len()] };
        let mut grid = Grid::new(steps);
        for (i, series) in ranges.series.iter().enumerate() {
            if i % 64 == 0 {
                self.check_stop()?;
            }
            let row = Row { labels: series.labels.clone(), drop_name: series.drop_name || !keeps_name };
            let row = grid.push_row(row);
            let (mut floats, mut histograms) = (Cursor::default(), Cursor::default());
            let (mut found, mut samples) = (0, 0);
            for step in 0..steps {
                let ts = window.at(step);
                let seen = (floats.high, histograms.high);
                let slice = self.slice(&ranges, series, ts, (&mut floats, &mut histograms));
                samples = slice.floats.len() + weight(slice.histograms);
                self.touch(samples)?;
                if samples == 0 {
                    continue;
                }
                let read = if ranges.from_subquery {
                    0
                } else {
                    let new = |cursor: &Cursor, seen: usize| cursor.high - seen.max(cursor.low).min(cursor.high);
                    let histograms_read = slice.histograms.len() - new(&histograms, seen.1);
                    new(&floats, seen.0) + weight(&slice.histograms[histograms_read..])
                };
                self.tally.count(step, samples as u64, read as u64);
                for (value, grid) in call.scalars.iter_mut().zip(&scalars) {
                    *value = grid.scalar_at(step);
                }
                let cell = self.range_function(&call, &slice)?;
                found += cell.as_ref().map_or(0, Cell::weight);
                grid.cells[row * steps + step] = cell;
            }
            self.live += found;
            self.touch(samples)?;
            self.note_non_counter(n, &grid, row);
            grid.drop_last_if_empty();
        }
        if n.function.name == "absent_over_time" {
            return Ok(absent_over_time(&grid, &n.args[range_arg]));
        }
        Ok(grid)
    }

    fn slice<'s>(
        &self,
        ranges: &RangeVector,
        series: &'s RangeSeries,
        ts: i64,
        cursors: (&mut Cursor, &mut Cursor),
    ) -> Slice<'s> {
        let end = ranges.window_end(ts);
        let start = end.saturating_sub(ranges.range_ms);
        let (from, to) = match ranges.extension {
            None => (start, end),
            Some(Extension::Anchored) => (start.saturating_sub(self.lookback_ms), end),
            Some(Extension::Smoothed) => (start.saturating_sub(self.lookback_ms), end.saturating_add(self.lookback_ms)),
        };
        let floats = cursors.0.slide(&series.floats, from, to);
        let histograms = cursors.1.slide(&series.histograms, from, to);
        let known = self.options.start_timestamps;
        let starts = |all: &'s [i64], range: &std::ops::Range<usize>| {
            if known { all.get(range.clone()).unwrap_or(&[]) } else { &[] }
        };
        Slice {
            float_starts: starts(&series.float_starts, &floats),
            histogram_starts: starts(&series.histogram_starts, &histograms),
            floats: &series.floats[floats],
            histograms: &series.histograms[histograms],
            start,
            end,
            range_ms: ranges.range_ms,
            ts,
            extension: ranges.extension,
            labels: &series.labels,
        }
    }

    fn note_non_counter(&mut self, n: &Call, grid: &Grid, row: usize) {
        if !matches!(n.function.name, "rate" | "increase") {
            return;
        }
        let labels = &grid.rows[row].labels;
        let Some(metric) = labels.metric_name().filter(|m| !m.is_empty()) else { return };
        if !grid.row(row).iter().flatten().any(|cell| matches!(cell, Cell::Float(_))) {
            return;
        }
        let span = n.args[0].span();
        if self.options.type_labels {
            let kind = labels.get("__type__").unwrap_or_default();
            if kind != "counter" && kind != "histogram" {
                self.annotations.possible_non_counter_type(metric, kind, span);
            }
        } else {
            self.note_non_counter_name(n, metric);
        }
    }

    pub(super) fn note_non_counter_name(&mut self, n: &Call, metric: &str) {
        let counts = ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| metric.ends_with(suffix));
        if !metric.is_empty() && !counts {
            self.annotations.possible_non_counter(metric, n.args[0].span());
        }
    }

    pub(super) fn range_function(
        &mut self,
        call: &RangeCall<'_>,
        slice: &Slice<'_>,
    ) -> Result<Option<Cell>, EvalError> {
        Ok(match call.name {
            "rate" => self.extrapolated(call, slice, true, true),
            "increase" => self.extrapolated(call, slice, true, false),
            "delta" => self.extrapolated(call, slice, false, false),
            "irate" => self.instant_rise(call, slice, true),
            "idelta" => self.instant_rise(call, slice, false),
            "resets" | "changes" => {
                let anchored_slice = match slice.extension {
                    Some(Extension::Anchored) => match anchored(slice) {
                        Some(slice) => Some(slice),
                        None => return Ok(None),
                    },
                    _ => None,
                };
                let slice = anchored_slice.as_ref().unwrap_or(slice);
                if call.name == "resets" { self.resets(slice) } else { self.changes(slice) }
            }
            "count_over_time" => Some(Cell::Float((slice.floats.len() + slice.histograms.len()) as f64)),
            "present_over_time" | "absent_over_time" => Some(Cell::Float(1.0)),
            "last_over_time" => last(slice),
            "first_over_time" => first(slice),
            "ts_of_last_over_time" => Some(Cell::Float(edge_times(slice).1 as f64 / 1000.0)),
            "ts_of_first_over_time" => Some(Cell::Float(edge_times(slice).0 as f64 / 1000.0)),
            "sum_over_time" | "avg_over_time" => self.total_or_mean(call, slice),
            "double_exponential_smoothing" => return self.smooth(call, slice),
            "deriv" | "predict_linear" => self.regression(call, slice),
            _ => {
                if slice.floats.is_empty() {
                    return Ok(None);
                }
                if !slice.histograms.is_empty() {
                    self.annotations.histogram_ignored_in_range(slice.metric(), call.span);
                }
                return self.float_function(call, slice);
            }
        })
    }

    /// Functions that look at floats alone.
    fn float_function(&mut self, call: &RangeCall<'_>, slice: &Slice<'_>) -> Result<Option<Cell>, EvalError> {
        let values = || slice.floats.iter().map(|(_, value)| *value);
        let value = match call.name {
            "max_over_time" => extreme(slice, |value, best| value > best).1,
            "min_over_time" => extreme(slice, |value, best| value < best).1,
            "ts_of_max_over_time" => extreme(slice, |value, best| value >= best).0 as f64 / 1000.0,
            "ts_of_min_over_time" => extreme(slice, |value, best| value <= best).0 as f64 / 1000.0,
            "stdvar_over_time" => variance(values()),
            "stddev_over_time" => variance(values()).sqrt(),
            "quantile_over_time" => {
                let q = call.scalars[0];
                if !(0.0..=1.0).contains(&q) {
                    self.annotations.invalid_quantile(q, call.span);
                }
                quantile(q, &mut values().collect::<Vec<_>>())
            }
            "mad_over_time" => median_deviation(values().collect()),
            other => return Err(EvalError::Query(format!("function {other} is not known to the evaluator"))),
        };
        Ok(Some(Cell::Float(value)))
    }

    fn total_or_mean(&mut self, call: &RangeCall<'_>, slice: &Slice<'_>) -> Option<Cell> {
        if !slice.histograms.is_empty() && !slice.floats.is_empty() {
            self.annotations.mixed_floats_histograms(slice.metric(), call.span);
            return None;
        }
        if !slice.histograms.is_empty() {
            return self.histogram_total_or_mean(call, slice);
        }
        let (_, first) = *slice.floats.first()?;
        let value = if call.name == "avg_over_time" {
            let mut mean = Mean::starting_at(first);
            slice.floats[1..].iter().for_each(|(_, value)| mean.add(*value));
            mean.value()
        } else {
            let mut sum = KahanSum::default();
            slice.floats.iter().for_each(|(_, value)| sum.add(*value));
            if sum.sum.is_infinite() { sum.sum } else { sum.value() }
        };
        Some(Cell::Float(value))
    }

    fn histogram_total_or_mean(&mut self, call: &RangeCall<'_>, slice: &Slice<'_>) -> Option<Cell> {
        let mean = call.name == "avg_over_time";
        let mut total = HistogramTotal::starting_with(&slice.histograms[0].1);
        let mut reconciled = false;
        for (i, (_, histogram)) in slice.histograms.iter().enumerate().skip(1) {
            let combined = if mean { total.add_to_mean(histogram, (i + 1) as f64) } else { total.add(histogram) };
            match combined {
                Ok(combined) => reconciled |= combined.bounds_reconciled,
                Err(_) => {
                    self.annotations.mixed_schemas(slice.metric(), call.span);
                    return None;
                }
            }
        }
        total.hints.note(&mut self.annotations, call.span);
        if reconciled {
            self.annotations.mismatched_custom_buckets(Operation::Aggregation, call.span);
        }
        let count = slice.histograms.len() as f64;
        Some(Cell::Histogram(Arc::new(if mean { total.mean(count) } else { total.sum() })))
    }

    /// Notes histograms beside too few floats; true where there are too few.
    fn too_few_floats(&mut self, call: &RangeCall<'_>, slice: &Slice<'_>) -> bool {
        if !slice.histograms.is_empty() && !slice.floats.is_empty() {
            self.annotations.histogram_ignored_in_range(slice.metric(), call.span);
        }
        slice.floats.len() < 2
    }

    fn smooth(&mut self, call: &RangeCall<'_>, slice: &Slice<'_>) -> Result<Option<Cell>, EvalError> {
        let (factor, trend_factor) = (call.scalars[0], call.scalars[1]);
        for (name, short, value) in [("smoothing", "sf", factor), ("trend", "tf", trend_factor)] {
            if value <= 0.0 || value >= 1.0 {
                let message = format!("invalid {name} factor. Expected: 0 < {short} < 1, got: {value:.6}");
                return Err(EvalError::Query(message));
            }
        }
        if self.too_few_floats(call, slice) {
            return Ok(None);
        }
        let values = slice.floats;
        let (mut previous, mut smoothed) = (0.0, values[0].1);
        let mut trend = values[1].1 - values[0].1;
        for (i, (_, value)) in values.iter().enumerate().skip(1) {
            if i > 1 {
                trend = trend_factor * (smoothed - previous) + (1.0 - trend_factor) * trend;
            }
            let next = factor * value + (1.0 - factor) * (smoothed + trend);
            (previous, smoothed) = (smoothed, next);
        }
        Ok(Some(Cell::Float(smoothed)))
    }

    fn regression(&mut self, call: &RangeCall<'_>, slice: &Slice<'_>) -> Option<Cell> {
        if self.too_few_floats(call, slice) {
            return None;
        }
        Some(Cell::Float(if call.name == "deriv" {
            // A time near the samples keeps the numbers small.
            linear_regression(slice.floats, slice.floats[0].0.as_millis()).0
        } else {
            let (slope, intercept) = linear_regression(slice.floats, slice.ts);
            slope * call.scalars[0] + intercept
        }))
    }
}

fn first(slice: &Slice<'_>) -> Option<Cell> {
    match (slice.floats.first(), slice.histograms.first()) {
        (Some((ts, value)), histogram) if histogram.is_none_or(|(other, _)| ts < other) => Some(Cell::Float(*value)),
        (_, Some((_, histogram))) => Some(Cell::Histogram(histogram.clone())),
        _ => None,
    }
}

fn last(slice: &Slice<'_>) -> Option<Cell> {
    match (slice.floats.last(), slice.histograms.last()) {
        (Some((ts, value)), histogram) if histogram.is_none_or(|(other, _)| other < ts) => Some(Cell::Float(*value)),
        (_, Some((_, histogram))) => Some(Cell::Histogram(histogram.clone())),
        _ => None,
    }
}

/// The times of the first and of the last sample, of whichever kind.
fn edge_times(slice: &Slice<'_>) -> (i64, i64) {
    let floats = || slice.floats.iter().map(|(ts, _)| ts.as_millis());
    let histograms = || slice.histograms.iter().map(|(ts, _)| ts.as_millis());
    let first = floats().next().into_iter().chain(histograms().next()).min();
    let last = floats().next_back().into_iter().chain(histograms().next_back()).max();
    (first.unwrap_or_default(), last.unwrap_or_default())
}

/// Time and value of the sample that `wins` over the others; NaN loses to everything.
fn extreme(slice: &Slice<'_>, wins: impl Fn(f64, f64) -> bool) -> (i64, f64) {
    let (first_ts, first) = slice.floats[0];
    let mut best = (first_ts.as_millis(), first);
    for (ts, value) in slice.floats {
        if wins(*value, best.1) || best.1.is_nan() {
            best = (ts.as_millis(), *value);
        }
    }
    best
}

fn variance(values: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, KahanSum::default(), KahanSum::default());
    for value in values {
        count += 1.0;
        let delta = value - mean.value();
        mean.add(delta / count);
        squares.add(delta * (value - mean.value()));
    }
    squares.value() / count
}

fn median_deviation(mut values: Vec<f64>) -> f64 {
    if values.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    let median = quantile(0.5, &mut values);
    values.iter_mut().for_each(|v| *v = (*v - median).abs());
    quantile(0.5, &mut values)
}

/// Slope per second, and value at `at`.
fn linear_regression(samples: &[(Timestamp, f64)], at: i64) -> (f64, f64) {
    let first = samples[0].1;
    if samples.iter().all(|(_, value)| *value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [KahanSum::default(); 4];
    for (ts, y) in samples {
        let x = (ts.as_millis() - at) as f64 / 1000.0;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    let n = samples.len() as f64;
    let [x, y, xy, xx] = [x_sum.value(), y_sum.value(), xy_sum.value(), xx_sum.value()];
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// One at each step at which no series has a sample.
fn absent_over_time(found: &Grid, arg: &Node) -> Grid {
    let mut grid = Grid::new(found.steps);
    let row = grid.push_row(Row { labels: absent_labels(arg), drop_name: true });
    for step in 0..found.steps {
        if (0..found.rows.len()).all(|series| found.cell(series, step).is_none()) {
            grid.cells[row * found.steps + step] = Some(Cell::Float(1.0));
        }
    }
    grid.drop_last_if_empty();
    grid
}
