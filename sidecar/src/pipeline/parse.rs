//! One line of text becomes a record of the platform.
//!
//! A JSON line in the platform's layout passes byte for byte. Other loggers' JSON and logfmt are put together anew from
//! slices of the line, by the names that those loggers use; nothing is decoded that stays what it is. A plain line
//! becomes the message, with its level, time and trace id recognised where they stand.

pub mod logfmt;
mod map;
pub mod names;
mod roles;
pub mod scan;
pub mod text;
pub mod write;

use telemetry::Timestamp;
use telemetry::log_record::Level;
use telemetry::trace::TraceId;

use self::map::map;
use self::roles::Roles;
use self::scan::Kind;
use super::multiline;

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
/// Logback's name for it, and ours.
const STACK_TRACE: &str = "stack_trace";
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
            None => map(text, &fields, &roles, author, now, out),
        };
        if memchr::memchr(b'\n', line).is_some() {
            // Between members only: in a string it would be escaped.
            out.iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
        }
        return Some(finish(parsed, additions, out));
    }
    if memchr::memchr(b'=', line).is_some()
        && let Some(parsed) = of_logfmt(text, author, now, scratch, out)
    {
        return Some(finish(parsed, additions, out));
    }
    Some(finish(wrap(line, author, now, out), additions, out))
}

/// The record of a line in logfmt. A stack trace that was joined to it is data, as it is of loggers that write JSON.
fn of_logfmt(text: &str, author: &Author, now: Timestamp, scratch: &mut Scratch, out: &mut Vec<u8>) -> Option<Parsed> {
    let trace = text.split_once('\n').filter(|(line, below)| multiline::is_trace(line, below));
    let (line, trace) = trace.map_or((text, None), |(line, below)| (line, Some(below)));
    let json = &mut scratch.json;
    json.clear();
    if !logfmt::to_json(line, json) {
        return None;
    }
    if let Some(trace) = trace {
        json.pop();
        write::name(STACK_TRACE, json);
        write::quoted(trace.as_bytes(), json);
        json.push(b'}');
    }
    let mut fields = Vec::with_capacity(16);
    let object = std::str::from_utf8(json).expect("made of a string and ASCII");
    scan::object(object, &mut fields).then(|| map(object, &fields, &Roles::of(&fields), author, now, out))
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

#[cfg(test)]
mod tests;

#[cfg(test)]
mod logger_tests;
