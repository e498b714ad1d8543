//! Fargate's log driver: what shim-loggers-for-containerd writes to the socket, byte for byte.
//!
//! Message mode, one array of four per record: tag, EventTime as `fixext8`, a map of strings whose keys come in any
//! order, an empty option map. A line of more than 16 KiB goes in pieces; a last line without its newline goes as a
//! piece that is not the last, and nothing follows.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::SystemTime;

const PIECE_BYTES: usize = 16 * 1024;

/// The connection of one container, both of its streams.
pub(crate) struct Driver {
    stream: UnixStream,
    tag: String,
    container: String,
    /// Turns the keys of the next record, as Go's maps come in another order each time.
    turn: usize,
}

impl Driver {
    pub(crate) fn connect(socket: &Path, container: &str, task_id: &str) -> Driver {
        let stream = UnixStream::connect(socket).expect("the sidecar listens");
        let tag = format!("{container}-firelens-{task_id}");
        Driver { stream, tag, container: container.to_owned(), turn: 0 }
    }

    /// A line, which had its newline.
    pub(crate) fn line(&mut self, source: &str, log: impl AsRef<[u8]>) {
        let log = log.as_ref();
        if log.len() <= PIECE_BYTES {
            return self.record(source, log, None);
        }
        let count = log.len().div_ceil(PIECE_BYTES);
        for (index, piece) in log.chunks(PIECE_BYTES).enumerate() {
            self.record(source, piece, Some((index + 1, index + 1 == count)));
        }
    }

    /// The last words of a process that ended without a newline.
    pub(crate) fn last_words(&mut self, source: &str, log: &str) {
        self.record(source, log.as_bytes(), Some((1, false)));
    }

    fn record(&mut self, source: &str, log: &[u8], partial: Option<(usize, bool)>) {
        let (container_id, ordinal);
        container_id = format!("{}-1819985369", self.tag.rsplit('-').next().unwrap_or_default());
        let mut pairs: Vec<(&str, &[u8])> = vec![
            ("container_id", container_id.as_bytes()),
            ("container_name", self.container.as_bytes()),
            ("source", source.as_bytes()),
            ("log", log),
        ];
        if let Some((number, last)) = partial {
            ordinal = number.to_string();
            pairs.extend([
                ("partial_message", &b"true"[..]),
                ("partial_id", b"1f6e3b0a5c9d4e2f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f"),
                ("partial_ordinal", ordinal.as_bytes()),
                ("partial_last", if last { b"true" } else { b"false" }),
            ]);
        }
        self.turn += 1;
        let turn = self.turn % pairs.len();
        pairs.rotate_left(turn);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let mut message = vec![0x94];
        text(self.tag.as_bytes(), &mut message);
        message.extend_from_slice(&[0xd7, 0x00]);
        message.extend_from_slice(&(now.as_secs() as u32).to_be_bytes());
        message.extend_from_slice(&now.subsec_nanos().to_be_bytes());
        message.push(0x80 | pairs.len() as u8);
        for (key, value) in pairs {
            text(key.as_bytes(), &mut message);
            text(value, &mut message);
        }
        message.push(0x80);
        self.stream.write_all(&message).expect("the sidecar reads");
    }
}

/// MessagePack's strings, in the shortest form as Go's msgp writes them.
fn text(bytes: &[u8], out: &mut Vec<u8>) {
    match bytes.len() {
        length @ 0..32 => out.push(0xa0 | length as u8),
        length @ 32..256 => out.extend_from_slice(&[0xd9, length as u8]),
        length => {
            out.push(0xda);
            out.extend_from_slice(&u16::try_from(length).expect("a piece is 16 KiB").to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}
