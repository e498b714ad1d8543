//! One line of text becomes a record of the platform.
//!
//! A JSON line in the platform's layout passes byte for byte. Other loggers' JSON and logfmt are put together anew from
//! slices of the line, by the names that those loggers use; nothing is decoded that stays what it is. A plain line
//! becomes the message, with its level, time and trace id recognised where they stand.

pub mod logfmt;
pub mod names;
pub mod scan;
pub mod text;
pub mod write;

use telemetry::Timestamp;
use telemetry::log_record::{Level, RequestContext};
use telemetry::trace::{SpanId, TraceId, TraceParent};

use self::names::{ROLES, Role, role_of};
use self::scan::{Field, Kind};

/// Who wrote the lines; fills what a foreign line does not say.
#[derive(Clone, Debug)]
pub struct Author {
    pub service: String,
    pub version: String,
    pub environment: String,
}

/// What the pipeline needs to know of a line; its text is in the buffer that was handed in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parsed {
    pub level: Level,
    pub timestamp: Timestamp,
    pub trace_id: Option<TraceId>,
}

/// What is added to every line.
#[derive(Clone, Debug, Default)]
pub struct Additions {
    /// Members, each with a comma in front: `,"container_name":"app"`.
    pub members: Vec<u8>,
    /// The trace id in X-Ray's form beside W3C's.
    pub xray: bool,
}

/// Room that is used again for every line.
#[derive(Default)]
pub struct Scratch {
    json: Vec<u8>,
}

/// Why an object in an event's root says that the line is a metric in CloudWatch's embedded format, which one more
/// member may spoil and another layout would.
const EMF: &str = "_aws";
const XRAY: &str = "xray_trace_id";
/// A foreign id that is none of W3C's is kept under this name.
const INVALID_TRACE_ID: &str = "invalid_trace_id";

