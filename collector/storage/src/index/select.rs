//! Which series matchers select.

use std::ops::Bound;

use telemetry::labels::decode_pair;
use telemetry::{MatchOp, Matcher};

use super::Index;
use super::ids::Ids;
use super::pairs::Values;

impl Index {
    /// The ids of the series that all matchers accept, ascending. A label that a series lacks has the value "".
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Vec<u32> {
        // First what names values exactly and so leads to few series; matchers that accept "" only leave some out.
        let (leading, narrowing): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|m| m.op == MatchOp::Equal && !m.value.is_empty());
        let mut lists = Vec::with_capacity(leading.len());
        for matcher in leading {
            match self.pairs.find(&matcher.name, &matcher.value) {
                Some(pair) => lists.push(&pair.ids),
                None => return Vec::new(),
            }
        }
        lists.sort_by_key(|ids| ids.len());
        let mut candidates: Option<Vec<u32>> = None;
        for list in lists {
            match &mut candidates {
                None => list.add_to(candidates.insert(Vec::new())),
                Some(ids) => list.retain(ids, true),
            }
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
        let Some(values) = self.pairs.values(&matcher.name) else {
            return if accepts_absent { candidates.unwrap_or_else(|| self.ids()) } else { Vec::new() };
        };
        match candidates {
            Some(ids) if ids.len() <= values.len() => self.narrow_each(matcher, ids),
            candidates => {
                // The series whose value decides: those accepted, or those refused where absence is accepted.
                let lists = deciding(matcher, accepts_absent, values).map(|number| &self.pairs.get(*number).ids);
                match candidates {
                    None if !accepts_absent => union(lists),
                    candidates => {
                        let mut ids = candidates.unwrap_or_else(|| self.ids());
                        retain(&mut ids, lists, !accepts_absent);
                        ids
                    }
                }
            }
        }
    }

    fn narrow_each(&self, matcher: &Matcher, mut ids: Vec<u32>) -> Vec<u32> {
        let mut reader = self.sets.reader();
        ids.retain(|id| {
            let numbers = reader.set(*id).unwrap_or_default();
            let value = self.pairs.encoded(numbers).filter_map(decode_pair).find(|(name, _)| *name == matcher.name);
            matcher.matches(value.map(|(_, value)| value).unwrap_or_default())
        });
        ids
    }
}

/// Of ascending ids those that are in one of the lists, or with `within` false those that are in none.
fn retain<'i>(ids: &mut Vec<u32>, mut lists: impl Iterator<Item = &'i Ids>, within: bool) {
    let Some(first) = lists.next() else {
        if within {
            ids.clear();
        }
        return;
    };
    match lists.next() {
        None => first.retain(ids, within),
        Some(second) => {
            let all: Ids = merged([first, second].into_iter().chain(lists)).collect();
            all.retain(ids, within);
        }
    }
}

fn union<'i>(lists: impl Iterator<Item = &'i Ids>) -> Vec<u32> {
    let mut ids = Vec::new();
    merged(lists).for_each(|(first, last)| ids.extend(first..=last));
    ids
}

/// The runs of lists that have no id in common, ascending; runs that touch are one.
fn merged<'i>(lists: impl Iterator<Item = &'i Ids>) -> impl Iterator<Item = (u32, u32)> {
    // Whole numbers are sorted in half the time that pairs of them take.
    let mut runs: Vec<u64> =
        lists.flat_map(Ids::runs).map(|(first, last)| u64::from(first) << 32 | u64::from(last)).collect();
    // Each list is sorted: stable sorting finds that and merges them.
    runs.sort();
    let mut runs = runs.into_iter().map(|run| ((run >> 32) as u32, run as u32)).peekable();
    std::iter::from_fn(move || {
        let (first, mut last) = runs.next()?;
        while let Some((_, further)) = runs.next_if(|(next, _)| last.checked_add(1) == Some(*next)) {
            last = further;
        }
        Some((first, last))
    })
}

/// The pairs whose values the matcher treats differently from an absent label.
fn deciding<'v>(
    matcher: &'v Matcher,
    accepts_absent: bool,
    values: &'v Values,
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
