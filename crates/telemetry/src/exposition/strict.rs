//! What the OpenMetrics 1.0 specification demands of a body beyond being readable.
//!
//! Scraping takes what Prometheus takes; this is for those who write exporters, and for our own writer's tests.
//! Checked: syntax to the letter, one piece per family and per metric, metadata first and once, sample names, labels
//! and values that the family's type allows, histograms that add up, timestamps that do not run backwards, exemplars
//! where they may stand, names that do not clash.

use std::collections::{BTreeMap, HashSet};

use super::{ExemplarRef, Format, Line, MetricKind, ParseError, Parser, SampleLine};

/// The longest that an exemplar's label names and values may be together, in characters.
const EXEMPLAR_LABELS_MAX: usize = 128;

/// Refuses a body that is not OpenMetrics 1.0, naming the first line that is wrong.
///
/// ```
/// use telemetry::exposition::strict;
///
/// assert!(strict::check(b"# TYPE a counter\na_total 1\n# EOF\n").is_ok());
/// let error = strict::check(b"# TYPE a counter\na_total -1\n# EOF\n").unwrap_err();
/// assert_eq!(error.to_string(), "line 2: a_total must not be negative");
/// ```
pub fn check(body: &[u8]) -> Result<(), ParseError> {
    let mut parser = Parser::from_bytes(body, Format::OpenMetrics)?.strict();
    let mut names_taken = HashSet::new();
    let mut family: Option<OpenFamily> = None;
    loop {
        let line = parser.next_line()?.map(Heard::from);
        let at = parser.position();
        let fault = |(pos, message): Fault| parser.error_at(pos.unwrap_or(at), message);
        let Some(line) = line else {
            return family.map_or(Ok(()), |f| f.close(&mut names_taken)).map_err(fault);
        };
        if !family.as_ref().is_some_and(|family| line.continues(family)) {
            if let Some(finished) = family.take() {
                finished.close(&mut names_taken).map_err(fault)?;
            }
            family = Some(OpenFamily::new(line.name().to_owned(), at));
        }
        let family = family.as_mut().expect("set above");
        family.hear(line, parser.timestamp_secs(), at).map_err(fault)?;
    }
}

/// What is wrong, and where if not on the line just read.
type Fault = (Option<usize>, String);

fn here<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err((None, message.into()))
}

/// A line without its borrows from the parser.
enum Heard {
    Help(String),
    Unit(String, String),
    Type(String, MetricKind),
    Sample(Sample),
}

struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
    exemplar: Option<usize>,
}

impl From<Line<'_, '_>> for Heard {
    fn from(line: Line<'_, '_>) -> Self {
        match line {
            Line::Help { name, .. } => Heard::Help(name.into_owned()),
            Line::Unit { name, unit } => Heard::Unit(name.into_owned(), unit.to_owned()),
            Line::Type { name, kind } => Heard::Type(name.into_owned(), kind),
            Line::Sample(SampleLine { name, labels, value, exemplar, .. }) => Heard::Sample(Sample {
                name: name.into_owned(),
                // An empty value is the same as no label.
                labels: labels
                    .iter()
                    .filter(|(_, value)| !value.is_empty())
                    .map(|(name, value)| (name.to_string(), value.to_string()))
                    .collect(),
                value,
                exemplar: exemplar.map(|ExemplarRef { labels, .. }| {
                    labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum()
                }),
            }),
        }
    }
}

impl Heard {
    fn name(&self) -> &str {
        match self {
            Heard::Help(name) | Heard::Unit(name, _) | Heard::Type(name, _) => name,
            Heard::Sample(sample) => &sample.name,
        }
    }

    /// Whether the line belongs to the open family; a sample that does not fit it starts its own.
    fn continues(&self, family: &OpenFamily) -> bool {
        match self {
            Heard::Sample(sample) => family.suffix(&sample.name).is_some(),
            _ => family.name == self.name(),
        }
    }
}

struct OpenFamily {
    name: String,
    started_at: usize,
    help: bool,
    unit: Option<String>,
    kind: Option<MetricKind>,
    has_samples: bool,
    /// The metric whose samples are being read, and all that were.
    metric: Option<OpenMetric>,
    metrics_seen: HashSet<BTreeMap<String, String>>,
}

