//! What a query cost: samples counted as Prometheus counts them, time by phase.

use std::time::Duration;

use telemetry::Timestamp;

use crate::eval::Window;

/// What a query cost. The names of Prometheus' API for each figure stand with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Series that selectors found, counted at each selector.
    pub series: u64,
    /// Samples that the steps of the query looked at; each step counts its whole windows (`totalQueryableSamples`).
    /// A histogram counts as many samples as it takes the space of.
    pub samples: u64,
    /// The same with what a window shares with that of the step before counted once (`samplesRead`).
    pub samples_read: u64,
    /// The most samples that were held at once, by which [`Limits::max_samples`](crate::Limits) is judged
    /// (`peakSamples`).
    pub peak_samples: u64,
    /// One entry for each step, where [`Options::step_stats`](crate::Options) asked for them
    /// (`totalQueryableSamplesPerStep`, `samplesReadPerStep`).
    pub steps: Vec<StepStats>,
    pub timings: Timings,
}

/// The part of `Stats` that one step has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepStats {
    pub timestamp: Timestamp,
    pub samples: u64,
    pub samples_read: u64,
}

/// Time by phase: zero where [`Options::clock`](crate::Options) is not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Preparation, evaluation and sorting (`evalTotalTime`).
    pub eval_total: Duration,
    /// Bringing a matrix into its order (`resultSortTime`).
    pub result_sort: Duration,
    /// Settling the tree and taking the source's snapshot (`queryPreparationTime`).
    pub preparation: Duration,
    /// Evaluation alone (`innerEvalTime`).
    pub inner_eval: Duration,
    /// Waiting for a turn (`execQueueTime`); the engine has no queue, see [`Timings::queued`].
    pub exec_queue: Duration,
    /// Everything (`execTotalTime`).
    pub exec_total: Duration,
}

impl Timings {
    /// Adds the time for which the query waited before it came to the engine.
    pub fn queued(&mut self, wait: Duration) {
        self.exec_queue += wait;
        self.exec_total += wait;
    }
}

/// Samples counted at the steps of one evaluation: that of the query, or of a subquery within it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub samples: u64,
    pub read: u64,
    /// Samples and samples read at each step, where someone wants to know.
    pub steps: Option<Vec<(u64, u64)>>,
}

impl Tally {
    pub(crate) fn new(steps: Option<usize>) -> Self {
        Tally { steps: steps.map(|n| vec![(0, 0); n]), ..Tally::default() }
    }

    /// Takes over what was read at the steps of a subquery, each at the step of `outer` that uses it first. What
    /// lies between the windows of two steps is used by none. `shift_ms` and `range_ms` are the offset and the range
    /// of the subquery within a function; zero where the subquery is the answer itself.
    pub(crate) fn read_by_subquery(
        &mut self,
        inner: &Tally,
        window: Window,
        outer: Window,
        (shift_ms, range_ms): (i64, i64),
    ) {
        let last = outer.steps() - 1;
        if last == 0 {
            return self.count(0, 0, inner.read);
        }
        for (i, (_, read)) in inner.steps.iter().flatten().enumerate().filter(|(_, (_, read))| *read > 0) {
            let used = window.at(i).saturating_add(shift_ms);
            let late = used.saturating_sub(outer.start).max(0);
            let step = usize::try_from((late + outer.interval - 1) / outer.interval).map_or(last, |s| s.min(last));
            if range_ms == 0 || used > outer.at(step).saturating_sub(range_ms) {
                self.count(step, 0, *read);
            }
        }
    }

    pub(crate) fn count(&mut self, step: usize, samples: u64, read: u64) {
        self.samples += samples;
        self.read += read;
        if let Some((at_step, read_at_step)) = self.steps.as_mut().and_then(|steps| steps.get_mut(step)) {
            *at_step += samples;
            *read_at_step += read;
        }
    }
}
