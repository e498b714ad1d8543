//! Prometheus' template functions (prometheus template/template.go) beside those of Go's text/template.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use gotmpl::{FuncMap, TemplateError, Value, ValueFunc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use promql::{Histogram, VectorSample};

use super::go_format::{four_digits, shortest};
use super::{Globals, Queries};

/// Appended to every printing action.
pub(super) const PRINT: &str = "__print";
/// Wrapped round every field access.
pub(super) const ZERO: &str = "__zero";
/// The key of a query sample that `strvalue` reads.
const VALUE_LABEL: &str = "__value__";

type Outcome = Result<Value, TemplateError>;

/// Every function a template may call, bound to the configuration and to the answers of `query`.
pub(super) fn all(globals: &Globals, queries: &Arc<Mutex<Queries>>) -> FuncMap {
    let mut map = FuncMap::new();
    engine(&mut map);
    samples(&mut map, queries);
    text(&mut map);
    links(&mut map, globals);
    numbers(&mut map);
    map
}

fn add(map: &mut FuncMap, name: &str, args: usize, call: impl Fn(&[Value]) -> Outcome + Send + Sync + 'static) {
    let label = name.to_owned();
    let checked: ValueFunc = Arc::new(move |given: &[Value]| {
        if given.len() != args {
            return Err(TemplateError::ArgCount { name: label.clone(), expected: args, got: given.len() });
        }
        call(given)
    });
    map.insert(name.to_owned(), checked);
}

fn engine(map: &mut FuncMap) {
    add(map, PRINT, 1, |args| Ok(string(as_text(&args[0]))));
    add(map, ZERO, 1, |args| {
        Ok(match &args[0] {
            Value::Nil => string(String::new()),
            other => other.clone(),
        })
    });
    let variadic = |separate: fn(&Value, &Value) -> bool, end: &'static str| -> ValueFunc {
        Arc::new(move |args: &[Value]| {
            let mut text = String::new();
            for (i, arg) in args.iter().enumerate() {
                if i > 0 && separate(&args[i - 1], arg) {
                    text.push(' ');
                }
                text.push_str(&as_text(arg));
            }
            Ok(string(text + end))
        })
    };
    // fmt.Sprint puts a space only between operands of which neither is a string.
    let neither_is_text = |a: &Value, b: &Value| !matches!(a, Value::String(_)) && !matches!(b, Value::String(_));
    map.insert("print".to_owned(), variadic(neither_is_text, ""));
    map.insert("println".to_owned(), variadic(|_, _| true, "\n"));
    let args: ValueFunc = Arc::new(|args: &[Value]| {
        let numbered = args.iter().enumerate().map(|(i, arg)| (Arc::from(format!("arg{i}")), arg.clone()));
        Ok(Value::Map(Arc::new(numbered.collect())))
    });
    map.insert("args".to_owned(), args);
    add(map, "safeHtml", 1, |args| Ok(string(as_text(&args[0]))));
    add(map, "now", 0, |_| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Value::Float(since.as_secs_f64()))
    });
}

fn samples(map: &mut FuncMap, queries: &Arc<Mutex<Queries>>) {
    let queries = queries.clone();
    add(map, "query", 1, move |args| {
        let expr = as_text(&args[0]);
        let mut queries = queries.lock().expect("no one panics holding it");
        match queries.answers.get(&expr) {
            Some(Ok(vector)) => Ok(Value::List(vector.iter().map(sample).collect())),
            Some(Err(why)) => Err(failed(why.clone())),
            None => {
                queries.wanted = Some(expr);
                Err(failed("waiting for the query's answer".to_owned()))
            }
        }
    });
    add(map, "first", 1, |args| match &args[0] {
        Value::List(list) => {
            list.first().cloned().ok_or_else(|| failed("first() called on vector with no elements".into()))
        }
        other => Err(mismatch("vector", other)),
    });
    add(map, "label", 2, |args| Ok(string(sample_label(&args[1], &as_text(&args[0]))?)));
    add(map, "value", 1, |args| args[0].field("Value").cloned().ok_or_else(|| mismatch("sample", &args[0])));
    add(map, "strvalue", 1, |args| Ok(string(sample_label(&args[0], VALUE_LABEL)?)));
    add(map, "sortByLabel", 2, |args| {
        let Value::List(list) = &args[1] else { return Err(mismatch("vector", &args[1])) };
        let name = as_text(&args[0]);
        let mut sorted = list.to_vec();
        sorted.sort_by_cached_key(|sample| sample_label(sample, &name).unwrap_or_default());
        Ok(Value::List(sorted.into()))
    });
}