/// The samples of one label set.
struct OpenMetric {
    labels: BTreeMap<String, String>,
    timestamp: Option<f64>,
    /// Series of the current point in time, by name and labels.
    point_series: HashSet<(String, BTreeMap<String, String>)>,
    buckets: Buckets,
    started_at: usize,
}

/// One histogram at one time.
#[derive(Default)]
struct Buckets {
    last: Option<(f64, f64)>,
    count: Option<f64>,
    sum: Option<f64>,
    /// `_sum`, a counter; `_gsum` is none.
    sum_counts: bool,
    negative_bounds: bool,
}

impl OpenFamily {
    fn new(name: String, started_at: usize) -> Self {
        OpenFamily {
            name,
            started_at,
            help: false,
            unit: None,
            kind: None,
            has_samples: false,
            metric: None,
            metrics_seen: HashSet::new(),
        }
    }

    fn kind(&self) -> MetricKind {
        self.kind.unwrap_or_default()
    }

    /// What a sample's name adds to the family's; None when the family has no such sample.
    fn suffix(&self, sample_name: &str) -> Option<&'static str> {
        let suffix = sample_name.strip_prefix(self.name.as_str())?;
        self.kind().suffixes().iter().find(|allowed| **allowed == suffix).copied()
    }

    fn hear(&mut self, line: Heard, timestamp: Option<f64>, at: usize) -> Result<(), Fault> {
        if self.has_samples && !matches!(line, Heard::Sample(_)) {
            return here(format!("metadata of {} after its samples", self.name));
        }
        let repeated = match line {
            Heard::Help(_) => std::mem::replace(&mut self.help, true),
            Heard::Unit(_, unit) => self.unit.replace(unit).is_some(),
            Heard::Type(_, kind) => self.kind.replace(kind).is_some(),
            Heard::Sample(sample) => return self.sample(sample, timestamp, at),
        };
        if repeated { here(format!("{} has this metadata twice", self.name)) } else { Ok(()) }
    }

    fn sample(&mut self, sample: Sample, timestamp: Option<f64>, at: usize) -> Result<(), Fault> {
        self.has_samples = true;
        let suffix = self.suffix(&sample.name).unwrap_or_default();
        self.check_labels(suffix, &sample)?;
        self.check_value(suffix, &sample)?;
        self.check_exemplar(suffix, &sample)?;
        self.enter_metric(suffix, &sample, timestamp, at)?;
        let kind = self.kind();
        let metric = self.metric.as_mut().expect("entered above");
        let labels = sample.labels.clone();
        if !metric.point_series.insert((sample.name.clone(), labels)) {
            if timestamp.is_none() {
                return here(format!("{} appears twice with the same labels", sample.name));
            }
            // Two points that differ by less than the timestamp shows; only the first is looked at.
            return Ok(());
        }
        if matches!(kind, MetricKind::Histogram | MetricKind::GaugeHistogram) {
            metric.buckets.add(suffix, &sample)?;
        }
        Ok(())
    }

    fn check_labels(&self, suffix: &str, sample: &Sample) -> Result<(), Fault> {
        let Some(label) = self.distinguishing_label(suffix) else { return Ok(()) };
        let Some(value) = sample.labels.get(label) else {
            return here(format!("{} needs the label {label}", sample.name));
        };
        let number = super::lex::number(value);
        match self.kind() {
            MetricKind::StateSet => Ok(()),
            MetricKind::Summary if number.is_some_and(|q| (0.0..=1.0).contains(&q)) => Ok(()),
            MetricKind::Summary => here(format!("quantile {value:?} is not between 0 and 1")),
            _ if number.is_none_or(f64::is_nan) => here(format!("le {value:?} is not a number")),
            _ if number == Some(f64::INFINITY) && value != "+Inf" => here("the last bucket's le must be written +Inf"),
            _ => Ok(()),
        }
    }

    /// The label that tells apart the samples of one metric.
    fn distinguishing_label(&self, suffix: &str) -> Option<&str> {
        match (self.kind(), suffix) {
            (MetricKind::Summary, "") => Some("quantile"),
            (MetricKind::Histogram | MetricKind::GaugeHistogram, "_bucket") => Some("le"),
            (MetricKind::StateSet, _) => Some(&self.name),
            _ => None,
        }
    }

    fn check_value(&self, suffix: &str, sample: &Sample) -> Result<(), Fault> {
        let (name, value) = (&sample.name, sample.value);
        let counts = matches!(suffix, "_total" | "_sum" | "_count" | "_bucket" | "_gcount");
        if value.is_nan() && (counts || suffix == "_gsum") {
            return here(format!("{name} must not be NaN"));
        }
        let quantile = self.kind() == MetricKind::Summary && suffix.is_empty();
        if value < 0.0 && (counts || quantile) {
            return here(format!("{name} must not be negative"));
        }
        if matches!(suffix, "_count" | "_bucket" | "_gcount") && value.fract() != 0.0 {
            return here(format!("{name} must be a whole number"));
        }
        match self.kind() {
            MetricKind::Info if value != 1.0 => here(format!("{name} must be 1")),
            MetricKind::StateSet if value != 0.0 && value != 1.0 => here(format!("{name} must be 0 or 1")),
            _ => Ok(()),
        }
    }

    fn check_exemplar(&self, suffix: &str, sample: &Sample) -> Result<(), Fault> {
        let Some(length) = sample.exemplar else { return Ok(()) };
        let allowed = matches!(
            (self.kind(), suffix),
            (MetricKind::Counter, "_total") | (MetricKind::Histogram | MetricKind::GaugeHistogram, "_bucket")
        );
        if !allowed {
            return here(format!("{} must not have an exemplar; only counters and buckets do", sample.name));
        }
        if length > EXEMPLAR_LABELS_MAX {
            return here(format!(
                "the exemplar's labels have {length} characters, at most {EXEMPLAR_LABELS_MAX} may be"
            ));
        }
        Ok(())
    }

    /// Makes the sample's metric and point in time the current ones.
    fn enter_metric(&mut self, suffix: &str, sample: &Sample, timestamp: Option<f64>, at: usize) -> Result<(), Fault> {
        let kind = self.kind();
        let mut labels = sample.labels.clone();
        if let Some(label) = self.distinguishing_label(suffix) {
            labels.remove(label);
        }
        if let Some(metric) = self.metric.as_mut().filter(|metric| metric.labels == labels) {
            if metric.timestamp.is_some() != timestamp.is_some() {
                return here(format!("some samples of {} have a timestamp and some have none", self.name));
            }
            if metric.timestamp > timestamp {
                return here(format!("timestamps of {} run backwards", self.name));
            }
            if metric.timestamp != timestamp {
                metric.check_whole(&self.name, kind)?;
                *metric = OpenMetric::new(labels, timestamp, at);
            }
            return Ok(());
        }
        if !self.metrics_seen.insert(labels.clone()) {
            return here(format!("samples of {} with the same labels must stand together", self.name));
        }
        if let Some(finished) = self.metric.replace(OpenMetric::new(labels, timestamp, at)) {
            finished.check_whole(&self.name, kind)?;
        }
        Ok(())
    }

    fn close(self, names_taken: &mut HashSet<String>) -> Result<(), Fault> {
        if let Some(metric) = &self.metric {
            metric.check_whole(&self.name, self.kind())?;
        }
        let fault = |message: String| Err((Some(self.started_at), message));
        let unit = self.unit.as_deref().unwrap_or_default();
        if !unit.is_empty() {
            if !self.name.strip_suffix(unit).is_some_and(|base| base.ends_with('_')) {
                return fault(format!("{} does not end with its unit _{unit}", self.name));
            }
            if matches!(self.kind(), MetricKind::Info | MetricKind::StateSet) {
                return fault(format!("{} must not have a unit: it is of type {}", self.name, self.kind().as_str()));
            }
        }
        let suffixes = self.kind().suffixes().iter().filter(|suffix| !suffix.is_empty());
        for suffix in suffixes.chain([&""]) {
            if !names_taken.insert(format!("{}{suffix}", self.name)) {
                return fault(format!("{}{suffix} clashes with an earlier family", self.name));
            }
        }
        Ok(())
    }
}

