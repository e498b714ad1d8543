//! The last lines of each level, held for whoever asks why: `GET /logs/recent` answers with them while
//! the task is still there. Bounded in bytes; errors never give way to chatter, each level has its own ring.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use telemetry::log_record::Level;
use telemetry::trace::TraceId;

#[derive(Clone, Debug)]
pub struct Config {
    /// Lines kept of each level.
    pub lines_max: usize,
    /// Bytes kept of each level.
    pub bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        // Five levels: at most 640 KiB in all, of a ceiling of 48 MiB.
        Config { lines_max: 200, bytes_max: 128 * 1024 }
    }
}

/// How many lines an answer has where `limit` does not say.
const LIMIT_DEFAULT: usize = 50;

/// A handle; clones share the rings.
#[derive(Clone)]
pub struct Recent(Arc<Mutex<Rings>>);

struct Rings {
    config: Config,
    next_number: u64,
    levels: [Ring; 5],
}

/// The lines' text lies one behind the other: no memory is asked for per line.
#[derive(Default)]
struct Ring {
    lines: VecDeque<Line>,
    text: VecDeque<u8>,
    dropped: u64,
}

struct Line {
    /// Puts lines of several levels in order.
    number: u64,
    trace_id: Option<TraceId>,
    /// Of its text.
    length: usize,
}

impl Ring {
    fn push(&mut self, config: &Config, json: &[u8], number: u64, trace_id: Option<TraceId>) {
        if json.len() > config.bytes_max {
            // It would push all others out, and not fit itself.
            self.dropped += 1;
            return;
        }
        while self.lines.len() >= config.lines_max || self.text.len() + json.len() > config.bytes_max {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.text.drain(..oldest.length);
            self.dropped += 1;
        }
        self.text.extend(json);
        self.lines.push_back(Line { number, trace_id, length: json.len() });
    }

    /// The lines with their text, oldest first.
    fn iter(&self) -> impl Iterator<Item = (&Line, String)> {
        self.lines.iter().scan(0, |start, line| {
            let from = std::mem::replace(start, *start + line.length);
            let bytes: Vec<u8> = self.text.range(from..*start).copied().collect();
            Some((line, String::from_utf8(bytes).expect("it was UTF-8")))
        })
    }
}

/// Lines that are being remembered.
pub struct Remembering<'a>(MutexGuard<'a, Rings>);

impl Remembering<'_> {
    /// As [`Recent::remember`].
    pub fn remember(&mut self, json: &[u8], level: Level, trace_id: Option<TraceId>) {
        let rings = &mut *self.0;
        let number = rings.next_number;
        rings.next_number += 1;
        rings.levels[level as usize].push(&rings.config, json, number, trace_id);
    }
}

impl Recent {
    pub fn new(config: Config) -> Self {
        Recent(Arc::new(Mutex::new(Rings { config, next_number: 0, levels: Default::default() })))
    }

    /// Takes a line that is JSON in UTF-8.
    pub fn remember(&self, json: &[u8], level: Level, trace_id: Option<TraceId>) {
        self.remembering().remember(json, level, trace_id);
    }

    /// Takes lines one behind the other; nobody else sees the rings until it is dropped.
    pub fn remembering(&self) -> Remembering<'_> {
        Remembering(self.0.lock().expect("no one panics holding it"))
    }

    /// The last `limit` lines of `level`, of every level where none is named, newest last; and how many
    /// lines of that kind the rings have let go.
    pub fn last(&self, level: Option<Level>, trace_id: Option<TraceId>, limit: usize) -> (Vec<String>, u64) {
        let rings = self.0.lock().expect("no one panics holding it");
        let asked = |l: &Level| level.is_none_or(|wanted| wanted == *l);
        let chosen: Vec<&Ring> = Level::ALL.iter().filter(|l| asked(l)).map(|l| &rings.levels[*l as usize]).collect();
        let mut lines: Vec<(u64, String)> = chosen
            .iter()
            .flat_map(|ring| ring.iter())
            .filter(|(line, _)| trace_id.is_none_or(|wanted| line.trace_id == Some(wanted)))
            .map(|(line, json)| (line.number, json))
            .collect();
        lines.sort_unstable_by_key(|(number, _)| *number);
        let from = lines.len().saturating_sub(limit);
        let last = lines.drain(from..).map(|(_, json)| json).collect();
        (last, chosen.iter().map(|ring| ring.dropped).sum())
    }

    /// Answers `GET /logs/recent?level=error&limit=5&trace_id=…`.
    pub fn router(&self) -> Router {
        Router::new().route("/logs/recent", get(answer)).with_state(self.clone())
    }
}

#[derive(Deserialize)]
struct Asked {
    level: Option<String>,
    limit: Option<usize>,
    trace_id: Option<String>,
}

async fn answer(State(recent): State<Recent>, Query(asked): Query<Asked>) -> Response {
    let level = match asked.level.as_deref().map(|word| (word, Level::recognise(word))) {
        None => None,
        Some((_, Some(level))) => Some(level),
        Some((word, None)) => {
            return refuse(format!("unknown level {word:?}: ask for trace, debug, info, warn or error"));
        }
    };
    let trace_id = match asked.trace_id.as_deref().map(|text| (text, TraceId::parse(text))) {
        None => None,
        Some((_, Some(id))) => Some(id),
        Some((text, None)) => return refuse(format!("not a trace id {text:?}: 32 lower-case hex digits are")),
    };
    let (lines, dropped) = recent.last(level, trace_id, asked.limit.unwrap_or(LIMIT_DEFAULT));
    // The lines are JSON already.
    let body = format!(r#"{{"records":[{}],"dropped":{dropped}}}"#, lines.join(","));
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn refuse(error: String) -> Response {
    (StatusCode::BAD_REQUEST, Json(serde_json::json!({ "error": error }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(lines_max: usize, bytes_max: usize) -> Recent {
        Recent::new(Config { lines_max, bytes_max })
    }

    #[test]
    fn chatter_does_not_push_errors_out() {
        let recent = recent(2, 1000);
        recent.remember(b"{\"n\":1}", Level::Error, None);
        for n in 2..6 {
            recent.remember(format!("{{\"n\":{n}}}").as_bytes(), Level::Info, None);
        }
        let (lines, dropped) = recent.last(Some(Level::Error), None, 5);
        assert_eq!((lines.join(","), dropped), ("{\"n\":1}".to_owned(), 0));
        let (lines, dropped) = recent.last(None, None, 5);
        assert_eq!((lines.join(","), dropped), ("{\"n\":1},{\"n\":4},{\"n\":5}".to_owned(), 2));
        assert_eq!(recent.last(None, None, 1).0.join(","), "{\"n\":5}");
    }

    #[test]
    fn bytes_are_bounded_and_a_trace_can_be_picked() {
        let recent = recent(100, 20);
        let id = TraceId::parse("0af7651916cd43dd8448eb211c80319c");
        recent.remember(b"0123456789", Level::Warn, None);
        recent.remember(b"abcdefghij", Level::Warn, id);
        recent.remember(b"ABC", Level::Warn, None);
        assert_eq!(recent.last(Some(Level::Warn), None, 9).0.join(","), "abcdefghij,ABC");
        assert_eq!(recent.last(None, id, 9).0.join(","), "abcdefghij");
    }
}
