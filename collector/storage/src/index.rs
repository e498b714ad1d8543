//! Which series there are, and which of them matchers select.
//!
//! Series have small ids; for every label pair the index holds the sorted ids of the series that carry it
//! (postings). Ids of removed series are used again.
//!
//! A series' labels are the numbers of its pairs: most pairs belong to many series, and a text of its own for each would
//! be the largest part of a series that is scraped. Whoever wants the text has it put together.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashTable;
use smallvec::SmallVec;
use telemetry::{Labels, MatchOp, Matcher};
use xxhash_rust::xxh3::xxh3_64;

use crate::group::SeriesKey;

/// Sorted ids. Most pairs of a label like `instance` times a metric's name have few.
type Postings = SmallVec<[u32; 4]>;

#[derive(Default)]
pub(crate) struct Index {
    by_labels: HashTable<Hashed>,
    /// By id the numbers of the pairs, sorted by name; None where the id is free.
    labels: Vec<Option<Box<[u32]>>>,
    /// By id: how many series have had it and are gone.
    generations: Vec<u32>,
    free: Vec<u32>,
    /// The number of each pair.
    postings: BTreeMap<Arc<str>, BTreeMap<Arc<str>, u32>>,
    /// By number.
    pairs: Vec<Pair>,
    free_pairs: Vec<u32>,
    /// The series that came last, and its pairs: series come by targets, and neighbours share most pairs.
    recent: (Labels, Box<[u32]>),
    created_total: u64,
    /// Rises when series come or go.
    epoch: u64,
}

/// An id, and the hash of its labels, which are in pieces.
struct Hashed {
    hash: u32,
    id: u32,
}

impl Hashed {
    /// The table wants all bits to differ.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// A name with a value, and the series that carry it.
#[derive(Default)]
struct Pair {
    name: Arc<str>,
    value: Arc<str>,
    ids: Postings,
}

impl Index {
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn key(&self, id: u32) -> SeriesKey {
        SeriesKey { id, generation: self.generations.get(id as usize).copied().unwrap_or_default() }
    }

    /// Whether the series still lives that had this key.
    pub(crate) fn lives(&self, key: SeriesKey) -> bool {
        self.is_alive(key.id) && self.key(key.id) == key
    }

    pub(crate) fn len(&self) -> usize {
        self.by_labels.len()
    }

    /// Series with this pair; one without the label counts for none.
    pub(crate) fn len_with(&self, name: &str, value: &str) -> usize {
        let number = self.postings.get(name).and_then(|values| values.get(value));
        number.map_or(0, |number| self.ids_in(*number).len())
    }

    pub(crate) fn created_total(&self) -> u64 {
        self.created_total
    }

    pub(crate) fn find(&self, labels: &Labels) -> Option<u32> {
        let hash = hash(labels);
        let found = self.by_labels.find(Hashed::spread(hash), |known| known.hash == hash && self.is(known.id, labels));
        found.map(|known| known.id)
    }

    fn is(&self, id: u32, labels: &Labels) -> bool {
        self.pairs_of(id).eq(labels.iter())
    }

    /// The labels of a living series.
    pub(crate) fn labels(&self, id: u32) -> Labels {
        Labels::from_pairs(self.pairs_of(id))
    }

