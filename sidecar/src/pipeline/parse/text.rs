//! What a plain line says of its level, its time and its trace, where it stands in it.

use telemetry::Timestamp;
use telemetry::log_record::Level;
use telemetry::trace::TraceId;

/// Where in a line a level is looked for: behind that stands prose, in which `ERROR` may mean anything.
const LEVEL_WITHIN_BYTES: usize = 100;

pub fn level(text: &str) -> Level {
    const CRASHES: [&str; 5] =
        ["panicked at", "Traceback (most recent call last)", "Exception in thread", "panic: ", "fatal error: "];
    if CRASHES.iter().any(|crash| text.contains(crash)) {
        return Level::Error;
    }
    let head = &text[..text.floor_char_boundary(LEVEL_WITHIN_BYTES)];
    let mut before = "";
    for (index, word) in head.split(|c: char| !c.is_ascii_alphabetic()).filter(|w| !w.is_empty()).enumerate() {
        let shouted = word.bytes().all(|b| b.is_ascii_uppercase());
        let named = ["level", "lvl", "severity"].contains(&before);
        let after = offset_after(head, word);
        let labelled = index == 0 && head[after..].starts_with(':');
        let bracketed = head[after..].starts_with(']');
        if (shouted || named || labelled || bracketed)
            && let Some(level) = Level::recognise(word)
        {
            return level;
        }
        before = word;
    }
    Level::Info
}

/// Where `part`, a slice of `whole`, ends in it.
fn offset_after(whole: &str, part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize + part.len()
}

/// A time that opens the line, in brackets or not.
pub fn time_at_start(text: &str) -> Option<Timestamp> {
    let text = text.trim_start_matches(['[', '(']);
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let ends = |c: char| c.is_whitespace() || c == ']' || c == ')';
    let first = text.find(ends).unwrap_or(text.len());
    // Date and time with a blank between them.
    let second = text.get(first + 1..).map_or(first, |rest| first + 1 + rest.find(ends).unwrap_or(rest.len()));
    time(&text[..first]).or_else(|| time(text.get(..second)?))
}

/// RFC 3339, also with a blank for the `T`, an offset without a colon, or none at all: then UTC is meant.
pub fn time(text: &str) -> Option<Timestamp> {
    if let Some(time) = Timestamp::parse_rfc3339(text) {
        return Some(time);
    }
    if !(19..=40).contains(&text.len()) || !text.is_ascii() {
        return None;
    }
    match text.as_bytes()[text.len() - 5] {
        b'+' | b'-' => {
            let (head, minutes) = text.split_at(text.len() - 2);
            Timestamp::parse_rfc3339(&format!("{head}:{minutes}"))
        }
        _ => Timestamp::parse_rfc3339(&format!("{text}Z")),
    }
}

/// Seconds, milli-, micro- or nanoseconds since the epoch: whichever gives a year of this age. Seconds pass 10^11 in
/// the year 5138; milliseconds passed it in 1973, and so on by thousands.
pub fn time_of_number(number: f64) -> Option<Timestamp> {
    match number {
        n if n.is_nan() || n <= 0.0 => None,
        n if n < 1e11 => Some(Timestamp::from_secs_f64(n)),
        n if n < 1e14 => Some(Timestamp::from_millis(n as i64)),
        n if n < 1e17 => Some(Timestamp::from_millis((n / 1e3) as i64)),
        n if n < 1e20 => Some(Timestamp::from_millis((n / 1e6) as i64)),
        _ => None,
    }
}

/// `trace_id=0af7…`, `"trace_id": "0af7…"`, `traceId: 0af7…`; X-Ray's form too.
pub fn trace_id(text: &str) -> Option<TraceId> {
    let named = ["trace_id", "traceId", "traceid", "TRACE-ID"];
    named.iter().find_map(|name| {
        let rest = &text[text.find(name)? + name.len()..];
        let rest = rest.trim_start_matches(['"', '=', ':', ' ', '\'', '@']);
        rest.get(..32).and_then(trace_id_of).or_else(|| trace_id_of(rest.get(..35)?))
    })
}

/// W3C's form in either case of its digits, or X-Ray's `1-5759e988-bd862e3fe1be46a994272793`.
pub fn trace_id_of(text: &str) -> Option<TraceId> {
    let mut digits = [0u8; 32];
    let bytes = text.as_bytes();
    match bytes.len() {
        32 => digits.copy_from_slice(bytes),
        35 if bytes.starts_with(b"1-") && bytes[10] == b'-' => {
            digits[..8].copy_from_slice(&bytes[2..10]);
            digits[8..].copy_from_slice(&bytes[11..]);
        }
        _ => return None,
    }
    digits.make_ascii_lowercase();
    TraceId::parse(std::str::from_utf8(&digits).ok()?)
}

/// The id as X-Ray and CloudWatch's console write it.
pub fn xray_form(id: TraceId, out: &mut Vec<u8>) {
    let digits = id.hex();
    out.extend_from_slice(b"1-");
    out.extend_from_slice(&digits[..8]);
    out.push(b'-');
    out.extend_from_slice(&digits[8..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_loggers_write_them() {
        let at = Some(Timestamp(1_705_314_600_123));
        for text in [
            "2024-01-15T10:30:00.123Z",
            "2024-01-15T11:30:00.123+01:00",
            "2024-01-15T11:30:00.123+0100",
            "2024-01-15 10:30:00,123",
            "2024-01-15T10:30:00.123456",
        ] {
            assert_eq!(time(text), at, "{text}");
        }
        assert_eq!(time_at_start("2024-01-15 10:30:00,123 INFO x"), at);
        assert_eq!(time_at_start("[2024-01-15T10:30:00.123Z] x"), at);
        for number in [1_705_314_600.123, 1_705_314_600_123.0, 1_705_314_600_123_000.0, 1.705_314_600_123e18] {
            assert_eq!(time_of_number(number), at, "{number}");
        }
        for text in ["", "yesterday", "2024-13-15T10:30:00Z", "12 monkeys and some more words"] {
            assert_eq!(time_at_start(text), None, "{text}");
        }
    }

    #[test]
    fn trace_ids_are_found_in_both_dialects() {
        let id = TraceId::parse("5759e988bd862e3fe1be46a994272793").expect("valid");
        for text in [
            "trace_id=5759e988bd862e3fe1be46a994272793",
            "x AWS-XRAY-TRACE-ID: 1-5759e988-bd862e3fe1be46a994272793@4fdd",
            "{traceId: '5759E988BD862E3FE1BE46A994272793'}",
        ] {
            assert_eq!(trace_id(text), Some(id), "{text}");
        }
        let mut out = Vec::new();
        xray_form(id, &mut out);
        assert_eq!(out, b"1-5759e988-bd862e3fe1be46a994272793");
        for text in ["trace_id=abc", "trace_id=00000000000000000000000000000000", "trace_id"] {
            assert_eq!(trace_id(text), None, "{text}");
        }
    }
}
