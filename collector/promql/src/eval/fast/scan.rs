//! Selectors and functions over ranges, read in columns.

use std::ops::ControlFlow;

use telemetry::{Labels, Timestamp};

use super::kernel::{Function, Kernel, has_nan, never_falls};
use super::memory::key;
use super::pairs::{OVER_PAIRS, Pairs, Work};
use super::shards::{Job, Slide};
use super::{ABSENT, Consumer, Fast, Quit, Shape, count, is_absent};
use crate::ast::*;
use crate::engine::EvalError;
use crate::eval::select::pinned;
use crate::eval::{Evaluator, Grid, Window};
use crate::source::Columns;

/// Series that are read before the query looks whether it should stop.
const SERIES_BETWEEN_STOP_CHECKS: usize = 4096;

/// The samples of a series without staleness markers; copied only where there are some.
#[derive(Default)]
pub(super) struct Clean {
    times: Vec<i64>,
    values: Vec<f64>,
}

impl Clean {
    pub(super) fn of<'c>(&'c mut self, columns: &Columns<'c>, rising: bool) -> (&'c [i64], &'c [f64]) {
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
    #[inline(always)]
    fn touch(&mut self, samples: usize) -> Fast<()> {
        self.peak = self.peak.max(self.live + samples);
        if self.peak > self.limit {
            return Err(Quit::Error(EvalError::TooManySamples { limit: self.limit }));
        }
        Ok(())
    }
}

pub(super) fn has_histograms(columns: &Columns<'_>) -> bool {
    columns.extra.is_some_and(|extra| !extra.histograms.is_empty())
}

