//! The text of a script to its commands.

use std::collections::HashMap;
use std::fmt;

use regex::Regex;
use telemetry::Labels;

use super::ScriptError;
use crate::{SeriesValue, parse_series};

pub(super) enum Command {
    Clear,
    Load(Load),
    Eval(Eval),
}

/// `load[_with_nhcb] <interval>` and its series.
pub(super) struct Load {
    pub line: usize,
    pub interval_ms: i64,
    pub with_nhcb: bool,
    pub series: Vec<LoadedSeries>,
}

pub(super) struct LoadedSeries {
    pub labels: Labels,
    pub values: Vec<SeriesValue>,
    /// Start timestamps relative to the samples', where given.
    pub starts: Vec<Option<i64>>,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Instant { at: i64 },
    Range { start: i64, end: i64, step: i64 },
}

/// An evaluation and what is expected of it.
pub(super) struct Eval {
    pub line: usize,
    pub expression: String,
    pub kind: Kind,
    pub ordered: bool,
    pub fails: Option<Expectation>,
    pub warnings: Vec<Expectation>,
    pub infos: Vec<Expectation>,
    pub no_warnings: bool,
    pub no_infos: bool,
    /// Times of the expected range vector, where the result of an instant query is one.
    pub range_vector: Option<(i64, i64, i64)>,
    pub string: Option<String>,
    pub scalar: Option<f64>,
    /// Expected series with their place in the list.
    pub series: HashMap<Labels, (usize, Vec<SeriesValue>)>,
}

impl Eval {
    pub(super) fn excluded_from_range(&self) -> bool {
        self.range_vector.is_some() || self.string.is_some()
    }

    /// Start, end and step of the expected values.
    pub(super) fn times(&self) -> (i64, i64, i64) {
        match (self.range_vector, self.kind) {
            (Some(times), _) => times,
            (None, Kind::Range { start, end, step }) => (start, end, step),
            (None, Kind::Instant { at }) => (at, at, 1),
        }
    }
}

/// A message, or a pattern that it matches somewhere.
pub(super) enum Expectation {
    Message(String),
    Pattern(Regex),
    Any,
}

impl Expectation {
    pub(super) fn matches(&self, message: &str) -> bool {
        match self {
            Expectation::Message(expected) => expected == message,
            Expectation::Pattern(pattern) => pattern.is_match(message),
            Expectation::Any => true,
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expectation::Message(message) => write!(f, "{message:?}"),
            Expectation::Pattern(pattern) => write!(f, "matching {:?}", pattern.as_str()),
            Expectation::Any => f.write_str("of any kind"),
        }
    }
}

type Scripted<T> = Result<T, ScriptError>;

fn fail<T>(line: usize, message: impl Into<String>) -> Scripted<T> {
    Err(ScriptError { line, message: message.into() })
}

struct Lines<'a> {
    lines: Vec<&'a str>,
    next: usize,
}

impl<'a> Lines<'a> {
    /// The next line of a block with its number; none at the block's end.
    fn in_block(&mut self) -> Option<(usize, &'a str)> {
        let line = *self.lines.get(self.next).filter(|line| !line.is_empty())?;
        self.next += 1;
        Some((self.next, line))
    }
}

pub(super) fn parse(text: &str) -> Scripted<Vec<Command>> {
    let trimmed = |line: &'_ str| -> String { line.trim().to_owned() };
    let owned: Vec<String> = text.split('\n').map(trimmed).collect();
    let lines = owned.iter().map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let mut lines = Lines { lines, next: 0 };
    let mut commands = Vec::new();
    while lines.next < lines.lines.len() {
        let line = lines.lines[lines.next];
        lines.next += 1;
        let word = line.split(['\t', ' ']).next().unwrap_or_default().to_ascii_lowercase();
        if word.is_empty() {
            continue;
        }
        commands.push(match word.as_str() {
            "clear" => Command::Clear,
            word if word.starts_with("load") => Command::Load(load(&mut lines, line)?),
            word if word.starts_with("eval") => Command::Eval(eval(&mut lines, line)?),
            _ => return fail(lines.next, format!("invalid command {line:?}")),
        });
    }
    Ok(commands)
}

