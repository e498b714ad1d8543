//! The queue on disk: request bodies in the order in which they are to be sent.
//!
//! Files `NNNNNNNNNNNNNNNN.log` of records (length, CRC32, content) behind a header with a version; `sent` says up to
//! where all has been taken. Records are read ahead and may be done in any order. A torn end is cut when the log is opened. Records are not synced one by one: they survive
//! the end of the process, and of a loss of power the file that was finished before.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use telemetry::Timestamp;
use telemetry::remote_write::Message;

use super::counts::Counts;
use super::shards::Shard;

/// Ends in the format's version.
const MAGIC: &[u8; 8] = b"PKTRWQ\0\x02";
const FRAME_LEN: u64 = 8;
/// Counts of four kinds, newest timestamp, message, shard.
const HEAD_LEN: usize = 4 * 8 + 8 + 1 + 3;
/// A record beyond this was never written.
const RECORD_LEN_MAX: u32 = 256 << 20;
const SEGMENT_BYTES: u64 = 8 << 20;
/// Records that wait in memory while the disk refuses them; about a minute of a large fleet.
const MEMORY_RECORDS_MAX: usize = 256;

/// A request that waits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) message: Message,
    pub(super) counts: Counts,
    /// Which series it has: records of one shard are sent one after the other.
    pub(super) shard: Shard,
    pub(super) newest: Timestamp,
    pub(super) body: Bytes,
}

/// Which record was handed out; what it is needed for is to say that it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Disk { segment: u64, next_offset: u64 },
    Memory { number: u64 },
}

#[derive(Debug)]
struct Segment {
    number: u64,
    len: u64,
    /// What waits in it.
    counts: Counts,
}

/// A record on disk that was handed out.
#[derive(Debug)]
struct Flying {
    segment: u64,
    next_offset: u64,
    counts: Counts,
    done: bool,
}

pub(super) struct Log {
    directory: PathBuf,
    bytes_max: u64,
    segment_bytes: u64,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    writer: Option<File>,
    reader: Option<(u64, File)>,
    /// In the first segment: what lies before it has been sent.
    offset: u64,
    /// Segment and offset of what is handed out next.
    cursor: (u64, u64),
    /// What was handed out and is not yet behind `offset`, in the order of the files.
    flying: VecDeque<Flying>,
    sent_written: (u64, u64),
    /// By ascending number.
    memory: VecDeque<(u64, Record)>,
    /// Of the next that comes to memory.
    memory_number: u64,
    /// In memory: what is below was handed out.
    memory_cursor: u64,
    closed: bool,
}

