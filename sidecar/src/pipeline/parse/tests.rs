use proptest::prelude::*;
use serde_json::{Value, json};
use telemetry::log_record::{LogRecord, RequestContext};

use super::roles::is_request;
use super::*;

const NOW: Timestamp = Timestamp(1_705_314_600_000);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn author() -> Author {
    Author { service: "order".into(), version: "1.2.0".into(), environment: "prod".into() }
}

fn with(line: &[u8], additions: &Additions) -> Option<(String, Parsed)> {
    let mut out = b"what was there before".to_vec();
    let parsed = parse(line, &author(), NOW, additions, &mut Scratch::default(), &mut out)?;
    Some((String::from_utf8(out).expect("UTF-8"), parsed))
}

fn parsed(line: &str) -> (String, Parsed) {
    with(line.as_bytes(), &Additions::default()).expect("not empty")
}

fn record(line: &str) -> LogRecord {
    let line = parsed(line).0;
    assert!(!line.contains('\n'), "{line}");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn the_platform_s_layout_passes_byte_for_byte() {
    let line = format!(
        r#"{{ "timestamp":"2024-01-15T10:29:00.250Z","level":"error","service":"user","version":"1","environment":"dev","trace_id":"{TRACE}","message":"a \"b\"","z":1,"a":2}}"#
    );
    let (out, parsed) = parsed(&line);
    assert_eq!(out, line);
    assert_eq!(parsed.level, Level::Error);
    assert_eq!(parsed.timestamp, Timestamp(NOW.0 - 60_000 + 250));
    assert_eq!(parsed.trace_id.map(|id| id.to_string()).as_deref(), Some(TRACE));
}

#[test]
fn json_of_other_loggers_is_mapped_and_the_rest_kept_as_data() {
    let pino =
        record(&format!(r#"{{"level":50,"time":1705314600123,"pid":7,"msg":"payment failed","traceId":"{TRACE}"}}"#));
    assert_eq!((pino.level.as_str(), pino.message.as_str()), ("error", "payment failed"));
    assert_eq!(pino.timestamp, "2024-01-15T10:30:00.123Z");
    assert_eq!(pino.trace_id.as_deref(), Some(TRACE));
    assert_eq!(Value::Object(pino.data), serde_json::json!({"pid": 7}));
    assert_eq!((pino.service.as_str(), pino.version.as_str(), pino.environment.as_str()), ("order", "1.2.0", "prod"));

    let zap = record(r#"{"level":"WARN","ts":1705314600.5,"msg":"slow"}"#);
    assert_eq!((zap.level.as_str(), zap.timestamp.as_str()), ("warn", "2024-01-15T10:30:00.500Z"));
}

#[test]
fn members_that_are_data_are_the_same_however_they_stand_in_the_line() {
    let data = |line: &str| parsed(line).0.split_once(",\"data\":").map(|(_, data)| data.to_owned());
    for (line, expected) in [
        (r#"{"msg":"m","a":1,"b":"x","c":{"d":[]}}"#, r#"{"a":1,"b":"x","c":{"d":[]}}}"#),
        (r#"{"a":1,"msg":"m","b":2,"level":"info","c":3}"#, r#"{"a":1,"b":2,"c":3}}"#),
        (r#"{"a" : 1 , "b":2, "c":3,"d": 4,"e":5,"msg":"m"}"#, r#"{"a":1,"b":2,"c":3,"d":4,"e":5}}"#),
        (r#"{"a":1,"traceId":"none","b":2,"msg":"m"}"#, r#"{"a":1,"invalid_trace_id":"none","b":2}}"#),
        (r#"{"a":1,"data":{"b":2, "c":3},"d":4,"msg":"m"}"#, r#"{"a":1,"b":2, "c":3,"d":4}}"#),
        (r#"{"a":1,"fields":{"message":"m","b":2,"c":3},"d":4}"#, r#"{"a":1,"b":2,"c":3,"d":4}}"#),
    ] {
        assert_eq!(data(line).as_deref(), Some(expected), "{line}");
    }
    assert_eq!(data("level=info msg=m a=1 b=\"x y\"").as_deref(), Some(r#"{"a":1,"b":"x y"}}"#));
}

#[test]
fn a_stack_trace_below_a_line_of_logfmt_is_its_data() {
    let line = format!("time=2024-01-15T10:29:00Z level=warning msg=\"not paid\" order=7 trace_id={TRACE}");
    for trace in [
        "Traceback (most recent call last):\n  File \"/app/a.py\", line 3, in pay\nValueError: level=info a=\"b\"",
        "java.lang.IllegalStateException: not paid\n\tat com.example.Order.pay(Order.java:42)",
    ] {
        let record = record(&format!("{line}\n{trace}"));
        assert_eq!((record.level.as_str(), record.message.as_str()), ("warn", "not paid"));
        assert_eq!((record.timestamp.as_str(), record.trace_id.as_deref()), ("2024-01-15T10:29:00.000Z", Some(TRACE)));
        assert_eq!(Value::Object(record.data), json!({"order": 7, "stack_trace": trace}));
    }
    // What is no trace below it, or no logfmt above it, stays as it was written.
    let prose = format!("{line}\nand more of it");
    assert_eq!(record(&prose).message, prose);
    let plain = "ERROR a=b not paid\nTraceback (most recent call last):\n  File \"x\"";
    assert_eq!(record(plain).message, plain);
}

#[test]
fn what_is_almost_the_platform_s_layout_is_completed_so_that_every_reader_can_read_it() {
    // No version and no environment; data that is no object.
    let line = r#"{"timestamp":"2024-01-15T10:29:00.000Z","level":"warn","service":"user","message":"m",
        "request":{"id":"r1","method":"GET","path":"/"},"data":null}"#;
    let completed = record(line);
    assert_eq!((completed.service.as_str(), completed.version.as_str()), ("user", "1.2.0"));
    assert_eq!(completed.timestamp, "2024-01-15T10:29:00.000Z");
    assert_eq!(completed.request.map(|r| r.path).as_deref(), Some("/"));
    assert_eq!(Value::Object(completed.data), serde_json::json!({"data": null}));
}

#[test]
fn plain_text_is_wrapped_with_its_level_recognised() {
    for (line, level) in [
        ("plain words about an error", "info"),
        ("ERROR could not connect", "error"),
        ("2024-01-15T10:30:00Z  WARN pool: slow", "warn"),
        ("[warning] disk", "warn"),
        ("error: no such file", "error"),
        ("level=debug starting up", "debug"),
        ("[2024-01-15 10:30:00] app.CRITICAL: x", "error"),
        ("thread 'main' panicked at src/main.rs:1:1:", "error"),
        ("Traceback (most recent call last):", "error"),
        ("{not json", "info"),
    ] {
        let record = record(line);
        assert_eq!(record.level, level, "{line}");
        assert_eq!(record.message, line);
        assert_eq!(record.timestamp, "2024-01-15T10:30:00.000Z");
    }
}

#[test]
fn a_trace_id_in_text_is_found_and_an_invalid_one_is_not() {
    assert_eq!(record(&format!("x trace_id={TRACE} y")).trace_id.as_deref(), Some(TRACE));
    assert_eq!(record("x trace_id=abc123 y").trace_id, None);
}

#[test]
fn bytes_that_are_no_text_are_kept_readable_and_empty_lines_vanish() {
    let none = Additions::default();
    assert_eq!(with(b"caf\xff", &none).map(|(line, _)| line.contains("caf\u{fffd}")), Some(true));
    assert_eq!(with(b" \r\n", &none), None);
}

/// A JSON value of any kind, two levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        Just(Value::from("2024-01-15T10:30:00Z")),
        Just(Value::from("error")),
        Just(Value::from(TRACE)),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z]{1,6}|id|method|path", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_comes_leaves_as_a_record_that_every_reader_can_read(
        fields in prop::collection::hash_map(
            "timestamp|level|service|version|environment|message|msg|trace_id|span_id|request|data|duration_ms|time|x",
            any_json(),
            0..10,
        ),
        text in "\\PC*",
    ) {
        for line in [Value::Object(fields.into_iter().collect()).to_string(), text] {
            let additions = Additions { members: b",\"container_name\":\"app\"".to_vec(), xray: true };
            if let Some((out, _)) = with(line.as_bytes(), &additions) {
                let record: Result<LogRecord, _> = serde_json::from_str(&out);
                prop_assert!(record.is_ok(), "{} from {line}: {:?}", out, record.err());
            }
        }
    }
}

#[test]
fn members_are_added_and_the_rest_of_the_line_is_not_touched() {
    let additions = Additions { members: br#","container_name":"app""#.to_vec(), xray: true };
    let line = format!(
        r#"{{"timestamp":"2024-01-15T10:29:00Z","level":"info","service":"s","version":"1","environment":"e","message":"m","trace_id":"{TRACE}"}}"#
    );
    let (out, _) = with(line.as_bytes(), &additions).expect("not blank");
    let added = r#","xray_trace_id":"1-0af76519-16cd43dd8448eb211c80319c","container_name":"app"}"#;
    assert_eq!(out, format!("{}{added}", &line[..line.len() - 1]));
}

#[test]
fn a_metric_in_the_embedded_format_is_passed_as_it_is() {
    let line = r#"{"_aws":{"Timestamp":1,"CloudWatchMetrics":[]},"n":1}"#;
    let additions = Additions { members: b",\"a\":1".to_vec(), xray: true };
    assert_eq!(with(line.as_bytes(), &additions).expect("not blank").0, line);
}

#[test]
fn an_invalid_trace_id_is_kept_under_another_name() {
    let line = r#"{"timestamp":"2024-01-15T10:29:00Z","level":"info","service":"s","version":"1","environment":"e","message":"m","trace_id":"12345","span_id":"7"}"#;
    let found = record(line);
    assert_eq!(found.trace_id, None);
    assert_eq!(Value::Object(found.data), json!({"invalid_trace_id": "12345", "span_id": "7"}));
}

#[test]
fn ids_of_a_traceparent_and_of_x_ray_are_taken() {
    let span = "b7ad6b7169203331";
    let found = record(&format!(r#"{{"msg":"m","traceparent":"00-{TRACE}-{span}-01"}}"#));
    assert_eq!((found.trace_id.as_deref(), found.span_id.as_deref()), (Some(TRACE), Some(span)));
    let found = record(r#"{"msg":"m","AWS-XRAY-TRACE-ID":"1-0af76519-16cd43dd8448eb211c80319c"}"#);
    assert_eq!(found.trace_id.as_deref(), Some(TRACE));
    assert_eq!(found.data, serde_json::Map::new());
}

#[test]
fn nested_names_are_found() {
    let tracing = record(
        r#"{"timestamp":"2024-01-15T10:30:00.5Z","level":"WARN","fields":{"message":"slow","n":3},"target":"app"}"#,
    );
    assert_eq!((tracing.level.as_str(), tracing.message.as_str()), ("warn", "slow"));
    assert_eq!(Value::Object(tracing.data), json!({"n": 3, "target": "app"}));
    let elastic = record(&format!(
        r#"{{"@timestamp":"2024-01-15T10:30:00Z","log":{{"level":"ERROR"}},"message":"m","trace":{{"id":"{TRACE}"}}}}"#
    ));
    assert_eq!((elastic.level.as_str(), elastic.trace_id.as_deref()), ("error", Some(TRACE)));
}

#[test]
fn logfmt_is_mapped() {
    let found = record(r#"time="2024-01-15T10:30:00Z" level=warning msg="queue is \"full\"" size=7"#);
    assert_eq!((found.level.as_str(), found.message.as_str()), ("warn", r#"queue is "full""#));
    assert_eq!(Value::Object(found.data), json!({"size": 7}));
}

#[test]
fn a_request_is_what_the_readers_of_the_layout_can_read() {
    for value in [
        r#"{"id":"1","method":"GET","path":"/"}"#,
        r#"{"id":"1","method":"GET","path":"/","user_id":null,"org_id":"o","ip":"i","user_agent":"u","more":[{}]}"#,
        r#"{"id":1,"method":"GET","path":"/"}"#,
        r#"{"id":null,"method":"GET","path":"/"}"#,
        r#"{"id":"1","method":"GET"}"#,
        r#"{"id":"1","method":"GET","path":"/","ip":7}"#,
        r#"{"id":"1","id":"2","method":"GET","path":"/"}"#,
        r#"{"id":"1","method":"GET","path":"/","ip":null,"ip":null}"#,
        r#"{"id":"1","method":"GET","path":"/","x":1,"x":2}"#,
        r#"{"i\u0064":"1","method":"GET","path":"/"}"#,
        r#"{"i\u0064":"1","id":"2","method":"GET","path":"/"}"#,
        r#"{"id":"a\n\"b","method":"\u00e9","path":"/"}"#,
        "{}",
    ] {
        let line = format!("{{\"request\":{value}}}");
        let mut fields = Vec::new();
        assert!(scan::object(&line, &mut fields));
        assert_eq!(is_request(&fields[0]), serde_json::from_str::<RequestContext>(value).is_ok(), "{value}");
    }
}
