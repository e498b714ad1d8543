//! One line of text becomes a record of the platform.
//!
//! A line that is JSON in the platform's layout passes byte for byte. Any other line is wrapped: other
//! loggers' JSON by their usual names for time, level and message, plain text as the message with its
//! level, time and trace id recognised where they stand.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use telemetry::Timestamp;
use telemetry::log_record::{Level, LogRecord, RequestContext};
use telemetry::trace::{SpanId, TraceId};

/// Who wrote the lines; fills what a foreign line does not say.
#[derive(Clone, Debug)]
pub struct Author {
    pub service: String,
    pub version: String,
    pub environment: String,
}

/// A line in the platform's layout, and what the pipeline needs to know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// One JSON object, without a newline.
    pub line: String,
    pub level: Level,
    pub timestamp: Timestamp,
    pub trace_id: Option<TraceId>,
}

/// [`LogRecord`] as it must be for every reader of the platform's lines, borrowed and without what the
/// pipeline does not need. A line that does not fit here would spoil an answer that is made of such lines.
#[derive(Deserialize)]
struct Layout<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow, rename = "service")]
    _service: Cow<'a, str>,
    #[serde(borrow, rename = "version")]
    _version: Cow<'a, str>,
    #[serde(borrow, rename = "environment")]
    _environment: Cow<'a, str>,
    #[serde(borrow, rename = "message")]
    _message: Cow<'a, str>,
    #[serde(default)]
    trace_id: Option<String>,
    #[serde(default, rename = "span_id")]
    _span_id: Option<String>,
    #[serde(default, rename = "parent_span_id")]
    _parent_span_id: Option<String>,
    #[serde(default, rename = "request")]
    _request: Option<RequestContext>,
    #[serde(default, rename = "data")]
    _data: Object,
    #[serde(default, rename = "duration_ms")]
    _duration_ms: Option<f64>,
}

/// Any JSON object, unread.
#[derive(Default)]
struct Object;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Object)
    }
}

/// Parses `line` (without its newline), which was read at `now`. None for an empty line.
pub fn parse(line: &[u8], author: &Author, now: Timestamp) -> Option<Parsed> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        return None;
    }
    if !text.trim_start().starts_with('{') {
        return Some(wrap_text(text, author, now));
    }
    platform_line(text).or_else(|| wrap_json(text, author, now)).or_else(|| Some(wrap_text(text, author, now)))
}

fn platform_line(text: &str) -> Option<Parsed> {
    let head: Layout<'_> = serde_json::from_str(text).ok()?;
    // The layout has lower-case names of five levels; anything else is somebody else's JSON.
    let level = Level::ALL.into_iter().find(|level| level.as_str() == head.level)?;
    let timestamp = Timestamp::parse_rfc3339(&head.timestamp)?;
    let trace_id = head.trace_id.as_deref().and_then(TraceId::parse);
    Some(Parsed { line: text.to_owned(), level, timestamp, trace_id })
}

fn wrap_json(text: &str, author: &Author, now: Timestamp) -> Option<Parsed> {
    let mut fields: Map<String, Value> = serde_json::from_str(text).ok()?;
    let level = take(&mut fields, &["level", "severity", "lvl", "levelname", "log.level", "loglevel"]);
    let level = level.as_ref().and_then(level_of).unwrap_or(Level::Info);
    let timestamp = take(&mut fields, &["timestamp", "time", "ts", "@timestamp", "datetime"]);
    let timestamp = timestamp.as_ref().and_then(time_of).unwrap_or(now);
    let message = take(&mut fields, &["message", "msg", "event", "short_message"]);
    let mut id = |names: &[&str]| take(&mut fields, names).and_then(|v| v.as_str().map(str::to_ascii_lowercase));
    let trace_id = id(&["trace_id", "traceId", "traceid", "trace.id"]).and_then(|id| TraceId::parse(&id));
    let span_id = id(&["span_id", "spanId", "spanid", "span.id"]).and_then(|id| SpanId::parse(&id));
    let parent_span_id = id(&["parent_span_id", "parentSpanId"]).and_then(|id| SpanId::parse(&id));
    let request = fields.get("request").and_then(|request| RequestContext::deserialize(request).ok());
    if request.is_some() {
        fields.remove("request");
    }
    let empty = empty_record(author, timestamp, level);
    let record = LogRecord {
        service: take_text(&mut fields, "service").unwrap_or(empty.service),
        version: take_text(&mut fields, "version").unwrap_or(empty.version),
        environment: take_text(&mut fields, "environment").unwrap_or(empty.environment),
        trace_id: trace_id.map(|id| id.to_string()),
        span_id: span_id.map(|id| id.to_string()),
        parent_span_id: parent_span_id.map(|id| id.to_string()),
        request,
        message: match message {
            Some(Value::String(message)) => message,
            Some(other) => other.to_string(),
            None => String::new(),
        },
        duration_ms: take(&mut fields, &["duration_ms"]).and_then(|v| v.as_f64()),
        data: match fields.remove("data") {
            Some(Value::Object(data)) if fields.is_empty() => data,
            Some(data) => {
                fields.insert("data".to_owned(), data);
                fields
            }
            None => fields,
        },
        timestamp: empty.timestamp,
        level: empty.level,
    };
    Some(finish(record, level, timestamp, trace_id))
}

