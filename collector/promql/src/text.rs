//! How Prometheus writes numbers, strings and places in a query: quoting as Go's `%q`, floats as `strconv.FormatFloat`.

use std::fmt::Write as _;

/// Milliseconds in the notation of durations, with a sign where negative.
pub(crate) fn format_millis(millis: i64) -> String {
    let text = telemetry::duration::format(std::time::Duration::from_millis(millis.unsigned_abs()));
    if millis < 0 { format!("-{text}") } else { text }
}

/// A sample value as the Prometheus API writes it: shortest digits that read back, exponents only for the
/// very small and the very large.
pub fn format_value(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) && value.is_finite() {
        exponent_form(value)
    } else {
        format_plain(value)
    }
}

/// Never an exponent: Go's `FormatFloat(v, 'f', -1, 64)`.
pub(crate) fn format_plain(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        format!("{value}")
    }
}

/// Go's `%g` and `%v`: an exponent below 1e-4 and from 1e6 on.
pub(crate) fn format_general(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_finite() && magnitude != 0.0 {
        let text = format!("{value:e}");
        let exponent = text.split_once('e').and_then(|(_, e)| e.parse::<i32>().ok()).unwrap_or(0);
        if !(-4..6).contains(&exponent) {
            return exponent_form(value);
        }
    }
    format_plain(value)
}

/// `1.5e+21`: a sign and at least two digits in the exponent.
pub(crate) fn exponent_form(value: f64) -> String {
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, number) = match exponent.strip_prefix('-') {
        Some(number) => ('-', number),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{number:0>2}")
}

/// A string as Go's `strconv.Quote` writes it.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        push_escaped(&mut out, c, '"');
    }
    out.push('"');
    out
}

/// The same of bytes that need not be UTF-8; what is not shows as `\xff`.
pub(crate) fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_escaped(&mut out, c, '"'));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// A character as Go's `%q` writes a rune.
pub(crate) fn quote_char(c: char) -> String {
    let mut out = String::from("'");
    push_escaped(&mut out, c, '\'');
    out.push('\'');
    out
}

fn push_escaped(out: &mut String, c: char, delimiter: char) {
    match c {
        c if c == delimiter || c == '\\' => {
            out.push('\\');
            out.push(c);
        }
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        c if (c as u32) < 0x20 || c as u32 == 0x7f => {
            let _ = write!(out, "\\x{:02x}", c as u32);
        }
        c if c.is_control() => {
            let _ = write!(out, "\\u{:04x}", c as u32);
        }
        c => out.push(c),
    }
}

/// `line:column` of a byte offset, both from 1; columns count bytes.
pub(crate) fn line_column(text: &str, offset: usize) -> String {
    if text.is_empty() {
        return "unknown position".to_owned();
    }
    if offset > text.len() {
        return "invalid position".to_owned();
    }
    let before = &text.as_bytes()[..offset];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = offset - before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1) + 1;
    format!("{line}:{column}")
}

/// Labels as Go's `Labels.String()` writes them, the metric's name among the others.
pub(crate) fn in_braces(labels: &telemetry::Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| {
            let name = if is_plain_label_name(name) { name.to_owned() } else { quote(name) };
            format!("{name}={}", quote(value))
        })
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

/// Whether a label may have this name. Names are UTF-8: bytes that were not show as replacement characters.
pub(crate) fn is_label_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('\u{fffd}')
}

/// A legal label name without quotes.
pub(crate) fn is_plain_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_prometheus_writes_them() {
        for (value, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (-0.0, "-0"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (1e-7, "1e-07"),
            (1.5e300, "1.5e+300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(format_value(value), text);
        }
        assert_eq!(format_general(1e6), "1e+06");
        assert_eq!(format_general(1234567.0), "1.234567e+06");
        assert_eq!(format_general(123456.0), "123456");
        assert_eq!(format_general(0.00001), "1e-05");
    }

    #[test]
    fn places_count_lines_and_bytes_from_one() {
        assert_eq!(line_column("a\nbc", 3), "2:2");
        assert_eq!(line_column("abc", 0), "1:1");
        assert_eq!(line_column("", 0), "unknown position");
    }

    #[test]
    fn quoting_escapes_what_go_escapes() {
        assert_eq!(quote("a\"b\\\n\u{1}é"), "\"a\\\"b\\\\\\n\\x01é\"");
        assert_eq!(quote_char('\''), "'\\''");
        assert_eq!(quote_char('~'), "'~'");
    }
}
