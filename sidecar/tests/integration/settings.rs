//! The table of settings in docs/sidecar.md is made from the configuration's structs: their fields, doc comments and
//! types, and the defaults where they are read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::inject::{is_as_kept, root};

const BEGIN: &str = "<!-- made from sidecar/src/config; PICKET_UPDATE=1 cargo test -p sidecar settings -->\n";
const END: &str = "<!-- end of what is made -->\n";

/// A field of a struct that is read from the file.
#[derive(Debug)]
struct Field {
    name: String,
    kind: String,
    doc: String,
}

/// One place where a setting is read: by which method, with which default.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    method: String,
    has_file: bool,
    default: Option<String>,
}

fn sources(folder: &Path) -> String {
    let mut text = String::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder).expect("sources").flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        match path.is_dir() {
            true => text += &sources(&path),
            false if path.to_string_lossy().ends_with("tests.rs") => {}
            false if path.extension().is_some_and(|e| e == "rs") => {
                let source = std::fs::read_to_string(&path).expect("a source");
                text += source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            }
            false => {}
        }
    }
    text
}

/// Every struct with its fields, in order.
fn structs(source: &str) -> BTreeMap<String, Vec<Field>> {
    let mut found = BTreeMap::new();
    let mut lines = source.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some((_, rest)) =
            line.split_once("struct ").filter(|(before, _)| before.is_empty() || before.starts_with("pub"))
        else {
            continue;
        };
        let Some(name) = rest.strip_suffix(" {") else { continue };
        let (mut fields, mut doc) = (Vec::new(), Vec::new());
        for line in lines.by_ref().take_while(|line| *line != "}") {
            if let Some(text) = line.strip_prefix("///") {
                doc.push(text.trim().to_owned());
            } else if let Some((name, kind)) = line.trim_end_matches(',').split_once(": ") {
                let name = name.rsplit(' ').next().unwrap_or(name).to_owned();
                fields.push(Field { name, kind: kind.to_owned(), doc: std::mem::take(&mut doc).join(" ") });
            }
        }
        found.insert(name.to_owned(), fields);
    }
    found
}

