//! Values that many hold and that are mostly equal, held once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hashbrown::HashTable;

/// Finds among what others hold a value that equals one's own. What nobody holds any more is forgotten.
pub struct Alike<T>(Mutex<HashTable<Entry<T>>>);

struct Entry<T> {
    hash: u64,
    value: Weak<T>,
}

impl<T> Default for Alike<T> {
    fn default() -> Self {
        Alike(Mutex::new(HashTable::new()))
    }
}

impl<T: PartialEq> Alike<T> {
    /// Replaces the value by another's that equals it. Equal values have equal hashes.
    pub fn share(&self, hash: u64, value: &mut Arc<T>) {
        let mut entries = self.entries();
        let mut alike = entries.iter_hash(hash).filter(|entry| entry.hash == hash);
        if let Some(known) = alike.find_map(|entry| entry.value.upgrade().filter(|known| known == value)) {
            *value = known;
            return;
        }
        if entries.len() == entries.capacity() {
            entries.retain(|entry| entry.value.strong_count() > 0);
        }
        entries.insert_unique(hash, Entry { hash, value: Arc::downgrade(value) }, |entry| entry.hash);
    }

    /// How many different ones there are, and how many places they and those that nobody holds any more take.
    pub fn counts(&self) -> (usize, usize) {
        let entries = self.entries();
        (entries.iter().filter(|entry| entry.value.strong_count() > 0).count(), entries.len())
    }

    fn entries(&self) -> MutexGuard<'_, HashTable<Entry<T>>> {
        // Nothing is half done where a holder panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_those_of_nobody_are_forgotten() {
        let alike = Alike::default();
        let share = |text: &str| {
            let mut value = Arc::new(text.to_owned());
            // One hash for all: it is the value that decides.
            alike.share(7, &mut value);
            value
        };
        let [a, b, again] = ["a", "b", "a"].map(share);
        assert!(Arc::ptr_eq(&a, &again) && !Arc::ptr_eq(&a, &b));
        assert_eq!(alike.counts(), (2, 2));
        drop((a, again));
        assert_eq!(alike.counts().0, 1);
        for number in 0..1000 {
            share(&number.to_string());
        }
        let (held, places) = alike.counts();
        assert!(held == 1 && places < 50, "{places} places");
    }
}
