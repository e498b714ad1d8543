//! Bodies of one target, read again and again: line by line against the last one.
//!
//! A target names the same series in the same order each time, and only the values change. So each line is compared
//! with what stood there the last time; where it is equal up to the value, only the value is read, and the series is
//! told by the number that the reader gave it when it was new. Lines that moved are looked up, and only new ones are
//! taken apart.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::lex::number;
use super::{ExemplarRef, Format, Line, ParseError, Parser, SampleLine};
use crate::Timestamp;

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
#[derive(Default)]
pub struct Lines {
    /// For each line all that stands between the line before it and its own value, comments included.
    text: Box<[u8]>,
    lines: Box<[Known]>,
}

#[derive(Clone, Copy)]
struct Known {
    /// Where in the text the series begins, and where what stands before the value ends.
    series: u32,
    end: u32,
    /// Length of the series' text; blanks may follow it.
    series_len: u32,
    number: u32,
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
        let mut reading = Reading { old: self, body, at: 0, next: 0, parser: None, format, new: None };
        reading.unchanged(receiver)?;
        if reading.is_whole() {
            return Ok(Order::Same);
        }
        reading.changed(receiver)?;
        match reading.new {
            // The rest had nothing but comments.
            None if reading.next == self.lines.len() => Ok(Order::Same),
            new => {
                // A body that ends earlier has all lines so far in their places.
                let new = new.unwrap_or_else(|| New::from(self, reading.next));
                (self.text, self.lines) = (new.text.into(), new.lines.into());
                Ok(Order::Other)
            }
        }
    }

    /// Forgets all lines.
    pub fn forget(&mut self) {
        *self = Lines::default();
    }

    /// Memory of what is remembered.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.lines.len() * size_of::<Known>()
    }

    fn start(&self, line: usize) -> usize {
        line.checked_sub(1).map_or(0, |before| self.lines[before].end as usize)
    }

    fn series(&self, known: &Known) -> &[u8] {
        &self.text[known.series as usize..][..known.series_len as usize]
    }
}

struct Reading<'l, 'b> {
    old: &'l Lines,
    body: &'b [u8],
    format: Format,
    /// Where the next line begins in the body.
    at: usize,
    /// The line that is expected there.
    next: usize,
    parser: Option<Parser<'b>>,
    /// Kept as soon as the body differs.
    new: Option<New>,
}

/// The lines of a body that differs from the last one.
struct New {
    text: Vec<u8>,
    lines: Vec<Known>,
    by_series: HashTable<u32>,
}

impl New {
    /// The old lines up to this one, and a way to find all of them.
    fn from(old: &Lines, line: usize) -> New {
        let mut by_series = HashTable::with_capacity(old.lines.len());
        for (index, known) in old.lines.iter().enumerate() {
            let hash = |index: &u32| xxh3_64(old.series(&old.lines[*index as usize]));
            by_series.insert_unique(xxh3_64(old.series(known)), index as u32, hash);
        }
        New { text: old.text[..old.start(line)].to_vec(), lines: old.lines[..line].to_vec(), by_series }
    }

    fn find(&self, old: &Lines, series: &str) -> Option<usize> {
        let is = |index: &u32| old.series(&old.lines[*index as usize]) == series.as_bytes();
        self.by_series.find(xxh3_64(series.as_bytes()), is).map(|index| *index as usize)
    }

    fn add(&mut self, before_value: &[u8], series_at: usize, series_len: usize, number: u32) {
        let start = self.text.len();
        self.text.extend_from_slice(before_value);
        // Bodies are far below this; one that is not would only be read slowly.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        self.lines.push(Known {
            series: place(start + series_at),
            end: place(self.text.len()),
            series_len: place(series_len),
            number,
        });
    }
}

impl<'b> Reading<'_, 'b> {
    /// Lines that are where they were.
    fn unchanged<R: Receiver>(&mut self, receiver: &mut R) -> Result<(), R::Error> {
        while let Some(known) = self.old.lines.get(self.next) {
            let start = self.old.start(self.next);
            let before_value = &self.old.text[start..known.end as usize];
            if !self.body[self.at..].starts_with(before_value) {
                return Ok(());
            }
            let value_at = self.at + before_value.len();
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
                        sample.series = std::str::from_utf8(self.old.series(known)).unwrap_or_default();
                    }
                    receiver.known(known.number, &sample)?;
                    self.at = parser.next_position();
                }
            }
            if let Some(new) = &mut self.new {
                let series_at = known.series as usize - start;
                new.add(before_value, series_at, known.series_len as usize, known.number);
            }
            self.next += 1;
        }
        Ok(())
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
            let new = self.new.get_or_insert_with(|| New::from(self.old, self.next));
            let number = match new.find(self.old, sample.series) {
                Some(line) => {
                    let SampleLine { series, value, timestamp, exemplar, .. } = &sample;
                    let known =
                        KnownSample { series, value: *value, timestamp: *timestamp, exemplar: exemplar.clone() };
                    let number = self.old.lines[line].number;
                    receiver.known(number, &known)?;
                    self.next = line + 1;
                    number
                }
                None => receiver.unknown(&sample)?,
            };
            let series_len = sample.series.len();
            let series_at = parser.series_position() - start;
            new.add(&self.body[start..parser.value_position()], series_at, series_len, number);
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
    if bytes[length] == b'\n' && (1..=15).contains(&length) {
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
