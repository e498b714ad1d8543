//! A checkpoint: every series with its samples, at least as of the beginning of a log.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;

use telemetry::{Histogram, Labels};

use super::frame::{Header, RecordWriter, Records};
use super::{Checkpoint, Directory, OpenError, io_error};
use crate::block::{Block, TimeColumn, TimeColumns};
use crate::column::{Reader, decode_times, decode_values, encode_times, encode_values, push_varint, unzigzag, zigzag};
use crate::histograms;
use crate::series::Series;

const CHECKPOINT_MAGIC: [u8; 8] = *b"picketcp";

const BEGIN: u8 = 1;
const SERIES: u8 = 2;
const END: u8 = 3;

/// Records are cut at this size.
const RECORD_LEN_TARGET: usize = 1 << 20;

/// What is written of a series; sealed blocks are shared with the store, so taking it is quick.
pub(crate) struct Entry {
    pub(crate) id: u32,
    pub(crate) labels: Labels,
    pub(crate) blocks: Vec<Block>,
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<f64>,
    pub(crate) histograms: Vec<(i64, Arc<Histogram>)>,
}

/// What a checkpoint held.
pub(crate) struct Restored {
    pub(crate) oldest: i64,
    /// How many series ids were in use or free: the log after the checkpoint may use any of them.
    pub(crate) ids_len: usize,
    pub(crate) series: Vec<RestoredSeries>,
}

pub(crate) struct RestoredSeries {
    pub(crate) id: u32,
    pub(crate) labels: Labels,
    pub(crate) series: Series,
    pub(crate) histograms: Vec<(i64, Arc<Histogram>)>,
}

/// The state to write down, a part at a time: appends go on in between.
pub(crate) trait State {
    fn oldest(&self) -> i64;
    /// The series of some ids from this one on, and the id after them; None behind the last.
    fn part(&self, from: u32) -> Option<(Vec<Entry>, u32)>;
}

/// Writes the checkpoint beside its place, makes it durable, and moves it there.
pub(crate) fn write(directory: &Directory, number: u64, state: &impl State) -> io::Result<Checkpoint> {
    let path = directory.checkpoint_path(number);
    let unfinished = path.with_extension("unfinished");
    let written = write_file(&unfinished, state)?;
    fs::rename(&unfinished, &path)?;
    directory.sync()?;
    Ok(written)
}

