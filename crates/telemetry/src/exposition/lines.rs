//! Bodies of one target, read again and again: line by line against the last one.
//!
//! A target names the same series in the same order each time, and only the values change. So each line is compared
//! with what stood there the last time; where it is equal up to the value, only the value is read, and the series is
//! told by the number that the reader gave it when it was new. Lines that moved are looked up, and only new ones are
//! taken apart.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::lex::number;
use super::{ExemplarRef, Format, Line, ParseError, Parser, SampleLine};
use crate::{Alike, Timestamp};

/// Hears what a body says.
pub trait Receiver {
    type Error: From<ParseError>;

    /// A line of a series that was in the body before, by the number that [`Receiver::unknown`] gave it.
    ///
    /// # Errors
    /// What the reader wants; reading ends with it.
    fn known(&mut self, number: u32, sample: &KnownSample<'_, '_>) -> Result<(), Self::Error>;

    /// A line that was not in the body before. Gives it a number; equal texts get equal numbers.
    ///
    /// # Errors
    /// What the reader wants; reading ends with it.
    fn unknown(&mut self, line: &SampleLine<'_, '_>) -> Result<u32, Self::Error>;

    /// `# HELP`, `# TYPE` and `# UNIT` where they or what follows them differ from the last time.
    fn metadata(&mut self, line: &Line<'_, '_>);
}

/// What a line says behind its series.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownSample<'a, 'p> {
    /// The series' text, only where there is an exemplar: whoever keeps exemplars wants to know whose they are.
    pub series: &'p str,
    pub value: f64,
    pub timestamp: Option<Timestamp>,
    pub exemplar: Option<ExemplarRef<'a, 'p>>,
}

/// The last body without its values.
///
/// Neighbouring series begin alike, mostly up to their last label. So of each only the rest is kept; the beginning is
/// compared within the new body, with the line before, which is known to be the same by then.
#[derive(Default)]
pub struct Lines(Arc<Remembered>);

/// Replicas of one service mostly name the same series in the same order, each with a number that is its place.
pub type LinePool = Alike<Remembered>;

/// What [`Lines`] are.
#[derive(Default, PartialEq)]
pub struct Remembered {
    /// For each line all that stands between the line before it and its own value, comments included, without what
    /// the series' text shares with the series before.
    text: Box<[u8]>,
    lines: Box<[Known]>,
    /// Lines that stand behind comments, and the length of those; ascending.
    comments: Box<[(u32, u32)]>,
}

/// Small, for there is one for every series of every target.
#[derive(Clone, Copy, PartialEq)]
struct Known {
    /// Where in the text what stands before the value ends.
    end: u32,
    number: u32,
    /// How much of the series' text is that of the series before.
    shared: u16,
    /// Between the series' text and its value.
    blanks: u8,
    has_comments: bool,
}

/// What a body was like, compared with the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The same series in the same order.
    Same,
    Other,
}

impl Lines {
    /// Reads a body and remembers its lines for the next time.
    ///
    /// # Errors
    /// What is wrong with the body, or what the receiver says; then the lines of the body before stay remembered.
    pub fn read<R: Receiver>(&mut self, body: &[u8], format: Format, receiver: &mut R) -> Result<Order, R::Error> {
        let mut reading =
            Reading { old: &self.0, body, at: 0, next: 0, last_series: 0, parser: None, format, new: None };
        reading.unchanged(receiver)?;
        if reading.is_whole() {
            return Ok(Order::Same);
        }
        reading.changed(receiver)?;
        match reading.new {
            // The rest had nothing but comments.
            None if reading.next == self.0.lines.len() => Ok(Order::Same),
            new => {
                // A body that ends earlier has all lines so far in their places.
                let new = new.unwrap_or_else(|| New::from(&self.0, reading.next, reading.last_series));
                // Places are 32 bits wide. A body that exceeds them is read as if it were new each time.
                if new.is_too_long || u32::try_from(new.text.len()).is_err() {
                    self.forget();
                    return Ok(Order::Other);
                }
                let New { text, lines, comments, .. } = new;
                let new = Remembered { text: text.into(), lines: lines.into(), comments: comments.into() };
                self.0 = Arc::new(new);
                Ok(Order::Other)
            }
        }
    }

    /// Forgets all lines.
    pub fn forget(&mut self) {
        *self = Lines::default();
    }

    /// Shares the memory of what is remembered with others who read the same lines.
    pub fn share(&mut self, pool: &LinePool) {
        pool.share(xxh3_64(&self.0.text), &mut self.0);
    }
}

impl Remembered {
    fn start(&self, line: usize) -> usize {
        line.checked_sub(1).map_or(0, |before| self.lines[before].end as usize)
    }

