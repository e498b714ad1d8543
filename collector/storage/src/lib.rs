//! Samples in memory, and on disk.
//!
//! In: batches of samples. Out: the samples of the series that matchers select, within a range of time.
//!
//! Promised: readers run beside the one writer and see each batch wholly or not at all; a series' samples come
//! sorted by time, one per time; what is refused is counted by its reason. No sockets, no tasks, no clock: `now` is
//! an argument. Metadata of metrics (HELP, TYPE) is not kept here, the scraper knows it.
//!
//! ```
//! use storage::{Config, Storage};
//! use telemetry::{Labels, Matcher, Sample, Timestamp};
//!
//! let storage = Storage::new(Config::default());
//! let labels = Labels::from_pairs([("__name__", "up"), ("job", "order")]);
//! let now = Timestamp::from_millis(60_000);
//! let report = storage.append(&[Sample { labels, timestamp: now, value: 1.0 }], now);
//! assert_eq!((report.appended, report.refused.total()), (1, 0));
//!
//! let series = storage.select(&[Matcher::equal("job", "order")], Timestamp(0), now);
//! assert_eq!(series[0].samples, [(now, 1.0)]);
//! ```

mod index;
mod report;
mod series;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use telemetry::{Labels, Matcher, Sample, Timestamp};

pub use report::{AppendReport, Refusal, RefusedCounts, Stats};

use index::Index;
use series::{Insert, Series};

/// How the store behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Samples older than this are refused, and dropped by [`Storage::expire`].
    pub retention: Duration,
    /// How far behind its series' newest sample a sample may lie.
    pub out_of_order_window: Duration,
    /// How far ahead of `now` a sample may lie; a clock gone wrong must not block a series for years.
    pub future_tolerance: Duration,
    /// Series that may be active at once; samples of series known already are never refused for this.
    pub series_max: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            retention: Duration::from_secs(6 * 3600),
            out_of_order_window: Duration::ZERO,
            future_tolerance: Duration::from_secs(600),
            series_max: None,
        }
    }
}

/// A series' labels and its samples, sorted by time; staleness markers included.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesData {
    pub labels: Labels,
    pub samples: Vec<(Timestamp, f64)>,
}

/// The store. Cheap to share behind an `Arc`; see the crate's documentation.
pub struct Storage {
    config: Config,
    head: RwLock<Head>,
    /// Samples before this time have expired and are not shown, even where their memory is not freed yet.
    oldest: AtomicI64,
}

#[derive(Default)]
struct Head {
    index: Index,
    /// By series id; the index knows which ids live.
    series: Vec<Series>,
    appended_total: u64,
    refused_total: RefusedCounts,
    samples: usize,
}

impl Storage {
    pub fn new(config: Config) -> Self {
        Storage { config, head: RwLock::default(), oldest: AtomicI64::new(i64::MIN) }
    }

    /// Stores a batch. A sample that equals one already stored counts as appended: senders repeat themselves.
    pub fn append(&self, samples: &[Sample], now: Timestamp) -> AppendReport {
        let mut report = AppendReport::default();
        let mut head = self.write();
        for sample in samples {
            match self.append_one(&mut head, sample, now) {
                Ok(()) => report.appended += 1,
                Err(refusal) => report.refused.count(refusal),
            }
        }
        head.appended_total += report.appended as u64;
        head.refused_total.add(&report.refused);
        report
    }

    fn append_one(&self, head: &mut Head, sample: &Sample, now: Timestamp) -> Result<(), Refusal> {
        let time = sample.timestamp;
        if time.0 < self.oldest_at(now) {
            return Err(Refusal::TooOld);
        }
        if time > now + self.config.future_tolerance {
            return Err(Refusal::TooNew);
        }
        let id = match head.index.find(&sample.labels) {
            Some(id) => id,
            None if self.config.series_max.is_some_and(|max| head.index.len() >= max) => {
                return Err(Refusal::SeriesLimit);
            }
            None => head.create(&sample.labels),
        };
        let newest_allowed_lag = i64::try_from(self.config.out_of_order_window.as_millis()).unwrap_or(i64::MAX);
        match head.series[id as usize].insert(time.0, sample.value, newest_allowed_lag)? {
            Insert::Added => head.samples += 1,
            Insert::Repeated => {}
        }
        Ok(())
    }

