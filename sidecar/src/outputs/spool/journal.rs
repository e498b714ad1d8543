//! The journal of the batch that is open: what a killed process had collected and not sent.
//!
//! One file, written over from its beginning for every batch: a file that is emptied and grown again every second costs the
//! kernel more than the writing. What an earlier batch left behind is told by its checksum, which has the batch's number
//! in it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use telemetry::Timestamp;
use telemetry::log_record::Level;

const NAME: &str = "open.log";
const NEW: &str = "open.log.new";
/// What was noted and is not written is given back beyond this.
const KEPT_BYTES: usize = 256 * 1024;
/// More than a batch's entries come to; a file that grew beyond it was held up by something.
const KEPT_ON_DISK_BYTES: u64 = 4 * 1024 * 1024;

/// A record of the batch that was open when the last run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: Timestamp,
    pub level: Level,
    pub units: u32,
    pub text: Vec<u8>,
}

/// Begins with the number of its batch, whose frame will have the same.
pub(super) struct Journal {
    file: File,
    /// Has seen the batch's number.
    hasher: crc32fast::Hasher,
    length: u64,
    pending: Vec<u8>,
}

/// The number of the batch that was open, and what was in it.
pub(super) fn left(directory: &Path) -> Option<(u64, Vec<Entry>)> {
    let bytes = std::fs::read(directory.join(NAME)).ok()?;
    let (of, entries) = bytes.split_first_chunk::<8>()?;
    let of = u64::from_le_bytes(*of);
    Some((of, read(entries, of)))
}

impl Journal {
    /// Begins with what an earlier run left; its file is replaced when the new one has everything.
    pub(super) fn open(directory: &Path, sequence: u64, left: &[Entry]) -> io::Result<Journal> {
        let path = directory.join(NEW);
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(&path)?;
        let mut journal = Journal { file, hasher: hasher_of(sequence), length: 0, pending: Vec::new() };
        journal.begin(sequence)?;
        left.iter().for_each(|e| journal.note(e.at, e.level, e.units, &e.text));
        journal.commit()?;
        std::fs::rename(path, directory.join(NAME))?;
        Ok(journal)
    }

    /// Notes a record; it is on disk after the next `commit`.
    pub(super) fn note(&mut self, at: Timestamp, level: Level, units: u32, text: &[u8]) {
        let length = (13 + text.len()) as u32;
        let begun = self.pending.len();
        let mut head = [0u8; 21];
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[8..16].copy_from_slice(&at.as_millis().to_le_bytes());
        head[16..20].copy_from_slice(&units.to_le_bytes());
        head[20] = level as u8;
        self.pending.extend_from_slice(&head);
        self.pending.extend_from_slice(text);
        // In one piece: the checksum of many bytes costs little more than that of a few.
        let mut hasher = self.hasher.clone();
        hasher.update(&self.pending[begun + 8..]);
        self.pending[begun + 4..begun + 8].copy_from_slice(&hasher.finalize().to_le_bytes());
    }

    pub(super) fn commit(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all_at(&self.pending, self.length);
        self.length += self.pending.len() as u64;
        self.pending.clear();
        self.pending.shrink_to(KEPT_BYTES);
        written
    }

    /// What was noted and not written is not needed any more.
    pub(super) fn forget(&mut self) {
        self.pending.clear();
    }

    /// Begins again, for the batch of this number.
    pub(super) fn begin(&mut self, sequence: u64) -> io::Result<()> {
        self.file.write_all_at(&sequence.to_le_bytes(), 0)?;
        if self.length > KEPT_ON_DISK_BYTES {
            self.file.set_len(8)?;
        }
        (self.hasher, self.length) = (hasher_of(sequence), 8);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length <= 8
    }
}

fn hasher_of(sequence: u64) -> crc32fast::Hasher {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sequence.to_le_bytes());
    hasher
}

/// The entries up to the first that is not whole, or is an earlier batch's: the write that the kill cut off.
fn read(mut bytes: &[u8], sequence: u64) -> Vec<Entry> {
    let mut entries = Vec::new();
    loop {
        let Some((head, rest)) = bytes.split_first_chunk::<8>() else { return entries };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let Some((payload, rest)) = rest.split_at_checked(length as usize) else { return entries };
        let Some((head, text)) = payload.split_first_chunk::<13>() else { return entries };
        let mut hasher = hasher_of(sequence);
        hasher.update(payload);
        if hasher.finalize() != crc {
            return entries;
        }
        let at = i64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
        let units = u32::from_le_bytes(head[8..12].try_into().expect("four bytes"));
        let level = Level::ALL.get(usize::from(head[12])).copied().unwrap_or(Level::Info);
        entries.push(Entry { at: Timestamp(at), level, units, text: text.to_vec() });
        bytes = rest;
    }
}
