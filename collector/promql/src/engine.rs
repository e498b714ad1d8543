//! A parsed query and a source of samples in, an answer out. No clock: time limits come as a closure.

use std::time::Duration;

use telemetry::{Labels, Timestamp};

use crate::ast::{Node, ValueType};
use crate::eval::{Cell, Evaluator, Frame, Grid, Memory, RangeVector, Window, is_absent};
use crate::parse::Expr;
use crate::prepare;
use crate::prepared::Prepared;
use crate::source::{Snapshot, Source, SourceError};
use crate::stats::{StepStats, Tally, Timings};
use crate::value::{Answer, MatrixSeries, Value, VectorSample};

/// What every query of an engine must keep to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most samples that a query may hold in memory at once.
    pub max_samples: usize,
    /// The most memory that loaded samples and intermediate results of a query may take, in bytes.
    pub max_bytes: usize,
    /// How far back an instant selector looks for a sample.
    pub lookback: Duration,
    /// The step of subqueries that name none.
    pub default_step: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_samples: 50_000_000,
            max_bytes: 1 << 30,
            lookback: Duration::from_secs(300),
            default_step: Duration::from_secs(60),
        }
    }
}

/// Why a query was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    TimedOut,
    Cancelled,
}

/// What one query may do differently from the others.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// In place of the engine's lookback.
    pub lookback: Option<Duration>,
    /// Asked often; an answer ends the query.
    pub stop: Option<&'a (dyn Fn() -> Option<Stop> + Sync)>,
    /// Let start timestamps of samples mark counter resets (experimental).
    pub start_timestamps: bool,
    /// Judge by `__type__` rather than by the name whether a metric is a counter (experimental).
    pub type_labels: bool,
    /// Count samples for each step ([`Stats::steps`](crate::Stats)).
    pub step_stats: bool,
    /// How many threads functions over ranges may use at the same time, where series and steps are many; the answer
    /// does not depend on it. 0 and 1 are the caller's thread alone.
    pub threads: usize,
    /// A clock that only rises, for [`Stats::timings`](crate::Stats); its zero is anywhere.
    pub clock: Option<&'a (dyn Fn() -> Duration + Sync)>,
}

#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    #[error("query timed out in expression evaluation")]
    TimedOut,
    #[error("query was canceled in expression evaluation")]
    Cancelled,
    #[error("query processing would load too many samples into memory in query execution (limit {limit})")]
    TooManySamples { limit: usize },
    #[error("query processing would hold more than {limit} bytes of samples and intermediate results")]
    TooManyBytes { limit: usize },
    #[error("reading series failed")]
    Source(#[source] SourceError),
    /// The query makes no sense on this data, or at all.
    #[error("{0}")]
    Query(String),
}

/// Evaluates queries; holds nothing but its limits.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    limits: Limits,
}

