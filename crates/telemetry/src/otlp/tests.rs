use serde_json::json;

use super::*;
use crate::is_stale_nan;

const NOW: Timestamp = Timestamp(1_700_000_100_000);

/// A request with these metrics of a service with an instance and a further attribute.
fn request(metrics: serde_json::Value) -> ExportMetricsServiceRequest {
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let body = json!({"resourceMetrics": [{
        "resource": {"attributes": [
            attribute("service.name", "order"), attribute("service.namespace", "shop"),
            attribute("service.instance.id", "i-1"), attribute("cloud.region", "eu-central-1"),
        ]},
        "scopeMetrics": [{"scope": {"name": "lib", "version": "1"}, "metrics": metrics}],
    }]});
    decode(body.to_string().as_bytes(), Encoding::Json).unwrap()
}

fn lines(output: &Output) -> Vec<String> {
    output.samples.iter().map(|s| format!("{} {} {}", s.labels, s.value, s.timestamp.0)).collect()
}

/// Without `target_info`, identity and time.
fn short(output: &Output) -> Vec<String> {
    let shown = lines(output).into_iter().filter(|line| !line.starts_with("target_info"));
    let cut = |line: String| {
        let line = line.replace(r#"instance="i-1", job="shop/order""#, "").replace(" 1700000000000", "");
        line.replace("{, ", "{").replace(", }", "}").replace("{}", "")
    };
    shown.map(cut).collect()
}

const AT: &str = "1700000000000999999";

#[test]
fn names_follow_prometheus_rules() {
    use MetricKind::{Counter, Gauge, Histogram};
    use Strategy::{
        NoTranslation, NoUtf8EscapingWithSuffixes as Utf8, UnderscoreEscapingWithSuffixes as Full,
        UnderscoreEscapingWithoutSuffixes as Plain,
    };
    for (name, unit, kind, strategy, expected) in [
        ("http.server.request.duration", "s", Histogram, Full, Some("http_server_request_duration_seconds")),
        ("system.filesystem.usage", "By", Gauge, Full, Some("system_filesystem_usage_bytes")),
        ("system.io.bytes", "By", Counter, Full, Some("system_io_bytes_total")),
        (
            "active_directory.ds.replication.network.io",
            "By",
            Counter,
            Full,
            Some("active_directory_ds_replication_network_io_bytes_total"),
        ),
        ("requests.total", "{request}", Counter, Full, Some("requests_total")),
        ("total.requests", "1", Counter, Full, Some("requests_total")),
        ("cpu.utilization", "1", Gauge, Full, Some("cpu_utilization_ratio")),
        ("rate", "m/s", Gauge, Full, Some("rate_meters_per_second")),
        ("broken.rate", "{faults}/min", Gauge, Full, Some("broken_rate_per_min")),
        ("storage", "By/h", Gauge, Full, Some("storage_bytes_per_hour")),
        ("temperature", "°F", Gauge, Full, Some("temperature_F")),
        ("5xx", "", Counter, Full, Some("_5xx_total")),
        ("a__b..c", "", Gauge, Full, Some("a_b_c")),
        ("größe", "", Gauge, Full, Some("gr_e")),
        ("..", "", Gauge, Full, None),
        ("", "", Gauge, Full, None),
        ("a__b..c", "s", Counter, Plain, Some("a__b_c")),
        ("http.requests", "By", Counter, Utf8, Some("http.requests_bytes_total")),
        ("http.requests.total", "By", Counter, Utf8, Some("http.requests_bytes_total")),
        ("http.requests", "By", Counter, NoTranslation, Some("http.requests")),
    ] {
        assert_eq!(metric_name(name, unit, kind, strategy).as_deref(), expected, "{name} in {unit:?}, {strategy:?}");
    }
    for (name, expected) in
        [("http.method", "http_method"), ("1st", "key_1st"), ("_x", "key_x"), ("__x", "__x"), ("a..b", "a__b")]
    {
        assert_eq!(label_name(name, Full), expected);
    }
    assert_eq!(label_name("http.method", Utf8), "http.method");
}

#[test]
fn numbers_become_counters_and_gauges_with_the_resources_identity() {
    let output = Translator::new(Settings::default()).translate(
        &request(json!([
            {"name": "jobs", "unit": "{job}", "description": "Jobs done.", "sum": {
                "aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [
                    {"timeUnixNano": AT, "asInt": "7", "attributes": [
                        {"key": "queue.name", "value": {"stringValue": "mail"}},
                        {"key": "queue_name", "value": {"intValue": "3"}},
                        {"key": "job", "value": {"stringValue": "never"}}]}]}},
            {"name": "depth", "gauge": {"dataPoints": [{"timeUnixNano": AT, "asDouble": 1.5}]}},
            {"name": "connections", "sum": {"aggregationTemporality": 2, "dataPoints": [
                {"timeUnixNano": AT, "asInt": "-2"}, {"timeUnixNano": AT, "flags": 1,
                 "attributes": [{"key": "gone", "value": {"boolValue": true}}]}]}},
        ])),
        NOW,
    );
    let expected = [
        r#"jobs_total{instance="i-1", job="shop/order", queue_name="mail;3"} 7 1700000000000"#,
        r#"depth{instance="i-1", job="shop/order"} 1.5 1700000000000"#,
        r#"connections{instance="i-1", job="shop/order"} -2 1700000000000"#,
        r#"connections{gone="true", instance="i-1", job="shop/order"} NaN 1700000000000"#,
        r#"target_info{cloud_region="eu-central-1", instance="i-1", job="shop/order"} 1 1700000000000"#,
    ];
    assert_eq!(lines(&output), expected);
    assert!(is_stale_nan(output.samples[3].value));
    let info = &output.families["jobs_total"];
    assert_eq!((info.kind, info.help.as_str()), (MetricKind::Counter, "Jobs done."));
    assert_eq!(output.families["connections"].kind, MetricKind::Gauge);
}

