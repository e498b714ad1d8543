//! Which errors these are: a message with everything that varies taken out of it, counted on `/metrics`.
//!
//! `order 4711 not paid by "eve"` and its like are one signature, `order # not paid by "…"`. The first few signatures
//! of a task have series of their own; what comes later is counted together, so that a message without a pattern does
//! not cost the platform its store.

use std::sync::Mutex;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use service::metrics::Metrics;
use telemetry::names::{sidecar as names, without_total};

const SIGNATURES_MAX: usize = 20;
const LENGTH_MAX: usize = 80;
const OTHER: &str = "other";

type Label = [(&'static str, String); 1];

pub struct Signatures {
    family: Family<Label, Counter>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// So few that looking at one behind the other is quicker than a hash.
    first: Vec<(String, Counter)>,
    others: Option<Counter>,
    /// Used again for every message.
    signature: String,
}

impl Signatures {
    pub fn register(metrics: &Metrics) -> Self {
        let family = Family::<Label, Counter>::default();
        metrics.register(|r| {
            r.register(
                without_total(names::LOG_ERROR_SIGNATURES_TOTAL),
                "Log records of level error by what they say, numbers and names left out",
                family.clone(),
            );
        });
        Signatures { family, known: Mutex::default() }
    }

    pub fn count(&self, message: &str) {
        let Known { first, others, signature } = &mut *self.known.lock().expect("no one panics holding it");
        write(message, signature);
        let counter = |name: &str| self.family.get_or_create_owned(&[("signature", name.to_owned())]);
        if let Some((_, known)) = first.iter().find(|(known, _)| known == signature) {
            known.inc();
        } else if first.len() < SIGNATURES_MAX {
            let new = counter(signature);
            new.inc();
            first.push((signature.clone(), new));
        } else {
            others.get_or_insert_with(|| counter(OTHER)).inc();
        }
    }
}

/// Numbers and what looks like an id become `#`, what is quoted `…`; the first line alone, and not too much of it.
pub fn signature(message: &str) -> String {
    let mut out = String::new();
    write(message, &mut out);
    out
}

fn write(message: &str, out: &mut String) {
    out.clear();
    let mut rest = message.lines().next().unwrap_or_default();
    while let Some(first) = rest.chars().next() {
        if out.len() >= LENGTH_MAX {
            break;
        }
        if ['"', '\'', '`'].contains(&first)
            && let Some(end) = rest[1..].find(first)
        {
            out.extend([first, '…', first]);
            rest = &rest[end + 2..];
            continue;
        }
        let (word, behind) = rest.split_at(word_length(rest).max(first.len_utf8()));
        match word.bytes().any(|byte| byte.is_ascii_digit()) {
            true => out.push('#'),
            false => out.push_str(word),
        }
        rest = behind;
    }
    out.truncate(out.floor_char_boundary(LENGTH_MAX));
}

/// How many bytes of letters, digits and what joins them stand at the beginning.
fn word_length(text: &str) -> usize {
    let joins = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let mut length = 0;
    loop {
        length += text[length..].bytes().take_while(|byte| joins(*byte)).count();
        match text[length..].chars().next() {
            // Of letters beyond ASCII one is looked at after the other.
            Some(letter) if !letter.is_ascii() && letter.is_alphanumeric() => length += letter.len_utf8(),
            _ => return length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_is_left_out() {
        for (message, expected) in [
            ("order 4711 not paid by \"eve\"", "order # not paid by \"…\""),
            ("timeout after 3.5s at 10.0.0.7:5432\nat x", "timeout after #.# at #.#.#.#:#"),
            ("user 3f2504e0-4f89-11d3-9a0c-0305e82c3301 is gone", "user # is gone"),
            ("it's over", "it's over"),
            ("café-7 zu, naïve_x – ok", "# zu, naïve_x – ok"),
            ("", ""),
        ] {
            assert_eq!(signature(message), expected);
        }
        assert!(signature(&"é".repeat(300)).len() <= LENGTH_MAX);
    }

    /// As it was first written down, letter by letter.
    fn by_letters(message: &str) -> String {
        let (mut out, mut rest) = (String::new(), message.lines().next().unwrap_or_default());
        while let Some(first) = rest.chars().next().filter(|_| out.len() < LENGTH_MAX) {
            if ['"', '\'', '`'].contains(&first)
                && let Some(end) = rest[1..].find(first)
            {
                out.extend([first, '…', first]);
                rest = &rest[end + 2..];
                continue;
            }
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len()).max(first.len_utf8());
            let word = &rest[..end];
            out.push_str(if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word });
            rest = &rest[end..];
        }
        out.truncate(out.floor_char_boundary(LENGTH_MAX));
        out
    }

    proptest::proptest! {
        #[test]
        fn words_end_where_letters_do(message in "([a-z0-9_-]{0,5}[ .:\"'é–ß²\n]{0,2}){0,20}") {
            proptest::prop_assert_eq!(signature(&message), by_letters(&message));
        }
    }

    #[test]
    fn series_are_bounded() {
        let metrics = Metrics::new();
        let signatures = Signatures::register(&metrics);
        for letter in 'a'..='z' {
            signatures.count(&letter.to_string().repeat(3));
            signatures.count(&letter.to_string().repeat(3));
        }
        let text = metrics.expose();
        assert!(text.contains("sidecar_log_error_signatures_total{signature=\"aaa\"} 2\n"), "{text}");
        assert!(text.contains("sidecar_log_error_signatures_total{signature=\"other\"} 12\n"), "{text}");
    }
}
