//! Label sets: sorted by name, no empty values, cheap to clone, to compare and to hash.

use std::fmt;
use std::sync::Arc;

/// The label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A sorted set of label pairs. A label with an empty value is the same as no label, so none is kept.
///
/// The whole set is one string: the number of pairs, then each name and value behind its length. One allocation
/// holds a series' labels, equal sets are equal strings, and the string is what the store hashes and writes to disk.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Labels(Arc<str>);

impl Labels {
    pub fn empty() -> Self {
        Labels::default()
    }

    /// Builds a set from pairs in any order; of two pairs with one name the later wins.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        // Stable: among equal names the later pair stays behind the earlier one.
        pairs.sort_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
        let shadowed = |i: usize| pairs.get(i + 1).is_some_and(|(next, _)| next.as_ref() == pairs[i].0.as_ref());
        let kept = (0..pairs.len()).filter(|i| !shadowed(*i)).map(|i| (pairs[i].0.as_ref(), pairs[i].1.as_ref()));
        Labels::from_sorted(kept.filter(|(_, value)| !value.is_empty()))
    }

    /// Pairs sorted by unique names, no value empty.
    fn from_sorted<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let count = pairs.clone().count();
        if count == 0 {
            return Labels::default();
        }
        let texts = pairs.clone().map(|(name, value)| name.len() + value.len());
        let mut text = String::with_capacity(texts.sum::<usize>() + 2 * count + 1);
        push_length(&mut text, count);
        for (name, value) in pairs {
            push_length(&mut text, name.len());
            text.push_str(name);
            push_length(&mut text, value.len());
            text.push_str(value);
        }
        Labels(text.into())
    }

    /// The set as one string; equal sets have equal strings. For hashing and for storing; see [`Labels::from_encoded`].
    pub fn encoded(&self) -> &str {
        &self.0
    }

    /// Reads what [`Labels::encoded`] gave; None for any other string.
    pub fn from_encoded(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Labels::default());
        }
        let (count, mut rest) = split_length(text)?;
        let mut last_name = None;
        for _ in 0..count {
            let (name, after_name) = split_text(rest)?;
            let (value, after_value) = split_text(after_name)?;
            if value.is_empty() || last_name.is_some_and(|last| last >= name) {
                return None;
            }
            last_name = Some(name);
            rest = after_value;
        }
        let labels = Labels(text.into());
        // The encoding must also be the shortest one, or equal sets would differ.
        (count > 0 && rest.is_empty() && Labels::from_sorted(labels.iter()).0 == labels.0).then_some(labels)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.pairs()
    }

    fn pairs(&self) -> Pairs<'_> {
        match split_length(&self.0) {
            Some((remaining, rest)) => Pairs { remaining, rest },
            None => Pairs { remaining: 0, rest: "" },
        }
    }

    /// Each pair as it stands in [`Labels::encoded`]; equal pairs have equal strings. See [`decode_pair`].
    pub fn encoded_pairs(&self) -> impl Iterator<Item = &str> {
        let mut pairs = self.pairs();
        std::iter::from_fn(move || {
            let before = pairs.rest;
            pairs.next()?;
            Some(&before[..before.len() - pairs.rest.len()])
        })
    }

    /// Puts together what [`Labels::encoded_pairs`] gave, in its order.
    pub fn from_encoded_pairs<'a>(pairs: impl ExactSizeIterator<Item = &'a str> + Clone) -> Self {
        let mut text = String::with_capacity(pairs.clone().map(str::len).sum::<usize>() + 1);
        encode_pairs(pairs, &mut text);
        Labels(text.into())
    }

    /// Whether these are exactly the pairs that [`Labels::encoded_pairs`] gives.
    pub fn has_encoded_pairs<'a>(&self, pairs: impl Iterator<Item = &'a str>) -> bool {
        let mut rest = self.pairs().rest;
        for pair in pairs {
            match rest.strip_prefix(pair) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        rest.is_empty()
    }

    pub fn len(&self) -> usize {
        self.iter().len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The set without the metric's name.
    pub fn without_name(&self) -> Labels {
        if self.metric_name().is_none() {
            return self.clone();
        }
        self.retain(|name| name != METRIC_NAME)
    }

    /// The labels whose name `keep` accepts.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) -> Labels {
        let kept: Vec<_> = self.iter().filter(|(name, _)| keep(name)).collect();
        Labels::from_sorted(kept.into_iter())
    }

    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { pairs: self.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }

    /// The set with `name` set to `value`; an empty value removes the label.
    pub fn with(&self, name: &str, value: &str) -> Labels {
        Labels::from_pairs(self.iter().chain([(name, value)]))
    }
}

