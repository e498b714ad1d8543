//! Strikes out the values of keys that name a secret: authorization, password, token, cookie and their
//! like, in JSON (`"password":"x"`) and in text (`password=x`, `Authorization: Bearer x`).
//!
//! Works on the text itself, so that everything else stays byte for byte. It finds what is called a
//! secret, not what looks like one: a key named otherwise keeps its value.

/// What stands in place of a value.
pub const REDACTED: &str = "[redacted]";

/// A key is secret when, without `-` and `_` and in lower case, it ends with one of these:
/// `access_token`, `Set-Cookie`, `X-Api-Key` are, `token_count` is not.
const SECRET_ENDINGS: [&str; 9] =
    ["authorization", "password", "passwd", "passphrase", "secret", "token", "cookie", "apikey", "privatekey"];

/// The text without the secrets and how many were struck out; None where there was none.
pub fn redact(text: &str) -> Option<(String, usize)> {
    let mut out = String::new();
    let (mut copied, mut at, mut count) = (0, 0, 0);
    let bytes = text.as_bytes();
    while let Some(found) = bytes[at..].iter().position(|b| matches!(b, b':' | b'=')).map(|p| at + p) {
        at = found + 1;
        let Some(quoted) = secret_key_before(text, found) else { continue };
        let (start, end, json_string) = value_after(text, found + 1, quoted);
        // An empty value hides nothing.
        if start == end {
            continue;
        }
        out.push_str(&text[copied..start]);
        // A JSON value that is no string becomes one, so that the line stays JSON.
        match quoted && !json_string {
            true => out.push_str(&format!("\"{REDACTED}\"")),
            false => out.push_str(REDACTED),
        }
        (copied, at) = (end, end);
        count += 1;
    }
    if count == 0 {
        return None;
    }
    out.push_str(&text[copied..]);
    Some((out, count))
}

/// Whether the key that ends before the separator at `end` names a secret: Some(whether it is quoted).
fn secret_key_before(text: &str, end: usize) -> Option<bool> {
    let before = text[..end].trim_end();
    let (before, quoted) = match before.strip_suffix('"') {
        // In a string inside a string (`\"password\":`) the text's rules hold.
        Some(inner) => match inner.strip_suffix('\\') {
            Some(inner) => (inner, false),
            None => (inner, true),
        },
        None => (before, false),
    };
    let is_key = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let length = before.bytes().rev().take_while(|b| is_key(*b)).count();
    let mut key: Vec<u8> = before.as_bytes()[before.len() - length..].to_vec();
    key.retain(|b| !matches!(b, b'-' | b'_'));
    key.make_ascii_lowercase();
    SECRET_ENDINGS.iter().any(|ending| key.ends_with(ending.as_bytes())).then_some(quoted)
}

/// Start and end of the value that begins behind `from`, and whether it is the inside of a string.
fn value_after(text: &str, from: usize, quoted_key: bool) -> (usize, usize, bool) {
    let bytes = text.as_bytes();
    let mut start = from;
    while bytes.get(start).is_some_and(|b| matches!(b, b' ' | b'\t')) {
        start += 1;
    }
    match bytes.get(start) {
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
            if ["bearer", "basic", "token"].iter().any(|scheme| text[start..end].eq_ignore_ascii_case(scheme))
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_of_secret_keys_are_struck_out_and_nothing_else() {
        for (text, expected) in [
            (r#"{"password":"hunter2","user":"u1"}"#, r#"{"password":"[redacted]","user":"u1"}"#),
            (r#"{"a":{"Set-Cookie": "s=1; x=\"y\"; Secure"}}"#, r#"{"a":{"Set-Cookie": "[redacted]"}}"#),
            (r#"{"access_token":12345,"b":1}"#, r#"{"access_token":"[redacted]","b":1}"#),
            (r#"{"token":{"id":"}","v":[1]},"b":1}"#, r#"{"token":"[redacted]","b":1}"#),
            (r#"{"message":"login password=hunter2 ok"}"#, r#"{"message":"login password=[redacted] ok"}"#),
            (r#"{"message":"{\"token\":\"abc\"} x"}"#, r#"{"message":"{\"token\":\"[redacted]\"} x"}"#),
            ("GET / Authorization: Bearer abc.def x", "GET / Authorization: Bearer [redacted] x"),
            ("?api_key=k&page=2", "?api_key=[redacted]&page=2"),
            ("X-Api-Key: k1, Cookie: a=b", "X-Api-Key: [redacted], Cookie: [redacted]"),
        ] {
            assert_eq!(redact(text).map(|(text, _)| text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn harmless_lines_stay_as_they_are() {
        for text in [
            r#"{"token_count":3,"message":"no secrets: here","tokens":5}"#,
            "the password was wrong",
            "password=",
            r#"{"password":""}"#,
            "",
        ] {
            assert_eq!(redact(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived_and_json_stays_json(value in "\\PC*", secret in "\\PC+") {
            let line = serde_json::json!({"message": value, "password": secret}).to_string();
            let (redacted, _) = redact(&line).expect("there is a password");
            let json: serde_json::Value = serde_json::from_str(&redacted).expect("still JSON");
            prop_assert_eq!(&json["password"], REDACTED);
            drop(redact(&value));
        }
    }
}
