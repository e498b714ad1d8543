//! Series to bytes.

use hashbrown::HashMap;

use super::{Message, Metadata, TimeSeries, histogram, kind_number};
use crate::Labels;
use crate::exposition::Exemplar;
use crate::protobuf::Writer;

/// Builds one request. What it has grown to is told by [`Encoder::message_bytes`], so that the caller can cut batches.
pub struct Encoder {
    message: Message,
    series: Writer,
    symbols: Symbols,
    /// Of the series at hand; reused.
    references: Vec<u64>,
}

impl Encoder {
    pub fn new(message: Message) -> Self {
        Encoder { message, series: Writer::default(), symbols: Symbols::default(), references: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.series.out.is_empty()
    }

    /// The size of the message so far, before compression.
    pub fn message_bytes(&self) -> usize {
        self.series.out.len() + self.symbols.bytes
    }

    pub fn series(&mut self, series: &TimeSeries<'_>) {
        match self.message {
            Message::V1 => self.series_v1(series),
            Message::V2 => self.series_v2(series),
        }
    }

    /// What is known of a metric family. 1.0 only: 2.0 carries it in each series, and this adds nothing there.
    pub fn metadata(&mut self, family: &str, metadata: &Metadata<'_>) {
        if self.message == Message::V1 {
            self.series.message(3, |w| {
                w.uint(1, kind_number(metadata.kind));
                w.text(2, family);
                w.text(4, metadata.help);
                w.text(5, metadata.unit);
            });
        }
    }

    /// The request's body, compressed.
    pub fn finish(self) -> Vec<u8> {
        let message = self.finish_uncompressed();
        // Refused only for more than 4 GiB, of which batches are far away.
        snap::raw::Encoder::new().compress_vec(&message).unwrap_or_default()
    }

    pub(super) fn finish_uncompressed(self) -> Vec<u8> {
        if self.message == Message::V1 {
            return self.series.out;
        }
        let mut writer = Writer::default();
        writer.out.reserve(self.series.out.len() + self.symbols.bytes + 64);
        // The first symbol is empty, always.
        writer.text_always(4, "");
        self.symbols.list.iter().for_each(|symbol| writer.text_always(4, symbol));
        writer.out.extend_from_slice(&self.series.out);
        writer.out
    }

    fn series_v1(&mut self, series: &TimeSeries<'_>) {
        self.series.message(1, |w| {
            write_labels(w, series.labels);
            for point in series.samples {
                w.message(2, |w| {
                    w.double(1, point.value);
                    w.int(2, point.timestamp.0);
                });
            }
            for exemplar in series.exemplars {
                w.message(3, |w| {
                    write_labels(w, &exemplar.labels);
                    write_exemplar(w, exemplar);
                });
            }
            for (timestamp, histogram) in series.histograms {
                w.message(4, |w| histogram::write(w, *timestamp, histogram));
            }
        });
    }

    fn series_v2(&mut self, series: &TimeSeries<'_>) {
        let (symbols, references) = (&mut self.symbols, &mut self.references);
        self.series.message(5, |w| {
            symbols.references(series.labels, references);
            w.packed_uints(1, references.iter().copied());
            for point in series.samples {
                w.message(2, |w| {
                    w.double(1, point.value);
                    w.int(2, point.timestamp.0);
                    w.int(3, point.start.map_or(0, |start| start.0));
                });
            }
            for (timestamp, histogram) in series.histograms {
                w.message(3, |w| histogram::write(w, *timestamp, histogram));
            }
            for exemplar in series.exemplars {
                symbols.references(&exemplar.labels, references);
                w.message(4, |w| {
                    w.packed_uints(1, references.iter().copied());
                    write_exemplar(w, exemplar);
                });
            }
            if let Some(metadata) = series.metadata {
                w.message(5, |w| {
                    w.uint(1, kind_number(metadata.kind));
                    w.uint(3, symbols.reference(metadata.help));
                    w.uint(4, symbols.reference(metadata.unit));
                });
            }
        });
    }
}

fn write_labels(w: &mut Writer, labels: &Labels) {
    for (name, value) in labels.iter() {
        w.message(1, |w| {
            w.text(1, name);
            w.text(2, value);
        });
    }
}

fn write_exemplar(w: &mut Writer, exemplar: &Exemplar) {
    w.double(2, exemplar.value);
    w.int(3, exemplar.timestamp.map_or(0, |timestamp| timestamp.0));
}

/// The table of texts, each once; number 0 is the empty text and not in the list.
#[derive(Default)]
struct Symbols {
    list: Vec<String>,
    numbers: HashMap<String, u64>,
    bytes: usize,
}

impl Symbols {
    fn references(&mut self, labels: &Labels, references: &mut Vec<u64>) {
        references.clear();
        references.extend(labels.iter().flat_map(|(name, value)| [self.reference(name), self.reference(value)]));
    }

    fn reference(&mut self, text: &str) -> u64 {
        if text.is_empty() {
            return 0;
        }
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        self.list.push(text.to_owned());
        let number = self.list.len() as u64;
        self.numbers.insert(text.to_owned(), number);
        self.bytes += text.len() + 4;
        number
    }
}
