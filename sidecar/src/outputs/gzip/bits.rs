//! Letters and repetitions as deflate writes them: the symbols, their codes, and bits into bytes.

use super::huffman;

/// Letters, the end, and lengths of repetitions.
const SYMBOLS: usize = 286;
const DISTANCES: usize = 30;
const END: usize = 256;
/// No code is longer, so that four of them fit what [`Bits::put`] takes.
const CODE_BITS_MAX: usize = 12;
const LENGTH_MIN: usize = 3;
const LENGTH_MAX: usize = 258;

/// Takes what a walk over a text finds.
pub(super) trait Tokens {
    fn letters(&mut self, bytes: &[u8]);
    fn repeat(&mut self, length: usize, distance: usize);
}

/// How often each symbol was seen.
pub(super) struct Counts {
    symbols: [u32; SYMBOLS],
    distances: [u32; DISTANCES],
}

impl Default for Counts {
    fn default() -> Self {
        Counts { symbols: [0; SYMBOLS], distances: [0; DISTANCES] }
    }
}

impl Tokens for Counts {
    fn letters(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.symbols[usize::from(*byte)] += 1);
    }

    fn repeat(&mut self, length: usize, distance: usize) {
        self.symbols[length_symbol(length).of] += 1;
        self.distances[distance_symbol(distance).of] += 1;
    }
}

/// A symbol, and the bits that stand behind its code.
struct Symbol {
    of: usize,
    extra: u64,
    extra_bits: u32,
}

/// RFC 1951, 3.2.5: eight lengths have symbols of their own, then four symbols each share one bit more.
fn length_symbol(length: usize) -> Symbol {
    let past = length - LENGTH_MIN;
    match past {
        0..8 => Symbol { of: END + 1 + past, extra: 0, extra_bits: 0 },
        _ if length == LENGTH_MAX => Symbol { of: SYMBOLS - 1, extra: 0, extra_bits: 0 },
        _ => shared(past, END + 1, 2),
    }
}

/// As the lengths, with two symbols each.
#[inline]
fn distance_symbol(distance: usize) -> Symbol {
    let past = distance - 1;
    // The first four stand alone, as if the first two were the next two.
    let extra_bits = (past | 2).ilog2() - 1;
    let of = ((extra_bits as usize) << 1) + (past >> extra_bits);
    Symbol { of, extra: (past & ((1 << extra_bits) - 1)) as u64, extra_bits }
}

fn shared(past: usize, first: usize, fraction_bits: u32) -> Symbol {
    let extra_bits = past.ilog2() - fraction_bits;
    let of = first + ((extra_bits as usize) << fraction_bits) + (past >> extra_bits);
    Symbol { of, extra: (past & ((1 << extra_bits) - 1)) as u64, extra_bits }
}

/// A code, and its length in the lowest byte, where a shift by it needs nothing but the whole.
#[derive(Clone, Copy, Default)]
struct Code(u32);

impl Code {
    fn new(bits: u32, count: u32) -> Code {
        Code(bits << 8 | count)
    }

    #[inline]
    fn bits(self) -> u64 {
        u64::from(self.0 >> 8)
    }

    #[inline]
    fn count(self) -> u32 {
        self.0 & 0xff
    }

    /// The code, and behind it what is to follow it.
    #[inline]
    fn before(self, behind: u64) -> u64 {
        behind.wrapping_shl(self.0) | self.bits()
    }
}

/// The codes of a block.
pub(super) struct Table {
    symbols: [Code; SYMBOLS],
    /// By length, what stands behind the symbol's code included.
    lengths: [Code; LENGTH_MAX - LENGTH_MIN + 1],
    distances: [Code; DISTANCES],
}

/// A block that is not the last, with codes of its own; four bits for the length of each code, whatever it is.
const BLOCK: u64 = 0b100;
const LAST_EMPTY_BLOCK: u64 = 0b011;

impl Table {
    /// Begins a block with codes for what was counted.
    pub(super) fn begin(counts: &Counts, bits: &mut Bits) -> Table {
        let symbols = huffman::lengths(&counts.symbols, CODE_BITS_MAX);
        let distances = huffman::lengths(&counts.distances, CODE_BITS_MAX);
        bits.put(BLOCK, 3);
        bits.put((SYMBOLS - 257) as u64 | (DISTANCES as u64 - 1) << 5 | 15 << 10, 14);
        // The lengths of the codes for lengths: none for repetitions, four bits for each of 0 to 15.
        bits.put(0, 9);
        (0..16).for_each(|_| bits.put(4, 3));
        symbols.iter().chain(&distances).for_each(|length| bits.put(u64::from(length.reverse_bits() >> 4), 4));
        Table::new(&symbols, &distances)
    }

