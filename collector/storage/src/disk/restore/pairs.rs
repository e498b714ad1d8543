//! The pairs of labels that a checkpoint has, by their number in it.

use hashbrown::HashMap;
use telemetry::Labels;
use telemetry::labels::{decode_pair, encode_pairs};

use super::{RestoredPart, read_bytes};
use crate::column::Reader;
use crate::index::{Numbers, hash_encoded, read_set};

#[derive(Default)]
pub(super) struct PairTexts {
    /// As in [`Labels::encoded_pairs`], one behind the other.
    texts: String,
    /// By the pair's number.
    pairs: Vec<Pair>,
    names: HashMap<Box<str>, u32>,
    /// The names of the last labels whose names were looked at: they ascend.
    ascending: Numbers,
    /// The last series' pairs.
    before: Numbers,
    /// Where a checkpoint has labels as text.
    numbers: HashMap<Box<str>, u32>,
    encoded: String,
}

struct Pair {
    start: usize,
    end: usize,
    name: u32,
}

impl PairTexts {
    /// Adds a series' pairs to the part's; returns how many they are, and the hash of the labels. None for what are no labels.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, part: &mut RestoredPart) -> Option<(usize, u64)> {
        let (mut numbers, mut rest) = (std::mem::take(&mut self.before), reader.rest());
        read_set(&mut rest, &mut numbers)?;
        reader.take(reader.rest().len() - rest.len())?;
        for number in &numbers {
            if *number as usize == self.pairs.len() {
                self.add(std::str::from_utf8(read_bytes(reader)?).ok()?, part)?;
            }
        }
        self.before = numbers;
        self.finish(part)
    }

    /// The same of labels as text.
    pub(super) fn read_text(&mut self, reader: &mut Reader<'_>, part: &mut RestoredPart) -> Option<(usize, u64)> {
        let labels = Labels::from_encoded(std::str::from_utf8(read_bytes(reader)?).ok()?)?;
        self.before.clear();
        for pair in labels.encoded_pairs() {
            let number = match self.numbers.get(pair) {
                Some(known) => *known,
                None => {
                    let new = self.add(pair, part)?;
                    self.numbers.insert(pair.into(), new);
                    new
                }
            };
            self.before.push(number);
        }
        self.finish(part)
    }

    fn add(&mut self, text: &str, part: &mut RestoredPart) -> Option<u32> {
        let (name, value) = decode_pair(text)?;
        // What is no pair as labels have it would not be found again.
        if Labels::from_pairs([(name, value)]).encoded_pairs().next() != Some(text) {
            return None;
        }
        let new_name = self.names.len() as u32;
        let name = *self.names.entry_ref(name).or_insert(new_name);
        let start = self.texts.len();
        self.texts.push_str(text);
        self.pairs.push(Pair { start, end: self.texts.len(), name });
        part.new_pairs.push(text.into());
        u32::try_from(self.pairs.len() - 1).ok()
    }

    fn finish(&mut self, part: &mut RestoredPart) -> Option<(usize, u64)> {
        let PairTexts { texts, pairs, before, encoded, ascending, .. } = self;
        if before.iter().any(|number| *number as usize >= pairs.len()) {
            return None;
        }
        let all = before.iter().map(|number| &pairs[*number as usize]);
        let text = |pair: &Pair| &texts[pair.start..pair.end];
        let names = all.clone().map(|pair| pair.name);
        // Those of neighbours are mostly the same.
        if !names.clone().eq(ascending.iter().copied()) {
            let name = |pair| decode_pair(text(pair)).unwrap_or_default().0;
            if !all.clone().map(name).is_sorted_by(|a, b| a < b) {
                return None;
            }
            *ascending = names.collect();
        }
        encoded.clear();
        encode_pairs(all.map(text), encoded);
        part.pairs.extend_from_slice(before);
        Some((before.len(), hash_encoded(encoded)))
    }
}
