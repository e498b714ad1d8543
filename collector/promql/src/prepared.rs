//! A query that is asked again and again.

use std::sync::{Mutex, PoisonError};

use crate::eval::Memory;
use crate::parse::Expr;

/// A parsed query with what was found out when it was evaluated before: which series its selectors find, the groups
/// and partners of these, and labels that were needed. All of it is checked against the source's epoch, so that
/// answers are the same as without.
///
/// It belongs to one source: evaluated over another, it would take that one's series for its own. Rules and panels
/// keep one each; evaluations at the same time are allowed, but only one of them finds what was remembered.
pub struct Prepared {
    expr: Expr,
    memory: Mutex<Memory>,
}

impl Prepared {
    pub fn new(expr: Expr) -> Self {
        Prepared { expr, memory: Mutex::default() }
    }

    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Forgets what was found out, and with it the memory that this takes.
    pub fn forget(&self) {
        self.give(Memory::default());
    }

    pub(crate) fn take(&self) -> Memory {
        std::mem::take(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn give(&self, memory: Memory) {
        memory.shed();
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
    }
}
