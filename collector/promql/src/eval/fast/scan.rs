//! Selectors and functions over ranges, read in columns.

use std::ops::ControlFlow;

use telemetry::{Labels, Timestamp};

use super::kernel::{Function, Kernel, has_nan, never_falls};
use super::memory::key;
use super::{ABSENT, Consumer, Fast, Quit, Shape, computed, count, is_absent};
use crate::ast::*;
use crate::engine::EvalError;
use crate::eval::over_time::{RangeCall, Slice};
use crate::eval::select::pinned;
use crate::eval::{Cell, Evaluator, Grid, Window};
use crate::source::Columns;

/// Series that are read before the query looks whether it should stop.
const SERIES_BETWEEN_STOP_CHECKS: usize = 4096;

/// Functions without a form for columns that look at floats alone.
const OVER_PAIRS: [&str; 13] = [
    "changes",
    "deriv",
    "double_exponential_smoothing",
    "mad_over_time",
    "predict_linear",
    "quantile_over_time",
    "resets",
    "stddev_over_time",
    "stdvar_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];

/// The samples of a series without staleness markers; copied only where there are some.
#[derive(Default)]
struct Clean {
    times: Vec<i64>,
    values: Vec<f64>,
}

impl Clean {
    fn of<'c>(&'c mut self, columns: &Columns<'c>, rising: bool) -> (&'c [i64], &'c [f64]) {
        let (times, values) = (columns.times, columns.values);
        if (rising && values.len() > 1) || !has_nan(values) || !values.iter().any(|value| is_absent(*value)) {
            return (times, values);
        }
        self.times.clear();
        self.values.clear();
        for (time, value) in times.iter().zip(values).filter(|(_, value)| !is_absent(**value)) {
            self.times.push(*time);
            self.values.push(*value);
        }
        (&self.times, &self.values)
    }
}

/// What a scan has held: as the general way books it.
struct Meter {
    live: usize,
    peak: usize,
    limit: usize,
}

impl Meter {
    fn touch(&mut self, samples: usize) -> Fast<()> {
        self.peak = self.peak.max(self.live + samples);
        if self.peak > self.limit {
            return Err(Quit::Error(EvalError::TooManySamples { limit: self.limit }));
        }
        Ok(())
    }
}

fn has_histograms(columns: &Columns<'_>) -> bool {
    columns.extra.is_some_and(|extra| !extra.histograms.is_empty())
}

fn has_starts(columns: &Columns<'_>) -> bool {
    columns.extra.is_some_and(|extra| !extra.float_starts.is_empty())
}

