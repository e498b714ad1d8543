//! Everything that one lock guards: the index, the series, the groups, and the log that follows them.

mod gathering;
mod lanes;
mod recovering;
mod rows;

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;
use telemetry::{HistogramSample, Labels, Matcher, Sample, Timestamp};

use crate::admission::Admission;
use crate::block::{Block, DecodedTimes, TimeColumns};
use crate::disk::checkpoint::Entry;
use crate::disk::log::Log;
use crate::disk::segment::{BlockReader, Segments};
use crate::group::Rows;
use crate::histograms::{self, Histograms};
use crate::index::Index;
use crate::plain::Plain;
use crate::range::{SampleRange, bounds};
use crate::series::{Insert, Member, Series, place};
use crate::sheet::Piece;
use crate::{AppendReport, Config, Refusal, RefusedCounts};

pub(crate) use recovering::Recovering;

#[derive(Default)]
pub(crate) struct Head {
    pub(crate) index: Index,
    /// Where sealed blocks are on disk.
    pub(crate) segments: Arc<Segments>,
    /// By series id; the index knows which ids live.
    pub(crate) series: Vec<Series>,
    /// None where the number is free.
    pub(crate) groups: Vec<Option<Rows>>,
    pub(crate) columns: TimeColumns,
    pub(crate) histograms: Histograms,
    pub(crate) samples: usize,
    pub(crate) appended_total: u64,
    pub(crate) refused_total: RefusedCounts,
    /// None for a store in memory.
    pub(crate) log: Option<Log>,
    /// A checkpoint is being written: ids must keep their meaning.
    pub(crate) ids_pinned: bool,
}

impl Head {
    pub(crate) fn append(&mut self, sample: &Sample, admission: Admission<'_>, span: Span) -> Result<(), Refusal> {
        let time = sample.timestamp.0;
        span.check(time)?;
        let id = self.find_or_create(&sample.labels, admission)?;
        self.insert(id, time, sample.value, span.lag_max)
    }

    pub(crate) fn append_histogram(
        &mut self,
        sample: &HistogramSample,
        admission: Admission<'_>,
        span: Span,
    ) -> Result<(), Refusal> {
        let time = sample.timestamp.0;
        span.check(time)?;
        let id = self.find_or_create(&sample.labels, admission)?;
        if self.histograms.insert(id, time, &sample.histogram, span.lag_max)? == Insert::Added
            && let Some(log) = &mut self.log
        {
            log.histogram(id, time, &histograms::encode(&sample.histogram));
        }
        Ok(())
    }

    fn find_or_create(&mut self, labels: &Labels, admission: Admission<'_>) -> Result<u32, Refusal> {
        match self.index.find(labels) {
            Some(id) => Ok(id),
            None => admission.check(&self.index, labels).map(|()| self.create(labels)),
        }
    }

    /// Stores and logs a sample of a series, wherever its plain samples are.
    fn insert(&mut self, id: u32, time: i64, value: f64, lag_max: i64) -> Result<(), Refusal> {
        let newest = self.newest(id);
        let late = newest.is_some_and(|(newest, _)| time <= newest);
        if self.place(id, time, value, lag_max)? == Insert::Added {
            self.samples += 1;
            if let Some(log) = &mut self.log {
                match late {
                    true => log.late(id, time, value),
                    false => log.sample(id, time, value, newest.and_then(|(_, value)| value)),
                }
            }
        }
        Ok(())
    }

    /// Puts a sample where it belongs; a series in a group gets plain samples of its own by that.
    fn place(&mut self, id: u32, time: i64, value: f64, lag_max: i64) -> Result<Insert, Refusal> {
        let Some(newest) = self.newest_time(id).filter(|newest| time <= *newest) else {
            self.detach(id);
            self.series[id as usize].push_own(time, value, &mut self.columns);
            return Ok(Insert::Added);
        };
        // Two values for one moment are a contradiction at the newest sample, whatever the window.
        let within = time == newest || newest.saturating_sub(time) <= lag_max;
        let series = &self.series[id as usize];
        if series.block_for(time).is_none() {
            let piece = series.member().and_then(|at| self.rows(at.group()).sheets.piece_for(at.slot, time));
            let decoded = piece.as_ref().map(|piece| piece.decode(&mut BlockReader::new(&self.segments)));
            let at = match decoded {
                Some(sealed) => {
                    let (times, values) = sealed.ok_or(Refusal::Unreadable)?;
                    place((&times, Plain::Wide(&values)), time, value, within)?
                }
                None => place(self.hot(series), time, value, within)?,
            };
            match (at, piece) {
                (None, _) => return Ok(Insert::Repeated),
                (Some(_), Some(_)) => self.take_out(id),
                (Some(_), None) => self.detach(id),
            }
        }
        self.series[id as usize].insert_late(time, value, within, (&mut self.columns, &self.segments))
    }

