use super::*;
use crate::histogram::CounterResetHint;
use proptest::prelude::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn histogram() -> Histogram {
    Histogram {
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: 2.0,
        count: 12.0,
        sum: -3.5,
        positive: vec![(-2, 1.0), (-1, 4.0), (7, 2.0)],
        negative: vec![(0, 3.0)],
        counter_reset_hint: CounterResetHint::NotCounterReset,
        custom_values: Vec::new(),
    }
}

/// Everything that a request can hold comes out as it went in.
fn round_trip(message: Message) {
    let up = labels(&[("__name__", "up"), ("job", "a"), ("instance", "b")]);
    let latency = labels(&[("__name__", "latency_seconds"), ("job", "a")]);
    let start = (message == Message::V2).then_some(Timestamp(5));
    let points =
        [Point { start, ..Point::new(Timestamp(1_700_000_000_123), 1.5) }, Point::new(Timestamp(-7), f64::INFINITY)];
    let exemplars = [Exemplar { labels: labels(&[("trace_id", "abc")]), value: 0.25, timestamp: Some(Timestamp(99)) }];
    let float = Histogram { count: 12.5, zero_count: 2.5, ..histogram() };
    let custom = Histogram {
        schema: -53,
        count: 3.0,
        positive: vec![(0, 1.0), (2, 2.0)],
        custom_values: vec![0.1, 5.0],
        ..Histogram::default()
    };
    let histograms = [(Timestamp(1), &histogram()), (Timestamp(2), &float), (Timestamp(3), &custom)];
    let metadata = Metadata { kind: MetricKind::Histogram, help: "Latency.", unit: "seconds" };

    let mut encoder = Encoder::new(message);
    assert!(encoder.is_empty());
    encoder.series(&TimeSeries::of_samples(&up, &points));
    encoder.series(&TimeSeries {
        labels: &latency,
        samples: &[],
        histograms: &histograms,
        exemplars: &exemplars,
        metadata: Some(metadata),
    });
    encoder.metadata("latency_seconds", &metadata);
    let body = encoder.finish();

    let limits = Limits::default();
    let bytes = decompress(&body, &limits).unwrap();
    let mut decoder = Decoder::new(message, &bytes, &limits).unwrap();
    let first = decoder.next_series().unwrap().unwrap();
    assert_eq!(first.to_labels().unwrap(), up);
    assert_eq!(first.samples, points);
    let second = decoder.next_series().unwrap().unwrap();
    assert_eq!(second.to_labels().unwrap(), latency);
    assert_eq!(second.samples, []);
    assert_eq!(second.exemplars, exemplars);
    let read: Vec<_> = second.histograms.iter().map(|h| (h.timestamp, h.histogram.clone().unwrap())).collect();
    assert_eq!(read, histograms.map(|(timestamp, histogram)| (timestamp, histogram.clone())));
    assert_eq!(second.metadata, (message == Message::V2).then_some(metadata));
    assert!(decoder.next_series().unwrap().is_none());
    let families = [("latency_seconds", metadata)];
    assert_eq!(decoder.metadata(), if message == Message::V1 { &families[..] } else { &[] });
}

/// The message before compression.
fn plain(encoder: Encoder) -> Vec<u8> {
    decompress(&encoder.finish(), &Limits::default()).expect("snappy")
}

#[test]
fn a_request_of_1_0_comes_out_as_it_went_in() {
    round_trip(Message::V1);
}

#[test]
fn a_request_of_2_0_comes_out_as_it_went_in() {
    round_trip(Message::V2);
}

/// One sample of `up{job="a"}`, 1 at 1000 ms, by the field numbers of remote.proto and types.proto.
#[test]
fn a_message_of_1_0_has_the_bytes_of_the_specification() {
    let mut encoder = Encoder::new(Message::V1);
    let up = labels(&[("__name__", "up"), ("job", "a")]);
    encoder.series(&TimeSeries::of_samples(&up, &[Point::new(Timestamp(1_000), 1.0)]));
    let expected = b"\x0a\x28\x0a\x0e\x0a\x08__name__\x12\x02up\x0a\x08\x0a\x03job\x12\x01a\x12\x0c\x09\0\0\0\0\0\0\xf0\x3f\x10\xe8\x07";
    assert_eq!(plain(encoder), expected);
}

#[test]
fn the_first_symbol_is_empty_and_none_stands_twice() {
    let mut encoder = Encoder::new(Message::V2);
    for value in ["a", "b", "a"] {
        let labels = labels(&[("__name__", "a"), ("job", value)]);
        encoder.series(&TimeSeries::of_samples(&labels, &[Point::new(Timestamp(1), 1.0)]));
    }
    let bytes = plain(encoder);
    let mut reader = crate::protobuf::Reader::new(&bytes);
    let mut symbols = Vec::new();
    while let Some((number, field)) = reader.next().unwrap() {
        if number == 4 {
            symbols.push(std::str::from_utf8(field.message(&reader).unwrap().bytes()).unwrap().to_owned());
        }
    }
    assert_eq!(symbols, ["", "__name__", "a", "job", "b"]);
}

