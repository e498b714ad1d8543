//! Random queries over random series, compared with the answers of an installed Prometheus (`promtool test rules`).
//!
//! Prometheus 2 takes windows closed on the left, we (as Prometheus 3) open: times and ranges are chosen so that
//! no sample lies on an edge. Counters never come near zero, for Prometheus 3.x extrapolates to it differently.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use promql::{Engine, Series, SeriesValue, Source, SourceError, Value, parse, parse_series};
use telemetry::{Labels, Matcher, Timestamp};

const CASES: usize = 600;
const SEED: u64 = 20_261_120;
const INTERVAL_MS: i64 = 15_000;
/// 7 seconds past a sample; ranges are 3, 4 or 11 seconds past one.
const TIMES: [&str; 4] = ["7m7s", "9m22s", "12m37s", "15m52s"];
const RANGES: [&str; 4] = ["1m3s", "2m4s", "5m11s", "3m19s"];

/// A small generator of numbers (xorshift64*), the same on every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    pub(crate) fn pick<'a>(&mut self, options: &[&'a str]) -> &'a str {
        options[self.below(options.len())]
    }
}

pub(crate) fn descriptions(random: &mut Random) -> Vec<(String, String)> {
    let mut series = Vec::new();
    for job in ["api", "web"] {
        for instance in ["0", "1", "2"] {
            let labels = format!("{{job=\"{job}\",instance=\"{instance}\"}}");
            series.push((format!("c_total{labels}"), values(random, true)));
            series.push((format!("g{labels}"), values(random, false)));
            if instance != "2" {
                series.push((format!("h{labels}"), values(random, false)));
            }
        }
        let mut counts = [1000.0; 80];
        for le in ["0.1", "0.5", "1", "+Inf"] {
            let mut text = String::new();
            for count in &mut counts {
                *count += random.below(20) as f64;
                let _ = write!(text, "{count} ");
            }
            series.push((format!("d_bucket{{job=\"{job}\",le=\"{le}\"}}"), text));
        }
        series.push((format!("i{{job=\"{job}\",version=\"v{}\"}}", random.below(9)), "1x80".to_owned()));
    }
    series
}

fn values(random: &mut Random, counter: bool) -> String {
    let mut text = String::new();
    let mut value = 1000.0;
    let mut holes = 0;
    for _ in 0..80 {
        match random.below(20) {
            0 | 1 if holes < 2 => {
                holes += 1;
                text.push_str("_ ");
                continue;
            }
            2 if counter => value = 500.0 + random.below(50) as f64,
            _ if counter => value += random.below(10) as f64,
            _ => value = random.below(4000) as f64 / 16.0 - 100.0,
        }
        holes = 0;
        let _ = write!(text, "{value} ");
    }
    text
}

pub(crate) fn vector(random: &mut Random, depth: usize) -> String {
    let range = random.pick(&RANGES);
    match random.below(if depth == 0 { 7 } else { 20 }) {
        0 => selector(random),
        1 => format!("{} offset {}", selector(random), random.pick(&["1m", "30s", "-15s"])),
        2 => {
            let function = random.pick(&["rate", "increase", "irate", "resets", "changes"]);
            format!("{function}(c_total{}[{range}])", matchers(random))
        }
        3 => {
            let function =
                random.pick(&["delta", "idelta", "deriv", "changes", "count_over_time", "present_over_time"]);
            format!("{function}(g{}[{range}])", matchers(random))
        }
        4 => {
            let function = random.pick(&["sum", "avg", "min", "max", "stddev", "stdvar", "last", "count"]);
            format!("{function}_over_time({}[{range}])", selector(random))
        }
        5 => format!("quantile_over_time(0.{}, g[{range}])", random.below(10)),
        6 => format!("histogram_quantile(0.{}, d_bucket)", random.below(10)),
        7 | 8 => aggregation(random, depth),
        9..=12 => binary(random, depth),
        13 => {
            let function = random.pick(&["abs", "ceil", "floor", "sgn", "sqrt", "exp", "-", "ln", "log2"]);
            format!("{function}({})", vector(random, depth - 1))
        }
        14 => format!("clamp({}, -5, {})", vector(random, depth - 1), random.below(100)),
        15 => {
            let inner = vector(random, depth - 1);
            format!("{}_over_time(({inner})[{range}:30s])", random.pick(&["sum", "max", "count", "avg"]))
        }
        16 => format!("label_replace({}, \"x\", \"$1-y\", \"job\", \"(.)(.*)\")", vector(random, depth - 1)),
        17 => format!("round({}, 0.{})", vector(random, depth - 1), 1 + random.below(9)),
        18 => format!("histogram_quantile(0.{}, sum by (le) (rate(d_bucket[{range}])))", random.below(10)),
        _ => format!("({}) @ {}", selector(random), 100 + random.below(300)).replace(['(', ')'], ""),
    }
}