/// What is lost, by reason.
pub(super) type Lost = Vec<(&'static str, Counts)>;

impl Log {
    pub(super) fn open(directory: &Path, bytes_max: u64) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".log")).map(|n| u64::from_str_radix(n, 16));
            numbers.extend(number.and_then(Result::ok));
        }
        numbers.sort_unstable();
        let (sent_segment, sent_offset) = read_sent(directory).unwrap_or((0, 0));
        let mut log = Log {
            directory: directory.to_owned(),
            bytes_max,
            segment_bytes: SEGMENT_BYTES.min(bytes_max / 4),
            segments: VecDeque::new(),
            writer: None,
            reader: None,
            offset: MAGIC.len() as u64,
            cursor: (0, 0),
            flying: VecDeque::new(),
            sent_written: (sent_segment, sent_offset),
            memory: VecDeque::new(),
            memory_number: 0,
            memory_cursor: 0,
            closed: false,
        };
        for number in &numbers {
            let path = log.path(*number);
            let from = if *number == sent_segment { sent_offset.max(MAGIC.len() as u64) } else { MAGIC.len() as u64 };
            let scanned = if *number < sent_segment { None } else { scan(&path, from)? };
            match scanned {
                Some((len, counts)) if !counts.is_none() => {
                    if log.segments.is_empty() {
                        log.offset = from;
                    }
                    log.segments.push_back(Segment { number: *number, len, counts });
                }
                _ => std::fs::remove_file(&path)?,
            }
        }
        // Never behind what may have a torn end: a file of our own, when there is something to write.
        let next = numbers.last().map_or(sent_segment, |n| (*n).max(sent_segment)) + 1;
        if log.segments.is_empty() {
            log.offset = MAGIC.len() as u64;
        }
        log.segments.push_back(Segment { number: next, len: 0, counts: Counts::NONE });
        log.cursor = (log.segments[0].number, log.offset);
        Ok(log)
    }

    /// Adds a record; what had to go for it, or could not be kept, is told.
    pub(super) fn append(&mut self, record: Record) -> Lost {
        let mut lost = Lost::new();
        // Behind what waits in memory, so that the order stays.
        if self.memory.is_empty() {
            match self.append_to_disk(&record) {
                Ok(()) => {
                    self.make_room(&mut lost);
                    return lost;
                }
                Err(error) => tracing::error!(
                    error = error.to_string(),
                    directory = self.directory.display().to_string(),
                    "the disk refuses the remote write log, samples wait in memory"
                ),
            }
        }
        // What was handed out is no loss.
        let unread = self.memory.partition_point(|(number, _)| *number < self.memory_cursor);
        if self.memory.len() - unread >= MEMORY_RECORDS_MAX
            && let Some((_, oldest)) = self.memory.remove(unread)
        {
            lost.push(("log_failed", oldest.counts));
        }
        self.memory.push_back((self.memory_number, record));
        self.memory_number += 1;
        lost
    }

    fn append_to_disk(&mut self, record: &Record) -> io::Result<()> {
        let segment = self.segments.back().expect("one is always there");
        if segment.len >= self.segment_bytes {
            let number = segment.number + 1;
            self.segments.push_back(Segment { number, len: 0, counts: Counts::NONE });
            if let Some(file) = self.writer.take() {
                // Finished files outlast a loss of power; a disk that cannot do it is noticed by the next write.
                let _ = file.sync_data();
            }
        }
        let path = self.path(self.segments.back().expect("one is always there").number);
        let segment = self.segments.back_mut().expect("one is always there");
        let mut bytes = Vec::with_capacity(record.body.len() + 64);
        if segment.len == 0 {
            bytes.extend_from_slice(MAGIC);
        }
        push_record(&mut bytes, record);
        let mut file = match self.writer.take() {
            Some(file) => file,
            None => OpenOptions::new().create(true).write(true).truncate(false).open(&path)?,
        };
        file.seek(SeekFrom::Start(segment.len))?;
        if let Err(error) = file.write_all(&bytes) {
            // What was half written is overwritten by the next record, or cut at the next start.
            let _ = file.set_len(segment.len);
            return Err(error);
        }
        segment.len += bytes.len() as u64;
        segment.counts += record.counts;
        self.writer = Some(file);
        Ok(())
    }

    /// Over the limit the oldest file goes.
    fn make_room(&mut self, lost: &mut Lost) {
        while self.bytes() > self.bytes_max && self.segments.len() > 1 {
            let counts = self.remove(0);
            if !counts.is_none() {
                lost.push(("log_full", counts));
            }
        }
    }

    /// Takes a segment away; what of it was neither sent nor handed out.
    fn remove(&mut self, index: usize) -> Counts {
        let Some(segment) = self.segments.remove(index) else { return Counts::NONE };
        if index == 0 {
            self.offset = MAGIC.len() as u64;
        }
        self.reader = None;
        if let Err(error) = std::fs::remove_file(self.path(segment.number))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(error = error.to_string(), "failed to remove a file of the remote write log");
        }
        let flying = self.flying.iter().filter(|flying| flying.segment == segment.number && !flying.done);
        flying.fold(segment.counts, |counts, flying| counts - flying.counts)
    }

    /// The oldest record that was not handed out yet, and its place for [`Log::done`]. An error is a file that cannot
    /// be read.
    pub(super) fn next(&mut self) -> Result<Option<(Place, Record)>, Lost> {
        loop {
            let Some(index) = self.segments.iter().position(|segment| segment.number >= self.cursor.0) else {
                return Ok(self.next_in_memory());
            };
            let Segment { number, len, .. } = self.segments[index];
            if number != self.cursor.0 {
                // The one that was read is finished, or gone.
                let from = if index == 0 { self.offset } else { MAGIC.len() as u64 };
                self.cursor = (number, from);
                self.drop_finished();
                continue;
            }
            if self.cursor.1 >= len {
                if index + 1 == self.segments.len() {
                    return Ok(self.next_in_memory());
                }
                self.cursor = (number + 1, MAGIC.len() as u64);
                self.drop_finished();
                continue;
            }
            return match self.read() {
                Ok((record, next_offset)) => {
                    self.cursor.1 = next_offset;
                    let counts = record.counts;
                    self.flying.push_back(Flying { segment: number, next_offset, counts, done: false });
                    Ok(Some((Place::Disk { segment: number, next_offset }, record)))
                }
                Err(error) => {
                    tracing::error!(error = error.to_string(), "a file of the remote write log cannot be read");
                    Err(vec![("log_failed", self.give_up(index))])
                }
            };
        }
    }

    fn next_in_memory(&mut self) -> Option<(Place, Record)> {
        let unread = self.memory.partition_point(|(number, _)| *number < self.memory_cursor);
        let (number, record) = self.memory.get(unread)?;
        self.memory_cursor = number + 1;
        Some((Place::Memory { number: *number }, record.clone()))
    }

    fn give_up(&mut self, index: usize) -> Counts {
        if index + 1 == self.segments.len() {
            let number = self.segments[index].number + 1;
            self.segments.push_back(Segment { number, len: 0, counts: Counts::NONE });
            self.writer = None;
        }
        self.remove(index)
    }

    /// At the cursor.
    fn read(&mut self) -> io::Result<(Record, u64)> {
        let (number, offset) = self.cursor;
        let mut file = match self.reader.take() {
            Some((open, file)) if open == number => file,
            _ => File::open(self.path(number))?,
        };
        file.seek(SeekFrom::Start(offset))?;
        let (record, len) = read_record(&mut file)?.ok_or_else(|| io::Error::other("a record is damaged"))?;
        self.reader = Some((number, file));
        Ok((record, offset + len))
    }

    /// The record at this place needs no more sending. One that was dropped meanwhile is no concern.
    pub(super) fn done(&mut self, place: Place) {
        match place {
            Place::Disk { segment, next_offset } => {
                let is_it = |flying: &&mut Flying| (flying.segment, flying.next_offset) == (segment, next_offset);
                let Some(flying) = self.flying.iter_mut().find(is_it) else { return };
                flying.done = true;
                let counts = flying.counts;
                if let Some(segment) = self.segments.iter_mut().find(|other| other.number == segment) {
                    segment.counts -= counts;
                }
                self.commit();
            }
            Place::Memory { number } => self.memory.retain(|(other, _)| *other != number),
        }
    }

    /// Moves on to where all before has been sent.
    fn commit(&mut self) {
        while let Some(flying) = self.flying.pop_front_if(|flying| flying.done) {
            while self.segments.len() > 1 && self.segments[0].number < flying.segment {
                self.remove(0);
            }
            if self.segments[0].number == flying.segment {
                self.offset = flying.next_offset;
            }
        }
        self.drop_finished();
    }

    /// Files that were read to their ends, with all of them sent.
    fn drop_finished(&mut self) {
        let needed = self.flying.front().map_or(self.cursor.0, |flying| flying.segment.min(self.cursor.0));
        while self.segments.len() > 1 && self.segments[0].number < needed {
            self.remove(0);
        }
    }

    /// Writes down up to where all has been sent.
    pub(super) fn save(&mut self) {
        let first = self.segments.front().expect("one is always there").number;
        if self.sent_written == (first, self.offset) {
            return;
        }
        match write_sent(&self.directory, first, self.offset) {
            Ok(()) => self.sent_written = (first, self.offset),
            Err(error) => tracing::warn!(error = error.to_string(), "failed to note what remote write has sent"),
        }
    }

    /// Nothing will be appended any more.
    pub(super) fn close(&mut self) {
        if let Some(file) = self.writer.take() {
            let _ = file.sync_data();
        }
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn is_failing(&self) -> bool {
        !self.memory.is_empty()
    }

    /// On disk.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    pub(super) fn pending(&self) -> Counts {
        let on_disk = self.segments.iter().map(|segment| segment.counts);
        on_disk
            .chain(self.memory.iter().map(|(_, record)| record.counts))
            .fold(Counts::NONE, |sum, counts| sum + counts)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:016x}.log"))
    }
}

