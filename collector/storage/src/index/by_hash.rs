//! Finds ids by the hashes of their labels.
//!
//! A table that doubles is half empty half of the time. Here the lower bits of a hash choose a shard, which grows by an
//! eighth, and the upper ones stand beside the id, sorted. There is no room for whole hashes: they are worked out again when
//! there are to be more shards.

/// A shard has half as many to this many ids on average.
const IDS_PER_SHARD: usize = 128;

pub(super) struct ByHash {
    /// As many as a power of two.
    shards: Vec<Vec<Entry>>,
    len: usize,
}

/// Six bytes.
#[derive(Clone, Copy)]
struct Entry {
    tag: u16,
    id: [u8; 4],
}

impl Default for ByHash {
    fn default() -> Self {
        ByHash::with_room_for(0)
    }
}

impl ByHash {
    pub(super) fn with_room_for(len: usize) -> Self {
        ByHash { shards: vec![Vec::new(); (len / IDS_PER_SHARD + 1).next_power_of_two()], len: 0 }
    }

    /// Whether one with more room should take over.
    pub(super) fn is_full(&self) -> bool {
        self.len >= self.shards.len() * IDS_PER_SHARD
    }

    /// All there are, ascending.
    pub(super) fn ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.shards.iter().flatten().map(|entry| u32::from_ne_bytes(entry.id)).collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The id for which `is` is true; it is asked about few others.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let (shard, tag) = (&self.shards[self.shard(hash)], tag(hash));
        let from = first_of(shard, tag);
        let alike = shard[from..].iter().take_while(|entry| entry.tag == tag);
        alike.map(|entry| u32::from_ne_bytes(entry.id)).find(|id| is(*id))
    }

    pub(super) fn insert(&mut self, hash: u64, id: u32) {
        let at = self.shard(hash);
        let (shard, tag) = (&mut self.shards[at], tag(hash));
        if shard.len() == shard.capacity() {
            shard.reserve_exact(shard.len() / 8 + 4);
        }
        shard.insert(first_of(shard, tag), Entry { tag, id: id.to_ne_bytes() });
        self.len += 1;
    }

    pub(super) fn remove(&mut self, hash: u64, id: u32) {
        let at = self.shard(hash);
        let shard = &mut self.shards[at];
        if let Some(place) = shard.iter().position(|entry| entry.id == id.to_ne_bytes()) {
            shard.remove(place);
            self.len -= 1;
        }
        if shard.capacity() > 2 * shard.len() + 16 {
            shard.shrink_to(shard.len() + shard.len() / 8);
        }
    }

    fn shard(&self, hash: u64) -> usize {
        hash as usize & (self.shards.len() - 1)
    }
}

/// Where the entries with this tag begin. Tags are spread evenly, so that it is near where they would be if they were so
/// exactly: nearer than halving the shard gets in as many steps.
fn first_of(shard: &[Entry], tag: u16) -> usize {
    let guess = (shard.len() * usize::from(tag)) >> 16;
    let behind = shard[..guess].iter().rev().take_while(|entry| entry.tag >= tag).count();
    let before = shard[guess..].iter().take_while(|entry| entry.tag < tag).count();
    guess - behind + before
}

fn tag(hash: u64) -> u16 {
    (hash >> 48) as u16
}