fn selector(random: &mut Random) -> String {
    format!("{}{}", random.pick(&["c_total", "g", "h"]), matchers(random))
}

fn matchers(random: &mut Random) -> &'static str {
    random.pick(&["", "{job=\"api\"}", "{instance=~\"0|1\"}", "{instance!=\"1\",job=~\"w.*\"}", "{instance!~\"[12]\"}"])
}

fn aggregation(random: &mut Random, depth: usize) -> String {
    let inner = vector(random, depth - 1);
    let grouping = random.pick(&["", " by (job)", " without (instance)", " by (instance, job)", " by (absent)"]);
    match random.below(8) {
        // Which of equal values wins is not the same in all versions: means of random values are never equal. Nor
        // is the last digit of a mean, which must not decide whether it is negative.
        0 | 1 => {
            let (op, k) = (random.pick(&["topk", "bottomk"]), 1 + random.below(3));
            format!("{op}{grouping} ({k}, avg_over_time(g[{}]) + 500)", random.pick(&RANGES))
        }
        2 => format!("quantile{grouping} (0.{}, {inner})", random.below(10)),
        // The last digit of a mean is not the same in all versions, and here would be part of a label.
        3 => format!("count_values{grouping} (\"v\", {})", selector(random)),
        // Prometheus 2 gives 0 for a group that begins with NaN.
        4 => format!("{}{grouping} ({})", random.pick(&["stddev", "stdvar"]), selector(random)),
        _ => {
            let op = random.pick(&["sum", "avg", "min", "max", "count", "group"]);
            format!("{op}{grouping} ({inner})")
        }
    }
}

fn binary(random: &mut Random, depth: usize) -> String {
    let left = vector(random, depth - 1);
    let arithmetic = random.pick(&["+", "-", "*", "/", "%", ">", "<", ">=", "== bool", "> bool", "!="]);
    match random.below(7) {
        // The last digits of a power are not the same everywhere; small powers of small numbers do no harm.
        6 => format!("({left}) ^ 2"),
        0 => format!("({left}) {arithmetic} {}", random.below(50)),
        1 => format!("{} {arithmetic} ({left})", random.below(50)),
        2 => format!("({left}) {} ({})", random.pick(&["and", "or", "unless"]), vector(random, depth - 1)),
        3 => format!("({left}) {} on (job) ({})", random.pick(&["and", "unless"]), vector(random, depth - 1)),
        4 => format!("({left}) {arithmetic} on (job) group_left (version) i"),
        _ => format!("({left}) {arithmetic} ({})", vector(random, depth - 1)),
    }
}

struct Described(Vec<Series>);

impl Source for Described {
    fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Result<Vec<Series>, SourceError> {
        let accepts = |s: &&Series| matchers.iter().all(|m| m.matches(s.labels.get(&m.name).unwrap_or_default()));
        let cut = |s: &Series| Series {
            labels: s.labels.clone(),
            samples: s.samples.iter().copied().filter(|(ts, _)| *ts > start && *ts <= end).collect(),
        };
        Ok(self.0.iter().filter(accepts).map(cut).collect())
    }
}

fn source(descriptions: &[(String, String)]) -> Described {
    let mut all: Vec<Series> = descriptions
        .iter()
        .map(|(series, values)| {
            let description = parse_series(&format!("{series} {values}")).unwrap();
            let samples = (0..).zip(&description.values).filter_map(|(i, value)| match value {
                SeriesValue::Float(value) => Some((Timestamp::from_millis(i * INTERVAL_MS), *value)),
                _ => None,
            });
            Series { labels: description.labels, samples: samples.collect() }
        })
        .collect();
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    Described(all)
}

/// A result by labels, or none where the query fails on this data.
type Answered = Option<BTreeMap<String, f64>>;

