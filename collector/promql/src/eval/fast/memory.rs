//! What a prepared query remembers from one evaluation to the next.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::buckets::Buckets;
use super::fold::Grouping;
use super::join::Partners;
use super::rows::Rows;
use crate::ast::Node;
use crate::source::Selected;

/// Names a node of a query by its place: the same in each tree that is prepared from it.
pub(crate) type Key = (usize, usize, u8);

pub(super) fn key(node: &Node) -> Key {
    let kind = match node {
        Node::Vector(_) => 0,
        Node::Matrix(_) => 1,
        Node::Aggregate(_) => 2,
        Node::Binary(_) => 3,
        Node::Call(_) => 4,
        Node::Unary(_) => 5,
        Node::Paren(_) => 6,
        Node::Subquery(_) => 7,
        Node::StepInvariant(inner) => return key(inner),
        Node::Number(_) | Node::String(_) => 8,
    };
    let span = node.span();
    (span.start, span.end, kind)
}

/// What a selector found.
pub(super) struct Selection {
    pub selected: Arc<Selected>,
    /// At which epoch `selected` was last found to hold.
    pub epoch: u64,
    pub rows: Arc<Rows>,
}

/// All that was remembered is checked against the series that there are before it is used.
#[derive(Default)]
pub(crate) struct Memory {
    pub(super) selections: HashMap<Key, Selection>,
    pub(super) groupings: HashMap<Key, Grouping>,
    pub(super) partners: HashMap<Key, Arc<Partners>>,
    pub(super) buckets: HashMap<Key, Arc<Buckets>>,
    /// Nodes to which the short way did not lead.
    pub(super) general: HashSet<Key>,
    /// The epoch in which `general` was found out.
    general_epoch: u64,
}

impl Memory {
    /// Lets go of what takes much memory and is seldom needed.
    pub(crate) fn shed(&self) {
        self.selections.values().for_each(|selection| selection.rows.shed());
        self.groupings.values().for_each(|grouping| grouping.groups.shed());
        self.partners.values().for_each(|partners| partners.shed());
        self.buckets.values().for_each(|buckets| buckets.shed());
    }

    /// What had histograms may have none in another epoch.
    pub(crate) fn see_epoch(&mut self, epoch: u64) {
        if self.general_epoch != epoch {
            self.general.clear();
            self.general_epoch = epoch;
        }
    }
}