#[test]
fn attributes_are_promoted_where_the_settings_say_so() {
    let settings = Settings {
        promote_resource_attributes: vec!["cloud.region".to_owned(), "service.name".to_owned()],
        promote_scope_metadata: true,
        keep_identifying_resource_attributes: true,
        ..Settings::default()
    };
    let metrics = json!([{"name": "depth", "gauge": {"dataPoints": [{"timeUnixNano": AT, "asDouble": 1}]}}]);
    let output = Translator::new(settings).translate(&request(metrics.clone()), NOW);
    let expected = [
        r#"depth{cloud_region="eu-central-1", instance="i-1", job="shop/order", otel_scope_name="lib", otel_scope_version="1", service_name="order"} 1 1700000000000"#,
        r#"target_info{cloud_region="eu-central-1", instance="i-1", job="shop/order", service_instance_id="i-1", service_name="order", service_namespace="shop"} 1 1700000000000"#,
    ];
    assert_eq!(lines(&output), expected);
    let all = Settings {
        promote_all_resource_attributes: true,
        ignore_resource_attributes: ["service.name", "service.namespace", "service.instance.id"]
            .map(str::to_owned)
            .into(),
        ..Settings::default()
    };
    let output = Translator::new(all).translate(&request(metrics), NOW);
    assert_eq!(
        lines(&output)[0],
        r#"depth{cloud_region="eu-central-1", instance="i-1", job="shop/order"} 1 1700000000000"#
    );
}

