//! Samples in memory, and on disk. No sockets, no clock: `now` is an argument.

use std::collections::HashMap;
use std::sync::RwLock;
use std::time::Duration;

use telemetry::{Labels, Matcher, Sample, Timestamp};

#[derive(Clone, Debug)]
pub struct Config {
    pub retention: Duration,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppendReport {
    pub appended: usize,
}

#[derive(Clone, Debug)]
pub struct SeriesData {
    pub labels: Labels,
    pub samples: Vec<(Timestamp, f64)>,
}

pub struct Storage {
    series: RwLock<HashMap<Labels, Vec<(Timestamp, f64)>>>,
}

impl Storage {
    pub fn new(_config: Config) -> Self {
        Storage { series: RwLock::default() }
    }

    pub fn append(&self, samples: &[Sample], _now: Timestamp) -> AppendReport {
        let mut series = self.series.write().expect("no one panics holding it");
        for sample in samples {
            series.entry(sample.labels.clone()).or_default().push((sample.timestamp, sample.value));
        }
        AppendReport { appended: samples.len() }
    }

    /// `start` exclusive, `end` inclusive.
    pub fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Vec<SeriesData> {
        let series = self.series.read().expect("no one panics holding it");
        series
            .iter()
            .filter(|(labels, _)| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default())))
            .map(|(labels, samples)| SeriesData {
                labels: labels.clone(),
                samples: samples.iter().filter(|(t, _)| *t > start && *t <= end).copied().collect(),
            })
            .collect()
    }
}
