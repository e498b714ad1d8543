//! Writing the log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use telemetry::Labels;

use super::frame::{HEADER_LEN, Header, Packer};
use super::record::{self, BatchEncoder};

pub(crate) const LOG_MAGIC: [u8; 8] = *b"picketlg";

/// Records are cut at this size, so that reading needs no more memory than that.
const RECORD_LEN_TARGET: usize = 1 << 20;

/// The log being written.
pub(crate) struct Log {
    pub(crate) number: u64,
    file: Arc<File>,
    len: u64,
    /// Samples that a start would read, from the logs before it too.
    samples: u64,
    /// Those of the logs before it.
    samples_before: u64,
    batch: BatchEncoder,
    packer: Packer,
    buffer: Vec<u8>,
    /// The logs before, until they are synced or a checkpoint has replaced them.
    predecessors: Vec<Arc<File>>,
    /// A write failed. Nothing may follow a gap; the next checkpoint starts a new log.
    gap: bool,
    /// Why what is appended may not survive; cleared by a checkpoint.
    failure: Option<String>,
    /// By series id: whether this log has a sample of the series, so that the next is written against it.
    has: Vec<u64>,
    pub(crate) errors_total: u64,
    pub(crate) written_total: u64,
}

impl Log {
    /// Starts an empty log that is to be read after the one before it if that ends at `continues_at`, or, with zero,
    /// only after a checkpoint.
    pub(crate) fn create(path: &Path, number: u64, continues_at: u64) -> io::Result<Self> {
        Log::begin(Log::prepare(path)?, number, continues_at)
    }

    /// An empty file for a log; its name is not durable before its directory is synced.
    pub(crate) fn prepare(path: &Path) -> io::Result<File> {
        OpenOptions::new().create(true).write(true).truncate(true).open(path)
    }

    /// Starts a log, as [`Log::create`] does, in an empty file.
    pub(crate) fn begin(mut file: File, number: u64, continues_at: u64) -> io::Result<Self> {
        file.write_all(&Header::new(LOG_MAGIC, continues_at).to_bytes())?;
        Ok(Log::over(file, number, HEADER_LEN as u64))
    }

    /// Goes on behind the last whole record; there are so many samples before, those of the logs before it included.
    pub(crate) fn resume(path: &Path, number: u64, whole_len: u64, samples: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(path)?;
        file.set_len(whole_len)?;
        let mut log = Log { samples, ..Log::over(file, number, whole_len) };
        log.packer.push_record(&mut log.buffer, &record::afresh());
        Ok(log)
    }

    pub(crate) fn over(file: File, number: u64, len: u64) -> Self {
        Log {
            number,
            file: Arc::new(file),
            len,
            samples: 0,
            samples_before: 0,
            batch: BatchEncoder::default(),
            packer: Packer::default(),
            buffer: Vec::new(),
            predecessors: Vec::new(),
            gap: false,
            failure: None,
            has: Vec::new(),
            errors_total: 0,
            written_total: 0,
        }
    }

    pub(crate) fn series(&mut self, id: u32, labels: &Labels) {
        self.batch.series(id, labels);
        if let Some(word) = self.has.get_mut(id as usize / 64) {
            *word &= !(1 << (id % 64));
        }
        self.cut();
    }

    /// `previous` is the series' newest value, if it has any.
    pub(crate) fn sample(&mut self, id: u32, time: i64, value: f64, previous: Option<f64>) {
        let (word, bit) = (id as usize / 64, 1 << (id % 64));
        if word >= self.has.len() {
            self.has.resize(word + 1, 0);
        }
        self.samples += 1;
        let known = self.has[word] & bit != 0;
        self.has[word] |= bit;
        if known && previous.is_none() {
            // Its samples have expired, and a reader of the log does not know that.
            self.batch.first(id);
        }
        self.batch.sample(id, time, value, previous.filter(|_| known));
        self.cut();
    }

    /// A sample that is not its series' newest.
    pub(crate) fn late(&mut self, id: u32, time: i64, value: f64) {
        self.samples += 1;
        self.batch.late(id, time, value);
        self.cut();
    }

    pub(crate) fn histogram(&mut self, id: u32, time: i64, encoded: &[u8]) {
        // The record of its series comes first.
        self.close_batch();
        self.packer.push_record(&mut self.buffer, &record::histogram(id, time, encoded));
    }

    pub(crate) fn expiry(&mut self, oldest: i64, dead: &[u32]) {
        self.packer.push_record(&mut self.buffer, &record::expiry(oldest, dead));
        self.flush();
    }

    fn cut(&mut self) {
        if self.batch.payload().len() >= RECORD_LEN_TARGET {
            self.close_batch();
        }
    }

    fn close_batch(&mut self) {
        if !self.batch.is_empty() {
            self.packer.push_record(&mut self.buffer, self.batch.payload());
            self.batch.clear();
        }
    }

    /// Hands everything to the operating system: from here on it survives the end of this process.
    pub(crate) fn flush(&mut self) {
        self.close_batch();
        if !self.gap {
            match (&*self.file).write_all(&self.buffer) {
                Ok(()) => {
                    self.len += self.buffer.len() as u64;
                    self.written_total += self.buffer.len() as u64;
                }
                Err(error) => self.fail(&error),
            }
        }
        self.buffer.clear();
        self.buffer.shrink_to(2 * RECORD_LEN_TARGET);
    }

    pub(crate) fn fail(&mut self, error: &io::Error) {
        self.errors_total += 1;
        self.gap = true;
        self.failure = Some(error.to_string());
    }

    /// Writes no more; what failed before stands.
    pub(crate) fn stop(&mut self) {
        self.gap = true;
        self.len = 0;
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The files that have to be on disk for everything appended so far to be.
    pub(crate) fn unsynced(&self) -> impl Iterator<Item = Arc<File>> + use<> {
        self.predecessors.clone().into_iter().chain([self.file.clone()])
    }

    /// Nothing is written to logs before this one any more: those that are on disk stay there.
    pub(crate) fn synced(&mut self, files: &[Arc<File>]) {
        self.predecessors.retain(|log| !files.iter().any(|file| Arc::ptr_eq(file, log)));
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// What a start has to read takes its time by samples: even ones take next to no bytes.
    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    /// Goes over to the next log, which keeps this one's counts, and its failure until a checkpoint has made up for
    /// the gap.
    pub(crate) fn succeed(&mut self, next: Log) {
        let mut predecessors = std::mem::take(&mut self.predecessors);
        if self.failure.is_none() {
            predecessors.push(self.file.clone());
        }
        *self = Log {
            predecessors,
            samples: self.samples,
            samples_before: self.samples,
            failure: self.failure.take(),
            errors_total: self.errors_total,
            written_total: self.written_total,
            ..next
        };
    }

    /// The checkpoint before this log is on disk, and nothing older is needed.
    pub(crate) fn checkpoint_written(&mut self) {
        self.predecessors.clear();
        self.samples -= std::mem::take(&mut self.samples_before);
        if !self.gap {
            self.failure = None;
        }
    }
}
