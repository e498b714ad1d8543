//! Windows of many series at many steps, on several threads: rows are cut into shards of a size that depends on the
//! steps alone, worked on apart and taken in order. Answers and statistics are those of one thread, to the bit.

use std::ops::{ControlFlow, Range};

use telemetry::Timestamp;

use super::kernel::{Function, Kernel, never_falls};
use super::scan::{Clean, has_histograms, has_starts};
use super::{ABSENT, Fast, Quit, is_absent};
use crate::engine::EvalError;
use crate::eval::Window;
use crate::source::{SeriesId, Snapshot, SourceError};

/// Values of one shard: 2 MiB, enough to be worth a thread, few enough to hold one for each.
const SHARD_VALUES: usize = 1 << 18;

/// Where the windows of a range lie.
#[derive(Clone, Copy)]
pub(super) struct Slide {
    pub window: Window,
    pub range_ms: i64,
    pub offset_ms: i64,
    pub at: Option<i64>,
}

impl Slide {
    fn end_of(&self, ts: i64) -> i64 {
        self.at.unwrap_or(ts).saturating_sub(self.offset_ms)
    }

    /// What all windows together cover.
    pub(super) fn span(&self) -> (i64, i64) {
        (self.end_of(self.window.start).saturating_sub(self.range_ms), self.end_of(self.window.last()))
    }

    /// Visits all steps with the indexes of the window's samples, how many of them the step before did not have, and
    /// the window's edges; returns how many samples the last window had.
    #[inline(always)]
    pub(super) fn each(
        &self,
        times: &[i64],
        mut visit: impl FnMut(usize, Range<usize>, usize, (i64, i64)) -> Fast<()>,
    ) -> Fast<usize> {
        let steps = self.window.steps();
        if steps == 1 {
            // The span that was read is the window.
            let end = self.end_of(self.window.start);
            visit(0, 0..times.len(), times.len(), (end.saturating_sub(self.range_ms), end))?;
            return Ok(times.len());
        }
        let (mut low, mut high) = (0, 0);
        for step in 0..steps {
            let end = self.end_of(self.window.at(step));
            let start = end.saturating_sub(self.range_ms);
            let seen = high;
            while times.get(high).is_some_and(|ts| *ts <= end) {
                high += 1;
            }
            while low < high && times[low] <= start {
                low += 1;
            }
            visit(step, low..high, high - seen.max(low).min(high), (start, end))?;
        }
        Ok(high - low)
    }

    /// How many rows make a shard; none where a second thread would not be worth while.
    pub(super) fn shard_rows(&self, rows: usize) -> Option<usize> {
        let steps = self.window.steps();
        let shard = (SHARD_VALUES / steps).max(1);
        (steps > 1 && rows > shard).then_some(shard)
    }
}

/// What a thread does with its shard.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub snapshot: &'a dyn Snapshot,
    pub slide: Slide,
    pub function: Function,
    pub heeds_starts: bool,
}

/// A row that has samples in the span, for the books.
pub(super) struct Entry {
    pub row: usize,
    /// Values that are there.
    pub found: usize,
    /// The samples of the fullest window, and of the last.
    pub window_max: usize,
    pub window_last: usize,
}

/// What came of a shard.
pub(super) struct Shard {
    pub entries: Vec<Entry>,
    /// The entries' values, step by step.
    pub values: Vec<f64>,
    /// Samples in the windows of each step, and those that the step before did not have.
    pub seen: Vec<u64>,
    pub read: Vec<u64>,
}

impl Job<'_> {
    /// Works on one shard for each of the slices, at the same time.
    pub(super) fn run(&self, first_row: usize, ids: &[SeriesId], shard_rows: usize) -> Fast<Vec<Shard>> {
        let outcomes: Vec<Fast<Shard>> = std::thread::scope(|scope| {
            let start = |(i, ids)| scope.spawn(move || self.shard(first_row + i * shard_rows, ids));
            let threads: Vec<_> = ids.chunks(shard_rows).enumerate().map(start).collect();
            let panicked = || Err(Quit::Error(EvalError::Source(SourceError::new("a thread of the query panicked"))));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
        });
        outcomes.into_iter().collect()
    }

    fn shard(&self, first_row: usize, ids: &[SeriesId]) -> Fast<Shard> {
        let steps = self.slide.window.steps();
        let values = Vec::with_capacity(ids.len() * steps);
        let mut shard = Shard { entries: Vec::new(), values, seen: vec![0; steps], read: vec![0; steps] };
        let (mut kernel, mut clean) = (Kernel::new(self.function, self.slide.range_ms), Clean::default());
        let (start, end) = self.slide.span();
        let (start, end) = (Timestamp::from_millis(start), Timestamp::from_millis(end));
        let mut outcome = Ok(());
        let scanned = self.snapshot.scan(ids, start, end, &mut |i, columns| {
            if has_histograms(&columns) || (self.heeds_starts && has_starts(&columns)) {
                outcome = Err(Quit::General);
                return ControlFlow::Break(());
            }
            if columns.times.is_empty() {
                return ControlFlow::Continue(());
            }
            let rising = never_falls(columns.values);
            let (times, values) = clean.of(&columns, rising);
            outcome = shard.take(first_row + i, times, &self.slide, |samples, edges| {
                kernel.value(&times[samples.clone()], &values[samples], edges, rising)
            });
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        scanned.map_err(EvalError::Source)?;
        outcome.map(|()| shard)
    }
}

impl Shard {
    fn take(
        &mut self,
        row: usize,
        times: &[i64],
        slide: &Slide,
        mut value: impl FnMut(Range<usize>, (i64, i64)) -> f64,
    ) -> Fast<()> {
        let mut entry = Entry { row, found: 0, window_max: 0, window_last: 0 };
        entry.window_last = slide.each(times, |step, samples, fresh, edges| {
            entry.window_max = entry.window_max.max(samples.len());
            self.seen[step] += samples.len() as u64;
            self.read[step] += fresh as u64;
            let value = if samples.is_empty() { ABSENT } else { value(samples, edges) };
            entry.found += usize::from(!is_absent(value));
            self.values.push(value);
            Ok(())
        })?;
        self.entries.push(entry);
        Ok(())
    }
}