/// Writes the record of `line` (without its newline), which was read at `now`, to `out`: one JSON object in UTF-8,
/// without a newline. None for a blank line.
pub fn parse(
    line: &[u8],
    author: &Author,
    now: Timestamp,
    additions: &Additions,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Option<Parsed> {
    out.clear();
    let line = line.trim_ascii_end();
    if line.trim_ascii_start().is_empty() {
        return None;
    }
    let Ok(text) = std::str::from_utf8(line) else {
        return Some(finish(wrap(line, author, now, out), additions, out));
    };
    let mut fields = Vec::with_capacity(16);
    if text.trim_start().starts_with('{') && scan::object(text, &mut fields) {
        if fields.iter().any(|f| f.key == EMF && f.kind == Kind::Object) {
            out.extend_from_slice(line);
            return Some(Parsed { level: Level::Info, timestamp: now, trace_id: None });
        }
        let roles = Roles::of(&fields);
        let parsed = match roles.as_it_should_be(&fields) {
            Some(parsed) => {
                out.extend_from_slice(text.trim_start().as_bytes());
                parsed
            }
            None => map(&fields, &roles, author, now, out),
        };
        if text.contains('\n') {
            // Between members only: in a string it would be escaped.
            out.iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
        }
        return Some(finish(parsed, additions, out));
    }
    if text.as_bytes().contains(&b'=') {
        scratch.json.clear();
        if logfmt::to_json(text, &mut scratch.json) {
            let json = std::str::from_utf8(&scratch.json).expect("made of a string and ASCII");
            if scan::object(json, &mut fields) {
                let parsed = map(&fields, &Roles::of(&fields), author, now, out);
                return Some(finish(parsed, additions, out));
            }
        }
    }
    Some(finish(wrap(line, author, now, out), additions, out))
}

/// Adds what is added to every line before the closing bracket.
fn finish(parsed: Parsed, additions: &Additions, out: &mut Vec<u8>) -> Parsed {
    let xray = parsed.trace_id.filter(|_| additions.xray);
    if xray.is_none() && additions.members.is_empty() {
        return parsed;
    }
    debug_assert_eq!(out.last(), Some(&b'}'));
    out.pop();
    if let Some(id) = xray {
        write::name(XRAY, out);
        out.push(b'"');
        text::xray_form(id, out);
        out.push(b'"');
    }
    out.extend_from_slice(&additions.members);
    out.push(b'}');
    parsed
}

/// Which member plays which role; an index into the fields.
struct Roles {
    of: [Option<u16>; ROLES],
    /// Some member is not under its own name in the layout, or there are two for one role.
    foreign: bool,
}

impl Roles {
    fn of(fields: &[Field<'_>]) -> Roles {
        let mut roles = Roles { of: [None; ROLES], foreign: false };
        let mut ranks = [u8::MAX; ROLES];
        for (index, field) in fields.iter().enumerate() {
            // Behind an escape may hide a name that another member has too.
            roles.foreign |= field.key.contains('\\');
            let Some((role, rank)) = role_of(field.key) else { continue };
            // A null says nothing, and nothing else would be left of it.
            let fits = match role {
                Role::Service | Role::Version | Role::Environment => field.is_string(),
                Role::Request => field.kind == Kind::Object,
                Role::Data => field.kind == Kind::Object,
                Role::DurationMs => field.kind == Kind::Number,
                _ => field.kind != Kind::Null,
            };
            let place = role as usize;
            roles.foreign |= rank > 0 || !fits || roles.of[place].is_some();
            if fits && rank < ranks[place] {
                (roles.of[place], ranks[place]) = (Some(index as u16), rank);
            }
        }
        roles
    }

    fn get<'f, 'a>(&self, role: Role, fields: &'f [Field<'a>]) -> Option<&'f Field<'a>> {
        self.of[role as usize].map(|index| &fields[usize::from(index)])
    }

    /// The line needs no change: every reader of the platform's layout can read it.
    fn as_it_should_be(&self, fields: &[Field<'_>]) -> Option<Parsed> {
        if self.foreign {
            return None;
        }
        let plain = |role| self.get(role, fields).map(Field::plain);
        // The layout has lower-case names of five levels; anything else is somebody else's JSON.
        let name = plain(Role::Level)??;
        let level = Level::ALL.into_iter().find(|level| level.as_str() == name)?;
        let timestamp = Timestamp::parse_rfc3339(plain(Role::Timestamp)??)?;
        for role in [Role::Service, Role::Version, Role::Environment] {
            self.get(role, fields)?;
        }
        if !self.get(Role::Message, fields)?.is_string() {
            return None;
        }
        let trace_id = match plain(Role::TraceId) {
            Some(text) => Some(TraceId::parse(text?)?),
            None => None,
        };
        for role in [Role::SpanId, Role::ParentSpanId] {
            if let Some(text) = plain(role) {
                SpanId::parse(text?)?;
            }
        }
        if let Some(request) = self.get(Role::Request, fields) {
            is_request(request).then_some(())?;
        }
        Some(Parsed { level, timestamp, trace_id })
    }
}

/// Whether the member is what the layout says of a request: what the readers of [`RequestContext`] can read.
fn is_request(field: &Field<'_>) -> bool {
    const TEXTS: [&str; 3] = ["id", "method", "path"];
    const OPTIONAL: [&str; 4] = ["user_id", "org_id", "ip", "user_agent"];
    let mut members = Vec::with_capacity(8);
    if !scan::object(field.value, &mut members) {
        return false;
    }
    // Behind an escape may hide one of the names.
    if members.iter().any(|m| m.key.contains('\\')) {
        return serde_json::from_str::<RequestContext>(field.value).is_ok();
    }
    let count = |name: &str| members.iter().filter(|m| m.key == name).count();
    TEXTS.iter().all(|name| count(name) == 1)
        && OPTIONAL.iter().all(|name| count(name) <= 1)
        && members.iter().all(|m| match m.key {
            key if TEXTS.contains(&key) => m.is_string(),
            key if OPTIONAL.contains(&key) => m.is_string() || m.kind == Kind::Null,
            _ => true,
        })
}

/// Puts the record together from the members of another logger's object.
fn map(fields: &[Field<'_>], roles: &Roles, author: &Author, now: Timestamp, out: &mut Vec<u8>) -> Parsed {
    let get = |role| roles.get(role, fields);
    let mut inner = Vec::new();
    let nested = Nested::of(fields, roles, &mut inner);
    let level = get(Role::Level).and_then(level_of).or(nested.level).unwrap_or(Level::Info);
    let timestamp = get(Role::Timestamp).and_then(time_of).unwrap_or(now);
    let parent = get(Role::TraceParent).and_then(Field::plain).and_then(TraceParent::parse);
    let trace_field = get(Role::TraceId);
    let given = trace_field.and_then(Field::plain).and_then(text::trace_id_of);
    let trace_id = given.or(nested.trace_id).or(parent.map(|p| p.trace_id));
    let span_of = |role| get(role).and_then(Field::plain).and_then(span_id_of);
    let span_id = span_of(Role::SpanId).or(nested.span_id).or(parent.map(|p| p.parent_id));
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
    if let Some(id) = span_of(Role::ParentSpanId) {
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
    let mut data = Data { out, open: false };
    let taken = |role: Role| -> bool {
        match role {
            Role::TraceId => given.is_some(),
            Role::SpanId | Role::ParentSpanId => span_of(role).is_some(),
            Role::Request => request.is_some(),
            Role::TraceParent => parent.is_some() && trace_id == parent.map(|p| p.trace_id),
            Role::Level => get(role).and_then(level_of).is_some(),
            Role::Timestamp => get(role).and_then(time_of).is_some(),
            _ => true,
        }
    };
    for (index, field) in fields.iter().enumerate() {
        let role = role_of(field.key).map(|(role, _)| role);
        let plays = role.filter(|role| roles.of[*role as usize] == Some(index as u16));
        match plays {
            Some(Role::Data) => data.spread(field.value),
            Some(role) if taken(role) => {}
            None if field.kind == Kind::Null && role.is_some_and(|role| role != Role::Data) => {}
            Some(Role::TraceId) => data.add(INVALID_TRACE_ID, field.value),
            _ if nested.spread == Some(index) => {
                for field in inner.iter().filter(|f| !nested.placed.contains(f)) {
                    let foreign = matches!(role_of(field.key), Some((Role::TraceId, _)));
                    data.add(if foreign { INVALID_TRACE_ID } else { field.key }, field.value);
                }
            }
            _ => data.add(field.key, field.value),
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
struct Data<'o> {
    out: &'o mut Vec<u8>,
    open: bool,
}

impl Data<'_> {
    fn begin(&mut self) {
        match std::mem::replace(&mut self.open, true) {
            true => self.out.push(b','),
            false => self.out.extend_from_slice(b",\"data\":{"),
        }
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

/// Appends `,"name":"digits"`.
fn hex(name: &str, digits: &[u8], out: &mut Vec<u8>) {
    write::name(name, out);
    out.push(b'"');
    out.extend_from_slice(digits);
    out.push(b'"');
}

/// `{"timestamp":"…","level":"…"`.
fn head(out: &mut Vec<u8>, timestamp: Timestamp, level: Level) {
    out.extend_from_slice(b"{\"timestamp\":\"");
    write::rfc3339(timestamp.as_millis(), out);
    out.extend_from_slice(b"\",\"level\":\"");
    out.extend_from_slice(level.as_str().as_bytes());
    out.push(b'"');
}

/// A line that is no JSON: its bytes are the message.
fn wrap(line: &[u8], author: &Author, now: Timestamp, out: &mut Vec<u8>) -> Parsed {
    // Levels, times and ids are ASCII; what is no text around them does not matter.
    let text = String::from_utf8_lossy(line);
    let level = text::level(&text);
    let timestamp = text::time_at_start(&text).unwrap_or(now);
    let trace_id = text::trace_id(&text);
    head(out, timestamp, level);
    for (name, value) in
        [("service", &author.service), ("version", &author.version), ("environment", &author.environment)]
    {
        write::name(name, out);
        write::quoted(value.as_bytes(), out);
    }
    if let Some(id) = trace_id {
        hex("trace_id", &id.hex(), out);
    }
    write::name("message", out);
    write::quoted(line, out);
    out.push(b'}');
    Parsed { level, timestamp, trace_id }
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

#[cfg(test)]
mod tests;

#[cfg(test)]
mod logger_tests;
