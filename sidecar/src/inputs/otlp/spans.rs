//! The spans of a trace request, looked at only as far as somebody needs them.
//!
//! ExportTraceServiceRequest.resource_spans = 1, ResourceSpans.scope_spans = 2, ScopeSpans.spans = 2
//! (opentelemetry-proto trace/v1).

use super::wire::{self, NotProtobuf, Value, fields, put_bytes};

/// How many spans a request has.
///
/// # Errors
/// Where the bytes are no protobuf.
pub fn count(request: &[u8]) -> Result<u64, NotProtobuf> {
    let mut count = 0;
    each(request, |_| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// Calls `visit` with the bytes of each span.
///
/// # Errors
/// Where the bytes are no protobuf, and whatever `visit` says.
pub fn each<'a>(
    request: &'a [u8],
    mut visit: impl FnMut(&'a [u8]) -> Result<(), NotProtobuf>,
) -> Result<(), NotProtobuf> {
    wire::each(request, 1, |of_resource| wire::each(of_resource, 2, |of_scope| wire::each(of_scope, 2, &mut visit)))
}

/// What a span says of itself in its first level.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Head {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub is_server: bool,
    pub is_error: bool,
    pub start_nanos: u64,
    pub end_nanos: u64,
}

const KIND_SERVER: u64 = 2;
const STATUS_ERROR: u64 = 2;

impl Head {
    /// # Errors
    /// Where the bytes are no protobuf.
    pub fn of(span: &[u8]) -> Result<Head, NotProtobuf> {
        let mut head = Head::default();
        let mut walk = fields(span);
        for field in walk.by_ref() {
            match (field.number, field.value) {
                (1, Value::Bytes(id)) => head.trace_id = id.try_into().unwrap_or_default(),
                (2, Value::Bytes(id)) => head.span_id = id.try_into().unwrap_or_default(),
                (6, Value::Varint(kind)) => head.is_server = kind == KIND_SERVER,
                (7, Value::Fixed64(nanos)) => head.start_nanos = nanos,
                (8, Value::Fixed64(nanos)) => head.end_nanos = nanos,
                (15, Value::Bytes(status)) => {
                    head.is_error = fields(status).any(|f| f.number == 3 && f.value == Value::Varint(STATUS_ERROR));
                }
                _ => {}
            }
        }
        if walk.is_sound() { Ok(head) } else { Err(NotProtobuf) }
    }

    pub fn duration_nanos(&self) -> u64 {
        self.end_nanos.saturating_sub(self.start_nanos)
    }
}

/// What stands round a span: the resource and the scope, without the spans themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    of_resource: Vec<u8>,
    of_scope: Vec<u8>,
}

/// Calls `visit` with the envelope and the bytes of each span; an envelope is made once for its spans.
///
/// # Errors
/// Where the bytes are no protobuf.
pub fn each_enveloped<'a>(
    request: &'a [u8],
    mut visit: impl FnMut(&std::sync::Arc<Envelope>, &'a [u8]) -> Result<(), NotProtobuf>,
) -> Result<(), NotProtobuf> {
    let without_spans = |message: &[u8]| -> Vec<u8> {
        fields(message).filter(|f| f.number != 2).flat_map(|f| f.raw).copied().collect()
    };
    wire::each(request, 1, |of_resource| {
        let around = without_spans(of_resource);
        wire::each(of_resource, 2, |of_scope| {
            let envelope = Envelope { of_resource: around.clone(), of_scope: without_spans(of_scope) };
            let envelope = std::sync::Arc::new(envelope);
            wire::each(of_scope, 2, |span| visit(&envelope, span))
        })
    })
}

/// Spans put together into a request again; neighbours with the same envelope share it.
pub fn request<'a>(spans: impl IntoIterator<Item = (&'a Envelope, &'a [u8])>) -> Vec<u8> {
    let (mut out, mut of_scope): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    let mut current: Option<&Envelope> = None;
    for (envelope, span) in spans {
        if current.is_some_and(|current| current != envelope) {
            close(&mut out, current, &mut of_scope);
        }
        if of_scope.is_empty() {
            of_scope.extend_from_slice(&envelope.of_scope);
        }
        current = Some(envelope);
        put_bytes(&mut of_scope, 2, span);
    }
    close(&mut out, current, &mut of_scope);
    out
}

fn close(out: &mut Vec<u8>, envelope: Option<&Envelope>, of_scope: &mut Vec<u8>) {
    let Some(envelope) = envelope.filter(|_| !of_scope.is_empty()) else { return };
    let mut of_resource = envelope.of_resource.clone();
    put_bytes(&mut of_resource, 2, of_scope);
    put_bytes(out, 1, &of_resource);
    of_scope.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind};
    use prost::Message;

    fn span(name: &str) -> Span {
        Span {
            name: name.into(),
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            kind: SpanKind::Server.into(),
            start_time_unix_nano: 1_000,
            end_time_unix_nano: 3_500,
            status: Some(Status { code: 2, message: "no".into() }),
            ..Span::default()
        }
    }

    fn sample() -> ExportTraceServiceRequest {
        let scope = |name: &str, spans: &[&str]| ScopeSpans {
            scope: Some(InstrumentationScope { name: name.into(), ..InstrumentationScope::default() }),
            spans: spans.iter().map(|name| span(name)).collect(),
            ..ScopeSpans::default()
        };
        let resource =
            |scopes| ResourceSpans { scope_spans: scopes, schema_url: "s".into(), ..ResourceSpans::default() };
        ExportTraceServiceRequest {
            resource_spans: vec![resource(vec![scope("x", &["a", "b"])]), resource(vec![scope("y", &["c"])])],
        }
    }

    #[test]
    fn spans_are_counted_and_their_heads_read() {
        let body = sample().encode_to_vec();
        assert_eq!(count(&body), Ok(3));
        assert_eq!(count(b""), Ok(0));
        assert_eq!(count(b"hello"), Err(NotProtobuf));
        let head = Head::of(&span("a").encode_to_vec()).expect("protobuf");
        assert_eq!((head.trace_id, head.span_id, head.is_server, head.is_error), ([1; 16], [2; 8], true, true));
        assert_eq!(head.duration_nanos(), 2_500);
    }

    #[test]
    fn spans_taken_apart_and_put_together_are_the_same_request() {
        let body = sample().encode_to_vec();
        let mut spans = Vec::new();
        each_enveloped(&body, |envelope, span| {
            spans.push((envelope.clone(), span));
            Ok(())
        })
        .expect("protobuf");
        let again = request(spans.iter().map(|(envelope, span)| (&**envelope, *span)));
        assert_eq!(ExportTraceServiceRequest::decode(&again[..]).expect("decodes"), sample());
        assert_eq!(request([]), b"");
    }
}
