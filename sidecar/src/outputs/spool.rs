//! Batches on disk: what waits for a destination and does not fit the memory, and what a restart must not lose.
//!
//! One directory per destination. Sealed batches lie in numbered segments of frames, each with its length and CRC-32; a
//! frame that is delivered is noted in a file beside its segment, and a segment without undelivered frames is removed, or
//! written over from its beginning where it is the last: a file that comes and goes with every batch costs the kernel more
//! than what is written to it.
//! The batch that is still open has a journal, so that a killed process loses what it had not read, not what it had
//! collected. Nothing is synced to the medium: a page that was written survives the process, and a Fargate task's disk
//! does not survive the machine.

mod frames;
mod journal;
mod sending;
mod share;

use std::collections::{HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use telemetry::Timestamp;
use telemetry::log_record::Level;

pub use self::frames::FrameAt;
use self::frames::{
    FRAME_HEAD, delivered_offsets, delivered_path, numbers, read_frame, read_frames, remove, segment_path,
};
pub use self::journal::Entry;
use self::journal::Journal;
use self::sending::Sending;
pub use self::share::Share;

/// A segment is closed when it has grown to this.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Names the destination to a later run.
const KEY: &str = "destination.json";

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

/// A batch that an earlier run did not see delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftFrame {
    pub at: FrameAt,
    pub head: FrameHead,
    /// It was being sent when the run ended: the destination may have it.
    pub in_doubt: bool,
}

/// What an earlier run left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    pub frames: Vec<LeftFrame>,
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
    journal: Journal,
    sending: Sending,
}

struct Segment {
    number: u64,
    file: File,
    bytes: u64,
    /// Of the file: more than that where it is written over.
    extent: u64,
    undelivered: u32,
    delivered: Option<File>,
}

impl Segment {
    /// Nothing in it is read again: a frame of no length stands at its beginning, until the next one is written there.
    fn begin_again(&mut self, directory: &Path) -> io::Result<()> {
        self.file.write_all_at(&[0; FRAME_HEAD], 0)?;
        if self.delivered.take().is_some() {
            std::fs::remove_file(delivered_path(directory, self.number))?;
        }
        Ok(())
    }
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
        let in_doubt = sending::left(directory);
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
            segments.push_back(Segment {
                number,
                file,
                bytes,
                extent: bytes,
                undelivered: frames.len() as u32,
                delivered: None,
            });
            left.frames.extend(frames.into_iter().map(|(at, _, head)| {
                let in_doubt = in_doubt.contains(&(at.segment, at.offset));
                LeftFrame { at, head, in_doubt }
            }));
        }
        let mut sequence = sequences.iter().max().map_or(1, |last| last + 1);
        if let Some((of, entries)) = journal::left(directory) {
            // A batch that was sealed before its journal was emptied is on disk already.
            if !sequences.contains(&of) {
                left.open = entries;
            }
            sequence = sequence.max(of + 1);
        }
        let mut spool = Spool {
            directory: directory.to_owned(),
            share,
            segments,
            writable: false,
            sequence,
            journal: Journal::open(directory, sequence, &left.open)?,
            sending: Sending::open(directory)?,
        };
        // What was in doubt stays so until this run has settled it.
        left.frames.iter().filter(|frame| frame.in_doubt).for_each(|frame| spool.sending.begin(frame.at));
        Ok((spool, left))
    }

    /// Notes a record of the open batch; it is on disk after the next `commit`.
    pub fn note(&mut self, at: Timestamp, level: Level, units: u32, text: &[u8]) {
        self.journal.note(at, level, units, text);
    }

    /// Writes what was noted.
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn commit(&mut self) -> io::Result<()> {
        self.journal.commit()
    }

    /// Writes the open batch as a frame and empties the journal.
    ///
    /// # Errors
    /// The disk is full or gone; the batch is in memory alone then.
    pub fn append(&mut self, head: &FrameHead, body: &[u8]) -> io::Result<FrameAt> {
        self.journal.forget();
        let written = self.write_frame(head, body);
        self.sequence += 1;
        self.journal.begin(self.sequence)?;
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
        let end = at.offset + FRAME_HEAD as u64 + u64::from(length);
        // Behind it may lie what was there before.
        let behind = if end < segment.extent { segment.file.write_all_at(&[0; FRAME_HEAD], end) } else { Ok(()) };
        let written = behind
            .and_then(|()| segment.file.write_all_at(&frame, at.offset))
            .and_then(|()| segment.file.write_all_at(body, at.offset + frame.len() as u64));
        if let Err(error) = written {
            // Half a frame: the next one goes to a new segment.
            self.writable = false;
            return Err(error);
        }
        self.share.add(end - segment.bytes);
        (segment.bytes, segment.undelivered) = (end, segment.undelivered + 1);
        segment.extent = segment.extent.max(end + FRAME_HEAD as u64);
        Ok(at)
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let number = self.segments.back().map_or(0, |s| s.number).max(self.sequence) + 1;
        let path = segment_path(&self.directory, number);
        let file = OpenOptions::new().create(true).read(true).write(true).truncate(true).open(path)?;
        self.segments.push_back(Segment { number, file, bytes: 0, extent: 0, undelivered: 0, delivered: None });
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

    /// The batch is on its way: if this process does not live to see the answer, nobody knows whether it arrived.
    pub fn sending(&mut self, at: FrameAt) {
        self.sending.begin(at);
    }

    /// The batch is delivered or given up.
    pub fn done(&mut self, at: FrameAt) {
        self.note_done(at);
        self.sending.end(at);
    }

    fn note_done(&mut self, at: FrameAt) {
        let Some(index) = self.segments.iter().position(|s| s.number == at.segment) else { return };
        let last = index + 1 == self.segments.len();
        let segment = &mut self.segments[index];
        segment.undelivered = segment.undelivered.saturating_sub(1);
        if segment.undelivered == 0 {
            if last && self.writable && segment.begin_again(&self.directory).is_ok() {
                self.share.give_back(std::mem::take(&mut segment.bytes));
                return;
            }
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

    pub fn share(&self) -> &Share {
        &self.share
    }

    /// Nothing is left: a directory that nobody needs any more goes.
    pub fn close(self) {
        if self.segments.iter().all(|segment| segment.undelivered == 0) && self.journal.is_empty() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
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

#[cfg(test)]
mod tests;