    /// None for a label that the series lacks.
    fn value(&self, id: u32, name: &str) -> Option<&str> {
        self.pairs_of(id).find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    fn pairs_of(&self, id: u32) -> impl Iterator<Item = (&str, &str)> {
        let numbers = self.labels[id as usize].as_deref().unwrap_or_default();
        numbers.iter().map(|number| {
            let Pair { name, value, .. } = &self.pairs[*number as usize];
            (&**name, &**value)
        })
    }

    /// The ids of all living series, ascending.
    pub(crate) fn ids(&self) -> Vec<u32> {
        (0..).zip(&self.labels).filter(|(_, labels)| labels.is_some()).map(|(id, _)| id).collect()
    }

    /// How many ids there are, free ones included.
    pub(crate) fn ids_len(&self) -> usize {
        self.labels.len()
    }

    pub(crate) fn is_alive(&self, id: u32) -> bool {
        self.labels.get(id as usize).is_some_and(Option::is_some)
    }

    /// Adds a series that is not there yet.
    pub(crate) fn insert(&mut self, labels: &Labels) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            self.labels.push(None);
            self.generations.push(0);
            u32::try_from(self.labels.len() - 1).expect("four billion series do not fit into memory")
        });
        self.occupy(id, labels);
        self.created_total += 1;
        id
    }

    /// Makes ids up to this many known, all free; before [`Index::insert_at`].
    pub(crate) fn reserve_ids(&mut self, len: usize) {
        let len = len.max(self.labels.len());
        self.labels.resize(len, None);
        self.generations.resize(len, 0);
    }

    /// Adds a series under the id that it had before a restart, unless it is there. None if the id is another's, is
    /// beyond the next one, or the series has another. [`Index::find_free_ids`] has to follow.
    pub(crate) fn insert_at(&mut self, id: u32, labels: &Labels) -> Option<()> {
        if self.is_alive(id) && self.is(id, labels) {
            return Some(());
        }
        if id as usize > self.labels.len() || self.is_alive(id) || self.find(labels).is_some() {
            return None;
        }
        self.reserve_ids(id as usize + 1);
        self.occupy(id, labels);
        Some(())
    }

    pub(crate) fn find_free_ids(&mut self) {
        self.free = (0..).zip(&self.labels).filter(|(_, labels)| labels.is_none()).map(|(id, _)| id).collect();
    }

    fn occupy(&mut self, id: u32, labels: &Labels) {
        self.epoch += 1;
        let hash = hash(labels);
        let rehash = |known: &Hashed| Hashed::spread(known.hash);
        self.by_labels.insert_unique(Hashed::spread(hash), Hashed { hash, id }, rehash);
        let numbers = self.numbers_of(labels);
        for number in &numbers {
            let ids = &mut self.pairs[*number as usize].ids;
            // A new id is mostly the highest.
            let at =
                if ids.last().is_none_or(|last| *last < id) { ids.len() } else { ids.partition_point(|i| *i < id) };
            ids.insert(at, id);
        }
        self.labels[id as usize] = Some(numbers.clone());
        self.recent = (labels.clone(), numbers);
    }

    /// The numbers of a series' pairs, in their order.
    fn numbers_of(&mut self, labels: &Labels) -> Box<[u32]> {
        let (recent, recent_numbers) = std::mem::take(&mut self.recent);
        let mut known = recent.iter().zip(recent_numbers).peekable();
        let number = |pair: (&str, &str)| {
            while known.next_if(|((name, _), _)| *name < pair.0).is_some() {}
            let same = known.next_if(|(other, _)| *other == pair);
            same.map_or_else(|| self.number(pair), |(_, number)| number)
        };
        labels.iter().map(number).collect()
    }

    fn number(&mut self, (name, value): (&str, &str)) -> u32 {
        if let Some(number) = self.postings.get(name).and_then(|values| values.get(value)) {
            return *number;
        }
        let known = self.postings.get_key_value(name).map(|(name, _)| name.clone());
        let (name, value) = (known.unwrap_or_else(|| name.into()), Arc::<str>::from(value));
        let number = self.free_pairs.pop().unwrap_or_else(|| {
            self.pairs.push(Pair::default());
            (self.pairs.len() - 1) as u32
        });
        self.pairs[number as usize] = Pair { name: name.clone(), value: value.clone(), ids: Postings::new() };
        self.postings.entry(name).or_default().insert(value, number);
        number
    }

    /// Removes series; `dead` is ascending.
    pub(crate) fn remove(&mut self, dead: &[u32]) {
        self.recent = Default::default();
        for id in dead {
            if !self.is_alive(*id) {
                continue;
            }
            let hash = Hashed::spread(hash(&self.labels(*id)));
            if let Ok(found) = self.by_labels.find_entry(hash, |known| known.id == *id) {
                found.remove();
            }
            let numbers = self.labels[*id as usize].take().unwrap_or_default();
            numbers.iter().for_each(|number| self.remove_posting(*number, *id));
            self.epoch += 1;
            self.generations[*id as usize] += 1;
            self.free.push(*id);
        }
    }

    fn remove_posting(&mut self, number: u32, id: u32) {
        let Pair { name, value, ids } = &mut self.pairs[number as usize];
        if let Ok(at) = ids.binary_search(&id) {
            ids.remove(at);
        }
        if !ids.is_empty() {
            return;
        }
        if let Some(values) = self.postings.get_mut(name) {
            values.remove(value);
            if values.is_empty() {
                self.postings.remove(name);
            }
        }
        self.pairs[number as usize] = Pair::default();
        self.free_pairs.push(number);
    }

    fn ids_in(&self, number: u32) -> &[u32] {
        &self.pairs[number as usize].ids
    }

    /// The ids of the series that all matchers accept, ascending. A label that a series lacks has the value "".
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Vec<u32> {
        // First what names values exactly and so leads to few series; matchers that accept "" only leave some out.
        let (leading, narrowing): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|m| m.op == MatchOp::Equal && !m.value.is_empty());
        let mut lists = Vec::with_capacity(leading.len());
        for matcher in leading {
            match self.postings.get(matcher.name.as_str()).and_then(|values| values.get(matcher.value.as_str())) {
                Some(number) => lists.push(self.ids_in(*number)),
                None => return Vec::new(),
            }
        }
        lists.sort_by_key(|ids| ids.len());
        let mut candidates: Option<Vec<u32>> = None;
        for list in lists {
            candidates = Some(match candidates {
                None => list.to_vec(),
                Some(ids) => intersect(ids, list),
            });
        }
        for matcher in narrowing {
            if candidates.as_ref().is_some_and(Vec::is_empty) {
                return Vec::new();
            }
            candidates = Some(self.narrow(matcher, candidates));
        }
        candidates.unwrap_or_else(|| self.ids())
    }

    /// The candidates (None: all series) that a matcher accepts, found one by one or by way of its label's values,
    /// whichever are fewer.
    fn narrow(&self, matcher: &Matcher, candidates: Option<Vec<u32>>) -> Vec<u32> {
        let accepts_absent = matcher.matches("");
        let Some(values) = self.postings.get(matcher.name.as_str()) else {
            return if accepts_absent { candidates.unwrap_or_else(|| self.ids()) } else { Vec::new() };
        };
        if let Some(ids) = &candidates
            && ids.len() <= values.len()
        {
            let accepted = |id: &&u32| matcher.matches(self.value(**id, &matcher.name).unwrap_or_default());
            return ids.iter().filter(accepted).copied().collect();
        }
        // The series whose value decides: those accepted, or those refused where absence is accepted.
        let mut ids: Vec<u32> = Vec::new();
        deciding(matcher, accepts_absent, values).for_each(|number| ids.extend_from_slice(self.ids_in(*number)));
        ids.sort_unstable();
        match (accepts_absent, candidates) {
            (false, None) => ids,
            (false, Some(candidates)) => intersect(candidates, &ids),
            (true, candidates) => subtract(candidates.unwrap_or_else(|| self.ids()), &ids),
        }
    }
}