fn duration(text: &str, line: usize) -> Scripted<i64> {
    match telemetry::duration::parse(text) {
        Ok(duration) => Ok(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        Err(error) => fail(line, format!("invalid duration {text:?}: {error}")),
    }
}

fn load(lines: &mut Lines<'_>, line: &str) -> Scripted<Load> {
    let number = lines.next;
    let mut words = line.split_whitespace();
    let with_nhcb = match words.next() {
        Some("load") => false,
        Some("load_with_nhcb") => true,
        _ => return fail(number, "invalid load command: load[_with_nhcb] <step:duration>"),
    };
    let interval_ms = duration(words.next().unwrap_or_default(), number)?;
    let mut load = Load { line: number, interval_ms, with_nhcb, series: Vec::new() };
    let mut pending: Option<(usize, Labels, Vec<Option<i64>>)> = None;
    while let Some((number, line)) = lines.in_block() {
        if let Some((metric, starts)) =
            line.split_once(['\t', ' ']).and_then(|(m, rest)| Some((m.strip_suffix("@st")?, rest)))
        {
            let labels = series(&format!("{metric} _"), number)?.0;
            let starts = starts.split_whitespace().map(|item| start_item(item, number));
            let starts = starts.collect::<Scripted<Vec<_>>>()?.concat();
            if let Some((line, ..)) = pending.replace((number, labels, starts)) {
                return fail(line, "@st line has no following sample line");
            }
            continue;
        }
        let (labels, values) = series(line, number)?;
        let mut starts = Vec::new();
        if let Some((line, for_labels, given)) = pending.take() {
            if labels != for_labels {
                return fail(line, "@st metric does not match the following sample line metric");
            }
            if given.len() != values.len() {
                let message = format!("@st line has {} values but sample line has {}", given.len(), values.len());
                return fail(line, message);
            }
            starts = given;
        }
        load.series.retain(|s| s.labels != labels);
        load.series.push(LoadedSeries { labels, values, starts });
    }
    match pending {
        Some((line, ..)) => fail(line, "@st line has no following sample line"),
        None => Ok(load),
    }
}

fn series(text: &str, line: usize) -> Scripted<(Labels, Vec<SeriesValue>)> {
    match parse_series(text) {
        Ok(series) => Ok((series.labels, series.values)),
        Err(error) => fail(line, error.to_string()),
    }
}

/// `_`, `_x3`, `-1m`, `-1mx3`, `-1m+30sx3`: start timestamps relative to their samples.
fn start_item(item: &str, line: usize) -> Scripted<Vec<Option<i64>>> {
    let count = |text: &str| text.parse::<usize>().ok().filter(|n| *n < 1_000_000);
    let invalid = || ScriptError { line, message: format!("invalid start timestamp {item:?}") };
    if item == "_" {
        return Ok(vec![None]);
    }
    if let Some(times) = item.strip_prefix("_x") {
        return Ok(vec![None; count(times).ok_or_else(invalid)?]);
    }
    let (base, rest) = duration_prefix(item).ok_or_else(invalid)?;
    let (step, rest) = match rest.as_bytes().first() {
        None => return Ok(vec![Some(base)]),
        Some(b'x') => (0, rest),
        Some(b'+') => duration_prefix(&rest[1..]).ok_or_else(invalid)?,
        Some(b'-') => duration_prefix(&rest[1..]).map(|(step, rest)| (-step, rest)).ok_or_else(invalid)?,
        Some(_) => return Err(invalid()),
    };
    let times = rest.strip_prefix('x').and_then(count).ok_or_else(invalid)?;
    Ok((0..=times as i64).map(|i| Some(base + i * step)).collect())
}

fn duration_prefix(text: &str) -> Option<(i64, &str)> {
    let (sign, unsigned) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let unit = unsigned[digits..].bytes().take_while(|b| b.is_ascii_alphabetic() && *b != b'x').count();
    let (duration, rest) = unsigned.split_at(digits + unit);
    let millis = telemetry::duration::parse(duration).ok()?.as_millis();
    Some((sign * i64::try_from(millis).ok()?, rest))
}

/// `eval[_mode] instant [at <time>] <expression>` or `eval[_mode] range from <a> to <b> step <c> <expression>`.
fn eval(lines: &mut Lines<'_>, line: &str) -> Scripted<Eval> {
    let number = lines.next;
    let mut rest = line;
    let mut word = || {
        let trimmed = rest.trim_start();
        let (word, tail) = trimmed.split_once(['\t', ' ']).unwrap_or((trimmed, ""));
        rest = tail;
        word
    };
    let mode = word().strip_prefix("eval").map(|mode| mode.trim_start_matches('_').to_owned()).unwrap_or_default();
    let kind = match word() {
        "instant" => {
            if word() != "at" {
                return fail(number, "expected `at <time>` after `eval instant`");
            }
            Kind::Instant { at: duration(word(), number)? }
        }
        "range" => {
            let mut named = |name: &str| {
                if word() == name { duration(word(), number) } else { fail(number, format!("expected `{name}`")) }
            };
            Kind::Range { start: named("from")?, end: named("to")?, step: named("step")? }
        }
        other => return fail(number, format!("expected `instant` or `range`, got {other:?}")),
    };
    let mut eval = Eval {
        line: number,
        expression: rest.trim().to_owned(),
        kind,
        ordered: mode == "ordered",
        fails: (mode == "fail").then_some(Expectation::Any),
        warnings: if mode == "warn" { vec![Expectation::Any] } else { Vec::new() },
        infos: if mode == "info" { vec![Expectation::Any] } else { Vec::new() },
        no_warnings: false,
        no_infos: false,
        range_vector: None,
        string: None,
        scalar: None,
        series: HashMap::new(),
    };
    let mut position = 0;
    while let Some((number, line)) = lines.in_block() {
        if expectation(&mut eval, line, number)? {
            continue;
        }
        if let Some(value) = number_line(line) {
            eval.scalar = Some(value);
            break;
        }
        let (labels, values) = series(line, number)?;
        if values.len() > 1 && matches!(eval.kind, Kind::Instant { .. }) && eval.range_vector.is_none() {
            return fail(number, "more than one value for an instant evaluation; use `expect range vector`");
        }
        position += 1;
        eval.series.insert(labels, (position, values));
    }
    Ok(eval)
}

/// Takes a line that begins with `expect`; false where it is something else.
fn expectation(eval: &mut Eval, line: &str, number: usize) -> Scripted<bool> {
    if let Some(message) = line.strip_prefix("expected_fail_message") {
        eval.fails = Some(Expectation::Message(message.trim().to_owned()));
        return Ok(true);
    }
    if let Some(pattern) = line.strip_prefix("expected_fail_regexp") {
        eval.fails = Some(Expectation::Pattern(regex(pattern.trim(), number)?));
        return Ok(true);
    }
    if let Some(times) = line.strip_prefix("expect range vector ") {
        let words: Vec<&str> = times.split_whitespace().collect();
        let ["from", from, "to", to, "step", step] = words[..] else {
            return fail(number, format!("invalid range vector definition {line:?}"));
        };
        eval.range_vector = Some((duration(from, number)?, duration(to, number)?, duration(step, number)?));
        return Ok(true);
    }
    if let Some(string) = line.strip_prefix("expect string ") {
        match crate::parse(string.trim()).ok().map(|expr| expr.root().clone()) {
            Some(crate::ast::Node::String(literal)) => eval.string = Some(literal.value),
            _ => return fail(number, "expected string literal not valid - check that the string is correctly quoted"),
        }
        return Ok(true);
    }
    let Some(rest) = line.strip_prefix("expect ") else { return Ok(false) };
    let (kind, rest) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
    let rest = rest.trim();
    let expected = if let Some(message) = rest.strip_prefix("msg:") {
        Expectation::Message(message.trim().to_owned())
    } else if let Some(pattern) = rest.strip_prefix("regex:") {
        Expectation::Pattern(regex(pattern.trim(), number)?)
    } else if rest.is_empty() {
        Expectation::Any
    } else {
        return fail(number, format!("invalid expect statement {line:?}"));
    };
    match kind {
        "fail" => eval.fails = Some(expected),
        "warn" => eval.warnings.push(expected),
        "info" => eval.infos.push(expected),
        "no_warn" => eval.no_warnings = true,
        "no_info" => eval.no_infos = true,
        "ordered" => eval.ordered = true,
        _ => return fail(number, format!("invalid expected error/annotation type {kind}")),
    }
    Ok(true)
}

fn regex(pattern: &str, line: usize) -> Scripted<Regex> {
    Regex::new(pattern).or_else(|_| fail(line, format!("invalid regex {pattern}")))
}

/// A line that is one number: the expected scalar.
fn number_line(line: &str) -> Option<f64> {
    let unsigned = line.strip_prefix(['+', '-']).unwrap_or(line);
    let value = match unsigned.to_ascii_lowercase().as_str() {
        "inf" => f64::INFINITY,
        "nan" => f64::NAN,
        text if text.starts_with(|c: char| c.is_ascii_digit() || c == '.') => text.parse().ok()?,
        _ => return None,
    };
    Some(if line.starts_with('-') { -value } else { value })
}
