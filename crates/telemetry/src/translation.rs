//! OpenTelemetry's names of metrics and labels as Prometheus' own, with units in words.
//!
//! One translation for every way that a metric takes, so that it has one name: scraped from the sidecar, or pushed to the
//! collector. Source: prometheus/otlptranslator.

use crate::exposition::MetricKind;

/// How names come out; Prometheus' `translation_strategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Everything but letters, digits and `_` becomes `_`; units and `_total` are appended.
    #[default]
    UnderscoreEscapingWithSuffixes,
    UnderscoreEscapingWithoutSuffixes,
    /// Names keep their dots; units and `_total` are appended.
    NoUtf8EscapingWithSuffixes,
    /// Names as they are.
    NoTranslation,
}

impl Strategy {
    fn escapes(self) -> bool {
        matches!(self, Strategy::UnderscoreEscapingWithSuffixes | Strategy::UnderscoreEscapingWithoutSuffixes)
    }

    fn adds_suffixes(self) -> bool {
        matches!(self, Strategy::UnderscoreEscapingWithSuffixes | Strategy::NoUtf8EscapingWithSuffixes)
    }
}

/// UCUM's unit and Prometheus' word for it.
const UNITS: [(&str, &str); 26] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

/// The same behind `per`.
const PER_UNITS: [(&str, &str); 7] =
    [("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

/// A metric's name; None where nothing is left of it.
pub fn metric_name(name: &str, unit: &str, kind: MetricKind, strategy: Strategy) -> Option<String> {
    let built = match (strategy.escapes(), strategy.adds_suffixes()) {
        (true, true) => escaped_with_suffixes(name, unit, kind),
        (true, false) => {
            let kept = |c: char| c.is_ascii_alphanumeric() || c == ':' || c == '_';
            tokens(name, kept).join("_")
        }
        (false, true) => with_suffixes(name, unit, kind),
        (false, false) => name.to_owned(),
    };
    let built = match strategy.escapes() && built.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("_{built}"),
        false => built,
    };
    let says_something = built == name || built.chars().any(|c| c != '_');
    (!built.is_empty() && says_something).then_some(built)
}

fn tokens(text: &str, kept: impl Fn(char) -> bool) -> Vec<&str> {
    text.split(|c| !kept(c)).filter(|token| !token.is_empty()).collect()
}

fn escaped_with_suffixes(name: &str, unit: &str, kind: MetricKind) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == ':';
    let mut parts = tokens(name, plain);
    let (main, per) = unit_words(unit);
    let (main, per) = (clean(&main), clean(&per));
    let main = main.trim_end_matches('_');
    let per = if per == "per_" { "" } else { per.trim_end_matches('_') };
    let known = |parts: &[&str], word: &str| word.is_empty() || parts.contains(&word);
    let (has_main, has_per) = (known(&parts, main), known(&parts, per));
    if !has_main {
        parts.push(main);
    }
    if !has_per {
        parts.push(per);
    }
    let at_end = match kind {
        MetricKind::Counter => Some("total"),
        // Counters of things are often given the unit 1, though they are no ratios.
        MetricKind::Gauge if unit.trim() == "1" => Some("ratio"),
        _ => None,
    };
    if let Some(suffix) = at_end {
        parts.retain(|part| *part != suffix);
        parts.push(suffix);
    }
    parts.join("_")
}

/// Suffixes on a name that keeps its characters: one that is there already is not put there again.
fn with_suffixes(name: &str, unit: &str, kind: MetricKind) -> String {
    let mut built = name.to_owned();
    let mut behind: Vec<String> = Vec::new();
    if unit.trim() == "1" && kind == MetricKind::Gauge {
        trim_suffix(&mut built, "ratio");
        behind.push("ratio".to_owned());
    }
    if kind == MetricKind::Counter {
        trim_suffix(&mut built, "total");
        behind.push("total".to_owned());
    }
    let (main, per) = unit_words(unit);
    if !per.is_empty() {
        trim_suffix(&mut built, &per);
        behind.push(per);
    }
    if !main.is_empty() && !built.ends_with(&main) {
        behind.push(main);
    }
    for suffix in behind.into_iter().rev() {
        built.push('_');
        built.push_str(&suffix);
    }
    built
}

/// The suffix and the character before it.
fn trim_suffix(name: &mut String, suffix: &str) {
    if let Some(before) = name.strip_suffix(suffix).and_then(|before| before.char_indices().last().map(|(i, _)| i))
        && before > 0
    {
        name.truncate(before);
    }
}

/// `m/s` is `meters` and `per_second`; what stands in braces is an annotation and no unit.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let word = |unit: &str, words: &[(&str, &str)]| {
        let unit = unit.trim();
        match unit.contains(['{', '}']) {
            true => String::new(),
            false => words.iter().find(|(u, _)| *u == unit).map_or(unit, |(_, word)| word).to_owned(),
        }
    };
    let per = word(per, &PER_UNITS);
    (word(main, &UNITS), if per.is_empty() { per } else { format!("per_{per}") })
}

fn clean(unit: &str) -> String {
    let mut cleaned = String::new();
    for c in unit.chars().map(|c| if c.is_ascii_alphanumeric() || c == ':' { c } else { '_' }) {
        if c != '_' || !cleaned.ends_with('_') {
            cleaned.push(c);
        }
    }
    cleaned.trim_start_matches('_').to_owned()
}

/// A label's name.
pub fn label_name(name: &str, strategy: Strategy) -> String {
    if !strategy.escapes() || name.is_empty() {
        return name.to_owned();
    }
    let escaped: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    match escaped.as_bytes() {
        [b'0'..=b'9', ..] => format!("key_{escaped}"),
        // Two underscores are Prometheus' own.
        [b'_', second, ..] if *second != b'_' => format!("key{escaped}"),
        [b'_'] => format!("key{escaped}"),
        _ => escaped,
    }
}
