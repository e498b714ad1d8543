use super::*;
use crate::inputs::otlp::json;
use proptest::prelude::*;
use telemetry::exposition::{Format, write};
use telemetry::translation::Strategy;

fn take(series: &OtlpSeries, metrics: &str) -> Result<u64, NotProtobuf> {
    let text = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"web"}}}}]}},
            "scopeMetrics":[{{"metrics":[{metrics}]}}]}}]}}"#
    );
    series.take(&json::to_protobuf(text.as_bytes(), &json::METRICS).expect("transcodes"))
}

fn text(series: &OtlpSeries) -> String {
    write(&series.families(), Format::OpenMetrics)
}

const SUM: &str = r#"{"name":"jobs.done","description":"Jobs.","unit":"1","sum":{"aggregationTemporality":TEMP,"isMonotonic":true,
    "dataPoints":[{"asInt":"VALUE","attributes":[{"key":"queue.name","value":{"stringValue":"mail"}},
        {"key":"n","value":{"intValue":3}}],
        "exemplars":[{"asInt":"1","timeUnixNano":"2000000000","traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331"}]}]}}"#;
const HISTOGRAM: &str = r#"{"name":"wait","unit":"s","histogram":{"aggregationTemporality":TEMP,
    "dataPoints":[{"count":"3","sum":4.5,"bucketCounts":["1","1","1"],"explicitBounds":[0.5,1]}]}}"#;

