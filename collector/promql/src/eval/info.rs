//! `info(v)`: labels of info metrics (`target_info` and the like) joined to the series of the same target.

use std::collections::BTreeSet;

use hashbrown::{HashMap, HashSet};
use telemetry::labels::METRIC_NAME;
use telemetry::{Labels, LabelsBuilder, MatchOp, Matcher};

use super::select::pinned;
use super::{Cell, Evaluator, Grid, GridBuilder, Window};
use crate::ast::*;
use crate::engine::EvalError;
use crate::text::in_braces;

/// By these a series and its target's info are matched.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Name, instance and job of an info series.
type Signature = [String; 3];

fn signature(name: &str, labels: &Labels) -> Signature {
    let [instance, job] = IDENTIFYING.map(|label| labels.get(label).unwrap_or_default().to_owned());
    [name.to_owned(), instance, job]
}

fn error<T>(message: String) -> Result<T, EvalError> {
    Err(EvalError::Query(message))
}

impl Evaluator<'_> {
    pub(super) fn info(&mut self, n: &Call, window: Window) -> Result<Grid, EvalError> {
        let base = self.eval(&n.args[0], window)?;
        let given: &[Matcher] = match n.args.get(1).map(Node::unwrap_parens) {
            Some(Node::Vector(selector)) => &selector.matchers,
            _ => &[],
        };
        let (names, data): (Vec<Matcher>, Vec<Matcher>) = given.iter().cloned().partition(|m| m.name == METRIC_NAME);
        let names = effective_names(names);
        // What already is an info series is left as it is.
        let untouched = |labels: &Labels| {
            let name = labels.metric_name().unwrap_or_default();
            names.iter().all(|m| m.matches(name))
        };
        let untouched: HashSet<usize> = (0..base.rows.len()).filter(|row| untouched(&base.rows[*row].labels)).collect();
        let info = self.info_series(n, &base, &untouched, names, &data, window)?;
        self.join_info(&base, &untouched, &info, &data, window)
    }

    /// The info series of the targets in question; each cell is the time of the sample.
    fn info_series(
        &mut self,
        n: &Call,
        base: &Grid,
        untouched: &HashSet<usize>,
        mut matchers: Vec<Matcher>,
        data: &[Matcher],
        window: Window,
    ) -> Result<Grid, EvalError> {
        let mut identified = false;
        for label in IDENTIFYING {
            let rows = (0..base.rows.len()).filter(|row| !untouched.contains(row));
            let values: BTreeSet<&str> = rows.filter_map(|row| base.rows[row].labels.get(label)).collect();
            if values.is_empty() {
                continue;
            }
            identified = true;
            let pattern: Vec<String> = values.into_iter().map(regex::escape).collect();
            match Matcher::new(label, MatchOp::Regex, pattern.join("|")) {
                Ok(matcher) => matchers.push(matcher),
                Err(fault) => return error(fault.to_string()),
            }
        }
        if !identified {
            return Ok(Grid::new(window.steps()));
        }
        matchers.extend_from_slice(data);
        let (at, offset_ms) = reference_of_first_selector(&n.args[0], (None, 0)).unwrap_or((None, 0));
        let selector = VectorSelector {
            name: String::new(),
            matchers: matchers.into(),
            offset_ms,
            offset_expr: None,
            at: at.map(At::Time),
            extension: None,
            histogram_stats: false,
            span: n.span,
        };
        let grid = self.instant_samples(&selector, window, |sample| match sample.cell {
            Cell::Float(_) => Some(Cell::Float(sample.ts as f64)),
            histogram => Some(histogram),
        })?;
        for row in 0..grid.rows.len() {
            if grid.row(row).iter().flatten().any(|cell| matches!(cell, Cell::Histogram(_))) {
                let labels = in_braces(&grid.rows[row].labels);
                return error(format!("this should be an info metric, with float samples: {labels}"));
            }
        }
        Ok(grid)
    }

    fn join_info(
        &mut self,
        base: &Grid,
        untouched: &HashSet<usize>,
        info: &Grid,
        data: &[Matcher],
        window: Window,
    ) -> Result<Grid, EvalError> {
        let name_of = |row: usize| info.rows[row].labels.metric_name().unwrap_or_default();
        let names: BTreeSet<&str> = (0..info.rows.len()).map(name_of).collect();
        let signatures: Vec<Signature> =
            (0..info.rows.len()).map(|row| signature(name_of(row), &info.rows[row].labels)).collect();
        let needs_info = data.iter().any(|m| !m.matches(""));
        let mut builder = GridBuilder::new(window);
        for step in 0..window.steps() {
            self.check_stop()?;
            let newest = newest_info(info, &signatures, step)?;
            for (index, row) in base.rows.iter().enumerate() {
                let Some(cell) = base.cell(index, step) else { continue };
                if untouched.contains(&index) {
                    builder.emit(step, &row.labels, row.drop_name, cell.clone())?;
                    continue;
                }
                let found = names.iter().filter_map(|name| newest.get(&signature(name, &row.labels)));
                let found: Vec<&Labels> = found.map(|(info_row, _)| &info.rows[*info_row].labels).collect();
                if found.is_empty() && needs_info {
                    continue;
                }
                let labels = enriched(&row.labels, &found, data)?;
                builder.emit(step, &labels, row.drop_name, cell.clone())?;
            }
        }
        Ok(builder.finish())
    }
}