    /// A series' plain samples.
    pub(crate) fn hot<'h>(&'h self, series: &'h Series) -> (&'h [i64], Plain<'h>) {
        match series.member() {
            Some(at) => self.rows(at.group()).samples(at.slot),
            None => series.own_hot().map_or((&[], Plain::NONE), |own| own.samples()),
        }
    }

    /// A series' sealed samples, oldest first.
    pub(crate) fn pieces<'h>(&'h self, series: &'h Series) -> impl DoubleEndedIterator<Item = Piece> {
        let own = series.blocks().iter().cloned().map(Piece::Block);
        own.chain(series.member().into_iter().flat_map(|at| self.rows(at.group()).sheets.of(at.slot)))
    }

    /// A series' sealed samples as far as they may lie after `start` and up to `end`.
    pub(crate) fn pieces_within(&self, series: &Series, start: i64, end: i64) -> SmallVec<[Piece; 4]> {
        let own = series.blocks_within(start, end).iter().cloned().map(Piece::Block);
        let mut pieces: SmallVec<[Piece; 4]> = own.collect();
        if let Some(at) = series.member() {
            pieces.extend(self.rows(at.group()).sheets.within(at.slot, start, end));
        }
        pieces
    }

    /// What a reader needs for the samples after `start` and up to `end`.
    pub(crate) fn range(&self, series: &Series, start: i64, end: i64) -> SampleRange {
        let (times, values) = self.hot(series);
        let (from, to) = bounds(times, start, end);
        let hot = (from..to).map(|at| (Timestamp(times[at]), values.at(at))).collect();
        SampleRange::new(self.pieces_within(series, start, end), hot, start, end)
    }

    /// When the newest sealed sample of a series is.
    fn newest_sealed(&self, series: &Series) -> Option<i64> {
        let in_group = series.member().and_then(|at| self.rows(at.group()).sheets.newest(at.slot));
        in_group.or_else(|| series.blocks().last().map(Block::last))
    }

    /// When the newest sample of a series is.
    pub(crate) fn newest_time(&self, id: u32) -> Option<i64> {
        let series = &self.series[id as usize];
        self.hot(series).0.last().copied().or_else(|| self.newest_sealed(series))
    }

    /// The newest sample of a series; without its value if that cannot be read.
    pub(crate) fn newest(&self, id: u32) -> Option<(i64, Option<f64>)> {
        let series = &self.series[id as usize];
        let (times, values) = self.hot(series);
        if let (Some(time), Some(value)) = (times.last(), values.last()) {
            return Some((*time, Some(value)));
        }
        let piece = self.pieces(series).next_back()?;
        let decoded = piece.decode(&mut BlockReader::new(&self.segments));
        Some((piece.times().last, decoded.and_then(|(_, values)| values.last().copied())))
    }

    /// A series that is in a group keeps its samples for itself from here on.
    fn detach(&mut self, id: u32) {
        let Some(at) = self.series[id as usize].member() else { return };
        self.take_out(id);
        let Head { groups, series, columns, .. } = &mut *self;
        let rows = groups[at.group() as usize].as_mut().expect("series leave a group before it goes");
        let (times, values) = rows.samples(at.slot);
        series[id as usize].take_over(times, values, columns);
        rows.clear(at.slot);
    }

    /// What a group has sealed of a series is the series' own from here on.
    fn take_out(&mut self, id: u32) {
        if let Some(at) = self.series[id as usize].member() {
            self.take_out_until(at, i64::MAX);
        }
    }

    /// What a group has sealed of a member up to a time is its series' own from here on.
    pub(crate) fn take_out_until(&mut self, at: Member, until: i64) {
        let Head { groups, series, .. } = self;
        let Some(rows) = &mut groups[at.group() as usize] else { return };
        if let Some(held) = rows.slot(at.slot) {
            series[held.series.id as usize].take_in(rows.sheets.take_out(at.slot, until));
        }
    }

    fn rows(&self, group: u32) -> &Rows {
        self.groups[group as usize].as_ref().expect("series leave a group before it goes")
    }

    fn rows_mut(&mut self, group: u32) -> &mut Rows {
        self.groups[group as usize].as_mut().expect("series leave a group before it goes")
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

    /// The series that all matchers accept.
    pub(crate) fn matching(&self, matchers: &[Matcher]) -> impl Iterator<Item = (u32, Labels)> {
        self.index.labels_of(self.index.select(matchers))
    }

    pub(crate) fn has_samples(&self, decoded: &mut DecodedTimes, id: u32, start: i64, end: i64) -> bool {
        let series = &self.series[id as usize];
        let (from, to) = bounds(self.hot(series).0, start, end);
        from < to
            || self.pieces_within(series, start, end).iter().any(|piece| piece.has_samples(decoded, start, end))
            || !self.histograms.within(id, start, end).is_empty()
    }

    /// What a checkpoint says of some series.
    pub(crate) fn entries(&self, ids: Range<u32>) -> Vec<Entry> {
        let entry = |(id, pairs)| {
            let series = &self.series[id as usize];
            let (times, values) = self.hot(series);
            let (times, values) = (times.to_vec(), values.to_vec());
            let histograms = self.histograms.within(id, i64::MIN, i64::MAX).to_vec();
            Entry { id, pairs, pieces: self.pieces(series).collect(), times, values, histograms }
        };
        self.index.sets_of(ids).map(entry).collect()
    }

    /// Closes a batch or row: it is counted, and handed to the operating system.
    pub(crate) fn appended(&mut self, report: &AppendReport) {
        self.appended_total += report.appended as u64;
        self.refused_total.add(&report.refused);
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    pub(crate) fn sample_bytes(&self) -> usize {
        let groups: usize = self.groups.iter().flatten().map(Rows::bytes).sum();
        self.series.iter().map(Series::bytes).sum::<usize>() + groups + self.columns.bytes()
    }

    /// Drops what is older than `oldest`, as far as that frees memory, and the series that have nothing left. Those
    /// that a group still writes to stay. Returns how many samples and histograms that were.
    pub(crate) fn expire(&mut self, oldest: i64) -> u64 {
        let before = self.samples + self.histograms.count;
        self.close_groups();
        self.expire_samples(oldest);
        let is_dead = |id: &u32| {
            let series = &self.series[*id as usize];
            series.is_empty() && series.member().is_none() && !self.histograms.has(*id)
        };
        let dead = if self.ids_pinned { Vec::new() } else { self.index.ids().into_iter().filter(is_dead).collect() };
        if let Some(log) = &mut self.log {
            log.expiry(oldest, &dead);
        }
        for id in &dead {
            self.series[*id as usize] = Series::default();
        }
        self.index.remove(&dead);
        self.columns.sweep();
        (before - self.samples - self.histograms.count) as u64
    }

    pub(crate) fn expire_samples(&mut self, oldest: i64) {
        let Head { series, groups, samples, histograms, .. } = self;
        histograms.expire(oldest);
        for rows in groups.iter_mut().flatten() {
            *samples -= rows.sheets.expire(oldest);
        }
        for series in series {
            *samples -= series.expire_blocks(oldest);
            if series.blocks().is_empty() {
                *samples -= match series.member() {
                    Some(at) => groups[at.group() as usize].as_mut().map_or(0, |rows| rows.expire(at.slot, oldest)),
                    None => series.expire_own(oldest),
                };
            }
        }
    }

    /// A series that was found dead before.
    fn forget(&mut self, id: u32) {
        if let Some(series) = self.series.get_mut(id as usize) {
            let series = std::mem::take(series);
            self.samples -= series.sealed_len() + self.hot(&series).0.len();
            self.histograms.remove(id);
            self.index.remove(&[id]);
        }
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

    fn check(self, time: i64) -> Result<(), Refusal> {
        match () {
            () if time < self.oldest => Err(Refusal::TooOld),
            () if time > self.newest => Err(Refusal::TooNew),
            () => Ok(()),
        }
    }
}
