//! Reading a checkpoint: one thread reads and parses, the other puts the series into place.
//!
//! A series' plain samples come back as a sealed block as they were written: decoding them for all series would be much
//! of a start, and they are plain again as soon as as many new ones have come.

mod pairs;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use telemetry::{Histogram, Labels};

use super::checkpoint::{BEGIN, CHECKPOINT_MAGIC, END, PlaceEnds, SERIES, SERIES_AND_PLACES, SERIES_BY_PAIRS, STORED};
use super::frame::Records;
use super::segment::Finder;
use super::{Directory, OpenError, io_error};
use crate::block::{Block, TimeColumn, TimeColumns, Values};
use crate::column::{Reader, unzigzag};
use crate::head::Head;
use crate::histograms;
use crate::series::Series;
use pairs::PairTexts;

/// Parsed records that may wait, each about a mebibyte long.
const WAITING_MAX: usize = 4;
/// No block has been written with nearly so many samples.
const BLOCK_SAMPLES_MAX: usize = 1 << 16;
/// Series that room is made for before they come.
const SERIES_RESERVED_MAX: u64 = 8 << 20;

pub(crate) struct RestoredSeries {
    pub(crate) id: u32,
    /// How many of the pairs of the series that came with it are its own: behind those of the one before.
    pub(crate) pairs_len: usize,
    /// Of its labels.
    pub(crate) hash: u64,
    pub(crate) series: Series,
    pub(crate) histograms: Vec<(i64, Arc<Histogram>)>,
}

/// Some series of a checkpoint.
#[derive(Default)]
pub(crate) struct RestoredPart {
    pub(crate) series: Vec<RestoredSeries>,
    /// The numbers of their pairs, in the order in which pairs came with parts.
    pub(crate) pairs: Vec<u32>,
    /// Those that no part before had.
    pub(crate) new_pairs: Vec<Box<str>>,
}

/// What a checkpoint says, in its order.
enum Part {
    Begin {
        /// The oldest time that is kept.
        oldest: i64,
        series_len: usize,
    },
    Series(RestoredPart),
    /// How many series ids were in use or free: the log after the checkpoint may use any of them.
    End {
        ids_len: usize,
    },
}

/// The state that a checkpoint holds, the oldest time that is kept, and what was found of segments; or says that the
/// checkpoint is damaged.
pub(crate) fn restore(directory: &Directory, number: u64) -> Result<(Head, i64, Finder), OpenError> {
    let path = &directory.checkpoint_path(number);
    let (mut head, mut oldest) = (Head::default(), i64::MIN);
    let damaged = |what| OpenError::Damaged { file: path.to_owned(), what };
    let finder = std::thread::scope(|scope| {
        let (sender, parts): (SyncSender<Part>, Receiver<Part>) = sync_channel(WAITING_MAX);
        let parser = scope.spawn(move || Parser::new(&directory.path, path).parse(&sender));
        let mut numbers = Vec::new();
        for part in parts {
            match part {
                Part::Begin { oldest: time, series_len } => {
                    oldest = time;
                    head.index.reserve(series_len);
                }
                Part::Series(part) => {
                    head.restore(part, &mut numbers).ok_or_else(|| damaged("a series is in it twice"))?;
                }
                Part::End { ids_len } => head.index.reserve_ids(ids_len),
            }
        }
        let parsed = parser.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        head.columns = parsed.columns;
        Ok(parsed.finder)
    })?;
    head.segments = Arc::new(finder.segments.clone());
    Ok((head, oldest, finder))
}

/// The labels of the series in a checkpoint's records, up to the first record that cannot be.
pub(crate) fn labels_in<'r>(records: impl IntoIterator<Item = &'r [u8]>) -> Vec<Labels> {
    let nowhere = Path::new("nowhere");
    let (mut parser, mut pairs, mut all) = (Parser::new(nowhere, nowhere), Vec::new(), Vec::new());
    for payload in records {
        let Ok(part) = parser.part(payload) else { break };
        let Part::Series(part) = part else { continue };
        pairs.extend(part.new_pairs);
        let mut numbers = part.pairs.iter();
        all.extend(part.series.iter().map(|series| {
            let own: Vec<&str> =
                numbers.by_ref().take(series.pairs_len).map(|number| &*pairs[*number as usize]).collect();
            Labels::from_encoded_pairs(own.into_iter())
        }));
    }
    all
}

