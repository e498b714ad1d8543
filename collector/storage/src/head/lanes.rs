//! Samples that a log says, on their way into their series.
//!
//! A log has the samples of all series of a moment, then those of the next. One by one each would find its series far away
//! in memory, and blocks would be sealed and joined again and again: most of a start. So samples wait until there are some
//! for each series, and go there together, by several threads, each with series of its own.

use std::sync::Arc;

use crate::Refusal;
use crate::block::TimeColumns;
use crate::disk::segment::Segments;
use crate::series::{Insert, Known, Series};

/// Samples that wait, at 16 bytes each: forty for each of a hundred thousand series.
const WAITING_MAX: usize = if cfg!(test) { 300 } else { 4 << 20 };
/// Series that lie side by side and get their samples after each other.
const BUCKET_SERIES: usize = 1024;
/// More would wait for memory and not for each other.
const LANES_MAX: usize = 4;

/// Samples that wait, and those who bring them to their series.
pub(crate) struct Lanes {
    /// Of the samples that wait; most follow others of their time.
    times: Vec<i64>,
    /// By series id.
    buckets: Vec<Vec<Waiting>>,
    len: usize,
    lanes: Vec<Lane>,
}

#[derive(Clone, Copy)]
struct Waiting {
    id: u32,
    /// Which of the times.
    time: u32,
    value: f64,
}

/// What a thread uses again. Columns of times are shared by the series of a lane.
#[derive(Default)]
struct Lane {
    columns: TimeColumns,
    times: Vec<i64>,
    values: Vec<f64>,
    sealing: (Vec<i64>, Vec<f64>),
}

/// What became of samples that had waited.
#[derive(Clone, Copy, Default)]
pub(crate) struct Brought {
    pub(crate) added: usize,
    /// Late ones for blocks that cannot be read.
    pub(crate) lost: u64,
    /// Contradictions to what is there: no log of ours says that.
    pub(crate) contradictions: usize,
}

impl Default for Lanes {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let lanes = (0..threads.min(LANES_MAX)).map(|_| Lane::default()).collect();
        Lanes { times: Vec::new(), buckets: Vec::new(), len: 0, lanes }
    }
}

impl Lanes {
    pub(crate) fn push(&mut self, id: u32, time: i64, value: f64) {
        if self.times.last() != Some(&time) {
            self.times.push(time);
        }
        let bucket = id as usize / BUCKET_SERIES;
        if bucket >= self.buckets.len() {
            self.buckets.resize_with(bucket + 1, Vec::new);
        }
        self.buckets[bucket].push(Waiting { id, time: (self.times.len() - 1) as u32, value });
        self.len += 1;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len >= WAITING_MAX
    }

    /// Brings what waits to the series; they have no plain samples in groups.
    pub(crate) fn bring(&mut self, series: &mut [Series], segments: &Arc<Segments>) -> Brought {
        let Lanes { times, buckets, len, lanes } = self;
        buckets.resize_with(series.len().div_ceil(BUCKET_SERIES), Vec::new);
        let parts = series.chunks_mut(BUCKET_SERIES).zip(buckets);
        let brought = side_by_side(lanes, parts, |lane, (series, waiting)| {
            let brought = lane.bring(series, waiting, times, segments);
            waiting.clear();
            // A burst's memory would stay.
            waiting.shrink_to(64 * BUCKET_SERIES);
            brought
        });
        *len = 0;
        self.times.clear();
        brought
    }

    /// Seals all plain samples, which take many times the room of sealed ones and are of no use to a scrape's row. Returns
    /// the columns of times that blocks have now.
    pub(crate) fn seal(mut self, series: &mut [Series], all: &mut TimeColumns) {
        side_by_side(&mut self.lanes, series.chunks_mut(BUCKET_SERIES), |lane, series| {
            series.iter_mut().for_each(|series| series.seal_own(&mut lane.columns));
            Brought::default()
        });
        self.lanes.into_iter().for_each(|lane| all.adopt(lane.columns));
    }
}

/// Each lane with every so manieth part, always the same.
fn side_by_side<P: Send>(
    lanes: &mut [Lane],
    parts: impl Iterator<Item = P>,
    work: impl Fn(&mut Lane, P) -> Brought + Sync,
) -> Brought {
    let count = lanes.len();
    let mut shares: Vec<Vec<P>> = lanes.iter().map(|_| Vec::new()).collect();
    parts.enumerate().for_each(|(number, part)| shares[number % count].push(part));
    let all = |lane: &mut Lane, share: Vec<P>| {
        share.into_iter().map(|part| work(lane, part)).fold(Brought::default(), Brought::plus)
    };
    std::thread::scope(|scope| {
        let mut own: Vec<_> = lanes.iter_mut().zip(shares).collect();
        let last = own.pop();
        let others: Vec<_> = own.into_iter().map(|(lane, share)| scope.spawn(|| all(lane, share))).collect();
        let first = last.map(|(lane, share)| all(lane, share)).unwrap_or_default();
        let join = |other: std::thread::ScopedJoinHandle<'_, Brought>| {
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        others.into_iter().map(join).fold(first, Brought::plus)
    })
}

impl Lane {
    /// Puts the samples in the order of the series, of a series in the order of the log.
    fn bring(
        &mut self,
        series: &mut [Series],
        waiting: &[Waiting],
        all_times: &[i64],
        segments: &Arc<Segments>,
    ) -> Brought {
        let mut brought = Brought::default();
        let mut ends = [0usize; BUCKET_SERIES + 1];
        let place = |sample: &Waiting| sample.id as usize % BUCKET_SERIES;
        waiting.iter().for_each(|sample| ends[place(sample) + 1] += 1);
        (0..BUCKET_SERIES).for_each(|at| ends[at + 1] += ends[at]);
        let Lane { columns, times, values, sealing } = self;
        times.resize(waiting.len(), 0);
        values.resize(waiting.len(), 0.0);
        let starts = ends;
        for sample in waiting {
            let next = &mut ends[place(sample)];
            (times[*next], values[*next]) = (all_times[sample.time as usize], sample.value);
            *next += 1;
        }
        for (at, series) in series.iter_mut().enumerate() {
            let mut known = Known::default();
            let mut from = starts[at];
            let to = starts[at + 1];
            while from < to {
                let behind = series.push_many(&times[from..to], &values[from..to], columns, sealing);
                brought.added += behind;
                from += behind;
                if behind > 0 {
                    known = Known::default();
                }
                while from < to && series.knows(times[from], values[from], segments, &mut known) {
                    from += 1;
                }
                if from < to && series.newest_own().is_none_or(|newest| times[from] <= newest) {
                    known = Known::default();
                    match series.insert_late(times[from], values[from], true, (columns, segments)) {
                        Ok(Insert::Added) => brought.added += 1,
                        Ok(Insert::Repeated) => {}
                        Err(Refusal::Unreadable) => brought.lost += 1,
                        Err(_) => brought.contradictions += 1,
                    }
                    from += 1;
                }
            }
        }
        brought
    }
}

impl Brought {
    fn plus(self, other: Brought) -> Brought {
        Brought {
            added: self.added + other.added,
            lost: self.lost + other.lost,
            contradictions: self.contradictions + other.contradictions,
        }
    }
}