fn wrap_text(text: &str, author: &Author, now: Timestamp) -> Parsed {
    let level = level_in_text(text);
    let timestamp = time_at_start(text).unwrap_or(now);
    let trace_id = trace_id_in_text(text);
    let record = LogRecord {
        trace_id: trace_id.map(|id| id.to_string()),
        message: text.to_owned(),
        ..empty_record(author, timestamp, level)
    };
    finish(record, level, timestamp, trace_id)
}

fn empty_record(author: &Author, timestamp: Timestamp, level: Level) -> LogRecord {
    LogRecord {
        timestamp: service::logging::rfc3339_millis(u128::try_from(timestamp.as_millis()).unwrap_or(0)),
        level: level.as_str().to_owned(),
        service: author.service.clone(),
        version: author.version.clone(),
        environment: author.environment.clone(),
        ..LogRecord::default()
    }
}

fn finish(record: LogRecord, level: Level, timestamp: Timestamp, trace_id: Option<TraceId>) -> Parsed {
    let line = serde_json::to_string(&record).expect("a record has string keys and serialises to memory");
    Parsed { line, level, timestamp, trace_id }
}

/// Removes and returns the first of `names` that is there.
fn take(fields: &mut Map<String, Value>, names: &[&str]) -> Option<Value> {
    names.iter().find_map(|name| fields.remove(*name))
}

/// Removes and returns a text; anything else stays.
fn take_text(fields: &mut Map<String, Value>, name: &str) -> Option<String> {
    fields.get(name)?.as_str()?;
    fields.remove(name)?.as_str().map(str::to_owned)
}

fn level_of(value: &Value) -> Option<Level> {
    match value {
        Value::String(word) => Level::recognise(word),
        Value::Number(number) => Level::from_number(number.as_u64()?),
        _ => None,
    }
}

/// RFC 3339 text, or seconds (with fraction) or milliseconds since the epoch.
fn time_of(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => Timestamp::parse_rfc3339(text),
        // Seconds pass 10^11 in the year 5138; milliseconds passed it in 1973.
        Value::Number(number) => number
            .as_f64()
            .filter(|n| *n > 0.0)
            .map(|n| if n < 1e11 { Timestamp::from_secs_f64(n) } else { Timestamp::from_millis(n as i64) }),
        _ => None,
    }
}

/// Where in a line a level is looked for: behind that stands prose, in which `ERROR` may mean anything.
const LEVEL_WITHIN_BYTES: usize = 100;

