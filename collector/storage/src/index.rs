//! Which series there are, and which of them matchers select.
//!
//! Series have small ids; for every label pair the index holds the ids of the series that carry it (postings). Ids of removed
//! series are used again, the lowest first: series that come together get neighbouring ids, and all that is held here
//! is small where neighbours are alike.
//!
//! A series' labels are the numbers of its pairs: most pairs belong to many series, and a text of its own for each would
//! be the largest part of a series that is scraped. Whoever wants the text has it put together.

mod by_hash;
mod ids;
mod label_sets;
mod pairs;
mod select;
#[cfg(test)]
mod tests;

use telemetry::Labels;
use telemetry::labels::decode_pair;
use xxhash_rust::xxh3::xxh3_64;

use crate::group::SeriesKey;

use by_hash::ByHash;
use ids::Ids;
pub(crate) use label_sets::Numbers;
use label_sets::{LabelSets, SetReader};
pub(crate) use label_sets::{read_set, write_set};
use pairs::Pairs;

#[derive(Default)]
pub(crate) struct Index {
    by_hash: ByHash,
    sets: LabelSets,
    pairs: Pairs,
    /// By id: how many series have had it and are gone, and whether it is free.
    generations: Vec<u32>,
    free: Ids,
    /// The series that came last: series come by targets, and neighbours share most pairs.
    recent: Option<Recent>,
    /// The series that was looked for last.
    last: Option<Last>,
    created_total: u64,
    /// Rises when series come or go.
    epoch: u64,
}

struct Recent {
    id: u32,
    numbers: Numbers,
}

struct Last {
    id: u32,
    labels: Labels,
    /// It came right behind the one before: whoever writes again keeps to the order, mostly.
    in_order: bool,
}

/// In a generation: nobody has the id.
const FREE: u32 = 1 << 31;

impl Index {
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn key(&self, id: u32) -> SeriesKey {
        SeriesKey { id, generation: self.generations.get(id as usize).copied().unwrap_or_default() & !FREE }
    }

    /// Whether the series still lives that had this key.
    pub(crate) fn lives(&self, key: SeriesKey) -> bool {
        self.generations.get(key.id as usize) == Some(&key.generation)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Series with this pair; one without the label counts for none.
    pub(crate) fn len_with(&self, name: &str, value: &str) -> usize {
        self.pairs.find(name, value).map_or(0, |pair| pair.ids.len())
    }

    pub(crate) fn created_total(&self) -> u64 {
        self.created_total
    }

    /// Quickest for the series that was looked for last, and for the one behind it.
    pub(crate) fn find(&mut self, labels: &Labels) -> Option<u32> {
        let last = self.last.as_ref();
        if let Some(last) = last.filter(|last| last.labels == *labels) {
            return Some(last.id);
        }
        let next = last.map(|last| last.id + 1);
        let guess = next.filter(|id| last.is_some_and(|last| last.in_order) && self.is(*id, labels));
        let id = guess.or_else(|| self.find_by_hash(hash(labels), labels))?;
        self.last = Some(Last { id, labels: labels.clone(), in_order: next == Some(id) });
        Some(id)
    }

    fn find_by_hash(&self, hash: u64, labels: &Labels) -> Option<u32> {
        self.by_hash.find(hash, |id| self.is(id, labels))
    }

    fn is(&self, id: u32, labels: &Labels) -> bool {
        self.sets.reader().set(id).is_some_and(|numbers| labels.has_encoded_pairs(self.pairs.encoded(numbers)))
    }

    /// The labels of a living series.
    pub(crate) fn labels(&self, id: u32) -> Labels {
        self.labels_by(&mut self.sets.reader(), id)
    }

    /// The labels of living series; quicker than one by one where their ids ascend.
    pub(crate) fn labels_of(&self, ids: impl IntoIterator<Item = u32>) -> impl Iterator<Item = (u32, Labels)> {
        let mut reader = self.sets.reader();
        ids.into_iter().map(move |id| (id, self.labels_by(&mut reader, id)))
    }

    fn labels_by(&self, reader: &mut SetReader<'_>, id: u32) -> Labels {
        Labels::from_encoded_pairs(self.pairs.encoded(reader.set(id).unwrap_or_default()))
    }

    /// The ids of all living series, ascending.
    pub(crate) fn ids(&self) -> Vec<u32> {
        (0..).zip(&self.generations).filter(|(_, generation)| *generation & FREE == 0).map(|(id, _)| id).collect()
    }

    /// How many ids there are, free ones included.
    pub(crate) fn ids_len(&self) -> usize {
        self.generations.len()
    }

    pub(crate) fn is_alive(&self, id: u32) -> bool {
        self.generations.get(id as usize).is_some_and(|generation| generation & FREE == 0)
    }

    /// Adds a series that is not there yet.
    pub(crate) fn insert(&mut self, labels: &Labels) -> u32 {
        let id = self.free.pop_first().unwrap_or_else(|| {
            self.generations.push(FREE);
            u32::try_from(self.generations.len() - 1).expect("four billion series do not fit into memory")
        });
        let numbers = self.numbers_of(labels);
        self.occupy(id, numbers, hash(labels));
        self.created_total += 1;
        id
    }

    /// Room for so many series; before the first comes.
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.by_hash.len() == 0 {
            self.by_hash = ByHash::with_room_for(len);
        }
        self.generations.reserve(len);
    }

