//! What is known of metric families, for servers that are told.

use std::collections::HashMap;
use std::time::Duration;

use telemetry::Labels;

use super::config::MetadataConfig;
use super::taps::FamilyMetadata;

/// Families beyond are left out and counted; more than any fleet has, and less than what a broken target makes up.
const FAMILIES_MAX: usize = 100_000;
/// What a sample's name may add to its family's.
const SUFFIXES: [&str; 6] = ["_bucket", "_count", "_sum", "_total", "_created", "_info"];

/// By name; of several targets the one that was heard last counts.
pub(super) struct Families {
    config: MetadataConfig,
    known: HashMap<String, FamilyMetadata>,
}

impl Families {
    pub(super) fn new(config: &MetadataConfig) -> Self {
        Families { config: config.clone(), known: HashMap::new() }
    }

    /// False where it is not kept.
    pub(super) fn learn(&mut self, metadata: &FamilyMetadata) -> bool {
        let is_full = self.known.len() >= FAMILIES_MAX && !self.known.contains_key(&metadata.family);
        if !self.config.send || is_full {
            return false;
        }
        self.known.insert(metadata.family.clone(), metadata.clone());
        true
    }

    pub(super) fn left_out_because(&self) -> &'static str {
        if self.config.send { "too_many_families" } else { "switched_off" }
    }

    /// Of the family that a series belongs to.
    pub(super) fn of(&self, labels: &Labels) -> Option<&FamilyMetadata> {
        let name = labels.metric_name()?;
        let family = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
        self.known.get(name).or_else(|| self.known.get(family?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn interval(&self) -> Duration {
        self.config.send_interval
    }

    /// All, as many at a time as one request may hold.
    pub(super) fn chunks(&self) -> Vec<Vec<&FamilyMetadata>> {
        let all: Vec<&FamilyMetadata> = self.known.values().collect();
        all.chunks(self.config.max_samples_per_send).map(<[_]>::to_vec).collect()
    }
}
