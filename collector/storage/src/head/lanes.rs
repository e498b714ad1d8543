//! Samples that a log says, on their way into their series.
//!
//! A log has the samples of all series of a moment, then those of the next. One by one each would find its series far away
//! in memory, and blocks would be sealed and joined again and again: most of a start. So samples wait until there are some
//! for each series, and go there together, sealed, by several threads, each with series of its own.

use std::sync::Arc;

use crate::Refusal;
use crate::block::TimeColumns;
use crate::disk::segment::Segments;
use crate::series::{Insert, Known, Series};

/// Words of eight bytes that may wait: a sample takes one, a run of them two. So many for each series, …
const WORDS_PER_SERIES: usize = if cfg!(test) { 0 } else { 16 };
/// … and as many at least.
const WORDS_MIN: usize = if cfg!(test) { 300 } else { 4 << 20 };
/// Series that lie side by side and get their samples after each other.
const BUCKET_SERIES: usize = 1024;
/// More would wait for memory and not for each other.
const LANES_MAX: usize = 4;

/// Samples that wait, and those who bring them to their series.
pub(crate) struct Lanes {
    /// By series id.
    buckets: Vec<Bucket>,
    words: usize,
    lanes: Vec<Lane>,
}

/// What waits for neighbouring series.
#[derive(Default)]
struct Bucket {
    runs: Vec<Run>,
    /// Of the runs, one behind the other.
    values: Vec<f64>,
}

/// Samples of one time, each of the series behind that of the one before.
#[derive(Clone, Copy)]
struct Run {
    time: i64,
    first: u32,
    len: u32,
}

/// What a thread uses again.
struct Lane {
    columns: TimeColumns,
    times: Vec<i64>,
    values: Vec<f64>,
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

impl Lanes {
    /// The times of their blocks are among these columns.
    pub(crate) fn new(columns: &TimeColumns) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let lane = |_| Lane { columns: columns.share(), times: Vec::new(), values: Vec::new() };
        Lanes { buckets: Vec::new(), words: 0, lanes: (0..threads.min(LANES_MAX)).map(lane).collect() }
    }

    pub(crate) fn push(&mut self, id: u32, time: i64, value: f64) {
        let at = id as usize / BUCKET_SERIES;
        if at >= self.buckets.len() {
            self.buckets.resize_with(at + 1, Bucket::default);
        }
        let bucket = &mut self.buckets[at];
        if bucket.values.capacity() == 0 {
            // What is not written to takes no memory yet; growing would copy.
            bucket.values.reserve_exact(WORDS_PER_SERIES * BUCKET_SERIES);
        }
        bucket.values.push(value);
        self.words += 1;
        match bucket.runs.last_mut() {
            Some(run) if run.time == time && run.first + run.len == id => run.len += 1,
            _ => {
                bucket.runs.push(Run { time, first: id, len: 1 });
                self.words += size_of::<Run>() / size_of::<f64>();
            }
        }
    }

    /// Whether enough waits for a store of so many series.
    pub(crate) fn is_full(&self, series: usize) -> bool {
        self.words >= WORDS_MIN.max(series * WORDS_PER_SERIES)
    }

    /// Brings what waits to the series; they have no plain samples, neither before nor after.
    pub(crate) fn bring(&mut self, series: &mut [Series], segments: &Arc<Segments>) -> Brought {
        let Lanes { buckets, words, lanes, .. } = self;
        buckets.resize_with(series.len().div_ceil(BUCKET_SERIES), Bucket::default);
        let parts = series.chunks_mut(BUCKET_SERIES).zip(buckets);
        let brought = side_by_side(lanes, parts, |lane, (series, bucket)| {
            let brought = lane.bring(series, bucket, segments);
            bucket.runs.clear();
            bucket.values.clear();
            // A burst's memory would stay.
            bucket.values.shrink_to(64 * BUCKET_SERIES);
            brought
        });
        *words = 0;
        brought
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
    fn bring(&mut self, series: &mut [Series], bucket: &Bucket, segments: &Arc<Segments>) -> Brought {
        let mut brought = Brought::default();
        let Lane { columns, times, values } = self;
        times.resize(bucket.values.len(), 0);
        values.resize(bucket.values.len(), 0.0);
        let starts = bucket.starts();
        let mut next = starts;
        let mut rest = bucket.values.as_slice();
        for Run { time, first, len } in &bucket.runs {
            let from = *first as usize % BUCKET_SERIES;
            let (run, behind) = rest.split_at(*len as usize);
            rest = behind;
            for (value, next) in run.iter().zip(&mut next[from..]) {
                (times[*next], values[*next]) = (*time, *value);
                *next += 1;
            }
        }
        for (at, series) in series.iter_mut().enumerate() {
            let mut known = Known::default();
            let mut from = starts[at];
            let to = starts[at + 1];
            while from < to {
                let behind = series.push_many(&times[from..to], &values[from..to], columns);
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

impl Bucket {
    /// Where the samples of each series begin when they are in its order; and where the last ones end.
    fn starts(&self) -> [usize; BUCKET_SERIES + 1] {
        // Behind each series' place how many more or fewer runs have it than have the one before.
        let mut starts = [0usize; BUCKET_SERIES + 1];
        let (mut of_series, mut end) = (0usize, 0);
        for Run { first, len, .. } in &self.runs {
            let from = *first as usize % BUCKET_SERIES;
            starts[from] = starts[from].wrapping_add(1);
            starts[from + *len as usize] = starts[from + *len as usize].wrapping_sub(1);
        }
        for start in &mut starts {
            of_series = of_series.wrapping_add(*start);
            *start = end;
            end += of_series;
        }
        starts
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