fn text(map: &mut FuncMap) {
    add(map, "title", 1, |args| Ok(string(title(&as_text(&args[0])))));
    add(map, "toUpper", 1, |args| Ok(string(as_text(&args[0]).to_uppercase())));
    add(map, "toLower", 1, |args| Ok(string(as_text(&args[0]).to_lowercase())));
    add(map, "match", 2, |args| Ok(Value::Bool(regex(&args[0])?.is_match(&as_text(&args[1])))));
    add(map, "reReplaceAll", 3, |args| {
        let (pattern, replacement, text) = (regex(&args[0])?, as_text(&args[1]), as_text(&args[2]));
        Ok(string(pattern.replace_all(&text, replacement.as_str()).into_owned()))
    });
    add(map, "stripPort", 1, |args| {
        let address = as_text(&args[0]);
        Ok(string(split_host_port(&address).map_or(address.clone(), |(host, _)| host.to_owned())))
    });
    add(map, "stripDomain", 1, |args| Ok(string(strip_domain(&as_text(&args[0])))));
}

fn links(map: &mut FuncMap, globals: &Globals) {
    let external = globals.external_url.as_str().trim_end_matches('/').to_owned();
    let prefix = globals.external_url.path().trim_end_matches('/').to_owned();
    add(map, "externalURL", 0, move |_| Ok(string(external.clone())));
    add(map, "pathPrefix", 0, move |_| Ok(string(prefix.clone())));
    add(map, "graphLink", 1, |args| Ok(string(graph_link(&as_text(&args[0])))));
    add(map, "tableLink", 1, |args| Ok(string(table_link(&as_text(&args[0])))));
    add(map, "urlQueryEscape", 1, |args| Ok(string(query_escape(&as_text(&args[0])))));
}

/// `tmpl NAME DATA`: a template of the same text by a computed name.
pub(super) fn add_tmpl(
    map: &mut FuncMap,
    expand: impl Fn(&str, &Value) -> Result<String, String> + Send + Sync + 'static,
) {
    add(map, "tmpl", 2, move |args| expand(&as_text(&args[0]), &args[1]).map(string).map_err(failed));
}

fn numbers(map: &mut FuncMap) {
    add(map, "humanize", 1, |args| Ok(string(humanize(number(&args[0])?))));
    add(map, "humanize1024", 1, |args| Ok(string(humanize_1024(number(&args[0])?))));
    add(map, "humanizeDuration", 1, |args| Ok(string(humanize_duration(number(&args[0])?))));
    add(map, "humanizePercentage", 1, |args| Ok(string(format!("{}%", four_digits(number(&args[0])? * 100.0)))));
    add(map, "humanizeTimestamp", 1, |args| Ok(string(humanize_timestamp(number(&args[0])?))));
    add(map, "toTime", 1, |args| Ok(string(humanize_timestamp(number(&args[0])?))));
    add(map, "toDuration", 1, |args| Ok(string(go_duration(number(&args[0])?))));
    add(map, "parseDuration", 1, |args| {
        let duration = telemetry::duration::parse(&as_text(&args[0])).map_err(|error| failed(error.to_string()))?;
        Ok(Value::Float(duration.as_secs_f64()))
    });
}

fn sample(sample: &VectorSample) -> Value {
    let map = |entries: BTreeMap<Arc<str>, Value>| Value::Map(Arc::new(entries));
    let labels = sample.labels.iter().map(|(n, v)| (Arc::from(n), string(v.to_owned()))).collect();
    let value = value(sample.value, sample.histogram.as_deref());
    map(BTreeMap::from([(Arc::from("Labels"), map(labels)), (Arc::from("Value"), value)]))
}

/// A sample's value; a histogram as the text that it is printed as.
pub(super) fn value(float: f64, histogram: Option<&Histogram>) -> Value {
    histogram.map_or(Value::Float(float), |histogram| string(histogram.to_string()))
}

fn sample_label(sample: &Value, name: &str) -> Result<String, TemplateError> {
    let labels = sample.field("Labels").ok_or_else(|| mismatch("sample", sample))?;
    Ok(labels.field(name).map(as_text).unwrap_or_default())
}

fn as_text(value: &Value) -> String {
    match value {
        Value::Nil => String::new(),
        Value::Float(float) => shortest(*float),
        other => other.to_string(),
    }
}

