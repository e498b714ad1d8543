//! Fluent Bit's classic configuration format: sections in brackets, a key and a value on each line.
//!
//! `[INPUT]`, `    Name forward`; `#` begins a comment; `${NAME}` is a variable of the environment; `@SET name=value` sets
//! one for what follows; `@INCLUDE file` is handed out as it stands. Keys are not case-sensitive, in any section.

use std::collections::HashMap;

use service::config::Env;

/// A file of this size is nobody's configuration.
pub const FILE_BYTES_MAX: usize = 1 << 20;
const SECTIONS_MAX: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// In upper case: `OUTPUT`.
    pub name: String,
    pub line: usize,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As written.
    pub key: String,
    pub value: String,
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Section(Section),
    Include { file: String, line: usize },
}

/// What cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    pub why: String,
}

impl Section {
    /// The first value of a key; names are not case-sensitive.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entry(key).map(|entry| entry.value.as_str())
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(key))
    }

    /// All of a key that may be there several times.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.key.eq_ignore_ascii_case(key))
    }
}

/// Reads the text; what cannot be read is left out and told.
pub fn parse(text: &str, env: &dyn Env) -> (Vec<Item>, Vec<Fault>) {
    let (mut items, mut faults, mut set) = (Vec::new(), Vec::new(), HashMap::new());
    if text.len() > FILE_BYTES_MAX {
        faults.push(Fault { line: 1, why: format!("the file is larger than {} KiB", FILE_BYTES_MAX >> 10) });
        return (items, faults);
    }
    for (index, raw) in text.lines().enumerate() {
        let (line, trimmed) = (index + 1, raw.trim());
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let mut fault = |why: String| faults.push(Fault { line, why });
        if let Some(name) = trimmed.strip_prefix('[') {
            match name.split_once(']') {
                _ if items.len() == SECTIONS_MAX => fault(format!("more than {SECTIONS_MAX} sections")),
                Some((name, "")) if !name.trim().is_empty() => {
                    let name = name.trim().to_ascii_uppercase();
                    items.push(Item::Section(Section { name, line, entries: Vec::new() }));
                }
                _ => fault(format!("{trimmed:?} is no section: write [INPUT], [FILTER] or [OUTPUT]")),
            }
            continue;
        }
        let (key, value) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
        let value = filled(value.trim(), &set, env, &mut fault);
        if let Some(command) = key.strip_prefix('@') {
            match command.to_ascii_uppercase().as_str() {
                "INCLUDE" if !value.is_empty() => items.push(Item::Include { file: value, line }),
                "SET" => match value.split_once('=') {
                    Some((name, value)) => drop(set.insert(name.trim().to_owned(), value.trim().to_owned())),
                    None => fault(format!("@SET {value:?} is not name=value")),
                },
                _ => fault(format!("{trimmed:?} is no command: write @INCLUDE file or @SET name=value")),
            }
            continue;
        }
        match items.iter_mut().rev().find_map(|item| match item {
            Item::Section(section) => Some(section),
            Item::Include { .. } => None,
        }) {
            Some(section) => section.entries.push(Entry { key: key.to_owned(), value, line }),
            None => fault(format!("{key:?} stands before the first section")),
        }
    }
    (items, faults)
}

/// `${NAME}` by its value; one that nobody has set becomes nothing, as in Fluent Bit, and is told.
fn filled(text: &str, set: &HashMap<String, String>, env: &dyn Env, fault: &mut dyn FnMut(String)) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("${") {
        let Some(length) = rest[at..].find('}') else { break };
        let name = &rest[at + 2..at + length];
        out.push_str(&rest[..at]);
        match set.get(name).cloned().or_else(|| env.get(name)) {
            Some(value) => out.push_str(&value),
            None => fault(format!("the variable {name} is not set")),
        }
        rest = &rest[at + length + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sections_entries_and_commands_are_read_with_their_lines() {
        let text = "# made by hand\n@SET a = 1\n[input]\n  Name  forward\n  Port ${a}${B}\n\n@INCLUDE /x.conf\n[OUTPUT]\n Record k two words\n Record l ${C}\n";
        let (items, faults) = parse(text, &HashMap::from([("B", "2")]));
        let entry = |key: &str, value: &str, line| Entry { key: key.to_owned(), value: value.to_owned(), line };
        assert_eq!(
            items,
            [
                Item::Section(Section {
                    name: "INPUT".into(),
                    line: 3,
                    entries: vec![entry("Name", "forward", 4), entry("Port", "12", 5)],
                }),
                Item::Include { file: "/x.conf".into(), line: 7 },
                Item::Section(Section {
                    name: "OUTPUT".into(),
                    line: 8,
                    entries: vec![entry("Record", "k two words", 9), entry("Record", "l ", 10)],
                }),
            ]
        );
        assert_eq!(faults, [Fault { line: 10, why: "the variable C is not set".into() }]);
    }

    #[test]
    fn faults_are_told_and_the_rest_is_read() {
        let (items, faults) = parse("Name x\n[INPUT\n[]\n@NONE\n@SET x\n[OUTPUT]\nName null", &HashMap::new());
        assert_eq!(faults.iter().map(|f| f.line).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(items.len(), 1);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]A-Za-z@#$\\{\\}= \n\\PC]{0,200}") {
            drop(parse(&text, &HashMap::new()));
        }
    }
}
