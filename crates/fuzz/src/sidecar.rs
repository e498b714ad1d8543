//! What comes in on the sidecar's ports, and from the task's metadata.

use bytes::Bytes;
use sidecar::inputs::ecs_task::figures;
use sidecar::inputs::ecs_task::wire::{Task, TaskStats};
use sidecar::inputs::otlp::metrics::OtlpSeries;
use sidecar::inputs::otlp::resource::ResourceAttributes;
use sidecar::inputs::otlp::{grpc, json, logs, spans};
use sidecar::inputs::statsd::Handler;
use sidecar::pipeline::aggregate::Aggregate;
use sidecar::pipeline::parse::Author;
use sidecar::pipeline::red::Red;
use telemetry::Timestamp;
use telemetry::exposition::{Format, write};

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "sidecar_statsd", run: statsd, seeds: STATSD },
    Target { name: "sidecar_otlp", run: otlp, seeds: OTLP },
    Target { name: "sidecar_otlp_json", run: otlp_json, seeds: OTLP_JSON },
    Target { name: "sidecar_grpc_frame", run: grpc_frame, seeds: GRPC },
    Target { name: "sidecar_task_metadata", run: task_metadata, seeds: METADATA },
];

const STATSD: &[&[u8]] = &[
    b"page.views:1|c|@0.5|#env:prod,canary|c:ci-1|T1\nfuel:-3|g\nfuel:+1|g\nt:250|ms\nd:1:2.5|d|#a:b:c\nu:x|s",
    b"_e{5,4}:title|text|#a:b\n_sc|db|2|#env:dev",
];

/// A request with a server span, its route and status, in one scope of one resource.
const OTLP: &[&[u8]] = &[
    b"\x0a\x5a\x0a\x09\x0a\x07\x0a\x01k\x12\x02\x0a\x00\x12\x4d\x12\x4b\x0a\x10aaaaaaaaaaaaaaaa\x12\x08bbbbbbbb0\x02\
      9\x01\0\0\0\0\0\0\0A\x02\0\0\0\0\0\0\0J\x14\x0a\x0bhttp.method\x12\x05\x0a\x03GETz\x02\x18\x02",
    b"\x0a\x1b\x12\x19\x12\x17\x0a\x01m:\x12\x0a\x0c1\0\0\0\0\0\0\0\x01@\x00\x10\x02\x18\x01",
    b"\x0a\x12\x12\x10\x12\x0e\x09\x01\0\0\0\0\0\0\0\x2a\x03\x0a\x01x",
];

const OTLP_JSON: &[&[u8]] = &[
    br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","kind":2,
        "startTimeUnixNano":"1","attributes":[{"key":"http.method","value":{"stringValue":"GET"}}]}]}]}]}"#,
    br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"h","exponentialHistogram":{"dataPoints":[{"count":1,
        "scale":-2,"positive":{"offset":-3,"bucketCounts":["1",300]}}]}}]}]}]}"#,
    br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"9","body":{"stringValue":"{\"a\":1}"}}]}]}]}"#,
];

const GRPC: &[&[u8]] = &[b"\0\0\0\0\x02ab", b"\x01\0\0\0\0"];

const METADATA: &[&[u8]] = &[
    include_bytes!("../../../sidecar/tests/testdata/fargate_task_metadata.json"),
    include_bytes!("../../../sidecar/tests/testdata/fargate_task_stats.json"),
    include_bytes!("../../../sidecar/tests/testdata/ec2_task_stats.json"),
];

fn statsd(data: &[u8]) {
    let aggregate = Aggregate::new(50, 20);
    Handler::new(aggregate.clone(), &service::metrics::Metrics::new()).datagram(data);
    for family in aggregate.families() {
        assert!(family.samples.len() <= 20 * 2 * 25, "{} samples of one metric", family.samples.len());
    }
    // What is exposed is read again by us and by every scraper.
    let text = write(&aggregate.families(), Format::OpenMetrics);
    telemetry::exposition::parse(&text, Format::OpenMetrics).expect("what we expose can be read");
}

fn otlp(data: &[u8]) {
    protobuf(data);
}

fn protobuf(data: &[u8]) {
    let aggregate = Aggregate::new(2, 20);
    let sound = spans::count(data);
    assert!(Red::new(aggregate.clone()).observe(data).is_ok() || sound.is_err() || data.len() > 2);
    let attributes = ResourceAttributes::new(vec![("cloud.region", "eu-central-1".to_owned())]);
    if let Ok(with) = attributes.add_to(data) {
        let counted = spans::count(&with);
        assert!(sound.is_err() || counted == sound, "adding attributes lost spans: {sound:?} {counted:?}");
    }
    let series = OtlpSeries::new(20);
    let _ = series.take(data);
    let text = write(&series.families(), Format::OpenMetrics);
    telemetry::exposition::parse(&text, Format::OpenMetrics).expect("what we expose can be read");
    let author = Author { service: "s".into(), version: "1".into(), environment: "e".into() };
    let _ = logs::lines(data, &author, Timestamp::from_millis(0), |line, _| assert!(line.starts_with(b"{")));
}

fn otlp_json(data: &[u8]) {
    for message in [&json::TRACES, &json::METRICS, &json::LOGS] {
        if let Ok(bytes) = json::to_protobuf(data, message) {
            protobuf(&bytes);
        }
    }
}

fn grpc_frame(data: &[u8]) {
    if let Ok((_, message)) = grpc::unframe(Bytes::copy_from_slice(data)) {
        assert_eq!(message.len() + 5, data.len());
    }
}

fn task_metadata(data: &[u8]) {
    let empty = (Task::default(), TaskStats::new());
    let task: Task = serde_json::from_slice(data).unwrap_or(empty.0);
    let stats: TaskStats = serde_json::from_slice(data).unwrap_or(empty.1);
    let kept = stats.iter().filter_map(|(id, stats)| Some((id.clone(), stats.clone()?))).collect();
    let families = figures::families(&task, &stats, &kept);
    let text = write(&families, Format::OpenMetrics);
    telemetry::exposition::parse(&text, Format::OpenMetrics).expect("what we expose can be read");
}
