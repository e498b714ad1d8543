//! Segments: files of sealed blocks, written once and read where they are needed.
//!
//! ```text
//! header        as of every file
//! block         checksum (4 bytes) of times and values, then the compressed values
//! block …
//! ```
//!
//! In: sealed blocks. Out: their bytes, by place: a checkpoint says where a block is, how long, and of which times. A
//! checkpoint names a block here only when the segment is synced, so a start has no use for what lies behind the last
//! block that it names: the log has those samples.
//! Promised: a block that cannot be read, or has not its checksum, is counted and left out; nothing panics.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::frame::{HEADER_LEN, Header};
use super::{Directory, OpenError, io_error};
use crate::block::TimeColumn;

pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"picketsg";
/// A segment is closed beyond this length. Small enough to go soon after its last block has expired.
const SEGMENT_LEN_MAX: u32 = 64 << 20;
pub(crate) const CHECKSUM_LEN: usize = 4;
/// Read at a time: blocks of neighbouring series lie side by side.
const CHUNK_LEN: usize = 16 << 10;
/// Chunks that a reader keeps: a series' blocks of some hours lie in so many places.
const CHUNKS_MAX: usize = 16;
/// Where the store has a limit, segments are no longer than this part of it, for they go as a whole …
const SEGMENT_SHARE: u64 = 16;
/// … and no shorter than this.
const SEGMENT_LEN_MIN: u64 = if cfg!(test) { 1 << 10 } else { 1 << 20 };
/// Blocks collected before they are written.
const BUFFER_LEN: usize = 256 << 10;

/// Where a stored block is; small, for there are millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which of the [`Segments`].
    pub(crate) slot: u16,
    /// Without the checksum.
    pub(crate) len: u16,
    pub(crate) offset: u32,
}

impl Place {
    /// Where the next block may begin.
    pub(crate) fn end(self) -> u64 {
        u64::from(self.offset) + (CHECKSUM_LEN as u64) + u64::from(self.len)
    }
}

/// An open segment; the file outlives its name as long as a reader needs it.
pub(crate) struct Segment {
    pub(crate) number: u64,
    file: File,
}

/// The segments in use, by slot. Never changed: a checkpoint puts another set in its place.
#[derive(Clone, Default)]
pub(crate) struct Segments {
    slots: Vec<Option<Arc<Segment>>>,
    unreadable: Arc<AtomicU64>,
}

impl Segments {
    pub(crate) fn get(&self, slot: u16) -> Option<&Arc<Segment>> {
        self.slots.get(usize::from(slot))?.as_ref()
    }

    /// The number in its file's name.
    pub(crate) fn number(&self, slot: u16) -> u64 {
        self.get(slot).map_or(u64::MAX, |segment| segment.number)
    }

    /// How many there are, and their bytes.
    pub(crate) fn usage(&self) -> (usize, u64) {
        let all = self.slots.iter().flatten();
        let len = |segment: &Arc<Segment>| segment.file.metadata().map_or(0, |meta| meta.len());
        (all.clone().count(), all.map(len).sum())
    }

    fn count_unreadable(&self) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    /// Blocks that were wanted and could not be read.
    pub(crate) fn unreadable_total(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// None if there are as many as can be named.
    fn add(&mut self, segment: Segment) -> Option<u16> {
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        let slot = u16::try_from(free).ok()?;
        if free == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[free] = Some(Arc::new(segment));
        Some(slot)
    }

    /// Forgets the segments that are in no use, and removes their files.
    pub(crate) fn remove_unused(&mut self, directory: &Directory, is_used: impl Fn(u16) -> bool) -> io::Result<()> {
        for (slot, segment) in self.slots.iter_mut().enumerate() {
            if segment.is_some() && !is_used(slot as u16) {
                *segment = None;
            }
        }
        let kept: Vec<u64> = self.slots.iter().flatten().map(|segment| segment.number).collect();
        for number in directory.numbers("segment-")?.into_iter().filter(|number| !kept.contains(number)) {
            fs::remove_file(directory.segment_path(number))?;
        }
        Ok(())
    }

    fn read_at(&self, slot: u16, offset: u64, bytes: &mut [u8]) -> Option<usize> {
        let file = &self.get(slot)?.file;
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(filled)
    }
}

/// Reads stored blocks, and keeps what lies around them for the next.
#[derive(Default)]
pub(crate) struct BlockReader {
    segments: Arc<Segments>,
    /// The one used last comes last.
    chunks: Vec<Chunk>,
}

struct Chunk {
    slot: u16,
    offset: u64,
    bytes: Vec<u8>,
}

impl Chunk {
    fn block(&self, place: Place) -> Option<&[u8]> {
        let from = usize::try_from(u64::from(place.offset).checked_sub(self.offset)?).ok()?;
        self.bytes.get(from..from + CHECKSUM_LEN + usize::from(place.len)).filter(|_| self.slot == place.slot)
    }
}

impl BlockReader {
    pub(crate) fn new(segments: &Arc<Segments>) -> Self {
        BlockReader { segments: segments.clone(), chunks: Vec::new() }
    }

