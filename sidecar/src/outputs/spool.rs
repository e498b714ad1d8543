//! Batches on disk: what waits for a destination and does not fit the memory, and what a restart must not lose.
//!
//! One directory per destination. Sealed batches lie in numbered segments of frames, each with its length and CRC-32; a
//! frame that is delivered is noted in a file beside its segment, and a segment without undelivered frames is removed.
//! The batch that is still open has a journal, so that a killed process loses what it had not read, not what it had
//! collected. Nothing is synced to the medium: a page that was written survives the process, and a Fargate task's disk
//! does not survive the machine.

use std::collections::{HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use telemetry::Timestamp;
use telemetry::log_record::Level;

/// A segment is closed when it has grown to this.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Of one frame or journal entry: more than any batch comes to.
const FRAME_BYTES_MAX: u32 = 16 * 1024 * 1024;
const FRAME_HEAD: usize = 8;
const JOURNAL: &str = "open.log";
/// Names the destination to a later run.
const KEY: &str = "destination.json";

/// What all destinations together may keep on disk.
#[derive(Clone, Debug)]
pub struct Share(Arc<ShareState>);

#[derive(Debug)]
struct ShareState {
    used: AtomicU64,
    max: u64,
}

impl Share {
    pub fn new(max: u64) -> Self {
        Share(Arc::new(ShareState { used: AtomicU64::new(0), max }))
    }

    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    pub fn max(&self) -> u64 {
        self.0.max
    }

    pub fn is_exceeded(&self) -> bool {
        self.used() > self.0.max
    }

    fn add(&self, bytes: u64) {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: u64) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Where a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameAt {
    segment: u64,
    offset: u64,
    length: u32,
}

/// What is known of a batch beside its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameHead {
    pub events: u32,
    /// Lines that were joined into each event; empty where it is one everywhere.
    pub units: Vec<u32>,
}

impl FrameHead {
    pub fn lines(&self) -> u64 {
        match &self.units[..] {
            [] => u64::from(self.events),
            units => units.iter().map(|u| u64::from(*u)).sum(),
        }
    }
}

/// A record of the batch that was open when the last run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: Timestamp,
    pub level: Level,
    pub units: u32,
    pub text: Vec<u8>,
}

/// What an earlier run left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    pub frames: Vec<(FrameAt, FrameHead)>,
    pub open: Vec<Entry>,
}

pub struct Spool {
    directory: PathBuf,
    share: Share,
    segments: VecDeque<Segment>,
    /// The last segment takes further frames.
    writable: bool,
    /// Of the batch that is open; its frame will have it.
    sequence: u64,
    journal: File,
    journal_length: u64,
    pending: Vec<u8>,
}

struct Segment {
    number: u64,
    file: File,
    bytes: u64,
    undelivered: u32,
    delivered: Option<File>,
}

impl Spool {
    /// Opens the directory, made if need be, and finds what is left in it. `key` names the destination.
    ///
    /// # Errors
    /// The directory cannot be made or written.
    pub fn open(directory: &Path, key: &str, share: Share) -> io::Result<(Spool, Left)> {
        std::fs::create_dir_all(directory)?;
        std::fs::write(directory.join(KEY), key)?;
        let mut left = Left::default();
        let (mut segments, mut sequences) = (VecDeque::new(), HashSet::new());
        for number in numbers(directory)? {
            let file = File::open(segment_path(directory, number))?;
            let delivered = delivered_offsets(directory, number);
            let (frames, bytes) = read_frames(&file, number)?;
            sequences.extend(frames.iter().map(|(_, sequence, _)| *sequence));
            let frames: Vec<_> = frames.into_iter().filter(|(at, _, _)| !delivered.contains(&at.offset)).collect();
            if frames.is_empty() {
                remove(directory, number);
                continue;
            }
            share.add(bytes);
            segments.push_back(Segment { number, file, bytes, undelivered: frames.len() as u32, delivered: None });
            left.frames.extend(frames.into_iter().map(|(at, _, head)| (at, head)));
        }
        let path = directory.join(JOURNAL);
        let mut sequence = sequences.iter().max().map_or(1, |last| last + 1);
        if let Ok(bytes) = std::fs::read(&path)
            && let Some((of, entries)) = bytes.split_first_chunk::<8>()
        {
            let of = u64::from_le_bytes(*of);
            // A batch that was sealed before its journal was emptied is on disk already.
            if !sequences.contains(&of) {
                left.open = read_journal(entries);
            }
            sequence = sequence.max(of + 1);
        }
        let journal = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
        let mut spool = Spool {
            directory: directory.to_owned(),
            share,
            segments,
            writable: false,
            sequence,
            journal,
            journal_length: 0,
            pending: Vec::new(),
        };
        // What was open is handed to the new run, which writes it to the journal again before anything else.
        let again: Vec<Entry> = std::mem::take(&mut left.open);
        again.iter().for_each(|e| spool.note(e.at, e.level, e.units, &e.text));
        spool.empty_journal()?;
        spool.commit()?;
        left.open = again;
        Ok((spool, left))
    }

