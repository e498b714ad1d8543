//! Wire formats of metrics.

use std::collections::HashMap;

use telemetry::Timestamp;
use telemetry::exposition::protobuf::{Wanted, to_text};
use telemetry::exposition::{Format, KnownSample, Line, Lines, ParseError, Receiver, SampleLine, strict};
use telemetry::otlp::{Encoding, Settings, Translator, decode};
use telemetry::remote_write::{Decoder, Encoder, Limits, Message, TimeSeries, decompress};

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "telemetry_openmetrics", run: openmetrics, seeds: BODIES },
    Target { name: "telemetry_exposition_protobuf", run: exposition_protobuf, seeds: EXPOSITION_PROTOBUF },
    Target { name: "telemetry_lines", run: lines, seeds: SCRAPES },
    Target { name: "telemetry_remote_write_v1", run: remote_write_v1, seeds: WRITES_V1 },
    Target { name: "telemetry_remote_write_v2", run: remote_write_v2, seeds: WRITES_V2 },
    Target { name: "telemetry_otlp_json", run: otlp_json, seeds: OTLP_JSON },
    Target { name: "telemetry_otlp_protobuf", run: otlp_protobuf, seeds: OTLP_PROTOBUF },
];

/// A series with labels, a sample, an exemplar and a native histogram, and metadata.
const WRITES_V1: &[&[u8]] = &[
    b"\x0a\x28\x0a\x0e\x0a\x08__name__\x12\x02up\x0a\x08\x0a\x03job\x12\x01a\x12\x0c\x09\0\0\0\0\0\0\xf0\x3f\x10\xe8\x07",
    b"\x0a\x3f\x0a\x0d\x0a\x08__name__\x12\x01h\x1a\x10\x0a\x05\x0a\x01t\x12\0\x11\0\0\0\0\0\0\xf0\x3f\x22\x1c\x08\x03\x19\0\0\0\0\0\0\xf0\x3f\x20\x02\x30\0\x5a\x04\x08\x01\x10\x02\x62\x02\x02\x02\x78\x01",
    b"\x1a\x0c\x08\x01\x12\x02up\x22\x01h\x2a\x01s",
];
const WRITES_V2: &[&[u8]] = &[
    b"\x22\0\x22\x08__name__\x22\x02up\x2a\x14\x0a\x02\x01\x02\x12\x0e\x09\0\0\0\0\0\0\xf0\x3f\x10\xe8\x07\x18\x01",
    b"\x22\0\x22\x08__name__\x22\x01h\x2a\x28\x0a\x02\x01\x02\x1a\x18\x08\x03\x20\x02\x30\0\x5a\x04\x08\x01\x10\x02\x62\x02\x02\x02\x78\x01\x22\x02\x0a\0\x2a\x04\x08\x01\x18\x02",
];

const BODIES: &[&[u8]] = &[
    b"# TYPE a counter\n# HELP a text \\\\ \\n\na_total{l=\"v\\\"\"} 1e3 1.5 # {trace_id=\"x\"} 0.5 1\na_created 1\n# EOF\n",
    b"# TYPE h histogram\n# UNIT h_seconds seconds\nh_bucket{le=\"0.1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n# EOF\n",
    b"# TYPE s stateset\ns{s=\"a\"} 1\ns{s=\"b\"} 0\n# TYPE i info\ni_info{v=\"1\"} 1\n# EOF\n",
];

