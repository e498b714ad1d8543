//! Durations as Prometheus writes them: `1h30m`, `15s`, `100ms`; units y w d h m s ms, each at most once, in that order.

use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("empty duration string")]
    Empty,
    #[error("not a valid duration string: {0:?}; write for example 15s, 5m or 1h30m")]
    Invalid(String),
    #[error("duration out of range: {0:?}")]
    OutOfRange(String),
}

const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Parses Prometheus' notation (prometheus/common model/time.go, `ParseDuration`); `0` needs no unit.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let invalid = || DurationError::Invalid(text.to_owned());
    let out_of_range = || DurationError::OutOfRange(text.to_owned());
    let (mut rest, mut millis, mut next_unit) = (text, 0u64, 0usize);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        if digits == 0 || letters == 0 {
            return Err(invalid());
        }
        let number: u64 = rest[..digits].parse().map_err(|_| out_of_range())?;
        let unit = &rest[digits..digits + letters];
        let index = UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(invalid)?;
        if index < next_unit {
            return Err(invalid());
        }
        next_unit = index + 1;
        millis = number.checked_mul(UNITS[index].1).and_then(|m| millis.checked_add(m)).ok_or_else(out_of_range)?;
        rest = &rest[digits + letters..];
    }
    Ok(Duration::from_millis(millis))
}

/// Prints as Prometheus does: `1d12h`, `0s`; years and weeks only where they divide evenly.
pub fn format(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (index, (unit, size)) in UNITS.iter().enumerate() {
        let exact_only = index < 2;
        if millis >= *size && (!exact_only || millis.is_multiple_of(*size)) {
            text.push_str(&format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_notation_is_read_and_printed() {
        for (text, millis, printed) in [
            ("0", 0, "0s"),
            ("15s", 15_000, "15s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90m", 5_400_000, "1h30m"),
            ("1d", 86_400_000, "1d"),
            ("36h", 129_600_000, "1d12h"),
            ("100ms", 100, "100ms"),
            ("1y", 31_536_000_000, "1y"),
        ] {
            let duration = parse(text).expect(text);
            assert_eq!(duration.as_millis(), millis, "{text}");
            assert_eq!(format(duration), printed, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "1", "s", "1x", "-1s", "1.5h", "1m1h", "1s1s", "99999999999999999999s", "9999999999y"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
