//! Which keys name a secret.

/// A key is secret when, without `-` and `_` and in lower case, it ends with one of these:
/// `access_token`, `Set-Cookie`, `X-Api-Key` are, `token_count` is not.
const SECRET_ENDINGS: [&[u8]; 10] = [
    b"authorization",
    b"token",
    b"password",
    b"passwd",
    b"passphrase",
    b"cookie",
    b"secret",
    b"apikey",
    b"privatekey",
    b"accesskey",
];

/// A bit for each of the endings: those that have this byte before their last letter, which one that is left out may be …
static BEFORE_LAST: [u16; 256] = endings_with(1);
/// … and those whose last letter it is. Most keys are none by these two alone.
static LAST: [u16; 256] = endings_with(0);

/// By each byte, the endings that may have it so far from their end.
const fn endings_with(from_end: usize) -> [u16; 256] {
    let (mut table, mut n) = ([0; 256], 0);
    while n < SECRET_ENDINGS.len() {
        let ending = SECRET_ENDINGS[n];
        let letter = ending[ending.len() - 1 - from_end];
        table[letter as usize] |= 1 << n;
        table[letter.to_ascii_uppercase() as usize] |= 1 << n;
        if from_end > 0 {
            table[b'-' as usize] |= 1 << n;
            table[b'_' as usize] |= 1 << n;
        }
        n += 1;
    }
    table
}

/// Whether the key that ends before the separator at `end` names a secret: Some(whether it is quoted).
pub(super) fn secret_key_before(bytes: &[u8], end: usize) -> Option<bool> {
    // Nearly all by a look at their last letters.
    if let [.., before_last, last, b'"'] | [.., before_last, last] = &bytes[..end]
        && last.is_ascii_alphanumeric()
        && endings_of(*before_last, *last) == 0
    {
        return None;
    }
    let before = bytes[..end].trim_ascii_end();
    let (before, quoted) = match before {
        // In a string inside a string (`\"password\":`) the text's rules hold.
        [inner @ .., b'\\', b'"'] => (inner, false),
        [inner @ .., b'"'] => (inner, true),
        text => (text, false),
    };
    let [.., before_last, last] = before else { return None };
    let mut possible = endings_of(*before_last, *last);
    while possible != 0 {
        if ends_with(before, SECRET_ENDINGS[possible.trailing_zeros() as usize]) {
            return Some(quoted);
        }
        possible &= possible - 1;
    }
    None
}

/// The endings that a key with these two letters at its end may have.
fn endings_of(before_last: u8, last: u8) -> u16 {
    BEFORE_LAST[usize::from(before_last)] & LAST[usize::from(last)]
}

/// Compares from the end, `-` and `_` left out, in lower case.
fn ends_with(key: &[u8], ending: &[u8]) -> bool {
    let letters = key.iter().rev().filter(|b| !matches!(b, b'-' | b'_')).map(u8::to_ascii_lowercase);
    letters.take(ending.len()).eq(ending.iter().rev().copied())
}
