//! Binary operations: arithmetic, comparison and set operators between scalars and instant vectors.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use telemetry::Labels;
use telemetry::labels::METRIC_NAME;

use super::{Cell, Evaluator, Grid, GridBuilder, Row, Window, is_metadata_label};
use crate::annotation::Operation;
use crate::ast::*;
use crate::engine::EvalError;
use crate::histogram::{CounterResetHint, Histogram, Keep};
use crate::text::in_braces;

/// What an operation between two cells gives.
pub(super) struct Outcome {
    pub cell: Cell,
    /// False where a comparison does not hold.
    pub keep: bool,
}

impl Evaluator<'_> {
    pub(super) fn binary(&mut self, n: &Binary, window: Window) -> Result<Grid, EvalError> {
        let lhs = self.eval(&n.lhs, window)?;
        let rhs = self.eval(&n.rhs, window)?;
        let steps = window.steps();
        match (n.lhs.value_type(), n.rhs.value_type()) {
            (ValueType::Scalar, ValueType::Scalar) => {
                Ok(Grid::scalar(steps, |i| scalar_operation(n.op, lhs.scalar_at(i), rhs.scalar_at(i))))
            }
            (ValueType::Vector, ValueType::Scalar) => self.vector_scalar(n, lhs, rhs, false),
            (ValueType::Scalar, ValueType::Vector) => self.vector_scalar(n, rhs, lhs, true),
            _ => {
                let Some(matching) = &n.matching else {
                    return Err(EvalError::Query("vector operation without matching".to_owned()));
                };
                match n.op {
                    BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => {
                        self.set_operation(n.op, matching, lhs, rhs, window)
                    }
                    _ => self.vector_vector(n, matching, lhs, rhs, window),
                }
            }
        }
    }

    /// `swapped`: the scalar stands on the left.
    fn vector_scalar(&mut self, n: &Binary, vector: Grid, scalar: Grid, swapped: bool) -> Result<Grid, EvalError> {
        let mut grid = vector;
        let drops_name = n.op.changes_metric() || n.return_bool;
        let steps = grid.steps;
        for (i, slot) in grid.cells.iter_mut().enumerate() {
            let Some(cell) = slot.take() else { continue };
            let scalar = Cell::Float(scalar.scalar_at(i % steps));
            let (left, right) = if swapped { (&scalar, &cell) } else { (&cell, &scalar) };
            let Some(outcome) = self.element(n.op, left, right, n.span()) else { continue };
            *slot = if n.return_bool {
                Some(Cell::Float(f64::from(u8::from(outcome.keep))))
            } else if !outcome.keep {
                None
            } else if n.op.is_comparison() {
                // A comparison yields the vector's value on whichever side it stands.
                Some(cell)
            } else {
                Some(outcome.cell)
            };
        }
        for row in &mut grid.rows {
            row.drop_name |= drops_name;
        }
        Ok(grid.without_empty_rows())
    }

    fn set_operation(
        &mut self,
        op: BinaryOp,
        matching: &VectorMatching,
        lhs: Grid,
        rhs: Grid,
        window: Window,
    ) -> Result<Grid, EvalError> {
        let signatures = Signatures::new(matching, &lhs, &rhs);
        let mut builder = GridBuilder::new(window);
        let mut present = vec![false; signatures.count];
        for step in 0..window.steps() {
            present.fill(false);
            let (side, marks) = match op {
                BinaryOp::Or => (&lhs, &signatures.left),
                _ => (&rhs, &signatures.right),
            };
            for (row, signature) in marks.iter().enumerate() {
                present[*signature] |= side.cell(row, step).is_some();
            }
            for (row, signature) in signatures.left.iter().enumerate() {
                let passes = match op {
                    BinaryOp::And => present[*signature],
                    BinaryOp::Unless => !present[*signature],
                    _ => true,
                };
                if let Some(cell) = lhs.cell(row, step).filter(|_| passes) {
                    builder.emit(step, &lhs.rows[row].labels, lhs.rows[row].drop_name, cell.clone())?;
                }
            }
            if op == BinaryOp::Or {
                for (row, signature) in signatures.right.iter().enumerate() {
                    if let Some(cell) = rhs.cell(row, step).filter(|_| !present[*signature]) {
                        builder.emit(step, &rhs.rows[row].labels, rhs.rows[row].drop_name, cell.clone())?;
                    }
                }
            }
        }
        Ok(builder.finish())
    }

    fn vector_vector(
        &mut self,
        n: &Binary,
        matching: &VectorMatching,
        lhs: Grid,
        rhs: Grid,
        window: Window,
    ) -> Result<Grid, EvalError> {
        let signatures = Signatures::new(matching, &lhs, &rhs);
        let swapped = matching.card == Card::OneToMany;
        let (many, one) = if swapped { (&rhs, &lhs) } else { (&lhs, &rhs) };
        let (many_signatures, one_signatures) =
            if swapped { (&signatures.right, &signatures.left) } else { (&signatures.left, &signatures.right) };
        // With group_right as with group_left, fill_right stands in for the "one" side: so Prometheus has it.
        let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
        let mut join = Join {
            n,
            matching,
            swapped,
            repeated: !window.is_instant(),
            builder: GridBuilder::new(window),
            results: HashMap::new(),
            matched: vec![false; signatures.count],
            inserted: HashSet::new(),
        };
        let mut partner: Vec<Option<usize>> = vec![None; signatures.count];
        for step in 0..window.steps() {
            if step % 64 == 0 {
                self.check_stop()?;
            }
            partner.fill(None);
            join.matched.fill(false);
            join.inserted.clear();
            let empty = |grid: &Grid| (0..grid.rows.len()).all(|row| grid.cell(row, step).is_none());
            let nothing_filled = fill_many.is_none() && fill_one.is_none();
            if nothing_filled && (empty(many) || empty(one)) {
                continue;
            }
            for (row, signature) in one_signatures.iter().enumerate() {
                if one.cell(row, step).is_none() {
                    continue;
                }
                if let Some(other) = partner[*signature].replace(row) {
                    return Err(duplicate_series(matching, &one.rows[row].labels, &one.rows[other].labels));
                }
            }
            for (row, signature) in many_signatures.iter().enumerate() {
                let Some(cell) = many.cell(row, step) else { continue };
                let labels = &many.rows[row].labels;
                if let Some(other) = partner[*signature] {
                    let Some(other_cell) = one.cell(other, step) else { continue };
                    join.pair(self, step, *signature, (&many.rows[row], cell), (&one.rows[other].labels, other_cell))?;
                } else if let Some(fill) = fill_one {
                    let other = match_labels(labels, matching);
                    join.pair(self, step, *signature, (&many.rows[row], cell), (&other, &Cell::Float(fill)))?;
                }
            }
            if let Some(fill) = fill_many {
                for (row, signature) in one_signatures.iter().enumerate() {
                    let Some(cell) = one.cell(row, step).filter(|_| !join.matched[*signature]) else { continue };
                    let labels = &one.rows[row].labels;
                    let other = Row { labels: match_labels(labels, matching), drop_name: false };
                    join.pair(self, step, *signature, (&other, &Cell::Float(fill)), (labels, cell))?;
                }
            }
        }
        Ok(join.builder.finish())
    }

    /// One operation between two samples; nothing where the types do not fit, which is noted.
    pub(super) fn element(&mut self, op: BinaryOp, left: &Cell, right: &Cell, span: Span) -> Option<Outcome> {
        match (left, right) {
            (Cell::Float(a), Cell::Float(b)) => {
                if matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
                    self.annotations.incompatible_types("float", op.symbol(), "float", span);
                    return None;
                }
                let (a, b) = (*a, *b);
                let keep = !op.is_comparison() || scalar_operation(op, a, b) == 1.0;
                let value = if op.is_comparison() { a } else { scalar_operation(op, a, b) };
                Some(Outcome { cell: Cell::Float(value), keep })
            }
            (Cell::Histogram(a), Cell::Histogram(b)) => self.histograms(op, a, b, span),
            (Cell::Histogram(histogram), Cell::Float(value)) => {
                let mut result = (**histogram).clone();
                match op {
                    BinaryOp::Mul => result.scale(*value).compact(),
                    BinaryOp::Div => result.divide(*value).compact(),
                    BinaryOp::TrimUpper => result.trim(*value, Keep::Below),
                    BinaryOp::TrimLower => result.trim(*value, Keep::Above),
                    _ => return self.incompatible(op, left, right, span),
                };
                Some(Outcome { cell: Cell::Histogram(Arc::new(result)), keep: true })
            }
            (Cell::Float(value), Cell::Histogram(histogram)) => {
                if op != BinaryOp::Mul {
                    return self.incompatible(op, left, right, span);
                }
                let mut result = (**histogram).clone();
                result.scale(*value).compact();
                Some(Outcome { cell: Cell::Histogram(Arc::new(result)), keep: true })
            }
        }
    }

    fn incompatible(&mut self, op: BinaryOp, left: &Cell, right: &Cell, span: Span) -> Option<Outcome> {
        self.annotations.incompatible_types(kind(left), op.symbol(), kind(right), span);
        None
    }

    fn histograms(&mut self, op: BinaryOp, a: &Arc<Histogram>, b: &Arc<Histogram>, span: Span) -> Option<Outcome> {
        let operation = match op {
            BinaryOp::Add => Operation::Addition,
            BinaryOp::Sub => Operation::Subtraction,
            BinaryOp::Eqlc | BinaryOp::Neq => {
                let keep = a.same_value(b) == (op == BinaryOp::Eqlc);
                return Some(Outcome { cell: Cell::Histogram(a.clone()), keep });
            }
            _ => {
                self.annotations.incompatible_types("histogram", op.symbol(), "histogram", span);
                return None;
            }
        };
        let mut result = (**a).clone();
        let combined = if op == BinaryOp::Add { result.add(b) } else { result.sub(b) };
        let Ok(combined) = combined else {
            self.annotations.incompatible_buckets(op.symbol(), span);
            return None;
        };
        if combined.bounds_reconciled {
            self.annotations.mismatched_custom_buckets(operation, span);
        }
        if combined.reset_collision {
            self.annotations.counter_reset_collision(operation, span);
            return None;
        }
        if op == BinaryOp::Sub {
            result.counter_reset_hint = CounterResetHint::Gauge;
        }
        result.compact();
        Some(Outcome { cell: Cell::Histogram(Arc::new(result)), keep: true })
    }
}

