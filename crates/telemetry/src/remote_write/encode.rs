//! Series to bytes.

use hashbrown::HashMap;

use super::blocks::{BLOCK_BYTES, Blocks};
use super::{Message, Metadata, TimeSeries, histogram, kind_number};
use crate::Labels;
use crate::exposition::Exemplar;
use crate::protobuf::Writer;

/// Builds one request. What it has grown to is told by [`Encoder::message_bytes`], so that the caller can cut batches.
pub struct Encoder {
    message: Message,
    /// What is not compressed yet.
    series: Writer,
    blocks: Blocks,
    symbols: Symbols,
    /// Of the series at hand; reused.
    references: Vec<u64>,
}

impl Encoder {
    pub fn new(message: Message) -> Self {
        let (series, blocks) = (Writer::default(), Blocks::new());
        Encoder { message, series, blocks, symbols: Symbols::default(), references: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.series.out.is_empty() && self.blocks.bytes() == 0
    }

    /// The size of the message so far, before compression.
    pub fn message_bytes(&self) -> usize {
        self.blocks.bytes() + self.series.out.len() + self.symbols.bytes
    }

    pub fn series(&mut self, series: &TimeSeries<'_>) {
        match self.message {
            Message::V1 => {
                self.series_v1(series);
                // Of 2.0 the symbols stand first, and are known last.
                if self.series.out.len() >= BLOCK_BYTES {
                    self.blocks.push(&self.series.out);
                    self.series.out.clear();
                }
            }
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
    pub fn finish(mut self) -> Vec<u8> {
        if self.message == Message::V2 {
            let mut writer = Writer::default();
            // The first symbol is empty, always.
            writer.text_always(4, "");
            self.symbols.list.iter().for_each(|symbol| writer.text_always(4, symbol));
            self.blocks.push(&writer.out);
        }
        self.blocks.push(&self.series.out);
        self.blocks.finish()
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
