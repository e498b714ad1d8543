//! Another logger's object becomes the platform's, put together from slices of the line.

use telemetry::Timestamp;
use telemetry::log_record::Level;
use telemetry::trace::{SpanId, TraceId, TraceParent};

use super::names::{Role, role_of};
use super::roles::{Roles, is_request};
use super::scan::{self, Field, Kind};
use super::{Author, INVALID_TRACE_ID, Parsed, head, hex, text, write};

/// Puts the record together from the members of another logger's object, which stand in `line`.
pub(super) fn map<'a>(
    line: &'a str,
    fields: &[Field<'a>],
    roles: &Roles,
    author: &Author,
    now: Timestamp,
    out: &mut Vec<u8>,
) -> Parsed {
    let get = |role| roles.get(role, fields);
    let mut inner = Vec::new();
    let nested = Nested::of(fields, roles, &mut inner);
    let given_level = get(Role::Level).and_then(level_of);
    let given_time = get(Role::Timestamp).and_then(time_of);
    let level = given_level.or(nested.level).unwrap_or(Level::Info);
    let timestamp = given_time.unwrap_or(now);
    let parent = get(Role::TraceParent).and_then(Field::plain).and_then(TraceParent::parse);
    let trace_field = get(Role::TraceId);
    let given = trace_field.and_then(Field::plain).and_then(text::trace_id_of);
    let trace_id = given.or(nested.trace_id).or(parent.map(|p| p.trace_id));
    let span_of = |role| get(role).and_then(Field::plain).and_then(span_id_of);
    let (given_span, given_parent) = (span_of(Role::SpanId), span_of(Role::ParentSpanId));
    let span_id = given_span.or(nested.span_id).or(parent.map(|p| p.parent_id));
    let request = get(Role::Request).filter(|field| is_request(field));

    head(out, timestamp, level);
    let text_of = |role, name: &str, default: &str, out: &mut Vec<u8>| {
        write::name(name, out);
        match get(role) {
            Some(field) => out.extend_from_slice(field.value.as_bytes()),
            None => write::quoted(default.as_bytes(), out),
        }
    };
    text_of(Role::Service, "service", &author.service, out);
    text_of(Role::Version, "version", &author.version, out);
    text_of(Role::Environment, "environment", &author.environment, out);
    if let Some(id) = trace_id {
        hex("trace_id", &id.hex(), out);
    }
    if let Some(id) = span_id {
        hex("span_id", &id.hex(), out);
    }
    if let Some(id) = given_parent {
        hex("parent_span_id", &id.hex(), out);
    }
    if let Some(field) = request {
        write::name("request", out);
        out.extend_from_slice(field.value.as_bytes());
    }
    write::name("message", out);
    match get(Role::Message).copied().or(nested.message) {
        Some(field) if field.is_string() => out.extend_from_slice(field.value.as_bytes()),
        Some(field) => write::quoted(field.value.as_bytes(), out),
        None => out.extend_from_slice(b"\"\""),
    }

    // Everything else is data, under its own name.
    let mut data = Data { out, open: false, pending: &line[..0], line };
    let taken = |role: Role| -> bool {
        match role {
            Role::TraceId => given.is_some(),
            Role::SpanId => given_span.is_some(),
            Role::ParentSpanId => given_parent.is_some(),
            Role::Request => request.is_some(),
            Role::TraceParent => parent.is_some() && trace_id == parent.map(|p| p.trace_id),
            Role::Level => given_level.is_some(),
            Role::Timestamp => given_time.is_some(),
            _ => true,
        }
    };
    for (index, field) in fields.iter().enumerate() {
        let role = roles.named(index);
        let plays = role.filter(|role| roles.of[*role as usize] == Some(index as u16));
        match plays {
            Some(Role::Data) => data.spread(field.value),
            Some(role) if taken(role) => {}
            None if field.kind == Kind::Null && role.is_some_and(|role| role != Role::Data) => {}
            Some(Role::TraceId) => data.add(INVALID_TRACE_ID, field.value),
            _ if nested.spread == Some(index) => {
                for field in inner.iter().filter(|f| !nested.placed.contains(f)) {
                    let foreign = matches!(role_of(field.key), Some((Role::TraceId, _)));
                    match foreign {
                        true => data.add(INVALID_TRACE_ID, field.value),
                        false => data.pass(field),
                    }
                }
            }
            _ => data.pass(field),
        }
    }
    data.close();
    if let Some(field) = get(Role::DurationMs) {
        write::name("duration_ms", out);
        out.extend_from_slice(field.value.as_bytes());
    }
    out.push(b'}');
    Parsed { level, timestamp, trace_id }
}

/// The members that are data, in an object that is opened by the first.
struct Data<'o, 'a> {
    out: &'o mut Vec<u8>,
    open: bool,
    line: &'a str,
    /// Members side by side in the line, which are copied at once.
    pending: &'a str,
}