    /// Notes a record of the open batch; it is on disk after the next `commit`.
    pub fn note(&mut self, at: Timestamp, level: Level, units: u32, text: &[u8]) {
        let length = (13 + text.len()) as u32;
        let mut hasher = crc32fast::Hasher::new();
        let mut head = [0u8; 13];
        head[..8].copy_from_slice(&at.as_millis().to_le_bytes());
        head[8..12].copy_from_slice(&units.to_le_bytes());
        head[12] = level as u8;
        hasher.update(&head);
        hasher.update(text);
        self.pending.extend_from_slice(&length.to_le_bytes());
        self.pending.extend_from_slice(&hasher.finalize().to_le_bytes());
        self.pending.extend_from_slice(&head);
        self.pending.extend_from_slice(text);
    }

    /// Writes what was noted.
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn commit(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let written = self.journal.write_all_at(&self.pending, self.journal_length);
        self.journal_length += self.pending.len() as u64;
        self.pending.clear();
        self.pending.shrink_to(256 * 1024);
        written
    }

    /// Writes the open batch as a frame and empties the journal.
    ///
    /// # Errors
    /// The disk is full or gone; the batch is in memory alone then.
    pub fn append(&mut self, head: &FrameHead, body: &[u8]) -> io::Result<FrameAt> {
        self.pending.clear();
        let written = self.write_frame(head, body);
        self.sequence += 1;
        self.empty_journal()?;
        written
    }

    fn write_frame(&mut self, head: &FrameHead, body: &[u8]) -> io::Result<FrameAt> {
        let full = self.segments.back().is_none_or(|s| s.bytes >= SEGMENT_BYTES);
        if full || !self.writable {
            self.begin_segment()?;
        }
        let segment = self.segments.back_mut().expect("one was just begun");
        let mut frame = Vec::with_capacity(FRAME_HEAD + 16 + 4 * head.units.len());
        frame.extend_from_slice(&[0; FRAME_HEAD]);
        frame.extend_from_slice(&self.sequence.to_le_bytes());
        frame.extend_from_slice(&head.events.to_le_bytes());
        frame.extend_from_slice(&(head.units.len() as u32).to_le_bytes());
        head.units.iter().for_each(|units| frame.extend_from_slice(&units.to_le_bytes()));
        let length = (frame.len() - FRAME_HEAD + body.len()) as u32;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&frame[FRAME_HEAD..]);
        hasher.update(body);
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame[4..8].copy_from_slice(&hasher.finalize().to_le_bytes());
        let at = FrameAt { segment: segment.number, offset: segment.bytes, length };
        let written = segment
            .file
            .write_all_at(&frame, at.offset)
            .and_then(|()| segment.file.write_all_at(body, at.offset + frame.len() as u64));
        if let Err(error) = written {
            // Half a frame: the next one goes to a new segment.
            self.writable = false;
            return Err(error);
        }
        let bytes = u64::from(length) + FRAME_HEAD as u64;
        (segment.bytes, segment.undelivered) = (segment.bytes + bytes, segment.undelivered + 1);
        self.share.add(bytes);
        Ok(at)
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let number = self.segments.back().map_or(0, |s| s.number).max(self.sequence) + 1;
        let path = segment_path(&self.directory, number);
        let file = OpenOptions::new().create(true).read(true).write(true).truncate(true).open(path)?;
        self.segments.push_back(Segment { number, file, bytes: 0, undelivered: 0, delivered: None });
        self.writable = true;
        Ok(())
    }

    /// The body of a batch.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub fn read(&self, at: FrameAt) -> io::Result<Vec<u8>> {
        let segment = self.segments.iter().find(|s| s.number == at.segment);
        let segment = segment.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the segment is gone"))?;
        let (_, body) = read_frame(&segment.file, at.offset)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the frame is damaged"))?;
        Ok(body)
    }

    /// The batch is delivered or given up.
    pub fn done(&mut self, at: FrameAt) {
        let Some(index) = self.segments.iter().position(|s| s.number == at.segment) else { return };
        let last = index + 1 == self.segments.len();
        let segment = &mut self.segments[index];
        segment.undelivered = segment.undelivered.saturating_sub(1);
        if segment.undelivered == 0 {
            if last {
                self.writable = false;
            }
            self.remove_segment(index);
            return;
        }
        if segment.delivered.is_none() {
            let path = delivered_path(&self.directory, segment.number);
            segment.delivered = OpenOptions::new().create(true).append(true).open(path).ok();
        }
        if let Some(file) = &mut segment.delivered {
            // Not written: it is delivered twice if the process is killed.
            let _ = file.write_all(&at.offset.to_le_bytes());
        }
    }

    /// Removes the oldest segment; its frames are lost, and whoever holds their places must count them.
    pub fn remove_oldest(&mut self) -> Option<u64> {
        let number = self.segments.front()?.number;
        if self.segments.len() == 1 {
            self.writable = false;
        }
        self.remove_segment(0);
        Some(number)
    }

    fn remove_segment(&mut self, index: usize) {
        if let Some(segment) = self.segments.remove(index) {
            self.share.give_back(segment.bytes);
            remove(&self.directory, segment.number);
        }
    }

    fn empty_journal(&mut self) -> io::Result<()> {
        self.journal.set_len(0)?;
        self.journal.write_all_at(&self.sequence.to_le_bytes(), 0)?;
        self.journal_length = 8;
        Ok(())
    }

    pub fn share(&self) -> &Share {
        &self.share
    }

    /// Nothing is left: a directory that nobody needs any more goes.
    pub fn close(self) {
        if self.segments.is_empty() && self.journal_length <= 8 {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

impl FrameAt {
    pub fn is_in(&self, segment: u64) -> bool {
        self.segment == segment
    }
}

/// The keys of destinations that have something left in `directory`, and where it lies.
pub fn left_in(directory: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((std::fs::read_to_string(path.join(KEY)).ok()?, path))
        })
        .collect();
    found.sort();
    found
}

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.segment"))
}

