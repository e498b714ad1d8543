//! The query language.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ::telemetry::Timestamp;
use promql::{
    Engine, EvalError, Expr, Limits, Options, PointSeries, SeriesTable, SeriesValue, Stop, Syntax, parse_series,
    parse_with,
};

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "promql_lex", run: lex, seeds: TOKENS },
    Target { name: "promql_parse", run: parse, seeds: EXPRESSIONS },
    Target { name: "promql_print", run: print, seeds: EXPRESSIONS },
    Target { name: "promql_series", run: series, seeds: SERIES },
    Target { name: "promql_regex", run: regex, seeds: PATTERNS },
    Target { name: "promql_evaluate", run: evaluate, seeds: QUERIES },
];

const EXPRESSIONS: &[&[u8]] = &[
    b"sum by (job) (rate(http_requests_total{status=~\"5..\", path!=\"/health\"}[5m] offset 1h))",
    b"a / on (instance) group_left (version) b > bool 0.5 unless c @ end()",
    b"histogram_quantile(0.99, sum by (le) (rate(x_bucket[5m:30s])))",
    b"quantile_over_time(0.9, {__name__=~\"node_.+\", \"utf8 name\"=\"\\u00e9\"}[1h30m]) ^ -2",
    b"increase(x[5m * 2 + step()] anchored) + fill_left (0) y offset -(1m)",
];

const TOKENS: &[&[u8]] = &[
    b"1h30m 0x1F 1e-3 .5 Inf nan 07 1_000 \"a\\x41\\u00e9\" 'b' `c` # note\n",
    b"a:b{c=~'d'} [5m:30s] @ -1.5 ( ) , == != >= <= =~ !~ ^ % </ >/",
    b"by without on ignoring group_left group_right bool offset atan2 and or unless start end",
];

const SERIES: &[&[u8]] = &[
    b"x{a=\"b\"} 1+2x3 _x2 stale -Inf NaN 5-1x4",
    b"h {{schema:1 count:5 sum:20 z_bucket:2 z_bucket_w:0.1 buckets:[1 2 1 1] offset:-2 n_buckets:[1]}}+{{sum:1}}x3",
];

const PATTERNS: &[&[u8]] =
    &[b"(?i)api-[0-9]{1,3}(\\.[a-z]+)?|^web$|\\d\\D\\w\\W\\s\\pL[[:alpha:]]\napi-1.x", b"foo|bar|foobar.*\nfoobar"];

const QUERIES: &[&[u8]] = &[
    b"sum by (job) (rate(c_total[2m])) / ignoring (a) group_left count(g) by (job)",
    b"histogram_quantile(0.9, h) or topk(2, g) unless on (job) c_total @ 300",
    b"max_over_time((g * 2)[5m:15s]) > bool -1 + label_replace(g, \"x\", \"$1\", \"job\", \"(.*)\")",
    b"predict_linear(g[2m], 60) + deriv(c_total[1m] offset -1m)",
];

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// The scanner meets any text whatever, in a selector's place and in an expression's.
fn lex(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let _ = promql::parse_selector(text);
    if let Err(error) = parse_with(text, Syntax::EXPERIMENTAL) {
        assert!(error.span.start <= error.span.end.max(text.len()), "{error:?}");
        assert!(!error.to_string().is_empty());
    }
}

/// What the stable syntax takes, the experimental one takes in the same way.
fn parse(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(expr) = promql::parse(text) {
        let again = parse_with(text, Syntax::EXPERIMENTAL).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(again.to_string(), expr.to_string());
    }
}

/// What is printed parses to what was printed, in one line and in several.
fn print(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(expr) = parse_with(text, Syntax::EXPERIMENTAL) else { return };
    let printed = expr.to_string();
    for form in [&printed, &expr.pretty()] {
        let again = parse_with(form, Syntax::EXPERIMENTAL);
        let again = again.unwrap_or_else(|error| panic!("{form:?} was printed: {error}"));
        assert_eq!(again.to_string(), printed, "printing is not stable");
    }
}

