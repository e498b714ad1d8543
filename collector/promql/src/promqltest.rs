//! Scripts in the format of Prometheus' own PromQL tests: what is loaded, what is asked, what must come out.
//!
//! Each instant evaluation is run again with its selectors pinned by `@` at other times, and as a range query,
//! as Prometheus' runner does; it passes when all of these runs do.

mod compare;
mod load;
mod script;

use std::time::Duration;

use telemetry::Timestamp;

use crate::ast::{At, Node};
use crate::{Answer, Engine, Expr, Limits, Options, SeriesTable, Syntax, Value, VectorSample, parse_with};
use load::Loaded;
use script::{Command, Eval, Kind};

/// What became of one evaluation.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its line, from 1.
    pub line: usize,
    pub expression: String,
    /// Why it failed: which run, what was expected, what came out.
    pub failure: Option<String>,
}

/// A script that cannot be run.
#[derive(Clone, Debug, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ScriptError {
    pub line: usize,
    pub message: String,
}

/// The samples that a query of a script may hold: small, so that waste is noticed.
const MAX_SAMPLES: usize = 10_000;

/// Runs a script; its evaluations come back in their order.
pub fn run(text: &str) -> Result<Vec<Outcome>, ScriptError> {
    let commands = script::parse(text)?;
    let engine = Engine::new(Limits { max_samples: MAX_SAMPLES, ..Limits::default() });
    let mut loaded = Loaded::default();
    let mut tables = [SeriesTable::default(), SeriesTable::default().copies_only()];
    let mut outcomes = Vec::new();
    for command in commands {
        match command {
            Command::Clear => {
                loaded = Loaded::default();
                tables = [loaded.table(), loaded.table().copies_only()];
            }
            Command::Load(load) => {
                loaded.load(&load)?;
                tables = [loaded.table(), loaded.table().copies_only()];
            }
            Command::Eval(eval) => {
                // Over columns, and over copied samples: the engine has a way for each.
                let run = |loaded| Run { engine: &engine, loaded, eval: &eval }.all();
                let failure = tables.iter().try_for_each(run).err();
                outcomes.push(Outcome { line: eval.line, expression: eval.expression, failure });
            }
        }
    }
    Ok(outcomes)
}

struct Run<'a> {
    engine: &'a Engine,
    loaded: &'a SeriesTable,
    eval: &'a Eval,
}

/// Functions whose value depends on the time of evaluation even if all selectors are pinned.
const TIME_DEPENDENT: [&str; 15] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "end",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
];

fn options() -> Options<'static> {
    Options { start_timestamps: true, ..Options::default() }
}

