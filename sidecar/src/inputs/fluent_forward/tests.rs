//! A connection, from bytes to records.

use service::task;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::pipeline::intake;
use crate::recent::Recent;

struct Setup {
    client: DuplexStream,
    served: tokio::task::JoinHandle<()>,
    recent: Recent,
    refused: Counter,
    stop: Stop,
}

fn connect() -> Setup {
    let recent = Recent::new(Default::default());
    let (intake, _) = intake::testing::intake(intake::testing::config(), recent.clone());
    let refused = Counter::default();
    let connection = Connection { intake, open: Gauge::default(), refused: refused.clone() };
    let (client, server) = tokio::io::duplex(64);
    let stop = Stop::default();
    let served = task::spawn("connection", connection.serve(server, stop.clone()));
    Setup { client, served, recent, refused, stop }
}

/// The messages of the records that were taken in, in order.
fn messages(recent: &Recent) -> Vec<String> {
    let message = |line: &String| {
        let json: serde_json::Value = serde_json::from_str(line).expect("JSON");
        json["message"].as_str().expect("text").to_owned()
    };
    recent.last(None, None, 100).0.iter().map(message).collect()
}

/// A message as Fargate's log driver writes one: time 1, the pairs, no options.
fn event(pairs: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[0xd9, text.len() as u8], text.as_bytes()].concat();
    let mut message = [&[0x94][..], &text("app"), &[0x01, 0x80 | pairs.len() as u8]].concat();
    for (key, value) in pairs {
        message.extend(text(key));
        message.extend(text(value));
    }
    message.push(0x80);
    message
}

#[tokio::test]
async fn lines_are_taken_however_the_bytes_are_cut_and_pieces_are_joined() {
    let Setup { mut client, served, recent, .. } = connect();
    let piece =
        |text, last| event(&[("log", text), ("partial_message", "true"), ("partial_id", "a"), ("partial_last", last)]);
    let bytes = [
        event(&[("log", "first"), ("source", "stdout")]),
        vec![0xc0],
        piece("a long ", "false"),
        event(&[("log", "between")]),
        piece("line", "true"),
        event(&[("msg", "structured")]),
        piece("never finished", "false"),
    ]
    .concat();
    for byte in bytes {
        client.write_all(&[byte]).await.expect("read");
    }
    drop(client);
    served.await.expect("ends with the stream");
    assert_eq!(messages(&recent), ["first", "between", "a long line", "structured", "never finished"]);
}

/// The same with the driver's form of time.
fn driven(pairs: &[(&str, &str)]) -> Vec<u8> {
    let message = event(pairs);
    let (tag, rest) = message.split_at(6);
    [tag, b"\xd7\x00\x65\xa5\x09\x40\x00\x00\x00\x00", &rest[1..]].concat()
}

#[tokio::test]
async fn lines_that_come_at_once_go_to_their_streams_in_order() {
    let recent = Recent::new(Default::default());
    let (intake, metrics) = intake::testing::intake(intake::testing::config(), recent.clone());
    let line = |text: &str, source: &str| driven(&[("log", text), ("source", source)]);
    let piece = |text, last| driven(&[("log", text), ("partial_message", "true"), ("partial_last", last)]);
    let bytes = [
        line("1 out", "stdout"),
        line("2 out", "stdout"),
        line("3 err", "stderr"),
        piece("4 in ", "false"),
        piece("pieces", "true"),
        line("5 out", "stdout"),
        driven(&[("source", "stdout")]),
    ];
    let (whole, mut lines, mut taken, mut counts) = (bytes.concat(), Lines::default(), 0, Vec::new());
    while let Some((length, count)) = lines.add_driven(&intake, &whole[taken..]) {
        taken += length;
        counts.push(count);
    }
    assert_eq!((&counts[..], whole.len() - taken), (&[2, 1, 1, 1, 1][..], bytes[6].len()), "the last is no line");
    assert_eq!(messages(&recent), ["1 out", "2 out", "3 err", "4 in pieces", "5 out"]);
    let sources: Vec<String> = recent.last(None, None, 100).0;
    let of = |source: &str| sources.iter().filter(|line| line.contains(&format!("\"source\":\"{source}\""))).count();
    assert_eq!((of("stdout"), of("stderr")), (3, 1));
    assert_eq!(intake.balance().received, 5);
    assert!(metrics.expose().contains("sidecar_log_records_total{level=\"info\",container=\"app\"} 5\n"));
}

#[tokio::test]
async fn a_message_that_asks_for_it_is_acknowledged_when_it_was_taken() {
    let Setup { mut client, recent, .. } = connect();
    // ["app", [[1, {"log": "x"}]], {"chunk": "id"}]
    let message =
        [&[0x93, 0xa3][..], b"app", &[0x91, 0x92, 0x01, 0x81, 0xa3], b"log\xa1x", &[0x81, 0xa5], b"chunk\xa2id"];
    client.write_all(&message.concat()).await.expect("read");
    let mut answer = [0; 8];
    client.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"\x81\xa3ack\xa2id");
    assert_eq!(messages(&recent), ["x"]);
}

#[tokio::test]
async fn what_is_no_message_is_counted_and_what_is_no_messagepack_ends_the_connection() {
    let Setup { mut client, served, recent, refused, .. } = connect();
    client.write_all(&[0x92, 0x01, 0x02]).await.expect("read");
    client.write_all(&event(&[("log", "after")])).await.expect("read");
    client.write_all(&[0xc1]).await.expect("read");
    served.await.expect("ends");
    assert_eq!((messages(&recent), refused.get()), (vec!["after".to_owned()], 1));
}

#[tokio::test]
async fn a_message_that_announces_too_much_ends_the_connection() {
    let Setup { mut client, served, .. } = connect();
    client.write_all(&[0x92, 0xdb, 0x7f, 0xff, 0xff, 0xff]).await.expect("read");
    served.await.expect("ends");
}

#[tokio::test(start_paused = true)]
async fn after_the_order_to_stop_a_connection_is_read_until_it_is_quiet() {
    let Setup { mut client, served, recent, stop, .. } = connect();
    stop.when_quiet.request();
    // The driver lingers behind a container that has ended.
    tokio::time::sleep(STOP_LINGER - Duration::from_millis(500)).await;
    client.write_all(&event(&[("log", "late")])).await.expect("still read");
    tokio::time::sleep(STOP_QUIET - Duration::from_millis(100)).await;
    assert!(!served.is_finished());
    served.await.expect("ends by itself");
    assert_eq!(messages(&recent), ["late"]);
}
