//! Edits of a text at the places of its tree: what is not touched keeps every byte. Each addition has its
//! exact reverse.

use std::ops::Range;

use super::tree::{Entry, Node};
use super::value::{Key, Style, Value};

/// Text in the place of other text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

/// A text with what must be known of it to write in its manner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    pub(super) newline: &'static str,
    pub(super) style: Style,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, json: bool, cloudformation: bool) -> Self {
        let newline = match text.find('\n') {
            Some(at) if text[..at].ends_with('\r') => "\r\n",
            _ => "\n",
        };
        let has_lines = text.trim().contains('\n');
        let indent = has_lines.then(|| first_indent(text)).or((!json).then_some(2));
        // JSON on one line with blanks in it is written on one line with blanks.
        let indent = indent.or(text.contains("\": ").then_some(0));
        Source { text, newline, style: Style { json, cloudformation, indent } }
    }

    /// Edits behind the last element; for a list that has one.
    pub(super) fn append_elements(&self, list: &Node, values: &[Value]) -> Edit {
        let last = list.elements().and_then(<[Node]>::last).expect("asked only of lists with elements");
        if list.flow {
            return self.append_flow(last.start, last.end, values.iter().map(|v| (None, v)));
        }
        let dash = self.dash(list, last);
        let column = dash - self.line_start(dash);
        let mut text = String::new();
        for value in values {
            let block = self.style.block(value, column + 2, self.newline);
            text += &format!("{}{}- {block}", self.newline, " ".repeat(column));
        }
        let at = self.line_end(last.end);
        Edit { range: at..at, text }
    }

    /// Edits behind the last entry; for a map that has one.
    pub(super) fn append_entries(&self, map: &Node, entries: &[(Key, Value)]) -> Edit {
        let last = map.entries().and_then(<[Entry]>::last).expect("asked only of maps with entries");
        if map.flow {
            return self.append_flow(last.key.start, last.value.end, entries.iter().map(|(k, v)| (Some(k), v)));
        }
        let column = last.key.start - self.line_start(last.key.start);
        let mut text = String::new();
        for entry in entries {
            let block = self.style.block(&Value::Map(vec![entry.clone()]), column, self.newline);
            text += &format!("{}{}{block}", self.newline, " ".repeat(column));
        }
        let at = self.line_end(last.value.end.max(last.key.end));
        Edit { range: at..at, text }
    }

    fn append_flow<'v>(
        &self,
        last_start: usize,
        last_end: usize,
        parts: impl Iterator<Item = (Option<&'v Key>, &'v Value)>,
    ) -> Edit {
        let margin = &self.text[self.line_start(last_start)..last_start];
        let on_own_line = self.line_start(last_start) > 0 && margin.trim().is_empty();
        let separator = match (on_own_line, self.style.indent) {
            (true, _) => format!(",{}{margin}", self.newline),
            (false, None) => ",".to_owned(),
            (false, Some(_)) => ", ".to_owned(),
        };
        let mut text = String::new();
        for (key, value) in parts {
            let colon = if self.style.json && self.style.indent.is_none() { ":" } else { ": " };
            let key = key.map(|key| self.style.written_key(key) + colon).unwrap_or_default();
            let value = match on_own_line {
                true => self.style.bracketed(value, margin, self.newline),
                false => self.style.inline(value),
            };
            text += &format!("{separator}{key}{value}");
        }
        Edit { range: last_end..last_end, text }
    }

    /// Another value in the place of this one.
    pub(super) fn replace(&self, node: &Node, value: &Value) -> Edit {
        let line = self.line_start(node.start);
        let column = node.start - line;
        let text = if node.flow || self.style.json {
            let indent: String = self.text[line..].chars().take_while(|c| *c == ' ' || *c == '\t').collect();
            self.style.bracketed(value, &indent, self.newline)
        } else if node.entries().is_some() || node.elements().is_some() {
            self.style.block(value, column, self.newline)
        } else {
            self.style.inline(value)
        };
        Edit { range: node.start..node.end, text }
    }

    /// The reverse of `append_elements`.
    pub(super) fn remove_element(&self, list: &Node, index: usize) -> Edit {
        let elements = list.elements().expect("asked only of lists");
        let places: Vec<Range<usize>> = elements.iter().map(|e| e.start..e.end).collect();
        if list.flow {
            return remove_flow(&places, index);
        }
        self.remove_lines(self.dash(list, &elements[index]), places[index].end)
    }

    /// The reverse of `append_entries`.
    pub(super) fn remove_entry(&self, map: &Node, index: usize) -> Edit {
        let entries = map.entries().expect("asked only of maps");
        let places: Vec<Range<usize>> = entries.iter().map(|e| e.key.start..e.value.end.max(e.key.end)).collect();
        match map.flow {
            true => remove_flow(&places, index),
            false => self.remove_lines(places[index].start, places[index].end),
        }
    }

    fn remove_lines(&self, start: usize, end: usize) -> Edit {
        let line = self.line_start(start);
        // With the line break before it, as it was added.
        let before = line.saturating_sub(if line > 0 { self.newline.len() } else { 0 });
        Edit { range: before..self.line_end(end), text: String::new() }
    }

    /// Where the dash of an element of a list in lines stands.
    fn dash(&self, list: &Node, element: &Node) -> usize {
        let first = list.elements().and_then(<[Node]>::first).expect("it holds the element");
        let nearest = |from: usize| self.text[..from].rfind('-').unwrap_or(0);
        let column = nearest(first.start) - self.line_start(nearest(first.start));
        let bytes = self.text.as_bytes();
        // An element may begin on a line below its dash, with comments that hold dashes between.
        let mut line = self.line_start(element.start);
        loop {
            let at = line + column;
            if at < element.start && bytes[at] == b'-' && bytes[line..at].iter().all(|b| *b == b' ') {
                return at;
            }
            if line == 0 {
                return nearest(element.start);
            }
            line = self.line_start(line - 1);
        }
    }

    pub(super) fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// Behind the last character of the line, comments included.
    fn line_end(&self, at: usize) -> usize {
        let end = self.text[at..].find('\n').map_or(self.text.len(), |newline| at + newline);
        if self.text[at..end].ends_with('\r') { end - 1 } else { end }
    }
}

fn remove_flow(places: &[Range<usize>], index: usize) -> Edit {
    let range = match (index.checked_sub(1), places.get(index + 1)) {
        (Some(before), _) => places[before].end..places[index].end,
        (None, Some(after)) => places[index].start..after.start,
        (None, None) => places[index].clone(),
    };
    Edit { range, text: String::new() }
}

fn first_indent(text: &str) -> usize {
    let indents = text.lines().skip(1).map(|line| line.len() - line.trim_start().len());
    indents.into_iter().find(|indent| *indent > 0).unwrap_or(2).min(8)
}

/// All edits at once; those at one place in the order in which they are given.
pub(super) fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| edit.range.start);
    let (mut out, mut done) = (String::with_capacity(text.len() + 4096), 0);
    for Edit { range, text: new } in edits {
        let start = range.start.max(done);
        out += &text[done..start];
        out += &new;
        done = range.end.max(start);
    }
    out + &text[done..]
}