    /// The comments of a line, and what follows the shared beginning of its series up to the value.
    fn parts(&self, line: usize) -> (&[u8], &[u8]) {
        let known = &self.lines[line];
        let comments_len = if known.has_comments { self.comments_len(line) } else { 0 };
        self.text[self.start(line)..known.end as usize].split_at(comments_len)
    }

    fn comments_len(&self, line: usize) -> usize {
        let at = self.comments.binary_search_by_key(&(line as u32), |(line, _)| *line);
        at.map_or(0, |at| self.comments[at].1 as usize)
    }

    /// The text of a series without what it shares with the one before.
    fn own_text(&self, line: usize) -> &[u8] {
        let rest = self.parts(line).1;
        &rest[..rest.len() - usize::from(self.lines[line].blanks)]
    }
}

/// All series' texts, each whole.
struct Series {
    text: Vec<u8>,
    /// Where each begins.
    starts: Vec<usize>,
}

impl Series {
    fn of(lines: &Remembered) -> Series {
        let mut series = Series { text: Vec::new(), starts: Vec::with_capacity(lines.lines.len()) };
        for (line, known) in lines.lines.iter().enumerate() {
            let shared = usize::from(known.shared);
            let before = series.starts.last().copied().unwrap_or(0);
            series.starts.push(series.text.len());
            series.text.extend_from_within(before..before + shared);
            series.text.extend_from_slice(lines.own_text(line));
        }
        series
    }

    fn get(&self, line: usize) -> &[u8] {
        let end = self.starts.get(line + 1).copied().unwrap_or(self.text.len());
        &self.text[self.starts[line]..end]
    }
}

struct Reading<'l, 'b> {
    old: &'l Remembered,
    body: &'b [u8],
    format: Format,
    /// Where the next line begins in the body.
    at: usize,
    /// The line that is expected there.
    next: usize,
    /// Where in the body the series of the line before that one begins.
    last_series: usize,
    parser: Option<Parser<'b>>,
    /// Kept as soon as the body differs.
    new: Option<New>,
}

/// The lines of a body that differs from the last one.
struct New {
    text: Vec<u8>,
    lines: Vec<Known>,
    comments: Vec<(u32, u32)>,
    /// Something does not fit into the numbers above.
    is_too_long: bool,
    /// Where in the body the series of the last of these lines is.
    last_series: Range<usize>,
    old: Series,
    by_series: HashTable<u32>,
}

impl New {
    /// The old lines up to this one, the last of which is at `last_series`, and a way to find all of them.
    fn from(old: &Remembered, line: usize, last_series: usize) -> New {
        let series = Series::of(old);
        let mut by_series = HashTable::with_capacity(old.lines.len());
        for index in 0..old.lines.len() {
            let hash = |index: &u32| xxh3_64(series.get(*index as usize));
            by_series.insert_unique(xxh3_64(series.get(index)), index as u32, hash);
        }
        let (text, lines) = (old.text[..old.start(line)].to_vec(), old.lines[..line].to_vec());
        let commented = old.comments.partition_point(|(commented, _)| (*commented as usize) < line);
        let comments = old.comments[..commented].to_vec();
        let last_len = line.checked_sub(1).map_or(0, |last| series.get(last).len());
        let last_series = last_series..last_series + last_len;
        New { text, lines, comments, is_too_long: false, last_series, old: series, by_series }
    }

    fn find(&self, series: &str) -> Option<usize> {
        let is = |index: &u32| self.old.get(*index as usize) == series.as_bytes();
        self.by_series.find(xxh3_64(series.as_bytes()), is).map(|index| *index as usize)
    }

    /// A line that begins at `start`, its series and what follows that up to the value.
    fn add(&mut self, body: &[u8], start: usize, series: Range<usize>, value_at: usize, number: u32) {
        let last = &body[self.last_series.clone()];
        let alike = last.iter().zip(&body[series.clone()]).take_while(|(a, b)| a == b).count();
        let shared = if self.lines.is_empty() { 0 } else { u16::try_from(alike).unwrap_or(u16::MAX) };
        self.text.extend_from_slice(&body[start..series.start]);
        self.text.extend_from_slice(&body[series.start + usize::from(shared)..value_at]);
        // A body for which this is too little is not remembered.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let comments_len = series.start - start;
        if comments_len > 0 {
            self.comments.push((place(self.lines.len()), place(comments_len)));
        }
        let blanks = u8::try_from(value_at - series.end).unwrap_or_else(|_| {
            self.is_too_long = true;
            0
        });
        self.lines.push(Known { end: place(self.text.len()), number, shared, blanks, has_comments: comments_len > 0 });
        self.last_series = series;
    }
}