#[test]
fn explicit_histograms_and_summaries_become_classic_ones() {
    let output = Translator::new(Settings::default()).translate(
        &request(json!([
            {"name": "latency", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [{
                "timeUnixNano": AT, "count": "6", "sum": 2.5, "explicitBounds": [0.5, 5], "bucketCounts": ["1", "2", "3"],
                "exemplars": [{"timeUnixNano": AT, "asDouble": 0.7, "traceId": "0af7651916cd43dd8448eb211c80319c",
                               "spanId": "b7ad6b7169203331"}]}]}},
            {"name": "size", "unit": "By", "summary": {"dataPoints": [{"timeUnixNano": AT, "count": "2", "sum": 9,
                "quantileValues": [{"quantile": 0.5, "value": 4}]}]}},
        ])),
        NOW,
    );
    let expected = [
        "latency_seconds_sum 2.5",
        "latency_seconds_count 6",
        r#"latency_seconds_bucket{le="0.5"} 1"#,
        r#"latency_seconds_bucket{le="5"} 3"#,
        r#"latency_seconds_bucket{le="+Inf"} 6"#,
        "size_bytes_sum 9",
        "size_bytes_count 2",
        r#"size_bytes{quantile="0.5"} 4"#,
    ];
    let shown: Vec<String> =
        short(&output).into_iter().map(|line| line.replace(r#"instance="i-1", job="shop/order", "#, "")).collect();
    assert_eq!(shown, expected);
    let (series, exemplar) = &output.exemplars[0];
    assert_eq!(series.get("le"), Some("5"));
    assert_eq!(exemplar.labels.get("trace_id"), Some("0af7651916cd43dd8448eb211c80319c"));
    assert_eq!((exemplar.value, exemplar.timestamp), (0.7, Some(Timestamp(1_700_000_000_000))));
}

fn exponential(scale: i32, offset: i32, counts: [u64; 3], temporality: i32, at: &str) -> serde_json::Value {
    let counts_total: u64 = counts.iter().sum::<u64>() + 1;
    json!([{"name": "latency", "unit": "s", "exponentialHistogram": {"aggregationTemporality": temporality,
        "dataPoints": [{"timeUnixNano": at, "count": counts_total.to_string(), "sum": 10.0, "scale": scale, "zeroCount": "1",
            "positive": {"offset": offset, "bucketCounts": counts.map(|c| c.to_string())}}]}}])
}

#[test]
fn exponential_histograms_become_native_ones() {
    let translate = |metrics| Translator::new(Settings::default()).translate(&request(metrics), NOW);
    let output = translate(exponential(3, -1, [1, 0, 2], 2, AT));
    let sample = &output.histograms[0];
    assert_eq!(sample.labels.to_string(), r#"latency_seconds{instance="i-1", job="shop/order"}"#);
    // OTLP's bucket -1 is Prometheus' bucket 0: both end at 1.
    assert_eq!((sample.histogram.schema, &sample.histogram.positive), (3, &vec![(0, 1.0), (2, 2.0)]));
    assert_eq!((sample.histogram.count, sample.histogram.sum, sample.histogram.zero_count), (4.0, 10.0, 1.0));
    assert_eq!(sample.histogram.zero_threshold, 1e-128);
    // Scale 20 is reduced to 8: buckets 4095 and 4096 of 20 end and begin at 2^(1/256).
    let output = translate(exponential(20, 4094, [1, 1, 5], 2, AT));
    assert_eq!(output.histograms[0].histogram.positive, [(1, 2.0), (2, 5.0)]);
    let output = translate(exponential(-5, 0, [1, 0, 2], 2, AT));
    assert_eq!((output.histograms.len(), output.faults[&PointFault::Histogram]), (0, 1));
}

#[test]
fn deltas_are_added_up_and_old_ones_left_out() {
    let mut translator = Translator::new(Settings::default());
    let mut send = |at: &str, value: i64| {
        let point = json!([{"timeUnixNano": at, "asInt": value.to_string()}]);
        let metric =
            json!([{"name": "jobs", "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": point}}]);
        translator.translate(&request(metric), NOW)
    };
    assert_eq!(short(&send("1700000000000000000", 3)), ["jobs_total 3"]);
    assert!(short(&send("1700000010000000000", 4))[0].starts_with("jobs_total 7 "));
    let again = send("1700000010000000000", 4);
    assert_eq!((short(&again).len(), again.faults[&PointFault::OldDelta]), (0, 1));
    assert!(short(&send("1700000020000000000", 1))[0].starts_with("jobs_total 8 "));
    assert_eq!(translator.streams(), 1);
    translator.forget_streams(NOW + std::time::Duration::from_secs(1));
    assert_eq!(translator.streams(), 0);
}

#[test]
fn deltas_of_histograms_are_added_up_over_scales() {
    let mut translator = Translator::new(Settings::default());
    let mut send = |scale, at| {
        let output = translator.translate(&request(exponential(scale, 0, [1, 1, 1], 1, at)), NOW);
        output.histograms[0].histogram.clone()
    };
    let first = send(1, "1700000000000000000");
    assert_eq!((first.schema, first.positive), (1, vec![(1, 1.0), (2, 1.0), (3, 1.0)]));
    // At scale 0 the first two of scale 1 are one bucket.
    let second = send(0, "1700000010000000000");
    assert_eq!((second.schema, second.positive), (0, vec![(1, 3.0), (2, 2.0), (3, 1.0)]));
    assert_eq!((second.count, second.sum, second.zero_count), (8.0, 20.0, 2.0));
}

#[test]
fn what_has_no_temporality_or_no_data_is_counted() {
    let metrics = json!([
        {"name": "a", "sum": {"dataPoints": [{"timeUnixNano": AT, "asInt": "1"}]}},
        {"name": "b"},
    ]);
    let output = Translator::new(Settings::default()).translate(&request(metrics), NOW);
    assert!(output.samples.is_empty(), "not even target_info: {:?}", output.samples);
    let faults: Vec<_> = output.faults.iter().map(|(fault, count)| (fault.as_str(), *count)).collect();
    assert_eq!(faults, [("name", 1), ("temporality", 1)]);
}

#[test]
fn protobuf_and_json_say_the_same() {
    let request = request(exponential(3, -1, [1, 0, 2], 2, AT));
    assert_eq!(decode(&request.encode_to_vec(), Encoding::Protobuf).unwrap(), request);
    assert!(decode(b"\xff", Encoding::Protobuf).is_err());
    assert!(decode(b"{", Encoding::Json).is_err());
}