impl Engine {
    pub fn new(limits: Limits) -> Self {
        Engine { limits }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The value at one time.
    pub fn instant(&self, expr: &Expr, source: &dyn Source, at: Timestamp) -> Result<Answer, EvalError> {
        self.instant_with(expr, source, at, Options::default())
    }

    pub fn instant_with(
        &self,
        expr: &Expr,
        source: &dyn Source,
        at: Timestamp,
        options: Options<'_>,
    ) -> Result<Answer, EvalError> {
        self.run(expr, &mut Memory::default(), source, options, |query| query.instant(at))
    }

    /// The same of a query that is asked again and again.
    pub fn instant_prepared(
        &self,
        prepared: &Prepared,
        source: &dyn Source,
        at: Timestamp,
        options: Options<'_>,
    ) -> Result<Answer, EvalError> {
        let mut memory = prepared.take();
        let answer = self.run(prepared.expr(), &mut memory, source, options, |query| query.instant(at));
        prepared.give(memory);
        answer
    }

    /// The values from `start` to `end`, `step` apart.
    pub fn range(
        &self,
        expr: &Expr,
        source: &dyn Source,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
    ) -> Result<Answer, EvalError> {
        self.range_with(expr, source, start, end, step, Options::default())
    }

    pub fn range_with(
        &self,
        expr: &Expr,
        source: &dyn Source,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
        options: Options<'_>,
    ) -> Result<Answer, EvalError> {
        let window = range_window(expr, start, end, step)?;
        self.run(expr, &mut Memory::default(), source, options, |query| query.range(window))
    }

    /// The same of a query that is asked again and again.
    pub fn range_prepared(
        &self,
        prepared: &Prepared,
        source: &dyn Source,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
        options: Options<'_>,
    ) -> Result<Answer, EvalError> {
        let window = range_window(prepared.expr(), start, end, step)?;
        let mut memory = prepared.take();
        let answer = self.run(prepared.expr(), &mut memory, source, options, |query| query.range(window));
        prepared.give(memory);
        answer
    }

    fn run(
        &self,
        expr: &Expr,
        memory: &mut Memory,
        source: &dyn Source,
        options: Options<'_>,
        ask: impl FnOnce(&mut Query<'_>) -> Result<(Value, Window), EvalError>,
    ) -> Result<Answer, EvalError> {
        let watch = Watch::start(options.clock);
        let snapshot = source.snapshot();
        let mut evaluator = Evaluator::new(source, &self.limits, options);
        evaluator.snapshot = snapshot.as_deref().map(|snapshot| snapshot as &dyn Snapshot);
        evaluator.memory = std::mem::take(memory);
        if let Some(snapshot) = evaluator.snapshot {
            evaluator.memory.see_epoch(snapshot.epoch());
        }
        let mut query = Query { expr, evaluator, options, watch };
        let asked = ask(&mut query);
        let Query { evaluator, watch, .. } = query;
        let Evaluator { mut stats, tally, annotations, memory: remembered, .. } = evaluator;
        *memory = remembered;
        let (value, window) = asked?;
        let step = |(step, (samples, samples_read))| StepStats {
            timestamp: Timestamp::from_millis(window.at(step)),
            samples,
            samples_read,
        };
        (stats.samples, stats.samples_read) = (tally.samples, tally.read);
        stats.steps = tally.steps.into_iter().flatten().enumerate().map(step).collect();
        stats.timings = watch.finish();
        let (warnings, infos) = annotations.into_strings(expr.text());
        Ok(Answer { value, warnings, infos, stats })
    }
}

fn range_window(expr: &Expr, start: Timestamp, end: Timestamp, step: Duration) -> Result<Window, EvalError> {
    if !matches!(expr.value_type(), ValueType::Vector | ValueType::Scalar) {
        let kind = expr.value_type().documented();
        return Err(EvalError::Query(format!(
            "invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector"
        )));
    }
    let interval = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
    if interval <= 0 {
        let message = "zero or negative query resolution step widths are not accepted; try a positive duration";
        return Err(EvalError::Query(message.to_owned()));
    }
    Ok(Window { start: start.as_millis(), end: end.as_millis(), interval })
}

/// One query on its way.
struct Query<'a> {
    expr: &'a Expr,
    evaluator: Evaluator<'a>,
    options: Options<'a>,
    watch: Watch<'a>,
}

impl<'a> Query<'a> {
    fn instant(&mut self, at: Timestamp) -> Result<(Value, Window), EvalError> {
        let window = Window { start: at.as_millis(), end: at.as_millis(), interval: 1 };
        let root = prepare::prepare(self.expr.root(), window, 0).map_err(EvalError::Query)?;
        self.evaluator.tally = Tally::new(self.options.step_stats.then_some(1));
        self.watch.lap(|t| &mut t.preparation);
        let value = match root.unwrap_parens() {
            Node::String(literal) => Value::String { timestamp: at, value: literal.value.clone() },
            node if node.value_type() == ValueType::Matrix => {
                let ranges = self.evaluator.final_range_vector(node, window)?;
                self.watch.lap(|t| &mut t.inner_eval);
                let value = matrix_of_ranges(ranges)?;
                self.watch.lap(|t| &mut t.result_sort);
                value
            }
            node => match self.columns(node, window)? {
                Found::Columns(frame, snapshot) => vector_of_frame(&frame, snapshot, at),
                Found::Grid(grid) => instant_value(self.expr.value_type(), grid, at),
            },
        };
        self.watch.lap(|t| &mut t.inner_eval);
        Ok((value, window))
    }