/// The matchers of names that select info series: where none says what the name is, `target_info`; where some
/// say what it is not, any other name that ends in `_info`.
fn effective_names(given: Vec<Matcher>) -> Vec<Matcher> {
    if given.iter().any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex)) {
        return given;
    }
    let first = if given.is_empty() {
        Matcher::equal(METRIC_NAME, "target_info")
    } else {
        Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info").expect("a constant pattern that compiles")
    };
    std::iter::once(first).chain(given).collect()
}

/// The time and the offset that govern the first selector of an expression; `outer` are those of the subqueries
/// round it.
fn reference_of_first_selector(node: &Node, outer: (Option<i64>, i64)) -> Option<(Option<i64>, i64)> {
    let governed = |at: Option<At>, offset_ms: i64| match pinned(at) {
        Some(at) => (Some(at), offset_ms),
        None => (outer.0, outer.1 + offset_ms),
    };
    match node {
        Node::Number(_) | Node::String(_) => None,
        Node::Vector(n) => Some(governed(n.at, n.offset_ms)),
        Node::Matrix(n) => Some(governed(n.selector.at, n.selector.offset_ms)),
        Node::Subquery(n) => reference_of_first_selector(&n.expr, governed(n.at, n.offset_ms)),
        Node::Aggregate(n) => reference_of_first_selector(&n.expr, outer)
            .or_else(|| n.param.as_ref().and_then(|param| reference_of_first_selector(param, outer))),
        Node::Binary(n) => {
            reference_of_first_selector(&n.lhs, outer).or_else(|| reference_of_first_selector(&n.rhs, outer))
        }
        Node::Unary(n) => reference_of_first_selector(&n.expr, outer),
        Node::Paren(n) => reference_of_first_selector(&n.expr, outer),
        Node::Call(n) => n.args.iter().find_map(|arg| reference_of_first_selector(arg, outer)),
        Node::StepInvariant(n) => reference_of_first_selector(n, outer),
    }
}

/// Of the info series with one signature the one with the newest sample.
fn newest_info<'s>(
    info: &Grid,
    signatures: &'s [Signature],
    step: usize,
) -> Result<HashMap<&'s Signature, (usize, f64)>, EvalError> {
    let mut newest: HashMap<&Signature, (usize, f64)> = HashMap::new();
    for (row, signature) in signatures.iter().enumerate() {
        let Some(Cell::Float(ts)) = info.cell(row, step) else { continue };
        match newest.get(signature) {
            Some((_, existing)) if existing > ts => {}
            Some((other, existing)) if existing == ts => {
                let (a, b) = (in_braces(&info.rows[*other].labels), in_braces(&info.rows[row].labels));
                return error(format!(
                    "found duplicate series for info metric: existing {a} @ {existing}, new {b} @ {ts}"
                ));
            }
            _ => {
                newest.insert(signature, (row, *ts));
            }
        }
    }
    Ok(newest)
}

/// The labels of a series with those of its infos; `data` names the labels that are wanted, if not all are.
fn enriched(base: &Labels, infos: &[&Labels], data: &[Matcher]) -> Result<Labels, EvalError> {
    let mut added = LabelsBuilder::default();
    for info in infos {
        for (name, value) in info.iter().filter(|(name, _)| *name != METRIC_NAME) {
            if !data.is_empty() && data.iter().all(|m| m.name != name) {
                continue;
            }
            if added.get(name).is_some_and(|there| there != value) {
                return error(format!("conflicting label: {name}"));
            }
            if base.get(name).is_none() {
                added.set(name, value);
            }
        }
    }
    let mut labels = base.to_builder();
    for (name, value) in added.iter() {
        labels.set(name, value);
    }
    Ok(labels.build())
}
