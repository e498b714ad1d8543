//! Writing a checkpoint: every series with its samples, at least as of the beginning of a log; of those in segments it says
//! where they are.

use std::collections::HashSet;
use std::fs::{self, File};
use std::hash::Hash;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;
use telemetry::Histogram;

use super::Directory;
use super::frame::{Header, RecordWriter};
use super::segment::{Place, Segments};
use crate::block::TimeColumn;
use crate::column::{encode_times, encode_values, push_varint, zigzag};
use crate::histograms;
use crate::index::{Numbers, write_set};
use crate::sheet::Piece;

pub(super) const CHECKPOINT_MAGIC: [u8; 8] = *b"picketcp";

pub(super) const BEGIN: u8 = 1;
/// Series whose blocks are all here; format version 4.
pub(super) const SERIES: u8 = 2;
pub(super) const END: u8 = 3;
/// Series whose blocks are here or in segments, with their labels as text; format version 5.
pub(super) const SERIES_AND_PLACES: u8 = 4;
/// The same, with labels as what differs from the series before; see [`PairNumbers`].
pub(super) const SERIES_BY_PAIRS: u8 = 5;
/// In a block's length: it is in a segment.
pub(super) const STORED: u64 = 1;

/// Records are cut at this size.
const RECORD_LEN_TARGET: usize = 1 << 20;

/// What is written of a series; sealed blocks are shared with the store, so taking it is quick.
pub(crate) struct Entry {
    pub(crate) id: u32,
    /// As the index numbers them.
    pub(crate) pairs: Numbers,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<f64>,
    pub(crate) histograms: Vec<(i64, Arc<Histogram>)>,
}

/// The state to write down, a part at a time: appends go on in between.
pub(crate) trait State {
    fn oldest(&self) -> i64;
    /// The series of some ids from this one on, and the id after them; None behind the last.
    fn part(&self, from: u32) -> Option<(Vec<Entry>, u32)>;
    /// How many series there are.
    fn series_len(&self) -> usize;
    /// A pair of labels by its number in the entries; they keep them as long as a checkpoint is written.
    fn pair(&self, number: u32) -> Box<str>;
}

/// A checkpoint that is on disk.
pub(crate) struct Written {
    pub(crate) series: usize,
    pub(crate) bytes: u64,
    /// Segments that it names.
    pub(crate) used: HashSet<u16>,
}