/// The pairs whose values the matcher treats differently from an absent label.
fn deciding<'v>(
    matcher: &'v Matcher,
    accepts_absent: bool,
    values: &'v BTreeMap<Arc<str>, u32>,
) -> Box<dyn Iterator<Item = &'v u32> + 'v> {
    let decides = move |value: &str| matcher.matches(value) != accepts_absent;
    let negative = matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRegex);
    // What the pattern itself matches decides, unless it matches "" too.
    if negative == accepts_absent {
        if let Some(words) = matcher.words() {
            return Box::new(words.filter_map(|word| values.get(word)));
        }
        if !matcher.prefix().is_empty() {
            let from = values.range::<str, _>((Bound::Included(matcher.prefix()), Bound::Unbounded));
            let with_prefix = from.take_while(|(value, _)| value.starts_with(matcher.prefix()));
            return Box::new(with_prefix.filter(move |(value, _)| decides(value)).map(|(_, ids)| ids));
        }
    }
    Box::new(values.iter().filter(move |(value, _)| decides(value)).map(|(_, ids)| ids))
}

/// The ids of `few` that stand in `many` too; both ascending.
fn intersect(mut few: Vec<u32>, many: &[u32]) -> Vec<u32> {
    let mut rest = many;
    few.retain(|id| {
        rest = &rest[gallop(rest, *id)..];
        rest.first() == Some(id)
    });
    few
}

/// The ids that do not stand in `refused`; both ascending.
fn subtract(mut ids: Vec<u32>, refused: &[u32]) -> Vec<u32> {
    let mut rest = refused;
    ids.retain(|id| {
        rest = &rest[gallop(rest, *id)..];
        rest.first() != Some(id)
    });
    ids
}

/// Where the first element not below `id` stands, found in steps that double: cheap where it is near.
pub(crate) fn gallop(ids: &[u32], id: u32) -> usize {
    let mut step = 1;
    while step < ids.len() && ids[step] < id {
        step *= 2;
    }
    let from = step / 2;
    from + ids[from..ids.len().min(step + 1)].partition_point(|i| *i < id)
}

fn hash(labels: &Labels) -> u32 {
    xxh3_64(labels.encoded().as_bytes()) as u32
}
