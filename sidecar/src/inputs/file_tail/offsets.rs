//! Where each file was read to, kept on disk across a restart of the sidecar.
//!
//! A place is written down only when every line before it has been settled (delivered, or dropped and
//! counted): after a crash lines may come twice, none is missing. Files are known by device and inode and
//! by their first bytes, for an inode is given to another file when its file is gone.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::read::FileId;

const FILE_NAME: &str = "log-offsets.json";
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) id: FileId,
    /// Of the first byte that is not settled.
    pub(super) offset: u64,
    pub(super) beginning: Fingerprint,
}

/// Tells a file from another one that got its inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    pub(super) length: usize,
    pub(super) hash: u64,
}

impl Fingerprint {
    /// As many bytes as tell two logs apart: the first line with its time.
    pub(super) const LENGTH_MAX: usize = 256;

    /// FNV-1a, which will be the same in the next version too.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Fingerprint { length: bytes.len(), hash: bytes.iter().fold(0xcbf2_9ce4_8422_2325, step) }
    }
}

/// A handle; clones share the file on disk.
#[derive(Clone)]
pub(super) struct Offsets(Arc<Mutex<State>>);

struct State {
    path: PathBuf,
    /// What was on disk at the start; None where nothing was.
    found: Option<HashMap<FileId, Place>>,
    /// Places to be written when this turn is settled.
    pending: Option<(Vec<Place>, u64)>,
    written: Vec<Place>,
    written_at: Option<Instant>,
    complained: bool,
}

impl Offsets {
    /// Reads what an earlier run left in `directory`.
    pub(super) fn load(directory: &Path) -> Self {
        let path = directory.join(FILE_NAME);
        let found = match read(&path) {
            Ok(places) => Some(places.into_iter().map(|place| (place.id, place)).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %error, "offsets of log files cannot be read, starting afresh");
                None
            }
        };
        let state = State { path, found, pending: None, written: Vec::new(), written_at: None, complained: false };
        Offsets(Arc::new(Mutex::new(state)))
    }

    /// An earlier run has left its offsets: what it does not know came after it.
    pub(super) fn is_resumed(&self) -> bool {
        self.lock().found.is_some()
    }

    pub(super) fn of(&self, id: FileId) -> Option<Place> {
        self.lock().found.as_ref()?.get(&id).cloned()
    }

    /// Notes places up to which everything is settled once the turn `turn` is.
    pub(super) fn note(&self, places: impl FnOnce() -> Vec<Place>, turn: u64) {
        let mut state = self.lock();
        if state.pending.is_none() && state.written_at.is_none_or(|at| at.elapsed() >= WRITE_EVERY) {
            let places = places();
            if places != state.written {
                state.pending = Some((places, turn));
            }
        }
    }

    /// Notes the last places of a run, whatever was pending.
    pub(super) fn note_last(&self, places: Vec<Place>, turn: u64) {
        self.lock().pending = Some((places, turn));
    }

    /// Writes the noted places, if turns are settled so far that they hold.
    pub(super) fn flush(&self, settled: u64) {
        let mut state = self.lock();
        let Some((places, _)) = state.pending.take_if(|(_, turn)| *turn <= settled) else { return };
        state.written_at = Some(Instant::now());
        match write(&state.path, &places) {
            Ok(()) => state.written = places,
            Err(error) if !state.complained => {
                state.complained = true;
                let path = state.path.display().to_string();
                tracing::warn!(path, error = %error, "offsets of log files cannot be written, a restart will lose or repeat lines");
            }
            Err(_) => {}
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no one panics holding it")
    }
}

fn read(path: &Path) -> io::Result<Vec<Place>> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// The old file or the new one, never half of one.
fn write(path: &Path, places: &[Place]) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(places)?)?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64) -> Place {
        Place { id: FileId(1, 2), offset, beginning: Fingerprint::of(b"first line") }
    }

    #[test]
    fn a_place_is_written_when_everything_before_it_is_settled() {
        let directory = tempfile::tempdir().expect("tempdir");
        let offsets = Offsets::load(directory.path());
        assert!(!offsets.is_resumed());
        offsets.note(|| vec![place(100)], 7);
        offsets.flush(6);
        assert!(!Offsets::load(directory.path()).is_resumed(), "one record is still on its way");
        offsets.note(|| panic!("places are asked for when the last ones are written"), 8);
        offsets.flush(7);
        let next = Offsets::load(directory.path());
        assert_eq!((next.is_resumed(), next.of(FileId(1, 2))), (true, Some(place(100))));
        assert_eq!(next.of(FileId(1, 3)), None);
    }

    #[test]
    fn a_broken_file_is_no_file() {
        let directory = tempfile::tempdir().expect("tempdir");
        std::fs::write(directory.path().join(FILE_NAME), "{").expect("write");
        assert!(!Offsets::load(directory.path()).is_resumed());
    }
}
