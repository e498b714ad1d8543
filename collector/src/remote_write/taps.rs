//! What was stored, on its way to the batchers.

use std::sync::Arc;

use storage::Exemplar;
use telemetry::exposition::MetricKind;
use telemetry::remote_write::Metadata;
use telemetry::{HistogramSample, Labels, Sample, Timestamp};
use tokio::sync::mpsc;

use super::counts::Counts;
use super::metrics::RemoteSeries;
use crate::state::lease::Lease;

/// What is known of a metric family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyMetadata {
    pub family: String,
    pub kind: MetricKind,
    pub help: String,
    pub unit: String,
}

impl FamilyMetadata {
    pub fn of(family: &str, metadata: &Metadata<'_>) -> Self {
        let Metadata { kind, help, unit } = *metadata;
        FamilyMetadata { family: family.to_owned(), kind, help: help.to_owned(), unit: unit.to_owned() }
    }
}

/// A batch of one kind.
pub(super) enum Stored {
    Samples(Vec<Sample>),
    Histograms(Vec<HistogramSample>),
    /// With the labels of their series.
    Exemplars(Vec<(Labels, Exemplar)>),
    Metadata(Vec<FamilyMetadata>),
}

impl Stored {
    fn counts(&self) -> Counts {
        match self {
            Stored::Samples(list) => Counts::samples(list.len()),
            Stored::Histograms(list) => Counts::histograms(list.len()),
            Stored::Exemplars(list) => Counts::exemplars(list.len()),
            Stored::Metadata(list) => Counts::metadata(list.len()),
        }
    }

    fn newest(&self) -> Option<Timestamp> {
        match self {
            Stored::Samples(list) => list.iter().map(|sample| sample.timestamp).max(),
            Stored::Histograms(list) => list.iter().map(|sample| sample.timestamp).max(),
            Stored::Exemplars(_) | Stored::Metadata(_) => None,
        }
    }
}

/// Where the writer hands on what it stored; the batchers end when this is dropped.
#[derive(Default)]
pub struct Taps(pub(super) Vec<Tap>);

pub(super) struct Tap {
    pub(super) queue: mpsc::Sender<Arc<Stored>>,
    pub(super) series: RemoteSeries,
    /// Recorded samples go by here only while this is ours.
    pub(super) only_held: Option<Lease>,
}

/// All of them never wait: a queue that is full drops the batch and counts it.
impl Taps {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn samples(&self, samples: Vec<Sample>) {
        self.hand_on(Stored::Samples(samples), |_| true);
    }

    pub fn histograms(&self, samples: Vec<HistogramSample>) {
        self.hand_on(Stored::Histograms(samples), |_| true);
    }

    /// What rules recorded, which one of several replicas sends.
    pub fn recorded(&self, samples: Vec<Sample>) {
        self.hand_on(Stored::Samples(samples), Tap::is_ours);
    }

    pub fn recorded_histograms(&self, samples: Vec<HistogramSample>) {
        self.hand_on(Stored::Histograms(samples), Tap::is_ours);
    }

    pub fn exemplars(&self, exemplars: Vec<(Labels, Exemplar)>) {
        self.hand_on(Stored::Exemplars(exemplars), |_| true);
    }

    pub fn metadata(&self, metadata: Vec<FamilyMetadata>) {
        self.hand_on(Stored::Metadata(metadata), |_| true);
    }

    fn hand_on(&self, stored: Stored, is_ours: impl Fn(&Tap) -> bool) {
        let (counts, newest) = (stored.counts(), stored.newest());
        if self.0.is_empty() || counts.is_none() {
            return;
        }
        let stored = Arc::new(stored);
        for tap in &self.0 {
            if !is_ours(tap) {
                tap.series.left(counts.total());
                continue;
            }
            tap.series.taken(counts, newest);
            if tap.queue.try_send(stored.clone()).is_err() {
                tap.series.dropped("queue_full", counts);
            }
        }
    }
}

impl Tap {
    fn is_ours(&self) -> bool {
        self.only_held.as_ref().is_none_or(Lease::is_held)
    }
}
