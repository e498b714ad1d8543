//! Body to lines, borrowed. One pass, no allocation but for escapes and the reused list of labels.

use std::borrow::Cow;

use super::lex::{Cursor, number, unescape};
use super::{Format, KnownSample, MetricKind, ParseError};
use crate::labels::METRIC_NAME;
use crate::{Labels, Timestamp};

/// A label's name and value, unescaped.
pub type LabelRef<'a> = (Cow<'a, str>, Cow<'a, str>);

/// One line that says something; comments and blank lines are skipped.
#[derive(Clone, Debug, PartialEq)]
pub enum Line<'a, 'p> {
    Help { name: Cow<'a, str>, text: Cow<'a, str> },
    Type { name: Cow<'a, str>, kind: MetricKind },
    Unit { name: Cow<'a, str>, unit: &'a str },
    Sample(SampleLine<'a, 'p>),
}

/// A sample as its line has it.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleLine<'a, 'p> {
    /// Name and labels as they stand in the body: equal text means equal series, so this is the key of a scrape's
    /// cache. Different texts may still name one series.
    pub series: &'a str,
    pub name: Cow<'a, str>,
    /// In the order of the line, names unique; empty values included.
    pub labels: &'p [LabelRef<'a>],
    pub value: f64,
    /// Rounded to milliseconds.
    pub timestamp: Option<Timestamp>,
    pub exemplar: Option<ExemplarRef<'a, 'p>>,
}

/// An example of what a sample counts: labels (mostly a trace id), the value observed, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct ExemplarRef<'a, 'p> {
    pub labels: &'p [LabelRef<'a>],
    pub value: f64,
    pub timestamp: Option<Timestamp>,
}

impl SampleLine<'_, '_> {
    /// The label set with `__name__`.
    pub fn to_labels(&self) -> Labels {
        let name = [(METRIC_NAME, &*self.name)];
        Labels::from_pairs(name.into_iter().chain(self.labels.iter().map(|(n, v)| (&**n, &**v))))
    }
}

/// Calls `each` for every line of `body`; stops at the first line that is wrong.
pub fn parse_text(body: &str, format: Format, mut each: impl FnMut(Line<'_, '_>)) -> Result<(), ParseError> {
    let mut parser = Parser::new(body, format);
    while let Some(line) = parser.next_line()? {
        each(line);
    }
    Ok(())
}

/// Reads a body line by line, for callers that want to stop in between; see [`parse_text`].
pub struct Parser<'a> {
    cursor: Cursor<'a>,
    format: Format,
    strict: bool,
    labels: Vec<LabelRef<'a>>,
    exemplar_labels: Vec<LabelRef<'a>>,
    line_start: usize,
    /// Where the last sample's value begins.
    value_start: usize,
    /// The last sample's timestamp, before rounding.
    timestamp_secs: Option<f64>,
    ended: bool,
}

/// What stands behind a sample's series, with the times as they were written or as they are meant.
struct RawSample<T> {
    value: f64,
    timestamp: Option<T>,
    exemplar: Option<(f64, Option<T>)>,
}

impl<'a> Parser<'a> {
    pub fn new(body: &'a str, format: Format) -> Self {
        Parser {
            cursor: Cursor::new(body),
            format,
            strict: false,
            labels: Vec::new(),
            exemplar_labels: Vec::new(),
            line_start: 0,
            value_start: 0,
            timestamp_secs: None,
            ended: false,
        }
    }

    /// A body that is still bytes; it must be UTF-8.
    pub fn from_bytes(body: &'a [u8], format: Format) -> Result<Self, ParseError> {
        match std::str::from_utf8(body) {
            Ok(text) => Ok(Parser::new(text, format)),
            Err(error) => Err(ParseError {
                line: memchr::memchr_iter(b'\n', &body[..error.valid_up_to()]).count() + 1,
                message: "invalid UTF-8".to_owned(),
            }),
        }
    }

    /// Refuses what Prometheus tolerates and OpenMetrics does not: commas before }, names in quotes.
    pub(super) fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Where the line that was read last begins.
    pub(super) fn position(&self) -> usize {
        self.line_start
    }

    pub(super) fn error_at(&self, position: usize, message: impl Into<String>) -> ParseError {
        self.cursor.error_at(position, message)
    }

    pub(super) fn timestamp_secs(&self) -> Option<f64> {
        self.timestamp_secs
    }

    /// Goes on reading at this place, which is the beginning of a line or of a sample's value.
    pub(super) fn seek(&mut self, position: usize) {
        self.cursor.seek(position);
        self.line_start = position;
    }