fn kind(cell: &Cell) -> &'static str {
    match cell {
        Cell::Float(_) => "float",
        Cell::Histogram(_) => "histogram",
    }
}

/// Comparisons give 1 or 0.
pub(super) fn scalar_operation(op: BinaryOp, a: f64, b: f64) -> f64 {
    let truth = |holds: bool| f64::from(u8::from(holds));
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Atan2 => a.atan2(b),
        BinaryOp::Eqlc => truth(a == b),
        BinaryOp::Neq => truth(a != b),
        BinaryOp::Gtr => truth(a > b),
        BinaryOp::Lss => truth(a < b),
        BinaryOp::Gte => truth(a >= b),
        BinaryOp::Lte => truth(a <= b),
        // The type check lets no set or trim operator near scalars.
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::TrimUpper | BinaryOp::TrimLower => f64::NAN,
    }
}

/// Which rows of both sides have the same matching labels: equal numbers mean a match.
struct Signatures {
    left: Vec<usize>,
    right: Vec<usize>,
    count: usize,
}

impl Signatures {
    fn new(matching: &VectorMatching, lhs: &Grid, rhs: &Grid) -> Self {
        let mut numbers: HashMap<Vec<u8>, usize> = HashMap::with_capacity(rhs.rows.len());
        let mut number = |grid: &Grid| -> Vec<usize> {
            let number_of = |row: &Row| {
                let next = numbers.len();
                *numbers.entry(signature(&row.labels, matching)).or_insert(next)
            };
            grid.rows.iter().map(number_of).collect()
        };
        let left = number(lhs);
        let right = number(rhs);
        Signatures { left, right, count: numbers.len() }
    }
}