impl<'a> Data<'_, 'a> {
    fn begin(&mut self) {
        self.copy_pending();
        self.comma();
    }

    fn comma(&mut self) {
        match std::mem::replace(&mut self.open, true) {
            true => self.out.push(b','),
            false => self.out.extend_from_slice(b",\"data\":{"),
        }
    }

    fn copy_pending(&mut self) {
        if !self.pending.is_empty() {
            self.comma();
            self.out.extend_from_slice(self.pending.as_bytes());
            self.pending = &self.line[..0];
        }
    }

    /// A member of the line, as it stands there.
    fn pass(&mut self, field: &Field<'a>) {
        let place = |part: &str| (part.as_ptr() as usize).wrapping_sub(self.line.as_ptr() as usize);
        let (from, to) = (place(field.key).wrapping_sub(1), place(field.value).wrapping_add(field.value.len()));
        // With nothing but a colon between them: blanks are left out.
        let dense = place(field.value) == from.wrapping_add(field.key.len() + 3);
        let Some(member) = self.line.get(from..to).filter(|_| dense) else {
            return self.add(field.key, field.value);
        };
        let before = place(self.pending);
        if !self.pending.is_empty() && before + self.pending.len() + 1 == from {
            self.pending = &self.line[before..to];
            return;
        }
        self.copy_pending();
        self.pending = member;
    }

    fn add(&mut self, key: &str, value: &str) {
        self.begin();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out.extend_from_slice(value.as_bytes());
    }

    /// The members of an object, as they are.
    fn spread(&mut self, object: &str) {
        let inside = object[1..object.len() - 1].trim();
        if !inside.is_empty() {
            self.begin();
            self.out.extend_from_slice(inside.as_bytes());
        }
    }

    fn close(&mut self) {
        self.copy_pending();
        if self.open {
            self.out.push(b'}');
        }
    }
}

/// What some loggers hold in objects: tracing the message in `fields`, Elastic's loggers `log.level`, `trace.id`.
struct Nested<'a> {
    level: Option<Level>,
    trace_id: Option<TraceId>,
    span_id: Option<SpanId>,
    message: Option<Field<'a>>,
    /// Of the members that are spread, those that have found their place.
    placed: Vec<Field<'a>>,
    /// The member whose own members take its place among the data.
    spread: Option<usize>,
}

impl<'a> Nested<'a> {
    fn of(fields: &[Field<'a>], roles: &Roles, inner: &mut Vec<Field<'a>>) -> Self {
        let mut found =
            Nested { level: None, trace_id: None, span_id: None, message: None, placed: Vec::new(), spread: None };
        let has = |role: Role| roles.of[role as usize].is_some();
        let mut fields_at = None;
        for (index, field) in fields.iter().enumerate().filter(|(_, f)| f.kind == Kind::Object) {
            let text = |inner: &mut Vec<Field<'a>>, key: &str| -> Option<&'a str> {
                scan::object(field.value, inner);
                inner.iter().find(|f| f.key == key)?.plain()
            };
            match field.key {
                "fields" if !has(Role::Message) => fields_at = Some((index, field.value)),
                "log" if !has(Role::Level) => found.level = text(inner, "level").and_then(level_of_word),
                "trace" if !has(Role::TraceId) => found.trace_id = text(inner, "id").and_then(text::trace_id_of),
                "span" if !has(Role::SpanId) => found.span_id = text(inner, "id").and_then(span_id_of),
                _ => {}
            }
        }
        inner.clear();
        if let Some((index, value)) = fields_at {
            scan::object(value, inner);
            found.message = inner.iter().find(|f| f.key == "message").copied();
            found.placed.extend(found.message);
            for field in inner.iter() {
                let text = field.plain().unwrap_or_default();
                match role_of(field.key) {
                    Some((Role::TraceId, _)) if !has(Role::TraceId) && found.trace_id.is_none() => {
                        found.trace_id = text::trace_id_of(text);
                        found.placed.extend(found.trace_id.map(|_| *field));
                    }
                    Some((Role::SpanId, _)) if !has(Role::SpanId) && found.span_id.is_none() => {
                        found.span_id = span_id_of(text);
                        found.placed.extend(found.span_id.map(|_| *field));
                    }
                    _ => {}
                }
            }
            found.spread = found.message.map(|_| index);
        }
        found
    }
}

fn level_of(field: &Field<'_>) -> Option<Level> {
    match field.kind {
        Kind::String { .. } => level_of_word(field.plain()?),
        // pino and bunyan count by tens; GELF and syslog have eight severities, 0 being the worst.
        Kind::Number => match field.value.parse().ok()? {
            0..=3 => Some(Level::Error),
            4 => Some(Level::Warn),
            5 | 6 => Some(Level::Info),
            7 => Some(Level::Debug),
            number => Level::from_number(number),
        },
        _ => None,
    }
}

/// slog writes a level between two as `INFO+2`.
fn level_of_word(word: &str) -> Option<Level> {
    let word = word.trim();
    Level::recognise(word).or_else(|| Level::recognise(word.split(['+', '-']).next()?))
}

fn time_of(field: &Field<'_>) -> Option<Timestamp> {
    match field.kind {
        Kind::String { .. } => {
            let text = field.plain()?;
            text::time(text).or_else(|| text::time_of_number(text.parse().ok()?))
        }
        Kind::Number => text::time_of_number(field.value.parse().ok()?),
        _ => None,
    }
}

fn span_id_of(text: &str) -> Option<SpanId> {
    SpanId::parse(&text.to_ascii_lowercase())
}