/// Orders by the first pair that differs, name before value.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Clone)]
struct Pairs<'a> {
    remaining: usize,
    rest: &'a str,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        let (name, rest) = split_text(self.rest)?;
        let (value, rest) = split_text(rest)?;
        self.rest = rest;
        Some((name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Pairs<'_> {}

/// Lengths up to here take one byte; a longer one takes this mark and four bytes of seven bits. All of them are
/// ASCII, so that the whole stays a valid string.
const LONG: u8 = 0x7f;

fn push_length(text: &mut String, length: usize) {
    if length < usize::from(LONG) {
        text.push(char::from(length as u8));
        return;
    }
    text.push(char::from(LONG));
    for shift in [21, 14, 7, 0] {
        text.push(char::from((length >> shift & 0x7f) as u8));
    }
}

fn split_length(text: &str) -> Option<(usize, &str)> {
    let (&first, _) = text.as_bytes().split_first()?;
    if first < LONG {
        return Some((usize::from(first), &text[1..]));
    }
    let (head, rest) = text.split_at_checked(5)?;
    Some((head.bytes().skip(1).fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f)), rest))
}

/// Writes what [`Labels::encoded`] would be of these [`Labels::encoded_pairs`], behind what `text` has already.
pub fn encode_pairs<'a>(pairs: impl ExactSizeIterator<Item = &'a str>, text: &mut String) {
    if pairs.len() > 0 {
        push_length(text, pairs.len());
    }
    pairs.for_each(|pair| text.push_str(pair));
}

/// Name and value of one of [`Labels::encoded_pairs`].
pub fn decode_pair(encoded: &str) -> Option<(&str, &str)> {
    let (name, rest) = split_text(encoded)?;
    let (value, rest) = split_text(rest)?;
    rest.is_empty().then_some((name, value))
}

fn split_text(text: &str) -> Option<(&str, &str)> {
    let (length, rest) = split_length(text)?;
    rest.split_at_checked(length)
}

/// Collects pairs, sorted.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(i) if value.is_empty() => {
                self.pairs.remove(i);
            }
            Ok(i) => value.clone_into(&mut self.pairs[i].1),
            Err(_) if value.is_empty() => {}
            Err(i) => self.pairs.insert(i, (name.to_owned(), value.to_owned())),
        }
        self
    }

    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok().map(|i| self.pairs[i].1.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    pub fn build(self) -> Labels {
        Labels::from_sorted(self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
    }
}

/// As Prometheus prints a series: `name{a="b", c="d"}`; names that are not plain stand in quotes.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric_name();
        let quoted_name = name.filter(|name| !is_plain_name(name, true));
        if quoted_name.is_none() {
            f.write_str(name.unwrap_or_default())?;
        }
        let mut rest = self.iter().filter(|(n, _)| *n != METRIC_NAME).peekable();
        if name.is_some() && quoted_name.is_none() && rest.peek().is_none() {
            return Ok(());
        }
        f.write_str("{")?;
        let mut separator = "";
        if let Some(name) = quoted_name {
            write!(f, "{}", Quoted(name))?;
            separator = ", ";
        }
        for (n, v) in rest {
            f.write_str(separator)?;
            separator = ", ";
            if is_plain_name(n, false) {
                write!(f, "{n}={}", Quoted(v))?;
            } else {
                write!(f, "{}={}", Quoted(n), Quoted(v))?;
            }
        }
        f.write_str("}")
    }
}

/// A name that needs no quotes; only a metric's may have colons.
pub(crate) fn is_plain_name(name: &str, colons: bool) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (colons && b == b':');
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(plain)
}

