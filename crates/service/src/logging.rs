//! Logging: one line per event, as the platform's JSON (requirements 38-41) or, on a terminal, as text.
//!
//! Trace ids and the request's context come from the fields of the spans around an event: `trace_id`,
//! `span_id`, `parent_span_id`, and `request.id`, `request.method`, `request.path`, `request.user_id`,
//! `request.org_id`, `request.ip`, `request.user_agent`. An event's own `duration_ms` becomes the line's
//! duration; every other field, of the event and of its spans, goes under `data`.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use serde_json::{Map, Value};
use telemetry::log_record::{LogRecord, RequestContext};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt as text};

use crate::config::Env;

mod file;

pub use file::RotatingFile;

/// Who logs, and how.
#[derive(Clone, Debug)]
pub struct Logging {
    pub service: String,
    pub version: String,
    pub environment: String,
    /// Directives of tracing's filter: `info`, `info,sqlx=warn`.
    pub filter: String,
    pub format: Format,
    /// Write the platform's JSON to this file as well, for a sidecar that tails it.
    pub file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Text,
}

impl Logging {
    /// `LOG_LEVEL` (default `info`), `LOG_FORMAT` (`json` or `text`; text only where stdout is a
    /// terminal and nothing is said), `LOG_FILE` (JSON goes there too) and `ENVIRONMENT` (default `dev`).
    pub fn from_env(service: &str, env: &impl Env) -> Self {
        let format = match env.get("LOG_FORMAT").as_deref() {
            Some("json") => Format::Json,
            Some("text") => Format::Text,
            _ if std::io::stdout().is_terminal() => Format::Text,
            _ => Format::Json,
        };
        Logging {
            service: service.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            environment: env.get("ENVIRONMENT").filter(|e| !e.is_empty()).unwrap_or_else(|| "dev".to_owned()),
            filter: env.get("LOG_LEVEL").filter(|l| !l.is_empty()).unwrap_or_else(|| "info".to_owned()),
            format,
            file: env.get("LOG_FILE").filter(|f| !f.is_empty()).map(PathBuf::from),
        }
    }

    /// Starts logging to stdout for the whole process; a second call does nothing.
    pub fn start(self) {
        self.start_with(tracing_subscriber::layer::Identity::new());
    }

    /// The same with another layer beside it, such as the one that exports spans.
    pub fn start_with<L>(self, layer: L)
    where
        L: Layer<tracing_subscriber::layer::Layered<EnvFilter, tracing_subscriber::Registry>> + Send + Sync + 'static,
    {
        let filter = EnvFilter::try_new(&self.filter).unwrap_or_else(|error| {
            eprintln!("LOG_LEVEL={:?} is not a filter ({error}), using info", self.filter);
            EnvFilter::new("info")
        });
        let to_file = self.file.as_ref().and_then(|path| match RotatingFile::open(path) {
            Ok(file) => Some(JsonLines::new(self.clone(), move || file.clone())),
            Err(error) => {
                eprintln!("LOG_FILE={}: {error}; logging to stdout only", path.display());
                None
            }
        });
        let registry = tracing_subscriber::registry().with(filter).with(layer).with(to_file);
        let started = match self.format {
            Format::Json => registry.with(JsonLines::new(self, std::io::stdout)).try_init(),
            Format::Text => registry.with(text::layer().with_target(false).compact()).try_init(),
        };
        // A second start (tests in one process) keeps the first subscriber.
        drop(started);
    }
}

/// The layer that writes the platform's JSON.
pub struct JsonLines<W> {
    logging: Logging,
    writer: W,
}

