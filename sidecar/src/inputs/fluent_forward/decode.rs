//! One message of Fluent Forward protocol v1 into its events, borrowed from the message's bytes.
//!
//! All four modes: Message, Forward, PackedForward, CompressedPackedForward (gzip, and Fluent Bit's zstd). Times as
//! seconds, EventTime, or with Fluent Bit's metadata beside them. What a client may announce is bounded.

use std::io::Read;

use serde_json::Value;
use telemetry::Timestamp;

use super::msgpack::{Reader, Token};

/// What a compressed message may unpack to.
const UNPACKED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// 2^23 is what zstd itself allows a stream to ask for without being told.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// One log event: when, and a record as a MessagePack map.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// None where the client says 0: it does not know.
    pub time: Option<Timestamp>,
    record: Reader<'a>,
}

/// What the message wants beside being taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// The id to answer with once the events are taken over.
    pub ack: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the message is not what Fluent Forward v1 says")]
    Malformed,
    #[error("compression {0:?} is not supported: send gzip, zstd or none")]
    Compression(String),
    #[error("the message unpacks to more than {} MiB", UNPACKED_BYTES_MAX >> 20)]
    TooLarge,
    #[error("the compressed message is not {0}")]
    NotCompressed(&'static str),
    #[error("the message carries metrics or traces; only logs are taken")]
    NotLogs,
}

use DecodeError::Malformed;

/// Decodes a whole message and hands out its events in order. A heartbeat (nil) has none.
///
/// # Errors
/// Why the message cannot be taken; the events before the fault have been handed out.
pub fn decode(message: &[u8], mut each: impl FnMut(&[u8], Event<'_>)) -> Result<Wants, DecodeError> {
    let mut reader = Reader(message);
    let length = match reader.next().ok_or(Malformed)? {
        Token::Nil => return Ok(Wants::default()),
        Token::Array(length) => length,
        _ => return Err(Malformed),
    };
    let tag = reader.text().ok_or(Malformed)?;
    let second = reader;
    match reader.next().ok_or(Malformed)? {
        Token::Text(packed) => {
            let options = Options::read(&mut reader, length > 2)?;
            match options.compressed {
                None | Some(b"text") => entries(Reader(packed), |event| each(tag, event))?,
                Some(b"gzip") => entries(Reader(&gunzip(packed)?), |event| each(tag, event))?,
                Some(b"zstd") => entries(Reader(&unzstd(packed)?), |event| each(tag, event))?,
                Some(other) => return Err(DecodeError::Compression(String::from_utf8_lossy(other).into_owned())),
            }
            Ok(options.wants())
        }
        Token::Array(count) if is_forward(reader) || count == 0 => {
            let events = reader;
            for _ in 0..count {
                reader.skip().ok_or(Malformed)?;
            }
            let options = Options::read(&mut reader, length > 2)?;
            let mut events = events;
            for _ in 0..count {
                each(tag, entry(&mut events)?);
            }
            Ok(options.wants())
        }
        _ => {
            let mut reader = second;
            let time = time(&mut reader)?;
            let record = record(&mut reader)?;
            let options = Options::read(&mut reader, length > 3)?;
            each(tag, Event { time, record });
            Ok(options.wants())
        }
    }
}

/// In Forward mode the second element is an array of entries, which are arrays; a time with metadata
/// (`[EventTime, {}]`) is an array too, but begins with a time.
fn is_forward(inside: Reader<'_>) -> bool {
    let mut inside = inside;
    matches!(inside.next(), Some(Token::Array(_)))
}

/// Entries one behind the other, as PackedForward has them.
fn entries<'a>(mut reader: Reader<'a>, mut each: impl FnMut(Event<'a>)) -> Result<(), DecodeError> {
    while !reader.0.is_empty() {
        each(entry(&mut reader)?);
    }
    Ok(())
}

/// `[time, record]`.
fn entry<'a>(reader: &mut Reader<'a>) -> Result<Event<'a>, DecodeError> {
    let Some(Token::Array(length @ 2..)) = reader.next() else { return Err(Malformed) };
    let event = Event { time: time(reader)?, record: record(reader)? };
    for _ in 2..length {
        reader.skip().ok_or(Malformed)?;
    }
    Ok(event)
}

fn record<'a>(reader: &mut Reader<'a>) -> Result<Reader<'a>, DecodeError> {
    let bytes = reader.skip().ok_or(Malformed)?;
    match Reader(bytes).next() {
        Some(Token::Map(_)) => Ok(Reader(bytes)),
        _ => Err(Malformed),
    }
}