    fn new(symbols: &[u8; SYMBOLS], distances: &[u8; DISTANCES]) -> Table {
        let (symbol_codes, distance_codes) = (huffman::codes(symbols), huffman::codes(distances));
        let code = |bits: u16, count: u8| Code::new(u32::from(bits), u32::from(count));
        let symbols: [Code; SYMBOLS] = std::array::from_fn(|n| code(symbol_codes[n], symbols[n]));
        let lengths = std::array::from_fn(|n| {
            let symbol = length_symbol(n + LENGTH_MIN);
            let code = symbols[symbol.of];
            let bits = code.bits() | symbol.extra << code.count();
            Code::new(bits as u32, code.count() + symbol.extra_bits)
        });
        Table { symbols, lengths, distances: std::array::from_fn(|n| code(distance_codes[n], distances[n])) }
    }

    pub(super) fn end(&self, bits: &mut Bits) {
        bits.put(self.symbols[END].bits(), self.symbols[END].count());
    }
}

/// Writes tokens by the codes of a block.
pub(super) struct Packed<'a> {
    table: &'a Table,
    out: &'a mut Bits,
    /// What `out` has of these, here while it is written to: a compiler keeps it in registers.
    rest: Rest,
}

impl<'a> Packed<'a> {
    pub(super) fn new(table: &'a Table, out: &'a mut Bits) -> Packed<'a> {
        let rest = out.rest;
        Packed { table, out, rest }
    }

    pub(super) fn finish(self) {
        self.out.rest = self.rest;
    }

    #[inline(always)]
    fn put(&mut self, bits: u64, count: u32) {
        self.rest.put(bits, count, self.out);
    }
}

impl Tokens for Packed<'_> {
    #[inline(always)]
    fn letters(&mut self, bytes: &[u8]) {
        let (fours, rest) = bytes.as_chunks::<4>();
        for four in fours {
            let [a, b, c, d] = four.map(|byte| self.table.symbols[usize::from(byte)]);
            let bits = a.before(b.before(c.before(d.bits())));
            self.put(bits, (a.0 + b.0 + c.0 + d.0) & 0xff);
        }
        if let [first, more @ ..] = rest {
            // Always three: a loop of unknown length would cost more than what is written for nothing.
            let code = |byte: Option<&u8>| byte.map_or(Code::default(), |byte| self.table.symbols[usize::from(*byte)]);
            let [a, b, c] = [code(Some(first)), code(more.first()), code(more.get(1))];
            self.put(a.before(b.before(c.bits())), (a.0 + b.0 + c.0) & 0xff);
        }
    }

    #[inline(always)]
    fn repeat(&mut self, length: usize, distance: usize) {
        let of_length = self.table.lengths[length - LENGTH_MIN];
        let symbol = distance_symbol(distance);
        let of_distance = self.table.distances[symbol.of];
        // At most 12 and 5 bits for the length, 12 and 13 for the distance.
        let bits = of_length.before(of_distance.before(symbol.extra));
        self.put(bits, of_length.count() + of_distance.count() + symbol.extra_bits);
    }
}

const STAGED_BYTES: usize = 4096;

/// Bits into bytes, the lowest first.
pub(super) struct Bits {
    out: Vec<u8>,
    staged: [u8; STAGED_BYTES],
    rest: Rest,
}

/// What is no whole byte yet, and how much is staged.
#[derive(Clone, Copy, Default)]
struct Rest {
    /// Fewer than eight.
    bits: u64,
    count: u32,
    filled: usize,
}

impl Rest {
    /// At most 56 bits; those above `count` are zero.
    #[inline(always)]
    fn put(&mut self, bits: u64, count: u32, to: &mut Bits) {
        self.bits |= bits << self.count;
        self.count += count;
        if self.filled > STAGED_BYTES - 8 {
            to.spill(self.filled);
            self.filled = 0;
        }
        // Eight bytes at once, of which the last ones are written again: there is always room for them.
        to.staged[self.filled..self.filled + 8].copy_from_slice(&self.bits.to_le_bytes());
        self.filled += (self.count / 8) as usize;
        self.bits >>= self.count & !7;
        self.count %= 8;
    }
}

impl Bits {
    pub(super) fn new(out: Vec<u8>) -> Bits {
        Bits { out, staged: [0; STAGED_BYTES], rest: Rest::default() }
    }

    /// At most 56 bits; those above `count` are zero.
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        let mut rest = self.rest;
        rest.put(bits, count, self);
        self.rest = rest;
    }

    #[cold]
    fn spill(&mut self, filled: usize) {
        self.out.extend_from_slice(&self.staged[..filled]);
    }

    /// Ends with a block without anything in it: which block is the last is not known when it begins.
    pub(super) fn finish(mut self) -> Vec<u8> {
        // Fixed codes; the end's has seven zeros.
        self.put(LAST_EMPTY_BLOCK, 3 + 7);
        self.put(0, 7);
        self.spill(self.rest.filled);
        self.out
    }
}
