//! Log lines and what carries them.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use sidecar::inputs::firelens::FireLens;
use sidecar::inputs::fluent_forward::decode::{Driven, decode};
use sidecar::outputs::gzip as encoder;
use sidecar::pipeline::parse::{Additions, Author, Scratch, parse};
use sidecar::pipeline::partials::{Partials, Piece};
use sidecar::pipeline::redact::{Patterns, redact};
use telemetry::Timestamp;
use telemetry::log_record::LogRecord;

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "logs_forward", run: forward, seeds: FORWARD },
    Target { name: "logs_partials", run: partials, seeds: PARTIALS },
    Target { name: "logs_line", run: line, seeds: LINES },
    Target { name: "logs_gzip", run: gzip, seeds: TEXTS },
    Target { name: "logs_firelens", run: firelens, seeds: FIRELENS },
];

const FORWARD: &[&[u8]] = &[
    b"\x94\xa3app\xd7\x00\x65\xa5\x00\x00\x00\x00\x00\x01\x82\xa3log\xa1x\xa6source\xa6stdout\x80",
    b"\x93\xa3app\x91\x92\x01\x81\xa3log\xa1x\x81\xa5chunk\xa2id",
    b"\x93\xa3app\xc4\x08\x92\x01\x81\xa3log\xa1x\x80",
    b"\xc0",
];
const PARTIALS: &[&[u8]] = &[b"\x01first\x00\x81second\x00\x41third"];
const LINES: &[&[u8]] = &[
    br#"{"timestamp":"2024-01-15T10:30:00.000Z","level":"info","service":"s","version":"1","environment":"e","message":"m","trace_id":"0af7651916cd43dd8448eb211c80319c","data":{"a":[1,{"b":null}]}}"#,
    br#"{"level":50,"time":1705314600123,"msg":"m","fields":{"message":"x"},"data":{},"traceId":"1-5759e988-bd862e3fe1be46a994272793"}"#,
    br#"time="2024-01-15T10:30:00Z" level=warning msg="a \"b\"" n=3"#,
    b"2024-01-15 10:30:00,123 ERROR password=x 4111 1111 1111 1111",
];
const TEXTS: &[&[u8]] = &[
    b"\x7f\x03{\"level\":\"info\",\"message\":\"order 1 accepted\"}{\"level\":\"info\",\"message\":\"order 2 accepted\"}",
    b"\x01\xffxxxxxxxxxxxxxxxx yyyyyyyyyyyyyyyy xxxxxxxxxxxxxxxx",
];
const FIRELENS: &[&[u8]] = &[include_bytes!("../../../sidecar/tests/testdata/firelens/fluent-bit.conf")];

fn forward(data: &[u8]) {
    // What is read in one walk is what the general way makes of it.
    if let Some(Driven { tag, time, fields, length }) = Driven::read(data) {
        let wants = decode(&data[..length], |of, event| {
            assert_eq!((of, event.time, event.log_fields()), (tag, time, fields));
        });
        assert!(wants.is_ok_and(|wants| wants.ack.is_none()));
    }
    let _ = decode(data, |_, event| drop(event.to_json()));
}

/// Each piece: a byte for id, source and whether it is the last, then text up to a zero.
fn partials(data: &[u8]) {
    let (mut joined, mut given, mut taken) = (Partials::default(), 0, 0);
    for piece in data.split(|b| *b == 0).filter(|piece| !piece.is_empty()) {
        let (head, text) = (piece[0], &piece[1..]);
        let source: &[u8] = if head & 1 == 0 { b"stdout" } else { b"stderr" };
        given += text.len();
        let piece = Piece { id: &[head & 0x3e], source, last: head & 0x40 != 0, text, time: Timestamp(0) };
        taken += joined.add(piece).iter().map(|line| line.text.len()).sum::<usize>();
    }
    taken += joined.finish().iter().map(|line| line.text.len()).sum::<usize>();
    assert!(taken == given || given > 1 << 20, "{taken} of {given} bytes came out");
}

/// Whatever comes, a record leaves that every reader can read.
fn line(data: &[u8]) {
    let author = Author { service: "s".into(), version: "1".into(), environment: "e".into() };
    let additions = Additions { members: b",\"container_name\":\"app\"".to_vec(), xray: true };
    let mut out = Vec::new();
    if parse(data, &author, Timestamp(0), &additions, &mut Scratch::default(), &mut out).is_some() {
        let text = std::str::from_utf8(&out).expect("UTF-8");
        let patterns = Patterns { tokens: true, cards: true, email: true };
        let struck = redact(&out, patterns).map(|(struck, _)| String::from_utf8(struck).expect("UTF-8"));
        for text in [Some(text), struck.as_deref()].into_iter().flatten() {
            let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
            assert!(json.get("_aws").is_some() || serde_json::from_value::<LogRecord>(json).is_ok(), "{text}");
        }
    }
}

/// Whatever is compressed is what others unpack: the text after two bytes, over and over, in pieces; so much of it that the
/// window moves on.
fn gzip(data: &[u8]) {
    let Some(([piece, times], text)) = data.split_first_chunk::<2>() else { return };
    let text = text.repeat(1 + usize::from(*times));
    let text = &text[..text.len().min(300_000)];
    let mut scratch = encoder::Scratch::default();
    let mut gzip = encoder::Gzip::new(text.len(), &mut scratch);
    for piece in text.chunks(1 + 100 * usize::from(*piece)) {
        gzip.text().extend_from_slice(piece);
        gzip.advance();
    }
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&gzip.finish(&mut scratch)[..]).read_to_end(&mut unpacked).expect("gzip");
    assert!(unpacked == text, "another text came out");
}

fn firelens(data: &[u8]) {
    // Nothing is included from the disk: a fuzzer would read what it finds there.
    let text = String::from_utf8_lossy(data).replace('@', "");
    FireLens::default().read_text(&text, Path::new("f.conf"), &HashMap::new(), 0);
}