/// Prints a text between quotes as Go's `%q` does, which is how Prometheus prints label values and matchers.
pub(crate) struct Quoted<'t>(pub(crate) &'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                '\x07' => f.write_str("\\a")?,
                '\x08' => f.write_str("\\b")?,
                '\x0b' => f.write_str("\\v")?,
                '\x0c' => f.write_str("\\f")?,
                c if c.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A JSON object, as the Prometheus API and Alertmanager write label sets.
impl serde::Serialize for Labels {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> serde::Deserialize<'de> for Labels {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = std::collections::BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(Labels::from_pairs(map))
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Self {
        Labels::from_pairs(iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_and_empty_values_vanish() {
        let labels = Labels::from_pairs([("z", "1"), ("a", "x\"y"), ("__name__", "up"), ("gone", "")]);
        assert_eq!(labels.to_string(), r#"up{a="x\"y", z="1"}"#);
        assert_eq!(labels.get("gone"), None);
        assert_eq!(labels.without_name().to_string(), r#"{a="x\"y", z="1"}"#);
        assert_eq!(Labels::from_pairs([("__name__", "up")]).to_string(), "up");
        assert_eq!(Labels::empty().to_string(), "{}");
    }

    #[test]
    fn texts_are_printed_as_prometheus_prints_them() {
        let labels =
            Labels::from_pairs([("__name__", "http.requests"), ("a", "tab\tbell\x07é\x01\u{80}'\\"), ("b.c", "1")]);
        assert_eq!(labels.to_string(), r#"{"http.requests", a="tab\tbell\aé\x01\u0080'\\", "b.c"="1"}"#);
        assert_eq!(Labels::from_pairs([("__name__", "a b")]).to_string(), r#"{"a b"}"#);
        assert_eq!(Labels::from_pairs([("__name__", "a:b")]).to_string(), "a:b");
    }

    #[test]
    fn the_later_of_two_equal_names_wins_and_order_does_not_matter() {
        let a = Labels::from_pairs([("x", "1"), ("y", "2"), ("x", "3")]);
        let b = Labels::from_pairs([("y", "2"), ("x", "3")]);
        assert_eq!(a, b);
        assert_eq!(a.with("y", ""), Labels::from_pairs([("x", "3")]));
    }

    #[test]
    fn long_texts_and_many_pairs_are_kept() {
        let long = "é".repeat(20_000);
        let value = |i| if i == 7 { long.clone() } else { format!("x{i}") };
        let pairs: Vec<_> = (0..300).map(|i| (format!("l{i:03}"), value(i))).collect();
        let labels = Labels::from_pairs(pairs.clone());
        assert_eq!(labels.len(), 300);
        assert_eq!(labels.get("l007"), Some(long.as_str()));
        assert!(labels.iter().eq(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))));
        assert_eq!(Labels::from_encoded(labels.encoded()), Some(labels));
    }

    #[test]
    fn only_what_was_encoded_is_decoded() {
        let labels = Labels::from_pairs([("a", "1"), ("b", "2")]);
        assert_eq!(Labels::from_encoded(labels.encoded()), Some(labels));
        assert_eq!(Labels::from_encoded(""), Some(Labels::empty()));
        for text in [
            "\0",
            "\x01",
            "\x01\x01a\0",
            "\x01\x01a\x01b!",
            "\x02\x01b\x01x\x01a\x01x",
            "\x7f\0\0\0\x01\x01a\x01b",
            "é",
        ] {
            assert_eq!(Labels::from_encoded(text), None, "{text:?}");
        }
    }

    #[test]
    fn sets_are_ordered_by_pairs_and_not_by_their_encoding() {
        let ordered = [
            Labels::empty(),
            Labels::from_pairs([("a", "1")]),
            Labels::from_pairs([("a", "1"), ("b", "1")]),
            Labels::from_pairs([("a", "10")]),
            Labels::from_pairs([("a", "2")]),
            Labels::from_pairs([("aa", "1")]),
            Labels::from_pairs([("b", "1")]),
        ];
        assert!(ordered.is_sorted());
    }
}
