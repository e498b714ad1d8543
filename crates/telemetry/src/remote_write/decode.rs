//! Bytes to series, one at a time, borrowed.

use super::{DecodeError, Exemplar, HistogramPoint, LabelFault, Limits, Message, Metadata, Point, histogram, kind_of};
use crate::labels::METRIC_NAME;
use crate::protobuf::{Malformed, Reader};
use crate::{Labels, Timestamp};

/// Undoes snappy's block format, within the limit.
///
/// # Errors
/// Bytes that are not snappy, or a message above the limit.
pub fn decompress(body: &[u8], limits: &Limits) -> Result<Vec<u8>, DecodeError> {
    let len = snap::raw::decompress_len(body).map_err(|e| DecodeError::Snappy(e.to_string()))?;
    if len > limits.message_bytes_max {
        return Err(DecodeError::TooLarge { len, max: limits.message_bytes_max });
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(|e| DecodeError::Snappy(e.to_string()))
}

/// A series of a request. Its lists are reused for the next one.
#[derive(Clone, Debug, Default)]
pub struct Series<'a> {
    /// As sent: neither sorted nor checked; see [`Series::to_labels`].
    pub labels: Vec<(&'a str, &'a str)>,
    pub samples: Vec<Point>,
    pub histograms: Vec<HistogramPoint>,
    pub exemplars: Vec<Exemplar>,
    /// In 2.0 only.
    pub metadata: Option<Metadata<'a>>,
    fault: Option<LabelFault>,
    references: Vec<u64>,
}

impl<'a> Series<'a> {
    /// The labels as a set.
    ///
    /// # Errors
    /// What Prometheus refuses: no metric name, a name twice, texts that are not UTF-8, references to nowhere.
    pub fn to_labels(&self) -> Result<Labels, LabelFault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let shown = || Labels::from_pairs(self.labels.iter().copied()).to_string();
        if self.labels.iter().any(|(name, _)| name.is_empty()) {
            return Err(LabelFault::EmptyName(shown()));
        }
        if !self.labels.iter().any(|(name, value)| *name == METRIC_NAME && !value.is_empty()) {
            return Err(LabelFault::NoMetricName(shown()));
        }
        if let Some(name) = duplicate(&self.labels) {
            return Err(LabelFault::Duplicate(name.to_owned()));
        }
        Ok(Labels::from_pairs(self.labels.iter().copied()))
    }

    fn clear(&mut self) {
        self.labels.clear();
        self.samples.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.references.clear();
        self.metadata = None;
        self.fault = None;
    }
}

/// A name that stands twice. Senders sort labels, so neighbours are mostly enough.
fn duplicate<'a>(labels: &[(&'a str, &str)]) -> Option<&'a str> {
    if labels.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return None;
    }
    let mut names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// Walks a request.
pub struct Decoder<'a> {
    message: Message,
    reader: Reader<'a>,
    limits: Limits,
    /// None where a symbol is not UTF-8.
    symbols: Vec<Option<&'a str>>,
    metadata: Vec<(&'a str, Metadata<'a>)>,
    series: Series<'a>,
    series_count: usize,
}

impl<'a> Decoder<'a> {
    /// `bytes` are the message, decompressed.
    ///
    /// # Errors
    /// A table of symbols that cannot be read.
    pub fn new(message: Message, bytes: &'a [u8], limits: &Limits) -> Result<Self, DecodeError> {
        let reader = Reader::new(bytes);
        let symbols = if message == Message::V2 { read_symbols(reader, limits)? } else { Vec::new() };
        let series = Series::default();
        let metadata = Vec::new();
        Ok(Decoder { message, reader, limits: *limits, symbols, metadata, series, series_count: 0 })
    }