impl Evaluator<'_> {
    fn meter(&self) -> Meter {
        Meter { live: self.live, peak: self.live, limit: self.limits.max_samples }
    }

    fn read_meter(&mut self, meter: &Meter) {
        self.live = meter.live;
        self.stats.peak_samples = self.stats.peak_samples.max(meter.peak as u64);
    }

    /// Visits the rows' samples after `start` up to `end`, where there are some.
    fn scan_rows(
        &mut self,
        shape: &Shape,
        (start, end): (i64, i64),
        visit: &mut dyn FnMut(&mut Self, usize, Columns<'_>) -> Fast<()>,
    ) -> Fast<()> {
        let snapshot = self.snapshot()?;
        let (start, end) = (Timestamp::from_millis(start), Timestamp::from_millis(end));
        let mut series = 0;
        for (chunk, ids) in shape.rows.ids().chunks(SERIES_BETWEEN_STOP_CHECKS).enumerate() {
            self.check_stop()?;
            let first = chunk * SERIES_BETWEEN_STOP_CHECKS;
            let mut outcome = Ok(());
            let scanned = snapshot.scan(ids, start, end, &mut |i, columns| {
                if has_histograms(&columns) {
                    outcome = Err(Quit::General);
                } else if !columns.times.is_empty() {
                    series += 1;
                    outcome = visit(self, first + i, columns);
                }
                if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            scanned.map_err(EvalError::Source)?;
            outcome?;
        }
        self.stats.series += series;
        Ok(())
    }

    /// Each step's latest sample within the lookback.
    pub(super) fn feed_instant(
        &mut self,
        node: &Node,
        n: &VectorSelector,
        window: Window,
        consumer: &mut dyn Consumer,
    ) -> Fast<Vec<usize>> {
        let shape = Shape { rows: self.selection(node, n)?, drop_name: false };
        consumer.begin(self, &shape)?;
        let (at, lookback, steps) = (pinned(n.at), self.lookback_ms, window.steps());
        let reference = |ts: i64| at.unwrap_or(ts).saturating_sub(n.offset_ms);
        let span = (reference(window.start).saturating_sub(lookback), reference(window.last()));
        let (mut meter, mut counts) = (self.meter(), vec![0; steps]);
        let mut row_values = vec![ABSENT; steps];
        self.scan_rows(&shape, span, &mut |_, row, columns| {
            let found = if steps == 1 {
                row_values[0] = columns.values.last().copied().unwrap_or(ABSENT);
                usize::from(!is_absent(row_values[0]))
            } else {
                let mut seen = 0;
                for (step, value) in row_values.iter_mut().enumerate() {
                    let time = reference(window.at(step));
                    while columns.times.get(seen).is_some_and(|ts| *ts <= time) {
                        seen += 1;
                    }
                    let latest = seen.checked_sub(1).filter(|i| columns.times[*i] > time.saturating_sub(lookback));
                    *value = latest.map_or(ABSENT, |i| columns.values[i]);
                }
                row_values.iter().filter(|value| !is_absent(**value)).count()
            };
            if found == 0 {
                return Ok(());
            }
            meter.live += found;
            meter.touch(0)?;
            count(&mut counts, &row_values);
            consumer.row(row, &row_values);
            Ok(())
        })?;
        self.read_meter(&meter);
        for (step, samples) in counts.iter().enumerate() {
            self.tally.count(step, *samples as u64, *samples as u64);
        }
        Ok(counts)
    }

    pub(super) fn is_fast_range(&self, n: &Call, range: &Node) -> bool {
        let name = n.function.name;
        let Node::Matrix(matrix) = range else { return false };
        let known = Function::of(name).is_some() || OVER_PAIRS.contains(&name);
        let judged_by_type = self.options.type_labels && matches!(name, "rate" | "increase");
        known && !judged_by_type && matrix.selector.extension.is_none() && !self.memory.general.contains(&key(range))
    }

    /// A function over ranges, window by window.
    pub(super) fn feed_ranges(&mut self, n: &Call, window: Window, consumer: &mut dyn Consumer) -> Fast<Vec<usize>> {
        let before = self.live;
        let mut scalars = Vec::new();
        let mut range = None;
        for arg in &n.args {
            match arg {
                Node::Matrix(matrix) => range = Some((arg, matrix)),
                scalar => scalars.push(self.eval(scalar, window)?),
            }
        }
        let Some((range_node, matrix)) = range else { return Err(Quit::General) };
        let name = n.function.name;
        let keeps_name = matches!(name, "last_over_time" | "first_over_time");
        let shape = Shape { rows: self.selection(range_node, &matrix.selector)?, drop_name: !keeps_name };
        consumer.begin(self, &shape)?;
        let counts = self.slide(n, matrix, &shape, &scalars, window, consumer)?;
        self.live = before;
        self.charge(counts.iter().sum())?;
        Ok(counts)
    }

    /// Slides the windows of all steps over each series.
    fn slide(
        &mut self,
        n: &Call,
        matrix: &MatrixSelector,
        shape: &Shape,
        scalars: &[Grid],
        window: Window,
        consumer: &mut dyn Consumer,
    ) -> Fast<Vec<usize>> {
        let (name, steps, range_ms) = (n.function.name, window.steps(), matrix.range_ms);
        let (at, offset_ms) = (pinned(matrix.selector.at), matrix.selector.offset_ms);
        let end_of = |ts: i64| at.unwrap_or(ts).saturating_sub(offset_ms);
        let span = (end_of(window.start).saturating_sub(range_ms), end_of(window.last()));
        let heeds_starts =
            self.options.start_timestamps && matches!(name, "rate" | "increase" | "irate" | "resets" | "delta");
        let counts_up = matches!(name, "rate" | "increase");
        let mut work = match Function::of(name) {
            Some(function) => Work::Columns(Kernel::new(function, range_ms)),
            None => Work::Pairs(Pairs {
                call: RangeCall { name, span: n.args[0].span(), scalars: vec![0.0; scalars.len()] },
                pairs: Vec::new(),
                labels: Labels::empty(),
            }),
        };
        let (mut meter, mut clean) = (self.meter(), Clean::default());
        let (mut counts, mut seen_at, mut read_at) = (vec![0; steps], vec![0_u64; steps], vec![0_u64; steps]);
        let mut row_values = vec![ABSENT; steps];
        let mut any_found = false;
        self.scan_rows(shape, span, &mut |this, row, columns| {
            if heeds_starts && has_starts(&columns) {
                return Err(Quit::General);
            }
            let rising = never_falls(columns.values);
            let (times, values) = clean.of(&columns, rising);
            work.take(times, values);
            let (mut low, mut high, mut found) = (0, 0, 0);
            for step in 0..steps {
                let end = end_of(window.at(step));
                let start = end.saturating_sub(range_ms);
                let seen = high;
                if steps == 1 {
                    high = times.len();
                } else {
                    while times.get(high).is_some_and(|ts| *ts <= end) {
                        high += 1;
                    }
                    while low < high && times[low] <= start {
                        low += 1;
                    }
                }
                meter.touch(high - low)?;
                row_values[step] = ABSENT;
                if low == high {
                    continue;
                }
                seen_at[step] += (high - low) as u64;
                read_at[step] += (high - seen.max(low).min(high)) as u64;
                row_values[step] = match &mut work {
                    Work::Columns(kernel) => kernel.value(&times[low..high], &values[low..high], (start, end), rising),
                    Work::Pairs(pairs) => {
                        for (value, grid) in pairs.call.scalars.iter_mut().zip(scalars) {
                            *value = grid.scalar_at(step);
                        }
                        pairs.value(this, low..high, (start, end), (range_ms, window.at(step)))?
                    }
                };
                found += usize::from(!is_absent(row_values[step]));
            }
            meter.live += found;
            meter.touch(high - low)?;
            if found > 0 {
                any_found = true;
                count(&mut counts, &row_values);
                if counts_up && shape.rows.metric().is_none() {
                    this.note_non_counter_row(n, shape, row)?;
                }
                consumer.row(row, &row_values);
            }
            Ok(())
        })?;
        if let Some(metric) = shape.rows.metric()
            && counts_up
            && any_found
        {
            self.note_non_counter_name(n, metric);
        }
        self.read_meter(&meter);
        for (step, (samples, read)) in seen_at.into_iter().zip(read_at).enumerate() {
            self.tally.count(step, samples, read);
        }
        Ok(counts)
    }

    fn note_non_counter_row(&mut self, n: &Call, shape: &Shape, row: usize) -> Fast<()> {
        let snapshot = self.snapshot()?;
        if let Some(metric) = shape.rows.labels(snapshot).get(row).and_then(Labels::metric_name) {
            self.note_non_counter_name(n, metric);
        }
        Ok(())
    }
}

/// How the windows are worked on.
enum Work<'n> {
    Columns(Kernel),
    Pairs(Pairs<'n>),
}

impl Work<'_> {
    fn take(&mut self, times: &[i64], values: &[f64]) {
        if let Work::Pairs(pairs) = self {
            let pair = |(time, value): (&i64, &f64)| (Timestamp::from_millis(*time), *value);
            pairs.pairs.clear();
            pairs.pairs.extend(times.iter().zip(values).map(pair));
        }
    }
}

/// A function that the general way has, over samples put together.
struct Pairs<'n> {
    call: RangeCall<'n>,
    pairs: Vec<(Timestamp, f64)>,
    labels: Labels,
}

impl Pairs<'_> {
    fn value(
        &self,
        evaluator: &mut Evaluator<'_>,
        samples: std::ops::Range<usize>,
        edges: (i64, i64),
        (range_ms, ts): (i64, i64),
    ) -> Fast<f64> {
        let slice = Slice::of_floats(&self.pairs[samples], edges, range_ms, ts, &self.labels);
        match evaluator.range_function(&self.call, &slice)? {
            Some(Cell::Float(value)) => Ok(computed(value)),
            Some(Cell::Histogram(_)) => Err(Quit::General),
            None => Ok(ABSENT),
        }
    }
}
