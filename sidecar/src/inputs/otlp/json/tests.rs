//! The other side is opentelemetry-proto: what it decodes from our protobuf is what the JSON said.

use super::*;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::{
    exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
};

fn decode<T: prost::Message + Default>(json: &str, message: &'static Message) -> T {
    T::decode(&to_protobuf(json.as_bytes(), message).expect("transcodes")[..]).expect("decodes")
}

#[test]
fn spans_keep_ids_times_and_attributes_of_every_kind() {
    let request: ExportTraceServiceRequest = decode(
        r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"web"}}]},
            "scopeSpans":[{"scope":{"name":"lib","version":"1"},"spans":[{
              "traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174","parentSpanId":"EEE19B7EC3C1B173",
              "name":"GET /","kind":2,"startTimeUnixNano":"1544712660000000000","endTimeUnixNano":1544712661000000000,
              "attributes":[{"key":"i","value":{"intValue":"-5"}},{"key":"d","value":{"doubleValue":1.5}},
                {"key":"b","value":{"boolValue":true}},{"key":"x","value":{"bytesValue":"aGk="}},
                {"key":"a","value":{"arrayValue":{"values":[{"stringValue":"p"}]}}},
                {"key":"m","value":{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":"v"}}]}}}],
              "events":[{"timeUnixNano":"5","name":"e"}],"links":[{"traceId":"","spanId":""}],
              "status":{"code":2,"message":"no"},"flags":257,"unknownField":{"a":1}}]}]}]}"#,
        &TRACES,
    );
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(span.trace_id[..2], [0x5b, 0x8e]);
    assert_eq!(span.parent_span_id[7], 0x73);
    assert_eq!(
        (span.kind, span.start_time_unix_nano, span.end_time_unix_nano),
        (2, 1_544_712_660_000_000_000, 1_544_712_661_000_000_000)
    );
    let value = |i: usize| span.attributes[i].value.clone().and_then(|v| v.value).expect("a value");
    assert_eq!(value(0), Any::IntValue(-5));
    assert_eq!(value(1), Any::DoubleValue(1.5));
    assert_eq!(value(2), Any::BoolValue(true));
    assert_eq!(value(3), Any::BytesValue(b"hi".to_vec()));
    let (Any::ArrayValue(array), Any::KvlistValue(list)) = (value(4), value(5)) else { panic!("{span:?}") };
    assert_eq!((array.values.len(), list.values[0].key.as_str()), (1, "k"));
    assert_eq!((span.status.as_ref().expect("a status").code, span.flags, span.events[0].time_unix_nano), (2, 257, 5));
}

#[test]
fn every_kind_of_metric_and_log_is_known() {
    let request: ExportMetricsServiceRequest = decode(
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
            {"name":"g","unit":"1","gauge":{"dataPoints":[{"asDouble":"NaN","timeUnixNano":"1"}]}},
            {"name":"s","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asInt":"-7"}]}},
            {"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":"3","sum":4.5,
                "bucketCounts":["1","2",0],"explicitBounds":[0.5,1],"exemplars":[{"asDouble":1,"traceId":"ab"}]}]}},
            {"name":"e","exponentialHistogram":{"dataPoints":[{"count":1,"scale":-2,
                "positive":{"offset":-3,"bucketCounts":["1",300]}}]}},
            {"name":"q","summary":{"dataPoints":[{"quantileValues":[{"quantile":0.5,"value":2}]}]}}]}]}]}"#,
        &METRICS,
    );
    let data: Vec<Data> =
        request.resource_metrics[0].scope_metrics[0].metrics.iter().map(|m| m.data.clone().expect("data")).collect();
    let [Data::Gauge(g), Data::Sum(s), Data::Histogram(h), Data::ExponentialHistogram(e), Data::Summary(q)] = &data[..]
    else {
        panic!("{data:?}")
    };
    assert!(matches!(g.data_points[0].value, Some(number_data_point::Value::AsDouble(v)) if v.is_nan()));
    assert_eq!(s.data_points[0].value, Some(number_data_point::Value::AsInt(-7)));
    assert!(s.is_monotonic);
    assert_eq!(
        (&h.data_points[0].bucket_counts[..], &h.data_points[0].explicit_bounds[..]),
        (&[1, 2, 0][..], &[0.5, 1.0][..])
    );
    assert_eq!(h.data_points[0].exemplars[0].trace_id, [0xab]);
    assert_eq!(e.data_points[0].scale, -2);
    assert_eq!(e.data_points[0].positive, Some(Buckets { offset: -3, bucket_counts: vec![1, 300] }));
    assert_eq!(q.data_points[0].quantile_values[0].value, 2.0);

    let request: ExportLogsServiceRequest = decode(
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"9","severityNumber":17,"severityText":"ERROR",
            "body":{"stringValue":"no"},"traceId":"00000000000000000000000000000001"}]}]}]}"#,
        &LOGS,
    );
    let log = &request.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((log.time_unix_nano, log.severity_number, log.trace_id.len()), (9, 17, 16));
}

#[test]
fn what_is_no_otlp_is_refused_by_name() {
    for (json, why) in [
        ("[]", "invalid type: sequence, expected an object"),
        ("{", "EOF while parsing an object"),
        (r#"{"resourceSpans":3}"#, "invalid type: integer `3`, expected an array"),
        (r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xy"}]}]}]}"#, r#""traceId" cannot be Text("xy")"#),
        (r#"{"resourceSpans":[{"schemaUrl":[1,2]}]}"#, "invalid type: sequence, expected a number, a text"),
        ("{}x", "trailing characters"),
    ] {
        let error = to_protobuf(json.as_bytes(), &TRACES).expect_err(json);
        assert!(error.starts_with(&format!("body is not OTLP in JSON: {why}")), "{error}");
    }
}