/// A counter with an exemplar, a histogram with classic buckets, a native one, a summary.
const EXPOSITION_PROTOBUF: &[&[u8]] = &[
    b"0\x0a\x01j\x12\x01h\x22\x28\x0a\x06\x0a\x01q\x12\x01a\x1a\x1c\x09\0\0\0\0\0\0\xf0\x3f\x12\x11\x0a\x06\x0a\x01t\x12\x01x\x11\0\0\0\0\0\0\0\x400\x09",
    b"\x21\x0a\x01w\x18\x04\x22\x1a\x3a\x18\x08\x03\x11\0\0\0\0\0\0\xf0\x3f\x1a\x0b\x08\x02\x11\0\0\0\0\0\0\xe0\x3f",
    b"\x1d\x0a\x01n\x18\x04\x22\x16\x3a\x14\x08\x03\x28\x061\0\0\0\0\0\0\xf0\x3fb\x02\x10\x01j\x01\x06",
    b"\x28\x0a\x01s\x18\x02\x22\x21\x22\x1f\x08\x02\x11\0\0\0\0\0\0\x22\x40\x1a\x12\x09\0\0\0\0\0\0\xe0\x3f\x11\0\0\0\0\0\0\x20\x40",
];

/// What comes out names its metric and is no more than came in; as text it stays within its bound, and its native
/// histograms are sound.
fn exposition_protobuf(data: &[u8]) {
    const TEXT_BYTES_MAX: usize = 1 << 20;
    let wanted = Wanted { native: true, classic_beside_native: true };
    if let Ok((text, native)) = to_text(data, wanted, TEXT_BYTES_MAX) {
        assert!(text.len() < 2 * TEXT_BYTES_MAX && text.ends_with("# EOF\n"));
        assert!(native.iter().all(|sample| sample.histogram.is_stale() || sample.histogram.check().is_ok()));
    }
    let Ok(exposed) = telemetry::exposition::protobuf::parse(data) else { return };
    for family in &exposed.families {
        assert!(!family.name.is_empty());
        assert!(family.samples.iter().all(|sample| sample.name.starts_with(&family.name)));
    }
    // The shortest metric, of two bytes, becomes three samples of a histogram.
    let samples: usize = exposed.families.iter().map(|family| family.samples.len()).sum();
    assert!(samples <= 2 * data.len());
}

fn openmetrics(data: &[u8]) {
    // Refused or accepted: a verdict is all that is asked.
    let _ = strict::check(data);
}

/// Bodies of one target in succession, each behind a byte that no text has.
const SCRAPES: &[&[u8]] = &[
    b"# HELP a x\na{l=\"1\"} 1\na{l=\"2\"} 2\nb 3\n\xffa{l=\"1\"} 1.5\na{l=\"2\"} 3\nb 4\n\xffa{l=\"2\"} 3\nc 1\nb 4 17\n",
    b"a 1\na {l=\"x\"} 2\n\xffa{l=\"x\"} 2\na 1\n\xff\xffa 1\na{l=\"x\"}  NaN\n",
    b"aaaa 1\na.5\n\xffaaaa 1\naInf 1\n",
    b"aaaaaaaa 1\naaaaaaab 2\naaaaaaabc 3\n\xffaaaaaaab 2\naaaaaaaa 1\naaaaaaabc 3\n\xffaaaaaaaa 1\naaaaaaab 2\naaaaaaabc 3\n",
];

/// Hears bodies; a series has its number for ever.
#[derive(Default)]
struct Heard {
    numbers: HashMap<String, u32>,
    samples: Vec<(u32, u64, Option<Timestamp>)>,
}

impl Receiver for Heard {
    type Error = ParseError;

    fn known(&mut self, number: u32, sample: &KnownSample<'_, '_>) -> Result<(), ParseError> {
        self.samples.push((number, sample.value.to_bits(), sample.timestamp));
        Ok(())
    }

    fn unknown(&mut self, line: &SampleLine<'_, '_>) -> Result<u32, ParseError> {
        let next = self.numbers.len() as u32;
        let number = *self.numbers.entry(line.series.to_owned()).or_insert(next);
        self.samples.push((number, line.value.to_bits(), line.timestamp));
        Ok(number)
    }

    fn metadata(&mut self, _: &Line<'_, '_>) {}
}