pub(super) fn has_starts(columns: &Columns<'_>) -> bool {
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
        let (name, range_ms) = (n.function.name, matrix.range_ms);
        let (at, offset_ms) = (pinned(matrix.selector.at), matrix.selector.offset_ms);
        let slide = Slide { window, range_ms, offset_ms, at };
        let heeds_starts =
            self.options.start_timestamps && matches!(name, "rate" | "increase" | "irate" | "resets" | "delta");
        let work = match Function::of(name) {
            Some(function) if self.options.threads > 1 && slide.shard_rows(shape.rows.len()).is_some() => {
                let job = Job { snapshot: self.snapshot()?, slide, function, heeds_starts };
                return self.slide_in_shards(n, shape, &job, consumer);
            }
            Some(function) => Work::Columns(Kernel::new(function, range_ms)),
            None => Work::Pairs(Pairs::new(n, scalars.len())),
        };
        self.slide_in_order(n, shape, scalars, (slide, work, heeds_starts), consumer)
    }

    /// On this thread, row by row.
    fn slide_in_order(
        &mut self,
        n: &Call,
        shape: &Shape,
        scalars: &[Grid],
        (slide, mut work, heeds_starts): (Slide, Work<'_>, bool),
        consumer: &mut dyn Consumer,
    ) -> Fast<Vec<usize>> {
        let steps = slide.window.steps();
        let mut clean = Clean::default();
        let mut sums = Sums::new(self.meter(), steps);
        let (mut seen_at, mut read_at) = (vec![0_u64; steps], vec![0_u64; steps]);
        let mut row_values = vec![ABSENT; steps];
        self.scan_rows(shape, slide.span(), &mut |this, row, columns| {
            if heeds_starts && has_starts(&columns) {
                return Err(Quit::General);
            }
            let rising = never_falls(columns.values);
            let (times, values) = clean.of(&columns, rising);
            work.take(times, values);
            let mut found = 0;
            let last = slide.each(times, |step, samples, fresh, edges| {
                sums.meter.touch(samples.len())?;
                row_values[step] = ABSENT;
                if samples.is_empty() {
                    return Ok(());
                }
                seen_at[step] += samples.len() as u64;
                read_at[step] += fresh as u64;
                row_values[step] = match &mut work {
                    Work::Columns(kernel) => kernel.value(&times[samples.clone()], &values[samples], edges, rising),
                    Work::Pairs(pairs) => {
                        pairs.set_scalars(scalars, step);
                        pairs.value(this, samples, edges, (slide.range_ms, slide.window.at(step)))?
                    }
                };
                found += usize::from(!is_absent(row_values[step]));
                Ok(())
            })?;
            sums.take(this, n, shape, (row, found, last), &row_values, consumer)
        })?;
        self.book(n, shape, sums, (&seen_at, &read_at))
    }

    /// On as many threads as the query may have, as many shards at a time.
    fn slide_in_shards(
        &mut self,
        n: &Call,
        shape: &Shape,
        job: &Job<'_>,
        consumer: &mut dyn Consumer,
    ) -> Fast<Vec<usize>> {
        let (ids, steps) = (shape.rows.ids(), job.slide.window.steps());
        let shard_rows = job.slide.shard_rows(ids.len()).unwrap_or(ids.len());
        let mut sums = Sums::new(self.meter(), steps);
        let (mut seen_at, mut read_at) = (vec![0_u64; steps], vec![0_u64; steps]);
        let at_once = shard_rows * self.options.threads;
        for (turn, ids) in ids.chunks(at_once).enumerate() {
            self.check_stop()?;
            for shard in job.run(turn * at_once, ids, shard_rows)? {
                self.stats.series += shard.entries.len() as u64;
                seen_at.iter_mut().zip(&shard.seen).for_each(|(sum, samples)| *sum += samples);
                read_at.iter_mut().zip(&shard.read).for_each(|(sum, samples)| *sum += samples);
                for (entry, values) in shard.entries.iter().zip(shard.values.chunks_exact(steps)) {
                    sums.meter.touch(entry.window_max)?;
                    let row = (entry.row, entry.found, entry.window_last);
                    sums.take(self, n, shape, row, values, consumer)?;
                }
            }
        }
        self.book(n, shape, sums, (&seen_at, &read_at))
    }

    /// Notes and statistics when all rows have been seen; how many values there were at each step.
    fn book(&mut self, n: &Call, shape: &Shape, sums: Sums, at: (&[u64], &[u64])) -> Fast<Vec<usize>> {
        if let Some(metric) = shape.rows.metric()
            && counts_up(n)
            && sums.any_found
        {
            self.note_non_counter_name(n, metric);
        }
        self.read_meter(&sums.meter);
        for (step, (samples, read)) in at.0.iter().zip(at.1).enumerate() {
            self.tally.count(step, *samples, *read);
        }
        Ok(sums.counts)
    }

    fn note_non_counter_row(&mut self, n: &Call, shape: &Shape, row: usize) -> Fast<()> {
        let snapshot = self.snapshot()?;
        if let Some(metric) = shape.rows.labels(snapshot).get(row).and_then(Labels::metric_name) {
            self.note_non_counter_name(n, metric);
        }
        Ok(())
    }
}

/// Whether the function expects a counter.
fn counts_up(n: &Call) -> bool {
    matches!(n.function.name, "rate" | "increase")
}

/// What the rows of a range function have come to.
struct Sums {
    meter: Meter,
    counts: Vec<usize>,
    any_found: bool,
}

impl Sums {
    fn new(meter: Meter, steps: usize) -> Self {
        Sums { meter, counts: vec![0; steps], any_found: false }
    }

    /// Books a row with so many values, whose last window had so many samples, and hands it on.
    #[inline(always)]
    fn take(
        &mut self,
        evaluator: &mut Evaluator<'_>,
        n: &Call,
        shape: &Shape,
        (row, found, window_last): (usize, usize, usize),
        values: &[f64],
        consumer: &mut dyn Consumer,
    ) -> Fast<()> {
        self.meter.live += found;
        self.meter.touch(window_last)?;
        if found > 0 {
            self.any_found = true;
            count(&mut self.counts, values);
            if counts_up(n) && shape.rows.metric().is_none() {
                evaluator.note_non_counter_row(n, shape, row)?;
            }
            consumer.row(row, values);
        }
        Ok(())
    }
}
