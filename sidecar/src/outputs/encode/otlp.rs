//! ExportLogsServiceRequest in protobuf (opentelemetry-proto 1.x, logs/v1/logs.proto), written field by field: what a
//! batch needs of it is seven fields, and no tree of messages has to be built for them.

use telemetry::log_record::Level;
use telemetry::trace::{SpanId, TraceId};

use crate::pipeline::batch::Batch;
use crate::pipeline::parse::scan::{self, Field, Kind};

/// The attributes of the resource, encoded.
#[derive(Clone, Debug, Default)]
pub struct Resource(Vec<u8>);

impl Resource {
    pub fn new<'a>(attributes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut out = Vec::new();
        attributes.into_iter().for_each(|(key, value)| string_attribute(1, key, value, &mut out));
        Resource(out)
    }
}

pub(super) fn request(resource: &Resource, batch: &mut Batch) -> Vec<u8> {
    let mut records = Vec::with_capacity(batch.bytes());
    let (mut record, mut fields) = (Vec::new(), Vec::new());
    for (event, text) in batch.events() {
        record.clear();
        let nanos = (event.at.as_millis().max(0) as u64).saturating_mul(1_000_000);
        fixed64(1, nanos, &mut record);
        fixed64(11, nanos, &mut record);
        let (number, name) = severity(event.level);
        tag(2, 0, &mut record);
        varint(number, &mut record);
        bytes(3, name.as_bytes(), &mut record);
        content(text, &mut fields, &mut record);
        bytes(2, &record, &mut records);
    }
    let mut scope_logs = Vec::new();
    bytes(1, &[&[0x0a, 6][..], b"picket"].concat(), &mut scope_logs);
    scope_logs.extend_from_slice(&records);
    drop(records);
    let mut resource_logs = Vec::new();
    bytes(1, &resource.0, &mut resource_logs);
    bytes(2, &scope_logs, &mut resource_logs);
    let mut request = Vec::with_capacity(resource_logs.len() + 8);
    bytes(1, &resource_logs, &mut request);
    request
}

/// Body, attributes and ids of one line; a line that is not in the platform's layout is all body.
fn content(line: &[u8], fields: &mut Vec<Field<'_>>, out: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(line);
    let mut members = Vec::new();
    fields.clear();
    if !scan::object(&text, &mut members) || !members.iter().any(|f| f.key == "message") {
        let mut body = Vec::new();
        bytes(1, text.as_bytes(), &mut body);
        return bytes(5, &body, out);
    }
    for field in &members {
        match field.key {
            // Time and level stand in fields of their own, service and environment in the resource.
            "timestamp" | "level" | "service" | "version" | "environment" => {}
            "message" => bytes(5, &any_value(field), out),
            "trace_id" => {
                if let Some(id) = field.plain().and_then(TraceId::parse) {
                    bytes(9, id.as_bytes(), out);
                }
            }
            "span_id" => {
                if let Some(id) = field.plain().and_then(SpanId::parse) {
                    bytes(10, id.as_bytes(), out);
                }
            }
            "data" => {
                let mut data = Vec::new();
                scan::object(field.value, &mut data);
                data.iter().for_each(|f| attribute(f, out));
            }
            _ => attribute(field, out),
        }
    }
}

fn attribute(field: &Field<'_>, out: &mut Vec<u8>) {
    let mut key_value = Vec::new();
    let key = unescaped(&format!("\"{}\"", field.key));
    bytes(1, key.as_bytes(), &mut key_value);
    bytes(2, &any_value(field), &mut key_value);
    bytes(6, &key_value, out);
}

fn string_attribute(number: u64, key: &str, value: &str, out: &mut Vec<u8>) {
    let (mut key_value, mut any) = (Vec::new(), Vec::new());
    bytes(1, key.as_bytes(), &mut key_value);
    bytes(1, value.as_bytes(), &mut any);
    bytes(2, &any, &mut key_value);
    bytes(number, &key_value, out);
}