impl OpenMetric {
    fn new(labels: BTreeMap<String, String>, timestamp: Option<f64>, started_at: usize) -> Self {
        OpenMetric { labels, timestamp, point_series: HashSet::new(), buckets: Buckets::default(), started_at }
    }

    fn check_whole(&self, family: &str, kind: MetricKind) -> Result<(), Fault> {
        let fault = |message: &str| Err((Some(self.started_at), format!("{message}: {family}")));
        if kind == MetricKind::Counter && !self.point_series.iter().any(|(name, _)| name.ends_with("_total")) {
            return fault("the counter has no total");
        }
        let Buckets { last, count, sum, sum_counts, negative_bounds } = self.buckets;
        if last.is_none() && count.is_none() && sum.is_none() {
            return Ok(());
        }
        match (last, count, sum) {
            (Some((bound, total)), count, _) => {
                if bound != f64::INFINITY {
                    return fault("the histogram has no +Inf bucket");
                }
                if count.is_some_and(|count| count != total) {
                    return fault("the histogram's count is not its +Inf bucket");
                }
            }
            (None, ..) => return fault("the histogram has no +Inf bucket"),
        }
        match (count, sum) {
            (None, Some(_)) => fault("the histogram has a sum but no count"),
            (Some(_), None) => fault("the histogram has a count but no sum"),
            // A counter could fall when observations may be negative; a gauge histogram's sum may.
            (_, Some(_)) if negative_bounds && sum_counts => fault("a sum beside negative buckets"),
            (_, Some(sum)) if !negative_bounds && sum < 0.0 => fault("a negative sum without negative buckets"),
            _ => Ok(()),
        }
    }
}