impl<'b> Reading<'_, 'b> {
    /// Lines that are where they were.
    fn unchanged<R: Receiver>(&mut self, receiver: &mut R) -> Result<(), R::Error> {
        while let Some(known) = self.old.lines.get(self.next) {
            let (comments, rest) = self.old.parts(self.next);
            let series_at = self.at + comments.len();
            let value_at = series_at + usize::from(known.shared) + rest.len();
            if value_at > self.body.len() || !self.is_next(known.shared, comments, rest) {
                return Ok(());
            }
            let series = series_at..value_at - usize::from(known.blanks);
            let line_at = self.at;
            // A name that its value follows without a blank was here; a longer name may begin alike.
            if value_at == series.end && !self.body[series.clone()].ends_with(b"}") {
                return Ok(());
            }
            // A name without labels was here; one with labels behind a blank may begin alike.
            let behind = &self.body[value_at..];
            if matches!(behind.first(), Some(b' ' | b'\t' | b'{')) && behind.trim_ascii_start().starts_with(b"{") {
                return Ok(());
            }
            match plain_value(&self.body[value_at..]) {
                Some((value, length)) => {
                    self.at = value_at + length + 1;
                    receiver
                        .known(known.number, &KnownSample { series: "", value, timestamp: None, exemplar: None })?;
                }
                None => {
                    let parser = parser(&mut self.parser, self.body, self.format)?;
                    parser.seek(value_at);
                    let mut sample = parser.behind_series()?;
                    if sample.exemplar.is_some() {
                        sample.series = std::str::from_utf8(&self.body[series.clone()]).unwrap_or_default();
                    }
                    receiver.known(known.number, &sample)?;
                    self.at = parser.next_position();
                }
            }
            if let Some(new) = &mut self.new {
                new.add(self.body, line_at, series, value_at, known.number);
            }
            self.last_series = series_at;
            self.next += 1;
        }
        Ok(())
    }

    /// Whether the body goes on with this line, which fits into it.
    fn is_next(&self, shared: u16, comments: &[u8], rest: &[u8]) -> bool {
        let (comments_here, here) = self.body[self.at..].split_at(comments.len());
        let (shared_here, rest_here) = here.split_at(usize::from(shared));
        rest_here.starts_with(rest)
            && shared_here == &self.body[self.last_series..][..shared_here.len()]
            && comments_here == comments
    }

    /// All lines were met and nothing else is there.
    fn is_whole(&self) -> bool {
        let rest = &self.body[self.at..];
        let end = match self.format {
            Format::Prometheus => rest.is_empty(),
            Format::OpenMetrics => rest == b"# EOF\n" || rest == b"# EOF",
        };
        self.next == self.old.lines.len() && end
    }

    /// The body from where it differs.
    fn changed<R: Receiver>(&mut self, receiver: &mut R) -> Result<(), R::Error> {
        let mut start = self.at;
        loop {
            let parser = parser(&mut self.parser, self.body, self.format)?;
            if start == self.at {
                parser.seek(self.at);
            }
            let Some(line) = parser.next_line()? else { return Ok(()) };
            let Line::Sample(sample) = line else {
                receiver.metadata(&line);
                self.at = parser.next_position();
                continue;
            };
            let new = self.new.get_or_insert_with(|| New::from(self.old, self.next, self.last_series));
            let found = new.find(sample.series);
            let number = match found {
                Some(line) => {
                    let SampleLine { series, value, timestamp, exemplar, .. } = &sample;
                    let known =
                        KnownSample { series, value: *value, timestamp: *timestamp, exemplar: exemplar.clone() };
                    let number = self.old.lines[line].number;
                    receiver.known(number, &known)?;
                    number
                }
                None => receiver.unknown(&sample)?,
            };
            let series_len = sample.series.len();
            let series = parser.series_position()..parser.series_position() + series_len;
            if let Some(line) = found {
                (self.next, self.last_series) = (line + 1, series.start);
            }
            new.add(self.body, start, series, parser.value_position(), number);
            self.at = parser.next_position();
            // What follows mostly stands where it stood.
            self.unchanged(receiver)?;
            start = self.at;
        }
    }
}

fn parser<'p, 'b>(
    parser: &'p mut Option<Parser<'b>>,
    body: &'b [u8],
    format: Format,
) -> Result<&'p mut Parser<'b>, ParseError> {
    match parser {
        Some(parser) => Ok(parser),
        None => Ok(parser.insert(Parser::from_bytes(body, format)?)),
    }
}

/// A number with nothing behind it but the end of the line, and its length.
fn plain_value(bytes: &[u8]) -> Option<(f64, usize)> {
    let (mut whole, mut length) = (0u64, 0);
    // 15 digits are exact in a float.
    while length < 16 {
        let digit = bytes.get(length)?.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        whole = whole * 10 + u64::from(digit);
        length += 1;
    }
    if bytes.get(length) == Some(&b'\n') && (1..=15).contains(&length) {
        return Some((whole as f64, length));
    }
    let length = bytes.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\n'))?;
    if bytes[length] != b'\n' {
        return None;
    }
    number(&bytes[..length]).map(|value| (value, length))
}

#[cfg(test)]
mod tests;