impl<W, O> JsonLines<W>
where
    W: Fn() -> O + Send + Sync + 'static,
    O: Write,
{
    pub fn new(logging: Logging, writer: W) -> Self {
        JsonLines { logging, writer }
    }

    fn record(&self, level: &tracing::Level, fields: Fields) -> LogRecord {
        let Fields { mut map } = fields;
        // Instructions to the tracing layer (otel.name, otel.kind) are no facts about the event.
        map.retain(|key, _| !key.starts_with("otel."));
        let request = RequestContext {
            id: take(&mut map, "request.id").unwrap_or_default(),
            method: take(&mut map, "request.method").unwrap_or_default(),
            path: take(&mut map, "request.path").unwrap_or_default(),
            user_id: take(&mut map, "request.user_id"),
            org_id: take(&mut map, "request.org_id"),
            ip: take(&mut map, "request.ip"),
            user_agent: take(&mut map, "request.user_agent"),
        };
        LogRecord {
            timestamp: now_rfc3339(),
            level: level.as_str().to_ascii_lowercase(),
            service: self.logging.service.clone(),
            version: self.logging.version.clone(),
            environment: self.logging.environment.clone(),
            trace_id: take(&mut map, "trace_id"),
            span_id: take(&mut map, "span_id"),
            parent_span_id: take(&mut map, "parent_span_id"),
            request: Some(request).filter(|r| !r.id.is_empty()),
            message: take(&mut map, "message").unwrap_or_default(),
            duration_ms: map.remove("duration_ms").and_then(|v| v.as_f64()),
            data: map,
        }
    }
}

impl<S, W, O> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn() -> O + Send + Sync + 'static,
    O: Write,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flatten().collect::<Vec<_>>().into_iter().rev() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.map.extend(outer.map.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
        }
        event.record(&mut fields);
        let mut line = serde_json::to_vec(&self.record(event.metadata().level(), fields)).unwrap_or_default();
        line.push(b'\n');
        // One write per line, so that lines of several threads do not mix. Nobody to tell when it fails.
        let _ = (self.writer)().write_all(&line);
    }
}

#[derive(Default)]
struct Fields {
    map: Map<String, Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.map.insert(field.name().to_owned(), Value::String(format!("{value:?}")));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.map.insert(field.name().to_owned(), Value::String(value.to_owned()));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.map.insert(field.name().to_owned(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.map.insert(field.name().to_owned(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.map.insert(field.name().to_owned(), value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.map.insert(field.name().to_owned(), value.into());
    }
}

fn take(map: &mut Map<String, Value>, key: &str) -> Option<String> {
    match map.remove(key)? {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

/// The time now as the log line wants it, in UTC with milliseconds.
pub fn now_rfc3339() -> String {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    rfc3339_millis(since_epoch.as_millis())
}

/// Milliseconds since the epoch as `2024-01-15T10:30:00.000Z` (days to civil date after Howard Hinnant).
pub fn rfc3339_millis(millis: u128) -> String {
    let (days, of_day) = ((millis / 86_400_000) as i64, (millis % 86_400_000) as u64);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second, milli) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_the_platform_s_fields_in_their_places() {
        let buffer = Buffer::default();
        let out = buffer.clone();
        let logging = Logging {
            service: "order".into(),
            version: "1.0.0".into(),
            environment: "prod".into(),
            filter: "info".into(),
            format: Format::Json,
            file: None,
        };
        let subscriber = tracing_subscriber::registry().with(JsonLines::new(logging, move || out.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!(
                "request",
                trace_id = "0af7651916cd43dd8448eb211c80319c",
                request.id = "r1",
                request.method = "POST",
                request.path = "/api/v1/orders",
                request.user_id = tracing::field::Empty,
            );
            span.record("request.user_id", "u1");
            span.in_scope(|| tracing::warn!(duration_ms = 12.5, order_id = 7, "order {}", "refused"));
        });
        let line = String::from_utf8(buffer.0.lock().expect("not poisoned").clone()).expect("utf-8");
        let json: Value = serde_json::from_str(&line).expect("one JSON line");
        assert_eq!(json["level"], "warn");
        assert_eq!(json["service"], "order");
        assert_eq!(json["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(
            json["request"],
            serde_json::json!({"id": "r1", "method": "POST", "path": "/api/v1/orders", "user_id": "u1"})
        );
        assert_eq!(json["message"], "order refused");
        assert_eq!(json["duration_ms"], 12.5);
        assert_eq!(json["data"], serde_json::json!({"order_id": 7}));
    }

    #[test]
    fn dates_are_right_across_leap_days() {
        assert_eq!(rfc3339_millis(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339_millis(1_705_314_600_000), "2024-01-15T10:30:00.000Z");
        assert_eq!(rfc3339_millis(1_709_164_800_123), "2024-02-29T00:00:00.123Z");
    }
}
