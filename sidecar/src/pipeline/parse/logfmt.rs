//! `level=info msg="order paid" n=3`: logfmt, as logrus, slog's text handler and many others write it, into JSON.

use super::write::{escaped, quoted};

/// A line is logfmt when it says one of these; two words with `=` between them are not enough.
const TELLING: [&str; 6] = ["level", "lvl", "severity", "msg", "message", "time"];
const PAIRS_MAX: usize = 64;

/// Appends the line as a JSON object. False, and `out` as it was: the line is no logfmt.
pub fn to_json(line: &str, out: &mut Vec<u8>) -> bool {
    let begun = out.len();
    match pairs(line, out) {
        Some(telling) if telling >= 2 => true,
        _ => {
            out.truncate(begun);
            false
        }
    }
}

/// How many telling keys there were; None where the line is something else.
fn pairs(line: &str, out: &mut Vec<u8>) -> Option<usize> {
    let (mut rest, mut telling, mut count) = (line.trim(), 0, 0);
    out.push(b'{');
    while !rest.is_empty() {
        let end = rest.find(['=', ' ', '"'])?;
        let key = &rest[..end];
        if key.is_empty() || rest.as_bytes()[end] != b'=' || count == PAIRS_MAX {
            return None;
        }
        telling += usize::from(TELLING.contains(&key));
        if count > 0 {
            out.push(b',');
        }
        count += 1;
        quoted(key.as_bytes(), out);
        out.push(b':');
        rest = value(&rest[end + 1..], out)?;
        rest = match rest.strip_prefix(' ') {
            Some(more) => more.trim_start(),
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    out.push(b'}');
    Some(telling)
}

/// Appends the value that `rest` begins with and returns what follows.
fn value<'a>(rest: &'a str, out: &mut Vec<u8>) -> Option<&'a str> {
    let Some(inside) = rest.strip_prefix('"') else {
        let end = rest.find(' ').unwrap_or(rest.len());
        let bare = &rest[..end];
        match is_json_word(bare) {
            true => out.extend_from_slice(bare.as_bytes()),
            false => quoted(bare.as_bytes(), out),
        }
        return Some(&rest[end..]);
    };
    // Quoted as Go quotes.
    out.push(b'"');
    let (bytes, mut at, mut copied) = (inside.as_bytes(), 0, 0);
    loop {
        match bytes.get(at)? {
            b'"' => break,
            b'\\' => {
                escaped(&bytes[copied..at], out);
                match bytes.get(at + 1)? {
                    b'n' => out.extend_from_slice(b"\\n"),
                    b't' => out.extend_from_slice(b"\\t"),
                    b'r' => out.extend_from_slice(b"\\r"),
                    b'"' => out.extend_from_slice(b"\\\""),
                    b'\\' => out.extend_from_slice(b"\\\\"),
                    // Another escape of Go's stays as it is written.
                    _ => {
                        out.extend_from_slice(b"\\\\");
                        at += 1;
                        copied = at;
                        continue;
                    }
                }
                at += 2;
                copied = at;
            }
            _ => at += 1,
        }
    }
    escaped(&bytes[copied..at], out);
    out.push(b'"');
    Some(&inside[at + 1..])
}

/// A number or a truth value as JSON writes it.
fn is_json_word(bare: &str) -> bool {
    let digits = bare.strip_prefix('-').unwrap_or(bare);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let number =
        all_digits(whole) && all_digits(fraction) && whole.len() < 16 && (whole == "0" || !whole.starts_with('0'));
    number || bare == "true" || bare == "false"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(line: &str) -> Option<String> {
        let mut out = Vec::new();
        to_json(line, &mut out).then(|| String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn pairs_become_members() {
        for (line, expected) in [
            (
                r#"time="2024-01-15T10:30:00Z" level=warning msg="a \"b\" c\\d" n=3 f=0.5 ok=true id=007"#,
                Some(
                    r#"{"time":"2024-01-15T10:30:00Z","level":"warning","msg":"a \"b\" c\\d","n":3,"f":0.5,"ok":true,"id":"007"}"#,
                ),
            ),
            ("level=info msg=\"tab\\there \\u00e9\"", Some(r#"{"level":"info","msg":"tab\there \\u00e9"}"#)),
            ("level=info msg=", Some(r#"{"level":"info","msg":""}"#)),
            ("GET /?a=b&c=d level=x", None),
            ("a=b c=d", None),
            ("level=info the message", None),
            ("level=info msg=\"open", None),
        ] {
            assert_eq!(json(line).as_deref(), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_json(line in "(level=[a-z\"\\\\]{0,5} msg=\"?\\PC{0,20}\"?( \\PC{1,4}=\\PC{0,5}){0,3})") {
            if let Some(json) = json(&line) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{} from {}", json, line);
            }
        }
    }
}
