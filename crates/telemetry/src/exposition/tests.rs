use super::*;
use crate::Timestamp;

/// Every line of a body in a short notation.
fn lines(body: &str, format: Format) -> Result<Vec<String>, ParseError> {
    let mut seen = Vec::new();
    parse_text(body, format, |line| {
        seen.push(match line {
            Line::Help { name, text } => format!("help {name}: {text:?}"),
            Line::Type { name, kind } => format!("type {name}: {}", kind.as_str()),
            Line::Unit { name, unit } => format!("unit {name}: {unit}"),
            Line::Sample(sample) => {
                let time = sample.timestamp.map(|t| format!(" @{t:?}")).unwrap_or_default();
                let exemplar = sample.exemplar.as_ref().map(|e| format!(" # {:?}", (e.labels, e.value, e.timestamp)));
                let exemplar = exemplar.unwrap_or_default();
                format!("{} {:?} = {}{time}{exemplar}", sample.name, sample.labels, sample.value)
            }
        });
    })?;
    Ok(seen)
}

#[test]
fn prometheus_text_is_read_with_its_blanks_comments_and_quoted_names() {
    let body = "# HELP go_goroutines Number of \\\\ goroutines\\n that \"exist\".\n\
        # TYPE go_goroutines \t gauge\n\
        go_goroutines 33  \t123123\n\
        # just a comment\n\
        #HELP also one\n\
        # HELP\n\
        # HELP nothing\n\
        \n\
        \ta { b = \"c\" , } +Inf\n\
        a{}1e-3\n\
        {\"http.status\",\"k 1\"=\"v\\n\\\"\\\\\\x\"} -5 -7\n\
        # HELP \"http.status\" dotted\n\
        a:b{l=\"two\nlines\"} nan";
    let expected = [
        r#"help go_goroutines: "Number of \\ goroutines\n that \"exist\".""#,
        "type go_goroutines: gauge",
        "go_goroutines [] = 33 @123123ms",
        r#"help nothing: """#,
        r#"a [("b", "c")] = inf"#,
        "a [] = 0.001",
        r#"http.status [("k 1", "v\n\"\\\\x")] = -5 @-7ms"#,
        r#"help http.status: "dotted""#,
        r#"a:b [("l", "two\nlines")] = NaN"#,
    ];
    assert_eq!(lines(body, Format::Prometheus).unwrap(), expected);
}

