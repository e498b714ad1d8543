//! OTLP log records as lines of the platform's layout, for the door through which every log line comes.

use std::io::Write as _;

use telemetry::Timestamp;
use telemetry::log_record::Level;

use super::wire::{self, NotProtobuf, Value, fields, key_of, text_of, value_of};
use crate::pipeline::parse::Author;

/// Nested values deeper than this are cut off.
const DEPTH_MAX: usize = 16;

/// Calls `take` with each record of an ExportLogsServiceRequest as one line, and when it was written. Returns how many.
///
/// # Errors
/// Where the bytes are no protobuf; records before that place were taken.
pub fn lines(
    request: &[u8],
    author: &Author,
    now: Timestamp,
    mut take: impl FnMut(&[u8], Timestamp),
) -> Result<u64, NotProtobuf> {
    let (mut count, mut line) = (0, Vec::new());
    wire::each(request, 1, |resource_logs| {
        let origin = Origin::of(resource_logs, author);
        wire::each(resource_logs, 2, |scope_logs| {
            wire::each(scope_logs, 2, |record| {
                let record = Record::of(record)?;
                line.clear();
                let written = record.written(now);
                record.put_line(&mut line, &origin, written);
                take(&line, written);
                count += 1;
                Ok(())
            })
        })
    })?;
    Ok(count)
}

/// Who wrote the records: as their resource says, else as the task does.
struct Origin<'a> {
    service: &'a str,
    version: &'a str,
    environment: &'a str,
}

impl<'a> Origin<'a> {
    fn of(resource_logs: &'a [u8], author: &'a Author) -> Self {
        let mut origin =
            Origin { service: &author.service, version: &author.version, environment: &author.environment };
        for resource in fields(resource_logs).filter(|f| f.number == 1).filter_map(|f| f.value.bytes()) {
            for pair in fields(resource).filter(|f| f.number == 1).filter_map(|f| f.value.bytes()) {
                let Some(value) = text_of(value_of(pair)).filter(|value| !value.is_empty()) else { continue };
                match key_of(pair) {
                    // What an SDK says that was told nothing.
                    b"service.name" if !value.starts_with("unknown_service") => origin.service = value,
                    b"service.version" => origin.version = value,
                    b"deployment.environment.name" | b"deployment.environment" => origin.environment = value,
                    _ => {}
                }
            }
        }
        origin
    }
}

/// opentelemetry.proto.logs.v1.LogRecord, as far as a line has room for it.
#[derive(Default)]
struct Record<'a> {
    time_nanos: u64,
    observed_nanos: u64,
    severity: u64,
    severity_text: &'a str,
    body: &'a [u8],
    attributes: Vec<&'a [u8]>,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    event_name: &'a str,
}

impl<'a> Record<'a> {
    fn of(message: &'a [u8]) -> Result<Self, NotProtobuf> {
        let mut record = Record::default();
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let mut walk = fields(message);
        for field in walk.by_ref() {
            match (field.number, field.value) {
                (1, Value::Fixed64(nanos)) => record.time_nanos = nanos,
                (11, Value::Fixed64(nanos)) => record.observed_nanos = nanos,
                (2, Value::Varint(number)) => record.severity = number,
                (3, Value::Bytes(bytes)) => record.severity_text = text(bytes),
                (5, Value::Bytes(any)) => record.body = any,
                (6, Value::Bytes(pair)) => record.attributes.push(pair),
                (9, Value::Bytes(id)) if id.len() == 16 => record.trace_id = id,
                (10, Value::Bytes(id)) if id.len() == 8 => record.span_id = id,
                (12, Value::Bytes(bytes)) => record.event_name = text(bytes),
                _ => {}
            }
        }
        if walk.is_sound() { Ok(record) } else { Err(NotProtobuf) }
    }

