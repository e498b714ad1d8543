//! Floats as Go's `%v` and `%.4g` write them; Rust's `Display` never uses an exponent.

/// `%v` of a float64: the shortest digits that read back, with an exponent from 1e6 on (strconv/ftoa.go
/// decides the shortest form as if it had six digits) and below 1e-4.
pub fn shortest(value: f64) -> String {
    if let Some(special) = special(value) {
        return special;
    }
    let (digits, exponent) = split(&format!("{value:e}"));
    assemble(value < 0.0, &digits, exponent, 6)
}

/// `%.4g`: four significant digits, trailing zeros dropped.
pub fn four_digits(value: f64) -> String {
    if let Some(special) = special(value) {
        return special;
    }
    let (digits, exponent) = split(&format!("{value:.3e}"));
    assemble(value < 0.0, &digits, exponent, 4)
}

fn special(value: f64) -> Option<String> {
    let text = if value.is_nan() {
        "NaN"
    } else if value == f64::INFINITY {
        "+Inf"
    } else if value == f64::NEG_INFINITY {
        "-Inf"
    } else if value == 0.0 {
        if value.is_sign_negative() { "-0" } else { "0" }
    } else {
        return None;
    };
    Some(text.to_owned())
}

/// `-1.250e-7` -> ("125", -7).
fn split(scientific: &str) -> (String, i32) {
    let (mantissa, exponent) = scientific.split_once('e').expect("{:e} always writes an exponent");
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0').to_owned();
    (digits, exponent.parse().expect("the exponent is a small integer"))
}

fn assemble(negative: bool, digits: &str, exponent: i32, threshold: i32) -> String {
    let sign = if negative { "-" } else { "" };
    if exponent < -4 || exponent >= threshold {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{point}{rest}e{exponent_sign}{:02}", exponent.abs());
    }
    let Ok(whole_len) = usize::try_from(exponent + 1) else {
        return format!("{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1));
    };
    match whole_len {
        0 => format!("{sign}0.{digits}"),
        n if n >= digits.len() => format!("{sign}{digits}{}", "0".repeat(n - digits.len())),
        n => format!("{sign}{}.{}", &digits[..n], &digits[n..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected texts were printed by Go's fmt.
    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (value, v, four_g) in [
            (1e5, "100000", "1e+05"),
            (1e6, "1e+06", "1e+06"),
            (1.5e6, "1.5e+06", "1.5e+06"),
            (123_456_789.0, "1.23456789e+08", "1.235e+08"),
            (1e21, "1e+21", "1e+21"),
            (1e-4, "0.0001", "0.0001"),
            (1e-5, "1e-05", "1e-05"),
            (0.1, "0.1", "0.1"),
            (100.0, "100", "100"),
            (-123.456, "-123.456", "-123.5"),
            (0.0, "0", "0"),
            (f64::NAN, "NaN", "NaN"),
            (f64::NEG_INFINITY, "-Inf", "-Inf"),
        ] {
            assert_eq!(shortest(value), v);
            assert_eq!(four_digits(value), four_g);
        }
    }
}
