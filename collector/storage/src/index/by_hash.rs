//! Finds ids by the hashes of their labels.
//!
//! A table that doubles is half empty half of the time. Here the upper bits of a hash choose a shard, which grows by an
//! eighth, and the next ones, the tag, stand beside the id, sorted. When there are to be more shards, each is parted by the
//! first bit of its tags, which are a bit shorter then; when they get too short, the hashes have to be worked out again.

/// A shard has half as many to this many ids on average.
const IDS_PER_SHARD: usize = 128;
/// With shorter tags more than one search in eight would ask about an id that it is not.
const TAG_BITS_MIN: u32 = 10;

pub(super) struct ByHash {
    /// As many as a power of two.
    shards: Vec<Vec<Entry>>,
    len: usize,
    /// How many bits of the tags are known; the rest are zeros.
    tag_bits: u32,
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
        let count = (len / IDS_PER_SHARD + 1).next_power_of_two();
        let shards = (0..count).map(|_| Vec::with_capacity(len / count)).collect();
        ByHash { shards, len: 0, tag_bits: u16::BITS }
    }

    /// Makes room for one more. False if that takes another table: one with the hashes worked out again.
    pub(super) fn make_room(&mut self) -> bool {
        if self.len < self.shards.len() * IDS_PER_SHARD {
            return true;
        }
        if self.tag_bits == TAG_BITS_MIN {
            return false;
        }
        self.tag_bits -= 1;
        self.shards = std::mem::take(&mut self.shards).into_iter().flat_map(part).collect();
        true
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
        let (shard, tag) = (&self.shards[self.shard(hash)], self.tag(hash));
        let from = first_of(shard, tag);
        let alike = shard[from..].iter().take_while(|entry| entry.tag == tag);
        alike.map(|entry| u32::from_ne_bytes(entry.id)).find(|id| is(*id))
    }

    pub(super) fn insert(&mut self, hash: u64, id: u32) {
        let (at, tag) = (self.shard(hash), self.tag(hash));
        let shard = &mut self.shards[at];
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
        hash.checked_shr(u64::BITS - self.shard_bits()).unwrap_or_default() as usize
    }

    fn tag(&self, hash: u64) -> u16 {
        let tag = (hash << self.shard_bits() >> (u64::BITS - u16::BITS)) as u16;
        tag & (u16::MAX << (u16::BITS - self.tag_bits))
    }

    fn shard_bits(&self) -> u32 {
        self.shards.len().trailing_zeros()
    }
}

/// The two shards that one becomes.
fn part(mut shard: Vec<Entry>) -> [Vec<Entry>; 2] {
    let at = shard.partition_point(|entry| entry.tag >> (u16::BITS - 1) == 0);
    shard.iter_mut().for_each(|entry| entry.tag <<= 1);
    [shard[..at].to_vec(), shard[at..].to_vec()]
}

/// Where the entries with this tag begin. Tags are spread evenly, so that it is near where they would be if they were so
/// exactly: nearer than halving the shard gets in as many steps.
fn first_of(shard: &[Entry], tag: u16) -> usize {
    let guess = (shard.len() * usize::from(tag)) >> 16;
    let behind = shard[..guess].iter().rev().take_while(|entry| entry.tag >= tag).count();
    let before = shard[guess..].iter().take_while(|entry| entry.tag < tag).count();
    guess - behind + before
}