    fn written(&self, now: Timestamp) -> Timestamp {
        let nanos = if self.time_nanos > 0 { self.time_nanos } else { self.observed_nanos };
        if nanos == 0 { now } else { Timestamp::from_millis(i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX)) }
    }

    /// opentelemetry's logs data model: four numbers for each level, from 1.
    fn level(&self) -> Level {
        match self.severity {
            1..=4 => Level::Trace,
            5..=8 => Level::Debug,
            9..=12 => Level::Info,
            13..=16 => Level::Warn,
            17..=24 => Level::Error,
            _ => Level::recognise(self.severity_text).unwrap_or(Level::Info),
        }
    }

    fn put_line(&self, line: &mut Vec<u8>, origin: &Origin<'_>, written: Timestamp) {
        let body = text_of(self.body);
        if let Some(object) = body.map(str::trim).filter(|body| body.starts_with('{') && body.ends_with('}')) {
            self.put_into_object(line, object);
            return;
        }
        let millis = u128::try_from(written.as_millis()).unwrap_or(0);
        line.push(b'{');
        put_text(line, "timestamp", &service::logging::rfc3339_millis(millis));
        put_text(line, "level", self.level().as_str());
        put_text(line, "service", origin.service);
        put_text(line, "version", origin.version);
        put_text(line, "environment", origin.environment);
        self.put_ids(line, "");
        match body {
            Some(text) => put_text(line, "message", text),
            None if self.body.is_empty() => put_text(line, "message", self.event_name),
            None => {
                let mut json = Vec::new();
                put_any(&mut json, self.body, 0);
                put_text(line, "message", &String::from_utf8_lossy(&json));
            }
        }
        if !self.attributes.is_empty() || !self.event_name.is_empty() {
            put_key(line, "data");
            line.push(b'{');
            if !self.event_name.is_empty() {
                put_text(line, "event.name", self.event_name);
            }
            put_pairs(line, &self.attributes, 0);
            line.push(b'}');
        }
        line.push(b'}');
    }

    /// A body that is a line of JSON already stays what it is; ids that it does not have are put in.
    fn put_into_object(&self, line: &mut Vec<u8>, object: &str) {
        line.push(b'{');
        self.put_ids(line, object);
        if !object.contains("\"level\"") && !object.contains("\"severity\"") {
            put_text(line, "level", self.level().as_str());
        }
        let rest = object[1..].trim_start();
        if line.len() > 1 && rest != "}" {
            line.push(b',');
        }
        line.extend_from_slice(rest.as_bytes());
    }

    fn put_ids(&self, line: &mut Vec<u8>, known: &str) {
        for (name, id) in [("trace_id", self.trace_id), ("span_id", self.span_id)] {
            if id.iter().any(|b| *b != 0) && !known.contains(name) {
                put_text(line, name, &hex(id));
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn put_key(line: &mut Vec<u8>, key: &str) {
    if !line.ends_with(b"{") {
        line.push(b',');
    }
    put_string(line, key);
    line.push(b':');
}

fn put_text(line: &mut Vec<u8>, key: &str, value: &str) {
    put_key(line, key);
    put_string(line, value);
}

fn put_string(line: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(&mut *line, text).expect("writing to memory cannot fail");
}

fn put_pairs(line: &mut Vec<u8>, pairs: &[&[u8]], depth: usize) {
    for pair in pairs {
        put_key(line, &String::from_utf8_lossy(key_of(pair)));
        put_any(line, value_of(pair), depth);
    }
}

/// AnyValue as JSON.
fn put_any(line: &mut Vec<u8>, any: &[u8], depth: usize) {
    // The last one counts, as for every field that stands twice.
    let Some(field) = fields(any).filter(|f| (1..=7).contains(&f.number)).last() else {
        line.extend_from_slice(b"null");
        return;
    };
    match (field.number, field.value) {
        (1, Value::Bytes(text)) => put_string(line, &String::from_utf8_lossy(text)),
        (2, Value::Varint(b)) => line.extend_from_slice(if b == 0 { b"false" } else { b"true" }),
        (3, Value::Varint(n)) => drop(write!(line, "{}", n.cast_signed())),
        (4, Value::Fixed64(bits)) => {
            let number = f64::from_bits(bits);
            // JSON has no word for infinity.
            serde_json::to_writer(line, &number).expect("writing to memory cannot fail");
        }
        (5, Value::Bytes(array)) if depth < DEPTH_MAX => {
            line.push(b'[');
            for (index, item) in messages(array).enumerate() {
                if index > 0 {
                    line.push(b',');
                }
                put_any(line, item, depth + 1);
            }
            line.push(b']');
        }
        (6, Value::Bytes(list)) if depth < DEPTH_MAX => {
            line.push(b'{');
            let pairs: Vec<&[u8]> = messages(list).collect();
            put_pairs(line, &pairs, depth + 1);
            line.push(b'}');
        }
        (7, Value::Bytes(bytes)) => put_string(line, &hex(bytes)),
        _ => line.extend_from_slice(b"null"),
    }
}

fn messages(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    fields(list).filter(|f| f.number == 1).filter_map(|f| f.value.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::otlp::json;
    use proptest::prelude::*;

    fn author() -> Author {
        Author { service: "order".into(), version: "1".into(), environment: "prod".into() }
    }

    fn lines_of(json: &str) -> Vec<String> {
        let request = json::to_protobuf(json.as_bytes(), &json::LOGS).expect("transcodes");
        let mut out = Vec::new();
        let now = Timestamp::from_millis(5_000);
        let count =
            lines(&request, &author(), now, |line, _| out.push(String::from_utf8(line.to_vec()).expect("utf-8")));
        assert_eq!(count, Ok(out.len() as u64));
        out
    }

    #[test]
    fn records_become_lines_of_the_platform_s_layout() {
        let lines = lines_of(
            r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"web"}}]},
                "scopeLogs":[{"logRecords":[
                  {"timeUnixNano":"1736937000000000000","severityNumber":17,"body":{"stringValue":"no \"card\""},
                   "traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331",
                   "attributes":[{"key":"n","value":{"intValue":"-3"}},{"key":"l","value":{"arrayValue":{"values":[
                      {"doubleValue":0.5},{"boolValue":true},{"kvlistValue":{"values":[{"key":"k","value":{}}]}}]}}}]},
                  {"severityText":"Warning","body":{"kvlistValue":{"values":[{"key":"a","value":{"intValue":1}}]}}}]}]},
                {"scopeLogs":[{"logRecords":[
                  {"severityNumber":9,"body":{"stringValue":"{\"message\":\"hi\",\"level\":\"info\"}"},
                   "traceId":"0af7651916cd43dd8448eb211c80319c"},
                  {"severityNumber":13,"body":{"stringValue":"{}"}}]}]}]}"#,
        );
        assert_eq!(
            lines[0],
            concat!(
                r#"{"timestamp":"2025-01-15T10:30:00.000Z","level":"error","service":"web","version":"1","environment":"prod","#,
                r#""trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331","message":"no \"card\"","#,
                r#""data":{"n":-3,"l":[0.5,true,{"k":null}]}}"#,
            )
        );
        assert_eq!(
            lines[1],
            concat!(
                r#"{"timestamp":"1970-01-01T00:00:05.000Z","level":"warn","service":"web","version":"1","environment":"prod","#,
                r#""message":"{\"a\":1}"}"#,
            )
        );
        assert_eq!(lines[2], r#"{"trace_id":"0af7651916cd43dd8448eb211c80319c","message":"hi","level":"info"}"#);
        assert_eq!(lines[3], r#"{"level":"warn"}"#);
    }

    proptest! {
        #[test]
        fn whatever_comes_every_line_is_json(request in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = lines(&request, &author(), Timestamp::from_millis(0), |line, _| {
                assert!(serde_json::from_slice::<serde_json::Value>(line).is_ok() || line.starts_with(b"{"));
            });
        }
    }
}
