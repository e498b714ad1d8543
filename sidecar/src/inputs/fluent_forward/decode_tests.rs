//! Messages written by hand, byte for byte as facts of the protocol have them.

use std::io::Write;

use proptest::prelude::*;

use super::*;

/// A MessagePack string of up to 255 bytes.
fn s(text: &[u8]) -> Vec<u8> {
    match text.len() {
        0..=31 => [&[0xa0 | text.len() as u8], text].concat(),
        _ => [&[0xd9, text.len() as u8], text].concat(),
    }
}

fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0x80 | pairs.len() as u8];
    for (key, value) in pairs {
        out.extend(s(key.as_bytes()));
        out.extend(value);
    }
    out
}

fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [vec![0x90 | items.len() as u8], items.concat()].concat()
}

fn bin(bytes: &[u8]) -> Vec<u8> {
    [&[0xc5, (bytes.len() >> 8) as u8, bytes.len() as u8], bytes].concat()
}

/// EventTime as Go's library writes it (fixext8), 1,705,314,600 s and 250 ms.
fn event_time() -> Vec<u8> {
    [&[0xd7, 0x00][..], &1_705_314_600_u32.to_be_bytes(), &250_000_000_u32.to_be_bytes()].concat()
}

const AT: Option<Timestamp> = Some(Timestamp(1_705_314_600_250));

fn log(text: &str) -> Vec<u8> {
    map(&[("source", s(b"stdout")), ("log", s(text.as_bytes()))])
}

type Decoded = (Vec<(String, Option<Timestamp>, String)>, Result<Wants, DecodeError>);

fn decoded(message: &[u8]) -> Decoded {
    let mut events = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let wants = decode(message, |tag, event| {
        events.push((text(tag), event.time, text(event.log_fields().log.unwrap_or(b"<none>"))));
    });
    (events, wants)
}

fn one(log: &str, time: Option<Timestamp>) -> Vec<(String, Option<Timestamp>, String)> {
    vec![("app".to_owned(), time, log.to_owned())]
}

#[test]
fn message_mode_is_what_fargate_s_log_driver_sends() {
    let message = array(&[s(b"app"), event_time(), log("hello"), map(&[])]);
    assert_eq!(decoded(&message), (one("hello", AT), Ok(Wants::default())));
}

#[test]
fn times_come_in_four_forms() {
    let seconds = [&[0xce][..], &1_705_314_600_u32.to_be_bytes()].concat();
    let ext8 = [&[0xc7, 8, 0][..], &event_time()[2..]].concat();
    let float = [&[0xcb][..], &1_705_314_600.25_f64.to_be_bytes()].concat();
    let with_metadata = array(&[event_time(), map(&[])]);
    for (time, expected) in [
        (seconds, Some(Timestamp(1_705_314_600_000))),
        (ext8, AT),
        (float, AT),
        (with_metadata, AT),
        (vec![0x00], None),
    ] {
        assert_eq!(decoded(&array(&[s(b"app"), time, log("x")])), (one("x", expected), Ok(Wants::default())));
    }
}

#[test]
fn forward_and_packed_modes_carry_many_events_and_ask_for_an_ack() {
    let entry = |text: &str| array(&[event_time(), log(text)]);
    let options = map(&[("chunk", s(b"p8n9gmxTQVC8/nh2wlKKeQ==")), ("size", vec![2])]);
    let wants = Ok(Wants { ack: Some(b"p8n9gmxTQVC8/nh2wlKKeQ==".to_vec()) });
    let both = [one("a", AT), one("b", AT)].concat();
    let forward = array(&[s(b"app"), array(&[entry("a"), entry("b")]), options.clone()]);
    assert_eq!(decoded(&forward), (both.clone(), wants.clone()));
    let packed = [entry("a"), entry("b")].concat();
    assert_eq!(decoded(&array(&[s(b"app"), bin(&packed), options])), (both.clone(), wants));

    // Two gzip members, one behind the other, as a client that appends writes them.
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    };
    let members = [gzip(&entry("a")), gzip(&entry("b"))].concat();
    let compressed = array(&[s(b"app"), bin(&members), map(&[("compressed", s(b"gzip"))])]);
    assert_eq!(decoded(&compressed), (both, Ok(Wants::default())));
}

#[test]
fn heartbeats_and_empty_messages_carry_nothing() {
    assert_eq!(decoded(&[0xc0]), (vec![], Ok(Wants::default())));
    assert_eq!(decoded(&array(&[s(b"app"), array(&[])])), (vec![], Ok(Wants::default())));
}

#[test]
fn bytes_that_are_no_text_and_values_of_other_kinds_are_survived() {
    let record = map(&[("n", vec![0x07]), ("log", s(b"caf\xff"))]);
    assert_eq!(decoded(&array(&[s(b"app"), event_time(), record])).0, one("caf\u{fffd}", AT));
    let number = map(&[("log", vec![0x07])]);
    assert_eq!(decoded(&array(&[s(b"app"), event_time(), number])).0, one("<none>", AT));
}