fn series(data: &[u8]) {
    if let Some(Ok(description)) = text(data).map(parse_series) {
        assert!(description.labels.encoded().len() < usize::MAX / 2);
    }
}

/// A pattern and, behind the first line's end, a text: fast paths must agree with the engine that has none.
fn regex(data: &[u8]) {
    let Some((pattern, value)) = text(data).and_then(|text| text.split_once('\n')) else { return };
    let Ok(anchored) = ::telemetry::matcher::anchored(pattern) else { return };
    let matcher = ::telemetry::Matcher::new("a", ::telemetry::MatchOp::Regex, pattern);
    let matcher = matcher.unwrap_or_else(|error| panic!("{pattern:?} compiles once only: {error}"));
    assert_eq!(matcher.matches(value), anchored.is_match(value), "{pattern:?} on {value:?}");
}

static TABLES: LazyLock<[SeriesTable; 2]> = LazyLock::new(|| {
    let described = [
        "c_total{job=\"a\",i=\"1\"} 0+3x30 2+5x10",
        "c_total{job=\"b\",i=\"2\"} 7 _x3 8+1x20 stale 4x5",
        "g{job=\"a\",i=\"1\"} 1 -2 3 NaN 4 Inf 2x30",
        "g{job=\"b\"} 5-0.25x40",
        "h_bucket{le=\"1\"} 0+1x40",
        "h_bucket{le=\"+Inf\"} 0+2x40",
        "h {{schema:1 count:5 sum:20 buckets:[1 2 1 1]}}+{{schema:1 count:2 sum:1 buckets:[1 1]}}x40",
    ];
    let series = described.map(|text| {
        let described = parse_series(text).expect("the descriptions above are valid");
        let mut points = PointSeries { labels: described.labels, ..PointSeries::default() };
        for (i, value) in (0..).zip(described.values) {
            let ts = Timestamp::from_millis(i * 15_000);
            match value {
                SeriesValue::Float(value) => points.floats.push((ts, value)),
                SeriesValue::Histogram { histogram, .. } => points.histograms.push((ts, histogram)),
                SeriesValue::Omitted => {}
            }
        }
        points
    });
    [SeriesTable::new(series.clone()), SeriesTable::new(series).copies_only()]
});

/// Both ways to an answer give the same, or both an error; within the limits and the time.
fn evaluate(data: &[u8]) {
    let Some(Ok(expr)) = text(data).map(|text| parse_with(text, Syntax::EXPERIMENTAL)) else { return };
    let limits = Limits { max_samples: 20_000, max_bytes: 16 << 20, ..Limits::default() };
    let engine = Engine::new(limits);
    let answers = TABLES.each_ref().map(|table| {
        let deadline = Instant::now() + Duration::from_secs(2);
        let stop = || (Instant::now() > deadline).then_some(Stop::TimedOut);
        answer(&engine, &expr, table, &stop)
    });
    if let [Some(columns), Some(copies)] = answers {
        assert_eq!(columns, copies, "{expr}");
    }
}

/// The answer in words; none where the time was up.
fn answer(
    engine: &Engine,
    expr: &Expr,
    table: &SeriesTable,
    stop: &(dyn Fn() -> Option<Stop> + Sync),
) -> Option<String> {
    let options = Options { stop: Some(stop), ..Options::default() };
    let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
    let instant = engine.instant_with(expr, table, at(400), options);
    let range = engine.range_with(expr, table, at(100), at(500), Duration::from_secs(40), options);
    if [&instant, &range].iter().any(|answer| matches!(answer, Err(EvalError::TimedOut))) {
        return None;
    }
    let values = |answer: Result<promql::Answer, EvalError>| answer.map(|a| (a.value, a.warnings, a.infos));
    Some(format!("{:?} {:?}", values(instant), values(range)))
}
