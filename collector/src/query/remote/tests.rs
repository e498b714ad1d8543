use super::*;

fn wire(buckets: &[(u8, &str, &str, &str)]) -> Histogram {
    let buckets = buckets
        .iter()
        .map(|(closed, lower, upper, count)| (*closed, (*lower).to_owned(), (*upper).to_owned(), (*count).to_owned()));
    histogram(&WireHistogram { count: "9".to_owned(), sum: "3.5".to_owned(), buckets: buckets.collect() }).unwrap()
}

#[test]
fn buckets_with_bounds_become_the_histogram_that_they_came_from() {
    let native = Histogram {
        schema: 1,
        count: 9.0,
        sum: 3.5,
        zero_threshold: 1e-3,
        zero_count: 2.0,
        positive: vec![(0, 1.0), (1, 3.0), (5, 1.0)],
        negative: vec![(-3, 1.0), (2, 1.0)],
        ..Histogram::default()
    };
    let shown: Vec<(u8, String, String, String)> = native
        .buckets()
        .iter()
        .map(|b| (0, promql::format_value(b.lower), promql::format_value(b.upper), promql::format_value(b.count)))
        .collect();
    let back = histogram(&WireHistogram { count: "9".to_owned(), sum: "3.5".to_owned(), buckets: shown }).unwrap();
    assert_eq!(back, native);

    let custom = wire(&[(0, "-Inf", "0.5", "2"), (0, "0.5", "3", "4"), (0, "10", "+Inf", "3")]);
    assert_eq!((custom.schema, custom.custom_values), (CUSTOM_BUCKETS_SCHEMA, vec![0.5, 3.0, 10.0]));
    assert_eq!(custom.positive, [(0, 2.0), (1, 4.0), (3, 3.0)]);
    assert_eq!(wire(&[]).positive, []);
}

#[test]
fn errors_keep_their_kind() {
    for (kind, expected) in [
        ("bad_data", RemoteKind::BadData),
        ("execution", RemoteKind::Execution),
        ("timeout", RemoteKind::Timeout),
        ("internal", RemoteKind::Unavailable),
        ("", RemoteKind::Unavailable),
    ] {
        assert!(matches!(refused(kind, "why".to_owned()), QueryError::Remote { kind, .. } if kind == expected));
    }
}

#[test]
fn names_of_labels_are_escaped_in_paths() {
    assert_eq!(escaped_label("job"), "job");
    assert_eq!(escaped_label("http.status_code"), "U__http_2e_status__code");
    assert_eq!(escaped_label("1st"), "U___31_st");
    assert_eq!(seconds(Timestamp(-1_500)), "-1.500");
}
