//! Everything that one lock guards: the index, the series, and the log that follows them.

use telemetry::{Labels, Matcher, Sample, Timestamp};

use crate::block::TimeColumns;
use crate::disk::checkpoint::Snapshot;
use crate::disk::log::Log;
use crate::disk::record::Replay;
use crate::index::Index;
use crate::series::{Insert, Series};
use crate::{Config, Refusal, RefusedCounts};

#[derive(Default)]
pub(crate) struct Head {
    pub(crate) index: Index,
    /// By series id; the index knows which ids live.
    pub(crate) series: Vec<Series>,
    pub(crate) columns: TimeColumns,
    pub(crate) samples: usize,
    pub(crate) appended_total: u64,
    pub(crate) refused_total: RefusedCounts,
    /// None for a store in memory.
    pub(crate) log: Option<Log>,
}

impl Head {
    pub(crate) fn append(&mut self, sample: &Sample, config: &Config, span: Span) -> Result<(), Refusal> {
        let time = sample.timestamp.0;
        if time < span.oldest {
            return Err(Refusal::TooOld);
        }
        if time > span.newest {
            return Err(Refusal::TooNew);
        }
        let id = match self.index.find(&sample.labels) {
            Some(id) => id,
            None if config.series_max.is_some_and(|max| self.index.len() >= max) => return Err(Refusal::SeriesLimit),
            None => self.create(&sample.labels),
        };
        let series = &mut self.series[id as usize];
        let previous = series.newest_value();
        if series.insert(time, sample.value, span.lag_max, &mut self.columns)? == Insert::Added {
            self.samples += 1;
            if let Some(log) = &mut self.log {
                log.sample(id, time, sample.value, previous);
            }
        }
        Ok(())
    }

    fn create(&mut self, labels: &Labels) -> u32 {
        let id = self.index.insert(labels);
        self.make_room(id);
        if let Some(log) = &mut self.log {
            log.series(id, labels);
        }
        id
    }

    fn make_room(&mut self, id: u32) {
        if id as usize >= self.series.len() {
            self.series.resize_with(id as usize + 1, Series::default);
        }
    }

    pub(crate) fn matching<'h>(&'h self, matchers: &[Matcher]) -> impl Iterator<Item = (&'h Labels, &'h Series)> {
        let ids = self.index.select(matchers);
        ids.into_iter().map(|id| (self.index.labels(id), &self.series[id as usize]))
    }

    pub(crate) fn expire(&mut self, oldest: i64) {
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
        self.columns.sweep();
    }

    /// A copy for a checkpoint; sealed blocks are shared, not copied.
    pub(crate) fn snapshot(&self, oldest: i64) -> Snapshot {
        let series = self.index.ids().into_iter();
        let series = series.map(|id| (id, self.index.labels(id).clone(), self.series[id as usize].clone()));
        Snapshot { oldest, ids_len: self.index.ids_len(), series: series.collect() }
    }

    /// The state of a checkpoint, whose columns are these.
    pub(crate) fn restore(snapshot: Snapshot, columns: TimeColumns) -> Option<Head> {
        let mut head = Head { columns, ..Head::default() };
        head.index.reserve_ids(snapshot.ids_len);
        for (id, labels, series) in snapshot.series {
            head.samples += series.len();
            head.index.insert_at(id, &labels)?;
            head.make_room(id);
            head.series[id as usize] = series;
        }
        Some(head)
    }
}

/// What times are taken at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) oldest: i64,
    pub(crate) newest: i64,
    pub(crate) lag_max: i64,
}

impl Span {
    pub(crate) fn new(config: &Config, oldest: i64, now: Timestamp) -> Self {
        let lag_max = i64::try_from(config.out_of_order_window.as_millis()).unwrap_or(i64::MAX);
        Span { oldest, newest: (now + config.future_tolerance).0, lag_max }
    }
}

/// Recovery: the log's entries were accepted when they were written, so nothing is judged again.
pub(crate) struct Recovering<'h> {
    pub(crate) head: &'h mut Head,
    pub(crate) oldest: i64,
}

impl Replay for Recovering<'_> {
    fn series(&mut self, id: u32, labels: Labels) -> Option<()> {
        self.head.index.insert_at(id, &labels)?;
        self.head.make_room(id);
        Some(())
    }

    fn newest_value(&self, id: u32) -> Option<f64> {
        self.head.series.get(id as usize)?.newest_value()
    }

    fn sample(&mut self, id: u32, time: i64, value: f64) -> Option<()> {
        if !self.head.index.is_alive(id) {
            return None;
        }
        let Head { series, columns, samples, .. } = &mut *self.head;
        let inserted = series[id as usize].insert(time, value, i64::MAX, columns);
        *samples += 1;
        matches!(inserted, Ok(Insert::Added)).then_some(())
    }

    fn expire(&mut self, oldest: i64) {
        self.oldest = oldest;
        self.head.expire(oldest);
    }
}
