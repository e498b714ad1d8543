//! The native histograms of a target: their labels worked out once, their resolution kept in bounds, and markers for
//! those that vanish.

use std::collections::{HashMap, HashSet};

use storage::Exemplar;
use telemetry::exposition::protobuf::{NativeSample, Wanted};
use telemetry::histogram::{SCHEMA_MAX, SCHEMA_MIN};
use telemetry::{Histogram, HistogramSample, Labels, Timestamp};

use super::{Config, FailureReason, ScrapeError};
use crate::config::Global;

/// What of histograms is kept, and how fine they may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistogramSettings {
    pub wanted: Wanted,
    pub buckets_max: usize,
    pub schema_max: i32,
}

impl HistogramSettings {
    pub(super) fn new(job: &Config, global: &Global) -> Self {
        let buckets_max = usize::try_from(job.native_histogram_bucket_limit).unwrap_or(usize::MAX);
        HistogramSettings {
            wanted: Wanted {
                native: job.scrape_native_histograms.unwrap_or(global.scrape_native_histograms),
                classic_beside_native: job
                    .always_scrape_classic_histograms
                    .unwrap_or(global.always_scrape_classic_histograms),
            },
            buckets_max: if buckets_max == 0 { usize::MAX } else { buckets_max },
            schema_max: schema_of_factor(job.native_histogram_min_bucket_factor),
        }
    }

    /// # Errors
    /// A histogram that has too many buckets at the coarsest resolution, or of bounds that are its own.
    pub(super) fn fit(&self, histogram: &mut Histogram) -> Result<(), ScrapeError> {
        histogram.limit_schema(self.schema_max);
        while histogram.positive.len() + histogram.negative.len() > self.buckets_max {
            if histogram.uses_custom_buckets() || histogram.schema <= SCHEMA_MIN {
                let message = "histogram bucket limit exceeded";
                return Err(ScrapeError::new(FailureReason::BucketLimit, message));
            }
            histogram.limit_schema(histogram.schema - 1);
        }
        Ok(())
    }
}

/// The finest schema whose buckets each reach at least `factor` times as far as the one before.
fn schema_of_factor(factor: f64) -> i32 {
    if factor <= 1.0 {
        return SCHEMA_MAX;
    }
    let schema = (-factor.log2().log2()).floor();
    schema.clamp(f64::from(SCHEMA_MIN), f64::from(SCHEMA_MAX)) as i32
}

/// Of one target.
#[derive(Default)]
pub(super) struct Histograms {
    /// By the text of the series; None where relabelling drops it.
    known: HashMap<String, Option<Labels>>,
    /// Series whose last sample was stored at the scrape's own time and was no marker.
    alive: HashSet<Labels>,
    /// Of those that are known, what the scrape under way has brought.
    fresh: Vec<String>,
    /// Of the scrape under way.
    samples: Vec<HistogramSample>,
}

/// What a scrape's histograms come to, if all else of it is good.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) kept: usize,
    /// Series that were not known.
    pub(super) added: usize,
    pub(super) exemplars: Vec<(Labels, Exemplar)>,
    known: HashMap<String, Option<Labels>>,
    alive: HashSet<Labels>,
    fresh: Vec<String>,
    samples: Vec<HistogramSample>,
}

/// The times of a scrape.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) at: Timestamp,
    /// Samples from after this are left out.
    pub(super) newest: Timestamp,
    /// Times that the target exposes are kept.
    pub(super) honored: bool,
    /// Series with such times take part in staleness.
    pub(super) tracked: bool,
}

