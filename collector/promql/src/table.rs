//! A source that holds its series in memory, in columns: for tests, backtests and measurements.

use std::ops::ControlFlow;
use std::sync::Arc;

use telemetry::{Labels, Matcher, Timestamp};

use crate::histogram::Histogram;
use crate::source::{Columns, ExtraColumns, PointSeries, Selected, Series, SeriesId, Snapshot, Source, SourceError};

/// Series that do not change. Neighbours with the same sample times share them.
#[derive(Clone, Debug, Default)]
pub struct SeriesTable {
    series: Vec<TableSeries>,
    /// Lends no columns: each query goes the general way.
    copies_only: bool,
}

#[derive(Clone, Debug)]
struct TableSeries {
    labels: Labels,
    times: Arc<[i64]>,
    values: Vec<f64>,
    float_starts: Vec<i64>,
    histograms: Vec<(Timestamp, Arc<Histogram>)>,
    histogram_starts: Vec<i64>,
}

impl SeriesTable {
    /// Takes series in the order in which queries are to see them; their samples must rise in time.
    pub fn new(series: impl IntoIterator<Item = PointSeries>) -> Self {
        let mut table = SeriesTable::default();
        for series in series {
            let times: Vec<i64> = series.floats.iter().map(|(ts, _)| ts.as_millis()).collect();
            let shared = table.series.last().map(|s| &s.times).filter(|shared| ***shared == *times).cloned();
            table.series.push(TableSeries {
                labels: series.labels,
                times: shared.unwrap_or_else(|| times.into()),
                values: series.floats.into_iter().map(|(_, value)| value).collect(),
                float_starts: series.float_starts,
                histograms: series.histograms,
                histogram_starts: series.histogram_starts,
            });
        }
        table
    }

    /// The same without columns to lend.
    pub fn copies_only(self) -> Self {
        SeriesTable { copies_only: true, ..self }
    }

    fn matching<'t>(&'t self, matchers: &'t [Matcher]) -> impl Iterator<Item = (usize, &'t TableSeries)> {
        let accepted = |s: &TableSeries| matchers.iter().all(|m| m.matches(s.labels.get(&m.name).unwrap_or_default()));
        self.series.iter().enumerate().filter(move |(_, series)| accepted(series))
    }
}

impl TableSeries {
    fn floats(&self, start: Timestamp, end: Timestamp) -> std::ops::Range<usize> {
        let first = self.times.partition_point(|ts| *ts <= start.as_millis());
        first..self.times.partition_point(|ts| *ts <= end.as_millis()).max(first)
    }

    fn histograms(&self, start: Timestamp, end: Timestamp) -> std::ops::Range<usize> {
        let first = self.histograms.partition_point(|(ts, _)| *ts <= start);
        first..self.histograms.partition_point(|(ts, _)| *ts <= end).max(first)
    }
}

fn part<T>(all: &[T], range: std::ops::Range<usize>) -> &[T] {
    all.get(range).unwrap_or(&[])
}

impl Source for SeriesTable {
    fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Result<Vec<Series>, SourceError> {
        let points = self.select_points(matchers, start, end)?;
        Ok(points.into_iter().map(|s| Series { labels: s.labels, samples: s.floats }).collect())
    }

    fn select_points(
        &self,
        matchers: &[Matcher],
        start: Timestamp,
        end: Timestamp,
    ) -> Result<Vec<PointSeries>, SourceError> {
        let cut = |(_, s): (usize, &TableSeries)| {
            let (floats, histograms) = (s.floats(start, end), s.histograms(start, end));
            let pairs = s.times[floats.clone()].iter().zip(&s.values[floats.clone()]);
            PointSeries {
                labels: s.labels.clone(),
                floats: pairs.map(|(ts, value)| (Timestamp::from_millis(*ts), *value)).collect(),
                float_starts: part(&s.float_starts, floats).to_vec(),
                histograms: s.histograms[histograms.clone()].to_vec(),
                histogram_starts: part(&s.histogram_starts, histograms).to_vec(),
            }
        };
        Ok(self.matching(matchers).map(cut).collect())
    }

    fn snapshot(&self) -> Option<Box<dyn Snapshot + '_>> {
        (!self.copies_only).then(|| Box::new(self) as Box<dyn Snapshot + '_>)
    }
}

impl Snapshot for &SeriesTable {
    fn epoch(&self) -> u64 {
        0
    }

    fn resolve(&self, matchers: &[Matcher]) -> Result<Arc<Selected>, SourceError> {
        let ids = self.matching(matchers).map(|(i, _)| SeriesId(i as u64)).collect();
        Ok(Arc::new(Selected { ids, epoch: 0 }))
    }

    fn labels(&self, id: SeriesId) -> Labels {
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        self.series.get(index).map(|series| series.labels.clone()).unwrap_or_default()
    }

    fn scan(
        &self,
        ids: &[SeriesId],
        start: Timestamp,
        end: Timestamp,
        visit: &mut dyn FnMut(usize, Columns<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        // Times and the part of them that is asked for, as long as series share them.
        let mut shared: Option<(&Arc<[i64]>, std::ops::Range<usize>)> = None;
        for (i, id) in ids.iter().enumerate() {
            let index = usize::try_from(id.0).unwrap_or(usize::MAX);
            let Some(series) = self.series.get(index) else { continue };
            let floats = match &shared {
                Some((times, floats)) if Arc::ptr_eq(times, &series.times) => floats.clone(),
                _ => series.floats(start, end),
            };
            shared = Some((&series.times, floats.clone()));
            let (times, values) = (&series.times[floats.clone()], &series.values[floats.clone()]);
            let plain = series.histograms.is_empty() && series.float_starts.is_empty();
            let flow = if plain {
                visit(i, Columns { times, values, extra: None })
            } else {
                let histograms = series.histograms(start, end);
                let extra = ExtraColumns {
                    histograms: &series.histograms[histograms.clone()],
                    float_starts: part(&series.float_starts, floats),
                    histogram_starts: part(&series.histogram_starts, histograms),
                };
                visit(i, Columns { times, values, extra: Some(&extra) })
            };
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}