pub(super) fn signature(labels: &Labels, matching: &VectorMatching) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    if matching.on {
        for name in &matching.labels {
            key.extend_from_slice(labels.get(name).unwrap_or_default().as_bytes());
            key.push(0xff);
        }
    } else {
        for (name, value) in labels.iter().filter(|(n, _)| *n != METRIC_NAME && !contains(&matching.labels, n)) {
            key.extend_from_slice(name.as_bytes());
            key.push(0xfe);
            key.extend_from_slice(value.as_bytes());
            key.push(0xff);
        }
    }
    key
}

fn contains(names: &[String], name: &str) -> bool {
    names.iter().any(|n| n == name)
}

/// The labels by which a series is matched.
fn match_labels(labels: &Labels, matching: &VectorMatching) -> Labels {
    if matching.on {
        labels.retain(|name| contains(&matching.labels, name))
    } else {
        labels.retain(|name| name != METRIC_NAME && !contains(&matching.labels, name))
    }
}

fn duplicate_series(matching: &VectorMatching, a: &Labels, b: &Labels) -> EvalError {
    let side = if matching.card == Card::OneToMany { "left" } else { "right" };
    let group = in_braces(&match_labels(a, matching));
    let (first, second) = (in_braces(a), in_braces(b));
    let (first, second) = if first > second { (second, first) } else { (first, second) };
    EvalError::Query(format!(
        "found duplicate series for the match group {group} on the {side} hand-side of the operation: \
         [{first}, {second}];many-to-many matching not allowed: matching labels must be unique on one side"
    ))
}

