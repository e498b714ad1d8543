//! Reading a checkpoint: one thread reads and parses, the other puts the series into place.
//!
//! A series' plain samples come back as a sealed block as they were written: decoding them for all series would be much
//! of a start, and they are plain again as soon as as many new ones have come.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use hashbrown::HashMap;
use telemetry::labels::{decode_pair, encode_pairs};
use telemetry::{Histogram, Labels};

use super::checkpoint::{BEGIN, CHECKPOINT_MAGIC, END, PlaceEnds, SERIES, SERIES_AND_PLACES, SERIES_BY_PAIRS, STORED};
use super::frame::Records;
use super::segment::Finder;
use super::{Directory, OpenError, io_error};
use crate::block::{Block, TimeColumn, TimeColumns, Values};
use crate::column::{Reader, unzigzag};
use crate::head::Head;
use crate::histograms;
use crate::index::{Numbers, hash_encoded, read_set};
use crate::series::Series;

/// Parsed records that may wait, each about a mebibyte long.
const WAITING_MAX: usize = 4;
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
        let parser = scope.spawn(move || Parser::new(directory, path).parse(&sender));
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

struct Parser<'d> {
    directory: &'d Directory,
    path: &'d Path,
    columns: TimeColumns,
    /// By the number that they have in the checkpoint.
    numbered: Vec<Arc<TimeColumn>>,
    finder: Finder,
    ends: PlaceEnds<u64>,
    pairs: PairTexts,
}

impl<'d> Parser<'d> {
    fn new(directory: &'d Directory, path: &'d Path) -> Self {
        let (columns, finder, ends) = (TimeColumns::default(), Finder::default(), PlaceEnds::default());
        Parser { directory, path, columns, numbered: Vec::new(), finder, ends, pairs: PairTexts::default() }
    }

    fn damaged(&self, what: &'static str) -> OpenError {
        OpenError::Damaged { file: self.path.to_owned(), what }
    }

    /// Ends early if nobody listens any more.
    fn parse(mut self, parts: &SyncSender<Part>) -> Result<Self, OpenError> {
        let mut records = Records::open(self.path, CHECKPOINT_MAGIC)?;
        let mut count = 0;
        loop {
            let record = records.next().map_err(io_error("read", self.path))?;
            let Some(payload) = record else { return Err(self.damaged("it ends too early")) };
            let mut reader = Reader::new(payload);
            let part = match reader.byte() {
                Some(BEGIN) => {
                    let oldest = reader.varint().map(unzigzag);
                    let oldest = oldest.ok_or_else(|| self.damaged("its beginning cannot be read"))?;
                    // Only to have room for them at once; before format version 6 it was not said.
                    let series_len = reader.varint().unwrap_or(0).min(SERIES_RESERVED_MAX) as usize;
                    Part::Begin { oldest, series_len }
                }
                Some(kind @ (SERIES | SERIES_AND_PLACES | SERIES_BY_PAIRS)) => {
                    let mut part = RestoredPart::default();
                    while !reader.is_empty() {
                        let series = self.series(&mut reader, kind, &mut part)?;
                        part.series.push(series.ok_or_else(|| self.damaged("a series cannot be read"))?);
                    }
                    count += part.series.len() as u64;
                    Part::Series(part)
                }
                Some(END) if reader.varint() == Some(count) => {
                    let ids_len = reader.varint().and_then(|len| u32::try_from(len).ok());
                    Part::End { ids_len: ids_len.ok_or_else(|| self.damaged("its end cannot be read"))? as usize }
                }
                _ => return Err(self.damaged("an unknown record")),
            };
            let is_end = matches!(part, Part::End { .. });
            if parts.send(part).is_err() || is_end {
                return Ok(self);
            }
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
        let plain_len = usize::try_from(reader.varint()?).ok()?;
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
        let count = usize::try_from(reader.varint()?).ok()?;
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

/// The pairs of labels that a checkpoint has, by their number in it.
#[derive(Default)]
struct PairTexts {
    /// As in [`Labels::encoded_pairs`], one behind the other.
    texts: String,
    /// Where each ends.
    ends: Vec<usize>,
    /// The last series' pairs.
    before: Numbers,
    /// Where a checkpoint has labels as text.
    numbers: HashMap<Box<str>, u32>,
    encoded: String,
}

impl PairTexts {
    /// Adds a series' pairs to the part's; returns how many they are, and the hash of the labels.
    fn read(&mut self, reader: &mut Reader<'_>, part: &mut RestoredPart) -> Option<(usize, u64)> {
        let mut rest = reader.rest();
        read_set(&mut rest, &mut self.before)?;
        reader.take(reader.rest().len() - rest.len())?;
        let mut numbers = std::mem::take(&mut self.before);
        for number in &numbers {
            if *number as usize == self.ends.len() {
                self.add(std::str::from_utf8(read_bytes(reader)?).ok()?, part)?;
            }
        }
        std::mem::swap(&mut self.before, &mut numbers);
        self.finish(part)
    }

    /// The same of labels as text.
    fn read_text(&mut self, reader: &mut Reader<'_>, part: &mut RestoredPart) -> Option<(usize, u64)> {
        let labels = Labels::from_encoded(std::str::from_utf8(read_bytes(reader)?).ok()?)?;
        self.before.clear();
        for pair in labels.encoded_pairs() {
            let known = self.numbers.get(pair).copied();
            let number = known.map_or_else(|| self.add(pair, part), Some)?;
            self.numbers.entry_ref(pair).or_insert(number);
            self.before.push(number);
        }
        self.finish(part)
    }

    fn add(&mut self, pair: &str, part: &mut RestoredPart) -> Option<u32> {
        // What is no pair would not be found again by its name.
        decode_pair(pair).filter(|(_, value)| !value.is_empty())?;
        part.new_pairs.push(pair.into());
        self.texts.push_str(pair);
        self.ends.push(self.texts.len());
        u32::try_from(self.ends.len() - 1).ok()
    }

    fn finish(&mut self, part: &mut RestoredPart) -> Option<(usize, u64)> {
        let PairTexts { texts, ends, before, encoded, .. } = self;
        if before.iter().any(|number| *number as usize >= ends.len()) {
            return None;
        }
        let start = |number: usize| number.checked_sub(1).map_or(0, |before| ends[before]);
        let text = |number: &u32| &texts[start(*number as usize)..ends[*number as usize]];
        encoded.clear();
        encode_pairs(before.iter().map(text), encoded);
        part.pairs.extend_from_slice(before);
        Some((before.len(), hash_encoded(encoded)))
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

fn read_bytes<'b>(reader: &mut Reader<'b>) -> Option<&'b [u8]> {
    let length = usize::try_from(reader.varint()?).ok()?;
    reader.take(length)
}
