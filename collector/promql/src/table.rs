//! A source that holds its series in memory, in columns: for tests, backtests and measurements.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use telemetry::{Labels, Matcher, Timestamp};

use crate::histogram::Histogram;
use crate::source::{Columns, ExtraColumns, PointSeries, Selected, Series, SeriesId, Snapshot, Source, SourceError};

/// Series that do not change. Their values stand in one column, series after series; neighbours with the same
/// sample times share these.
#[derive(Clone, Debug, Default)]
pub struct SeriesTable {
    labels: Vec<Labels>,
    places: Vec<Place>,
    times: Vec<Vec<i64>>,
    values: Vec<f64>,
    /// What few series have, by series; empty where none has any.
    extras: Vec<Extra>,
    /// Lends no columns: each query goes the general way.
    copies_only: bool,
}

/// Where a series' floats are.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Which column of `times`.
    times: usize,
    /// Its first value.
    values: usize,
}

#[derive(Clone, Debug, Default)]
struct Extra {
    float_starts: Vec<i64>,
    histograms: Vec<(Timestamp, Arc<Histogram>)>,
    histogram_starts: Vec<i64>,
}

impl Extra {
    fn is_empty(&self) -> bool {
        self.float_starts.is_empty() && self.histograms.is_empty()
    }

    fn histograms(&self, start: Timestamp, end: Timestamp) -> Range<usize> {
        let first = self.histograms.partition_point(|(ts, _)| *ts <= start);
        first..self.histograms.partition_point(|(ts, _)| *ts <= end).max(first)
    }
}

impl SeriesTable {
    /// Takes series in the order in which queries are to see them; their samples must rise in time.
    pub fn new(series: impl IntoIterator<Item = PointSeries>) -> Self {
        let mut table = SeriesTable::default();
        for series in series {
            let times: Vec<i64> = series.floats.iter().map(|(ts, _)| ts.as_millis()).collect();
            if table.times.last() != Some(&times) {
                table.times.push(times);
            }
            table.places.push(Place { times: table.times.len() - 1, values: table.values.len() });
            table.values.extend(series.floats.iter().map(|(_, value)| *value));
            table.labels.push(series.labels);
            let PointSeries { float_starts, histograms, histogram_starts, .. } = series;
            table.extras.push(Extra { float_starts, histograms, histogram_starts });
        }
        if table.extras.iter().all(Extra::is_empty) {
            table.extras.clear();
        }
        table
    }

    /// The same without columns to lend.
    pub fn copies_only(self) -> Self {
        SeriesTable { copies_only: true, ..self }
    }

    fn matching(&self, matchers: &[Matcher]) -> impl Iterator<Item = usize> {
        let accepted = |labels: &Labels| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()));
        (0..self.labels.len()).filter(move |i| accepted(&self.labels[*i]))
    }

    /// The times and values of a series' samples at `floats`.
    fn floats(&self, place: Place, floats: Range<usize>) -> (&[i64], &[f64]) {
        let values = &self.values[place.values + floats.start..place.values + floats.end];
        (&self.times[place.times][floats], values)
    }
}

fn between(times: &[i64], start: Timestamp, end: Timestamp) -> Range<usize> {
    let first = times.partition_point(|ts| *ts <= start.as_millis());
    first..times.partition_point(|ts| *ts <= end.as_millis()).max(first)
}

fn part<T>(all: &[T], range: Range<usize>) -> &[T] {
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
        let none = Extra::default();
        let cut = |i: usize| {
            let (place, extra) = (self.places[i], self.extras.get(i).unwrap_or(&none));
            let within = between(&self.times[place.times], start, end);
            let histograms = extra.histograms(start, end);
            let (times, values) = self.floats(place, within.clone());
            PointSeries {
                labels: self.labels[i].clone(),
                floats: times.iter().zip(values).map(|(ts, v)| (Timestamp::from_millis(*ts), *v)).collect(),
                float_starts: part(&extra.float_starts, within).to_vec(),
                histograms: extra.histograms[histograms.clone()].to_vec(),
                histogram_starts: part(&extra.histogram_starts, histograms).to_vec(),
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
        let ids = self.matching(matchers).map(|i| SeriesId(i as u64)).collect();
        Ok(Arc::new(Selected { ids, epoch: 0 }))
    }

    fn labels(&self, id: SeriesId) -> Labels {
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        self.labels.get(index).cloned().unwrap_or_default()
    }

    fn scan(
        &self,
        ids: &[SeriesId],
        start: Timestamp,
        end: Timestamp,
        visit: &mut dyn FnMut(usize, Columns<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        // The part of the times that is asked for holds for all series that share them.
        let mut shared = (usize::MAX, 0..0);
        for (i, id) in ids.iter().enumerate() {
            let index = usize::try_from(id.0).unwrap_or(usize::MAX);
            let Some(place) = self.places.get(index).copied() else { continue };
            if shared.0 != place.times {
                shared = (place.times, between(&self.times[place.times], start, end));
            }
            let floats = shared.1.clone();
            let (times, values) = self.floats(place, floats.clone());
            let flow = match self.extras.get(index).filter(|extra| !extra.is_empty()) {
                None => visit(i, Columns { times, values, extra: None }),
                Some(extra) => {
                    let histograms = extra.histograms(start, end);
                    let extra = ExtraColumns {
                        histograms: &extra.histograms[histograms.clone()],
                        float_starts: part(&extra.float_starts, floats),
                        histogram_starts: part(&extra.histogram_starts, histograms),
                    };
                    visit(i, Columns { times, values, extra: Some(&extra) })
                }
            };
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}