impl Histograms {
    /// Takes the histograms of a scrape, with markers for those that it no longer has. `labels_of` works out the labels
    /// of a series that is new.
    pub(super) fn read(
        &self,
        native: Vec<NativeSample>,
        times: Times,
        mut labels_of: impl FnMut(&str) -> Result<Option<Labels>, ScrapeError>,
    ) -> Result<Read, ScrapeError> {
        let mut read = Read::default();
        for NativeSample { series, timestamp, histogram, exemplars } in native {
            let labels = match self.known.get(&series).or_else(|| read.known.get(&series)) {
                Some(labels) => labels.clone(),
                None => {
                    let labels = labels_of(&series)?;
                    read.added += usize::from(labels.is_some());
                    read.fresh.extend(labels.is_some().then(|| series.clone()));
                    labels
                }
            };
            read.known.insert(series, labels.clone());
            let Some(labels) = labels else { continue };
            read.kept += 1;
            let own_time = timestamp.filter(|_| times.honored);
            if own_time.is_none() || times.tracked {
                read.alive.insert(labels.clone());
            }
            let dated = exemplars.into_iter().map(|e| {
                let timestamp = e.timestamp.unwrap_or(times.at);
                (labels.clone(), Exemplar { labels: e.labels, value: e.value, timestamp })
            });
            read.exemplars.extend(dated);
            if own_time.is_none_or(|time| time <= times.newest) {
                read.samples.push(HistogramSample { labels, timestamp: own_time.unwrap_or(times.at), histogram });
            }
        }
        let gone = self.alive.iter().filter(|labels| !read.alive.contains(*labels));
        read.samples.extend(gone.map(|labels| marker(labels, times.at)));
        Ok(read)
    }

    /// The scrape is good.
    pub(super) fn commit(&mut self, read: Read) {
        (self.known, self.alive, self.samples) = (read.known, read.alive, read.samples);
        self.fresh = read.fresh;
    }

    /// How many are new in the scrape under way.
    pub(super) fn fresh_len(&self) -> usize {
        self.fresh.len()
    }

    /// How many were there before.
    pub(super) fn old_len(&self) -> usize {
        self.known.values().flatten().count() - self.fresh.len()
    }

    /// Takes back all but the first of the new ones; the next scrape brings them again.
    pub(super) fn limit_fresh(&mut self, kept: usize) {
        let refused: HashSet<Labels> =
            self.fresh.drain(kept.min(self.fresh.len())..).filter_map(|series| self.known.remove(&series)?).collect();
        if !refused.is_empty() {
            self.alive.retain(|labels| !refused.contains(labels));
            self.samples.retain(|sample| !refused.contains(&sample.labels));
        }
    }

    /// The scrape failed, or there will be none: markers for all that is alive.
    pub(super) fn end_all(&mut self, at: Timestamp) {
        self.samples = self.alive.drain().map(|labels| marker(&labels, at)).collect();
        self.fresh.clear();
    }

    /// The rules of relabelling changed: labels are worked out anew. What they no longer give gets its marker then.
    pub(super) fn forget(&mut self) {
        self.known = HashMap::new();
        self.fresh.clear();
    }

    /// What is to be stored; then nothing is new any more.
    pub(super) fn take(&mut self) -> Vec<HistogramSample> {
        self.fresh.clear();
        std::mem::take(&mut self.samples)
    }
}

fn marker(labels: &Labels, timestamp: Timestamp) -> HistogramSample {
    HistogramSample { labels: labels.clone(), timestamp, histogram: Histogram::stale() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Prometheus' `pickSchema` has it.
    #[test]
    fn a_factor_picks_the_finest_schema_that_keeps_it() {
        for (factor, schema) in
            [(0.0, 8), (1.0, 8), (1.00271, 8), (1.003, 7), (1.1, 2), (2.0, 0), (65536.0, -4), (1e9, -4)]
        {
            assert_eq!(schema_of_factor(factor), schema, "{factor}");
        }
    }

    #[test]
    fn too_many_buckets_are_merged_or_refused() {
        let wanted = Wanted { native: true, classic_beside_native: false };
        let limit = |buckets_max| HistogramSettings { wanted, buckets_max, schema_max: SCHEMA_MAX };
        let fine = Histogram { schema: 3, positive: (1..=8).map(|i| (i, 1.0)).collect(), ..Histogram::default() };
        let mut merged = fine.clone();
        assert_eq!(limit(4).fit(&mut merged), Ok(()));
        assert_eq!((merged.schema, merged.positive.len()), (2, 4));
        let mut custom = Histogram { schema: -53, ..fine };
        assert_eq!(limit(4).fit(&mut custom).unwrap_err().reason, FailureReason::BucketLimit);
        // Both sides of zero together: one bucket is fewer than two.
        let mut both = Histogram { positive: vec![(1, 1.0)], negative: vec![(1, 1.0)], ..Histogram::default() };
        assert_eq!(limit(1).fit(&mut both).unwrap_err().message, "histogram bucket limit exceeded");
    }
}
