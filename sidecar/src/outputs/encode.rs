//! A batch into the body of a request, compressed as it is made.

mod otlp;

use std::io::{Read, Write};

use serde_json::Value;

pub use self::otlp::Resource;
use super::gzip::{Gzip, Scratch};
use super::spool::FrameHead;
use crate::pipeline::batch::{Batch, Limits};
use crate::pipeline::parse::write::quoted;

/// What a destination reads.
#[derive(Clone, Debug)]
pub enum Codec {
    /// PutLogEvents in JSON, gzip; `head` is everything before the events.
    CloudWatch { head: Vec<u8> },
    /// ExportLogsServiceRequest in protobuf, gzip.
    Otlp { resource: Resource },
    /// One PackedForward message, its entries in gzip.
    Forward { tag: String },
    /// Lines as they are.
    Lines,
}

/// A body and what is known of it.
pub type Half = (Vec<u8>, FrameHead);

impl Codec {
    pub fn cloudwatch(group: &str, stream: &str, entity: Option<&Value>) -> Codec {
        let mut head = b"{\"logGroupName\":".to_vec();
        quoted(group.as_bytes(), &mut head);
        head.extend_from_slice(b",\"logStreamName\":");
        quoted(stream.as_bytes(), &mut head);
        if let Some(entity) = entity {
            head.extend_from_slice(b",\"entity\":");
            head.extend_from_slice(entity.to_string().as_bytes());
        }
        head.extend_from_slice(b",\"logEvents\":[");
        Codec::CloudWatch { head }
    }

    pub fn limits(&self) -> Limits {
        match self {
            Codec::CloudWatch { .. } => Limits::CLOUDWATCH,
            Codec::Otlp { .. } | Codec::Forward { .. } => Limits::NETWORK,
            Codec::Lines => Limits::LOCAL,
        }
    }

    pub fn is_local(&self) -> bool {
        matches!(self, Codec::Lines)
    }

    pub fn encode(&self, batch: &mut Batch, scratch: &mut Scratch) -> Vec<u8> {
        match self {
            Codec::CloudWatch { head } => cloudwatch(head, batch, scratch),
            Codec::Otlp { resource } => Gzip::whole(&otlp::request(resource, batch)),
            Codec::Forward { tag } => forward(tag, batch),
            Codec::Lines => {
                let mut lines = Vec::with_capacity(batch.bytes());
                for (_, text) in batch.events() {
                    lines.extend_from_slice(text);
                    lines.push(b'\n');
                }
                lines
            }
        }
    }

    /// Two bodies with half of the events each; None where there is one event, or the destination does not say that
    /// one event spoils the others.
    pub fn halve(&self, body: &[u8], head: &FrameHead) -> Option<(Half, Half)> {
        let Codec::CloudWatch { head: opening } = self else { return None };
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(body).read_to_end(&mut text).ok()?;
        let whole: Value = serde_json::from_slice(&text).ok()?;
        let events = whole["logEvents"].as_array()?;
        let middle = events.len().div_ceil(2);
        if middle == events.len() {
            return None;
        }
        let part = |from: usize, to: usize| {
            let mut json = opening.clone();
            let events: Vec<String> = events[from..to].iter().map(Value::to_string).collect();
            json.extend_from_slice(events.join(",").as_bytes());
            json.extend_from_slice(b"]}");
            let units = head.units.get(from..to).map(<[u32]>::to_vec).unwrap_or_default();
            (Gzip::whole(&json), FrameHead { events: (to - from) as u32, units })
        };
        Some((part(0, middle), part(middle, events.len())))
    }
}

/// The texts are in JSON's form already: where the times do not rise the next one lies anywhere in a megabyte that was last
/// touched a while ago, and copies alone, one behind the other, wait for several at once.
fn cloudwatch(head: &[u8], batch: &mut Batch, scratch: &mut Scratch) -> Vec<u8> {
    let mut gzip = Gzip::new(batch.bytes(), scratch);
    gzip.text().extend_from_slice(head);
    for (index, (event, text)) in batch.events().enumerate() {
        let out = gzip.text();
        if index > 0 {
            out.push(b',');
        }
        write!(out, "{{\"timestamp\":{},\"message\":\"", event.at.as_millis()).expect("memory");
        out.extend_from_slice(text);
        out.extend_from_slice(b"\"}");
        gzip.advance();
    }
    gzip.text().extend_from_slice(b"]}");
    gzip.finish(scratch)
}