    fn range(&mut self, window: Window) -> Result<(Value, Window), EvalError> {
        if window.end < window.start {
            return Ok((Value::Matrix(Vec::new()), window));
        }
        let root = prepare::prepare(self.expr.root(), window, window.interval).map_err(EvalError::Query)?;
        self.evaluator.check_steps(window)?;
        self.evaluator.tally = Tally::new(self.options.step_stats.then(|| window.steps()));
        self.watch.lap(|t| &mut t.preparation);
        let found = self.columns(&root, window)?;
        self.watch.lap(|t| &mut t.inner_eval);
        let mut matrix = match found {
            Found::Columns(frame, snapshot) => matrix_of_frame(&frame, snapshot, window),
            Found::Grid(grid) => matrix_of_grid(grid, window),
        };
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        self.watch.lap(|t| &mut t.result_sort);
        Ok((Value::Matrix(matrix), window))
    }

    /// The values of the whole query, with the names gone that are to go.
    fn columns(&mut self, root: &Node, window: Window) -> Result<Found<'a>, EvalError> {
        let snapshot = self.evaluator.snapshot;
        if let Some(frame) = self.evaluator.try_fast(root, window)?
            && let Some(snapshot) = snapshot
        {
            if frame.shape.drop_name && !frame.shape.rows.nameless(snapshot).distinct {
                return Ok(Found::Grid(frame.into_grid(snapshot).without_dropped_names()?));
            }
            return Ok(Found::Columns(frame, snapshot));
        }
        Ok(Found::Grid(self.evaluator.eval(root, window)?.without_dropped_names()?))
    }
}

/// What came of a query.
enum Found<'a> {
    /// Numbers, and who knows the labels of their rows. No two rows have the same.
    Columns(Frame, &'a dyn Snapshot),
    Grid(Grid),
}

/// Times the phases of a query by the clock that was handed in, if one was.
struct Watch<'a> {
    clock: Option<&'a (dyn Fn() -> Duration + Sync)>,
    started: Duration,
    last: Duration,
    timings: Timings,
}

impl<'a> Watch<'a> {
    fn start(clock: Option<&'a (dyn Fn() -> Duration + Sync)>) -> Self {
        let started = clock.map(|clock| clock()).unwrap_or_default();
        Watch { clock, started, last: started, timings: Timings::default() }
    }

    /// Books the time since the last lap.
    fn lap(&mut self, phase: impl Fn(&mut Timings) -> &mut Duration) {
        let Some(clock) = self.clock else { return };
        let now = clock();
        *phase(&mut self.timings) += now.saturating_sub(self.last);
        self.last = now;
    }

    fn finish(mut self) -> Timings {
        let Some(clock) = self.clock else { return self.timings };
        self.timings.eval_total = clock().saturating_sub(self.started);
        self.timings.exec_total = self.timings.eval_total;
        self.timings
    }
}

fn instant_value(kind: ValueType, grid: Grid, timestamp: Timestamp) -> Value {
    let Grid { rows, cells, .. } = grid;
    if kind == ValueType::Scalar {
        let value = match cells.first() {
            Some(Some(Cell::Float(value))) => *value,
            _ => f64::NAN,
        };
        return Value::Scalar { timestamp, value };
    }
    let samples = rows.into_iter().zip(cells).filter_map(|(row, cell)| {
        let (value, histogram) = match cell? {
            Cell::Float(value) => (value, None),
            Cell::Histogram(histogram) => (0.0, Some(histogram)),
        };
        Some(VectorSample { labels: row.labels, timestamp, value, histogram })
    });
    Value::Vector(samples.collect())
}

