//! Log records to a file, one line each. Rotated by size: one older file is kept under `<name>.1`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use bytes::Bytes;

use super::retry::Attempt;
use super::sink::{Answer, Send};

/// A file that has grown to this gives its name to a new one.
const ROTATE_BYTES: u64 = 64 * 1024 * 1024;

pub struct LogFile {
    path: PathBuf,
}

impl LogFile {
    pub fn new(path: PathBuf) -> Self {
        LogFile { path }
    }

    /// Half a batch is taken back, so that a repeated write repeats nothing.
    fn write(&self, body: &[u8]) -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        let length = file.metadata()?.len();
        if length >= ROTATE_BYTES {
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            std::fs::rename(&self.path, older)?;
            return OpenOptions::new().create(true).append(true).open(&self.path)?.write_all(body);
        }
        file.write_all(body).inspect_err(|_| drop(file.set_len(length)))
    }
}

impl Send for LogFile {
    async fn attempt(&self, body: &Bytes) -> Attempt<Answer> {
        match self.write(body) {
            Ok(()) => Attempt::Done(Answer::Stored),
            Err(error) => Attempt::Later { after: None, why: format!("{}: {error}", self.path.display()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_and_a_large_file_gives_way() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("app.log");
        let file = LogFile::new(path.clone());
        file.write(b"one\n").expect("written");
        file.write(b"two\n").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "one\ntwo\n");
        OpenOptions::new().write(true).open(&path).expect("open").set_len(ROTATE_BYTES).expect("set");
        file.write(b"three\n").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "three\n");
        assert_eq!(std::fs::metadata(directory.path().join("app.log.1")).expect("there").len(), ROTATE_BYTES);
    }
}
