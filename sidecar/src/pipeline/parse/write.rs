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

/// Which bytes of a block JSON wants escaped.
#[inline]
pub(super) fn special_in(block: &[u8; BLOCK]) -> u64 {
    bits::find(block, |b| b.are(b'"') | b.are(b'\\') | b.are_within(0, b' ' - 1))
}

/// What is copied at once: most of what stands between two bytes that are escaped is shorter.
const RUN: usize = 16;
/// What the bytes of a block may become, and what a copy may reach beyond it.
const ESCAPED_MAX: usize = 6 * BLOCK + RUN;

/// Appends what is UTF-8 as the inside of a JSON string.
pub fn escaped_text(text: &[u8], out: &mut Vec<u8>) {
    let filled = escaped_at(text, out, out.len());
    out.truncate(filled);
}

/// Writes what is UTF-8 as the inside of a JSON string to `out`, from `filled` on; where it ends. What stands behind that
/// has no meaning.
pub fn escaped_at(text: &[u8], out: &mut Vec<u8>, mut filled: usize) -> usize {
    // Room for all but strange texts, so that what follows writes to places instead of appending: copies of a length
    // that the compiler knows may reach beyond what is wanted.
    make_room(filled + text.len() + text.len() / 8 + ESCAPED_MAX, out);
    let mut left = text;
    while !left.is_empty() {
        if out.len() - filled < ESCAPED_MAX {
            make_room(filled + 2 * left.len() + ESCAPED_MAX, out);
        }
        let to = &mut out[filled..];
        let (length, block) = match left.first_chunk() {
            Some(block) => (BLOCK, *block),
            None => (left.len(), bits::filled_up(left, b' ')),
        };
        filled += match special_in(&block) {
            0 => {
                to[..BLOCK].copy_from_slice(&block);
                length
            }
            special => escape_block(&block, length, special, to),
        };
        left = &left[length..];
    }
    filled
}

fn make_room(length: usize, out: &mut Vec<u8>) {
    if out.len() < length {
        out.resize(length, 0);
    }
}

/// Writes the first `length` bytes of a block to `to`; how many they have become.
fn escape_block(block: &[u8; BLOCK], length: usize, mut special: u64, to: &mut [u8]) -> usize {
    let mut from = [0; BLOCK + RUN];
    from[..BLOCK].copy_from_slice(block);
    let to = &mut to[..ESCAPED_MAX];
    let (mut at, mut filled) = (0, 0);
    loop {
        let end = (special.trailing_zeros() as usize).min(length);
        let behind = filled + end - at;
        // Once without a question: most runs are as short.
        loop {
            to[filled..filled + RUN].copy_from_slice(&from[at..at + RUN]);
            (at, filled) = (at + RUN, filled + RUN);
            if at >= end {
                break;
            }
        }
        (at, filled) = (end + 1, behind);
        if end == length {
            return filled;
        }
        match SHORT_ESCAPES[usize::from(from[end])] {
            0 => {
                to[filled..filled + 6].copy_from_slice(&long_escape(from[end]));
                filled += 6;
            }
            letter => {
                to[filled..filled + 2].copy_from_slice(&[b'\\', letter]);
                filled += 2;
            }
        }
        special &= special - 1;
    }
}

/// What stands behind the backslash, by the byte that is escaped; 0 where that takes more than a letter.
static SHORT_ESCAPES: [u8; 256] = {
    let mut letters = [0; 256];
    letters[b'"' as usize] = b'"';
    letters[b'\\' as usize] = b'\\';
    letters[b'\n' as usize] = b'n';
    letters[b'\r' as usize] = b'r';
    letters[b'\t' as usize] = b't';
    letters
};

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
        fn whatever_stands_where_and_before_what_is_escaped(
            parts in prop::collection::vec((prop_oneof![0usize..40, 0usize..300], any::<bool>(), 0u8..0x80), 0..20)
        ) {
            // Most often one that stays, or a quote.
            let mut text = String::new();
            for (plain, quote, other) in parts {
                text.push_str(&"x".repeat(plain));
                text.push(if quote { '"' } else { char::from(other) });
            }
            let mut out = b"before".to_vec();
            escaped_text(text.as_bytes(), &mut out);
            let json = serde_json::to_string(&text).expect("JSON").replace("\\b", "\\u0008").replace("\\f", "\\u000c");
            prop_assert_eq!(String::from_utf8(out).expect("UTF-8"), format!("before{}", &json[1..json.len() - 1]));
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