fn push_record(bytes: &mut Vec<u8>, record: &Record) {
    let mut content = Vec::with_capacity(HEAD_LEN + record.body.len());
    record.counts.each().iter().for_each(|count| content.extend_from_slice(&count.to_le_bytes()));
    content.extend_from_slice(&record.newest.0.to_le_bytes());
    content.push(match record.message {
        Message::V1 => 1,
        Message::V2 => 2,
    });
    content.push(record.shard.bits);
    content.extend_from_slice(&record.shard.number.to_le_bytes());
    content.extend_from_slice(&record.body);
    bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
    bytes.extend_from_slice(&content);
}

/// The next record and its length in the file; None at the end, or where something else begins.
fn read_record(file: &mut impl Read) -> io::Result<Option<(Record, u64)>> {
    let mut frame = [0; FRAME_LEN as usize];
    match file.read_exact(&mut frame) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let [length, checksum] =
        [0, 4].map(|at| u32::from_le_bytes(frame[at..at + 4].try_into().expect("four bytes of eight")));
    if length > RECORD_LEN_MAX || (length as usize) < HEAD_LEN {
        return Ok(None);
    }
    let mut content = Vec::new();
    file.take(u64::from(length)).read_to_end(&mut content)?;
    if content.len() != length as usize || crc32fast::hash(&content) != checksum {
        return Ok(None);
    }
    let number = |at: usize| u64::from_le_bytes(content[at..at + 8].try_into().expect("eight bytes"));
    let message = match content[40] {
        1 => Message::V1,
        2 => Message::V2,
        _ => return Ok(None),
    };
    let (counts, newest) = (Counts::of(std::array::from_fn(|i| number(8 * i))), Timestamp(number(32) as i64));
    let shard = Shard { bits: content[41], number: u16::from_le_bytes([content[42], content[43]]) };
    let body = Bytes::from(content).slice(HEAD_LEN..);
    Ok(Some((Record { message, counts, shard, newest, body }, FRAME_LEN + u64::from(length))))
}

