//! The last lines of each level, held for whoever asks why: `GET /logs/recent` answers with them while
//! the task is still there. Bounded in bytes; errors never give way to chatter, each level has its own ring.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

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

#[derive(Default)]
struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    dropped: u64,
}

struct Line {
    /// Puts lines of several levels in order.
    number: u64,
    trace_id: Option<TraceId>,
    json: Arc<str>,
}

impl Recent {
    pub fn new(config: Config) -> Self {
        Recent(Arc::new(Mutex::new(Rings { config, next_number: 0, levels: Default::default() })))
    }

    pub fn remember(&self, json: Arc<str>, level: Level, trace_id: Option<TraceId>) {
        let mut rings = self.0.lock().expect("no one panics holding it");
        let Config { lines_max, bytes_max } = rings.config;
        let number = rings.next_number;
        rings.next_number += 1;
        let ring = &mut rings.levels[level as usize];
        ring.bytes += json.len();
        ring.lines.push_back(Line { number, trace_id, json });
        while ring.lines.len() > lines_max || ring.bytes > bytes_max {
            let Some(oldest) = ring.lines.pop_front() else { break };
            ring.bytes -= oldest.json.len();
            ring.dropped += 1;
        }
    }

    /// The last `limit` lines of `level`, of every level where none is named, newest last; and how many
    /// lines of that kind the rings have let go.
    pub fn last(&self, level: Option<Level>, trace_id: Option<TraceId>, limit: usize) -> (Vec<Arc<str>>, u64) {
        let rings = self.0.lock().expect("no one panics holding it");
        let asked = |l: &Level| level.is_none_or(|wanted| wanted == *l);
        let chosen: Vec<&Ring> = Level::ALL.iter().filter(|l| asked(l)).map(|l| &rings.levels[*l as usize]).collect();
        let mut lines: Vec<&Line> = chosen
            .iter()
            .flat_map(|ring| &ring.lines)
            .filter(|line| trace_id.is_none_or(|wanted| line.trace_id == Some(wanted)))
            .collect();
        lines.sort_unstable_by_key(|line| line.number);
        let from = lines.len().saturating_sub(limit);
        (lines[from..].iter().map(|line| line.json.clone()).collect(), chosen.iter().map(|ring| ring.dropped).sum())
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
        recent.remember("{\"n\":1}".into(), Level::Error, None);
        for n in 2..6 {
            recent.remember(format!("{{\"n\":{n}}}").into(), Level::Info, None);
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
        recent.remember("0123456789".into(), Level::Warn, None);
        recent.remember("abcdefghij".into(), Level::Warn, id);
        recent.remember("ABC".into(), Level::Warn, None);
        assert_eq!(recent.last(Some(Level::Warn), None, 9).0.join(","), "abcdefghij,ABC");
        assert_eq!(recent.last(None, id, 9).0.join(","), "abcdefghij");
    }
}
