//! Operations between vectors: which rows are partners, and what their results are called, is remembered.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::memory::key;
use super::rows::Rows;
use super::{ABSENT, Fast, Frame, Quit, Shape, computed, is_absent};
use crate::ast::*;
use crate::eval::binary::{result_labels, scalar_operation, signature};
use crate::eval::{Evaluator, Window};
use crate::source::Snapshot;

/// Arithmetic, comparisons, `and`, `unless`. Where series match more than one, the general way looks whether they do
/// so at the same time.
pub(super) fn is_fast(n: &Binary) -> bool {
    let Some(matching) = &n.matching else { return false };
    let filled = matching.fill_left.is_some() || matching.fill_right.is_some();
    !filled && !matches!(n.op, BinaryOp::Or | BinaryOp::TrimUpper | BinaryOp::TrimLower)
}

/// How the rows of both sides belong together.
pub(super) struct Partners {
    left: Arc<Rows>,
    right: Arc<Rows>,
    kind: Kind,
}

enum Kind {
    /// Of each result: the row on the "many" side and that on the "one" side.
    Pairs { pairs: Vec<(u32, u32)>, results: Arc<Rows> },
    /// Of each row on the left: the number of its signature. Of the right: the rows of each signature.
    Sets { left: Vec<u32>, right: Vec<u32>, signatures: usize },
    /// Not to be done here.
    Ambiguous,
}

impl Partners {
    pub(super) fn shed(&self) {
        if let Kind::Pairs { results, .. } = &self.kind {
            results.shed();
        }
    }
}

fn narrow(row: usize) -> Fast<u32> {
    u32::try_from(row).map_err(|_| Quit::General)
}

impl Partners {
    fn new(n: &Binary, matching: &VectorMatching, sides: [&Arc<Rows>; 2], snapshot: &dyn Snapshot) -> Fast<Self> {
        let kind = match n.op {
            BinaryOp::And | BinaryOp::Unless => Self::sets(matching, sides, snapshot)?,
            _ => Self::pairs(n, matching, sides, snapshot)?,
        };
        Ok(Partners { left: sides[0].clone(), right: sides[1].clone(), kind })
    }

    fn sets(matching: &VectorMatching, sides: [&Arc<Rows>; 2], snapshot: &dyn Snapshot) -> Fast<Kind> {
        let mut numbers: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut number = |rows: &Rows| -> Fast<Vec<u32>> {
            let number_of = |labels| {
                let next = numbers.len();
                narrow(*numbers.entry(signature(labels, matching)).or_insert(next))
            };
            rows.labels(snapshot).iter().map(number_of).collect()
        };
        let (left, right) = (number(sides[0])?, number(sides[1])?);
        Ok(Kind::Sets { left, right, signatures: numbers.len() })
    }

    fn pairs(n: &Binary, matching: &VectorMatching, sides: [&Arc<Rows>; 2], snapshot: &dyn Snapshot) -> Fast<Kind> {
        let swapped = matching.card == Card::OneToMany;
        let [many, one] = if swapped { [sides[1], sides[0]] } else { sides };
        let mut of_signature: HashMap<Vec<u8>, u32> = HashMap::with_capacity(one.len());
        for (row, labels) in one.labels(snapshot).iter().enumerate() {
            if of_signature.insert(signature(labels, matching), narrow(row)?).is_some() {
                return Ok(Kind::Ambiguous);
            }
        }
        let (mut pairs, mut labels) = (Vec::new(), Vec::new());
        let mut taken = vec![false; one.len()];
        let one_labels = one.labels(snapshot);
        for (row, many_labels) in many.labels(snapshot).iter().enumerate() {
            let Some(other) = of_signature.get(&signature(many_labels, matching)) else { continue };
            let taken = &mut taken[*other as usize];
            if *taken && matching.card == Card::OneToOne {
                return Ok(Kind::Ambiguous);
            }
            *taken = true;
            pairs.push((narrow(row)?, *other));
            labels.push(result_labels(n, matching, many_labels, &one_labels[*other as usize]));
        }
        if labels.iter().collect::<HashSet<_>>().len() < labels.len() {
            return Ok(Kind::Ambiguous);
        }
        Ok(Kind::Pairs { pairs, results: Arc::new(Rows::of_labels(labels)) })
    }
}

