//! Which series there are, and which of them matchers select.
//!
//! Series have small ids; for every label pair the index holds the sorted ids of the series that carry it
//! (postings). Ids of removed series are used again.

use std::collections::BTreeMap;
use std::ops::Bound;

use hashbrown::HashTable;
use smallvec::SmallVec;
use telemetry::{Labels, MatchOp, Matcher};
use xxhash_rust::xxh3::xxh3_64;

use crate::group::SeriesKey;

/// Sorted ids. Most pairs of a label like `instance` times a metric's name have few.
type Postings = SmallVec<[u32; 4]>;

#[derive(Default)]
pub(crate) struct Index {
    by_labels: HashTable<u32>,
    /// By id; None where the id is free.
    labels: Vec<Option<Labels>>,
    /// By id: how many series have had it and are gone.
    generations: Vec<u32>,
    free: Vec<u32>,
    /// Where in `lists` the ids of a pair are.
    postings: BTreeMap<Box<str>, BTreeMap<Box<str>, u32>>,
    lists: Vec<Postings>,
    free_lists: Vec<u32>,
    /// The series that came last, and its pairs' lists: series come by targets, and neighbours share most pairs.
    recent: (Labels, Vec<u32>),
    created_total: u64,
    /// Rises when series come or go.
    epoch: u64,
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

    pub(crate) fn created_total(&self) -> u64 {
        self.created_total
    }

    pub(crate) fn find(&self, labels: &Labels) -> Option<u32> {
        self.by_labels.find(hash(labels), |id| self.is(*id, labels)).copied()
    }

    fn is(&self, id: u32, labels: &Labels) -> bool {
        self.labels[id as usize].as_ref() == Some(labels)
    }

    /// The labels of a living series.
    pub(crate) fn labels(&self, id: u32) -> &Labels {
        self.labels[id as usize].as_ref().expect("ids come from this index and live until removed")
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
        self.labels[id as usize] = Some(labels.clone());
        let by_id = &self.labels;
        let rehash = |id: &u32| by_id[*id as usize].as_ref().map_or(0, hash);
        self.by_labels.insert_unique(hash(labels), id, rehash);
        let lists = self.lists_of(labels);
        for list in &lists {
            let ids = &mut self.lists[*list as usize];
            // A new id is mostly the highest.
            let at =
                if ids.last().is_none_or(|last| *last < id) { ids.len() } else { ids.partition_point(|i| *i < id) };
            ids.insert(at, id);
        }
        self.recent = (labels.clone(), lists);
    }

    /// The lists of a series' pairs, in their order.
    fn lists_of(&mut self, labels: &Labels) -> Vec<u32> {
        let (recent, recent_lists) = std::mem::take(&mut self.recent);
        let mut known = recent.iter().zip(recent_lists).peekable();
        let mut lists = Vec::with_capacity(labels.len());
        for pair in labels.iter() {
            while known.next_if(|((name, _), _)| *name < pair.0).is_some() {}
            let same = known.next_if(|(other, _)| *other == pair);
            lists.push(same.map_or_else(|| self.list(pair), |(_, list)| list));
        }
        lists
    }

    fn list(&mut self, (name, value): (&str, &str)) -> u32 {
        if let Some(list) = self.postings.get(name).and_then(|values| values.get(value)) {
            return *list;
        }
        let list = self.free_lists.pop().unwrap_or_else(|| {
            self.lists.push(Postings::new());
            (self.lists.len() - 1) as u32
        });
        self.postings.entry(name.into()).or_default().insert(value.into(), list);
        list
    }

    /// Removes series; `dead` is ascending.
    pub(crate) fn remove(&mut self, dead: &[u32]) {
        self.recent = Default::default();
        for id in dead {
            let Some(labels) = self.labels.get_mut(*id as usize).and_then(Option::take) else { continue };
            self.epoch += 1;
            self.generations[*id as usize] += 1;
            if let Ok(found) = self.by_labels.find_entry(hash(&labels), |other| other == id) {
                found.remove();
            }
            for (name, value) in labels.iter() {
                self.remove_posting(name, value, *id);
            }
            self.free.push(*id);
        }
    }

    fn remove_posting(&mut self, name: &str, value: &str, id: u32) {
        let Some(values) = self.postings.get_mut(name) else { return };
        let Some(list) = values.get(value).copied() else { return };
        let ids = &mut self.lists[list as usize];
        if let Ok(at) = ids.binary_search(&id) {
            ids.remove(at);
        }
        if ids.is_empty() {
            *ids = Postings::new();
            values.remove(value);
            self.free_lists.push(list);
        }
        if values.is_empty() {
            self.postings.remove(name);
        }
    }

    fn ids_in(&self, list: u32) -> &[u32] {
        &self.lists[list as usize]
    }

    /// The ids of the series that all matchers accept, ascending. A label that a series lacks has the value "".
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Vec<u32> {
        // First what names values exactly and so leads to few series; matchers that accept "" only leave some out.
        let (leading, narrowing): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|m| m.op == MatchOp::Equal && !m.value.is_empty());
        let mut lists = Vec::with_capacity(leading.len());
        for matcher in leading {
            match self.postings.get(matcher.name.as_str()).and_then(|values| values.get(matcher.value.as_str())) {
                Some(list) => lists.push(self.ids_in(*list)),
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
            let accepted = |id: &&u32| matcher.matches(self.labels(**id).get(&matcher.name).unwrap_or_default());
            return ids.iter().filter(accepted).copied().collect();
        }
        // The series whose value decides: those accepted, or those refused where absence is accepted.
        let mut ids: Vec<u32> = Vec::new();
        deciding(matcher, accepts_absent, values).for_each(|list| ids.extend_from_slice(self.ids_in(*list)));
        ids.sort_unstable();
        match (accepts_absent, candidates) {
            (false, None) => ids,
            (false, Some(candidates)) => intersect(candidates, &ids),
            (true, candidates) => subtract(candidates.unwrap_or_else(|| self.ids()), &ids),
        }
    }
}

/// The lists of the values that the matcher treats differently from an absent label.
fn deciding<'v>(
    matcher: &'v Matcher,
    accepts_absent: bool,
    values: &'v BTreeMap<Box<str>, u32>,
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

fn hash(labels: &Labels) -> u64 {
    xxh3_64(labels.encoded().as_bytes())
}