/// AnyValue: string 1, bool 2, int 3, double 4; objects and arrays as their JSON.
fn any_value(field: &Field<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match field.kind {
        Kind::String { plain: true } => bytes(1, &field.value.as_bytes()[1..field.value.len() - 1], &mut out),
        Kind::String { plain: false } => bytes(1, unescaped(field.value).as_bytes(), &mut out),
        Kind::Bool => {
            tag(2, 0, &mut out);
            varint(u64::from(field.value == "true"), &mut out);
        }
        Kind::Number => match field.value.parse::<i64>() {
            Ok(whole) => {
                tag(3, 0, &mut out);
                varint(whole as u64, &mut out);
            }
            Err(_) => {
                tag(4, 1, &mut out);
                out.extend_from_slice(&field.value.parse::<f64>().unwrap_or_default().to_le_bytes());
            }
        },
        Kind::Null => {}
        Kind::Object | Kind::Array => bytes(1, field.value.as_bytes(), &mut out),
    }
    out
}

fn unescaped(quoted: &str) -> String {
    serde_json::from_str(quoted).unwrap_or_else(|_| quoted.to_owned())
}

/// SeverityNumber and text.
fn severity(level: Level) -> (u64, &'static str) {
    match level {
        Level::Trace => (1, "TRACE"),
        Level::Debug => (5, "DEBUG"),
        Level::Info => (9, "INFO"),
        Level::Warn => (13, "WARN"),
        Level::Error => (17, "ERROR"),
    }
}

fn tag(number: u64, wire_type: u64, out: &mut Vec<u8>) {
    varint(number << 3 | wire_type, out);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn fixed64(number: u64, value: u64, out: &mut Vec<u8>) {
    tag(number, 1, out);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(number: u64, content: &[u8], out: &mut Vec<u8>) {
    tag(number, 2, out);
    varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use prost::Message;
    use service::metrics::Metrics;
    use telemetry::Timestamp;

    use super::*;
    use crate::pipeline::account::Account;
    use crate::pipeline::batch::Limits;

    #[test]
    fn a_reader_finds_the_record_and_its_resource() {
        let mut batch = Batch::new(&Account::of_logs(&Metrics::new(), "test"));
        let line = r#"{"timestamp":"2024-01-15T10:30:00.000Z","level":"error","service":"order","version":"1","environment":"prod","trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331","message":"a \"b\"","data":{"n":-3,"f":1.5,"t":true,"o":{"x":[1]}},"duration_ms":2}"#;
        batch.add(&Limits::NETWORK, line.as_bytes(), Timestamp(1_705_314_600_000), Level::Error, 1);
        batch.add(&Limits::NETWORK, b"no json \xff", Timestamp(1_705_314_600_001), Level::Info, 1);
        let body = request(&Resource::new([("service.name", "order")]), &mut batch);
        let decoded = ExportLogsServiceRequest::decode(&body[..]).expect("protobuf");
        let logs = &decoded.resource_logs[0];
        assert_eq!(logs.resource.as_ref().expect("a resource").attributes[0].key, "service.name");
        let [record, plain] = &logs.scope_logs[0].log_records[..] else { panic!("two records") };
        let value = |value: Option<Value>| value.expect("a value");
        let text = |text: &str| Value::StringValue(text.into());
        assert_eq!(value(record.body.clone().expect("a body").value), text("a \"b\""));
        assert_eq!((record.time_unix_nano, record.severity_number), (1_705_314_600_000_000_000, 17));
        assert_eq!((record.trace_id[0], record.span_id[0]), (0x0a, 0xb7));
        let attributes: Vec<(String, Value)> = record
            .attributes
            .iter()
            .map(|kv| (kv.key.clone(), value(kv.value.clone().expect("a value").value)))
            .collect();
        let expected = [
            ("n", Value::IntValue(-3)),
            ("f", Value::DoubleValue(1.5)),
            ("t", Value::BoolValue(true)),
            ("o", text(r#"{"x":[1]}"#)),
            ("duration_ms", Value::IntValue(2)),
        ];
        assert_eq!(attributes, expected.map(|(key, value)| (key.to_owned(), value)));
        assert_eq!(value(plain.body.clone().expect("a body").value), text("no json \u{fffd}"));
    }
}