/// Seconds as a number, EventTime (extension 0: seconds and nanoseconds), or either with metadata.
fn time(reader: &mut Reader<'_>) -> Result<Option<Timestamp>, DecodeError> {
    let millis = match reader.next().ok_or(Malformed)? {
        Token::Int(seconds) => seconds.checked_mul(1000).ok_or(Malformed)?,
        Token::Float(seconds) => (seconds * 1000.0) as i64,
        Token::Ext(0, bytes) => {
            let (seconds, nanos) = bytes.split_at_checked(4).ok_or(Malformed)?;
            let number = |b: &[u8]| b.try_into().map(u32::from_be_bytes).map_err(|_| Malformed);
            i64::from(number(seconds)?) * 1000 + i64::from(number(nanos)?) / 1_000_000
        }
        Token::Array(length @ 1..) => {
            let Some(first) = reader.skip() else { return Err(Malformed) };
            // One level: a time within a time within a time is nobody's.
            if matches!(Reader(first).next(), Some(Token::Array(_))) {
                return Err(Malformed);
            }
            let found = time(&mut Reader(first))?;
            for _ in 1..length {
                reader.skip().ok_or(Malformed)?;
            }
            return Ok(found);
        }
        _ => return Err(Malformed),
    };
    Ok((millis != 0).then_some(Timestamp::from_millis(millis)))
}

fn gunzip(packed: &[u8]) -> Result<Vec<u8>, DecodeError> {
    unpack(flate2::read::MultiGzDecoder::new(packed), "gzip")
}

fn unzstd(packed: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let malformed = |_| DecodeError::NotCompressed("zstd");
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(malformed)?;
    // A frame may ask for a window of gigabytes.
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(malformed)?;
    unpack(decoder, "zstd")
}

fn unpack(decoder: impl Read, kind: &'static str) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    decoder.take(UNPACKED_BYTES_MAX + 1).read_to_end(&mut out).map_err(|_| DecodeError::NotCompressed(kind))?;
    if out.len() as u64 > UNPACKED_BYTES_MAX { Err(DecodeError::TooLarge) } else { Ok(out) }
}

#[derive(Default)]
struct Options<'a> {
    chunk: Option<&'a [u8]>,
    compressed: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn read(reader: &mut Reader<'a>, present: bool) -> Result<Self, DecodeError> {
        let mut options = Options::default();
        if !present {
            return Ok(options);
        }
        let pairs = match reader.next().ok_or(Malformed)? {
            Token::Map(pairs) => pairs,
            Token::Nil => return Ok(options),
            _ => return Err(Malformed),
        };
        for _ in 0..pairs {
            let key = reader.text().ok_or(Malformed)?;
            let mut value = Reader(reader.skip().ok_or(Malformed)?);
            match (key, value.next()) {
                (b"chunk", Some(Token::Text(chunk))) => options.chunk = Some(chunk),
                (b"compressed", Some(Token::Text(kind))) => options.compressed = Some(kind),
                // Fluent Bit's kinds: 0 logs, 1 metrics, 2 traces.
                (b"fluent_signal", Some(Token::Int(1..))) => return Err(DecodeError::NotLogs),
                _ => {}
            }
        }
        Ok(options)
    }

    fn wants(&self) -> Wants {
        Wants { ack: self.chunk.map(<[u8]>::to_vec) }
    }
}

/// What a log driver's record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFields<'a> {
    pub log: Option<&'a [u8]>,
    pub source: Option<&'a [u8]>,
    pub container_name: Option<&'a [u8]>,
    /// Of a piece of a line: the line's id, and whether it is the last piece.
    pub partial: Option<(&'a [u8], bool)>,
}

impl<'a> Event<'a> {
    /// The texts under the keys that a log driver writes, in one walk over the record; of two of a name the first
    /// counts, and other kinds of values do not.
    pub fn log_fields(&self) -> LogFields<'a> {
        let mut fields = Fields::default();
        let mut reader = self.record;
        let Some(Token::Map(pairs)) = reader.next() else { return fields.done() };
        for _ in 0..pairs {
            let Some(key) = reader.key() else { break };
            let Some(value) = reader.text_or_skip() else { break };
            fields.take(key, value);
        }
        fields.done()
    }
}

/// The fields of a record, as they come.
#[derive(Default)]
struct Fields<'a> {
    found: LogFields<'a>,
    partial: [Option<&'a [u8]>; 3],
}

impl<'a> Fields<'a> {
    fn take(&mut self, key: &[u8], value: Option<&'a [u8]>) {
        let place = match key {
            b"log" => &mut self.found.log,
            b"source" => &mut self.found.source,
            b"container_name" => &mut self.found.container_name,
            b"partial_message" => &mut self.partial[0],
            b"partial_id" => &mut self.partial[1],
            b"partial_last" => &mut self.partial[2],
            _ => return,
        };
        *place = place.or(value);
    }

