//! No text makes the engine panic, and what it prints it can read.

use promql::{Engine, Limits, Options, Series, Source, SourceError, Stop, Syntax, parse_with};
use proptest::prelude::*;
use telemetry::{Labels, Matcher, Timestamp};

struct Few;

impl Source for Few {
    fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Result<Vec<Series>, SourceError> {
        let series = ["a", "b"].map(|job| {
            let labels = Labels::from_pairs([("__name__", "foo"), ("job", job), ("le", "1")]);
            let samples = (0..20).map(|i| (Timestamp::from_millis(i * 30_000), f64::from(i as i32)));
            let within = samples.filter(|(ts, _)| *ts > start && *ts <= end).collect();
            Series { labels, samples: within }
        });
        let accepts = |s: &Series| matchers.iter().all(|m| m.matches(s.labels.get(&m.name).unwrap_or_default()));
        Ok(series.into_iter().filter(accepts).collect())
    }
}

/// Parses, prints, parses again, evaluates: errors are fine, panics and differences are not.
fn exercise(text: &str) {
    let Ok(expr) = parse_with(text, Syntax::EXPERIMENTAL) else { return };
    let printed = expr.to_string();
    let again = parse_with(&printed, Syntax::EXPERIMENTAL)
        .unwrap_or_else(|error| panic!("{text:?} prints as {printed:?}: {error}"));
    // Infinity is printed with a sign, as Prometheus prints it, and a sign binds less tightly than a power.
    if !printed.contains("Inf ^") {
        assert_eq!(again.to_string(), printed, "{text:?}");
    }
    let engine = Engine::new(Limits { max_samples: 20_000, ..Limits::default() });
    let calls = std::sync::atomic::AtomicU32::new(0);
    let stop = || (calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 10_000).then_some(Stop::TimedOut);
    let options = Options { stop: Some(&stop), ..Options::default() };
    let at = Timestamp::from_millis(300_000);
    let _ = engine.instant_with(&expr, &Few, at, options);
    let step = std::time::Duration::from_secs(60);
    let _ = engine.range_with(&expr, &Few, Timestamp::from_millis(0), at, step, options);
}

const TOKENS: [&str; 88] = [
    "foo",
    "foo{job=\"a\"}",
    "{__name__=~\".+\"}",
    "1",
    "0x1F",
    "-2.5e3",
    "Inf",
    "NaN",
    "5m",
    "1h30m",
    "\"text\"",
    "'a'",
    "`b`",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "=~",
    "!~",
    "=",
    "@",
    "</",
    ">/",
    "and",
    "or",
    "unless",
    "atan2",
    "bool",
    "on",
    "ignoring",
    "(job)",
    "()",
    "group_left",
    "group_right",
    "fill(1)",
    "by",
    "without",
    "sum",
    "avg",
    "topk",
    "quantile",
    "count_values",
    "limitk",
    "rate(",
    "increase(foo[5m])",
    "histogram_quantile(0.9, ",
    "label_replace(",
    "absent(",
    "time()",
    "start()",
    "end()",
    "step()",
    "range()",
    "offset",
    "anchored",
    "smoothed",
    "[5m]",
    "[5m:1m]",
    "[5m:]",
    "max_of(",
    "job",
    "le",
    "#comment\n",
    "\n",
    " ",
    "vector(1)",
    "scalar(foo)",
    "foo[5m:30s]",
    "holt",
    "sort_desc(",
    "clamp(foo, 0, 1)",
    "info(foo)",
];

/// `PROPTEST_CASES`, or 2000.
fn cases() -> u32 {
    std::env::var_os("PROPTEST_CASES").and_then(|n| n.to_str()?.parse().ok()).unwrap_or(2000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn random_texts_are_refused_or_evaluated(text in ".{0,60}") {
        exercise(&text);
        let _ = promql::parse_series(&text);
    }

    #[test]
    fn random_tokens_are_refused_or_evaluated(tokens in prop::collection::vec(prop::sample::select(&TOKENS[..]), 0..14)) {
        exercise(&tokens.join(" "));
        let _ = promql::parse_series(&tokens.join(" "));
    }

    #[test]
    fn random_series_descriptions_are_refused_or_read(text in "[a-z_]{0,4}(\\{[a-z=\", ]{0,10}\\})?[ 0-9x+_{}:a-z\\[\\]-]{0,40}") {
        let _ = promql::parse_series(&text);
        let _ = promql::promqltest::run(&format!("load 1m\n  {text}\n\neval instant at 1m {text}\n  {text}\n"));
    }
}

#[test]
fn huge_queries_end_in_errors_and_quickly() {
    for unit in ["a+", "(", "[", "{a=\"b\",", "-", "sum(", "a[1m:", "\"", "rate(a[", "1 ", "a or ", "by(", "0x", "@"] {
        let text = unit.repeat((1 << 20) / unit.len());
        assert!(parse_with(&text, Syntax::EXPERIMENTAL).is_err(), "{unit}");
        let text = unit.repeat(400_000 / unit.len());
        assert!(parse_with(&text, Syntax::EXPERIMENTAL).is_err(), "{unit}");
    }
}