#[test]
fn open_metrics_is_read_with_units_exemplars_and_seconds() {
    let body = "# HELP a_seconds say \\\"hi\\\"\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
        a_seconds_bucket{le=\"1.0\"} 2 1.001 # {trace_id=\"ab\"} 0.5 1520879607.789\n\
        a_seconds_bucket{le=\"+Inf\",} 3 # {} 4\n\
        {\"x.y\"} 1 -0.5\n# EOF\n";
    let expected = [
        r#"help a_seconds: "say \"hi\"""#,
        "type a_seconds: histogram",
        "unit a_seconds: seconds",
        r#"a_seconds_bucket [("le", "1.0")] = 2 @1001ms # ([("trace_id", "ab")], 0.5, Some(1520879607789ms))"#,
        r#"a_seconds_bucket [("le", "+Inf")] = 3 # ([], 4.0, None)"#,
        "x.y [] = 1 @-500ms",
    ];
    assert_eq!(lines(body, Format::OpenMetrics).unwrap(), expected);
    assert_eq!(lines("# EOF", Format::OpenMetrics).unwrap(), [""; 0]);
}

#[test]
fn the_series_text_is_the_name_and_labels_as_they_stand() {
    for (body, series) in [("a 1", "a"), ("a\t{b=\"1\"}\t2\n", "a\t{b=\"1\"}"), ("{\"é\",x=\"}\"}3", "{\"é\",x=\"}\"}")]
    {
        let mut parser = Parser::new(body, Format::Prometheus);
        match parser.next_line().unwrap() {
            Some(Line::Sample(sample)) => assert_eq!(sample.series, series),
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    use Format::{OpenMetrics, Prometheus};
    for (body, format, expected) in [
        ("a 1\nb\n", Prometheus, "line 2: expected a number, found \"\""),
        ("a 1 2 3\n", Prometheus, "line 1: expected the end of the line, found \"3\""),
        ("a 1 1.5\n", Prometheus, "line 1: expected a timestamp, found \"1.5\""),
        ("a 0x1p-3\n", Prometheus, "line 1: expected a number, found \"0x1p-3\""),
        ("a 1_0\n", Prometheus, "line 1: expected a number, found \"1_0\""),
        ("\n\n0a 1\n", Prometheus, "line 3: expected a metric name, found \"0a 1\""),
        ("a{b=\"c} 1\n", Prometheus, "line 1: unterminated quoted string"),
        ("a{b=c} 1\n", Prometheus, "line 1: expected the quoted value of label b, found \"c} 1\""),
        ("a{b 1\n", Prometheus, "line 1: expected = after label b, found \"1\""),
        ("a{b=\"1\"c=\"2\"} 1\n", Prometheus, "line 1: expected , or }, found \"c=\\\"2\\\"} 1\""),
        ("a{b=\"1\",b=\"2\"} 1\n", Prometheus, "line 1: label \"b\" appears twice"),
        ("a{\"b\"} 1\n", Prometheus, "line 1: a second metric name \"b\" in braces"),
        ("{b=\"c\"} 1\n", Prometheus, "line 1: expected a metric name, found only labels"),
        ("# TYPE a info\n", Prometheus, "line 1: invalid metric type \"info\""),
        ("# TYPE a\n", Prometheus, "line 1: invalid metric type \"\""),
        ("# TYPE a untyped\n# EOF\n", OpenMetrics, "line 1: invalid metric type \"untyped\""),
        ("a 1\n", OpenMetrics, "line 2: the body does not end with # EOF"),
        ("", OpenMetrics, "line 1: the body does not end with # EOF"),
        ("# EOF\na 1\n", OpenMetrics, "line 2: expected nothing after # EOF, found \"a 1\""),
        ("\na 1\n# EOF\n", OpenMetrics, "line 1: expected a metric name, found the end of the line"),
        ("a  1\n# EOF\n", OpenMetrics, "line 1: expected a number, found \"\""),
        ("a 1 NaN\n# EOF\n", OpenMetrics, "line 1: expected a timestamp, found \"NaN\""),
        ("a 1 # 1\n# EOF\n", OpenMetrics, "line 1: expected an exemplar's labels, found \"1\""),
        ("a{b=\"x\ny\"} 1\n# EOF\n", OpenMetrics, "line 1: unterminated quoted string"),
        ("# a comment\n# EOF\n", OpenMetrics, "line 1: unknown comment # a"),
    ] {
        assert_eq!(lines(body, format).unwrap_err().to_string(), expected, "{body:?}");
    }
    let error = Parser::from_bytes(b"a 1\nb{c=\"\xff\"} 2\n", Format::Prometheus).err().unwrap();
    assert_eq!(error.to_string(), "line 2: invalid UTF-8");
}

#[test]
fn numbers_are_read_as_go_reads_them() {
    for (text, value) in [
        ("0", 0.0),
        ("-0", -0.0),
        ("+1", 1.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1E3", 1000.0),
        ("123456789012345", 123_456_789_012_345.0),
        ("12345678901234567890", 12_345_678_901_234_567_890.0),
        ("0000000000000000000000000001.2e-1", 0.12),
        ("-Infinity", f64::NEG_INFINITY),
        ("inf", f64::INFINITY),
        ("4.9406564584124654e-324", 5e-324),
    ] {
        assert_eq!(lex::number(text).map(f64::to_bits), Some(value.to_bits()), "{text}");
    }
    assert!(lex::number("NaN").unwrap().is_nan());
    for text in ["", "+", ".", "e5", "1e", "0x10", "1_000", "1,5", "infin", "1 ", "--1", "٣", "+nan", "-NaN"] {
        assert_eq!(lex::number(text), None, "{text}");
    }
}

#[test]
fn families_survive_both_formats() {
    let body = "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\n\
        http_requests_total{path=\"/\"} 3\n\
        # TYPE users_active_total gauge\nusers_active_total 2.5\n\
        # TYPE jobs counter\njobs 4\n\
        # TYPE latency_seconds histogram\nlatency_seconds_bucket{le=\"0.5\"} 1 1500\n\
        latency_seconds_bucket{le=\"+Inf\"} 2 1500\nlatency_seconds_sum 1.25 1500\nlatency_seconds_count 2 1500\n\
        # TYPE odd untyped\n{\"odd\",\"a b\"=\"x\\\"\\\\\\n\"} NaN\nlonely -Inf\n";
    let families = parse(body, Format::Prometheus).unwrap();
    let names: Vec<_> = families.iter().map(|f| (f.name.as_str(), f.kind.as_str(), f.samples.len())).collect();
    assert_eq!(
        names,
        [
            ("http_requests", "counter", 1),
            ("users_active_total", "gauge", 1),
            ("jobs", "counter", 1),
            ("latency_seconds", "histogram", 4),
            ("odd", "unknown", 1),
            ("lonely", "unknown", 1),
        ]
    );
    assert_eq!(
        write(&families, Format::OpenMetrics),
        "# HELP http_requests Requests.\n# TYPE http_requests counter\nhttp_requests_total{path=\"/\"} 3.0\n\
         # TYPE users_active_total gauge\nusers_active_total 2.5\n\
         # TYPE jobs unknown\njobs 4.0\n\
         # TYPE latency_seconds histogram\nlatency_seconds_bucket{le=\"0.5\"} 1.0 1.500\n\
         latency_seconds_bucket{le=\"+Inf\"} 2.0 1.500\nlatency_seconds_sum 1.25 1.500\n\
         latency_seconds_count 2.0 1.500\n\
         # TYPE odd unknown\nodd{\"a b\"=\"x\\\"\\\\\\n\"} NaN\n\
         # TYPE lonely unknown\nlonely -Inf\n# EOF\n"
    );
    let again = parse(&write(&families, Format::Prometheus), Format::Prometheus).unwrap();
    assert_eq!(write(&again, Format::OpenMetrics), write(&families, Format::OpenMetrics));
    assert_eq!(again[0].help, "Requests.");
}

#[test]
fn a_counter_beside_a_gauge_of_the_same_name_clashes_in_neither_format() {
    let body = "# TYPE orders gauge\norders 1\n# TYPE orders_total counter\norders_total 2\n";
    let families = parse(body, Format::Prometheus).unwrap();
    assert_eq!(write(&families, Format::Prometheus), body);
    let text = write(&families, Format::OpenMetrics);
    assert_eq!(strict::check(text.as_bytes()), Ok(()), "{text}");
}

#[test]
fn open_metrics_families_are_exposed_in_the_words_of_prometheus() {
    let body = "# HELP a a \"quoted\"\n# TYPE a counter\na_total 1 # {trace_id=\"f\"} 1.0 2\na_created 1500.0\n\
        # TYPE build info\nbuild_info{version=\"1\"} 1\n# TYPE s stateset\ns{s=\"on\"} 1\n\
        # TYPE g gaugehistogram\ng_bucket{le=\"+Inf\"} 1\ng_gcount 1\ng_gsum 2\n\
        # TYPE u_bytes gauge\n# UNIT u_bytes bytes\nu_bytes 1e100\n# EOF\n";
    let families = parse(body, Format::OpenMetrics).unwrap();
    assert_eq!(families[0].samples[0].exemplar.as_ref().unwrap().timestamp, Some(Timestamp(2000)));
    assert_eq!(
        write(&families, Format::Prometheus),
        "# HELP a_total a \"quoted\"\n# TYPE a_total counter\na_total 1\na_created 1500\n\
         # TYPE build_info gauge\nbuild_info{version=\"1\"} 1\n# TYPE s gauge\ns{s=\"on\"} 1\n\
         # TYPE g untyped\ng_bucket{le=\"+Inf\"} 1\ng_gcount 1\ng_gsum 2\n\
         # TYPE u_bytes gauge\nu_bytes 1e100\n"
    );
    let round = parse(&write(&families, Format::OpenMetrics), Format::OpenMetrics).unwrap();
    assert_eq!(round, families);
}

#[test]
fn content_types_name_formats() {
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(Format::from_content_type(open_metrics), Some(Format::OpenMetrics));
    assert_eq!(Format::from_content_type("text/plain"), Some(Format::Prometheus));
    assert_eq!(Format::from_content_type("text/html"), None);
    assert_eq!(Format::negotiate(Format::ACCEPT), Format::OpenMetrics);
    assert_eq!(Format::negotiate("text/plain"), Format::Prometheus);
    assert_eq!(Format::negotiate(""), Format::Prometheus);
    assert_eq!(Format::negotiate("application/openmetrics-text;q=0.1, text/plain;q=0.5"), Format::Prometheus);
}

mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::Labels;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z_]{1,6}", "[\\PC\n\"\\\\{}=,# ]{1,8}"]
    }

    fn labels() -> impl Strategy<Value = Labels> {
        // Names of letters mostly, sometimes any text; `__name__` is the sample's own business.
        let name = prop_oneof![4 => "[a-z][a-z0-9_]{0,5}", 1 => "[\\PC]{1,5}"];
        prop::collection::vec((name, text()), 0..4).prop_map(Labels::from_pairs)
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![4 => (0..1_000_000i64).prop_map(|v| v as f64 / 8.0), 1 => any::<f64>().prop_filter("not NaN", |v| !v.is_nan())]
    }

    fn family() -> impl Strategy<Value = Family> {
        let name = prop_oneof![4 => "[a-z][a-z_]{0,5}x", 1 => "[\\PC]{1,5}x"];
        let timestamp = proptest::option::of((-5_000i64..2_000_000_000_000).prop_map(Timestamp));
        let exemplar = proptest::option::of((labels(), value()));
        let samples = prop::collection::vec((labels(), value(), timestamp, exemplar), 0..4);
        (name, text(), any::<bool>(), samples).prop_map(|(name, help, counter, samples)| {
            let (kind, suffix) = if counter { (MetricKind::Counter, "_total") } else { (MetricKind::Gauge, "") };
            let sample = |(labels, value, timestamp, exemplar): (Labels, f64, _, Option<(Labels, f64)>)| FamilySample {
                name: format!("{name}{suffix}"),
                labels,
                value,
                timestamp,
                exemplar: exemplar.map(|(labels, value)| Exemplar { labels, value, timestamp: None }),
            };
            let samples = samples.into_iter().map(sample).collect();
            Family { name: name.clone(), kind, help, unit: String::new(), samples }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(families in prop::collection::vec(family(), 0..4)) {
            let mut families = families;
            let mut seen = std::collections::HashSet::new();
            families.retain(|f| seen.insert(f.name.clone()));
            let text = write(&families, Format::OpenMetrics);
            let again = parse(&text, Format::OpenMetrics);
            prop_assert_eq!(again.as_ref(), Ok(&families), "{}", text);

            let mut without_exemplars = families.clone();
            without_exemplars.iter_mut().flat_map(|f| &mut f.samples).for_each(|s| s.exemplar = None);
            // Without samples nothing tells a counter's own name from the one with `_total`.
            let text = write(&without_exemplars, Format::Prometheus);
            let again = parse(&text, Format::Prometheus);
            prop_assert_eq!(again.as_ref(), Ok(&without_exemplars), "{}", text);
        }

        #[test]
        fn no_body_makes_the_parser_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            shaped in "([a#\"{}=,\n\\\\ 1.]|# TYPE a counter\n|# HELP |a_total|\\{le=\"|\"\\} 1|# EOF|NaN| # \\{\\} 1){0,12}",
        ) {
            for body in [&bytes[..], shaped.as_bytes()] {
                for format in [Format::Prometheus, Format::OpenMetrics] {
                    if let Ok(mut parser) = Parser::from_bytes(body, format) {
                        while let Ok(Some(_)) = parser.next_line() {}
                    }
                }
                let _ = strict::check(body);
            }
        }

        #[test]
        fn what_the_strict_check_accepts_scraping_accepts(
            shaped in "(# TYPE a counter\n)?(a_total(\\{b=\"[cd]\"\\})? [0-9.]{1,3}( 1)?( # \\{\\} 1)?\n|a 1\n|b -1e3\n){0,4}# EOF\n?",
        ) {
            if strict::check(shaped.as_bytes()).is_ok() {
                prop_assert!(parse(&shaped, Format::OpenMetrics).is_ok(), "{}", shaped);
            }
        }
    }
}