struct Parser<'d> {
    directory: &'d Path,
    path: &'d Path,
    /// Read so far.
    series_len: u64,
    columns: TimeColumns,
    /// By the number that they have in the checkpoint.
    numbered: Vec<Arc<TimeColumn>>,
    finder: Finder,
    ends: PlaceEnds<u64>,
    pairs: PairTexts,
}

impl<'d> Parser<'d> {
    fn new(directory: &'d Path, path: &'d Path) -> Self {
        let (columns, finder, ends) = (TimeColumns::default(), Finder::default(), PlaceEnds::default());
        let (numbered, pairs) = (Vec::new(), PairTexts::default());
        Parser { directory, path, series_len: 0, columns, numbered, finder, ends, pairs }
    }

    fn damaged(&self, what: &'static str) -> OpenError {
        OpenError::Damaged { file: self.path.to_owned(), what }
    }

    /// Ends early if nobody listens any more.
    fn parse(mut self, parts: &SyncSender<Part>) -> Result<Self, OpenError> {
        let mut records = Records::open(self.path, CHECKPOINT_MAGIC)?;
        loop {
            let record = records.next().map_err(io_error("read", self.path))?;
            let Some(payload) = record else { return Err(self.damaged("it ends too early")) };
            let part = self.part(payload)?;
            let is_end = matches!(part, Part::End { .. });
            if parts.send(part).is_err() || is_end {
                return Ok(self);
            }
        }
    }

    /// What a record says.
    fn part(&mut self, payload: &[u8]) -> Result<Part, OpenError> {
        let mut reader = Reader::new(payload);
        match reader.byte() {
            Some(BEGIN) => {
                let oldest = reader.varint().map(unzigzag);
                let oldest = oldest.ok_or_else(|| self.damaged("its beginning cannot be read"))?;
                // Only to have room for them at once; before format version 6 it was not said.
                let series_len = reader.varint().unwrap_or(0).min(SERIES_RESERVED_MAX) as usize;
                Ok(Part::Begin { oldest, series_len })
            }
            Some(kind @ (SERIES | SERIES_AND_PLACES | SERIES_BY_PAIRS)) => {
                let mut part = RestoredPart::default();
                while !reader.is_empty() {
                    let series = self.series(&mut reader, kind, &mut part)?;
                    part.series.push(series.ok_or_else(|| self.damaged("a series cannot be read"))?);
                }
                self.series_len += part.series.len() as u64;
                Ok(Part::Series(part))
            }
            Some(END) if reader.varint() == Some(self.series_len) => {
                let ids_len = reader.varint().and_then(|len| u32::try_from(len).ok());
                Ok(Part::End { ids_len: ids_len.ok_or_else(|| self.damaged("its end cannot be read"))? as usize })
            }
            _ => Err(self.damaged("an unknown record")),
        }
    }

