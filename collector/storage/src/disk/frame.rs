//! Files of records: a header, then records, each behind its length and checksum.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use super::{FORMAT_VERSION, OpenError, io_error};

/// A longer record was never written; a length beyond this is damage.
pub(crate) const RECORD_LEN_MAX: usize = 64 << 20;
const FRAME_LEN: usize = 8;
pub(crate) const HEADER_LEN: usize = 24;

/// What a file is, at its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) magic: [u8; 8],
    /// The length at which the log before this one ended, if this one goes on from there: it is of no use behind a
    /// shorter one. Zero for a log that follows a gap, and for a checkpoint.
    pub(crate) continues_at: u64,
}

impl Header {
    pub(crate) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&self.magic);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.continues_at.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..20]);
        bytes[20..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// Adds a record to a buffer.
pub(crate) fn push_record(buffer: &mut Vec<u8>, payload: &[u8]) {
    buffer.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&checksum(payload).to_le_bytes());
    buffer.extend_from_slice(payload);
}

/// Of length and content, so that a page of zeros is no record.
fn checksum(payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(payload.len() as u32).to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Reads a file's records up to the first that is not whole.
pub(crate) struct Records {
    file: BufReader<File>,
    pub(crate) header: Option<Header>,
    file_len: u64,
    /// Where the last whole record ends.
    whole_len: u64,
    payload: Vec<u8>,
}

impl Records {
    /// A file without a whole header has no records; one of another kind or version is refused.
    pub(crate) fn open(path: &Path, magic: [u8; 8]) -> Result<Self, OpenError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let file_len = file.metadata().map_err(io_error("read", path))?.len();
        let mut file = BufReader::with_capacity(1 << 18, file);
        let mut bytes = [0; HEADER_LEN];
        let whole = read_whole(&mut file, &mut bytes).map_err(io_error("read", path))?;
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if whole && bytes[..8] == magic && version != FORMAT_VERSION {
            return Err(OpenError::Version { file: path.to_owned(), found: version });
        }
        let [.., a, b, c, d, e, f, g, h, _, _, _, _] = bytes;
        let header = Header { magic, continues_at: u64::from_le_bytes([a, b, c, d, e, f, g, h]) };
        let header = (whole && header.to_bytes() == bytes).then_some(header);
        let whole_len = if header.is_some() { HEADER_LEN as u64 } else { 0 };
        Ok(Records { file, header, file_len, whole_len, payload: Vec::new() })
    }

    /// The next whole record.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let mut frame = [0; FRAME_LEN];
        if self.header.is_none() || !read_whole(&mut self.file, &mut frame)? {
            return Ok(None);
        }
        let [a, b, c, d, e, f, g, h] = frame;
        let (length, sum) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let end = self.whole_len + FRAME_LEN as u64 + u64::from(length);
        if length == 0 || length as usize > RECORD_LEN_MAX || end > self.file_len {
            return Ok(None);
        }
        self.payload.resize(length as usize, 0);
        if !read_whole(&mut self.file, &mut self.payload)? || checksum(&self.payload) != sum {
            return Ok(None);
        }
        self.whole_len = end;
        Ok(Some(&self.payload))
    }

    /// Where the last whole record that was read ends.
    pub(crate) fn whole_len(&self) -> u64 {
        self.whole_len
    }

    pub(crate) fn file_len(&self) -> u64 {
        self.file_len
    }
}

/// Fills the buffer; false where the file ends before.
fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes records through a buffer; for checkpoints.
pub(crate) struct RecordWriter<W> {
    out: W,
    buffer: Vec<u8>,
    pub(crate) written: u64,
}

impl<W: Write> RecordWriter<W> {
    pub(crate) fn new(mut out: W, header: Header) -> io::Result<Self> {
        out.write_all(&header.to_bytes())?;
        Ok(RecordWriter { out, buffer: Vec::new(), written: HEADER_LEN as u64 })
    }

    pub(crate) fn record(&mut self, payload: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        push_record(&mut self.buffer, payload);
        self.written += self.buffer.len() as u64;
        self.out.write_all(&self.buffer)
    }

    pub(crate) fn into_inner(self) -> W {
        self.out
    }
}