    /// Makes ids up to this many known, all free; before [`Index::insert_at`].
    pub(crate) fn reserve_ids(&mut self, len: usize) {
        self.generations.resize(len.max(self.generations.len()), FREE);
    }

    /// Adds a series under the id that it had before a restart, unless it is there. None if the id is another's, is
    /// beyond the next one, or the series has another. [`Index::find_free_ids`] has to follow.
    pub(crate) fn insert_at(&mut self, id: u32, labels: &Labels) -> Option<()> {
        if self.is_alive(id) && self.is(id, labels) {
            return Some(());
        }
        let hash = hash(labels);
        if id as usize > self.generations.len() || self.is_alive(id) || self.find_by_hash(hash, labels).is_some() {
            return None;
        }
        self.reserve_ids(id as usize + 1);
        let numbers = self.numbers_of(labels);
        self.occupy(id, numbers, hash);
        Some(())
    }

    /// Adds a series of a checkpoint by the numbers of its pairs, in the order of their names, and the hash of its labels;
    /// None if the id is another's or the series has another. [`Index::find_free_ids`] has to follow.
    pub(crate) fn restore(&mut self, id: u32, numbers: &[u32], hash: u64) -> Option<()> {
        let is = |other| self.sets.reader().set(other) == Some(numbers);
        if self.is_alive(id) || self.by_hash.find(hash, is).is_some() {
            return None;
        }
        self.reserve_ids(id as usize + 1);
        self.occupy(id, Numbers::from_slice(numbers), hash);
        Some(())
    }

    /// The number of a pair, as it stands in [`Labels::encoded_pairs`]; a new one if need be.
    pub(crate) fn pair_number(&mut self, encoded: &str) -> u32 {
        self.pairs.number(encoded)
    }

    /// The pair of such a number.
    pub(crate) fn pair(&self, number: u32) -> &str {
        &self.pairs.get(number).encoded
    }

    /// The numbers of living series' pairs; `ids` ascends.
    pub(crate) fn sets_of(&self, ids: impl IntoIterator<Item = u32>) -> impl Iterator<Item = (u32, Numbers)> {
        let mut reader = self.sets.reader();
        ids.into_iter().filter_map(move |id| Some((id, Numbers::from_slice(reader.set(id)?))))
    }

    pub(crate) fn find_free_ids(&mut self) {
        self.free = Ids::default();
        let free = (0..).zip(&self.generations).filter(|(_, generation)| *generation & FREE != 0);
        free.for_each(|(id, _)| self.free.insert(id));
    }

    fn occupy(&mut self, id: u32, numbers: Numbers, hash: u64) {
        self.epoch += 1;
        numbers.iter().for_each(|number| self.pairs.add(*number, id));
        let before = self.recent.as_ref().filter(|recent| recent.id.checked_add(1) == Some(id));
        self.sets.put(id, &numbers, before.map(|before| before.numbers.as_slice()));
        self.generations[id as usize] &= !FREE;
        if !self.by_hash.make_room() {
            self.hash_anew();
        }
        self.by_hash.insert(hash, id);
        self.recent = Some(Recent { id, numbers });
    }

    fn hash_anew(&mut self) {
        let known = self.by_hash.ids();
        let mut by_hash = ByHash::with_room_for(known.len());
        for (id, labels) in self.labels_of(known) {
            by_hash.insert(hash(&labels), id);
        }
        self.by_hash = by_hash;
    }

    /// The numbers of a series' pairs, in their order.
    fn numbers_of(&mut self, labels: &Labels) -> Numbers {
        let Index { recent, pairs, .. } = self;
        let mut known = recent.iter().flat_map(|recent| recent.numbers.iter().copied()).peekable();
        let number = |encoded: &str| {
            while let Some(next) = known.peek().copied() {
                let other = &*pairs.get(next).encoded;
                if other == encoded {
                    known.next();
                    return next;
                }
                // A pair that is not the next one may follow later, behind names that this series lacks.
                if name(other) >= name(encoded) {
                    break;
                }
                known.next();
            }
            pairs.number(encoded)
        };
        labels.encoded_pairs().map(number).collect()
    }

    /// Removes series; `dead` is ascending.
    pub(crate) fn remove(&mut self, dead: &[u32]) {
        (self.recent, self.last) = (None, None);
        let dead: Vec<u32> = dead.iter().copied().filter(|id| self.is_alive(*id)).collect();
        let mut reader = self.sets.reader();
        for id in &dead {
            let numbers = reader.set(*id).unwrap_or_default();
            self.by_hash.remove(hash(&Labels::from_encoded_pairs(self.pairs.encoded(numbers))), *id);
            numbers.iter().for_each(|number| self.pairs.remove(*number, *id));
            self.epoch += 1;
            let generation = &mut self.generations[*id as usize];
            *generation = (*generation + 1) | FREE;
            self.free.insert(*id);
        }
        self.sets.remove(&dead);
    }
}

fn hash(labels: &Labels) -> u64 {
    hash_encoded(labels.encoded())
}

/// Of what [`Labels::encoded`] gives.
pub(crate) fn hash_encoded(labels: &str) -> u64 {
    xxh3_64(labels.as_bytes())
}

fn name(encoded: &str) -> &str {
    decode_pair(encoded).map_or("", |(name, _)| name)
}
