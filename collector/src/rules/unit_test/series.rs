//! The samples of a unit test: promtool's notation in, a store that a query can read out.

use std::collections::BTreeMap;
use std::sync::RwLock;
use std::time::Duration;

use promql::{Engine, Limits, Series, Source, SourceError};
use telemetry::{Labels, MatchOp, Matcher, Sample, Timestamp, stale_nan};

use super::super::group::Backend;
use super::super::live::vector;
use super::super::template::QueryAnswer;

/// One input series, its values at their times.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct InputSamples {
    pub(super) labels: Labels,
    pub(super) samples: Vec<(Timestamp, f64)>,
}

/// Reads `name{a="b"}` and `1 2+3x4 _ stale`, the values `interval` apart from `start` on.
pub(super) fn parse(series: &str, values: &str, start: Timestamp, interval: Duration) -> Result<InputSamples, String> {
    let labels = labels(series)?;
    let mut samples = Vec::new();
    let mut at = start;
    for item in values.split_whitespace() {
        for value in item_values(item).map_err(|why| format!("values of {series}: {why}"))? {
            samples.extend(value.map(|value| (at, value)));
            at = at + interval;
        }
    }
    Ok(InputSamples { labels, samples })
}

/// `name{a="b"}`, `{a="b"}`, `name` or nothing, as labels.
pub(super) fn labels(text: &str) -> Result<Labels, String> {
    let text = text.trim();
    if text.is_empty() || text == "{}" {
        return Ok(Labels::empty());
    }
    // An input series may be written `name{}`, and one without a name is a selector all the same.
    let matchers = promql::parse_selector(text).map_err(|error| format!("series {text:?}: {error}"))?;
    if let Some(other) = matchers.iter().find(|matcher| matcher.op != MatchOp::Equal) {
        return Err(format!("series {text:?}: {other} is no label"));
    }
    Ok(Labels::from_pairs(matchers.into_iter().map(|matcher| (matcher.name, matcher.value))))
}

/// One item of the notation: None is a gap.
fn item_values(item: &str) -> Result<Vec<Option<f64>>, String> {
    let times = |text: &str| text.parse::<usize>().map_err(|_| format!("{item:?}: {text:?} is no number of times"));
    if item.starts_with("{{") {
        return Err(format!("{item:?}: native histograms are not supported"));
    }
    if item == "stale" {
        return Ok(vec![Some(stale_nan())]);
    }
    if let Some(rest) = item.strip_prefix('_') {
        let count =
            if rest.is_empty() { 1 } else { times(rest.strip_prefix('x').ok_or(format!("{item:?} is no value"))?)? };
        return Ok(vec![None; count]);
    }
    let number = |text: &str| parse_number(text).ok_or_else(|| format!("{item:?}: {text:?} is no number"));
    let Some((head, count)) = split_times(item) else { return Ok(vec![Some(number(item)?)]) };
    let count = times(count)?;
    let (first, step) = match split_step(head) {
        Some((first, step)) => (number(first)?, number(step)?),
        None => (number(head)?, 0.0),
    };
    let mut value = first;
    let mut values = Vec::with_capacity(count + 1);
    for _ in 0..=count {
        values.push(Some(value));
        value += step;
    }
    Ok(values)
}

/// `1+2x3` -> (`1+2`, `3`); the x of `0x1f` belongs to a number only where hexadecimal digits follow that are
/// not all decimal, and in this notation `0x3` means "0, three times more" (prometheus lex.go).
fn split_times(item: &str) -> Option<(&str, &str)> {
    let (head, count) = item.rsplit_once('x')?;
    (!count.is_empty() && count.bytes().all(|b| b.is_ascii_digit())).then_some((head, count))
}

/// `1+2` -> (`1`, `+2`); a sign after an exponent's e is part of the number.
fn split_step(head: &str) -> Option<(&str, &str)> {
    let bytes = head.as_bytes();
    let is_step = |i: &usize| {
        matches!(bytes[*i], b'+' | b'-')
            && !matches!(bytes[*i - 1], b'e' | b'E')
            && !matches!(bytes[*i - 1], b'+' | b'-')
    };
    let at = (1..bytes.len()).find(is_step)?;
    Some((&head[..at], &head[at..]))
}

