use super::*;
use crate::protobuf::Writer;
use proptest::prelude::*;

fn delimited(message: Writer) -> Vec<u8> {
    let mut out = Writer::default();
    out.varint(message.out.len() as u64);
    out.out.extend(message.out);
    out.out
}

fn label(w: &mut Writer, name: &str, value: &str) {
    w.message(1, |w| {
        w.text(1, name);
        w.text(2, value);
    });
}

#[test]
fn every_kind_is_read_as_from_text() {
    let mut counter = Writer::default();
    counter.text(1, "jobs_total");
    counter.text(2, "Jobs.");
    counter.message(4, |w| {
        label(w, "queue", "a");
        w.message(3, |w| {
            w.double(1, 7.0);
            w.message(2, |w| {
                label(w, "trace_id", "ab");
                w.double(2, 1.5);
                w.message(3, |w| {
                    w.uint(1, 12);
                    w.uint(2, 500_000_000);
                });
            });
        });
        w.uint(6, 9000);
    });
    let mut histogram = Writer::default();
    histogram.text(1, "wait");
    histogram.uint(3, 4);
    histogram.message(4, |w| {
        w.message(7, |w| {
            w.uint(1, 3);
            w.double(2, 4.5);
            w.message(3, |w| {
                w.uint(1, 2);
                w.double(2, 0.5);
            });
        });
    });
    let mut summary = Writer::default();
    summary.text(1, "size");
    summary.uint(3, 2);
    summary.message(4, |w| {
        w.message(4, |w| {
            w.uint(1, 2);
            w.double(2, 20.0);
            w.message(3, |w| {
                w.double(1, 0.5);
                w.double(2, 8.0);
            });
        });
    });
    let mut gauge = Writer::default();
    gauge.text(1, "temp");
    gauge.uint(3, 1);
    gauge.message(4, |w| w.message(2, |w| w.double(1, -1.5)));
    let body = [counter, histogram, summary, gauge].map(delimited).concat();
    let read = parse(&body).expect("a body");
    let text = "# HELP jobs Jobs.\n# TYPE jobs counter\n\
        jobs_total{queue=\"a\"} 7 9 # {trace_id=\"ab\"} 1.5 12.5\n\
        # TYPE wait histogram\nwait_bucket{le=\"0.5\"} 2\nwait_bucket{le=\"+Inf\"} 3\nwait_sum 4.5\nwait_count 3\n\
        # TYPE size summary\nsize{quantile=\"0.5\"} 8\nsize_sum 20\nsize_count 2\n\
        # TYPE temp gauge\ntemp -1.5\n# EOF\n";
    let of_text = super::super::parse(text, super::super::Format::OpenMetrics).expect("text");
    assert_eq!(read, Exposed { families: of_text, reduced: 0 });
}

#[test]
fn of_a_native_histogram_count_and_sum_remain() {
    let mut native = Writer::default();
    native.text(1, "wait");
    native.uint(3, 4);
    native.message(4, |w| {
        w.message(7, |w| {
            w.uint(1, 3);
            w.double(2, 4.5);
            w.uint(5, 6);
            w.double(6, 0.001);
            w.message(12, |w| w.uint(2, 1));
            w.packed_uints(13, [6]);
        });
    });
    let read = parse(&delimited(native)).expect("a body");
    assert_eq!(read.reduced, 1);
    let values: Vec<(String, f64)> =
        read.families[0].samples.iter().map(|s| (format!("{}{}", s.name, s.labels), s.value)).collect();
    let expected = [("wait_bucket{le=\"+Inf\"}", 3.0), ("wait_sum{}", 4.5), ("wait_count{}", 3.0)];
    assert_eq!(values, expected.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn a_counter_of_nothing_but_the_suffix_keeps_its_name() {
    let mut counter = Writer::default();
    counter.text(1, "_total");
    counter.message(4, |w| w.message(3, |w| w.double(1, 1.0)));
    let read = parse(&delimited(counter)).expect("a body");
    let of_text = super::super::parse("# TYPE _total counter\n_total 1\n", super::super::Format::Prometheus);
    assert_eq!(read.families[0].name, "_total");
    assert_eq!(Ok(read.families), of_text);
}

#[test]
fn only_this_message_is_the_format() {
    assert!(is_content_type(CONTENT_TYPE));
    assert!(is_content_type("application/vnd.google.protobuf"));
    assert!(!is_content_type("application/vnd.google.protobuf; proto=other.Message; encoding=delimited"));
    assert!(!is_content_type("text/plain; version=0.0.4"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&body);
    }
}

const BOTH: Wanted = Wanted { native: true, classic_beside_native: true };

/// Of family `wait`: three observations in (1, 2], one classic bucket.
fn both_at_once(w: &mut Writer) {
    w.text(1, "wait");
    w.uint(3, 4);
    w.message(4, |w| {
        label(w, "q", "a");
        w.message(7, |w| {
            w.uint(1, 3);
            w.double(2, 4.5);
            w.message(3, |w| {
                w.uint(1, 3);
                w.double(2, 2e6);
            });
            w.message(12, |w| {
                w.sint(1, 1);
                w.uint(2, 2);
            });
            w.packed_sints(13, [3, -3]);
        });
    });
}

#[test]
fn a_body_becomes_text_and_native_histograms() {
    let mut family = Writer::default();
    both_at_once(&mut family);
    let body = delimited(family);
    let (text, native) = to_text(&body, BOTH, 1 << 10).expect("a body");
    assert_eq!(
        text,
        "# TYPE wait histogram\nwait_bucket{q=\"a\",le=\"2e+06\"} 3.0\nwait_bucket{q=\"a\",le=\"+Inf\"} 3.0\n\
         wait_sum{q=\"a\"} 4.5\nwait_count{q=\"a\"} 3.0\n# EOF\n"
    );
    // The second bucket is empty.
    let histogram = crate::Histogram { count: 3.0, sum: 4.5, positive: vec![(1, 3.0)], ..crate::Histogram::default() };
    let series = "wait{q=\"a\"}".to_owned();
    assert_eq!(native, [NativeSample { series, timestamp: None, histogram, exemplars: Vec::new() }]);

    let native_alone = Wanted { classic_beside_native: false, ..BOTH };
    assert_eq!(to_text(&body, native_alone, 1 << 10).expect("a body").0, "# TYPE wait histogram\n# EOF\n");
    let none = Wanted { native: false, ..native_alone };
    let (of_classic, native) = to_text(&body, none, 1 << 10).expect("a body");
    assert_eq!((of_classic, native), (text, Vec::new()));
}

#[test]
fn a_few_bytes_do_not_become_much_text() {
    let mut family = Writer::default();
    family.text(1, &"x".repeat(1000));
    (0..1000).for_each(|_| family.message(4, |w| w.message(2, |_| ())));
    let body = delimited(family);
    assert!(body.len() < 10_000);
    assert_eq!(to_text(&body, BOTH, 100_000), Err(TextFault::TooLong { max: 100_000 }));
    assert!(to_text(&body, BOTH, 10_000_000).is_ok());
    // The same within one histogram.
    let mut family = Writer::default();
    family.text(1, &"x".repeat(1000));
    family.message(4, |w| w.message(7, |w| (0..1000).for_each(|_| w.message(3, |_| ()))));
    assert_eq!(to_text(&delimited(family), BOTH, 100_000), Err(TextFault::TooLong { max: 100_000 }));
}

proptest! {
    #[test]
    fn no_bytes_make_text_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = to_text(&body, BOTH, 1 << 16);
    }
}