/// By prometheus/otlptranslator.
#[test]
fn names_and_units_are_prometheus_own() {
    for (name, unit, kind, expected) in [
        ("http.server.request.duration", "s", MetricKind::Histogram, "http_server_request_duration_seconds"),
        ("jobs.done", "1", MetricKind::Counter, "jobs_done"),
        ("jobs_total", "{job}", MetricKind::Counter, "jobs"),
        ("io.total.bytes", "By", MetricKind::Counter, "io_bytes"),
        ("cpu.utilization", "1", MetricKind::Gauge, "cpu_utilization_ratio"),
        ("process.memory.usage", "By", MetricKind::Gauge, "process_memory_usage_bytes"),
        ("disk.speed", "By/s", MetricKind::Gauge, "disk_speed_bytes_per_second"),
        ("request_seconds", "s", MetricKind::Histogram, "request_seconds"),
        ("a..b-c", "", MetricKind::Gauge, "a_b_c"),
        ("x", "furlong", MetricKind::Gauge, "x_furlong"),
        ("5xx.answers", "{answer}", MetricKind::Counter, "_5xx_answers"),
    ] {
        let found = family_name(name, unit, kind);
        assert_eq!(found.as_deref(), Some(expected), "{name} {unit}");
        let by_otlp = metric_name(name, unit, kind, Strategy::default()).expect("a name");
        let suffix = if kind == MetricKind::Counter { "_total" } else { "" };
        assert_eq!(by_otlp, format!("{expected}{suffix}"), "{name} {unit}");
    }
    assert_eq!(family_name("...", "", MetricKind::Gauge), None);
    let series = OtlpSeries::new(2);
    assert_eq!(take(&series, r#"{"name":"...","gauge":{"dataPoints":[{"asInt":"1"},{"asInt":"2"}]}}"#), Ok(2));
    assert_eq!((series.families().len(), series.overflowed()), (0, vec![("without_name".to_owned(), 2)]));
}

#[test]
fn cumulative_points_replace_and_delta_points_add_up() {
    for (temporality, jobs, waits) in [("2", 7.0, 3.0), ("1", 11.0, 6.0)] {
        let series = OtlpSeries::new(10);
        for value in ["4", "7"] {
            let sum = SUM.replace("VALUE", value).replace("TEMP", temporality);
            let both = format!("{sum},{}", HISTOGRAM.replace("TEMP", temporality));
            assert_eq!(take(&series, &both), Ok(2));
        }
        let text = text(&series);
        for line in [
            format!(
                r#"jobs_done_total{{n="3",queue_name="mail",service="web"}} {jobs:?} # {{span_id="b7ad6b7169203331",trace_id="0af7651916cd43dd8448eb211c80319c"}} 1.0 2"#
            ),
            "# HELP jobs_done Jobs.".to_owned(),
            format!(r#"wait_seconds_bucket{{le="0.5",service="web"}} {:?}"#, waits / 3.0),
            format!(r#"wait_seconds_bucket{{le="+Inf",service="web"}} {waits:?}"#),
            format!(r#"wait_seconds_count{{service="web"}} {waits:?}"#),
            format!(r#"wait_seconds_sum{{service="web"}} {:?}"#, waits * 1.5),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nnot in\n{text}");
        }
        telemetry::exposition::strict::check(text.as_bytes()).expect("OpenMetrics 1.0");
    }
}

#[test]
fn every_other_kind_has_its_place() {
    let series = OtlpSeries::new(10);
    let metrics = r#"
        {"name":"temp","unit":"Cel","gauge":{"dataPoints":[{"asDouble":-2.5}]}},
        {"name":"open","sum":{"aggregationTemporality":2,"dataPoints":[{"asInt":"-3"}]}},
        {"name":"size","summary":{"dataPoints":[{"count":"2","sum":5,"quantileValues":[{"quantile":0.5,"value":2}]}]}},
        {"name":"lat","unit":"ms","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"count":"10","sum":30,
            "scale":1,"zeroCount":"2","positive":{"offset":-1,"bucketCounts":["1","2","0","5"]}}]}}"#;
    assert_eq!(take(&series, metrics), Ok(4));
    let text = text(&series);
    // Scale 1: bucket i ends at 2^((i+1)/2). -1 ends at 1, 0 and 1 end at 2, 2 ends above 2 and so within 4.
    for line in [
        r#"temp_celsius{service="web"} -2.5"#,
        r#"open{service="web"} -3.0"#,
        r#"size{quantile="0.5",service="web"} 2.0"#,
        r#"lat_milliseconds_bucket{le="0.0",service="web"} 2.0"#,
        r#"lat_milliseconds_bucket{le="1.0",service="web"} 3.0"#,
        r#"lat_milliseconds_bucket{le="2.0",service="web"} 5.0"#,
        r#"lat_milliseconds_bucket{le="4.0",service="web"} 10.0"#,
        r#"lat_milliseconds_bucket{le="+Inf",service="web"} 10.0"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nnot in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn series_end_when_they_say_so_when_they_are_silent_and_when_there_are_too_many() {
    let series = OtlpSeries::new(2);
    let point = |name: &str, flags: u32| {
        format!(
            r#"{{"name":"g","gauge":{{"dataPoints":[{{"asInt":"1","flags":{flags},
                "attributes":[{{"key":"k","value":{{"stringValue":"{name}"}}}}]}}]}}}}"#
        )
    };
    for name in ["a", "b", "c"] {
        take(&series, &point(name, 0)).expect("protobuf");
    }
    assert_eq!(series.families()[0].samples.len(), 2);
    assert_eq!(series.overflowed(), [("g".to_owned(), 1)]);
    take(&series, &point("a", 1)).expect("protobuf");
    assert_eq!(series.families()[0].samples.len(), 1);
    tokio::time::advance(SILENT_MAX).await;
    assert_eq!(series.families(), []);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(request in prop::collection::vec(any::<u8>(), 0..200), field in 5u64..12) {
        let series = OtlpSeries::new(3);
        let _ = series.take(&request);
        // The same bytes as a point of each kind.
        let mut data = Vec::new();
        wire::put_bytes(&mut data, 1, &request);
        let mut metric = Vec::new();
        wire::put_bytes(&mut metric, 1, b"m");
        wire::put_bytes(&mut metric, field, &data);
        let (mut of_scope, mut of_resource, mut all) = (Vec::new(), Vec::new(), Vec::new());
        wire::put_bytes(&mut of_scope, 2, &metric);
        wire::put_bytes(&mut of_resource, 2, &of_scope);
        wire::put_bytes(&mut all, 1, &of_resource);
        let _ = series.take(&all);
        drop(series.families());
    }
}
