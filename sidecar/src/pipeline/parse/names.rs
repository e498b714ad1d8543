//! What loggers call the things that the platform's layout has a name for.
//!
//! Read off the loggers themselves: pino, winston, bunyan (Node), zap, logrus, slog (Go), structlog and
//! python-json-logger (Python), logback with logstash-logback-encoder and log4j2 (Java), serilog (.NET), tracing
//! (Rust), Elastic's ECS, OpenTelemetry's log correlation.

/// A place in the platform's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    Timestamp,
    Level,
    Service,
    Version,
    Environment,
    TraceId,
    SpanId,
    ParentSpanId,
    Request,
    Message,
    Data,
    DurationMs,
    TraceParent,
}

pub const ROLES: usize = 13;

/// The role of a key, and its rank among the names of that role: of several the lowest wins, the others stay data.
pub fn role_of(key: &str) -> Option<(Role, u8)> {
    use Role::*;
    Some(match key {
        "timestamp" => (Timestamp, 0),
        "@timestamp" => (Timestamp, 1),
        "time" => (Timestamp, 2),
        "ts" => (Timestamp, 3),
        "@t" => (Timestamp, 4),
        "Timestamp" => (Timestamp, 5),
        "asctime" => (Timestamp, 6),
        "datetime" => (Timestamp, 7),
        "timeMillis" => (Timestamp, 8),
        "level" => (Level, 0),
        "severity" => (Level, 1),
        "levelname" => (Level, 2),
        "lvl" => (Level, 3),
        "log.level" => (Level, 4),
        "@l" => (Level, 5),
        "Level" => (Level, 6),
        "loglevel" | "log_level" | "logLevel" => (Level, 7),
        "severity_text" | "severityText" => (Level, 8),
        "service" => (Service, 0),
        "service.name" => (Service, 1),
        "otelServiceName" => (Service, 2),
        "version" => (Version, 0),
        "service.version" => (Version, 1),
        "environment" => (Environment, 0),
        "service.environment" | "deployment.environment" => (Environment, 1),
        "trace_id" => (TraceId, 0),
        "traceId" | "traceid" => (TraceId, 1),
        "trace.id" => (TraceId, 2),
        "TraceId" => (TraceId, 3),
        "@tr" => (TraceId, 4),
        "otelTraceID" => (TraceId, 5),
        "AWS-XRAY-TRACE-ID" | "xray_trace_id" => (TraceId, 6),
        "span_id" => (SpanId, 0),
        "spanId" | "spanid" => (SpanId, 1),
        "span.id" => (SpanId, 2),
        "SpanId" => (SpanId, 3),
        "@sp" => (SpanId, 4),
        "otelSpanID" => (SpanId, 5),
        "parent_span_id" => (ParentSpanId, 0),
        "parentSpanId" => (ParentSpanId, 1),
        "parent.id" => (ParentSpanId, 2),
        "request" => (Request, 0),
        "message" => (Message, 0),
        "msg" => (Message, 1),
        "@m" => (Message, 2),
        "RenderedMessage" => (Message, 3),
        "event" => (Message, 4),
        "short_message" => (Message, 5),
        "Message" => (Message, 6),
        "@mt" => (Message, 7),
        "MessageTemplate" => (Message, 8),
        "data" => (Data, 0),
        "duration_ms" => (DurationMs, 0),
        "traceparent" => (TraceParent, 0),
        _ => return None,
    })
}