    /// The series that all matchers accept and that have samples after `start` and up to `end`, in no promised order.
    pub fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Vec<SeriesData> {
        let start = self.clamp(start);
        let head = self.read();
        let found = head.matching(matchers).map(|(labels, series)| (labels, series.range(start, end.0)));
        found
            .filter(|(_, samples)| !samples.is_empty())
            .map(|(labels, samples)| SeriesData { labels: labels.clone(), samples })
            .collect()
    }

    /// The label sets that [`Storage::select`] would return, sorted.
    pub fn series_labels(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Vec<Labels> {
        let start = self.clamp(start);
        let head = self.read();
        let live = head.matching(matchers).filter(|(_, series)| series.has_samples(start, end.0));
        let mut labels: Vec<Labels> = live.map(|(labels, _)| labels.clone()).collect();
        drop(head);
        labels.sort();
        labels
    }

    /// The names of the labels of all series that match, sorted.
    pub fn label_names(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Vec<String> {
        let start = self.clamp(start);
        let head = self.read();
        let mut names = std::collections::BTreeSet::new();
        for (labels, series) in head.matching(matchers) {
            if series.has_samples(start, end.0) {
                for (name, _) in labels.iter() {
                    if !names.contains(name) {
                        names.insert(name.to_owned());
                    }
                }
            }
        }
        names.into_iter().collect()
    }

    /// The values of a label over all series that match, sorted.
    pub fn label_values(&self, name: &str, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Vec<String> {
        let start = self.clamp(start);
        let head = self.read();
        let mut values = std::collections::BTreeSet::new();
        for (labels, series) in head.matching(matchers) {
            if let Some(value) = labels.get(name)
                && !values.contains(value)
                && series.has_samples(start, end.0)
            {
                values.insert(value.to_owned());
            }
        }
        values.into_iter().collect()
    }

    /// Drops samples older than the retention and series that have none left. To be called every minute or so.
    pub fn expire(&self, now: Timestamp) {
        let oldest = self.oldest_at(now);
        self.oldest.store(oldest, Ordering::Relaxed);
        self.write().expire(oldest);
    }

    pub fn stats(&self) -> Stats {
        let head = self.read();
        Stats {
            series: head.index.len(),
            samples: head.samples,
            appended_total: head.appended_total,
            refused_total: head.refused_total,
            series_created_total: head.index.created_total(),
            sample_bytes: head.series.iter().map(Series::bytes).sum(),
        }
    }

    /// The oldest time that is kept; never goes back, even if the clock does.
    fn oldest_at(&self, now: Timestamp) -> i64 {
        (now - self.config.retention).0.max(self.oldest.load(Ordering::Relaxed))
    }

    /// An exclusive start that hides what has expired.
    fn clamp(&self, start: Timestamp) -> i64 {
        start.0.max(self.oldest.load(Ordering::Relaxed).saturating_sub(1))
    }

    fn read(&self) -> RwLockReadGuard<'_, Head> {
        self.head.read().expect("no thread panics while it writes")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Head> {
        self.head.write().expect("no thread panics while it writes")
    }
}

impl Head {
    fn create(&mut self, labels: &Labels) -> u32 {
        let id = self.index.insert(labels);
        if id as usize == self.series.len() {
            self.series.push(Series::default());
        }
        id
    }

    fn matching<'h>(&'h self, matchers: &[Matcher]) -> impl Iterator<Item = (&'h Labels, &'h Series)> {
        let ids = self.index.select(matchers);
        ids.into_iter().map(|id| (self.index.labels(id), &self.series[id as usize]))
    }

    fn expire(&mut self, oldest: i64) {
        let mut dead = Vec::new();
        for id in self.index.ids() {
            let series = &mut self.series[id as usize];
            self.samples -= series.expire(oldest);
            if series.is_empty() {
                *series = Series::default();
                dead.push(id);
            }
        }
        self.index.remove(&dead);
    }
}

#[cfg(test)]
mod tests;
