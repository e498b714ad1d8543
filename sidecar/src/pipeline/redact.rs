//! Strikes out secrets: the values of keys that name one (authorization, password, token, cookie and their like, in
//! JSON `"password":"x"` and in text `password=x`, `Authorization: Bearer x`), and what is a secret by its looks:
//! JSON Web Tokens, access keys of AWS, numbers of payment cards; e-mail addresses where that is chosen.
//!
//! Works on the text itself, so that everything else stays byte for byte.

mod keys;

use self::keys::secret_key_before;
use super::bits;

/// What stands in place of a value.
pub const REDACTED: &str = "[redacted]";

/// What is looked for beside the values of secret keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patterns {
    pub tokens: bool,
    pub cards: bool,
    pub email: bool,
}

impl Default for Patterns {
    fn default() -> Self {
        Patterns { tokens: true, cards: true, email: false }
    }
}

/// The text, which is UTF-8, without the secrets and how many were struck out; None where there was none.
pub fn redact(text: &[u8], patterns: Patterns) -> Option<(Vec<u8>, usize)> {
    let (by_key, may_have_looks) = redact_keys(text, patterns);
    let Some((text, keys)) = by_key else {
        return if may_have_looks { redact_looks(text, patterns) } else { None };
    };
    match redact_looks(&text, patterns) {
        Some((text, looks)) => Some((text, keys + looks)),
        None => Some((text, keys)),
    }
}

/// The text without the values of secret keys, and whether it may have something that is a secret by its looks.
fn redact_keys(text: &[u8], patterns: Patterns) -> (Option<(Vec<u8>, usize)>, bool) {
    let mut out = Vec::new();
    let (mut copied, mut count) = (0, 0);
    let may_have_looks = glance(text, patterns, |found| {
        // Within a value that was struck out.
        if found < copied {
            return;
        }
        let Some(quoted) = secret_key_before(text, found) else { return };
        let (start, end, json_string) = value_after(text, found + 1, quoted);
        // An empty value hides nothing.
        if start == end {
            return;
        }
        out.extend_from_slice(&text[copied..start]);
        // A JSON value that is no string becomes one, so that the line stays JSON.
        let quote: &[u8] = if quoted && !json_string { b"\"" } else { b"" };
        [quote, REDACTED.as_bytes(), quote].iter().for_each(|part| out.extend_from_slice(part));
        copied = end;
        count += 1;
    });
    if count == 0 {
        return (None, may_have_looks);
    }
    out.extend_from_slice(&text[copied..]);
    (Some((out, count)), may_have_looks)
}

/// A walk over the text that most lines do not get beyond: hands out where colons and equals signs stand, in order, and
/// says whether there is anything that the letter-by-letter look for secrets could find.
fn glance(text: &[u8], patterns: Patterns, mut each_separator: impl FnMut(usize)) -> bool {
    let (mut found, mut number_before) = (patterns.email && memchr::memchr(b'@', text).is_some(), 0);
    bits::each_block(text, 0, |from, block| {
        each_bit(bits::find(block, |b| b.are(b':') | b.are(b'=')), |n| each_separator(from + n));
        // The rarest of the letters that they begin with.
        let token = |b: bits::Sixteen| b.are(b'J') | b.are(b'A');
        if patterns.tokens && bits::holds(block, token) {
            each_bit(bits::find(block, token), |n| found |= begins_token(text, from + n));
        }
        if patterns.cards {
            let of_number = bits::find(block, |b| b.are_within(b'0', b'9') | b.are(b' ') | b.are(b'-'));
            found |= number_before + of_number.trailing_ones() >= CARD_DIGITS_MIN || has_run_of_15(of_number);
            number_before = of_number.leading_ones();
        }
    });
    found
}

