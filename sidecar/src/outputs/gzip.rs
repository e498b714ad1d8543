//! Log lines into gzip (RFC 1951, 1952), faster than a general compressor and a little tighter than its fastest level.
//!
//! What repeats in log lines begins where a word ends: a key with its quotes, a blank and the next word. So repetitions
//! are looked for there alone, one place for each, and between those places letters are only written down. The codes
//! are Huffman's, made anew from a sample every [`TABLE_BYTES`], so that one walk over the text is enough.

mod bits;
mod huffman;

use wide::u8x16;

use self::bits::{Bits, Counts, Packed, Table, Tokens};

/// How far back a repetition may lie.
const WINDOW_BYTES: usize = 32 * 1024;
/// What is gathered before it is compressed: the window is moved to the front as often.
const CHUNK_BYTES: usize = 128 * 1024;
/// So much text has its codes from the sample at its beginning.
const TABLE_BYTES: usize = 4 * CHUNK_BYTES;
/// Of a line that begins in one chunk and ends behind it.
const SLACK_BYTES: usize = 8 * 1024;
const SAMPLE_BYTES: usize = 16 * 1024;
/// Shorter repetitions are not looked for: what they save is not worth their time. At most the bytes of a word.
const REPEAT_MIN: usize = 7;
const REPEAT_MAX: usize = 258;
const PLACES_BITS: u32 = 13;

/// Buffers that are used again for the next text.
#[derive(Default)]
pub struct Scratch {
    text: Vec<u8>,
    places: Vec<u16>,
    /// So much came of the last text; the next is probably like it.
    packed: usize,
}

/// Compresses what is appended to [`Gzip::text`], a chunk at a time.
pub struct Gzip {
    /// The window and behind it, from `at` on, what is not compressed yet.
    text: Vec<u8>,
    at: usize,
    places: Places,
    table: Option<Table>,
    /// Until new codes are made.
    table_left: usize,
    bits: Bits,
    checksum: crc32fast::Hasher,
    length: u32,
}

/// Deflate; no name, no time, the fastest of its kind, from a system that is not said.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

impl Gzip {
    /// `expected`: how many bytes will be appended, about.
    pub fn new(expected: usize, scratch: &mut Scratch) -> Gzip {
        let Scratch { mut text, mut places, packed } = std::mem::take(scratch);
        text.clear();
        places.clear();
        places.resize(1 << PLACES_BITS, 0);
        if expected > CHUNK_BYTES {
            text.reserve_exact(WINDOW_BYTES + CHUNK_BYTES + SLACK_BYTES);
        }
        let mut out = Vec::with_capacity((packed + packed / 16).clamp(expected / 8, expected / 2) + 512);
        out.extend_from_slice(&HEADER);
        Gzip {
            text,
            at: 0,
            places: Places { last: places, gone: 0 },
            table: None,
            table_left: 0,
            bits: Bits::new(out),
            checksum: crc32fast::Hasher::new(),
            length: 0,
        }
    }

    /// The whole of a text.
    pub fn whole(bytes: &[u8]) -> Vec<u8> {
        let mut scratch = Scratch::default();
        let mut gzip = Gzip::new(bytes.len(), &mut scratch);
        for chunk in bytes.chunks(CHUNK_BYTES) {
            gzip.text().extend_from_slice(chunk);
            gzip.advance();
        }
        gzip.finish(&mut scratch)
    }

    /// Where text is appended; what stands there stays as it is.
    pub fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Compresses what was appended, when it is enough.
    pub fn advance(&mut self) {
        if self.text.len() - self.at >= CHUNK_BYTES {
            self.compress();
        }
    }

    fn compress(&mut self) {
        let fresh = &self.text[self.at..];
        self.checksum.update(fresh);
        self.length = self.length.wrapping_add(fresh.len() as u32);
        if self.table_left == 0 {
            let mut counts = Counts::default();
            let sample_end = self.text.len().min(self.at + SAMPLE_BYTES);
            self.places.walk(&self.text[..sample_end], self.at, &mut counts);
            if let Some(table) = &self.table {
                table.end(&mut self.bits);
            }
            self.table = Some(Table::begin(&counts, &mut self.bits));
            self.table_left = TABLE_BYTES;
        }
        if let Some(table) = &self.table {
            let mut packed = Packed::new(table, &mut self.bits);
            self.places.walk(&self.text, self.at, &mut packed);
            packed.finish();
        }
        self.table_left = self.table_left.saturating_sub(self.text.len() - self.at);
        let gone = self.text.len().saturating_sub(WINDOW_BYTES);
        self.text.drain(..gone);
        self.places.gone = self.places.gone.wrapping_add(gone as u16);
        self.at = self.text.len();
    }

