//! What a target's last scrapes had: the labels of each line, so that they are worked out once, and which series are
//! alive, so that those that vanish are marked stale.

use std::collections::{HashMap, HashSet};

use telemetry::{Labels, Sample, Timestamp, stale_nan};

/// Keyed by the line's own text: equal text means equal series.
#[derive(Default)]
pub(super) struct Cache {
    entries: HashMap<Box<str>, Entry>,
    scrape: u64,
    /// Alive before the rules changed; not yet met again under the new ones.
    carried: HashSet<Labels>,
}

struct Entry {
    /// None: relabelling drops the series.
    labels: Option<Labels>,
    /// The scrape that had it last.
    seen: u64,
    /// Its last sample was stored at the scrape's own time and was no marker.
    alive: bool,
    /// What the scrape under way says it will be.
    alive_next: bool,
}

/// A line that the cache knows.
pub(super) enum Known {
    No,
    Dropped,
    Series(Labels),
}

impl Cache {
    /// Opens a scrape: what follows belongs to it.
    pub(super) fn begin(&mut self) {
        self.scrape += 1;
    }

    /// Notes that the scrape under way has this line; `own_timestamp` ones take no part in staleness.
    pub(super) fn see(&mut self, text: &str, own_timestamp: bool) -> Known {
        let Some(entry) = self.entries.get_mut(text) else { return Known::No };
        entry.seen = self.scrape;
        entry.alive_next = !own_timestamp && entry.labels.is_some();
        entry.labels.clone().map_or(Known::Dropped, Known::Series)
    }

    /// Learns a line that [`Cache::see`] did not know.
    pub(super) fn learn(&mut self, text: &str, labels: Option<Labels>, own_timestamp: bool) {
        let alive_next = !own_timestamp && labels.is_some();
        self.entries.insert(text.into(), Entry { labels, seen: self.scrape, alive: false, alive_next });
    }

    /// The scrape is good: markers for the series that it no longer has, which are then forgotten.
    pub(super) fn commit(&mut self, at: Timestamp) -> Vec<Sample> {
        let scrape = self.scrape;
        let mut gone: Vec<Labels> = self.carried.drain().collect();
        self.entries.retain(|_, entry| {
            let seen = entry.seen == scrape;
            if entry.alive && !(seen && entry.alive_next) {
                gone.extend(entry.labels.clone());
            }
            entry.alive = seen && entry.alive_next;
            seen
        });
        if gone.is_empty() {
            return Vec::new();
        }
        // Another line may still name the same series: `a{x="1",y="2"}` and `a{y="2",x="1"}`.
        let alive: HashSet<&Labels> =
            self.entries.values().filter(|e| e.alive).filter_map(|e| e.labels.as_ref()).collect();
        gone.into_iter().filter(|labels| !alive.contains(labels)).map(|labels| marker(labels, at)).collect()
    }

    /// The scrape failed, or there will be none: markers for all that is alive.
    pub(super) fn end_all(&mut self, at: Timestamp) -> Vec<Sample> {
        let mut series = std::mem::take(&mut self.carried);
        for entry in self.entries.values_mut().filter(|e| e.alive) {
            entry.alive = false;
            series.extend(entry.labels.clone());
        }
        series.into_iter().map(|labels| marker(labels, at)).collect()
    }

    /// The rules of relabelling changed: labels are worked out anew. A series that the next scrape does not have
    /// under the new rules gets its marker then.
    pub(super) fn forget(&mut self) {
        let alive = self.entries.drain().map(|(_, e)| e).filter(|e| e.alive);
        self.carried.extend(alive.filter_map(|e| e.labels));
    }
}

pub(super) fn marker(labels: Labels, at: Timestamp) -> Sample {
    Sample { labels, timestamp: at, value: stale_nan() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(1000);

    /// One good scrape with these lines; returns what it marks as gone.
    fn scrape(cache: &mut Cache, lines: &[&str]) -> Vec<String> {
        cache.begin();
        for line in lines {
            if let Known::No = cache.see(line, false) {
                // The text's letters in order stand for its labels.
                let mut letters: Vec<char> = line.chars().collect();
                letters.sort_unstable();
                let name: String = letters.into_iter().collect();
                cache.learn(line, Some(Labels::from_pairs([("__name__", name)])), false);
            }
        }
        names(cache.commit(AT))
    }

    fn names(samples: Vec<Sample>) -> Vec<String> {
        assert!(samples.iter().all(|s| telemetry::is_stale_nan(s.value) && s.timestamp == AT));
        let mut names: Vec<String> = samples.into_iter().map(|s| s.labels.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_series_that_vanishes_is_marked_once() {
        let mut cache = Cache::default();
        assert!(scrape(&mut cache, &["a", "b", "c"]).is_empty());
        assert_eq!(scrape(&mut cache, &["b"]), ["a", "c"]);
        assert!(scrape(&mut cache, &["b"]).is_empty());
        assert!(scrape(&mut cache, &["a", "b"]).is_empty());
    }

    #[test]
    fn a_failed_scrape_marks_everything_once_and_a_good_one_brings_it_back() {
        let mut cache = Cache::default();
        scrape(&mut cache, &["a", "b"]);
        cache.begin();
        assert_eq!(names(cache.end_all(AT)), ["a", "b"]);
        cache.begin();
        assert!(cache.end_all(AT).is_empty());
        assert!(scrape(&mut cache, &["a"]).is_empty(), "b has its marker already");
        assert_eq!(scrape(&mut cache, &[]), ["a"]);
    }

    #[test]
    fn the_same_series_written_differently_is_not_gone() {
        let mut cache = Cache::default();
        scrape(&mut cache, &["xy"]);
        assert!(scrape(&mut cache, &["yx"]).is_empty());
        assert_eq!(scrape(&mut cache, &[]), ["xy"]);
    }

    #[test]
    fn new_rules_mark_only_what_they_no_longer_let_through() {
        let mut cache = Cache::default();
        scrape(&mut cache, &["a", "b"]);
        cache.forget();
        assert_eq!(scrape(&mut cache, &["a"]), ["b"]);
    }

    #[test]
    fn series_with_their_own_timestamps_are_not_marked() {
        let mut cache = Cache::default();
        cache.begin();
        cache.learn("a", Some(Labels::from_pairs([("__name__", "a")])), true);
        assert!(cache.commit(AT).is_empty());
        assert!(scrape(&mut cache, &[]).is_empty());
    }
}
