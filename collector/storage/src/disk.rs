//! The store's directory: a log of what was appended since the last checkpoint, and the checkpoint.
//!
//! ```text
//! LOCK                  held by the one process that uses the directory
//! checkpoint-00000007   everything up to log 7
//! log-00000007          batches since; log-00000008 … while the next checkpoint is being written
//! segment-00000003      blocks, small or large; the checkpoint says where each is
//! ```
//!
//! Promised: what [`crate::Storage::append`] has acknowledged survives the end of the process, and, once
//! [`crate::Storage::sync`] has returned, the loss of power. A log is read up to its first record that is not whole.
//! A log holds differences against what it said before, so nothing after a damaged record is ever used. A log needs
//! no other file to be read, and reading again what a checkpoint has already changes nothing: that is why samples can
//! be appended while a checkpoint is written.
//!
//! Blocks go to segments between checkpoints ([`crate::Storage::spill`]) and leave memory when they are synced; until a
//! checkpoint names them, the log has their samples. Segments have their sync before the checkpoint that names their blocks
//! gets its name, and the log and what the old checkpoint alone needed are removed after that: whenever the process ends, one
//! checkpoint is whole and has what it names, and the log has the rest.

pub(crate) mod checkpoint;
pub(crate) mod frame;
pub(crate) mod log;
pub(crate) mod record;
mod recovery;
pub(crate) mod restore;
pub(crate) mod segment;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use recovery::{recover, replay_all};
pub(crate) use restore::labels_in;

/// Written at the head of every file; raised when an older reader could not understand what follows.
pub(crate) const FORMAT_VERSION: u16 = 6;
/// The oldest that is still read: without segments.
pub(crate) const FORMAT_VERSION_OLDEST: u16 = 4;

/// Why a directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data directory {} is in use by another process; stop it or use another directory", .0.display())]
    Locked(PathBuf),
    #[error(
        "{} has format version {found}, this program reads versions {FORMAT_VERSION_OLDEST} to {FORMAT_VERSION}; use the \
         program that wrote it or another directory",
        .file.display()
    )]
    Version { file: PathBuf, found: u16 },
    #[error("{} is damaged ({what}); move the data directory away to start with an empty one", .file.display())]
    Damaged { file: PathBuf, what: &'static str },
    #[error("failed to {action} {}", .path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What opening a directory found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    pub series: usize,
    /// Records read from logs, each up to a batch.
    pub log_records: usize,
    /// Bytes at the end of the log that did not make a whole record and were cut off.
    pub cut_bytes: u64,
    /// Logs behind a damaged one, renamed to `*.unreadable` and not used.
    pub logs_set_aside: usize,
    /// Segments that are gone, or damaged at their head and renamed to `*.unreadable`.
    pub segments_set_aside: usize,
    /// Samples that should be in segments and are not.
    pub samples_lost: u64,
}

/// A checkpoint that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub series: usize,
    /// Of the checkpoint itself, without segments.
    pub bytes: u64,
    /// Blocks that it put into segments.
    pub blocks_moved: usize,
}

/// Adds what was attempted, and on what.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { action, path, source }
}

/// The directory, locked for this process as long as the value lives.
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("segment-{number:08}"))
}

/// What writes checkpoints.
pub(crate) struct Disk {
    pub(crate) directory: Directory,
    pub(crate) segments: segment::SegmentWriter,
}

impl Directory {
    pub(crate) fn lock(path: &Path) -> Result<Self, OpenError> {
        fs::create_dir_all(path).map_err(io_error("create data directory", path))?;
        let lock_path = path.join("LOCK");
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = open.map_err(io_error("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Directory { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &lock_path)(source)),
        }
    }

    pub(crate) fn log_path(&self, number: u64) -> PathBuf {
        self.path.join(format!("log-{number:08}"))
    }

    pub(crate) fn segment_path(&self, number: u64) -> PathBuf {
        segment_path(&self.path, number)
    }

    pub(crate) fn checkpoint_path(&self, number: u64) -> PathBuf {
        self.path.join(format!("checkpoint-{number:08}"))
    }

    /// The numbers of the files with this prefix, ascending.
    pub(crate) fn numbers(&self, prefix: &str) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(prefix));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A number that no segment has or had, those set aside included.
    pub(crate) fn next_segment(&self) -> io::Result<u64> {
        let mut next = 0;
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("segment-"));
            let digits = number.and_then(|number| number.split('.').next());
            next = next.max(digits.and_then(|digits| digits.parse::<u64>().ok()).map_or(0, |n| n.saturating_add(1)));
        }
        Ok(next)
    }

    /// Removes checkpoints whose writing was cut short.
    pub(crate) fn remove_unfinished(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "unfinished") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Of the newest checkpoint; 0 where there is none.
    pub(crate) fn checkpoint_len(&self) -> u64 {
        let newest = self.numbers("checkpoint-").ok().and_then(|numbers| numbers.last().copied());
        let meta = newest.and_then(|number| fs::metadata(self.checkpoint_path(number)).ok());
        meta.map_or(0, |meta| meta.len())
    }

    /// Makes created, renamed and removed files outlast a loss of power.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Removes what checkpoint `number` has made superfluous; what cannot be removed now is removed next time.
    pub(crate) fn remove_before(&self, number: u64) -> io::Result<()> {
        for old in self.numbers("checkpoint-")?.into_iter().filter(|n| *n < number) {
            fs::remove_file(self.checkpoint_path(old))?;
        }
        for old in self.numbers("log-")?.into_iter().filter(|n| *n < number) {
            fs::remove_file(self.log_path(old))?;
        }
        Ok(())
    }
}