    /// None for what cannot be; an error where a segment cannot be looked at.
    fn series(
        &mut self,
        reader: &mut Reader<'_>,
        kind: u8,
        part: &mut RestoredPart,
    ) -> Result<Option<RestoredSeries>, OpenError> {
        let Some(id) = reader.varint().and_then(|id| u32::try_from(id).ok()) else { return Ok(None) };
        let labels = match kind {
            SERIES_BY_PAIRS => self.pairs.read(reader, part),
            _ => self.pairs.read_text(reader, part),
        };
        let Some((pairs_len, hash)) = labels else { return Ok(None) };
        let Some(plain) = self.plain(reader) else { return Ok(None) };
        let Some(blocks_len) = reader.varint() else { return Ok(None) };
        // For one that the log adds, too; a length that is wrong takes no memory.
        let mut blocks = Vec::with_capacity((blocks_len as usize).min(16) + 2);
        for _ in 0..blocks_len {
            let Some(times) = self.times(reader) else { return Ok(None) };
            let values = match kind {
                SERIES => match read_bytes(reader) {
                    Some(bytes) => Some(Values::Memory(bytes.into())),
                    None => return Ok(None),
                },
                _ => match self.values(reader, &times)? {
                    Some(found) => found,
                    None => return Ok(None),
                },
            };
            blocks.extend(values.map(|values| Block { times, values }));
        }
        blocks.extend(plain);
        let histograms = read_histograms(reader);
        let series = Series::sealed(blocks);
        Ok(histograms.map(|histograms| RestoredSeries { id, pairs_len, hash, series, histograms }))
    }

    /// The plain samples as a block, if there are some.
    fn plain(&mut self, reader: &mut Reader<'_>) -> Option<Option<Block>> {
        let plain_len = read_count(reader)?;
        let (times, values) = (read_bytes(reader)?, read_bytes(reader)?);
        match plain_len {
            0 => Some(None),
            len => {
                let times = self.columns.encoded(times, len)?;
                Some(Some(Block { times, values: Values::Memory(values.into()) }))
            }
        }
    }

    fn times(&mut self, reader: &mut Reader<'_>) -> Option<Arc<TimeColumn>> {
        if let Some(index) = usize::try_from(reader.varint()?).ok()?.checked_sub(1) {
            return self.numbered.get(index).cloned();
        }
        let (first, last) = (unzigzag(reader.varint()?), unzigzag(reader.varint()?));
        let count = read_count(reader)?;
        let column = self.columns.add(TimeColumn { first, last, count, bytes: read_bytes(reader)?.into() });
        self.numbered.push(column.clone());
        Some(column)
    }

    /// None for what cannot be; within, None for values that are not where they should be, which are counted.
    fn values(&mut self, reader: &mut Reader<'_>, times: &TimeColumn) -> Result<Option<Option<Values>>, OpenError> {
        let Some(word) = reader.varint() else { return Ok(None) };
        if word & STORED == 0 {
            let bytes = usize::try_from(word >> 1).ok().and_then(|len| reader.take(len));
            return Ok(bytes.map(|bytes| Some(Values::Memory(bytes.into()))));
        }
        let Some((number, offset, len)) = self.place(word, reader) else { return Ok(None) };
        let place = self.finder.place(self.directory, number, offset, len)?;
        if place.is_none() {
            self.finder.samples_lost += times.count as u64;
        }
        Ok(Some(place.map(Values::Stored)))
    }

    fn place(&mut self, word: u64, reader: &mut Reader<'_>) -> Option<(u64, u32, u16)> {
        let len = u16::try_from(word >> 1).ok()?;
        let (number, skipped) = (reader.varint()?, unzigzag(reader.varint()?));
        Some((number, self.ends.offset(number, skipped, len)?, len))
    }
}

fn read_histograms(reader: &mut Reader<'_>) -> Option<Vec<(i64, Arc<Histogram>)>> {
    let len = reader.varint()?;
    let mut histograms = Vec::new();
    for _ in 0..len {
        let time = unzigzag(reader.varint()?);
        histograms.push((time, Arc::new(histograms::decode(read_bytes(reader)?)?)));
    }
    Some(histograms)
}

/// How many samples something has. Times that are as far from each other take no bytes, so that a wrong count would take any
/// memory.
fn read_count(reader: &mut Reader<'_>) -> Option<usize> {
    usize::try_from(reader.varint()?).ok().filter(|count| *count <= BLOCK_SAMPLES_MAX)
}

pub(super) fn read_bytes<'b>(reader: &mut Reader<'b>) -> Option<&'b [u8]> {
    let length = usize::try_from(reader.varint()?).ok()?;
    reader.take(length)
}
