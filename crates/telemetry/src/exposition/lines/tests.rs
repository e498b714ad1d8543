use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Numbers the series as they come and notes what it hears.
#[derive(Default)]
struct Heard {
    numbers: BTreeMap<String, u32>,
    samples: Vec<(u32, u64, Option<i64>, Option<String>)>,
    /// How many of the samples were known.
    known: usize,
    metadata: usize,
}

impl Heard {
    fn note(&mut self, number: u32, value: f64, timestamp: Option<Timestamp>, exemplar: Option<&ExemplarRef<'_, '_>>) {
        let exemplar = exemplar.map(|exemplar| format!("{exemplar:?}"));
        self.samples.push((number, value.to_bits(), timestamp.map(|t| t.0), exemplar));
    }
}

impl Receiver for Heard {
    type Error = ParseError;

    fn known(&mut self, number: u32, sample: &KnownSample<'_, '_>) -> Result<(), ParseError> {
        self.known += 1;
        self.note(number, sample.value, sample.timestamp, sample.exemplar.as_ref());
        Ok(())
    }

    fn unknown(&mut self, line: &SampleLine<'_, '_>) -> Result<u32, ParseError> {
        let next = self.numbers.len() as u32;
        let number = *self.numbers.entry(line.series.to_owned()).or_insert(next);
        self.note(number, line.value, line.timestamp, line.exemplar.as_ref());
        Ok(number)
    }

    fn metadata(&mut self, _: &Line<'_, '_>) {
        self.metadata += 1;
    }
}

/// What the plain parser says, with the same numbers.
fn plainly(heard: &mut Heard, body: &[u8], format: Format) -> Result<(), ParseError> {
    let mut parser = Parser::from_bytes(body, format)?;
    while let Some(line) = parser.next_line()? {
        if let Line::Sample(sample) = line {
            heard.unknown(&sample)?;
        }
    }
    Ok(())
}

fn read(lines: &mut Lines, heard: &mut Heard, body: &str) -> Result<Order, ParseError> {
    heard.samples.clear();
    (heard.known, heard.metadata) = (0, 0);
    lines.read(body.as_bytes(), Format::Prometheus, heard)
}

#[test]
fn a_body_in_the_same_order_is_read_by_its_values_alone() {
    let (mut lines, mut heard) = (Lines::default(), Heard::default());
    let body = |a: &str, b: &str| format!("# HELP a x\n# TYPE a gauge\na{{x=\"1\"}} {a}\n\na {b}\n");
    assert_eq!(read(&mut lines, &mut heard, &body("1", "2")), Ok(Order::Other));
    assert_eq!((heard.known, heard.metadata), (0, 2));
    assert_eq!(read(&mut lines, &mut heard, &body("2.5e3", "NaN")), Ok(Order::Same));
    assert_eq!((heard.known, heard.metadata), (2, 0));
    assert_eq!(heard.samples[0], (0, 2500f64.to_bits(), None, None));
    assert_eq!(read(&mut lines, &mut heard, &body("3 1700", "4\t")), Ok(Order::Same));
    assert_eq!(heard.samples, [(0, 3f64.to_bits(), Some(1700), None), (1, 4f64.to_bits(), None, None)]);
}

#[test]
fn lines_that_come_go_and_move_are_told_apart() {
    let (mut lines, mut heard) = (Lines::default(), Heard::default());
    let mut known = |body: &str| {
        let order = read(&mut lines, &mut heard, body).unwrap();
        let numbers: Vec<u32> = heard.samples.iter().map(|(number, ..)| *number).collect();
        (order, numbers, heard.known)
    };
    assert_eq!(known("a 1\nb 1\nc 1\nd 1\n"), (Order::Other, vec![0, 1, 2, 3], 0));
    assert_eq!(known("a 1\nc 1\nd 1\n"), (Order::Other, vec![0, 2, 3], 3));
    assert_eq!(known("a 1\nc 1\nd 1\n"), (Order::Same, vec![0, 2, 3], 3));
    assert_eq!(known("a 1\nnew 1\nc 1\nd 1\n"), (Order::Other, vec![0, 4, 2, 3], 3));
    assert_eq!(known("d 1\nc 1\nnew 1\na 1\n"), (Order::Other, vec![3, 2, 4, 0], 4));
    assert_eq!(known("d 1\nc 1\n"), (Order::Other, vec![3, 2], 2));
    assert_eq!(known("d 1\nc 1\n"), (Order::Same, vec![3, 2], 2));
    assert_eq!(known("d 1\nd 2\n"), (Order::Other, vec![3, 3], 2));
    assert_eq!(known(""), (Order::Other, vec![], 0));
}

