//! Reading a checkpoint: one thread reads and parses, the other puts the series into place.
//!
//! A series' plain samples come back as a sealed block as they were written: decoding them for all series would be much
//! of a start, and they are plain again as soon as as many new ones have come.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use telemetry::{Histogram, Labels};

use super::checkpoint::{BEGIN, CHECKPOINT_MAGIC, END, SERIES};
use super::frame::Records;
use super::{OpenError, io_error};
use crate::block::{Block, TimeColumn, TimeColumns};
use crate::column::{Reader, unzigzag};
use crate::head::Head;
use crate::histograms;
use crate::series::Series;

/// Parsed records that may wait, each about a mebibyte long.
const WAITING_MAX: usize = 4;

pub(crate) struct RestoredSeries {
    pub(crate) id: u32,
    pub(crate) labels: Labels,
    pub(crate) series: Series,
    pub(crate) histograms: Vec<(i64, Arc<Histogram>)>,
}

/// What a checkpoint says, in its order.
enum Part {
    /// The oldest time that is kept.
    Begin(i64),
    Series(Vec<RestoredSeries>),
    /// How many series ids were in use or free: the log after the checkpoint may use any of them.
    End {
        ids_len: usize,
    },
}

/// The state that a checkpoint holds, and the oldest time that is kept; or says that it is damaged.
pub(crate) fn restore(path: &Path) -> Result<(Head, i64), OpenError> {
    let (mut head, mut oldest) = (Head::default(), i64::MIN);
    let damaged = |what| OpenError::Damaged { file: path.to_owned(), what };
    std::thread::scope(|scope| {
        let (sender, parts): (SyncSender<Part>, Receiver<Part>) = sync_channel(WAITING_MAX);
        let parser = scope.spawn(move || parse(path, &sender));
        for part in parts {
            match part {
                Part::Begin(time) => oldest = time,
                Part::Series(series) => {
                    for series in series {
                        head.restore(series).ok_or_else(|| damaged("a series is in it twice"))?;
                    }
                }
                Part::End { ids_len } => head.index.reserve_ids(ids_len),
            }
        }
        head.columns = parser.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(())
    })?;
    Ok((head, oldest))
}

/// Ends early if nobody listens any more.
fn parse(path: &Path, parts: &SyncSender<Part>) -> Result<TimeColumns, OpenError> {
    let damaged = |what| OpenError::Damaged { file: path.to_owned(), what };
    let mut records = Records::open(path, CHECKPOINT_MAGIC)?;
    let (mut columns, mut numbered, mut count) = (TimeColumns::default(), Vec::new(), 0);
    loop {
        let record = records.next().map_err(io_error("read", path))?;
        let Some(payload) = record else { return Err(damaged("it ends too early")) };
        let mut reader = Reader::new(payload);
        let part = match reader.byte() {
            Some(BEGIN) => {
                let oldest = reader.varint().map(unzigzag);
                Part::Begin(oldest.ok_or_else(|| damaged("its beginning cannot be read"))?)
            }
            Some(SERIES) => {
                let mut all = Vec::new();
                while !reader.is_empty() {
                    let series = read_series(&mut reader, &mut columns, &mut numbered);
                    all.push(series.ok_or_else(|| damaged("a series cannot be read"))?);
                }
                count += all.len() as u64;
                Part::Series(all)
            }
            Some(END) if reader.varint() == Some(count) => {
                let ids_len = reader.varint().and_then(|len| u32::try_from(len).ok());
                Part::End { ids_len: ids_len.ok_or_else(|| damaged("its end cannot be read"))? as usize }
            }
            _ => return Err(damaged("an unknown record")),
        };
        let is_end = matches!(part, Part::End { .. });
        if parts.send(part).is_err() || is_end {
            return Ok(columns);
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
    let plain_len = usize::try_from(reader.varint()?).ok()?;
    let (plain_times, plain_values) = (read_bytes(reader)?, read_bytes(reader)?);
    let mut blocks = Vec::new();
    let blocks_len = reader.varint()?;
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
    if plain_len > 0 {
        blocks.push(Block { times: columns.encoded(plain_times, plain_len)?, values: plain_values.into() });
    }
    blocks.shrink_to_fit();
    let histograms_len = reader.varint()?;
    let mut histograms = Vec::new();
    for _ in 0..histograms_len {
        let time = unzigzag(reader.varint()?);
        histograms.push((time, Arc::new(histograms::decode(read_bytes(reader)?)?)));
    }
    Some(RestoredSeries { id, labels, series: Series::sealed(blocks), histograms })
}

fn read_bytes<'b>(reader: &mut Reader<'b>) -> Option<&'b [u8]> {
    let length = usize::try_from(reader.varint()?).ok()?;
    reader.take(length)
}