/// Cuts the file behind its last whole record; its length, and what it has from `from` on. None: not of this format.
fn scan(path: &Path, from: u64) -> io::Result<Option<(u64, Counts)>> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut reader = io::BufReader::new(&file);
    let mut magic = [0; MAGIC.len()];
    if reader.read_exact(&mut magic).is_err() || &magic != MAGIC {
        let file = path.display().to_string();
        tracing::warn!(file, "a file of the remote write log is of another version, or none of ours, and is removed");
        return Ok(None);
    }
    let (mut len, mut counts) = (MAGIC.len() as u64, Counts::NONE);
    while let Some((record, record_len)) = read_record(&mut reader)? {
        counts += if len >= from { record.counts } else { Counts::NONE };
        len += record_len;
    }
    file.set_len(len)?;
    Ok(Some((len, counts)))
}

fn read_sent(directory: &Path) -> Option<(u64, u64)> {
    let bytes: [u8; 20] = std::fs::read(directory.join("sent")).ok()?.try_into().ok()?;
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    (crc32fast::hash(&bytes[..16]).to_le_bytes() == bytes[16..]).then(|| (number(0), number(8)))
}

fn write_sent(directory: &Path, segment: u64, offset: u64) -> io::Result<()> {
    let mut bytes = [segment.to_le_bytes(), offset.to_le_bytes()].concat();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    let temporary = directory.join("sent.tmp");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(temporary, directory.join("sent"))
}

#[cfg(test)]
mod tests;