fn ours(query: &str, time: &str, source: &Described) -> Answered {
    let expr = parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let at = Timestamp::from_millis(telemetry::duration::parse(time).unwrap().as_millis() as i64);
    match Engine::default().instant(&expr, source, at).ok()?.value {
        Value::Vector(samples) => Some(samples.into_iter().map(|s| (in_braces(&s.labels), s.value)).collect()),
        Value::Scalar { value, .. } => Some(BTreeMap::from([("{}".to_owned(), value)])),
        other => panic!("{query} gives {other:?}"),
    }
}

fn in_braces(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// Asks promtool: each expression is expected to give nothing, and promtool says what it got instead.
fn theirs(cases: &[(String, &str)], descriptions: &[(String, String)]) -> Vec<Answered> {
    let mut yaml = "evaluation_interval: 1m\ntests:\n- interval: 15s\n  input_series:\n".to_owned();
    for (series, values) in descriptions {
        let _ = writeln!(yaml, "  - series: '{series}'\n    values: '{values}'");
    }
    // promtool loads samples up to the last whole minute that it is asked about.
    yaml.push_str("  promql_expr_test:\n  - expr: 'vector(1)'\n    eval_time: 19m\n");
    for (query, time) in cases {
        let _ = writeln!(yaml, "  - expr: '{}'\n    eval_time: {time}", query.replace('\'', "''"));
    }
    let file = std::env::temp_dir().join(format!("picket-promql-{}.yml", std::process::id()));
    std::fs::write(&file, yaml).unwrap();
    let output = Command::new("promtool").args(["test", "rules"]).arg(&file).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let mut reported: BTreeMap<(String, String), Answered> = BTreeMap::new();
    let mut current = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("expr: ") {
            let (query, rest) = quoted(rest);
            let time = rest.trim_start_matches(", time: ").split(',').next().unwrap().to_owned();
            if rest.contains("err:") {
                reported.insert((query, time), None);
            } else {
                current = Some((query, time));
            }
        } else if let Some(got) = line.strip_prefix("got:")
            && let Some(case) = current.take()
        {
            reported.insert(case, Some(samples(got)));
        }
    }
    let answer = |(query, time): &(String, &str)| {
        // What gives nothing, as expected, is not reported.
        reported.get(&(query.clone(), (*time).to_owned())).cloned().unwrap_or_else(|| Some(BTreeMap::new()))
    };
    cases.iter().map(answer).collect()
}

/// A Go-quoted text at the beginning, and what follows it.
fn quoted(text: &str) -> (String, &str) {
    let mut chars = text.char_indices().skip(1);
    let mut out = String::new();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => out.push(chars.next().unwrap().1),
            '"' => return (out, &text[i + 1..]),
            c => out.push(c),
        }
    }
    (out, "")
}

/// `{a="b"} 1E+00, {…} 2E+00`
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while let Some(end) = rest.find("} ") {
        let labels = rest[..=end].trim_start_matches([',', ' ']).to_owned();
        let value = rest[end + 2..].split(',').next().unwrap();
        rest = &rest[end + 2 + value.len()..];
        found.insert(labels, value.trim().parse().unwrap_or(f64::NAN));
    }
    found
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) || (a - b).abs() < 1e-10
}

fn same(a: &Answered, b: &Answered) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.0 == y.0 && close(*x.1, *y.1)),
        _ => false,
    }
}

#[test]
fn random_queries_have_the_answers_of_prometheus() {
    let missing = Command::new("promtool").arg("--version").output().is_err();
    if missing {
        assert!(std::env::var_os("CI").is_none(), "promtool is not installed (Debian package prometheus)");
        eprintln!("skipped: promtool is not installed, so answers are not compared with Prometheus'");
        return;
    }
    let cases_wanted = std::env::var_os("PICKET_PROMQL_CASES");
    let count = cases_wanted.and_then(|n| n.to_str()?.parse().ok()).unwrap_or(CASES);
    let mut random = Random(SEED);
    let mut differences = Vec::new();
    for batch in 0..count.div_ceil(100) {
        let descriptions = descriptions(&mut random);
        let source = source(&descriptions);
        let cases: Vec<(String, &str)> = (0..100).map(|_| (vector(&mut random, 3), random.pick(&TIMES))).collect();
        for ((query, time), theirs) in cases.iter().zip(theirs(&cases, &descriptions)) {
            let ours = ours(query, time, &source);
            if !same(&ours, &theirs) {
                differences.push(format!("batch {batch}, at {time}: {query}\n  we: {ours:?}\n  they: {theirs:?}"));
            }
        }
    }
    let shown = differences.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "seed {SEED}: {} of {count} differ:\n{shown}", differences.len());
}
