//! A log file that never grows beyond a bound: for a sidecar that tails it from a shared volume.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// At this size the file becomes `NAME.1` (replacing the one before) and a new one is begun.
const ROTATE_BYTES: u64 = 64 << 20;

/// Shared by all threads; each write is one whole line.
#[derive(Clone)]
pub struct RotatingFile(Arc<Mutex<State>>);

struct State {
    path: PathBuf,
    file: File,
    size_bytes: u64,
    rotate_bytes: u64,
}

impl RotatingFile {
    /// Opens for appending.
    ///
    /// # Errors
    /// When the file cannot be opened or made.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, ROTATE_BYTES)
    }

    fn open_with(path: &Path, rotate_bytes: u64) -> io::Result<Self> {
        let (file, size_bytes) = append(path)?;
        Ok(RotatingFile(Arc::new(Mutex::new(State { path: path.to_owned(), file, size_bytes, rotate_bytes }))))
    }
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().map_err(|_| io::Error::other("a thread panicked while logging"))?;
        if state.size_bytes > 0 && state.size_bytes + line.len() as u64 > state.rotate_bytes {
            let mut rotated = state.path.clone().into_os_string();
            rotated.push(".1");
            std::fs::rename(&state.path, rotated)?;
            (state.file, state.size_bytes) = append(&state.path)?;
        }
        state.file.write_all(line)?;
        state.size_bytes += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let size_bytes = file.metadata()?.len();
    Ok((file, size_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_turns_over_before_it_exceeds_its_bound_and_no_line_is_lost() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("app.log");
        let mut file = RotatingFile::open_with(&path, 10).expect("opens");
        for line in ["one\n", "two\n", "three\n"] {
            file.write_all(line.as_bytes()).expect("writes");
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("app.log.1")).expect("rotated"), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).expect("current"), "three\n");
    }
}