    /// Where the series of the sample that was read last begins.
    pub(super) fn series_position(&self) -> usize {
        self.line_start
    }

    /// Where the value of the sample that was read last begins.
    pub(super) fn value_position(&self) -> usize {
        self.value_start
    }

    /// Where the next line begins.
    pub(super) fn next_position(&self) -> usize {
        self.cursor.pos()
    }

    /// An error about the line that was read last.
    pub fn error_here(&self, message: impl Into<String>) -> ParseError {
        self.cursor.error_at(self.line_start, message)
    }

    /// The next line, or None at the end.
    pub fn next_line(&mut self) -> Result<Option<Line<'a, '_>>, ParseError> {
        loop {
            if self.ended || (self.format == Format::Prometheus && self.cursor.at_end()) {
                return Ok(None);
            }
            self.line_start = self.cursor.pos();
            match self.cursor.peek() {
                Some(b'#') => {
                    if let Some(line) = self.comment()? {
                        return Ok(Some(line));
                    }
                }
                Some(b' ' | b'\t') if self.format == Format::Prometheus => self.cursor.skip_blanks(),
                Some(b'\n') if self.format == Format::Prometheus => self.cursor.advance(1),
                None => return Err(self.cursor.error("the body does not end with # EOF")),
                Some(_) => return self.sample().map(Some),
            }
        }
    }

    fn comment(&mut self) -> Result<Option<Line<'a, 'a>>, ParseError> {
        let open_metrics = self.format == Format::OpenMetrics;
        self.cursor.advance(1);
        if open_metrics {
            if !self.cursor.eat(" ") {
                return Err(self.error_here("expected # EOF, # HELP, # TYPE or # UNIT"));
            }
            if self.cursor.eat("EOF") {
                return self.end();
            }
        }
        let indented = matches!(self.cursor.peek(), Some(b' ' | b'\t'));
        if !open_metrics {
            self.cursor.skip_blanks();
        }
        let keyword = self.cursor.word();
        match keyword {
            "HELP" | "TYPE" | "UNIT" if open_metrics => {}
            _ if open_metrics => return Err(self.error_here(format!("unknown comment # {keyword}"))),
            "HELP" | "TYPE" if indented && matches!(self.cursor.peek(), Some(b' ' | b'\t')) => {}
            _ => {
                self.cursor.rest_of_line();
                return Ok(None);
            }
        }
        self.metadata(keyword).map(Some)
    }

    /// `# EOF` with or without a newline, and nothing after it.
    fn end(&mut self) -> Result<Option<Line<'a, 'a>>, ParseError> {
        self.cursor.eat("\n");
        if !self.cursor.at_end() {
            return Err(self.cursor.error(format!("expected nothing after # EOF, found {}", self.cursor.here())));
        }
        self.ended = true;
        Ok(None)
    }

    fn metadata(&mut self, keyword: &str) -> Result<Line<'a, 'a>, ParseError> {
        let open_metrics = self.format == Format::OpenMetrics;
        if open_metrics {
            self.cursor.eat(" ");
        } else {
            self.cursor.skip_blanks();
        }
        let name = self.metric_name()?;
        let start = self.cursor.pos();
        let text = self.cursor.rest_of_line();
        let text = if open_metrics {
            let error = || self.cursor.error_at(start, format!("expected one space after # {keyword} {name}"));
            text.strip_prefix(' ').ok_or_else(error)?
        } else {
            text.strip_prefix([' ', '\t']).unwrap_or(text)
        };
        let line = match keyword {
            "HELP" => {
                let text = if text.contains('\\') { unescape(text, open_metrics).into() } else { text.into() };
                Line::Help { name, text }
            }
            "UNIT" => Line::Unit { name, unit: text },
            _ => {
                let text = if open_metrics { text } else { text.trim_matches([' ', '\t']) };
                let error = || self.cursor.error_at(start, format!("invalid metric type {text:?}"));
                Line::Type { name, kind: MetricKind::parse(text, self.format).ok_or_else(error)? }
            }
        };
        self.end_of_line()?;
        Ok(line)
    }