/// `[tag, bin, {"size": n, "compressed": "gzip", "chunk": id}]`; each entry `[EventTime, {"log": line}]`.
fn forward(tag: &str, batch: &mut Batch) -> Vec<u8> {
    let mut entries = Vec::with_capacity(batch.bytes());
    let mut count = 0u32;
    for (event, text) in batch.events() {
        count += 1;
        let (seconds, nanos) =
            (event.at.as_millis().div_euclid(1000), event.at.as_millis().rem_euclid(1000) * 1_000_000);
        entries.extend_from_slice(&[0x92, 0xd7, 0x00]);
        entries.extend_from_slice(&(seconds as u32).to_be_bytes());
        entries.extend_from_slice(&(nanos as u32).to_be_bytes());
        entries.extend_from_slice(b"\x81\xa3log");
        sized(0xd9, text, &mut entries);
    }
    let packed = Gzip::whole(&entries);
    let mut message = vec![0x93];
    sized(0xd9, tag.as_bytes(), &mut message);
    // Binary: c4, c5, c6 for one, two, four bytes of length.
    sized(0xc4, &packed, &mut message);
    message.extend_from_slice(b"\x83\xa4size\xce");
    message.extend_from_slice(&count.to_be_bytes());
    message.extend_from_slice(b"\xaacompressed\xa4gzip\xa5chunk");
    // The id that the server repeats: as good as unique, for it is made of the content.
    let id = format!("{:08x}{:08x}", crc32fast::hash(&packed), crc32fast::hash(&message));
    sized(0xd9, id.as_bytes(), &mut message);
    message
}

/// The id that a message made by [`Codec::Forward`] wants to be acknowledged by.
pub fn forward_chunk(message: &[u8]) -> &[u8] {
    &message[message.len().saturating_sub(16)..]
}

/// A MessagePack string or binary; `first` is the kind's byte for a length of one byte.
fn sized(first: u8, bytes: &[u8], out: &mut Vec<u8>) {
    match bytes.len() {
        length @ 0..=0xff => out.extend_from_slice(&[first, length as u8]),
        length @ 0x100..=0xffff => {
            out.push(first + 1);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(first + 2);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use service::metrics::Metrics;
    use telemetry::Timestamp;
    use telemetry::log_record::Level;

    use super::*;
    use crate::pipeline::account::Account;

    fn batch(lines: &[(&str, i64)]) -> Batch {
        let mut batch = Batch::new(&Account::of_logs(&Metrics::new(), "test"));
        for (line, at) in lines {
            batch.add(&Limits::CLOUDWATCH, line.as_bytes(), Timestamp(*at), Level::Info, 1);
        }
        batch
    }

    fn unpacked(body: &[u8]) -> Value {
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(body).read_to_end(&mut text).expect("gzip");
        serde_json::from_slice(&text).expect("JSON")
    }

    #[test]
    fn events_stand_in_order_of_time_and_can_be_halved() {
        let codec =
            Codec::cloudwatch("/app/\"x\"", "s", Some(&serde_json::json!({"keyAttributes": {"Type": "Service"}})));
        let body = codec.encode(&mut batch(&[("b\"\n", 2), ("a", 1), ("c", 3)]), &mut Scratch::default());
        let event = |at: i64, message: &str| serde_json::json!({"timestamp": at, "message": message});
        let whole = unpacked(&body);
        assert_eq!(whole["logGroupName"], "/app/\"x\"");
        assert_eq!(whole["entity"]["keyAttributes"]["Type"], "Service");
        assert_eq!(whole["logEvents"], serde_json::json!([event(1, "a"), event(2, "b\"\n"), event(3, "c")]));
        let head = FrameHead { events: 3, units: vec![1, 2, 1] };
        let ((first, first_head), (second, second_head)) = codec.halve(&body, &head).expect("three events");
        assert_eq!(unpacked(&first)["logEvents"], serde_json::json!([event(1, "a"), event(2, "b\"\n")]));
        assert_eq!(unpacked(&second)["logEvents"], serde_json::json!([event(3, "c")]));
        assert_eq!(codec.halve(&second, &second_head), None, "one event");
        assert_eq!((first_head.units, second_head.units), (vec![1, 2], vec![1]));
    }

    #[test]
    fn a_forward_message_ends_with_the_id_it_wants_back() {
        let body = Codec::Forward { tag: "app".into() }
            .encode(&mut batch(&[("x", 1_705_314_600_250)]), &mut Scratch::default());
        assert!(body.starts_with(b"\x93\xd9\x03app\xc4"), "{body:02x?}");
        assert_eq!(forward_chunk(&body).len(), 16);
        assert!(forward_chunk(&body).iter().all(u8::is_ascii_hexdigit));
    }
}