impl Buckets {
    fn add(&mut self, suffix: &str, sample: &Sample) -> Result<(), Fault> {
        match suffix {
            "_bucket" => self.add_bucket(sample),
            "_count" | "_gcount" => {
                self.count = Some(sample.value);
                Ok(())
            }
            "_sum" | "_gsum" => {
                self.sum = Some(sample.value);
                self.sum_counts = suffix == "_sum";
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn add_bucket(&mut self, sample: &Sample) -> Result<(), Fault> {
        let bound = sample.labels.get("le").and_then(super::lex::number).unwrap_or(f64::NAN);
        if let Some((last_bound, last_value)) = self.last {
            if bound <= last_bound {
                return here("buckets are not in ascending order of le");
            }
            if sample.value < last_value {
                return here("buckets must not fall: they count everything up to le");
            }
        }
        self.negative_bounds |= bound < 0.0;
        self.last = Some((bound, sample.value));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_specification_allows_is_accepted() {
        for body in [
            "",
            "# TYPE a gauge\na 1 -1\na 2 0\na 3 0.5\n",
            "# TYPE a_s counter\n# UNIT a_s s\n# HELP a_s x\na_s_total{b=\"c\"} 1e3 1 # {trace_id=\"é\"} -Inf 2.5\n",
            "# TYPE a histogram\na_bucket{le=\"-1\"} 1\na_bucket{le=\"+Inf\"} 2\na_created 5\n",
            "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1 1\na_count 1 1\na_sum 2 1\na_bucket{le=\"+Inf\"} 2 2\n",
            "# TYPE a summary\na{quantile=\"0.5\"} NaN\na{quantile=\"1\"} 2\na_count 1\na_sum 2\n",
            "# TYPE a info\na_info{v=\"1\"} 1\n# TYPE b stateset\nb{b=\"x\"} 0\nb{b=\"y\"} 1\n",
            "# TYPE a gaugehistogram\na_bucket{le=\"-1\"} 1\na_bucket{le=\"+Inf\"} 2\na_gcount 2\na_gsum -3\n",
            "a 1\nb NaN\nc -inf\n",
        ] {
            let body = format!("{body}# EOF\n");
            assert_eq!(check(body.as_bytes()), Ok(()), "{body}");
        }
    }

    #[test]
    fn what_the_specification_forbids_is_refused_by_line() {
        for (body, expected) in [
            ("a{b=\"c\",} 1\n", "line 1: a comma before } is not allowed"),
            ("{\"a\"} 1\n", "line 1: expected a label name, found \"\\\"a\\\"} 1\""),
            ("a 1\na 2\n", "line 2: a appears twice with the same labels"),
            ("a{b=\"\"} 1\na 2\n", "line 2: a appears twice with the same labels"),
            ("a 1\nb 1\na{c=\"d\"} 1\n", "line 3: a clashes with an earlier family"),
            (
                "a{b=\"1\"} 1\na{b=\"2\"} 1\na{b=\"1\"} 1\n",
                "line 3: samples of a with the same labels must stand together",
            ),
            ("# TYPE a gauge\na 1 2\na 1 1\n", "line 3: timestamps of a run backwards"),
            ("# TYPE a gauge\na 1 2\na 1\n", "line 3: some samples of a have a timestamp and some have none"),
            ("# TYPE a gauge\na 1 0.0004\na 1 0.0001\n", "line 3: timestamps of a run backwards"),
            ("# HELP a x\n# TYPE b gauge\n# TYPE a gauge\n", "line 3: a clashes with an earlier family"),
            ("# TYPE a gauge\na 1\n# HELP a x\n", "line 3: metadata of a after its samples"),
            ("# HELP a x\n# HELP a x\n", "line 2: a has this metadata twice"),
            ("# TYPE a counter\na_total 1\na 1\n", "line 3: a clashes with an earlier family"),
            ("# TYPE a counter\na_created 1\n", "line 2: the counter has no total: a"),
            ("# TYPE a counter\n# TYPE a_total gauge\n", "line 2: a_total clashes with an earlier family"),
            ("# TYPE a counter\na_total NaN\n", "line 2: a_total must not be NaN"),
            ("# TYPE a gauge\n# UNIT a s\n", "line 1: a does not end with its unit _s"),
            ("# TYPE a_s info\n# UNIT a_s s\n", "line 1: a_s must not have a unit: it is of type info"),
            ("# TYPE a info\na_info 0\n", "line 2: a_info must be 1"),
            ("# TYPE a stateset\na{a=\"x\"} 0.5\n", "line 2: a must be 0 or 1"),
            ("# TYPE a stateset\na 1\n", "line 2: a needs the label a"),
            ("# TYPE a summary\na{quantile=\"1.5\"} 1\n", "line 2: quantile \"1.5\" is not between 0 and 1"),
            ("# TYPE a summary\na{quantile=\"1\"} -1\n", "line 2: a must not be negative"),
            ("# TYPE a summary\na_count 1.5\n", "line 2: a_count must be a whole number"),
            ("# TYPE a histogram\na_bucket{le=\"x\"} 1\n", "line 2: le \"x\" is not a number"),
            ("# TYPE a histogram\na_bucket{le=\"inf\"} 1\n", "line 2: the last bucket's le must be written +Inf"),
            ("# TYPE a histogram\na_bucket{le=\"1\"} 1\n", "line 2: the histogram has no +Inf bucket: a"),
            (
                "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\n",
                "line 2: the histogram has a sum but no count: a",
            ),
            (
                "# TYPE a histogram\na_bucket{le=\"2\"} 1\na_bucket{le=\"1\"} 1\n",
                "line 3: buckets are not in ascending order of le",
            ),
            (
                "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1 1\na_bucket{le=\"+Inf\"} 1 2\na_count 2 2\na_sum 1 2\n",
                "line 3: the histogram's count is not its +Inf bucket: a",
            ),
            (
                "# TYPE a gauge\na 1 # {b=\"c\"} 1\n",
                "line 2: a must not have an exemplar; only counters and buckets do",
            ),
            ("a 1\n\n", "line 2: expected a metric name, found the end of the line"),
            ("a -nan\n", "line 1: expected a number, found \"-nan\""),
        ] {
            let body = format!("{body}# EOF\n");
            assert_eq!(check(body.as_bytes()).unwrap_err().to_string(), expected, "{body}");
        }
        assert_eq!(check(b"a 1\n").unwrap_err().to_string(), "line 2: the body does not end with # EOF");
        let long = format!("# TYPE a counter\na_total 1 # {{a=\"{}\"}} 1\n# EOF", "é".repeat(128));
        let expected = "line 2: the exemplar's labels have 129 characters, at most 128 may be";
        assert_eq!(check(long.as_bytes()).unwrap_err().to_string(), expected);
    }
}
