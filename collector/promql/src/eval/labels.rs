//! Functions that change or look at labels.

use telemetry::labels::METRIC_NAME;
use telemetry::{Labels, LabelsBuilder, MatchOp};

use super::{Evaluator, Grid, Window};
use crate::ast::*;
use crate::engine::EvalError;
use crate::text::is_label_name;

pub(super) fn text(node: &Node) -> Result<&str, EvalError> {
    match node.unwrap_parens() {
        Node::String(literal) => Ok(&literal.value),
        other => Err(EvalError::Query(format!("expected a string, got {other}"))),
    }
}

impl Evaluator<'_> {
    pub(super) fn label_replace(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let (destination, replacement) = (text(&n.args[1])?, text(&n.args[2])?);
        let (source, pattern) = (text(&n.args[3])?, text(&n.args[4])?);
        let regex = telemetry::matcher::anchored(pattern)
            .map_err(|_| EvalError::Query(format!("invalid regular expression in label_replace(): {pattern}")))?;
        if !is_label_name(destination) {
            let message = format!("invalid destination label name in label_replace(): {destination}");
            return Err(EvalError::Query(message));
        }
        let mut grid = self.eval(&n.args[0], window)?;
        for row in &mut grid.rows {
            let value = row.labels.get(source).unwrap_or_default();
            let Some(captures) = regex.captures(value) else { continue };
            let mut replaced = String::new();
            expand(replacement, &captures, &mut replaced);
            row.labels = row.labels.with(destination, &replaced);
            row.drop_name &= destination != METRIC_NAME;
        }
        grid.merge_same_labelsets()
    }

    pub(super) fn label_join(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let (destination, separator) = (text(&n.args[1])?, text(&n.args[2])?);
        let sources = n.args[3..].iter().map(text).collect::<Result<Vec<_>, _>>()?;
        if let Some(source) = sources.iter().find(|source| !is_label_name(source)) {
            return Err(EvalError::Query(format!("invalid source label name in label_join(): {source}")));
        }
        if !is_label_name(destination) {
            return Err(EvalError::Query(format!("invalid destination label name in label_join(): {destination}")));
        }
        let mut grid = self.eval(&n.args[0], window)?;
        for row in &mut grid.rows {
            let values: Vec<&str> = sources.iter().map(|name| row.labels.get(name).unwrap_or_default()).collect();
            row.labels = row.labels.with(destination, &values.join(separator));
            row.drop_name &= destination != METRIC_NAME;
        }
        grid.merge_same_labelsets()
    }

    pub(super) fn sort_by_label(&mut self, n: &Call, window: Window, descending: bool) -> Result<Grid, EvalError> {
        let names = n.args[1..].iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let grid = self.eval(&n.args[0], window)?;
        let compare = |a: &Labels, b: &Labels| {
            for name in &names {
                let (x, y) = (a.get(name).unwrap_or_default(), b.get(name).unwrap_or_default());
                if x != y {
                    return natural_order(x, y);
                }
            }
            a.cmp(b)
        };
        let mut order: Vec<usize> = (0..grid.rows.len()).collect();
        order.sort_by(|a, b| {
            let ordering = compare(&grid.rows[*a].labels, &grid.rows[*b].labels);
            if descending { ordering.reverse() } else { ordering }
        });
        Ok(reordered(grid, &order))
    }
}

/// Expands `$1`, `${1}`, `$name` and `$$` as Go does: a name is as long as it can be, an unknown one is empty.
fn expand(template: &str, captures: &regex::Captures<'_>, out: &mut String) {
    captures.expand(template, out);
}

pub(super) fn reordered(grid: Grid, order: &[usize]) -> Grid {
    let mut sorted = Grid::new(grid.steps);
    for row in order {
        sorted.rows.push(grid.rows[*row].clone());
        sorted.cells.extend_from_slice(grid.row(*row));
    }
    sorted
}

/// Numbers within texts are compared as numbers: `a2` before `a10`.
fn natural_order(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut a_chunks, mut b_chunks) = (chunks(a), chunks(b));
    loop {
        let (x, y) = match (a_chunks.next(), b_chunks.next()) {
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return std::cmp::Ordering::Less,
            (Some(_), None) => return std::cmp::Ordering::Greater,
            (Some(x), Some(y)) => (x, y),
        };
        let ordering = match (x.parse::<u128>(), y.parse::<u128>()) {
            (Ok(m), Ok(n)) => m.cmp(&n),
            _ => x.cmp(y),
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
}

/// Runs of digits and runs of other characters.
fn chunks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let digit = rest.chars().next()?.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digit).unwrap_or(rest.len());
        let (chunk, tail) = rest.split_at(end);
        rest = tail;
        Some(chunk)
    })
}

/// The labels that an absent series would surely have had: those that the selector fixes once.
pub(super) fn absent_labels(node: &Node) -> Labels {
    let selector = match node.unwrap_parens() {
        Node::Vector(selector) => selector,
        Node::Matrix(matrix) => &matrix.selector,
        Node::StepInvariant(inner) => return absent_labels(inner),
        _ => return Labels::empty(),
    };
    let mut builder = LabelsBuilder::default();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in selector.matchers.iter().filter(|m| m.name != METRIC_NAME) {
        if matcher.op == MatchOp::Equal && !seen.contains(&matcher.name.as_str()) {
            builder.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            builder.remove(&matcher.name);
        }
    }
    builder.build()
}

/// The hash that Prometheus has for these labels, so that `limit_ratio` picks the same series.
pub(super) fn hash(labels: &Labels) -> u64 {
    let mut bytes = Vec::new();
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        // Lengths from 255 on take three more bytes.
        match u8::try_from(text.len()) {
            Ok(length) if length < 255 => bytes.push(length),
            _ => {
                let [a, b, c, ..] = text.len().to_le_bytes();
                bytes.extend([255, a, b, c]);
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    xxhash_rust::xxh64::xxh64(&bytes, 0)
}
