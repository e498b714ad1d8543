//! Numbers as label values: `le` and `quantile` in the one spelling that Prometheus 3 stores.

/// Beyond these powers of ten Go's `%g` writes exponents.
const PLAIN_EXPONENTS: std::ops::Range<i32> = -4..6;

/// The shortest text that reads back as the number, as Go's `%g` has it, with a point or an exponent always: `1.0`,
/// `0.25`, `1e+06`, `+Inf` (prometheus, model/labels/float.go).
pub fn canonical_float(value: f64) -> String {
    if value == 0.0 {
        return "0.0".to_owned();
    }
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !PLAIN_EXPONENTS.contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.unsigned_abs());
    }
    let plain = value.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn floats_are_spelt_as_go_spells_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "0.0"),
            (1.0, "1.0"),
            (-1.0, "-1.0"),
            (0.25, "0.25"),
            (100_000.0, "100000.0"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (12_345_678.5, "1.23456785e+07"),
            (1e21, "1e+21"),
            (0.0001, "0.0001"),
            (0.000_025, "2.5e-05"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (-2_500_000.0, "-2.5e+06"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(canonical_float(value), text);
        }
    }

    proptest! {
        #[test]
        fn the_text_reads_back_as_the_number(value in any::<f64>().prop_filter("NaN is unequal", |v| !v.is_nan())) {
            prop_assert_eq!(canonical_float(value).parse::<f64>().expect("a number"), value);
        }
    }
}
