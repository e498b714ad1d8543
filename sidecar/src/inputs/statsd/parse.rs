//! The lines of statsd and DogStatsD.
//!
//! `name:value[:value…]|type[|@rate][|#tag:value,tag…][|c:…][|T…]…`, `_e{…}` for an event, `_sc|…` for a service check.

/// What a line says.
#[derive(Debug, PartialEq)]
pub enum Line<'a> {
    Metric(Metric<'a>),
    Event,
    ServiceCheck,
}

#[derive(Debug, PartialEq)]
pub struct Metric<'a> {
    pub name: &'a str,
    pub values: Values<'a>,
    pub kind: Kind,
    /// In (0, 1]; each value stands for `1 / rate` of them.
    pub rate: f64,
    pub tags: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Count,
    Gauge,
    /// Milliseconds.
    Timer,
    /// `h` and `d`: summed up the same way here.
    Histogram,
    Set,
}

/// One or several, separated by colons.
#[derive(Clone, Debug, PartialEq)]
pub struct Values<'a>(&'a str);

impl<'a> Values<'a> {
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.split(':')
    }
}

/// No name or tag that means anything is longer.
const NAME_MAX: usize = 200;

/// None for what is no line of statsd.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let line = std::str::from_utf8(line).ok()?;
    if line.starts_with("_e{") {
        return Some(Line::Event);
    }
    if line.starts_with("_sc|") {
        return Some(Line::ServiceCheck);
    }
    let (name, rest) = line.split_once(':')?;
    if name.is_empty() || name.len() > NAME_MAX || name.contains(['|', '\0']) {
        return None;
    }
    let mut parts = rest.split('|');
    let values = parts.next().filter(|values| !values.is_empty())?;
    let kind = match parts.next()? {
        "c" => Kind::Count,
        "g" => Kind::Gauge,
        "ms" => Kind::Timer,
        "h" | "d" => Kind::Histogram,
        "s" => Kind::Set,
        _ => return None,
    };
    let (mut rate, mut tags) = (1.0, "");
    for part in parts {
        match part.split_at_checked(1) {
            Some(("@", text)) => rate = text.parse().ok().filter(|rate| *rate > 0.0 && *rate <= 1.0)?,
            Some(("#", text)) => tags = text,
            // Container ids, times of sending, cardinality: known and of no use here. What is unknown is newer.
            _ => {}
        }
    }
    Some(Line::Metric(Metric { name, values: Values(values), kind, rate, tags }))
}

/// `key:value` pairs; a tag without a value says that it is there.
pub fn tags(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(',').map(|tag| tag.split_once(':').unwrap_or((tag, "true"))).filter(|(key, _)| !key.is_empty())
}

/// A name that every Prometheus takes: what is no letter, digit or underscore becomes an underscore.
pub fn plain_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let mut out: String = name.chars().map(plain).collect();
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read<'a> = (String, Vec<&'a str>, Kind, f64, Vec<(&'a str, &'a str)>);

    fn metric(line: &str) -> Option<Read<'_>> {
        match parse(line.as_bytes())? {
            Line::Metric(m) => {
                Some((plain_name(m.name), m.values.iter().collect(), m.kind, m.rate, tags(m.tags).collect()))
            }
            _ => None,
        }
    }

    #[test]
    fn lines_are_read_as_datadog_writes_them() {
        for (line, name, values, kind, rate, tags) in [
            ("page.views:1|c", "page_views", vec!["1"], Kind::Count, 1.0, vec![]),
            (
                "fuel.level:0.5|g|#env:prod,canary",
                "fuel_level",
                vec!["0.5"],
                Kind::Gauge,
                1.0,
                vec![("env", "prod"), ("canary", "true")],
            ),
            ("song.length:240|h|@0.5", "song_length", vec!["240"], Kind::Histogram, 0.5, vec![]),
            ("users.uniques:1234|s|c:ci-0123", "users_uniques", vec!["1234"], Kind::Set, 1.0, vec![]),
            ("d:1:2.5:3|d|#a:b:c|T1656581400", "d", vec!["1", "2.5", "3"], Kind::Histogram, 1.0, vec![("a", "b:c")]),
            ("1st-t:12|ms", "_1st_t", vec!["12"], Kind::Timer, 1.0, vec![]),
            ("g:-3|g|e:it-false,cn-x|card:low", "g", vec!["-3"], Kind::Gauge, 1.0, vec![]),
        ] {
            assert_eq!(metric(line), Some((name.to_owned(), values, kind, rate, tags)), "{line}");
        }
        assert_eq!(parse(b"_e{5,4}:title|text|#a:b"), Some(Line::Event));
        assert_eq!(parse(b"_sc|Redis connection|2|#env:dev"), Some(Line::ServiceCheck));
    }

    #[test]
    fn what_is_no_line_is_none() {
        for line in ["", "a", "a:", "a:1", ":1|c", "a:1|x", "a:1|c|@0", "a:1|c|@2", "a:1|c|@x", "a|b:1|c"] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
        assert_eq!(parse(b"a\xff:1|c"), None);
    }
}