fn level_in_text(text: &str) -> Level {
    const CRASHES: [&str; 4] = ["panicked at", "Traceback (most recent call last)", "Exception in thread", "panic: "];
    if CRASHES.iter().any(|crash| text.contains(crash)) {
        return Level::Error;
    }
    let head = &text[..text.floor_char_boundary(LEVEL_WITHIN_BYTES)];
    let mut before = "";
    for (index, word) in head.split(|c: char| !c.is_ascii_alphabetic()).filter(|w| !w.is_empty()).enumerate() {
        let shouted = word.bytes().all(|b| b.is_ascii_uppercase());
        let named = ["level", "lvl", "severity"].contains(&before);
        let after = offset_after(head, word);
        let labelled = index == 0 && head[after..].starts_with(':');
        let bracketed = head[after..].starts_with(']');
        if (shouted || named || labelled || bracketed)
            && let Some(level) = Level::recognise(word)
        {
            return level;
        }
        before = word;
    }
    Level::Info
}

/// Where `part`, a slice of `whole`, ends in it.
fn offset_after(whole: &str, part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize + part.len()
}

/// A time in RFC 3339 that opens the line, in brackets or not.
fn time_at_start(text: &str) -> Option<Timestamp> {
    let text = text.trim_start_matches(['[', '(']);
    let end = text.find(|c: char| c.is_whitespace() || c == ']' || c == ')').unwrap_or(text.len());
    Timestamp::parse_rfc3339(&text[..end])
}

/// `trace_id=0af7…`, `"trace_id": "0af7…"`, `traceId: 0af7…`.
fn trace_id_in_text(text: &str) -> Option<TraceId> {
    ["trace_id", "traceId", "traceid"].iter().find_map(|name| {
        let rest = &text[text.find(name)? + name.len()..];
        let rest = rest.trim_start_matches(['"', '=', ':', ' ', '\'']);
        TraceId::parse(rest.get(..32)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_705_314_600_000);
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn author() -> Author {
        Author { service: "order".into(), version: "1.2.0".into(), environment: "prod".into() }
    }

    fn parsed(line: &str) -> Parsed {
        parse(line.as_bytes(), &author(), NOW).expect("not empty")
    }

    fn record(line: &str) -> LogRecord {
        serde_json::from_str(&parsed(line).line).expect("the platform's layout")
    }

    #[test]
    fn the_platform_s_layout_passes_byte_for_byte() {
        let line = format!(
            r#"{{ "timestamp":"2024-01-15T10:29:00.250Z","level":"error","service":"user","version":"1","environment":"dev","trace_id":"{TRACE}","message":"a \"b\"","z":1,"a":2}}"#
        );
        let parsed = parsed(&line);
        assert_eq!(parsed.line, line);
        assert_eq!(parsed.level, Level::Error);
        assert_eq!(parsed.timestamp, Timestamp(NOW.0 - 60_000 + 250));
        assert_eq!(parsed.trace_id.map(|id| id.to_string()).as_deref(), Some(TRACE));
    }

    #[test]
    fn json_of_other_loggers_is_mapped_and_the_rest_kept_as_data() {
        let pino = record(&format!(
            r#"{{"level":50,"time":1705314600123,"pid":7,"msg":"payment failed","traceId":"{TRACE}"}}"#
        ));
        assert_eq!((pino.level.as_str(), pino.message.as_str()), ("error", "payment failed"));
        assert_eq!(pino.timestamp, "2024-01-15T10:30:00.123Z");
        assert_eq!(pino.trace_id.as_deref(), Some(TRACE));
        assert_eq!(Value::Object(pino.data), serde_json::json!({"pid": 7}));
        assert_eq!(
            (pino.service.as_str(), pino.version.as_str(), pino.environment.as_str()),
            ("order", "1.2.0", "prod")
        );

        let zap = record(r#"{"level":"WARN","ts":1705314600.5,"msg":"slow"}"#);
        assert_eq!((zap.level.as_str(), zap.timestamp.as_str()), ("warn", "2024-01-15T10:30:00.500Z"));
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
            ("level=debug msg=x", "debug"),
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
        assert_eq!(parse(b"caf\xff", &author(), NOW).map(|p| p.line.contains("caf\u{fffd}")), Some(true));
        assert_eq!(parse(b" \r\n", &author(), NOW), None);
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
                if let Some(parsed) = parse(line.as_bytes(), &author(), NOW) {
                    let record: Result<LogRecord, _> = serde_json::from_str(&parsed.line);
                    prop_assert!(record.is_ok(), "{} from {line}: {:?}", parsed.line, record.err());
                }
            }
        }
    }
}