    /// A plain name, or one in quotes that may be any text.
    fn metric_name(&mut self) -> Result<Cow<'a, str>, ParseError> {
        let name = if self.cursor.peek() == Some(b'"') && !self.strict {
            self.quoted()?
        } else {
            Cow::Borrowed(self.cursor.metric_name())
        };
        if name.is_empty() {
            return Err(self.cursor.error(format!("expected a metric name, found {}", self.cursor.here())));
        }
        Ok(name)
    }

    fn quoted(&mut self) -> Result<Cow<'a, str>, ParseError> {
        let start = self.cursor.pos();
        let text = self.cursor.quoted(self.format == Format::Prometheus);
        text.ok_or_else(|| self.cursor.error_at(start, "unterminated quoted string"))
    }

    fn sample(&mut self) -> Result<Line<'a, '_>, ParseError> {
        let (series, name) = self.series()?;
        match self.format {
            Format::Prometheus => self.cursor.skip_blanks(),
            Format::OpenMetrics => self.space("a value")?,
        }
        let raw = self.raw_behind_series()?;
        let RawSample { value, timestamp, exemplar } = self.finish(raw)?;
        let labels = &*self.exemplar_labels;
        let exemplar = exemplar.map(|(value, timestamp)| ExemplarRef { labels, value, timestamp });
        Ok(Line::Sample(SampleLine { series, name, labels: &self.labels, value, timestamp, exemplar }))
    }

    /// What stands behind a sample's series and the blank, to the end of the line.
    pub(super) fn behind_series(&mut self) -> Result<KnownSample<'a, '_>, ParseError> {
        if self.format == Format::Prometheus {
            self.cursor.skip_blanks();
        }
        let raw = self.raw_behind_series()?;
        let RawSample { value, timestamp, exemplar } = self.finish(raw)?;
        let labels = &*self.exemplar_labels;
        let exemplar = exemplar.map(|(value, timestamp)| ExemplarRef { labels, value, timestamp });
        Ok(KnownSample { series: "", value, timestamp, exemplar })
    }

    fn finish(&mut self, raw: RawSample<&'a str>) -> Result<RawSample<Timestamp>, ParseError> {
        let timestamp = self.timestamp(raw.timestamp)?;
        if self.strict {
            self.timestamp_secs = raw.timestamp.and_then(number);
        }
        let exemplar = raw.exemplar.map(|(value, at)| Ok((value, self.timestamp(at)?))).transpose()?;
        self.end_of_line()?;
        Ok(RawSample { value: raw.value, timestamp, exemplar })
    }

    fn raw_behind_series(&mut self) -> Result<RawSample<&'a str>, ParseError> {
        self.value_start = self.cursor.pos();
        let mut raw = RawSample { value: self.value()?, timestamp: None, exemplar: None };
        if self.format == Format::Prometheus {
            self.cursor.skip_blanks();
            raw.timestamp = Some(self.cursor.word()).filter(|word| !word.is_empty());
            self.cursor.skip_blanks();
        } else if self.cursor.eat(" # ") {
            raw.exemplar = Some(self.exemplar()?);
        } else if self.cursor.eat(" ") {
            raw.timestamp = Some(self.cursor.word());
            if self.cursor.eat(" # ") {
                raw.exemplar = Some(self.exemplar()?);
            }
        }
        Ok(raw)
    }

    fn exemplar(&mut self) -> Result<(f64, Option<&'a str>), ParseError> {
        if self.cursor.peek() != Some(b'{') {
            return Err(self.cursor.error(format!("expected an exemplar's labels, found {}", self.cursor.here())));
        }
        let mut labels = std::mem::take(&mut self.exemplar_labels);
        let name = self.labels(&mut labels);
        self.exemplar_labels = labels;
        if let Some(name) = name? {
            return Err(self.cursor.error(format!("an exemplar has no metric name, found {name:?}")));
        }
        self.space("an exemplar's value")?;
        let value = self.value()?;
        let timestamp = self.cursor.eat(" ").then(|| self.cursor.word());
        Ok((value, timestamp))
    }

    /// `name`, `name{…}` or `{"name",…}`, as it stands and the name in it.
    fn series(&mut self) -> Result<(&'a str, Cow<'a, str>), ParseError> {
        let start = self.cursor.pos();
        let before_braces = self.cursor.metric_name();
        let mut end = self.cursor.pos();
        if self.format == Format::Prometheus {
            self.cursor.skip_blanks();
        }
        self.labels.clear();
        let mut in_braces = None;
        if self.cursor.peek() == Some(b'{') {
            let mut labels = std::mem::take(&mut self.labels);
            let name = self.labels(&mut labels);
            self.labels = labels;
            in_braces = name?;
            end = self.cursor.pos();
        }
        let name = match (before_braces, in_braces) {
            ("", Some(name)) => name,
            ("", None) => {
                let found = if end == start { self.cursor.here() } else { "only labels".to_owned() };
                return Err(self.cursor.error_at(start, format!("expected a metric name, found {found}")));
            }
            (name, None) => Cow::Borrowed(name),
            (_, Some(name)) => {
                return Err(self.cursor.error_at(start, format!("a second metric name {name:?} in braces")));
            }
        };
        let after = self.cursor.pos();
        let series = self.cursor.text_since(start);
        Ok((&series[..series.len() - (after - end)], name))
    }

    /// The braces and what they hold, into `labels`; a quoted string without a value is the metric's name.
    fn labels(&mut self, labels: &mut Vec<LabelRef<'a>>) -> Result<Option<Cow<'a, str>>, ParseError> {
        let blanks = self.format == Format::Prometheus;
        let mut metric_name = None;
        labels.clear();
        self.cursor.advance(1);
        loop {
            self.skip_blanks_if(blanks);
            if self.cursor.peek() == Some(b'}') {
                break;
            }
            let start = self.cursor.pos();
            let quoted = self.cursor.peek() == Some(b'"') && !self.strict;
            let name = if quoted { self.quoted()? } else { Cow::Borrowed(self.cursor.label_name()) };
            if name.is_empty() {
                return Err(self.cursor.error(format!("expected a label name, found {}", self.cursor.here())));
            }
            self.skip_blanks_if(blanks);
            if quoted && matches!(self.cursor.peek(), Some(b',' | b'}')) {
                if metric_name.replace(name).is_some() {
                    return Err(self.cursor.error_at(start, "two metric names in one series"));
                }
            } else {
                let value = self.label_value(&name, blanks)?;
                if labels.iter().any(|(other, _)| *other == name) {
                    return Err(self.cursor.error_at(start, format!("label {name:?} appears twice")));
                }
                labels.push((name, value));
            }
            self.skip_blanks_if(blanks);
            match self.cursor.peek() {
                Some(b',') => self.cursor.advance(1),
                Some(b'}') => break,
                _ => return Err(self.cursor.error(format!("expected , or }}, found {}", self.cursor.here()))),
            }
            if self.strict && self.cursor.peek() == Some(b'}') {
                return Err(self.cursor.error("a comma before } is not allowed"));
            }
        }
        self.cursor.advance(1);
        Ok(metric_name)
    }

    fn label_value(&mut self, name: &str, blanks: bool) -> Result<Cow<'a, str>, ParseError> {
        if !self.cursor.eat("=") {
            return Err(self.cursor.error(format!("expected = after label {name}, found {}", self.cursor.here())));
        }
        self.skip_blanks_if(blanks);
        if self.cursor.peek() != Some(b'"') {
            let found = self.cursor.here();
            return Err(self.cursor.error(format!("expected the quoted value of label {name}, found {found}")));
        }
        self.quoted()
    }

    fn skip_blanks_if(&mut self, blanks: bool) {
        if blanks {
            self.cursor.skip_blanks();
        }
    }

    fn space(&mut self, before: &str) -> Result<(), ParseError> {
        if self.cursor.eat(" ") {
            return Ok(());
        }
        Err(self.cursor.error(format!("expected one space and {before}, found {}", self.cursor.here())))
    }

    fn value(&mut self) -> Result<f64, ParseError> {
        let start = self.cursor.pos();
        let word = self.cursor.word();
        number(word).ok_or_else(|| self.cursor.error_at(start, format!("expected a number, found {word:?}")))
    }

    /// Whole milliseconds in 0.0.4, seconds with a fraction in OpenMetrics.
    fn timestamp(&self, word: Option<&str>) -> Result<Option<Timestamp>, ParseError> {
        let Some(word) = word else { return Ok(None) };
        let timestamp = match self.format {
            Format::Prometheus => word.parse().ok().map(Timestamp),
            Format::OpenMetrics => number(word).filter(|secs| secs.is_finite()).map(Timestamp::from_secs_f64),
        };
        let error = || self.cursor.error(format!("expected a timestamp, found {word:?}"));
        timestamp.map(Some).ok_or_else(error)
    }

    fn end_of_line(&mut self) -> Result<(), ParseError> {
        match self.cursor.peek() {
            Some(b'\n') => {
                self.cursor.advance(1);
                Ok(())
            }
            None => Ok(()),
            Some(_) => Err(self.cursor.error(format!("expected the end of the line, found {}", self.cursor.here()))),
        }
    }
}
