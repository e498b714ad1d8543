//! One open log file: complete lines out of it, from where the last reading ended.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::offsets::{Fingerprint, Place};

/// Device and inode; unique among files that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct FileId(pub(super) u64, pub(super) u64);

impl FileId {
    pub(super) fn of(path: &Path) -> Option<FileId> {
        std::fs::metadata(path).ok().map(|m| FileId::from(&m))
    }
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        FileId(metadata.dev(), metadata.ino())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Beginning,
    End,
    /// Where an earlier run left off, if it is still the same file.
    At(Place),
}

pub(super) struct Reader {
    path: PathBuf,
    file: File,
    offset: u64,
    /// A line whose end has not come yet.
    partial: Vec<u8>,
    /// The rest of the line is left out: it was too long, or reading began in its middle.
    skipping: bool,
    last_data: Instant,
    complained: bool,
    /// A configured path still leads to this file.
    pub(super) linked: bool,
    beginning: Fingerprint,
}

#[derive(Default)]
pub(super) struct Progress {
    pub(super) more: bool,
}

impl Reader {
    pub(super) fn open(path: &Path, start: Start) -> io::Result<(FileId, Reader)> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let offset = match start {
            Start::Beginning => 0,
            Start::End => metadata.len(),
            Start::At(place) if is_same(&file, metadata.len(), &place)? => place.offset,
            Start::At(_) => 0,
        };
        let skipping = offset > 0 && !ends_a_line(&mut file, offset)?;
        file.seek(SeekFrom::Start(offset))?;
        let reader = Reader {
            path: path.to_owned(),
            file,
            offset,
            partial: Vec::new(),
            skipping,
            last_data: Instant::now(),
            complained: false,
            linked: true,
            beginning: Fingerprint::default(),
        };
        Ok((FileId::from(&metadata), reader))
    }

    /// Reads up to `budget` bytes and appends the lines that end in them.
    pub(super) fn read(&mut self, budget: usize, line_max: usize, lines: &mut Vec<Vec<u8>>) -> io::Result<Progress> {
        let mut progress = Progress::default();
        let length = self.file.metadata()?.len();
        if length == self.offset {
            return Ok(progress);
        }
        if length < self.offset {
            // Truncated in place (copytruncate): what follows is new.
            lines.extend(self.finish());
            self.offset = 0;
            self.beginning = Fingerprint::default();
            self.file.seek(SeekFrom::Start(0))?;
        }
        let mut buffer = vec![0; 64 * 1024];
        let mut taken = 0;
        while taken < budget {
            let length = self.file.read(&mut buffer)?;
            if length == 0 {
                return Ok(progress);
            }
            (self.offset, taken) = (self.offset + length as u64, taken + length);
            self.last_data = Instant::now();
            self.split(&buffer[..length], line_max, lines);
        }
        progress.more = true;
        Ok(progress)
    }

    fn split(&mut self, mut data: &[u8], line_max: usize, lines: &mut Vec<Vec<u8>>) {
        while !data.is_empty() {
            let end = memchr::memchr(b'\n', data);
            let (content, ends) = (&data[..end.unwrap_or(data.len())], end.is_some());
            data = &data[end.map_or(data.len(), |end| end + 1)..];
            if !self.skipping {
                let room = line_max - self.partial.len();
                self.partial.extend_from_slice(&content[..content.len().min(room)]);
                if content.len() > room {
                    self.skipping = true;
                    lines.push(std::mem::take(&mut self.partial));
                }
            }
            if ends {
                if !self.skipping {
                    lines.push(std::mem::take(&mut self.partial));
                }
                self.skipping = false;
            }
        }
    }

    /// The line whose end will not come any more.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        self.skipping = false;
        Some(std::mem::take(&mut self.partial)).filter(|line| !line.is_empty())
    }

    /// Where a later run has to go on: before the line whose end has not come.
    pub(super) fn place(&mut self, id: FileId) -> io::Result<Place> {
        let offset = self.offset - self.partial.len() as u64;
        let length = usize::try_from(offset).unwrap_or(usize::MAX).min(Fingerprint::LENGTH_MAX);
        if self.beginning.length < length {
            self.beginning = fingerprint(&self.file, length)?;
        }
        Ok(Place { id, offset, beginning: self.beginning })
    }

    /// Bytes of the file that were not read yet.
    pub(super) fn unread(&self) -> u64 {
        self.file.metadata().map_or(0, |m| m.len().saturating_sub(self.offset))
    }

    pub(super) fn quiet_for(&self) -> Duration {
        self.last_data.elapsed()
    }

    /// Says once that a file cannot be read.
    pub(super) fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(path = %self.path.display(), error = %error, "failed to read log file");
        }
    }
}

/// Whether the file is the one that was read to `place`: as long, and beginning with the same bytes.
fn is_same(file: &File, length: u64, place: &Place) -> io::Result<bool> {
    Ok(length >= place.offset && fingerprint(file, place.beginning.length)? == place.beginning)
}

fn fingerprint(file: &File, length: usize) -> io::Result<Fingerprint> {
    let mut bytes = vec![0; length.min(Fingerprint::LENGTH_MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Fingerprint::of(&bytes))
}

/// Whether the byte before `offset` ends a line.
fn ends_a_line(file: &mut File, offset: u64) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::Start(offset - 1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}