impl Run<'_> {
    fn all(&self) -> Result<(), String> {
        let text = &self.eval.expression;
        match self.eval.kind {
            Kind::Range { start, end, step } => {
                let answer = self.range(text, start, end, step);
                let Some(answer) = self.settle(answer, text)? else { return Ok(()) };
                compare::result(self.eval, &answer.value).map_err(|e| format!("{text}: {e}"))
            }
            Kind::Instant { at } => {
                self.instant(text, at)?;
                for (text, at) in pinned(text, at)? {
                    self.instant(&text, at)?;
                }
                Ok(())
            }
        }
    }

    fn parse(&self, text: &str) -> Result<Expr, String> {
        parse_with(text, Syntax::EXPERIMENTAL).map_err(|e| e.to_string())
    }

    fn range(&self, text: &str, start: i64, end: i64, step: i64) -> Result<Answer, String> {
        let expr = self.parse(text)?;
        let (start, end) = (Timestamp::from_millis(start), Timestamp::from_millis(end));
        let step = Duration::from_millis(step.unsigned_abs());
        self.engine.range_with(&expr, self.loaded, start, end, step, options()).map_err(|e| e.to_string())
    }

    fn instant(&self, text: &str, at: i64) -> Result<(), String> {
        let place = |e: String| format!("{text} at {at} ms: {e}");
        let answer = self.parse(text).and_then(|expr| {
            let at = Timestamp::from_millis(at);
            self.engine.instant_with(&expr, self.loaded, at, options()).map_err(|e| e.to_string())
        });
        let Some(answer) = self.settle(answer, text).map_err(place)? else { return Ok(()) };
        compare::result(self.eval, &answer.value).map_err(place)?;
        let depends_on_query = ["start()", "end()", "range()", "step()"].iter().any(|f| text.contains(f));
        if self.eval.excluded_from_range() || depends_on_query {
            return Ok(());
        }
        let place = |e: String| format!("{text} as a range query round {at} ms: {e}");
        let answer_in_range = self.range(text, at - 60_000, at + 60_000, 60_000).map_err(place)?;
        if self.eval.ordered {
            return Ok(());
        }
        let Value::Matrix(matrix) = answer_in_range.value else { return Err(place("not a matrix".to_owned())) };
        let middle = compare::middle_step(&matrix, at).map_err(place)?;
        let value = match answer.value {
            Value::Scalar { timestamp, .. } => {
                Value::Scalar { timestamp, value: middle.first().map_or(f64::NAN, |s: &VectorSample| s.value) }
            }
            _ => Value::Vector(middle),
        };
        compare::result(self.eval, &value).map_err(place)
    }

    /// An answer to compare; none where the evaluation was to fail and did.
    fn settle(&self, answer: Result<Answer, String>, text: &str) -> Result<Option<Answer>, String> {
        match (answer, &self.eval.fails) {
            (Ok(_), Some(_)) => Err("expected a failure, got a result".to_owned()),
            (Ok(answer), None) => {
                compare::annotations(self.eval, &answer).map_err(|e| format!("{text}: {e}"))?;
                Ok(Some(answer))
            }
            (Err(error), Some(expected)) if expected.matches(&error) => Ok(None),
            (Err(error), Some(expected)) => Err(format!("expected failure {expected}, got {error:?}")),
            (Err(error), None) => Err(format!("failed: {error}")),
        }
    }
}

/// The expression with its selectors pinned to `at`, and the times at which its value must be the same.
fn pinned(text: &str, at: i64) -> Result<Vec<(String, i64)>, String> {
    let expr = parse_with(text, Syntax::EXPERIMENTAL).map_err(|e| e.to_string())?;
    let mut root = expr.root().clone();
    if !pin(&mut root, at) {
        return Ok(Vec::new());
    }
    let text = root.to_string();
    let times = if at == 0 { vec![-1000, 0, 1000] } else { vec![-10 * at, 0, at / 5, at, 10 * at] };
    Ok(times.into_iter().map(|time| (text.clone(), time)).collect())
}

/// Pins what is not pinned, but leaves alone what stands in a subquery, which is pinned itself. False where the
/// value depends on the time of evaluation all the same.
fn pin(node: &mut Node, at: i64) -> bool {
    let set = |slot: &mut Option<At>| {
        if !matches!(slot, Some(At::Time(_))) {
            *slot = Some(At::Time(at));
        }
    };
    match node {
        Node::Number(_) | Node::String(_) => true,
        Node::Vector(n) => {
            set(&mut n.at);
            true
        }
        Node::Matrix(n) => {
            set(&mut n.selector.at);
            true
        }
        Node::Subquery(n) => {
            set(&mut n.at);
            // What is inside is not pinned, nor are its functions looked at.
            true
        }
        Node::Aggregate(n) => {
            let param = n.param.as_mut().is_none_or(|param| pin(param, at));
            pin(&mut n.expr, at) && param
        }
        Node::Binary(n) => {
            let left = pin(&mut n.lhs, at);
            pin(&mut n.rhs, at) && left
        }
        Node::Unary(n) => pin(&mut n.expr, at),
        Node::Paren(n) => pin(&mut n.expr, at),
        Node::Call(n) => {
            let mut stable = true;
            for arg in &mut n.args {
                stable &= pin(arg, at);
            }
            stable && !TIME_DEPENDENT.contains(&n.function.name)
        }
        Node::StepInvariant(n) => pin(n, at),
    }
}