#[test]
fn readers_of_the_same_lines_remember_them_once_until_their_own_change() {
    let (pool, mut heard) = (LinePool::default(), Heard::default());
    let mut replicas: Vec<Lines> = Vec::new();
    for value in 0..3 {
        let mut lines = Lines::default();
        read(&mut lines, &mut Heard::default(), &format!("a{{x=\"1\"}} {value}\nb 1\n")).unwrap();
        lines.share(&pool);
        replicas.push(lines);
    }
    assert_eq!(pool.counts().0, 1);
    assert_eq!(read(&mut replicas[0], &mut heard, "a{x=\"1\"} 7\nb 2\nc 3\n"), Ok(Order::Other));
    replicas[0].share(&pool);
    assert_eq!(pool.counts().0, 2);
    for lines in &mut replicas[1..] {
        assert_eq!(read(lines, &mut heard, "a{x=\"1\"} 8\nb 3\n"), Ok(Order::Same));
        assert_eq!(heard.samples[0], (0, 8f64.to_bits(), None, None));
    }
    assert_eq!(read(&mut replicas[0], &mut heard, "a{x=\"1\"} 9\nb 2\nc 3\n"), Ok(Order::Same));
    // The same text with other numbers says something else.
    let mut turned = Lines::default();
    let mut numbering = Heard::default();
    read(&mut turned, &mut numbering, "b 1\na{x=\"1\"} 7\n").unwrap();
    read(&mut turned, &mut numbering, "a{x=\"1\"} 7\nb 1\n").unwrap();
    turned.share(&pool);
    assert_eq!(pool.counts().0, 3);
    assert_eq!(read(&mut turned, &mut numbering, "a{x=\"1\"} 8\nb 1\n"), Ok(Order::Same));
    assert_eq!(numbering.samples.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [1, 0]);
    drop(replicas);
    drop(turned);
    assert_eq!(pool.counts().0, 0);
}

#[test]
fn a_wrong_line_is_named_and_the_body_before_stays_known() {
    let (mut lines, mut heard) = (Lines::default(), Heard::default());
    read(&mut lines, &mut heard, "a 1\nb 1\n").unwrap();
    for (body, line, message) in [
        ("a 1\nb x\n", 2, "expected a number, found \"x\""),
        ("a 1\nb \n", 2, "expected a number, found \"\""),
        ("a 1\nb 1\nc\n", 3, "expected a number, found \"\""),
        ("a 1 2 3\n", 1, "expected the end of the line, found \"3\""),
    ] {
        let error = read(&mut lines, &mut heard, body).unwrap_err();
        assert_eq!((error.line, error.message.as_str()), (line, message), "{body:?}");
        assert_eq!(read(&mut lines, &mut heard, "a 1\nb 1\n"), Ok(Order::Same));
    }
    let error = lines.read(b"a 1\nb \xff\n", Format::Prometheus, &mut heard).unwrap_err();
    assert_eq!((error.line, error.message.as_str()), (2, "invalid UTF-8"));
}

#[test]
fn labels_behind_a_blank_are_another_series_than_the_bare_name() {
    for bodies in [["a 1\n", "a { x = \"1\" , }  1\n"], ["a { x = \"1\" }  1\n", "a 1\n"]] {
        let (mut lines, mut heard) = (Lines::default(), Heard::default());
        let numbers = bodies.map(|body| {
            assert_eq!(read(&mut lines, &mut heard, body), Ok(Order::Other), "{body:?}");
            heard.samples[0].0
        });
        assert_ne!(numbers[0], numbers[1]);
    }
}

