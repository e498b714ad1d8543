//! A small cache in the process: bounded, with a time to live, counted.
//!
//! Entries are copies of rows that change rarely. It holds no promise: another process may have changed
//! the row, and the entry lives on until its time is over.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::Rng;

use super::metrics::AppMetrics;

pub struct Cache<K, V> {
    name: &'static str,
    ttl: Duration,
    entries_max: usize,
    entries: Mutex<HashMap<K, Entry<V>>>,
    metrics: Arc<AppMetrics>,
}

struct Entry<V> {
    value: V,
    good_until: Instant,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    /// `name` is the label `cache_name`. When it is full, an entry makes room: one that is over, else any.
    pub fn new(name: &'static str, ttl: Duration, entries_max: usize, metrics: Arc<AppMetrics>) -> Self {
        Cache { name, ttl, entries_max, entries: Mutex::default(), metrics }
    }

    pub fn get(&self, key: &K) -> Option<V> {
        let started = Instant::now();
        let found = {
            let entries = self.entries.lock().expect("no one panics holding it");
            entries.get(key).filter(|e| e.good_until > started).map(|e| e.value.clone())
        };
        self.metrics.cache_lookup(self.name, found.is_some(), started.elapsed());
        found
    }

    pub fn put(&self, key: K, value: V) {
        let started = Instant::now();
        // Jitter: entries that were read together do not end together.
        let good_until = started + self.ttl.mul_f64(rand::rng().random_range(0.8..1.0));
        {
            let mut entries = self.entries.lock().expect("no one panics holding it");
            if entries.len() >= self.entries_max && !entries.contains_key(&key) {
                let over = entries.iter().find(|(_, e)| e.good_until <= started).or_else(|| entries.iter().next());
                if let Some(evicted) = over.map(|(key, _)| key.clone()) {
                    entries.remove(&evicted);
                }
            }
            entries.insert(key, Entry { value, good_until });
        }
        self.metrics.cache_operation("set", started.elapsed());
    }

    pub fn forget(&self, key: &K) {
        let started = Instant::now();
        self.entries.lock().expect("no one panics holding it").remove(key);
        self.metrics.cache_operation("delete", started.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(ttl: Duration, entries_max: usize) -> Cache<u32, &'static str> {
        let metrics = AppMetrics::register(&mut prometheus_client::registry::Registry::default());
        Cache::new("test", ttl, entries_max, Arc::new(metrics))
    }

    #[test]
    fn an_entry_is_found_until_it_is_forgotten_or_over() {
        let cache = cache(Duration::from_secs(60), 10);
        cache.put(1, "one");
        assert_eq!(cache.get(&1), Some("one"));
        cache.forget(&1);
        assert_eq!(cache.get(&1), None);
        let over = self::cache(Duration::ZERO, 10);
        over.put(1, "one");
        assert_eq!(over.get(&1), None);
    }

    #[test]
    fn it_never_grows_beyond_its_bound() {
        let cache = cache(Duration::from_secs(60), 3);
        (0..100).for_each(|n| cache.put(n, "x"));
        assert_eq!(cache.entries.lock().unwrap().len(), 3);
        assert_eq!(cache.get(&99), Some("x"));
    }
}