/// `&str` constants by name.
fn constants(source: &str) -> BTreeMap<String, String> {
    let pattern = regex::Regex::new(r#"const ([A-Z_]+): &str = "([^"]*)""#).expect("a constant pattern");
    pattern.captures_iter(source).map(|found| (found[1].to_owned(), found[2].to_owned())).collect()
}

/// Every `s.method("VARIABLE", &place, default)`.
fn reads(source: &str) -> BTreeMap<String, Read> {
    let constants = constants(source);
    let pattern = r#"\b(\w+)\(\s*"([A-Z][A-Z0-9_]+)",\s*&([\w.]+)(?:,\s*([^()]*?(?:\([^()]*\))?))?,?\s*\)"#;
    let pattern = regex::Regex::new(pattern).expect("a constant pattern");
    let mut found: BTreeMap<String, Read> = BTreeMap::new();
    for call in pattern.captures_iter(source) {
        let written = call.get(4).map_or("", |default| default.as_str()).trim();
        let written = written.strip_prefix("Some(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(written);
        let constant = || constants.get(written.rsplit("::").next().unwrap_or(written)).cloned();
        let literal = written.strip_prefix('"').and_then(|text| text.strip_suffix('"')).map(str::to_owned);
        let read = Read {
            method: call[1].to_owned(),
            has_file: &call[3] != "None",
            default: literal.or_else(constant).filter(|default| !default.is_empty()),
        };
        let known = found.entry(call[2].to_owned()).or_insert_with(|| read.clone());
        known.has_file |= read.has_file;
        // One that is asked for and then read with its default: the second says more.
        if known.default.is_none() && read.default.is_some() {
            known.default = read.default;
            known.method = read.method;
        }
    }
    found
}

fn kind(method: &str) -> &'static str {
    match method {
        "duration" => "duration",
        "bytes" => "size",
        "number" => "number",
        "url" => "address",
        "listen" => "host:port",
        "flag" => "true, false",
        "switch" => "on, off",
        _ => "text",
    }
}

/// The variable that a doc comment begins with, and the rest of it.
fn variable(doc: &str) -> Option<(&str, &str)> {
    let (name, rest) = doc.strip_prefix('`')?.split_once('`')?;
    let is_variable = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    is_variable.then(|| (name, rest.trim_start_matches([':', ',', '.', ' ']).trim()))
}

struct Table {
    structs: BTreeMap<String, Vec<Field>>,
    reads: BTreeMap<String, Read>,
    seen: BTreeSet<String>,
    text: String,
}

impl Table {
    fn section(&mut self, structure: &str, path: &str) {
        let fields = self.structs.remove(structure).unwrap_or_else(|| panic!("there is no struct {structure}"));
        let (nested, leaves): (Vec<_>, Vec<_>) =
            fields.iter().partition(|field| self.structs.contains_key(&field.kind));
        if !leaves.is_empty() {
            let title =
                if path.is_empty() { "The sidecar".to_owned() } else { format!("`{}`", path.trim_end_matches('.')) };
            self.text += &format!("### {title}\n\n| key | variable | kind | default | |\n|---|---|---|---|---|\n");
            for field in leaves {
                self.row(path, field);
            }
            self.text += "\n";
        }
        for field in nested {
            self.section(&field.kind, &format!("{path}{}.", field.name));
        }
    }

    fn row(&mut self, path: &str, field: &Field) {
        let key = format!("{path}{}", field.name);
        let (variable, rest) = variable(&field.doc)
            .unwrap_or_else(|| panic!("the doc comment of {key} does not begin with its variable in backticks"));
        let read = self
            .reads
            .get(variable)
            .unwrap_or_else(|| panic!("{variable} ({key}) is read nowhere in sidecar/src/config"));
        assert!(self.seen.insert(variable.to_owned()), "{variable} stands at two keys");
        let kind = if field.kind.starts_with("Vec<") { "list" } else { kind(&read.method) };
        let default = read.default.as_ref().map(|text| format!("`{text}`")).unwrap_or_default();
        let rest = rest.replace('|', "\\|");
        self.text += &format!("| `{key}` | `{variable}` | {kind} | {default} | {rest} |\n");
    }

    /// What has no place in the file.
    fn environment_alone(&mut self) {
        let alone: Vec<&String> = self.reads.keys().filter(|name| !self.seen.contains(*name)).collect();
        for name in &alone {
            assert!(!self.reads[*name].has_file, "{name} is read from a key of the file that no struct has");
        }
        let alone: Vec<String> = alone.iter().map(|name| format!("`{name}`")).collect();
        self.text += &format!("In the environment alone: {}.\n", alone.join(", "));
    }
}

#[test]
fn settings_on_the_page_are_those_of_the_code() {
    let source_root = root().join("sidecar/src");
    let config = std::fs::read_to_string(source_root.join("config.rs")).expect("config.rs")
        + &sources(&source_root.join("config"));
    let constants_elsewhere = sources(&source_root);
    let mut reads_with_constants = reads(&config);
    for (name, read) in reads(&(config.clone() + &constants_elsewhere)) {
        if let Some(known) = reads_with_constants.get_mut(&name) {
            known.default = known.default.clone().or(read.default);
        }
    }
    let structs = structs(&config);
    let mut table = Table { structs, reads: reads_with_constants, seen: BTreeSet::new(), text: String::new() };
    table.section("File", "");
    table.environment_alone();
    assert!(table.seen.len() > 25, "only {} settings were found", table.seen.len());

    let page = root().join("docs/sidecar.md");
    let text = std::fs::read_to_string(&page).expect("docs/sidecar.md");
    let (before, rest) = text.split_once(BEGIN).expect("the page says where the table begins");
    let (_, after) = rest.split_once(END).expect("the page says where the table ends");
    is_as_kept(&page, &format!("{before}{BEGIN}\n{}\n{END}{after}", table.text));
}

/// A variable that is not listed would be told as misspelt, and one that is gone be kept from it.
#[test]
fn the_listed_variables_are_those_that_the_code_reads() {
    let source = root().join("sidecar/src");
    let listed = std::fs::read_to_string(source.join("config/variables.rs")).expect("variables.rs");
    let name = regex::Regex::new(r#""(SIDECAR_[A-Z0-9_]+)["\s]"#).expect("a pattern");
    let names =
        |text: &str| -> BTreeSet<String> { name.captures_iter(text).map(|found| found[1].to_owned()).collect() };
    let elsewhere = sources(&source).replace(&listed, "");
    assert_eq!(names(&listed), names(&elsewhere));
}

#[test]
fn the_reader_of_the_structs_reads_structs() {
    let source = "/// X.\npub(super) struct File {\n    /// `A_B`: what\n    /// it is.\n    pub(super) a: Option<String>,\n    pub b: Part,\n}\nstruct Part {\n    /// `C`.\n    c: Vec<String>,\n}\n";
    let found = structs(source);
    assert_eq!(
        found["File"].iter().map(|f| (f.name.as_str(), f.doc.as_str())).collect::<Vec<_>>(),
        [("a", "`A_B`: what it is."), ("b", "")]
    );
    assert_eq!(found["Part"][0].kind, "Vec<String>");
    assert_eq!(variable("`A_B`: what"), Some(("A_B", "what")));
    assert_eq!(variable("what `A`"), None);
    let code = "const D: &str = \"5s\";\nx: s.duration(\"V_A\", &file.a.b, D),\ny: s.url(\n  \"V_B\",\n  &file.b,\n  Some(D),\n ),\nz: s.optional(\"V_C\", &None), s.bytes(\"V_E\", &file.e, \"1MiB\").max(1)";
    let found = reads(code);
    let default = |name: &str| found[name].default.as_deref();
    assert_eq!(
        (default("V_A"), default("V_B"), default("V_C"), default("V_E")),
        (Some("5s"), Some("5s"), None, Some("1MiB"))
    );
    assert!(found["V_A"].has_file && !found["V_C"].has_file);
}