    /// The next series; None at the end.
    ///
    /// # Errors
    /// Bytes that are no such message, or more of something than the limits allow. Nothing follows an error.
    pub fn next_series(&mut self) -> Result<Option<&Series<'a>>, DecodeError> {
        while let Some((number, field)) = self.reader.next()? {
            match (self.message, number) {
                (Message::V1, 1) | (Message::V2, 5) => {
                    self.series_count += 1;
                    within(self.series_count, self.limits.series_max, "series")?;
                    let message = field.message(&self.reader)?;
                    self.series.clear();
                    self.read_series(message)?;
                    return Ok(Some(&self.series));
                }
                (Message::V1, 3) => {
                    within(self.metadata.len() + 1, self.limits.series_max, "metadata entries")?;
                    let entry = read_metadata(field.message(&self.reader)?)?;
                    self.metadata.extend(entry);
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// What a 1.0 request said of metric families, as far as it has been walked: whole after the last series.
    pub fn metadata(&self) -> &[(&'a str, Metadata<'a>)] {
        &self.metadata
    }

    fn read_series(&mut self, mut message: Reader<'a>) -> Result<(), DecodeError> {
        while let Some((number, field)) = message.next()? {
            // The two protocols number exemplars and histograms the other way round.
            let number = match (self.message, number) {
                (Message::V2, 3) => 4,
                (Message::V2, 4) => 3,
                (_, number) => number,
            };
            let (series, points_max) = (&mut self.series, self.limits.points_per_series_max);
            match (self.message, number) {
                (Message::V1, 1) => {
                    within(series.labels.len() + 1, self.limits.labels_per_series_max, "labels of a series")?;
                    match read_label(field.message(&message)?)? {
                        Some(label) => series.labels.push(label),
                        None => series.fault = Some(LabelFault::NotUtf8),
                    }
                }
                (Message::V2, 1) => {
                    let max = self.limits.labels_per_series_max;
                    field.varints(&message, |reference| push(&mut series.references, reference, max))?;
                    within(series.references.len() / 2, max, "labels of a series")?;
                }
                (_, 2) => {
                    series.samples.push(read_sample(field.message(&message)?)?);
                    within(series.samples.len(), points_max, "samples of a series")?;
                }
                (_, 3) => {
                    let exemplar = self.read_exemplar(field.message(&message)?)?;
                    self.series.exemplars.extend(exemplar);
                    within(self.series.exemplars.len(), points_max, "exemplars of a series")?;
                }
                (_, 4) => {
                    series.histograms.push(histogram::read(field.message(&message)?)?);
                    within(series.histograms.len(), points_max, "histograms of a series")?;
                }
                (Message::V2, 5) => {
                    let metadata = read_metadata_refs(field.message(&message)?, &self.symbols)?;
                    self.series.metadata = Some(metadata);
                }
                (Message::V2, 6) => {
                    // Early drafts of 2.0 had one start for the whole series.
                    let start = field.int(&message)?;
                    let start = (start != 0).then_some(Timestamp(start));
                    series.samples.iter_mut().for_each(|point| point.start = point.start.or(start));
                }
                _ => {}
            }
        }
        self.resolve_labels();
        Ok(())
    }

    fn resolve_labels(&mut self) {
        let series = &mut self.series;
        match pairs(&series.references, &self.symbols, |pair| series.labels.push(pair)) {
            Ok(()) => {}
            Err(fault) => series.fault = Some(fault),
        }
    }

    /// None for one whose labels are unsound: exemplars are a courtesy.
    fn read_exemplar(&self, mut message: Reader<'a>) -> Result<Option<Exemplar>, DecodeError> {
        let mut labels = Vec::new();
        let mut references = Vec::new();
        let (mut value, mut timestamp, mut sound) = (0.0, 0, true);
        let max = self.limits.labels_per_series_max;
        while let Some((number, field)) = message.next()? {
            match (self.message, number) {
                (Message::V1, 1) => match read_label(field.message(&message)?)? {
                    Some(label) => labels.push(label),
                    None => sound = false,
                },
                (Message::V2, 1) => field.varints(&message, |reference| push(&mut references, reference, max))?,
                (_, 2) => value = field.double(&message)?,
                (_, 3) => timestamp = field.int(&message)?,
                _ => {}
            }
            within(labels.len().max(references.len() / 2), max, "labels of an exemplar")?;
        }
        sound &= pairs(&references, &self.symbols, |pair| labels.push(pair)).is_ok();
        let timestamp = (timestamp != 0).then_some(Timestamp(timestamp));
        Ok(sound.then(|| Exemplar { labels: Labels::from_pairs(labels), value, timestamp }))
    }
}

fn within(count: usize, max: usize, what: &'static str) -> Result<(), DecodeError> {
    if count > max { Err(DecodeError::TooMany { what, max }) } else { Ok(()) }
}

/// Keeps what is needed to see that there are too many.
fn push(references: &mut Vec<u64>, reference: u64, labels_max: usize) {
    if references.len() < 2 * labels_max.saturating_add(1) {
        references.push(reference);
    }
}

fn read_symbols<'a>(mut reader: Reader<'a>, limits: &Limits) -> Result<Vec<Option<&'a str>>, DecodeError> {
    let mut symbols = Vec::new();
    while let Some((number, field)) = reader.next()? {
        if number == 4 {
            within(symbols.len() + 1, limits.symbols_max, "symbols")?;
            symbols.push(std::str::from_utf8(field.message(&reader)?.bytes()).ok());
        }
    }
    Ok(symbols)
}

/// None where a text is not UTF-8.
fn read_label<'a>(mut message: Reader<'a>) -> Result<Option<(&'a str, &'a str)>, Malformed> {
    let (mut name, mut value) = (Some(""), Some(""));
    while let Some((number, field)) = message.next()? {
        match number {
            1 => name = std::str::from_utf8(field.message(&message)?.bytes()).ok(),
            2 => value = std::str::from_utf8(field.message(&message)?.bytes()).ok(),
            _ => {}
        }
    }
    Ok(name.zip(value))
}