fn delivered_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.delivered"))
}

fn remove(directory: &Path, number: u64) {
    let _ = std::fs::remove_file(segment_path(directory, number));
    let _ = std::fs::remove_file(delivered_path(directory, number));
}

fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = std::fs::read_dir(directory)?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            u64::from_str_radix(name.strip_suffix(".segment")?, 16).ok()
        })
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn delivered_offsets(directory: &Path, number: u64) -> HashSet<u64> {
    let bytes = std::fs::read(delivered_path(directory, number)).unwrap_or_default();
    bytes.as_chunks::<8>().0.iter().map(|offset| u64::from_le_bytes(*offset)).collect()
}

type Frames = Vec<(FrameAt, u64, FrameHead)>;

/// The frames up to the first that is not whole, and how long they are together.
fn read_frames(file: &File, number: u64) -> io::Result<(Frames, u64)> {
    let (mut frames, mut offset) = (Vec::new(), 0);
    while let Some(((sequence, head), body)) = read_frame(file, offset)? {
        let length = (16 + 4 * head.units.len() + body.len()) as u32;
        frames.push((FrameAt { segment: number, offset, length }, sequence, head));
        offset += u64::from(length) + FRAME_HEAD as u64;
    }
    if offset < file.metadata()?.len() {
        tracing::warn!(segment = number, "the end of a segment on disk is damaged, as after a kill; it is left out");
    }
    Ok((frames, offset))
}

type Frame = ((u64, FrameHead), Vec<u8>);

/// None at the end, and where no whole frame is.
fn read_frame(file: &File, offset: u64) -> io::Result<Option<Frame>> {
    let mut head = [0u8; FRAME_HEAD];
    if !read_whole(file, &mut head, offset)? {
        return Ok(None);
    }
    let number = |at: usize, bytes: &[u8]| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let (length, crc) = (number(0, &head), number(4, &head));
    if !(16..=FRAME_BYTES_MAX).contains(&length) {
        return Ok(None);
    }
    let mut payload = vec![0; length as usize];
    if !read_whole(file, &mut payload, offset + FRAME_HEAD as u64)? || crc32fast::hash(&payload) != crc {
        return Ok(None);
    }
    let sequence = u64::from_le_bytes(payload[..8].try_into().expect("eight bytes"));
    let (events, count) = (number(8, &payload), number(12, &payload) as usize);
    let Some(units) = payload.get(16..16 + 4 * count) else { return Ok(None) };
    let units = units.as_chunks::<4>().0.iter().map(|u| u32::from_le_bytes(*u)).collect();
    let body = payload.split_off(16 + 4 * count);
    Ok(Some(((sequence, FrameHead { events, units }), body)))
}