/// The state of a one-to-one, many-to-one or one-to-many operation.
struct Join<'n> {
    n: &'n Binary,
    matching: &'n VectorMatching,
    swapped: bool,
    /// Pairs come back at later steps, so that their labels are worth keeping.
    repeated: bool,
    builder: GridBuilder,
    results: HashMap<(Labels, Labels), Labels>,
    matched: Vec<bool>,
    inserted: HashSet<(usize, Labels)>,
}

impl Join<'_> {
    fn pair(
        &mut self,
        evaluator: &mut Evaluator<'_>,
        step: usize,
        signature: usize,
        many: (&Row, &Cell),
        one: (&Labels, &Cell),
    ) -> Result<(), EvalError> {
        let (left, right) = if self.swapped { (one.1, many.1) } else { (many.1, one.1) };
        let Some(outcome) = evaluator.element(self.n.op, left, right, self.n.span()) else { return Ok(()) };
        let labels = self.result_labels(&many.0.labels, one.0);
        let clash = |message: &str| Err(EvalError::Query(format!("multiple matches for labels: {message}")));
        if self.matching.card == Card::OneToOne {
            if self.matched[signature] {
                return clash("many-to-one matching must be explicit (group_left/group_right)");
            }
        } else if !self.inserted.insert((signature, labels.clone())) {
            return clash("grouping labels must ensure unique matches");
        }
        self.matched[signature] = true;
        let cell = match (self.n.return_bool, outcome.keep) {
            (true, keep) => Cell::Float(f64::from(u8::from(keep))),
            (false, true) => outcome.cell,
            (false, false) => return Ok(()),
        };
        // A comparison passes its left side on, and with it that its name is to go.
        self.builder.emit(step, &labels, self.n.return_bool || many.0.drop_name, cell)
    }

    fn result_labels(&mut self, many: &Labels, one: &Labels) -> Labels {
        if !self.repeated {
            return result_labels(self.n, self.matching, many, one);
        }
        let pair = (many.clone(), one.clone());
        if let Some(labels) = self.results.get(&pair) {
            return labels.clone();
        }
        let labels = result_labels(self.n, self.matching, many, one);
        self.results.insert(pair, labels.clone());
        labels
    }
}

/// The labels of what comes of two partners.
pub(super) fn result_labels(n: &Binary, matching: &VectorMatching, many: &Labels, one: &Labels) -> Labels {
    let changes_metric = n.op.changes_metric();
    let labels = many.retain(|name| {
        if changes_metric && is_metadata_label(name) {
            return false;
        }
        match (matching.card, matching.on) {
            (Card::OneToOne, true) => contains(&matching.labels, name),
            (Card::OneToOne, false) => !contains(&matching.labels, name),
            _ => true,
        }
    });
    if matching.include.is_empty() {
        return labels;
    }
    let mut builder = labels.to_builder();
    for name in &matching.include {
        builder.set(name, one.get(name).unwrap_or_default());
    }
    builder.build()
}