fn vector_of_frame(frame: &Frame, snapshot: &dyn Snapshot, timestamp: Timestamp) -> Value {
    let labels = frame.shape.final_labels(snapshot);
    let present = labels.iter().zip(&frame.values).filter(|(_, value)| !is_absent(**value));
    let sample = |(labels, value): (&Labels, &f64)| VectorSample {
        labels: labels.clone(),
        timestamp,
        value: *value,
        histogram: None,
    };
    Value::Vector(present.map(sample).collect())
}

fn matrix_of_frame(frame: &Frame, snapshot: &dyn Snapshot, window: Window) -> Vec<MatrixSeries> {
    let labels = frame.shape.final_labels(snapshot);
    let series = |(row, labels): (usize, &Labels)| {
        let present = frame.row(row).iter().enumerate().filter(|(_, value)| !is_absent(**value));
        let samples: Vec<_> = present.map(|(step, v)| (Timestamp::from_millis(window.at(step)), *v)).collect();
        (!samples.is_empty()).then(|| MatrixSeries { labels: labels.clone(), samples, histograms: Vec::new() })
    };
    labels.iter().enumerate().filter_map(series).collect()
}

fn matrix_of_grid(grid: Grid, window: Window) -> Vec<MatrixSeries> {
    let steps = grid.steps;
    let mut cells = grid.cells.into_iter();
    let mut matrix = Vec::with_capacity(grid.rows.len());
    for row in grid.rows {
        let mut series = MatrixSeries { labels: row.labels, samples: Vec::new(), histograms: Vec::new() };
        for (step, cell) in cells.by_ref().take(steps).enumerate() {
            let timestamp = Timestamp::from_millis(window.at(step));
            match cell {
                Some(Cell::Float(value)) => series.samples.push((timestamp, value)),
                Some(Cell::Histogram(histogram)) => series.histograms.push((timestamp, histogram)),
                None => {}
            }
        }
        if !series.samples.is_empty() || !series.histograms.is_empty() {
            matrix.push(series);
        }
    }
    matrix
}

/// A range vector as the answer of an instant query.
fn matrix_of_ranges(ranges: RangeVector) -> Result<Value, EvalError> {
    let mut matrix: Vec<MatrixSeries> = ranges
        .series
        .into_iter()
        .filter(|s| !s.floats.is_empty() || !s.histograms.is_empty())
        .map(|s| MatrixSeries {
            labels: if s.drop_name { crate::eval::without_metadata(&s.labels) } else { s.labels },
            samples: s.floats,
            histograms: s.histograms,
        })
        .collect();
    matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
    if matrix.windows(2).any(|pair| pair[0].labels == pair[1].labels) {
        return Err(crate::eval::same_labelset());
    }
    Ok(Value::Matrix(matrix))
}

#[cfg(test)]
mod tests {
    use telemetry::{Labels, Matcher};

    use super::*;
    use crate::{Series, parse};

    struct Fixed(Vec<Series>);

    impl Source for Fixed {
        fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Result<Vec<Series>, SourceError> {
            let accepted = |s: &&Series| matchers.iter().all(|m| m.matches(s.labels.get(&m.name).unwrap_or_default()));
            let cut = |s: &Series| Series {
                labels: s.labels.clone(),
                samples: s.samples.iter().copied().filter(|(ts, _)| *ts > start && *ts <= end).collect(),
            };
            Ok(self.0.iter().filter(accepted).map(cut).collect())
        }
    }

    fn counters() -> Fixed {
        let series = |instance: &str, slope: f64| Series {
            labels: Labels::from_pairs([("__name__", "requests_total"), ("instance", instance), ("job", "api")]),
            samples: (0..=20).map(|i| (Timestamp::from_millis(i * 15_000), i as f64 * slope)).collect(),
        };
        Fixed(vec![series("a", 15.0), series("b", 30.0)])
    }

