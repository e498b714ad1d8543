//! A JSON or YAML text as a tree that knows where each node stands, so that the text can be edited in place.

use std::borrow::Cow;

use granit_parser::{Event, Parser, Span, StructureStyle, Tag, options};

use super::Fault;

/// A value and its place: `start` is where its tag or its first character stands, `end` behind its last one,
/// comments and line breaks not counted.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) start: usize,
    pub(super) end: usize,
    /// `!Ref`, as written.
    pub(super) tag: Option<String>,
    /// Has an anchor, or is an alias: what is edited here changes elsewhere too.
    pub(super) shared: bool,
    /// Written with brackets or braces.
    pub(super) flow: bool,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Scalar { value: String, plain: bool },
    Seq(Vec<Node>),
    Map(Vec<Entry>),
    Alias,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Node,
    pub(super) value: Node,
}

impl Node {
    /// The text of a scalar without a tag.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { value, .. } if self.tag.is_none() => Some(value),
            _ => None,
        }
    }

    pub(super) fn entries(&self) -> Option<&[Entry]> {
        match &self.kind {
            Kind::Map(entries) if self.tag.is_none() => Some(entries),
            _ => None,
        }
    }

    pub(super) fn elements(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::Seq(elements) if self.tag.is_none() => Some(elements),
            _ => None,
        }
    }

    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| entry.key.text() == Some(key))
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }
}

/// Reads one document.
///
/// # Errors
/// What the parser says, with its place; a second document.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let options = options! { emit_comments: false };
    let mut reader = Reader { text, events: Parser::new_from_str_with_options(text, options) };
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(..) => {}
            Event::StreamEnd => return Err(Fault::at(0, "the file is empty")),
            event => {
                let root = reader.node(event, span, 0)?;
                loop {
                    match reader.next()? {
                        (Event::StreamEnd, _) => return Ok(root),
                        (Event::DocumentStart(..), span) => {
                            let message = "a second document begins here: write one task definition per file";
                            return Err(Fault::at(offset(span.start), message));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, granit_parser::StrInput<'a>>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Fault::at(offset(*error.marker()), error.info().to_owned())),
            None => Err(Fault::at(self.text.len(), "the file ends too early")),
        }
    }

    /// `before` is where the node must begin at the earliest: empty values have no place of their own.
    fn node(&mut self, event: Event<'a>, span: Span, before: usize) -> Result<Node, Fault> {
        let start = span.tag_start.map_or_else(|| offset(span.start), offset);
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                let written = &self.text[offset(span.start)..offset(span.end).max(offset(span.start))];
                let end = offset(span.start) + written.trim_end().len();
                let is_empty = written.trim().is_empty() && tag.is_none();
                let (start, end) = if is_empty { (before, before) } else { (start, end) };
                let plain = style == granit_parser::ScalarStyle::Plain;
                let kind = Kind::Scalar { value: value.into_owned(), plain };
                Ok(Node { start, end, tag: tag.map(written_tag), shared: anchor != 0, flow: false, kind })
            }
            Event::SequenceStart(style, anchor, tag) => {
                let (mut elements, mut end) = (Vec::new(), offset(span.start));
                let closed = loop {
                    match self.next()? {
                        (Event::SequenceEnd, span) => break offset(span.end),
                        (event, span) => {
                            let element = self.node(event, span, end)?;
                            end = element.end;
                            elements.push(element);
                        }
                    }
                };
                let flow = style == StructureStyle::Flow;
                let end = if flow { closed } else { end };
                let (tag, kind) = (tag.map(written_tag), Kind::Seq(elements));
                Ok(Node { start, end, tag, shared: anchor != 0, flow, kind })
            }
            Event::MappingStart(style, anchor, tag) => {
                let (mut entries, mut end) = (Vec::new(), offset(span.start));
                let closed = loop {
                    match self.next()? {
                        (Event::MappingEnd, span) => break offset(span.end),
                        (event, span) => {
                            let key = self.node(event, span, end)?;
                            let (event, span) = self.next()?;
                            let value = self.node(event, span, key.end)?;
                            end = value.end.max(key.end);
                            entries.push(Entry { key, value });
                        }
                    }
                };
                let flow = style == StructureStyle::Flow;
                let end = if flow { closed } else { end };
                let (tag, kind) = (tag.map(written_tag), Kind::Map(entries));
                Ok(Node { start, end, tag, shared: anchor != 0, flow, kind })
            }
            Event::Alias(_) => {
                let end = offset(span.end);
                Ok(Node { start, end, tag: None, shared: true, flow: false, kind: Kind::Alias })
            }
            _ => Err(Fault::at(start, "the file ends in the middle of a value")),
        }
    }
}

fn offset(marker: granit_parser::Marker) -> usize {
    marker.byte_offset().expect("a parser of a str counts bytes")
}

fn written_tag(tag: Cow<'_, Tag>) -> String {
    tag.to_string()
}
