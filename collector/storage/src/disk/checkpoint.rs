//! A checkpoint: every series with its samples, as of the beginning of a log.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;

use telemetry::Labels;

use super::frame::{Header, RecordWriter, Records};
use super::{Directory, OpenError, io_error};
use crate::block::{Block, TimeColumn, TimeColumns};
use crate::column::{Reader, decode_times, decode_values, encode_times, encode_values, push_varint, unzigzag, zigzag};
use crate::series::Series;

const CHECKPOINT_MAGIC: [u8; 8] = *b"picketcp";

const BEGIN: u8 = 1;
const SERIES: u8 = 2;
const END: u8 = 3;

/// Records are cut at this size.
const RECORD_LEN_TARGET: usize = 1 << 20;

/// What a checkpoint holds; blocks are shared with the store, so taking it is quick.
pub(crate) struct Snapshot {
    pub(crate) oldest: i64,
    /// How many series ids were in use or free: the log after the checkpoint may use any of them.
    pub(crate) ids_len: usize,
    pub(crate) series: Vec<(u32, Labels, Series)>,
}

/// Writes the checkpoint beside its place, makes it durable, and moves it there. Returns its length.
pub(crate) fn write(directory: &Directory, number: u64, snapshot: &Snapshot) -> io::Result<u64> {
    let path = directory.checkpoint_path(number);
    let unfinished = path.with_extension("unfinished");
    let written = write_file(&unfinished, snapshot)?;
    fs::rename(&unfinished, &path)?;
    directory.sync()?;
    Ok(written)
}

fn write_file(path: &Path, snapshot: &Snapshot) -> io::Result<u64> {
    let file = BufWriter::with_capacity(1 << 18, File::create(path)?);
    let mut writer = RecordWriter::new(file, Header { magic: CHECKPOINT_MAGIC, continues_at: 0 })?;
    let mut payload = vec![BEGIN];
    push_varint(&mut payload, zigzag(snapshot.oldest));
    push_varint(&mut payload, snapshot.ids_len as u64);
    writer.record(&payload)?;

    let mut columns = ColumnNumbers::default();
    payload.clear();
    for (id, labels, series) in &snapshot.series {
        if payload.is_empty() {
            payload.push(SERIES);
        }
        push_series(&mut payload, *id, labels, series, &mut columns);
        if payload.len() >= RECORD_LEN_TARGET {
            writer.record(&payload)?;
            payload.clear();
        }
    }
    if !payload.is_empty() {
        writer.record(&payload)?;
    }
    payload.clear();
    payload.push(END);
    push_varint(&mut payload, snapshot.series.len() as u64);
    writer.record(&payload)?;
    let written = writer.written;
    writer.into_inner().into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(written)
}

/// Columns of times are shared by many blocks and written once.
#[derive(Default)]
struct ColumnNumbers(HashMap<*const TimeColumn, u64>);

fn push_series(payload: &mut Vec<u8>, id: u32, labels: &Labels, series: &Series, columns: &mut ColumnNumbers) {
    push_varint(payload, u64::from(id));
    push_bytes(payload, labels.encoded().as_bytes());
    let (times, values) = series.hot();
    push_varint(payload, times.len() as u64);
    push_bytes(payload, &encode_times(times));
    push_bytes(payload, &encode_values(values));
    push_varint(payload, series.blocks().len() as u64);
    for block in series.blocks() {
        let next = columns.0.len() as u64 + 1;
        match columns.0.get(&Arc::as_ptr(&block.times)) {
            Some(number) => push_varint(payload, *number),
            None => {
                columns.0.insert(Arc::as_ptr(&block.times), next);
                push_varint(payload, 0);
                push_varint(payload, zigzag(block.first()));
                push_varint(payload, zigzag(block.last()));
                push_varint(payload, block.count() as u64);
                push_bytes(payload, &block.times.bytes);
            }
        }
        push_bytes(payload, &block.values);
    }
}

fn push_bytes(payload: &mut Vec<u8>, bytes: &[u8]) {
    push_varint(payload, bytes.len() as u64);
    payload.extend_from_slice(bytes);
}

/// Reads a checkpoint whole, or says that it is damaged.
pub(crate) fn read(path: &Path, columns: &mut TimeColumns) -> Result<Snapshot, OpenError> {
    let damaged = |what| OpenError::Damaged { file: path.to_owned(), what };
    let mut records = Records::open(path, CHECKPOINT_MAGIC)?;
    let mut snapshot = Snapshot { oldest: i64::MIN, ids_len: 0, series: Vec::new() };
    let mut numbered = Vec::new();
    loop {
        let record = records.next().map_err(io_error("read", path))?;
        let Some(payload) = record else { return Err(damaged("it ends too early")) };
        let mut reader = Reader::new(payload);
        match reader.byte() {
            Some(BEGIN) => {
                let begin = reader.varint().map(unzigzag).zip(reader.varint());
                let (oldest, ids_len) = begin.ok_or_else(|| damaged("its beginning cannot be read"))?;
                snapshot.oldest = oldest;
                snapshot.ids_len = usize::try_from(ids_len).map_err(|_| damaged("too many series"))?;
            }
            Some(SERIES) => {
                while !reader.is_empty() {
                    let series = read_series(&mut reader, columns, &mut numbered);
                    snapshot.series.push(series.ok_or_else(|| damaged("a series cannot be read"))?);
                }
            }
            Some(END) if reader.varint() == Some(snapshot.series.len() as u64) => return Ok(snapshot),
            _ => return Err(damaged("an unknown record")),
        }
    }
}

fn read_series(
    reader: &mut Reader<'_>,
    columns: &mut TimeColumns,
    numbered: &mut Vec<Arc<TimeColumn>>,
) -> Option<(u32, Labels, Series)> {
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
    Some((id, labels, Series::from_parts(blocks, times, values)))
}

fn read_bytes<'b>(reader: &mut Reader<'b>) -> Option<&'b [u8]> {
    let length = usize::try_from(reader.varint()?).ok()?;
    reader.take(length)
}