fn each_bit(mut bits: u64, mut each: impl FnMut(usize)) {
    while bits != 0 {
        each(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

/// Whether so many ones stand side by side as a card has digits at least.
fn has_run_of_15(bits: u64) -> bool {
    let of_2 = bits & bits >> 1;
    let of_4 = of_2 & of_2 >> 2;
    let of_8 = of_4 & of_4 >> 4;
    of_8 & of_8 >> 7 != 0
}

/// Whether a web token's beginning ends here, or an access key begins.
fn begins_token(text: &[u8], at: usize) -> bool {
    match text[at] {
        b'J' => text[..at].ends_with(b"ey"),
        _ => text[at..].starts_with(b"AKI") || text[at..].starts_with(b"ASI"),
    }
}

/// What is a secret by its looks, wherever it stands: in strings of JSON and in text.
fn redact_looks(bytes: &[u8], patterns: Patterns) -> Option<(Vec<u8>, usize)> {
    let (mut out, mut copied, mut count, mut at) = (Vec::new(), 0, 0, 0);
    while at < bytes.len() {
        let end = match bytes[at] {
            b'e' if patterns.tokens && bytes[at..].starts_with(b"eyJ") => json_web_token(bytes, at),
            b'A' if patterns.tokens && is_aws_key(bytes, at) => Some(at + AWS_KEY_LENGTH),
            // The digits of an escape are no part of a number.
            b'0'..=b'9' if at > 0 && bytes[at - 1] == b'u' && is_escape(bytes, at - 1) => {
                at += 4;
                continue;
            }
            b'0'..=b'9' if patterns.cards => {
                let end = digits_end(bytes, at);
                match is_card(bytes, at, end) {
                    true => Some(end),
                    // What is no card as a whole has none in it.
                    false => {
                        at = end;
                        continue;
                    }
                }
            }
            b'@' if patterns.email => match email_around(bytes, at).filter(|(start, _)| *start >= copied) {
                Some((start, end)) => {
                    at = start;
                    Some(end)
                }
                None => None,
            },
            _ => None,
        };
        let Some(end) = end else {
            at += 1;
            continue;
        };
        out.extend_from_slice(&bytes[copied..at]);
        out.extend_from_slice(REDACTED.as_bytes());
        (copied, at, count) = (end, end, count + 1);
    }
    if count == 0 {
        return None;
    }
    out.extend_from_slice(&bytes[copied..]);
    Some((out, count))
}

/// Three parts in base64url; the first begins as every JSON object does.
fn json_web_token(bytes: &[u8], at: usize) -> Option<usize> {
    let part = |from: usize| {
        let length = bytes[from..].iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')).count();
        (length >= 10).then_some(from + length)
    };
    let first = part(at)?;
    let second = part(first + 1).filter(|_| bytes.get(first) == Some(&b'.'))?;
    // A signature that was cut off is no reason to show the rest.
    Some(part(second + 1).filter(|_| bytes.get(second) == Some(&b'.')).unwrap_or(second))
}

/// `AKIA…` and `ASIA…` with sixteen letters and digits behind.
const AWS_KEY_LENGTH: usize = 20;

fn is_aws_key(bytes: &[u8], at: usize) -> bool {
    let is_upper = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    let starts = bytes[at..].starts_with(b"AKIA") || bytes[at..].starts_with(b"ASIA");
    starts
        && bytes.get(at..at + AWS_KEY_LENGTH).is_some_and(|key| key.iter().all(is_upper))
        && bytes.get(at + AWS_KEY_LENGTH).is_none_or(|b| !b.is_ascii_alphanumeric())
        && !before(bytes, at).is_ascii_alphanumeric()
}

/// Digits from `at`, with single blanks or dashes between them.
fn digits_end(bytes: &[u8], at: usize) -> usize {
    let mut end = at;
    while end < bytes.len() {
        match bytes[end] {
            b'0'..=b'9' => end += 1,
            b' ' | b'-' if bytes.get(end + 1).is_some_and(u8::is_ascii_digit) => end += 1,
            _ => break,
        }
    }
    end
}

/// The fewest digits of a card.
const CARD_DIGITS_MIN: u32 = 15;

/// 15 or 16 digits of an issuer that there is, with the right check digit, standing alone; not a number of JSON, which
/// would be no number any more.
fn is_card(bytes: &[u8], start: usize, end: usize) -> bool {
    // One pass over most numbers: they are short.
    if !(15..=19).contains(&(end - start)) {
        return false;
    }
    let digits: Vec<u8> = bytes[start..end].iter().filter(|b| b.is_ascii_digit()).map(|b| b - b'0').collect();
    let issuer = match digits[..] {
        [4, ..] | [5, 1..=5, ..] | [6, 0 | 4 | 5, ..] => digits.len() == 16,
        [2, 2..=7, ..] => digits.len() == 16,
        [3, 4 | 7, ..] => digits.len() == 15,
        _ => false,
    };
    let before = before(bytes, start);
    let after = bytes.get(end).copied().unwrap_or(b' ');
    let joins = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'_' || b == b'-';
    // Behind a colon, a comma or a bracket without a quote stands a number of JSON.
    let bare = matches!(before, b':' | b',' | b'[') && end - start == digits.len();
    issuer && !joins(before) && !joins(after) && !bare && luhn(&digits)
}

fn luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(i, d)| u32::from(if i % 2 == 1 { doubled(*d) } else { *d })).sum();
    sum.is_multiple_of(10)
}

/// Whether the byte at `at` is escaped: an odd number of backslashes stands before it.
fn is_escape(bytes: &[u8], at: usize) -> bool {
    bytes[..at].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
}

/// The byte before `at` as the reader of the line sees it: an escape ends no word and no number.
fn before(bytes: &[u8], at: usize) -> u8 {
    let ends_escape =
        |length: usize| at > length && is_escape(bytes, at - length) && (length == 1 || bytes[at - length] == b'u');
    match at {
        0 => b' ',
        _ if ends_escape(1) || ends_escape(5) => b' ',
        _ => bytes[at - 1],
    }
}

/// The address that the `@` at `at` belongs to.
fn email_around(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let is_local = |b: &u8| b.is_ascii_alphanumeric() || b"._%+-".contains(b);
    let is_domain = |b: &u8| b.is_ascii_alphanumeric() || b".-".contains(b);
    let mut start = at - bytes[..at].iter().rev().take_while(|b| is_local(b)).count();
    // The letter behind a backslash is no part of the address: `\\neve@example.com` is a line's end and eve.
    if is_escape(bytes, start) {
        start += if bytes[start] == b'u' { 5 } else { 1 };
    }
    let mut end = at + 1 + bytes[at + 1..].iter().take_while(|b| is_domain(b)).count();
    // A full stop behind an address ends the sentence.
    while end > at + 1 && matches!(bytes[end - 1], b'.' | b'-') {
        end -= 1;
    }
    (start < at && bytes[at + 1..end].contains(&b'.')).then_some((start, end))
}

/// Start and end of the value that begins behind `from`, and whether it is the inside of a string.
fn value_after(bytes: &[u8], from: usize, quoted_key: bool) -> (usize, usize, bool) {
    let mut start = from;
    while bytes.get(start).is_some_and(|b| matches!(b, b' ' | b'\t')) {
        start += 1;
    }
    match bytes.get(start) {
        // In a line of JSON a bare quote behind text ends the string that the text stands in: the value is empty.
        Some(b'"') if !quoted_key && bytes.starts_with(b"{") => (start, start, true),
        Some(b'"') => (start + 1, string_end(bytes, start + 1), true),
        Some(b'{' | b'[') if quoted_key => (start, nested_end(bytes, start), false),
        _ if quoted_key => (start, run(bytes, start, |b| matches!(b, b',' | b'}' | b']' | b' ')), false),
        Some(b'\\') if bytes.get(start + 1) == Some(&b'"') => {
            let inside = start + 2;
            (inside, run(bytes, inside, |b| matches!(b, b'\\' | b'"')), true)
        }
        _ => {
            let is_end = |b: u8| matches!(b, b' ' | b'\t' | b',' | b';' | b'&' | b'"' | b'\'' | b'\\' | b'}' | b')');
            let mut end = run(bytes, start, is_end);
            // `Authorization: Bearer abc`: the scheme is no secret, what follows is.
            if [&b"bearer"[..], b"basic", b"token"].iter().any(|scheme| bytes[start..end].eq_ignore_ascii_case(scheme))
                && bytes.get(end) == Some(&b' ')
            {
                start = end + 1;
                end = run(bytes, start, is_end);
            }
            (start, end, true)
        }
    }
}

/// The first byte from `start` on that ends the value, or the end of the text. All enders are ASCII,
/// so the place is a boundary of characters.
fn run(bytes: &[u8], start: usize, is_end: impl Fn(u8) -> bool) -> usize {
    bytes[start..].iter().position(|b| is_end(*b)).map_or(bytes.len(), |p| start + p)
}

/// Where the closing quote of a JSON string stands.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Behind the bracket that closes the one at `start`; brackets in strings do not count.
fn nested_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0usize, start);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at + 1),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at.min(bytes.len())
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
