//! Files of records: a header, then records, each behind its length and checksum. Longer records are compressed: what a
//! scrape changes compresses to half, labels to a seventh.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::compress_bound;

use super::{FORMAT_VERSION, FORMAT_VERSION_OLDEST, OpenError, io_error};

/// A longer record was never written; a length beyond this is damage.
pub(crate) const RECORD_LEN_MAX: usize = 64 << 20;
const FRAME_LEN: usize = 8;
/// In a record's length: it is compressed.
const COMPRESSED: u32 = 1 << 31;
/// Below this a compressed record is hardly shorter.
const COMPRESSED_LEN_MIN: usize = 256;
/// The fastest of zstd's usual levels: the next ones take twice the time for a twentieth less.
const LEVEL: i32 = 1;
pub(crate) const HEADER_LEN: usize = 24;

/// What a file is, at its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) magic: [u8; 8],
    version: u16,
    /// The length at which the log before this one ended, if this one goes on from there: it is of no use behind a
    /// shorter one. Zero for a log that follows a gap, and for a checkpoint.
    pub(crate) continues_at: u64,
}

impl Header {
    pub(crate) fn new(magic: [u8; 8], continues_at: u64) -> Self {
        Header { magic, version: FORMAT_VERSION, continues_at }
    }

    /// None for what is no whole header; one of another version is refused.
    pub(crate) fn read(path: &Path, bytes: &[u8; HEADER_LEN], magic: [u8; 8]) -> Result<Option<Header>, OpenError> {
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if bytes[..8] == magic && !(FORMAT_VERSION_OLDEST..=FORMAT_VERSION).contains(&version) {
            return Err(OpenError::Version { file: path.to_owned(), found: version });
        }
        let [.., a, b, c, d, e, f, g, h, _, _, _, _] = *bytes;
        let header = Header { magic, version, continues_at: u64::from_le_bytes([a, b, c, d, e, f, g, h]) };
        Ok((header.to_bytes() == *bytes).then_some(header))
    }

    pub(crate) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&self.magic);
        bytes[8..10].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.continues_at.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..20]);
        bytes[20..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// Makes records.
#[derive(Default)]
pub(crate) struct Packer {
    /// Made when it is first needed; it takes some hundred KiB.
    compressor: Option<Compressor<'static>>,
    compressed: Vec<u8>,
}

impl Packer {
    /// Adds a record to a buffer.
    pub(crate) fn push_record(&mut self, buffer: &mut Vec<u8>, payload: &[u8]) {
        let (stored, flag) = match self.compress(payload) {
            Some(compressed) => (compressed, COMPRESSED),
            None => (payload, 0),
        };
        let length = stored.len() as u32 | flag;
        buffer.extend_from_slice(&length.to_le_bytes());
        buffer.extend_from_slice(&checksum(length, stored).to_le_bytes());
        buffer.extend_from_slice(stored);
    }

    /// None where that makes it no shorter.
    fn compress(&mut self, payload: &[u8]) -> Option<&[u8]> {
        if payload.len() < COMPRESSED_LEN_MIN {
            return None;
        }
        if self.compressor.is_none() {
            self.compressor = Compressor::new(LEVEL).ok();
        }
        self.compressed.clear();
        self.compressed.reserve(compress_bound(payload.len()));
        self.compressor.as_mut()?.compress_to_buffer(payload, &mut self.compressed).ok()?;
        (self.compressed.len() < payload.len()).then_some(&*self.compressed)
    }
}

/// Of length and content, so that a page of zeros is no record.
fn checksum(length: u32, stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(stored);
    hasher.finalize()
}

/// Reads a file's records up to the first that is not whole.
pub(crate) struct Records {
    file: BufReader<File>,
    pub(crate) header: Option<Header>,
    file_len: u64,
    /// Where the last whole record ends.
    whole_len: u64,
    stored: Vec<u8>,
    plain: Vec<u8>,
    decompressor: Option<Decompressor<'static>>,
}

impl Records {
    /// A file without a whole header has no records; one of another kind or version is refused.
    pub(crate) fn open(path: &Path, magic: [u8; 8]) -> Result<Self, OpenError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let file_len = file.metadata().map_err(io_error("read", path))?.len();
        let mut file = BufReader::with_capacity(1 << 18, file);
        let mut bytes = [0; HEADER_LEN];
        let whole = read_whole(&mut file, &mut bytes).map_err(io_error("read", path))?;
        let header = if whole { Header::read(path, &bytes, magic)? } else { None };
        let whole_len = if header.is_some() { HEADER_LEN as u64 } else { 0 };
        let decompressor = Decompressor::new().ok();
        Ok(Records { file, header, file_len, whole_len, stored: Vec::new(), plain: Vec::new(), decompressor })
    }

    /// The next whole record.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let mut frame = [0; FRAME_LEN];
        if self.header.is_none() || !read_whole(&mut self.file, &mut frame)? {
            return Ok(None);
        }
        let [a, b, c, d, e, f, g, h] = frame;
        let (word, sum) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let length = word & !COMPRESSED;
        let end = self.whole_len + FRAME_LEN as u64 + u64::from(length);
        if length == 0 || length as usize > RECORD_LEN_MAX || end > self.file_len {
            return Ok(None);
        }
        self.stored.resize(length as usize, 0);
        if !read_whole(&mut self.file, &mut self.stored)? || checksum(word, &self.stored) != sum {
            return Ok(None);
        }
        if word & COMPRESSED == 0 {
            self.whole_len = end;
            return Ok(Some(&self.stored));
        }
        if self.decompress().is_none() {
            return Ok(None);
        }
        self.whole_len = end;
        Ok(Some(&self.plain))
    }

    fn decompress(&mut self) -> Option<()> {
        let length = Decompressor::upper_bound(&self.stored).filter(|length| *length <= RECORD_LEN_MAX)?;
        self.plain.clear();
        self.plain.reserve(length);
        self.decompressor.as_mut()?.decompress_to_buffer(&self.stored, &mut self.plain).ok().map(drop)
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
    packer: Packer,
    buffer: Vec<u8>,
    pub(crate) written: u64,
}

impl<W: Write> RecordWriter<W> {
    pub(crate) fn new(mut out: W, header: Header) -> io::Result<Self> {
        out.write_all(&header.to_bytes())?;
        Ok(RecordWriter { out, packer: Packer::default(), buffer: Vec::new(), written: HEADER_LEN as u64 })
    }

    pub(crate) fn record(&mut self, payload: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        self.packer.push_record(&mut self.buffer, payload);
        self.written += self.buffer.len() as u64;
        self.out.write_all(&self.buffer)
    }

    pub(crate) fn into_inner(self) -> W {
        self.out
    }
}