fn parse_number(text: &str) -> Option<f64> {
    // `1--2x3` steps by minus minus two: promtool knows no such thing, but `1+-2x3` it does.
    let (negative, digits) = match text.strip_prefix("+-").or_else(|| text.strip_prefix('-')) {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.to_ascii_lowercase().as_str() {
        "inf" => f64::INFINITY,
        "nan" => f64::NAN,
        hex if hex.starts_with("0x") => i64::from_str_radix(&hex[2..], 16).ok()? as f64,
        plain if plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') => plain.parse().ok()?,
        _ => return None,
    };
    Some(if negative { -value } else { value })
}

/// A store and an engine for one test.
pub(super) struct TestStore {
    engine: Engine,
    series: Memory,
}

#[derive(Default)]
struct Memory(RwLock<BTreeMap<Labels, Vec<(Timestamp, f64)>>>);

impl Source for Memory {
    fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Result<Vec<Series>, SourceError> {
        let series = self.0.read().expect("no one panics holding it");
        let is_meant = |labels: &Labels| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()));
        let within = |samples: &[(Timestamp, f64)]| {
            let from = samples.partition_point(|(at, _)| *at <= start);
            let to = samples.partition_point(|(at, _)| *at <= end);
            samples[from..to].to_vec()
        };
        Ok(series
            .iter()
            .filter(|(labels, _)| is_meant(labels))
            .map(|(labels, samples)| Series { labels: labels.clone(), samples: within(samples) })
            .filter(|series| !series.samples.is_empty())
            .collect())
    }
}

impl TestStore {
    /// Subqueries without a step of their own use the evaluation interval, as in promtool.
    pub(super) fn new(evaluation_interval: Duration) -> Self {
        let limits = Limits { default_step: evaluation_interval, ..Limits::default() };
        TestStore { engine: Engine::new(limits), series: Memory::default() }
    }

    /// Adds samples in time order; of two at one time the later wins.
    pub(super) fn append(&self, labels: &Labels, samples: impl IntoIterator<Item = (Timestamp, f64)>) {
        let mut series = self.series.0.write().expect("no one panics holding it");
        let stored = series.entry(labels.clone()).or_default();
        for (at, value) in samples {
            match stored.binary_search_by_key(&at, |(at, _)| *at) {
                Ok(i) => stored[i].1 = value,
                Err(i) => stored.insert(i, (at, value)),
            }
        }
    }

    pub(super) fn query(&self, expr: &str, at: Timestamp) -> QueryAnswer {
        let expr = promql::parse(expr).map_err(|error| error.to_string())?;
        let answer = self.engine.instant(&expr, &self.series, at).map_err(|error| error.to_string())?;
        vector(answer.value)
    }
}

impl Backend for TestStore {
    async fn instant(&self, expr: &str, at: Timestamp) -> QueryAnswer {
        self.query(expr, at)
    }

    async fn write(&self, samples: Vec<Sample>) -> Result<(), String> {
        for sample in samples {
            self.append(&sample.labels, [(sample.timestamp, sample.value)]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<String> {
        let items: Result<Vec<_>, _> = text.split_whitespace().map(item_values).collect();
        let print = |value: Option<f64>| match value {
            None => "_".to_owned(),
            Some(value) if telemetry::is_stale_nan(value) => "stale".to_owned(),
            Some(value) => value.to_string(),
        };
        match items {
            Ok(items) => items.into_iter().flatten().map(print).collect(),
            Err(error) => vec![error],
        }
    }

    #[test]
    fn the_notation_of_values_is_promtools() {
        for (text, expected) in [
            ("1 2.5 -3 1e3", "1 2.5 -3 1000"),
            ("1+2x3", "1 3 5 7"),
            ("10-2x2", "10 8 6"),
            ("0x3", "0 0 0 0"),
            ("0+0.2x2", "0 0.2 0.4"),
            ("1e-1+1x1", "0.1 1.1"),
            ("-2+4x1", "-2 2"),
            ("_ 1 _x2 stale", "_ 1 _ _ stale"),
            ("Inf -Inf NaN", "inf -inf NaN"),
        ] {
            assert_eq!(values(text), expected.split_whitespace().collect::<Vec<_>>(), "{text}");
        }
        for text in ["one", "1+x3", "_y", "1x", "{{count:1}}"] {
            assert_eq!(values(text).len(), 1, "{text}");
            assert!(values(text)[0].starts_with('"'), "{text} is refused: {:?}", values(text));
        }
    }
}