fn write_file(path: &Path, state: &impl State) -> io::Result<Checkpoint> {
    let file = BufWriter::with_capacity(1 << 18, File::create(path)?);
    let mut writer = RecordWriter::new(file, Header { magic: CHECKPOINT_MAGIC, continues_at: 0 })?;
    let mut payload = vec![BEGIN];
    push_varint(&mut payload, zigzag(state.oldest()));
    writer.record(&payload)?;

    let mut columns = ColumnNumbers::default();
    payload.clear();
    let (mut series, mut next) = (0, 0);
    while let Some((entries, after)) = state.part(next) {
        for entry in &entries {
            if payload.is_empty() {
                payload.push(SERIES);
            }
            push_series(&mut payload, entry, &mut columns);
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
    Ok(Checkpoint { series, bytes })
}

/// Columns of times are shared by many blocks and written once.
#[derive(Default)]
struct ColumnNumbers {
    numbers: HashMap<*const TimeColumn, u64>,
    /// Keeps the columns where they are as long as their addresses mean them.
    held: Vec<Arc<TimeColumn>>,
}

fn push_series(payload: &mut Vec<u8>, entry: &Entry, columns: &mut ColumnNumbers) {
    let Entry { id, labels, blocks, times, values, histograms } = entry;
    push_varint(payload, u64::from(*id));
    push_bytes(payload, labels.encoded().as_bytes());
    push_varint(payload, times.len() as u64);
    push_bytes(payload, &encode_times(times));
    push_bytes(payload, &encode_values(values));
    push_varint(payload, blocks.len() as u64);
    for block in blocks {
        let next = columns.held.len() as u64 + 1;
        match columns.numbers.get(&Arc::as_ptr(&block.times)) {
            Some(number) => push_varint(payload, *number),
            None => {
                columns.numbers.insert(Arc::as_ptr(&block.times), next);
                columns.held.push(block.times.clone());
                push_varint(payload, 0);
                push_varint(payload, zigzag(block.first()));
                push_varint(payload, zigzag(block.last()));
                push_varint(payload, block.count() as u64);
                push_bytes(payload, &block.times.bytes);
            }
        }
        push_bytes(payload, &block.values);
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

/// Reads a checkpoint whole, or says that it is damaged.
pub(crate) fn read(path: &Path, columns: &mut TimeColumns) -> Result<Restored, OpenError> {
    let damaged = |what| OpenError::Damaged { file: path.to_owned(), what };
    let mut records = Records::open(path, CHECKPOINT_MAGIC)?;
    let mut restored = Restored { oldest: i64::MIN, ids_len: 0, series: Vec::new() };
    let mut numbered = Vec::new();
    loop {
        let record = records.next().map_err(io_error("read", path))?;
        let Some(payload) = record else { return Err(damaged("it ends too early")) };
        let mut reader = Reader::new(payload);
        match reader.byte() {
            Some(BEGIN) => {
                let oldest = reader.varint().map(unzigzag);
                restored.oldest = oldest.ok_or_else(|| damaged("its beginning cannot be read"))?;
            }
            Some(SERIES) => {
                while !reader.is_empty() {
                    let series = read_series(&mut reader, columns, &mut numbered);
                    restored.series.push(series.ok_or_else(|| damaged("a series cannot be read"))?);
                }
            }
            Some(END) if reader.varint() == Some(restored.series.len() as u64) => {
                let ids_len = reader.varint().and_then(|len| u32::try_from(len).ok());
                restored.ids_len = ids_len.ok_or_else(|| damaged("its end cannot be read"))? as usize;
                return Ok(restored);
            }
            _ => return Err(damaged("an unknown record")),
        }
    }
}

fn read_series(
    reader: &mut Reader<'_>,
    columns: &mut TimeColumns,
    numbered: &mut Vec<Arc<TimeColumn>>,
) -> Option<RestoredSeries> {
    let id = u32::try_from(reader.varint()?).ok()?;
    let labels = Labels::from_encoded(std::str::from_utf8(read_bytes(reader)?).ok()?)?;
    let hot_len = usize::try_from(reader.varint()?).ok()?;
    let times = decode_times(read_bytes(reader)?, hot_len)?;
    let values = decode_values(read_bytes(reader)?, hot_len)?;
    let blocks_len = reader.varint()?;
    let mut blocks = Vec::new();
    for _ in 0..blocks_len {
        let times = match usize::try_from(reader.varint()?).ok()?.checked_sub(1) {
            Some(index) => numbered.get(index)?.clone(),
            None => {
                let (first, last) = (unzigzag(reader.varint()?), unzigzag(reader.varint()?));
                let count = usize::try_from(reader.varint()?).ok()?;
                let column = columns.add(TimeColumn { first, last, count, bytes: read_bytes(reader)?.into() });
                numbered.push(column.clone());
                column
            }
        };
        blocks.push(Block { times, values: read_bytes(reader)?.into() });
    }
    let histograms_len = reader.varint()?;
    let mut histograms = Vec::new();
    for _ in 0..histograms_len {
        let time = unzigzag(reader.varint()?);
        histograms.push((time, Arc::new(histograms::decode(read_bytes(reader)?)?)));
    }
    Some(RestoredSeries { id, labels, series: Series::from_parts(blocks, times, values), histograms })
}

fn read_bytes<'b>(reader: &mut Reader<'b>) -> Option<&'b [u8]> {
    let length = usize::try_from(reader.varint()?).ok()?;
    reader.take(length)
}
