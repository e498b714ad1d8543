//! What is written into a task definition, and how: as JSON, as YAML in braces, as YAML in lines.

use super::tree::{Kind, Node};

/// In JSON and in braces, what fits in so many characters stays on one line.
const LINE_CHARS: usize = 90;

/// Something to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
    Bool(bool),
    /// One line of the template's own: `!Ref LogGroup`.
    Written(String),
    List(Vec<Value>),
    Map(Vec<(Key, Value)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A field of ECS, in ECS' own spelling; CloudFormation writes its first letter large.
    Field(&'static str),
    /// A key that somebody chose: a label, an option.
    Chosen(String),
}

/// How a file spells and sets things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) json: bool,
    pub(super) cloudformation: bool,
    /// One more level of JSON, in spaces; None for JSON without line breaks.
    pub(super) indent: Option<usize>,
}

pub(super) fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

pub(super) fn fields(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (Key::Field(key), value)).collect())
}

pub(super) fn chosen(entries: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (Key::Chosen(key), value)).collect())
}

impl Style {
    pub(super) fn field(self, name: &str) -> String {
        let mut letters = name.chars();
        match letters.next() {
            Some(first) if self.cloudformation => first.to_ascii_uppercase().to_string() + letters.as_str(),
            _ => name.to_owned(),
        }
    }

    pub(super) fn key(self, key: &Key) -> String {
        match key {
            Key::Field(name) => self.field(name),
            Key::Chosen(name) => name.clone(),
        }
    }

    /// A key as it stands in the file.
    pub(super) fn written_key(self, key: &Key) -> String {
        match self.json {
            true => quoted(&self.key(key)),
            false => scalar(&self.key(key)),
        }
    }

    /// On one line.
    pub(super) fn inline(self, value: &Value) -> String {
        let join = |parts: Vec<String>| parts.join(if self.json && self.indent.is_none() { "," } else { ", " });
        match value {
            Value::Text(text) if self.json => quoted(text),
            Value::Text(text) => scalar(text),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Written(text) => text.clone(),
            Value::List(values) => format!("[{}]", join(values.iter().map(|v| self.inline(v)).collect())),
            Value::Map(entries) => {
                let colon = if self.json && self.indent.is_none() { ":" } else { ": " };
                let entry = |(key, value): &(Key, Value)| self.written_key(key) + colon + &self.inline(value);
                format!("{{{}}}", join(entries.iter().map(entry).collect()))
            }
        }
    }

    /// With brackets: on one line where it is short or the file is, else JSON with line breaks.
    pub(super) fn bracketed(self, value: &Value, indent: &str, newline: &str) -> String {
        let inline = self.inline(value);
        let Some(step) = self.indent.filter(|_| self.json && inline.chars().count() > LINE_CHARS) else {
            return inline;
        };
        let deeper = format!("{indent}{}", " ".repeat(step));
        let (open, close, parts): (_, _, Vec<String>) = match value {
            Value::List(values) => ('[', ']', values.iter().map(|v| self.bracketed(v, &deeper, newline)).collect()),
            Value::Map(entries) => {
                let entry =
                    |(k, v): &(Key, Value)| format!("{}: {}", self.written_key(k), self.bracketed(v, &deeper, newline));
                ('{', '}', entries.iter().map(entry).collect())
            }
            _ => return inline,
        };
        let parts = parts.join(&format!(",{newline}{deeper}"));
        format!("{open}{newline}{deeper}{parts}{newline}{indent}{close}")
    }

    /// YAML in lines; the first line stands where the cursor is, the others begin with `indent` spaces.
    pub(super) fn block(self, value: &Value, indent: usize, newline: &str) -> String {
        let line = format!("{newline}{}", " ".repeat(indent));
        match value {
            Value::Map(entries) => {
                let entry = |(key, value): &(Key, Value)| {
                    let key = self.written_key(key);
                    match is_small(value) {
                        true => format!("{key}: {}", self.inline(value)),
                        false => {
                            let deeper = format!("{newline}{}", " ".repeat(indent + 2));
                            format!("{key}:{deeper}{}", self.block(value, indent + 2, newline))
                        }
                    }
                };
                entries.iter().map(entry).collect::<Vec<_>>().join(&line)
            }
            Value::List(values) => {
                let element = |value: &Value| match is_small(value) {
                    true => format!("- {}", self.inline(value)),
                    false => format!("- {}", self.block(value, indent + 2, newline)),
                };
                values.iter().map(element).collect::<Vec<_>>().join(&line)
            }
            scalar => self.inline(scalar),
        }
    }
}

/// Reads well in braces: nothing in it has parts of its own, but for a list of one.
fn is_small(value: &Value) -> bool {
    let is_scalar = |value: &Value| !matches!(value, Value::List(_) | Value::Map(_));
    match value {
        Value::List(values) => match &values[..] {
            [Value::Map(entries)] => entries.len() <= 3 && entries.iter().all(|(_, v)| is_scalar(v)),
            values => values.iter().all(is_scalar),
        },
        Value::Map(entries) => entries.len() <= 3 && entries.iter().all(|(_, v)| is_scalar(v)),
        _ => true,
    }
}

pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

/// A string that every reader of YAML, 1.1 or 1.2, takes for that string, in braces and outside.
pub(super) fn scalar(text: &str) -> String {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"];
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(is_safe)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    match text.chars().any(char::is_control) {
        true => quoted(text),
        false => format!("'{}'", text.replace('\'', "''")),
    }
}

/// A value of the file, to be written again on one line.
pub(super) fn copied(node: &Node, source: &str, style: Style) -> Value {
    let value = match &node.kind {
        Kind::Scalar { value, plain: true } if !style.json && node.tag.is_none() => {
            let is_plain_in_braces = !value.contains(['{', '}', '[', ']', ',', '\'', '"', '#', ':', '&', '*', '!']);
            if is_plain_in_braces { value.clone() } else { scalar(value) }
        }
        Kind::Scalar { plain: true, .. } if style.json => source[node.start..node.end].to_owned(),
        Kind::Scalar { value, .. } if style.json => quoted(value),
        Kind::Scalar { value, .. } => scalar(value),
        Kind::Seq(elements) => {
            let parts: Vec<String> = elements.iter().map(|e| style.inline(&copied(e, source, style))).collect();
            format!("[{}]", parts.join(", "))
        }
        Kind::Map(entries) => {
            let entry = |entry: &super::tree::Entry| {
                let part = |node: &Node| style.inline(&copied(node, source, style));
                format!("{}: {}", part(&entry.key), part(&entry.value))
            };
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Kind::Alias => source[node.start..node.end].to_owned(),
    };
    match &node.tag {
        Some(tag) => Value::Written(format!("{tag} {value}")),
        None => Value::Written(value),
    }
}