    fn instant(query: &str) -> Result<Value, EvalError> {
        let expr = parse(query).expect(query);
        let answer = Engine::default().instant(&expr, &counters(), Timestamp::from_millis(300_000))?;
        Ok(answer.value)
    }

    fn shown(query: &str) -> Vec<String> {
        match instant(query).expect(query) {
            Value::Vector(samples) => {
                samples.iter().map(|s| format!("{} {}", s.labels, crate::format_value(s.value))).collect()
            }
            Value::Scalar { value, .. } => vec![crate::format_value(value)],
            other => vec![format!("{other:?}")],
        }
    }

    #[test]
    fn a_rate_is_summed_by_job() {
        assert_eq!(shown("round(sum by (job) (rate(requests_total[2m])), 0.001)"), [r#"{job="api"} 3"#]);
        assert_eq!(shown("requests_total{instance='a'} / 100"), [r#"{instance="a", job="api"} 3"#]);
        assert_eq!(shown("topk(1, requests_total)"), [r#"requests_total{instance="b", job="api"} 600"#]);
        assert_eq!(shown("1 + 2 * 3 ^ 2 ^ 0"), ["7"]);
        assert_eq!(shown("absent(nothing{job='x'})"), [r#"{job="x"} 1"#]);
    }

    #[test]
    fn a_range_has_a_value_at_each_step() {
        let expr = parse("max(requests_total)").unwrap();
        let at = Timestamp::from_millis;
        let engine = Engine::default();
        let answer = engine.range(&expr, &counters(), at(0), at(60_000), Duration::from_secs(30)).unwrap();
        let Value::Matrix(series) = answer.value else { panic!("not a matrix") };
        assert_eq!(series[0].samples, [(at(0), 0.0), (at(30_000), 60.0), (at(60_000), 120.0)]);
    }

    #[test]
    fn a_query_stops_when_told_and_at_its_limit() {
        let expr = parse("requests_total").unwrap();
        let stop = || Some(Stop::TimedOut);
        let options = Options { stop: Some(&stop), ..Options::default() };
        let at = Timestamp::from_millis(300_000);
        let answer = Engine::default().instant_with(&expr, &counters(), at, options);
        assert!(matches!(answer, Err(EvalError::TimedOut)), "{answer:?}");
        let tiny = Engine::new(Limits { max_samples: 1, ..Limits::default() });
        let answer = tiny.instant(&expr, &counters(), at);
        assert!(matches!(answer, Err(EvalError::TooManySamples { limit: 1 })), "{answer:?}");
    }

    #[test]
    fn errors_and_annotations_point_into_the_query() {
        let error = parse("sum(rate(x[5m])").unwrap_err();
        assert_eq!(error.to_string(), "1:16: parse error: unclosed left parenthesis");
        let error = parse("foo{").unwrap_err();
        assert_eq!(error.to_string(), "1:5: parse error: unexpected end of input inside braces");
        let expr = parse("quantile(2, requests_total)").unwrap();
        let answer = Engine::default().instant(&expr, &counters(), Timestamp::from_millis(0)).unwrap();
        assert_eq!(answer.warnings, ["PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"]);
    }

    #[test]
    fn the_deepest_accepted_query_is_evaluated_on_a_small_stack() {
        let nested = format!("{}1{}", "(".repeat(crate::MAX_DEPTH - 2), ")".repeat(crate::MAX_DEPTH - 2));
        let chained = vec!["vector(1)"; crate::MAX_DEPTH - 4].join(" + ");
        let run = move || {
            for query in [nested, chained] {
                let expr = parse(&query).unwrap();
                assert_eq!(expr.to_string(), query);
                Engine::default().instant(&expr, &counters(), Timestamp::from_millis(0)).unwrap();
            }
        };
        std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
        for query in ["(".repeat(100_000), "a+".repeat(100_000), "-".repeat(100_000), "sum(".repeat(10_000)] {
            assert!(parse(&query).is_err());
        }
        assert!(parse(&"a".repeat(1 << 20)).is_err());
    }
}
