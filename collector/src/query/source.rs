//! The store as the engine reads it: where `promql` and `storage` meet.
//!
//! Plain samples are lent as they lie in the store, sealed ones are decoded into memory that is used again.

use std::ops::ControlFlow;
use std::sync::Arc;

use promql::{Columns, ExtraColumns, PointSeries, Selected, Series, SeriesId, Snapshot, Source, SourceError};
use storage::Storage;
use telemetry::{Labels, Matcher, Timestamp};

pub(super) struct StorageSource(pub(super) Arc<Storage>);

impl Source for StorageSource {
    fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Result<Vec<Series>, SourceError> {
        let series = self.0.select(matchers, start, end).into_iter().filter(|series| !series.samples.is_empty());
        Ok(series.map(|s| Series { labels: s.labels, samples: s.samples }).collect())
    }

    fn select_points(
        &self,
        matchers: &[Matcher],
        start: Timestamp,
        end: Timestamp,
    ) -> Result<Vec<PointSeries>, SourceError> {
        let points = |series: storage::SeriesData| PointSeries {
            labels: series.labels,
            floats: series.samples,
            histograms: series
                .histograms
                .iter()
                .map(|(at, histogram)| (*at, Arc::new(histogram.as_ref().into())))
                .collect(),
            ..PointSeries::default()
        };
        Ok(self.0.select(matchers, start, end).into_iter().map(points).collect())
    }

    fn snapshot(&self) -> Option<Box<dyn Snapshot + '_>> {
        Some(Box::new(StorageSnapshot(&self.0)))
    }
}

/// The store as it is; what comes in during a query is newer than the times that the query asks for.
struct StorageSnapshot<'s>(&'s Storage);

impl Snapshot for StorageSnapshot<'_> {
    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    fn resolve(&self, matchers: &[Matcher]) -> Result<Arc<Selected>, SourceError> {
        let (ids, epoch) = self.0.resolve(matchers);
        Ok(Arc::new(Selected { ids: ids.into_iter().map(|id| SeriesId(id.0)).collect(), epoch }))
    }

    fn labels(&self, id: SeriesId) -> Labels {
        self.0.labels(storage::SeriesId(id.0)).unwrap_or_default()
    }

    fn scan(
        &self,
        ids: &[SeriesId],
        start: Timestamp,
        end: Timestamp,
        visit: &mut dyn FnMut(usize, Columns<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let ids: Vec<storage::SeriesId> = ids.iter().map(|id| storage::SeriesId(id.0)).collect();
        self.0.scan(&ids, start, end, &mut |index, columns| {
            let storage::Columns { times, values, histograms } = columns;
            if histograms.is_empty() {
                return visit(index, Columns { times, values, extra: None });
            }
            let histograms: Vec<_> = histograms
                .iter()
                .map(|(at, histogram)| (Timestamp(*at), Arc::new(histogram.as_ref().into())))
                .collect();
            let extra = ExtraColumns { histograms: &histograms, ..ExtraColumns::default() };
            visit(index, Columns { times, values, extra: Some(&extra) })
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use promql::{Engine, Limits};
    use telemetry::{HistogramSample, Sample};

    use super::*;

    fn answer(source: &StorageSource, expr: &str, at: i64) -> String {
        let query = promql::parse(expr).unwrap();
        format!("{:?}", Engine::new(Limits::default()).instant(&query, source, Timestamp(at)).unwrap())
    }

    #[test]
    fn plain_and_sealed_samples_and_histograms_answer_queries() {
        let storage = Arc::new(Storage::new(storage::Config::default()));
        let labels = |name: &str, i: usize| Labels::from_pairs([("__name__", name.to_owned()), ("i", i.to_string())]);
        // Long enough for blocks; each counter gains ten times its number in a minute.
        for round in 0..100i64 {
            let at = Timestamp(round * 15_000);
            let sample = |i: usize| Sample {
                labels: labels("c", i),
                timestamp: at,
                value: (round * 10 * i as i64) as f64 / 4.0,
            };
            assert_eq!(storage.append(&(1..4).map(sample).collect::<Vec<_>>(), at).appended, 3);
            let histogram = telemetry::Histogram {
                count: 7.0 * round as f64,
                sum: 3.5 * round as f64,
                positive: vec![(0, 7.0 * round as f64)],
                ..telemetry::Histogram::default()
            };
            let sample = HistogramSample { labels: labels("h", 1), timestamp: at, histogram };
            assert_eq!(storage.append_histograms(&[sample], at).appended, 1);
        }
        let source = StorageSource(storage);
        let end = 99 * 15_000;
        for (expr, value) in [
            ("round(sum(rate(c[1m])) * 60)", "60.0"),
            ("sum(count_over_time(c[20m]))", "240.0"),
            ("histogram_count(h)", "693.0"),
            ("histogram_avg(h)", "0.5"),
            ("count(c) + count(h)", "4.0"),
        ] {
            let found = answer(&source, expr, end);
            assert!(found.contains(&format!("value: {value},")), "{expr}: {found}");
        }
    }
}