#[test]
fn what_cannot_be_taken_is_refused_with_the_reason() {
    let entries = [array(&[event_time(), log("a")]), array(&[event_time(), log("b")])].concat();
    let packed = zstd::encode_all(&entries[..], 1).expect("zstd");
    let zstd = array(&[s(b"app"), bin(&packed), map(&[("compressed", s(b"zstd"))])]);
    assert_eq!(decoded(&zstd).0.len(), 2);
    let large = zstd::encode_all(&vec![0xc0; 17 << 20][..], 1).expect("zstd");
    let large = array(&[s(b"app"), bin(&large), map(&[("compressed", s(b"zstd"))])]);
    assert_eq!(decoded(&large).1, Err(DecodeError::TooLarge));
    let lz4 = array(&[s(b"app"), bin(b"x"), map(&[("compressed", s(b"lz4"))])]);
    assert_eq!(decoded(&lz4).1, Err(DecodeError::Compression("lz4".to_owned())));
    let broken = array(&[s(b"app"), bin(b"x"), map(&[("compressed", s(b"gzip"))])]);
    assert_eq!(decoded(&broken).1, Err(DecodeError::NotCompressed("gzip")));
    let metrics = array(&[s(b"app"), event_time(), log("x"), map(&[("fluent_signal", vec![1])])]);
    assert_eq!(decoded(&metrics), (vec![], Err(DecodeError::NotLogs)));
    for malformed in [
        array(&[s(b"app")]),
        array(&[vec![1], event_time(), log("x")]),
        array(&[s(b"app"), event_time(), s(b"no map")]),
        array(&[s(b"app"), array(&[array(&[event_time()])])]),
        array(&[s(b"app"), array(&[s(b"x")]), log("x")]),
        s(b"app"),
        vec![],
    ] {
        assert_eq!(decoded(&malformed).1, Err(DecodeError::Malformed), "{malformed:02x?}");
    }
}

#[test]
fn a_record_of_a_library_becomes_json() {
    let nested = map(&[("msg", s(b"paid")), ("n", vec![0x07]), ("tags", array(&[s(b"a"), vec![0xc0]]))]);
    let mut json = None;
    decode(&array(&[s(b"app"), vec![1], nested]), |_, event| json = event.to_json()).expect("decodes");
    assert_eq!(json.as_deref(), Some(r#"{"msg":"paid","n":7,"tags":["a",null]}"#));
    let mut deep = [0x81, 0xa1, b'k'].repeat(DEPTH_MAX + 2);
    deep.push(0xc0);
    decode(&array(&[s(b"app"), vec![1], deep]), |_, event| json = event.to_json()).expect("decodes");
    assert_eq!(json, None);
}

#[test]
fn an_ack_is_a_map_with_the_chunk_s_id() {
    assert_eq!(ack(b"id"), [&[0x81][..], b"\xa3ack", b"\xa2id"].concat());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(decoded(&bytes));
    }

    #[test]
    fn no_damage_to_a_message_makes_it_panic(at in 0usize..60, byte in any::<u8>()) {
        let entry = array(&[event_time(), log("a")]);
        let mut message = array(&[s(b"app"), array(&[entry.clone(), entry]), map(&[("chunk", s(b"id"))])]);
        let at = at % message.len();
        message[at] = byte;
        drop(decoded(&message));
    }
}

/// What the driver's own way makes of a message, and what the general one does.
fn both_ways(message: &[u8]) -> Option<()> {
    let driven = Driven::read(message)?;
    let whole = &message[..driven.length];
    assert_eq!(Reader(message).skip(), Some(whole));
    let mut events = 0;
    let wants = decode(whole, |tag, event| {
        events += 1;
        assert_eq!((tag, event.time, event.log_fields()), (driven.tag, driven.time, driven.fields));
    });
    assert_eq!((events, wants), (1, Ok(Wants::default())));
    Some(())
}

/// As a log driver writes it; a line of 300 bytes needs two bytes for its length.
fn driven() -> Vec<u8> {
    let long = [&[0xda, 1, 44], &[b'x'; 300][..]].concat();
    let record = map(&[
        ("partial_message", s(b"true")),
        ("source", s(b"stdout")),
        ("log", long),
        ("partial_id", s(&[b'7'; 64])),
        ("source", s(b"twice")),
        ("partial_last", s(b"false")),
    ]);
    array(&[s(b"app"), event_time(), record, vec![0x80]])
}

#[test]
fn a_driver_s_message_is_read_in_one_walk_and_nothing_else_is() {
    let message = driven();
    let fields = Driven::read(&message).expect("a driver's").fields;
    assert_eq!((fields.source, fields.partial), (Some(&b"stdout"[..]), Some((&[b'7'; 64][..], false))));
    both_ways(&[&message[..], &message].concat()).expect("another behind it does not matter");
    for length in 0..message.len() {
        assert_eq!(Driven::read(&message[..length]), None, "{length} bytes");
    }
    for other in [
        array(&[s(b"app"), event_time(), log("x")]),
        array(&[s(b"app"), event_time(), log("x"), map(&[("chunk", s(b"id"))])]),
        array(&[s(b"app"), event_time(), map(&[("log", vec![7])]), vec![0x80]]),
        array(&[s(b"app"), bin(&log("x")), vec![0x80]]),
    ] {
        assert_eq!(Driven::read(&other), None);
    }
}

proptest! {
    #[test]
    fn both_ways_agree_on_whatever_comes(changes in prop::collection::vec((0usize..460, any::<u8>()), 0..4)) {
        let mut message = driven();
        for (at, byte) in changes {
            let at = at % message.len();
            message[at] = byte;
        }
        both_ways(&message);
    }
}

#[test]
fn maps_as_keys_of_maps_do_not_grow_with_every_level() {
    // {{{…{1: 2}: 2…}: 2}: 2}, thirty levels.
    let record = [&[0x81; 30][..], &[1], &[2; 30]].concat();
    let message = array(&[s(b"app"), event_time(), record]);
    let mut lines = Vec::new();
    decode(&message, |_, event| lines.extend(event.to_json())).expect("a message");
    assert_eq!(lines, [r#"{"map":2}"#]);
}