    /// The segments may have changed since the reader was made: slots mean what they mean in these.
    pub(crate) fn renew(&mut self, segments: &Arc<Segments>) {
        if !Arc::ptr_eq(&self.segments, segments) {
            *self = BlockReader::new(segments);
        }
    }

    /// The compressed values at a place; None, and counted, if they cannot be read or are not what was written.
    pub(crate) fn read(&mut self, place: Place, times: &TimeColumn) -> Option<&[u8]> {
        let at = match self.chunks.iter().position(|chunk| chunk.block(place).is_some()) {
            Some(at) => at,
            None => self.load(place),
        };
        let chunk = self.chunks.remove(at);
        self.chunks.push(chunk);
        let found = self.chunks.last().and_then(|chunk| whole(chunk.block(place)?, times));
        if found.is_none() {
            self.segments.count_unreadable();
        }
        found
    }

    /// What was read is not what a block can be.
    pub(crate) fn count_unreadable(&self) {
        self.segments.count_unreadable();
    }

    /// Reads a chunk that begins with the block, as far as the file goes.
    fn load(&mut self, place: Place) -> usize {
        let mut chunk = match self.chunks.len() {
            CHUNKS_MAX => self.chunks.remove(0),
            _ => Chunk { slot: 0, offset: 0, bytes: Vec::new() },
        };
        (chunk.slot, chunk.offset) = (place.slot, u64::from(place.offset));
        chunk.bytes.resize(CHUNK_LEN.max(CHECKSUM_LEN + usize::from(place.len)), 0);
        let filled = self.segments.read_at(place.slot, chunk.offset, &mut chunk.bytes).unwrap_or(0);
        chunk.bytes.truncate(filled);
        self.chunks.push(chunk);
        self.chunks.len() - 1
    }
}

/// A block's values, if they have their checksum.
fn whole<'b>(block: &'b [u8], times: &TimeColumn) -> Option<&'b [u8]> {
    let (sum, values) = block.split_first_chunk::<CHECKSUM_LEN>()?;
    (u32::from_le_bytes(*sum) == checksum(times, values)).then_some(values)
}

/// Of times, length and content: neither a page of zeros nor another block has it.
fn checksum(times: &TimeColumn, values: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(values.len() as u32);
    hasher.update(&times.first.to_le_bytes());
    hasher.update(&times.last.to_le_bytes());
    hasher.update(values);
    hasher.finalize()
}

/// What lies in a segment. Small blocks are joined to large ones within the hour, and their segments go then; among large
/// ones they would stay as long as those do.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Small,
    Full,
}

/// Appends blocks to the newest segment of their kind; starts others as they fill up.
pub(crate) struct SegmentWriter {
    /// The segments, those being written included.
    segments: Segments,
    /// By kind.
    open: [Option<Open>; 2],
    /// Written since the last [`SegmentWriter::sync`]: slot, path, and the length before.
    touched: Vec<(u16, PathBuf, u64)>,
    next_number: u64,
    len_max: u32,
}

impl Default for SegmentWriter {
    fn default() -> Self {
        SegmentWriter {
            segments: Segments::default(),
            open: [None, None],
            touched: Vec::new(),
            next_number: 0,
            len_max: SEGMENT_LEN_MAX,
        }
    }
}

struct Open {
    slot: u16,
    path: PathBuf,
    /// With what is in the buffer.
    len: u32,
    buffer: Vec<u8>,
}

impl SegmentWriter {
    /// Goes on after the segments that a directory has.
    pub(crate) fn new(next_number: u64) -> Self {
        SegmentWriter { next_number, ..SegmentWriter::default() }
    }

    /// All files together are to have no more bytes than these.
    pub(crate) fn fit_to(&mut self, size_max: u64) {
        let len_max = (size_max / SEGMENT_SHARE).clamp(SEGMENT_LEN_MIN, u64::from(SEGMENT_LEN_MAX));
        self.len_max = len_max as u32;
    }

    /// Begins to write what [`SegmentWriter::sync`] or [`SegmentWriter::abandon`] ends.
    pub(crate) fn begin(&mut self, segments: &Segments) {
        self.segments = segments.clone();
        self.touched.clear();
        for open in &mut self.open {
            // It went with the last of its blocks.
            *open = open.take().filter(|open| segments.get(open.slot).is_some());
            self.touched.extend(open.iter().map(|open| (open.slot, open.path.clone(), u64::from(open.len))));
        }
    }

    /// Adds a block; None where it cannot be named, and has to stay where it is.
    pub(crate) fn push(
        &mut self,
        directory: &Directory,
        kind: Kind,
        times: &TimeColumn,
        values: &[u8],
    ) -> io::Result<Option<Place>> {
        let Ok(len) = u16::try_from(values.len()) else { return Ok(None) };
        let first = self.push_all(directory, kind, times, std::iter::once(values))?;
        Ok(first.map(|(slot, offset)| Place { slot, len, offset }))
    }