    fn done(mut self) -> LogFields<'a> {
        let [message, id, last] = self.partial;
        if message == Some(b"true") {
            self.found.partial = Some((id.unwrap_or_default(), last == Some(b"true")));
        }
        self.found
    }
}

/// A message as a container's log driver writes it, all of which is there: `[tag, EventTime, {text: text}, {}]`. In one
/// walk over its bytes, for nearly all messages are of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Driven<'a> {
    pub tag: &'a [u8],
    pub time: Option<Timestamp>,
    pub fields: LogFields<'a>,
    /// What the message takes of the bytes.
    pub length: usize,
}

impl<'a> Driven<'a> {
    /// One with a line in it.
    pub fn line(bytes: &'a [u8]) -> Option<Self> {
        Driven::read(bytes).filter(|message| message.fields.log.is_some())
    }

    /// Both are whole lines of the same container and source.
    pub fn goes_with(&self, other: &Driven<'_>) -> bool {
        let LogFields { source, container_name, partial, .. } = self.fields;
        let of_other = (other.fields.source, other.fields.container_name, other.fields.partial);
        partial.is_none() && (source, container_name, partial) == of_other && self.tag == other.tag
    }

    /// None for any other message, and where the end is not there yet.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b"\x94")?;
        let (tag, rest) = short_text(rest)?;
        let rest = rest.strip_prefix(b"\xd7\x00")?;
        let (seconds, rest) = rest.split_first_chunk()?;
        let (nanos, rest) = rest.split_first_chunk()?;
        let millis = i64::from(u32::from_be_bytes(*seconds)) * 1000 + i64::from(u32::from_be_bytes(*nanos)) / 1_000_000;
        let (head @ 0x80..=0x8f, mut rest) = rest.split_first().map(|(head, rest)| (*head, rest))? else { return None };
        let mut fields = Fields::default();
        for _ in 0..head & 0x0f {
            let (key, behind) = short_text(rest)?;
            let (value, behind) = short_text(behind)?;
            fields.take(key, Some(value));
            rest = behind;
        }
        let rest = rest.strip_prefix(b"\x80")?;
        let time = (millis != 0).then_some(Timestamp::from_millis(millis));
        Some(Driven { tag, time, fields: fields.done(), length: bytes.len() - rest.len() })
    }
}

/// A text of less than 64 KiB, and what stands behind it.
fn short_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    match first {
        0xa0..=0xbf => rest.split_at_checked(usize::from(first & 0x1f)),
        0xd9 => rest.split_first().and_then(|(length, rest)| rest.split_at_checked(usize::from(*length))),
        0xda => {
            let (length, rest) = rest.split_first_chunk()?;
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        }
        _ => None,
    }
}

impl Event<'_> {
    /// The whole record as one JSON object; None where it is nested deeper than any logger nests.
    pub fn to_json(self) -> Option<String> {
        json(&mut { self.record }, 0).map(|value| value.to_string())
    }
}

const DEPTH_MAX: usize = 32;

fn json(reader: &mut Reader<'_>, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(match reader.next()? {
        Token::Nil => Value::Null,
        Token::Bool(value) => value.into(),
        Token::Int(value) => value.into(),
        Token::Float(value) => value.into(),
        Token::Text(bytes) => text(bytes).into(),
        Token::Ext(..) => Value::Null,
        Token::Array(length) => (0..length).map(|_| json(reader, depth + 1)).collect::<Option<_>>()?,
        Token::Map(pairs) => {
            let mut object = serde_json::Map::new();
            for _ in 0..pairs {
                let key = match json(reader, depth + 1)? {
                    Value::String(key) => key,
                    // Written as text, a map within a map's key within a key would double with every level.
                    Value::Object(_) => "map".to_owned(),
                    Value::Array(_) => "array".to_owned(),
                    other => other.to_string(),
                };
                object.insert(key, json(reader, depth + 1)?);
            }
            object.into()
        }
    })
}

/// The answer that tells a client that its message has been taken over: `{"ack": chunk}`.
pub fn ack(chunk: &[u8]) -> Vec<u8> {
    let mut answer = vec![0x81, 0xa3, b'a', b'c', b'k'];
    match u8::try_from(chunk.len()) {
        Ok(length @ 0..=31) => answer.push(0xa0 | length),
        Ok(length) => answer.extend([0xd9, length]),
        // An id is 24 characters of base64; a longer one is cut, and its sender will repeat itself.
        Err(_) => answer.extend([0xd9, u8::MAX]),
    }
    answer.extend_from_slice(&chunk[..chunk.len().min(usize::from(u8::MAX))]);
    answer
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