#[test]
fn unsound_labels_are_a_fault_of_their_series_alone() {
    let encode = |pairs: &[(&str, &str)]| {
        let mut w = crate::protobuf::Writer::default();
        for pairs in [pairs, &[("__name__", "sound")]] {
            w.message(1, |w| {
                for (name, value) in pairs {
                    w.message(1, |w| {
                        w.text(1, name);
                        w.text(2, value);
                    });
                }
            });
        }
        w.out
    };
    for (pairs, fault) in [
        (&[("job", "a")][..], LabelFault::NoMetricName(r#"{job="a"}"#.to_owned())),
        (&[("__name__", "x"), ("a", "1"), ("b", ""), ("a", "2")], LabelFault::Duplicate("a".to_owned())),
        (&[("__name__", "x"), ("", "1")], LabelFault::EmptyName(r#"x{""="1"}"#.to_owned())),
    ] {
        let bytes = encode(pairs);
        let mut decoder = Decoder::new(Message::V1, &bytes, &Limits::default()).unwrap();
        assert_eq!(decoder.next_series().unwrap().unwrap().to_labels(), Err(fault));
        let sound = decoder.next_series().unwrap().unwrap().to_labels().unwrap();
        assert_eq!(sound.to_string(), "sound");
    }
}

#[test]
fn references_to_nowhere_are_a_fault_of_their_series() {
    let encode = |references: &[u64]| {
        let mut w = crate::protobuf::Writer::default();
        ["", "__name__", "up"].iter().for_each(|symbol| w.text_always(4, symbol));
        w.message(5, |w| w.packed_uints(1, references.iter().copied()));
        w.out
    };
    for (references, expected) in [
        (&[1, 2][..], Ok("up")),
        (&[1, 2, 1], Err(LabelFault::OddReferences)),
        (&[1, 3], Err(LabelFault::UnknownSymbol(3))),
    ] {
        let bytes = encode(references);
        let mut decoder = Decoder::new(Message::V2, &bytes, &Limits::default()).unwrap();
        let labels = decoder.next_series().unwrap().unwrap().to_labels();
        assert_eq!(labels.map(|labels| labels.to_string()), expected.map(str::to_owned));
    }
}

#[test]
fn limits_hold_before_memory_is_taken() {
    let limits = Limits { message_bytes_max: 1_000, series_max: 2, labels_per_series_max: 2, ..Limits::default() };
    // 60 compressed bytes that claim to be 4 GiB.
    let bomb = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0; 55]].concat();
    assert!(matches!(decompress(&bomb, &limits), Err(e) if e.is_too_large()));
    assert!(matches!(decompress(b"\x80", &limits), Err(DecodeError::Snappy(_))));

    let mut encoder = Encoder::new(Message::V1);
    let few = labels(&[("__name__", "up")]);
    (0..3).for_each(|_| encoder.series(&TimeSeries::of_samples(&few, &[])));
    let bytes = plain(encoder);
    let mut decoder = Decoder::new(Message::V1, &bytes, &limits).unwrap();
    assert!(decoder.next_series().unwrap().is_some() && decoder.next_series().unwrap().is_some());
    assert_eq!(decoder.next_series().unwrap_err(), DecodeError::TooMany { what: "series", max: 2 });

    for message in [Message::V1, Message::V2] {
        let mut encoder = Encoder::new(message);
        encoder.series(&TimeSeries::of_samples(&labels(&[("__name__", "up"), ("a", "1"), ("b", "2")]), &[]));
        let bytes = plain(encoder);
        let mut decoder = Decoder::new(message, &bytes, &limits).unwrap();
        assert_eq!(decoder.next_series().unwrap_err(), DecodeError::TooMany { what: "labels of a series", max: 2 });
    }
}

#[test]
fn an_unsound_histogram_is_a_fault_of_its_own() {
    let unsound = Histogram { count: 1.0, ..histogram() };
    let name = labels(&[("__name__", "h")]);
    let mut encoder = Encoder::new(Message::V1);
    let sound = histogram();
    let histograms = [(Timestamp(1), &unsound), (Timestamp(2), &sound)];
    encoder.series(&TimeSeries { histograms: &histograms, ..TimeSeries::of_samples(&name, &[]) });
    let bytes = plain(encoder);
    let mut decoder = Decoder::new(Message::V1, &bytes, &Limits::default()).unwrap();
    let series = decoder.next_series().unwrap().unwrap();
    assert_eq!(series.histograms[0].histogram, Err(HistogramFault::Sum { buckets: 12.0, count: 1.0 }));
    assert_eq!(series.histograms[1].histogram, Ok(sound));
}

#[test]
fn content_types_name_the_message() {
    for (content_type, expected) in [
        ("application/x-protobuf", Some(Message::V1)),
        ("application/x-protobuf;proto=prometheus.WriteRequest", Some(Message::V1)),
        ("application/x-protobuf;proto=io.prometheus.write.v2.Request", Some(Message::V2)),
        ("Application/X-Protobuf; charset=utf-8; proto=\"io.prometheus.write.v2.Request\"", Some(Message::V2)),
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", None),
        ("application/json", None),
        ("", None),
    ] {
        assert_eq!(Message::from_content_type(content_type).ok(), expected, "{content_type}");
    }
}

proptest! {
    #[test]
    fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for message in [Message::V1, Message::V2] {
            let limits = Limits { message_bytes_max: 1 << 16, ..Limits::default() };
            let _ = decompress(&bytes, &limits);
            if let Ok(mut decoder) = Decoder::new(message, &bytes, &limits) {
                while let Ok(Some(series)) = decoder.next_series() {
                    let _ = series.to_labels();
                }
            }
        }
    }
}