    /// Adds blocks behind each other, each short enough for a [`Place`]; where the first of them is.
    pub(crate) fn push_all<'v>(
        &mut self,
        directory: &Directory,
        kind: Kind,
        times: &TimeColumn,
        blocks: impl Iterator<Item = &'v [u8]>,
    ) -> io::Result<Option<(u16, u32)>> {
        if self.open[kind as usize].as_ref().is_some_and(|open| open.len >= self.len_max) {
            self.flush()?;
            self.open[kind as usize] = None;
        }
        if self.open[kind as usize].is_none() {
            self.open[kind as usize] = self.start(directory)?;
        }
        let Some(Open { slot, len, .. }) = &self.open[kind as usize] else { return Ok(None) };
        let first = (*slot, *len);
        for values in blocks {
            let Some(open) = &mut self.open[kind as usize] else { break };
            open.buffer.extend_from_slice(&checksum(times, values).to_le_bytes());
            open.buffer.extend_from_slice(values);
            open.len += (CHECKSUM_LEN + values.len()) as u32;
            if open.buffer.len() >= BUFFER_LEN {
                self.flush()?;
            }
        }
        Ok(Some(first))
    }

    /// None where there are as many segments as can be named.
    fn start(&mut self, directory: &Directory) -> io::Result<Option<Open>> {
        let path = directory.segment_path(self.next_number);
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
        let Some(slot) = self.segments.add(Segment { number: self.next_number, file }) else {
            fs::remove_file(&path)?;
            return Ok(None);
        };
        self.next_number += 1;
        self.touched.push((slot, path.clone(), 0));
        let buffer = Header::new(SEGMENT_MAGIC, 0).to_bytes().to_vec();
        Ok(Some(Open { slot, path, len: HEADER_LEN as u32, buffer }))
    }

    fn flush(&mut self) -> io::Result<()> {
        for open in self.open.iter_mut().flatten() {
            if let Some(segment) = self.segments.get(open.slot) {
                segment.file.write_all_at(&open.buffer, u64::from(open.len) - open.buffer.len() as u64)?;
            }
            open.buffer.clear();
        }
        Ok(())
    }

    /// Makes what was added outlast a loss of power; the segments with it.
    pub(crate) fn sync(&mut self, directory: &Directory) -> io::Result<Segments> {
        self.flush()?;
        for (slot, ..) in &self.touched {
            if let Some(segment) = self.segments.get(*slot) {
                segment.file.sync_data()?;
            }
        }
        if self.touched.iter().any(|(.., before)| *before == 0) {
            directory.sync()?;
        }
        Ok(std::mem::take(&mut self.segments))
    }

    /// Something failed: what was added goes, as well as that can be done.
    pub(crate) fn abandon(&mut self) {
        for (slot, path, before) in self.touched.drain(..) {
            match before {
                0 => drop(fs::remove_file(path)),
                before => drop(self.segments.get(slot).map(|segment| segment.file.set_len(before))),
            }
        }
        (self.open, self.segments) = ([None, None], Segments::default());
    }
}

/// What a checkpoint names in segments, found while it is read.
#[derive(Default)]
pub(crate) struct Finder {
    pub(crate) segments: Segments,
    /// By number: the slot and the file's length; None for a segment that cannot be used.
    known: HashMap<u64, Option<(u16, u64)>>,
    /// Segments that are gone, or not used and renamed to `*.unreadable`.
    pub(crate) set_aside: usize,
    /// In blocks that are not where they should be.
    pub(crate) samples_lost: u64,
}

impl Finder {
    /// The place of a block, if its segment has it.
    pub(crate) fn place(
        &mut self,
        directory: &Path,
        number: u64,
        offset: u32,
        len: u16,
    ) -> Result<Option<Place>, OpenError> {
        let known = match self.known.get(&number) {
            Some(known) => *known,
            None => {
                let found = self.open(&super::segment_path(directory, number), number)?;
                self.known.insert(number, found);
                found
            }
        };
        let place = |(slot, _): (u16, u64)| Place { slot, len, offset };
        Ok(known.filter(|found| place(*found).end() <= found.1).map(place))
    }

    /// A number that no segment of the checkpoint has.
    pub(crate) fn next_number(&self) -> u64 {
        self.known.keys().max().map_or(0, |number| number.saturating_add(1))
    }

    /// A segment that is not there or is none is not used; its file is set aside under another name.
    fn open(&mut self, path: &Path, number: u64) -> Result<Option<(u16, u64)>, OpenError> {
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.set_aside += 1;
                return Ok(None);
            }
            Err(error) => return Err(io_error("open", path)(error)),
        };
        let file_len = file.metadata().map_err(io_error("read", path))?.len();
        let mut bytes = [0; HEADER_LEN];
        let read = file.read_exact(&mut bytes);
        let is_whole = read.is_ok() && Header::read(path, &bytes, SEGMENT_MAGIC)?.is_some();
        if !is_whole {
            fs::rename(path, path.with_extension("unreadable")).map_err(io_error("set aside", path))?;
            self.set_aside += 1;
            return Ok(None);
        }
        Ok(self.segments.add(Segment { number, file }).map(|slot| (slot, file_len)))
    }
}