impl Evaluator<'_> {
    fn partners(&mut self, node: &Node, n: &Binary, left: &Arc<Rows>, right: &Arc<Rows>) -> Fast<Arc<Partners>> {
        if let Some(known) = self.memory.partners.get(&key(node))
            && Arc::ptr_eq(&known.left, left)
            && Arc::ptr_eq(&known.right, right)
        {
            return Ok(known.clone());
        }
        let matching = n.matching.as_ref().ok_or(Quit::General)?;
        let partners = Arc::new(Partners::new(n, matching, [left, right], self.snapshot()?)?);
        self.memory.partners.insert(key(node), partners.clone());
        Ok(partners)
    }

    pub(super) fn fast_join(&mut self, node: &Node, n: &Binary, window: Window) -> Fast<Frame> {
        let left = self.frame(&n.lhs, window)?;
        let right = self.frame(&n.rhs, window)?;
        let partners = self.partners(node, n, &left.shape.rows, &right.shape.rows)?;
        let mut arguments = left.counts();
        arguments.iter_mut().zip(right.counts()).for_each(|(sum, count)| *sum += count);
        let frame = match &partners.kind {
            Kind::Ambiguous => return Err(Quit::General),
            Kind::Pairs { pairs, results } => {
                self.check_grid(results.len(), window.steps())?;
                joined(n, [&left, &right], pairs, results)
            }
            Kind::Sets { left: marks, right: others, signatures } => {
                filtered(n.op, left, &right, marks, others, *signatures)
            }
        };
        self.charge_counts(&arguments, &frame.counts())?;
        Ok(frame)
    }
}

fn joined(n: &Binary, sides: [&Frame; 2], pairs: &[(u32, u32)], results: &Arc<Rows>) -> Frame {
    let swapped = n.matching.as_ref().is_some_and(|m| m.card == Card::OneToMany);
    let [many, one] = if swapped { [sides[1], sides[0]] } else { sides };
    let steps = many.steps;
    let mut values = Vec::with_capacity(pairs.len() * steps);
    for (many_row, one_row) in pairs {
        for (many, one) in many.row(*many_row as usize).iter().zip(one.row(*one_row as usize)) {
            if is_absent(*many) || is_absent(*one) {
                values.push(ABSENT);
                continue;
            }
            let (left, right) = if swapped { (*one, *many) } else { (*many, *one) };
            let result = scalar_operation(n.op, left, right);
            values.push(match (n.op.is_comparison(), n.return_bool) {
                (false, _) | (true, true) => computed(result),
                (true, false) if result == 1.0 => left,
                (true, false) => ABSENT,
            });
        }
    }
    let drop_name = n.return_bool || many.shape.drop_name;
    Frame { shape: Shape { rows: results.clone(), drop_name }, values, steps }
}

/// `and` and `unless`: the left side's values, or not.
fn filtered(op: BinaryOp, left: Frame, right: &Frame, marks: &[u32], others: &[u32], signatures: usize) -> Frame {
    let mut frame = left;
    let steps = frame.steps;
    let mut present = vec![false; signatures * steps];
    for (row, signature) in others.iter().enumerate() {
        for (step, value) in right.row(row).iter().enumerate() {
            present[*signature as usize * steps + step] |= !is_absent(*value);
        }
    }
    for (i, value) in frame.values.iter_mut().enumerate() {
        let there = present[marks[i / steps] as usize * steps + i % steps];
        if there != (op == BinaryOp::And) {
            *value = ABSENT;
        }
    }
    frame
}