fn pairs<'a>(
    references: &[u64],
    symbols: &[Option<&'a str>],
    mut each: impl FnMut((&'a str, &'a str)),
) -> Result<(), LabelFault> {
    if !references.len().is_multiple_of(2) {
        return Err(LabelFault::OddReferences);
    }
    for pair in references.chunks_exact(2) {
        each((symbol(symbols, pair[0])?, symbol(symbols, pair[1])?));
    }
    Ok(())
}

fn symbol<'a>(symbols: &[Option<&'a str>], reference: u64) -> Result<&'a str, LabelFault> {
    let found = usize::try_from(reference).ok().and_then(|i| symbols.get(i));
    found.ok_or(LabelFault::UnknownSymbol(reference))?.ok_or(LabelFault::NotUtf8)
}

fn read_sample(mut message: Reader<'_>) -> Result<Point, Malformed> {
    let (mut point, mut start) = (Point::default(), 0);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => point.value = field.double(&message)?,
            2 => point.timestamp = Timestamp(field.int(&message)?),
            3 => start = field.int(&message)?,
            _ => {}
        }
    }
    point.start = (start != 0).then_some(Timestamp(start));
    Ok(point)
}

/// `MetricMetadata` of 1.0; None where a text is not UTF-8.
fn read_metadata<'a>(mut message: Reader<'a>) -> Result<Option<(&'a str, Metadata<'a>)>, Malformed> {
    let (mut kind, mut texts) = (0, [Some(""); 3]);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => kind = field.uint(&message)?,
            2 => texts[0] = std::str::from_utf8(field.message(&message)?.bytes()).ok(),
            4 => texts[1] = std::str::from_utf8(field.message(&message)?.bytes()).ok(),
            5 => texts[2] = std::str::from_utf8(field.message(&message)?.bytes()).ok(),
            _ => {}
        }
    }
    let [Some(name), Some(help), Some(unit)] = texts else { return Ok(None) };
    Ok(Some((name, Metadata { kind: kind_of(kind), help, unit })))
}

/// `Metadata` of 2.0; a reference to nowhere is an empty text.
fn read_metadata_refs<'a>(mut message: Reader<'a>, symbols: &[Option<&'a str>]) -> Result<Metadata<'a>, Malformed> {
    let mut metadata = Metadata::default();
    while let Some((number, field)) = message.next()? {
        match number {
            1 => metadata.kind = kind_of(field.uint(&message)?),
            3 => metadata.help = symbol(symbols, field.uint(&message)?).unwrap_or_default(),
            4 => metadata.unit = symbol(symbols, field.uint(&message)?).unwrap_or_default(),
            _ => {}
        }
    }
    Ok(metadata)
}