/// Writes the checkpoint beside its place, makes it durable, and moves it there.
pub(crate) fn write(
    directory: &Directory,
    number: u64,
    segments: &Segments,
    state: &impl State,
) -> io::Result<Written> {
    let path = directory.checkpoint_path(number);
    let unfinished = path.with_extension("unfinished");
    let written = write_file(&unfinished, state, segments).and_then(|written| {
        fs::rename(&unfinished, &path)?;
        directory.sync()?;
        Ok(written)
    });
    if written.is_err() {
        // On a full disk this is room for the next attempt.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn write_file(path: &Path, state: &impl State, segments: &Segments) -> io::Result<Written> {
    let file = BufWriter::with_capacity(1 << 18, File::create(path)?);
    let mut writer = RecordWriter::new(file, Header::new(CHECKPOINT_MAGIC, 0))?;
    let mut payload = vec![BEGIN];
    push_varint(&mut payload, zigzag(state.oldest()));
    push_varint(&mut payload, state.series_len() as u64);
    writer.record(&payload)?;

    let (mut columns, mut ends) = (ColumnNumbers::default(), PlaceEnds::<u16>::default());
    let (mut used, mut pairs) = (HashSet::new(), PairNumbers::default());
    payload.clear();
    let (mut series, mut next) = (0, 0);
    while let Some((entries, after)) = state.part(next) {
        for entry in &entries {
            if payload.is_empty() {
                payload.push(SERIES_BY_PAIRS);
            }
            push_varint(&mut payload, u64::from(entry.id));
            pairs.push(&mut payload, &entry.pairs, state);
            push_series(&mut payload, entry, &mut columns, |place| {
                used.insert(place.slot);
                (segments.number(place.slot), ends.skipped(place.slot, place))
            });
            if payload.len() >= RECORD_LEN_TARGET {
                writer.record(&payload)?;
                payload.clear();
            }
        }
        series += entries.len();
        next = after;
    }
    if !payload.is_empty() {
        writer.record(&payload)?;
    }
    payload.clear();
    payload.push(END);
    push_varint(&mut payload, series as u64);
    push_varint(&mut payload, u64::from(next));
    writer.record(&payload)?;
    let bytes = writer.written;
    writer.into_inner().into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(Written { series, bytes, used })
}

/// Where the last block of each segment ended, by segment: most begin where another ended.
#[derive(Default)]
pub(super) struct PlaceEnds<K>(HashMap<K, u64>);

impl<K: Hash + Eq> PlaceEnds<K> {
    /// How far behind the end of the last one a block begins.
    fn skipped(&mut self, segment: K, place: Place) -> i64 {
        let end = self.0.insert(segment, place.end()).unwrap_or(0);
        i64::from(place.offset) - end as i64
    }

    /// Where a block begins, and where it ends.
    pub(super) fn offset(&mut self, segment: K, skipped: i64, len: u16) -> Option<u32> {
        let end = self.0.entry(segment).or_default();
        let offset = u32::try_from(i64::try_from(*end).ok()?.checked_add(skipped)?).ok()?;
        *end = Place { slot: 0, len, offset }.end();
        Some(offset)
    }
}

/// Columns of times are shared by many blocks and written once.
#[derive(Default)]
struct ColumnNumbers {
    numbers: HashMap<*const TimeColumn, u64>,
    /// Keeps the columns where they are as long as their addresses mean them.
    held: Vec<Arc<TimeColumn>>,
    /// The plain times that came last, and encoded: the series of a target share theirs.
    plain: (Vec<i64>, Vec<u8>),
}

/// Pairs are numbered in the order in which they come, from 0. A series' labels are the numbers that differ from those of the
/// series before it, and behind them the text of each pair that has come with it.
#[derive(Default)]
struct PairNumbers {
    /// By the number in the index.
    numbers: HashMap<u32, u32>,
    before: Numbers,
}

impl PairNumbers {
    fn push(&mut self, payload: &mut Vec<u8>, pairs: &[u32], state: &impl State) {
        let mut new = SmallVec::<[u32; 4]>::new();
        let number = |pair: &u32| {
            let next = self.numbers.len() as u32;
            *self.numbers.entry(*pair).or_insert_with(|| {
                new.push(*pair);
                next
            })
        };
        let numbers: Numbers = pairs.iter().map(number).collect();
        write_set(payload, &self.before, &numbers);
        self.before = numbers;
        new.into_iter().for_each(|pair| push_bytes(payload, state.pair(pair).as_bytes()));
    }
}

/// `name` gives the number of a place's segment, and how far behind the block before it in there the block is.
fn push_series(
    payload: &mut Vec<u8>,
    entry: &Entry,
    columns: &mut ColumnNumbers,
    mut name: impl FnMut(Place) -> (u64, i64),
) {
    let Entry { pieces, times, values, histograms, .. } = entry;
    push_varint(payload, times.len() as u64);
    if columns.plain.0 != *times {
        columns.plain = (times.clone(), encode_times(times));
    }
    push_bytes(payload, &columns.plain.1);
    push_bytes(payload, &encode_values(values));
    push_varint(payload, pieces.len() as u64);
    for piece in pieces {
        let column = piece.times();
        let next = columns.held.len() as u64 + 1;
        match columns.numbers.get(&Arc::as_ptr(column)) {
            Some(number) => push_varint(payload, *number),
            None => {
                columns.numbers.insert(Arc::as_ptr(column), next);
                columns.held.push(column.clone());
                push_varint(payload, 0);
                push_varint(payload, zigzag(column.first));
                push_varint(payload, zigzag(column.last));
                push_varint(payload, column.count as u64);
                push_bytes(payload, &column.bytes);
            }
        }
        match piece.lies() {
            Ok(values) => {
                push_varint(payload, (values.len() as u64) << 1);
                payload.extend_from_slice(values);
            }
            Err(place) => {
                let (number, skipped) = name(place);
                push_varint(payload, u64::from(place.len) << 1 | STORED);
                push_varint(payload, number);
                push_varint(payload, zigzag(skipped));
            }
        }
    }
    push_varint(payload, histograms.len() as u64);
    for (time, histogram) in histograms {
        push_varint(payload, zigzag(*time));
        push_bytes(payload, &histograms::encode(histogram));
    }
}

fn push_bytes(payload: &mut Vec<u8>, bytes: &[u8]) {
    push_varint(payload, bytes.len() as u64);
    payload.extend_from_slice(bytes);
}
