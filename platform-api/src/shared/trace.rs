//! Trace context: taken from a request or an event, put on the span and its log lines, handed on.
//!
//! Ids come from the OpenTelemetry layer, also when nothing exports: log lines then still correlate.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use telemetry::trace::TraceParent;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The header of W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// What the log line and the span of a request say about it.
pub struct RequestFacts<'a> {
    pub id: &'a str,
    pub method: &'a str,
    /// The route's template names the span: its number is bounded.
    pub route: &'a str,
    pub path: &'a str,
    pub ip: &'a str,
    pub user_agent: Option<&'a str>,
}

/// The span of a request; continues `parent`'s trace, or begins one.
///
/// Spans that carry ids are at level error so that no log level switches correlation off.
pub fn request_span(request: &RequestFacts<'_>, parent: Option<TraceParent>) -> Span {
    let span = tracing::error_span!(
        parent: None,
        "request",
        otel.name = format!("{} {}", request.method, request.route),
        otel.kind = "server",
        trace_id = tracing::field::Empty,
        span_id = tracing::field::Empty,
        parent_span_id = tracing::field::Empty,
        request.id = request.id,
        request.method = request.method,
        request.path = request.path,
        request.ip = request.ip,
        request.user_agent = request.user_agent,
        request.user_id = tracing::field::Empty,
        request.org_id = tracing::field::Empty,
    );
    begin(&span, parent);
    span.set_attribute("http.request.method", request.method.to_owned());
    span.set_attribute("http.route", request.route.to_owned());
    span.set_attribute("url.path", request.path.to_owned());
    span
}

/// The span of work that no request asks for: a delivery, a periodic job.
pub fn job_span(name: &str, parent: Option<TraceParent>) -> Span {
    let span = tracing::error_span!(
        parent: None,
        "job",
        otel.name = name,
        otel.kind = "consumer",
        trace_id = tracing::field::Empty,
        span_id = tracing::field::Empty,
        parent_span_id = tracing::field::Empty,
    );
    begin(&span, parent);
    span
}

/// The span of a call to a neighbour, within the current one.
pub fn call_span(method: &str, service: &str, url: &str) -> Span {
    let span = tracing::error_span!("call", otel.name = format!("{method} {service}"), otel.kind = "client");
    span.set_attribute("http.request.method", method.to_owned());
    span.set_attribute("server.address", service.to_owned());
    span.set_attribute("url.full", url.to_owned());
    span
}

fn begin(span: &Span, parent: Option<TraceParent>) {
    if let Some(parent) = parent {
        let flags = if parent.sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
        let remote = SpanContext::new(
            TraceId::from_bytes(*parent.trace_id.as_bytes()),
            SpanId::from_bytes(*parent.parent_id.as_bytes()),
            flags,
            true,
            TraceState::default(),
        );
        // Fails where the layer is absent, as in tests without telemetry: then there are no ids at all.
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(remote));
        span.record("parent_span_id", parent.parent_id.to_string());
    }
    if let Some(own) = traceparent_of(span) {
        span.record("trace_id", own.trace_id.to_string());
        span.record("span_id", own.parent_id.to_string());
    }
}

/// The trace context that a callee of this span shall continue.
pub fn traceparent_of(span: &Span) -> Option<TraceParent> {
    let context = span.context();
    let span = context.span();
    let own = span.span_context();
    Some(TraceParent {
        trace_id: telemetry::trace::TraceId::from_bytes(own.trace_id().to_bytes())?,
        parent_id: telemetry::trace::SpanId::from_bytes(own.span_id().to_bytes())?,
        sampled: own.is_sampled(),
    })
}

/// The same for the span we are in.
pub fn current() -> Option<TraceParent> {
    traceparent_of(&Span::current())
}
