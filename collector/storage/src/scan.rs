//! Reading in columns: series by series, without copying what is plain.

use std::ops::ControlFlow;
use std::sync::Arc;

use telemetry::{Histogram, Labels, Matcher, Timestamp};

use crate::Storage;
use crate::block::{DecodedTimes, TimeColumn};
use crate::disk::segment::BlockReader;
use crate::group::SeriesKey;
use crate::head::Head;
use crate::plain::Plain;
use crate::range::bounds;
use crate::sheet::Piece;

/// Names a series for as long as it lives; no other series ever gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub u64);

impl SeriesId {
    fn of(key: SeriesKey) -> Self {
        SeriesId(u64::from(key.generation) << 32 | u64::from(key.id))
    }

    fn key(self) -> SeriesKey {
        SeriesKey { id: self.0 as u32, generation: (self.0 >> 32) as u32 }
    }
}

/// The samples of a series in a span of time, lent for a visit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns<'a> {
    /// Milliseconds, ascending. Series that are written together lend the same slice where they have the same samples.
    pub times: &'a [i64],
    /// As many as times.
    pub values: &'a [f64],
    pub histograms: &'a [(i64, Arc<Histogram>)],
}

/// Series that are visited before the writer gets its turn.
const VISITED_AT_ONCE: usize = 256;

impl Storage {
    /// The series that all matchers accept, whenever they have samples, in the order of their coming; and the
    /// [`Storage::epoch`] of which this is true.
    pub fn resolve(&self, matchers: &[Matcher]) -> (Vec<SeriesId>, u64) {
        let head = self.read();
        let ids = head.index.select(matchers).into_iter().map(|id| SeriesId::of(head.index.key(id)));
        (ids.collect(), head.index.epoch())
    }

    /// None for a series that is gone.
    pub fn labels(&self, id: SeriesId) -> Option<Labels> {
        let head = self.read();
        head.index.lives(id.key()).then(|| head.index.labels(id.key().id))
    }

    /// Visits these series in turn with their samples after `start` and up to `end`; `visit` gets the series' place
    /// among the ids. Those without samples and those that are gone are left out. The writer may append between two
    /// visits, so `end` should not be later than what is complete.
    pub fn scan(
        &self,
        ids: &[SeriesId],
        start: Timestamp,
        end: Timestamp,
        visit: &mut dyn FnMut(usize, Columns<'_>) -> ControlFlow<()>,
    ) {
        let mut scan = Scan { start: self.clamp(start), end: end.0, ..Scan::default() };
        for (part, ids) in ids.chunks(VISITED_AT_ONCE).enumerate() {
            let head = self.read();
            scan.reader.renew(&head.segments);
            for (index, id) in ids.iter().enumerate() {
                if !head.index.lives(id.key()) {
                    continue;
                }
                let columns = scan.columns(&head, id.key().id);
                if columns.times.is_empty() && columns.histograms.is_empty() {
                    continue;
                }
                if visit(part * VISITED_AT_ONCE + index, columns).is_break() {
                    return;
                }
            }
        }
    }
}

/// What a scan uses again from series to series.
#[derive(Default)]
struct Scan {
    start: i64,
    end: i64,
    decoded: DecodedTimes,
    /// Of which pieces and plain times `times` are; the columns are held so that their addresses mean them.
    parts: Vec<Arc<TimeColumn>>,
    hot: (usize, usize),
    times: Vec<i64>,
    within: (usize, usize),
    values: Vec<f64>,
    scratch: Vec<u64>,
    reader: BlockReader,
    /// Plain times that were cut last, and where.
    cut: ((usize, usize), (usize, usize)),
}

impl Scan {
    fn columns<'s>(&'s mut self, head: &'s Head, id: u32) -> Columns<'s> {
        let series = &head.series[id as usize];
        let histograms = head.histograms.within(id, self.start, self.end);
        let (times, values) = head.hot(series);
        let pieces = head.pieces_within(series, self.start, self.end);
        if pieces.is_empty() {
            let (from, to) = self.cut_plain(times);
            let values = match values {
                Plain::Wide(values) => values,
                narrow => {
                    self.values.clear();
                    narrow.append_to(&mut self.values);
                    &self.values
                }
            };
            return Columns { times: &times[from..to], values: &values[from..to], histograms };
        }
        self.join(&pieces, times, values);
        let (from, to) = self.within;
        Columns { times: &self.times[from..to], values: &self.values[from..to], histograms }
    }

    /// Series of one group share their times: they are cut once.
    fn cut_plain(&mut self, times: &[i64]) -> (usize, usize) {
        let key = (times.as_ptr() as usize, times.len());
        if self.cut.0 != key || times.is_empty() {
            self.cut = (key, bounds(times, self.start, self.end));
        }
        self.cut.1
    }

    /// Sealed and plain samples behind each other.
    fn join(&mut self, pieces: &[Piece], times: &[i64], values: Plain<'_>) {
        let hot = (times.as_ptr() as usize, times.len());
        let same = self.hot == hot
            && self.parts.len() == pieces.len()
            && self.parts.iter().zip(pieces).all(|(part, piece)| Arc::ptr_eq(part, piece.times()));
        if !same {
            self.join_times(pieces, times, hot);
        }
        self.values.clear();
        for (at, piece) in pieces.iter().enumerate() {
            if piece.append_values(&mut self.reader, &mut self.values, &mut self.scratch).is_none() {
                return self.join_readable(&pieces[..at], &pieces[at + 1..], times, values);
            }
        }
        values.append_to(&mut self.values);
    }

    fn join_times(&mut self, pieces: &[Piece], times: &[i64], hot: (usize, usize)) {
        self.parts.clear();
        self.times.clear();
        for piece in pieces {
            self.parts.push(piece.times().clone());
            self.times.extend_from_slice(self.decoded.of(piece.times()));
        }
        self.times.extend_from_slice(times);
        self.hot = hot;
        self.within = bounds(&self.times, self.start, self.end);
    }

    /// Without the pieces that cannot be read: those before the first of them have been.
    fn join_readable(&mut self, read: &[Piece], rest: &[Piece], times: &[i64], values: Plain<'_>) {
        let mut readable = read.to_vec();
        for piece in rest {
            if piece.append_values(&mut self.reader, &mut self.values, &mut self.scratch).is_some() {
                readable.push(piece.clone());
            }
        }
        self.join_times(&readable, times, (times.as_ptr() as usize, times.len()));
        values.append_to(&mut self.values);
    }
}
