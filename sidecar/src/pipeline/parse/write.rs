//! Text into JSON strings, bytes that are no UTF-8 included.

use crate::pipeline::bits::{self, BLOCK};

/// What stands in place of bytes that are no UTF-8.
const REPLACEMENT: &str = "\u{fffd}";

/// Appends `bytes` as the inside of a JSON string.
pub fn escaped(bytes: &[u8], out: &mut Vec<u8>) {
    // Looking for chunks goes byte by byte; the check goes by words where a line is ASCII.
    if std::str::from_utf8(bytes).is_ok() {
        return escaped_text(bytes, out);
    }
    for chunk in bytes.utf8_chunks() {
        escaped_text(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT.as_bytes());
        }
    }
}

/// Bytes that JSON wants escaped.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// How many bytes stand before the first that JSON wants escaped: eight at a time.
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // A byte of zero borrows from its own high bit; where none is zero no bit is set (Bit Twiddling Hacks, "Determine
    // if a word has a zero byte"), and above the first hit nothing is asked.
    let zero_in = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let mut at = 0;
    while let Some((chunk, _)) = bytes[at..].split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let hits = zero_in(word ^ (ONES * u64::from(b'"'))) | zero_in(word ^ (ONES * u64::from(b'\\'))) | control;
        if hits != 0 {
            return at + hits.trailing_zeros() as usize / 8;
        }
        at += 8;
        // A text that is longer than a word or two is probably long.
        while at >= 16
            && let Some((block, _)) = bytes[at..].split_first_chunk::<BLOCK>()
        {
            match special_in(block) {
                0 => at += BLOCK,
                special => return at + special.trailing_zeros() as usize,
            }
        }
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|b| SPECIAL[usize::from(*b)]).unwrap_or(rest.len())
}

/// Which bytes of a block JSON wants escaped.
fn special_in(block: &[u8; BLOCK]) -> u64 {
    bits::find(block, |byte| (byte == b'"') | (byte == b'\\') | (byte < b' '))
}

/// Appends what is UTF-8 as the inside of a JSON string.
pub fn escaped_text(text: &[u8], out: &mut Vec<u8>) {
    let (blocks, rest) = text.as_chunks::<BLOCK>();
    for block in blocks {
        match special_in(block) {
            0 => out.extend_from_slice(block),
            special => escape_block(block, BLOCK, special, out),
        }
    }
    let mut last = [b' '; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    escape_block(&last, rest.len(), special_in(&last), out);
}

/// Appends the first `length` bytes of a block.
fn escape_block(block: &[u8; BLOCK], length: usize, mut special: u64, out: &mut Vec<u8>) {
    // A byte becomes two, but for what is rare; and copies of sixteen at once reach beyond what is wanted.
    const RUN: usize = 16;
    let (mut from, mut to) = ([0; BLOCK + RUN], [0; 2 * BLOCK + RUN]);
    from[..BLOCK].copy_from_slice(block);
    let (mut at, mut filled) = (0, 0);
    loop {
        let end = (special.trailing_zeros() as usize).min(length);
        // Most runs are short, and a copy of a length that the compiler knows is one move.
        to[filled..filled + RUN].copy_from_slice(&from[at..at + RUN]);
        if end - at > RUN {
            to[filled + RUN..filled + end - at].copy_from_slice(&from[at + RUN..end]);
        }
        filled += end - at;
        if end == length {
            return out.extend_from_slice(&to[..filled]);
        }
        match short_escape(from[end]) {
            Some(letter) => {
                to[filled..filled + 2].copy_from_slice(&[b'\\', letter]);
                filled += 2;
            }
            None => {
                out.extend_from_slice(&to[..filled]);
                out.extend_from_slice(&long_escape(from[end]));
                filled = 0;
            }
        }
        special &= special - 1;
        at = end + 1;
    }
}

fn short_escape(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' => Some(byte),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b'\t' => Some(b't'),
        _ => None,
    }
}

fn long_escape(byte: u8) -> [u8; 6] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    [b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}

/// Appends `bytes` as a JSON string, quotes included.
pub fn quoted(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    escaped(bytes, out);
    out.push(b'"');
}

/// Appends `,"name":`.
pub fn name(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends a time as `2024-01-15T10:30:00.000Z` without asking for memory; `millis` before 1970 counts as 0.
pub fn rfc3339(millis: i64, out: &mut Vec<u8>) {
    let millis = millis.clamp(0, 253_402_300_799_999) as u64;
    let (days, of_day) = ((millis / 86_400_000) as i64, millis % 86_400_000);
    // Days to civil date after Howard Hinnant.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_index + 2) / 5 + 1) as u64;
    let month = (if month_index < 10 { month_index + 3 } else { month_index - 9 }) as u64;
    let year = (year_of_era + era * 400 + i64::from(month <= 2)) as u64;
    let mut text = *b"0000-00-00T00:00:00.000Z";
    // Two digits at a time, by divisors that the compiler knows.
    let mut pair = |at: usize, value: u64| {
        text[at] = b'0' + (value / 10) as u8;
        text[at + 1] = b'0' + (value % 10) as u8;
    };
    pair(0, year / 100);
    pair(2, year % 100);
    pair(5, month);
    pair(8, day);
    pair(11, of_day / 3_600_000);
    pair(14, of_day / 60_000 % 60);
    pair(17, of_day / 1000 % 60);
    pair(20, of_day % 1000 / 10);
    text[22] = b'0' + (of_day % 10) as u8;
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_the_rest_stays() {
        let mut out = Vec::new();
        quoted(b"caf\xff \"\\\n\x01\xc3\xa9", &mut out);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), "\"caf\u{fffd} \\\"\\\\\\n\\u0001é\"");
    }

    proptest! {
        #[test]
        fn a_plain_run_ends_where_the_first_special_byte_stands(bytes in prop::collection::vec(any::<u8>(), 0..40), special in 0usize..40) {
            let mut bytes: Vec<u8> = bytes.into_iter().map(|b| if SPECIAL[usize::from(b)] { b'x' } else { b }).collect();
            prop_assert_eq!(plain_run(&bytes), bytes.len());
            if special < bytes.len() {
                for byte in [0, 0x1f, b'"', b'\\'] {
                    bytes[special] = byte;
                    prop_assert_eq!(plain_run(&bytes), special);
                }
            }
        }

        #[test]
        fn blocks_and_what_is_left_of_them_are_read_back(text in "([a-z ]{0,70}[\\x00-\\x1f\"\\\\é]{0,3}){0,5}") {
            let mut out = Vec::new();
            quoted(text.as_bytes(), &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("JSON"), text);
        }

        #[test]
        fn a_reader_gets_back_what_was_written(text in "\\PC*[\\x00-\\x1f\"\\\\]{0,3}\\PC*") {
            let mut out = Vec::new();
            quoted(text.as_bytes(), &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("JSON"), text);
        }

        #[test]
        fn times_are_written_as_everybody_else_writes_them(millis in 0i64..4_102_444_800_000) {
            let mut out = Vec::new();
            rfc3339(millis, &mut out);
            prop_assert_eq!(String::from_utf8(out).expect("ASCII"), service::logging::rfc3339_millis(millis as u128));
        }
    }
}