/// Reading against the body before says what reading anew says.
fn lines(data: &[u8]) {
    let (mut lines, mut heard) = (Lines::default(), Heard::default());
    for body in data.split(|byte| *byte == 0xff) {
        heard.samples.clear();
        let result = lines.read(body, Format::Prometheus, &mut heard);
        let against_last = std::mem::take(&mut heard.samples);
        let anew = Lines::default().read(body, Format::Prometheus, &mut heard);
        assert_eq!(result.is_ok(), anew.is_ok(), "{result:?}, {anew:?}");
        if result.is_ok() {
            assert_eq!(against_last, heard.samples);
        }
    }
}

/// A sum of deltas, a histogram, an exponential one and a summary.
const OTLP_JSON: &[&[u8]] = &[
    br#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},"scopeMetrics":[{"metrics":[{"name":"j","unit":"1","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{"timeUnixNano":"17","asInt":"3"}]}}]}]}]}"#,
    br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"h","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"17","count":"3","sum":1,"explicitBounds":[1],"bucketCounts":["1","2"]}]}}]}]}]}"#,
    br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"e","exponentialHistogram":{"aggregationTemporality":1,"dataPoints":[{"timeUnixNano":"17","count":"3","scale":20,"zeroCount":"1","positive":{"offset":-3,"bucketCounts":["1","1"]}}]}}]}]}]}"#,
    br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"q","summary":{"dataPoints":[{"timeUnixNano":"17","count":"2","sum":9,"quantileValues":[{"quantile":0.5,"value":4}]}]}}]}]}]}"#,
];
const OTLP_PROTOBUF: &[&[u8]] =
    &[b"\x0a\x20\x12\x1e\x12\x1c\x0a\x01j\x3a\x17\x0a\x11\x19\x11\0\0\0\0\0\0\0\x31\x03\0\0\0\0\0\0\0\x10\x01\x18\x01"];

fn otlp_json(data: &[u8]) {
    otlp(data, Encoding::Json);
}

fn otlp_protobuf(data: &[u8]) {
    otlp(data, Encoding::Protobuf);
}

/// Twice, so that deltas meet their own totals.
fn otlp(data: &[u8], encoding: Encoding) {
    let Ok(request) = decode(data, encoding) else { return };
    let mut translator = Translator::new(Settings::default());
    for _ in 0..2 {
        let output = translator.translate(&request, telemetry::Timestamp(0));
        assert!(output.samples.iter().all(|sample| sample.labels.metric_name().is_some()));
    }
}

fn remote_write_v1(data: &[u8]) {
    remote_write(Message::V1, data);
}

fn remote_write_v2(data: &[u8]) {
    remote_write(Message::V2, data);
}

/// What is sound is written and read again as the same.
fn remote_write(message: Message, data: &[u8]) {
    let limits = Limits { message_bytes_max: 1 << 20, ..Limits::default() };
    let _ = decompress(data, &limits);
    let Ok(mut decoder) = Decoder::new(message, data, &limits) else { return };
    while let Ok(Some(series)) = decoder.next_series() {
        let Ok(labels) = series.to_labels() else { continue };
        let sound = series.histograms.iter().filter_map(|h| Some((h.timestamp, h.histogram.as_ref().ok()?)));
        let histograms: Vec<_> = sound.collect();
        let mut encoder = Encoder::new(message);
        let (samples, exemplars) = (&series.samples[..], &series.exemplars[..]);
        let metadata = series.metadata;
        encoder.series(&TimeSeries { labels: &labels, samples, histograms: &histograms, exemplars, metadata });
        let bytes = decompress(&encoder.finish(), &Limits::default()).expect("what was compressed");
        let mut again = Decoder::new(message, &bytes, &Limits::default()).expect("what was written");
        let again = again.next_series().expect("sound").expect("one series");
        assert_eq!(again.to_labels().as_ref(), Ok(&labels));
        assert_eq!(again.samples.len(), samples.len());
        assert_eq!(again.histograms.len(), histograms.len());
    }
}