#[test]
fn open_metrics_needs_its_end_each_time_and_keeps_exemplars() {
    let (mut lines, mut heard) = (Lines::default(), Heard::default());
    let body = "# TYPE a counter\na_total 1 # {trace_id=\"x\"} 0.5\nb 2 1.5\n# EOF\n";
    assert_eq!(lines.read(body.as_bytes(), Format::OpenMetrics, &mut heard), Ok(Order::Other));
    let first = std::mem::take(&mut heard.samples);
    assert!(first[0].3.as_ref().is_some_and(|exemplar| exemplar.contains("trace_id")));
    assert_eq!(lines.read(body.as_bytes(), Format::OpenMetrics, &mut heard), Ok(Order::Same));
    assert_eq!(heard.samples, first);
    let without_end = body.strip_suffix("# EOF\n").unwrap();
    assert!(lines.read(without_end.as_bytes(), Format::OpenMetrics, &mut heard).is_err());
}

/// Lines as targets write them, and some that they should not.
fn bodies() -> impl Strategy<Value = Vec<String>> {
    let line = prop_oneof![
        20 => ("[a-c]{1,2}", prop_oneof![Just(""), Just("{x=\"1\"}"), Just("{x=\"é\",y=\"2\"}"), Just(" { x = \"1\" , } ")],
            "( |  |\t)", prop_oneof![Just("1"), Just("0012345678901234567"), Just("-1.5"), Just("NaN"), Just("+Inf"), Just("1e9")],
            prop_oneof![5 => Just("\n"), 1 => Just(" \n"), 1 => Just(" 1700\n")])
            .prop_map(|(name, labels, blank, value, end)| format!("{name}{labels}{blank}{value}{end}")),
        1 => Just("# HELP a text\n".to_owned()),
        1 => Just("# TYPE a counter\n".to_owned()),
        1 => Just("\n".to_owned()),
        1 => Just("# EOF\n".to_owned()),
        1 => "[a1 {}\"=\n]{0,6}",
    ];
    let body = prop::collection::vec(line, 0..8);
    prop::collection::vec((body, any::<bool>()), 1..8).prop_map(|bodies| {
        let mut all: Vec<Vec<String>> = Vec::new();
        for (body, again) in bodies {
            let before = all.last().filter(|_| again).cloned();
            all.push(before.unwrap_or(body));
        }
        all.into_iter().map(|lines| lines.concat()).collect()
    })
}

proptest! {
    #[test]
    fn it_says_what_the_plain_parser_says(bodies in bodies(), open_metrics in any::<bool>()) {
        let format = if open_metrics { Format::OpenMetrics } else { Format::Prometheus };
        let (mut lines, mut heard) = (Lines::default(), Heard::default());
        for body in bodies {
            let mut plain = Heard { numbers: heard.numbers.clone(), ..Heard::default() };
            let expected = plainly(&mut plain, body.as_bytes(), format);
            heard.samples.clear();
            let result = lines.read(body.as_bytes(), format, &mut heard);
            prop_assert_eq!(result.as_ref().err(), expected.as_ref().err(), "{:?}", body);
            if expected.is_ok() {
                prop_assert_eq!(&heard.samples, &plain.samples, "{:?}", body);
            }
        }
    }
}

#[test]
fn a_value_without_a_blank_before_it_does_not_make_longer_names_known() {
    for longer in ["aInf 1\n", "aab 1\n", "a0abc 1\n", "a:b 1\n"] {
        let (mut lines, mut heard) = (Lines::default(), Heard::default());
        assert_eq!(read(&mut lines, &mut heard, "aaaa 1\na.5\nb{x=\"1\"}2\n"), Ok(Order::Other));
        let body = format!("aaaa 1\n{longer}b{{x=\"1\"}}2\n");
        assert_eq!(read(&mut lines, &mut heard, &body), Ok(Order::Other), "{longer}");
        assert_eq!(heard.known, 2, "the first and the last: {longer}");
        let against_last = std::mem::take(&mut heard.samples);
        assert_eq!(plainly(&mut heard, body.as_bytes(), Format::Prometheus), Ok(()));
        assert_eq!(against_last, heard.samples, "{longer}");
    }
}

#[test]
fn a_body_may_end_within_a_known_line_s_value() {
    for digits in 1..20 {
        let value = "1".repeat(digits);
        let (mut lines, mut heard) = (Lines::default(), Heard::default());
        read(&mut lines, &mut heard, "a 1\n").expect("a body");
        let body = format!("a {value}");
        let against_last = read(&mut lines, &mut heard, &body).map(|_| std::mem::take(&mut heard.samples));
        let plain = plainly(&mut heard, body.as_bytes(), Format::Prometheus).map(|()| heard.samples);
        assert_eq!(against_last, plain, "{digits} digits");
    }
}
