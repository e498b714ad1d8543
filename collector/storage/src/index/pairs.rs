//! Pairs of a label's name and a value: their numbers, and which series carry each (postings).

use std::collections::BTreeMap;

use telemetry::labels::decode_pair;

use super::ids::Ids;

/// The numbers of a name's values.
pub(super) type Values = BTreeMap<Box<str>, u32>;

#[derive(Default)]
pub(super) struct Pairs {
    by_name: BTreeMap<Box<str>, Values>,
    /// By number.
    pairs: Vec<Pair>,
    free: Vec<u32>,
}

#[derive(Default)]
pub(super) struct Pair {
    /// As in [`telemetry::Labels::encoded_pairs`]: labels are compared and put together without being taken apart.
    pub(super) encoded: Box<str>,
    /// The series that carry it.
    pub(super) ids: Ids,
}

impl Pairs {
    pub(super) fn values(&self, name: &str) -> Option<&Values> {
        self.by_name.get(name)
    }

    pub(super) fn get(&self, number: u32) -> &Pair {
        &self.pairs[number as usize]
    }

    /// None if no series carries the pair.
    pub(super) fn find(&self, name: &str, value: &str) -> Option<&Pair> {
        self.values(name)?.get(value).map(|number| self.get(*number))
    }

    pub(super) fn encoded<'p>(&'p self, numbers: &'p [u32]) -> impl ExactSizeIterator<Item = &'p str> + Clone {
        numbers.iter().map(|number| &*self.get(*number).encoded)
    }

    /// The number of a pair, a new one if need be.
    pub(super) fn number(&mut self, encoded: &str) -> u32 {
        let (name, value) = decode_pair(encoded).unwrap_or_default();
        if let Some(number) = self.by_name.get(name).and_then(|values| values.get(value)) {
            return *number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(Pair::default());
            (self.pairs.len() - 1) as u32
        });
        self.pairs[number as usize] = Pair { encoded: encoded.into(), ids: Ids::default() };
        match self.by_name.get_mut(name) {
            Some(values) => values.insert(value.into(), number),
            None => self.by_name.entry(name.into()).or_default().insert(value.into(), number),
        };
        number
    }

    pub(super) fn add(&mut self, number: u32, id: u32) {
        self.pairs[number as usize].ids.insert(id);
    }

    /// A series that carried the pair is gone, and the pair with the last of them.
    pub(super) fn remove(&mut self, number: u32, id: u32) {
        let Pair { encoded, ids, .. } = &mut self.pairs[number as usize];
        ids.remove(id);
        if !ids.is_empty() {
            return;
        }
        let (name, value) = decode_pair(encoded).unwrap_or_default();
        if let Some(values) = self.by_name.get_mut(name) {
            values.remove(value);
            if values.is_empty() {
                self.by_name.remove(name);
            }
        }
        self.pairs[number as usize] = Pair::default();
        self.free.push(number);
    }
}