fn read_whole(file: &File, into: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(into, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The entries up to the first that is not whole: the write that the kill cut off.
fn read_journal(mut bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    loop {
        let Some((head, rest)) = bytes.split_first_chunk::<8>() else { return entries };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let Some((payload, rest)) = rest.split_at_checked(length as usize) else { return entries };
        let Some((head, text)) = payload.split_first_chunk::<13>() else { return entries };
        if crc32fast::hash(payload) != crc {
            return entries;
        }
        let at = i64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
        let units = u32::from_le_bytes(head[8..12].try_into().expect("four bytes"));
        let level = Level::ALL.get(usize::from(head[12])).copied().unwrap_or(Level::Info);
        entries.push(Entry { at: Timestamp(at), level, units, text: text.to_vec() });
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> (Spool, Left) {
        Spool::open(directory, "key", Share::new(1 << 20)).expect("opens")
    }

    fn head(events: u32) -> FrameHead {
        FrameHead { events, units: vec![] }
    }

    fn bodies(spool: &Spool, left: &Left) -> Vec<(u32, Vec<u8>)> {
        left.frames.iter().map(|(at, head)| (head.events, spool.read(*at).expect("is there"))).collect()
    }

    #[test]
    fn undelivered_batches_and_the_open_one_survive_the_process() {
        let parent = tempfile::tempdir().expect("tempdir");
        let directory = parent.path().join("logs");
        let (mut spool, left) = open(&directory);
        assert_eq!(left, Left::default());
        let first = spool.append(&head(1), b"first").expect("written");
        spool.append(&FrameHead { events: 2, units: vec![3, 1] }, b"second").expect("written");
        spool.note(Timestamp(7), Level::Error, 2, b"open");
        spool.commit().expect("written");
        spool.note(Timestamp(8), Level::Info, 1, b"never committed");
        spool.done(first);
        drop(spool);

        let (spool, left) = open(&directory);
        assert_eq!(bodies(&spool, &left), [(2, b"second".to_vec())]);
        assert_eq!(left.frames[0].1.lines(), 4);
        let entry = Entry { at: Timestamp(7), level: Level::Error, units: 2, text: b"open".to_vec() };
        assert_eq!(left.open, std::slice::from_ref(&entry));
        drop(spool);
        let (spool, left) = open(&directory);
        assert_eq!((left.open, left.frames.len()), (vec![entry], 1), "and the one after it");
        assert_eq!(left_in(parent.path()), [("key".to_owned(), directory)]);
        drop(spool);
    }

    #[test]
    fn a_segment_goes_with_its_last_frame_and_the_share_is_given_back() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (mut spool, _) = open(directory.path());
        let places: Vec<FrameAt> = (0..3).map(|n| spool.append(&head(n), &[0; 100]).expect("written")).collect();
        assert_eq!(spool.share().used(), 3 * 124);
        places.iter().for_each(|at| spool.done(*at));
        assert_eq!((spool.share().used(), numbers(directory.path()).expect("readable").len()), (0, 0));
        spool.append(&head(9), b"after").expect("written");
        assert!(spool.remove_oldest().is_some());
        assert_eq!(spool.share().used(), 0);
        spool.close();
        assert!(!directory.path().exists());
    }

    #[test]
    fn whatever_a_kill_leaves_of_the_files_is_read_as_far_as_it_is_whole() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (mut spool, _) = open(directory.path());
        spool.append(&head(1), b"whole").expect("written");
        spool.append(&head(1), b"cut off").expect("written");
        spool.note(Timestamp(1), Level::Info, 1, b"a");
        spool.note(Timestamp(2), Level::Info, 1, b"b");
        spool.commit().expect("written");
        drop(spool);
        let segment = segment_path(directory.path(), numbers(directory.path()).expect("one")[0]);
        let (segment_bytes, journal_bytes) =
            (std::fs::read(&segment).expect("read"), std::fs::read(directory.path().join(JOURNAL)).expect("read"));
        for cut in 1..31 {
            std::fs::write(&segment, &segment_bytes[..segment_bytes.len() - cut]).expect("write");
            let cut = cut.min(journal_bytes.len() - 8);
            std::fs::write(directory.path().join(JOURNAL), &journal_bytes[..journal_bytes.len() - cut]).expect("write");
            let (spool, left) = open(directory.path());
            assert_eq!(bodies(&spool, &left), [(1, b"whole".to_vec())], "{cut} bytes are gone");
            assert!(left.open.len() < 2);
        }
    }

    #[test]
    fn a_journal_whose_batch_was_sealed_is_not_read_again() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (mut spool, _) = open(directory.path());
        spool.note(Timestamp(1), Level::Info, 1, b"a");
        spool.commit().expect("written");
        let journal = std::fs::read(directory.path().join(JOURNAL)).expect("read");
        spool.append(&head(1), b"a").expect("written");
        drop(spool);
        // Killed between the two.
        std::fs::write(directory.path().join(JOURNAL), journal).expect("write");
        let (_, left) = open(directory.path());
        assert_eq!((left.frames.len(), left.open.len()), (1, 0));
    }
}