fn number(value: &Value) -> Result<f64, TemplateError> {
    match value {
        Value::String(text) => {
            text.trim().parse().map_err(|_| failed(format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")))
        }
        other => other.as_float().ok_or_else(|| failed(format!("can't convert {} to float", other.type_name()))),
    }
}

fn string(text: String) -> Value {
    Value::String(text.into())
}

fn failed(why: String) -> TemplateError {
    TemplateError::Exec(why)
}

fn mismatch(expected: &'static str, got: &Value) -> TemplateError {
    TemplateError::TypeMismatch { expected, got: got.type_name() }
}

fn regex(pattern: &Value) -> Result<regex::Regex, TemplateError> {
    let pattern = as_text(pattern);
    regex::Regex::new(&pattern).map_err(|error| failed(format!("invalid regular expression {pattern:?}: {error}")))
}

/// Go's `strings.Title`: upper case after whatever is neither letter, digit nor underscore, an apostrophe included.
fn title(text: &str) -> String {
    let mut previous = ' ';
    let upper = |c: char, previous: char| match previous.is_alphanumeric() || previous == '_' {
        true => vec![c],
        false => c.to_uppercase().collect(),
    };
    text.chars()
        .flat_map(|c| {
            let out = upper(c, previous);
            previous = c;
            out
        })
        .collect()
}

/// Go's net.SplitHostPort: None where it would fail.
fn split_host_port(address: &str) -> Option<(&str, &str)> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return Some((host, rest.strip_prefix(':')?));
    }
    let (host, port) = address.rsplit_once(':')?;
    (!host.contains(':')).then_some((host, port))
}

fn strip_domain(address: &str) -> String {
    let (host, port) = split_host_port(address).unwrap_or((address, ""));
    if host.parse::<IpAddr>().is_ok() {
        return address.to_owned();
    }
    let host = host.split('.').next().unwrap_or_default();
    if port.is_empty() { host.to_owned() } else { format!("{host}:{port}") }
}

/// The path of the page that shows `expr` as a table, as Prometheus puts it into an alert's generatorURL.
pub fn table_link(expr: &str) -> String {
    format!("/graph?g0.expr={}&g0.tab=1", query_escape(expr))
}

fn graph_link(expr: &str) -> String {
    format!("/graph?g0.expr={}&g0.tab=0", query_escape(expr))
}

/// Go's url.QueryEscape.
fn query_escape(text: &str) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');
    utf8_percent_encode(text, KEPT).to_string().replace(' ', "+")
}

const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const BINARY: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return four_digits(value);
    }
    if value.abs() >= 1.0 { scale_down(value, 1000.0, &LARGE) } else { scale_up(value) }
}

fn humanize_1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return four_digits(value);
    }
    scale_down(value, 1024.0, &BINARY)
}

fn scale_down(mut value: f64, base: f64, prefixes: &[&str]) -> String {
    let mut prefix = "";
    for next in prefixes {
        if value.abs() < base {
            break;
        }
        prefix = next;
        value /= base;
    }
    four_digits(value) + prefix
}

fn scale_up(mut value: f64) -> String {
    let mut prefix = "";
    for next in SMALL {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    four_digits(value) + prefix
}

fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return four_digits(value);
    }
    if value == 0.0 {
        return four_digits(value) + "s";
    }
    if value.abs() < 1.0 {
        return scale_up(value) + "s";
    }
    let (sign, value) = if value < 0.0 { ("-", -value) } else { ("", value) };
    let whole = value as i64;
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", four_digits(value)),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, _, _) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}

/// As Go prints a time.Time in UTC: `2015-06-23 13:19:44.128 +0000 UTC`.
fn humanize_timestamp(value: f64) -> String {
    if !value.is_finite() {
        return four_digits(value);
    }
    match jiff::Timestamp::from_nanosecond((value * 1e9).round() as i128) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string(),
        Err(_) => four_digits(value),
    }
}

/// Go's time.Duration, in which `toDuration` answers: `1h0m0s`, `1.5s`.
fn go_duration(seconds: f64) -> String {
    if seconds.abs() < 1.0 {
        return scale_up(seconds) + "s";
    }
    let (sign, seconds) = if seconds < 0.0 { ("-", -seconds) } else { ("", seconds) };
    let whole_minutes = (seconds / 60.0).floor();
    let (hours, minutes, rest) = ((whole_minutes / 60.0).floor(), whole_minutes % 60.0, seconds - whole_minutes * 60.0);
    match (hours > 0.0, minutes > 0.0) {
        (true, _) => format!("{sign}{hours}h{minutes}m{rest}s"),
        (false, true) => format!("{sign}{minutes}m{rest}s"),
        _ => format!("{sign}{rest}s"),
    }
}