    /// Gives the buffers back to who lent them; one that a huge line made grow is not worth keeping.
    pub fn finish(mut self, scratch: &mut Scratch) -> Vec<u8> {
        if self.at < self.text.len() {
            self.compress();
        }
        if let Some(table) = &self.table {
            table.end(&mut self.bits);
        }
        let mut out = self.bits.finish();
        out.extend_from_slice(&self.checksum.finalize().to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        self.text.clear();
        self.text.shrink_to(WINDOW_BYTES + CHUNK_BYTES + SLACK_BYTES);
        *scratch = Scratch { text: self.text, places: self.places.last, packed: out.len() };
        // Asking for other memory every time costs more than a little that is not used.
        if out.capacity() > out.len() + out.len() / 8 {
            out.shrink_to_fit();
        }
        out
    }
}

/// Where the text was last that begins with some bytes, by a hash of them; the lowest 16 bits of the place.
struct Places {
    last: Vec<u16>,
    /// Of the places, how many are gone from the front of the text: the same bits.
    gone: u16,
}

impl Places {
    /// The tokens of the text from `at` to its end. What is remembered from a walk over the same text counts as too far
    /// away: it lies ahead, and the difference wraps.
    fn walk(&mut self, text: &[u8], mut at: usize, tokens: &mut impl Tokens) {
        let last: &mut [u16; 1 << PLACES_BITS] = (&mut self.last[..]).try_into().expect("it was made of this length");
        let mut written = at;
        while let Some(word) = word_at(text, at) {
            let hash = (first_bytes(word).wrapping_mul(0x9e37_79b1_85eb_ca87) >> (64 - PLACES_BITS)) as usize;
            let place = self.gone.wrapping_add(at as u16);
            let distance = usize::from(place.wrapping_sub(last[hash]));
            last[hash] = place;
            // Asked at once with whether the text is the same: whether an old place is near enough is anybody's guess, and the
            // processor's guesses cost more than the look at a text for nothing.
            let near = (distance.wrapping_sub(1) < WINDOW_BYTES) & (distance <= at);
            let before = word_at(text, if near { at - distance } else { at }).unwrap_or(!word);
            let different = before ^ word;
            if first_bytes(different) | u64::from(!near) == 0 {
                tokens.letters(&text[written..at]);
                let length = match different {
                    0 => 8 + alike(text, at + 8, distance),
                    _ => different.trailing_zeros() as usize / 8,
                };
                tokens.repeat(length, distance);
                at += length;
                written = at;
                continue;
            }
            match word_end(text, at) {
                Some(next) => at = next,
                None => break,
            }
        }
        tokens.letters(&text[written..]);
    }
}

fn word_at(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..)?.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
}

/// So many of a word's bytes as a repetition has at least, and nothing else.
fn first_bytes(word: u64) -> u64 {
    word << (8 * (8 - REPEAT_MIN))
}

/// How many bytes from `at` on are those that stand `distance` before them; as many as a token may have behind a word.
fn alike(text: &[u8], at: usize, distance: usize) -> usize {
    let mut length = 0;
    while length < REPEAT_MAX - 8
        && let (Some(now), Some(before)) = (word_at(text, at + length), word_at(text, at + length - distance))
    {
        let different = now ^ before;
        length += different.trailing_zeros() as usize / 8;
        if different != 0 {
            break;
        }
    }
    length.min(REPEAT_MAX - 8)
}

/// The first place behind `at` where a letter or digit stands before something else; none in the last few bytes. Bytes
/// beyond ASCII are letters.
fn word_end(text: &[u8], mut at: usize) -> Option<usize> {
    let within = |bytes: u8x16, first: u8, last: u8| {
        let past = bytes - u8x16::splat(first);
        past.min(u8x16::splat(last - first)).simd_eq(past)
    };
    loop {
        let rest = text.get(at..)?;
        let Some(sixteen) = rest.first_chunk::<16>() else { return last_word_end(rest).map(|end| at + end) };
        let bytes = u8x16::new(*sixteen);
        let letter = within(bytes | u8x16::splat(0x20), b'a', b'z');
        let inside = (letter | within(bytes, b'0', b'9') | bytes).to_bitmask();
        let ends = inside << 1 & !inside & 0xffff;
        if ends != 0 {
            return Some(at + ends.trailing_zeros() as usize);
        }
        at += 15;
    }
}

/// The same for what is left at the end of the text.
fn last_word_end(rest: &[u8]) -> Option<usize> {
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
    rest.windows(2).position(|pair| inside(&pair[0]) && !inside(&pair[1])).map(|at| at + 1)
}

#[cfg(test)]
mod tests;
