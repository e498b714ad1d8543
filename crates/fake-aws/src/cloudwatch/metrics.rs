//! Metrics: PutMetricData with AWS' limits, ListMetrics, and GetMetricData for plain statistics.
//!
//! GetMetricData answers Average, Sum, Minimum, Maximum and SampleCount of single metrics; percentiles and metric
//! math are refused rather than answered wrongly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde::Deserialize;
use serde_json::{Value, json};

use super::invalid_value;
use crate::ecs::unix_now;
use crate::topology::Topology;
use crate::wire::page::page;
use crate::wire::{AwsError, input};

const DATA_MAX: usize = 1000;
const DIMENSIONS_MAX: usize = 30;
const VALUES_MAX: usize = 150;
const NAME_LEN_MAX: usize = 255;
const PAGE: usize = 500;
const QUERIES_MAX: usize = 500;
const AGE_SECONDS_MAX: f64 = 14.0 * 86_400.0;
const AHEAD_SECONDS_MAX: f64 = 2.0 * 3600.0;
/// Values beyond ±2^360 are refused.
const EXPONENT_MAX: i32 = 360;

pub(super) struct Metrics {
    page_size: usize,
    series: Mutex<BTreeMap<Series, Vec<Sample>>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Series {
    namespace: String,
    name: String,
    dimensions: BTreeSet<(String, String)>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: f64,
    value: f64,
    count: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutInput {
    namespace: String,
    #[serde(default)]
    metric_data: Vec<Datum>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Datum {
    metric_name: String,
    #[serde(default)]
    dimensions: Vec<Dimension>,
    timestamp: Option<f64>,
    value: Option<Value>,
    #[serde(default)]
    values: Vec<Value>,
    #[serde(default)]
    counts: Vec<f64>,
    storage_resolution: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Dimension {
    name: String,
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListInput {
    namespace: Option<String>,
    metric_name: Option<String>,
    #[serde(default)]
    dimensions: Vec<Dimension>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetInput {
    metric_data_queries: Vec<Query>,
    start_time: f64,
    end_time: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Query {
    id: String,
    metric_stat: Option<MetricStat>,
    label: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetricStat {
    metric: MetricRef,
    period: i64,
    stat: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetricRef {
    namespace: String,
    metric_name: String,
    #[serde(default)]
    dimensions: Vec<Dimension>,
}

impl Metrics {
    pub(super) fn new(topology: &Topology) -> Self {
        Metrics { page_size: topology.page_size_max.unwrap_or(PAGE), series: Mutex::default() }
    }

    pub(super) fn call(&self, operation: &str, value: Value) -> Result<Value, AwsError> {
        match operation {
            "PutMetricData" => self.put(&input(value)?),
            "ListMetrics" => self.list(&input(value)?),
            _ => self.get(&input(value)?),
        }
    }

    /// All or nothing: one bad datum refuses the request.
    fn put(&self, put: &PutInput) -> Result<Value, AwsError> {
        if put.namespace.is_empty() || put.namespace.len() > NAME_LEN_MAX || put.namespace.starts_with(':') {
            return Err(invalid_value("The value for parameter Namespace is invalid."));
        }
        if put.namespace.starts_with("AWS/") {
            return Err(invalid_value(format!(
                "The value {} for parameter Namespace is invalid: AWS/ is reserved.",
                put.namespace
            )));
        }
        if put.metric_data.is_empty() {
            return Err(AwsError::new("MissingRequiredParameterException", "The parameter MetricData is required.")
                .query("MissingParameter"));
        }
        if put.metric_data.len() > DATA_MAX {
            return Err(invalid_value(format!(
                "The collection MetricData must not have a size greater than {DATA_MAX}."
            )));
        }
        let now = unix_now();
        let parsed = put.metric_data.iter().enumerate().map(|(index, datum)| {
            let samples =
                datum.samples(now).map_err(|why| invalid_value(format!("MetricData.member.{}: {why}", index + 1)))?;
            Ok((series(&put.namespace, &datum.metric_name, &datum.dimensions), samples))
        });
        let parsed: Vec<_> = parsed.collect::<Result<_, AwsError>>()?;
        let mut all = self.lock();
        for (series, samples) in parsed {
            all.entry(series).or_default().extend(samples);
        }
        Ok(json!({}))
    }

    fn list(&self, list: &ListInput) -> Result<Value, AwsError> {
        let all = self.lock();
        let wanted = |series: &&Series| {
            let has = |d: &Dimension| {
                series.dimensions.iter().any(|(n, v)| *n == d.name && d.value.as_ref().is_none_or(|w| w == v))
            };
            list.namespace.as_ref().is_none_or(|n| *n == series.namespace)
                && list.metric_name.as_ref().is_none_or(|n| *n == series.name)
                && list.dimensions.iter().all(has)
        };
        let items = all.keys().filter(wanted).map(|series| (format!("{series:?}"), metric_json(series)));
        let (metrics, next) = page("ListMetrics", items, list.next_token.as_deref(), self.page_size)
            .map_err(|_| invalid_value("The next token is not valid"))?;
        let mut answer = json!({ "Metrics": metrics });
        if let Some(next) = next {
            answer["NextToken"] = json!(next);
        }
        Ok(answer)
    }

    fn get(&self, get: &GetInput) -> Result<Value, AwsError> {
        if get.metric_data_queries.len() > QUERIES_MAX {
            return Err(invalid_value(format!("At most {QUERIES_MAX} queries are allowed.")));
        }
        if get.start_time >= get.end_time {
            return Err(invalid_value("The parameter StartTime must be less than the parameter EndTime."));
        }
        let all = self.lock();
        let results = get.metric_data_queries.iter().map(|query| {
            let stat = query.metric_stat.as_ref().ok_or_else(|| invalid_value("fake-aws knows no metric math"))?;
            let empty = Vec::new();
            let key = series(&stat.metric.namespace, &stat.metric.metric_name, &stat.metric.dimensions);
            let samples = all.get(&key).unwrap_or(&empty);
            let points = points(samples, stat, get.start_time, get.end_time)?;
            let (times, values): (Vec<f64>, Vec<f64>) = points.into_iter().rev().unzip();
            Ok(json!({
                "Id": query.id,
                "Label": query.label.as_ref().unwrap_or(&stat.metric.metric_name),
                "Timestamps": times,
                "Values": values,
                "StatusCode": "Complete",
            }))
        });
        let results: Vec<Value> = results.collect::<Result<_, AwsError>>()?;
        Ok(json!({"MetricDataResults": results, "Messages": []}))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Series, Vec<Sample>>> {
        self.series.lock().expect("no one panics holding it")
    }
}

impl Datum {
    fn samples(&self, now: f64) -> Result<Vec<Sample>, String> {
        if self.metric_name.is_empty() || self.metric_name.len() > NAME_LEN_MAX {
            return Err("MetricName has 1 to 255 characters".to_owned());
        }
        if self.dimensions.len() > DIMENSIONS_MAX {
            return Err(format!("more than {DIMENSIONS_MAX} dimensions"));
        }
        let names: BTreeSet<&str> = self.dimensions.iter().map(|d| d.name.as_str()).collect();
        if names.len() != self.dimensions.len() {
            return Err("a dimension is named twice".to_owned());
        }
        if self.dimensions.iter().any(|d| d.name.is_empty() || d.value.as_deref().unwrap_or_default().is_empty()) {
            return Err("a dimension needs a name and a value".to_owned());
        }
        if !matches!(self.storage_resolution, None | Some(1 | 60)) {
            return Err("StorageResolution is 1 or 60".to_owned());
        }
        let at = self.timestamp.unwrap_or(now);
        if at < now - AGE_SECONDS_MAX || at > now + AHEAD_SECONDS_MAX {
            return Err("Timestamp must be within two weeks before and two hours after now".to_owned());
        }
        if self.values.len() > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values"));
        }
        if !self.counts.is_empty() && self.counts.len() != self.values.len() {
            return Err("Values and Counts differ in length".to_owned());
        }
        let values: Vec<&Value> = self.value.iter().chain(&self.values).collect();
        if values.is_empty() {
            return Err("one of Value and Values is needed".to_owned());
        }
        let sample = |(index, value): (usize, &&Value)| {
            // The codec passes what is not a finite number as text.
            let value = value.as_f64().filter(|v| v.abs() <= 2f64.powi(EXPONENT_MAX));
            let value = value.ok_or("a value must be a number within ±2^360, not NaN or infinite")?;
            Ok(Sample { at, value, count: self.counts.get(index).copied().unwrap_or(1.0) })
        };
        values.iter().enumerate().map(sample).collect()
    }
}

/// One point per period that has samples, the oldest first.
fn points(samples: &[Sample], stat: &MetricStat, start: f64, end: f64) -> Result<Vec<(f64, f64)>, AwsError> {
    let period = stat.period as f64;
    if stat.period <= 0 {
        return Err(invalid_value("The parameter Period must be greater than 0."));
    }
    let mut periods: BTreeMap<i64, Vec<Sample>> = BTreeMap::new();
    for sample in samples.iter().filter(|s| s.at >= start && s.at < end) {
        periods.entry((sample.at / period).floor() as i64).or_default().push(*sample);
    }
    let point = |(index, samples): (i64, Vec<Sample>)| Ok((index as f64 * period, statistic(&stat.stat, &samples)?));
    periods.into_iter().map(point).collect()
}

fn statistic(name: &str, samples: &[Sample]) -> Result<f64, AwsError> {
    let count: f64 = samples.iter().map(|s| s.count).sum();
    let sum: f64 = samples.iter().map(|s| s.value * s.count).sum();
    match name {
        "Sum" => Ok(sum),
        "SampleCount" => Ok(count),
        "Average" => Ok(sum / count),
        "Minimum" => Ok(samples.iter().map(|s| s.value).fold(f64::INFINITY, f64::min)),
        "Maximum" => Ok(samples.iter().map(|s| s.value).fold(f64::NEG_INFINITY, f64::max)),
        other => Err(invalid_value(format!("fake-aws knows no statistic {other}"))),
    }
}

fn series(namespace: &str, name: &str, dimensions: &[Dimension]) -> Series {
    Series {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        dimensions: dimensions.iter().map(|d| (d.name.clone(), d.value.clone().unwrap_or_default())).collect(),
    }
}

fn metric_json(series: &Series) -> Value {
    json!({
        "Namespace": series.namespace,
        "MetricName": series.name,
        "Dimensions": series.dimensions.iter().map(|(n, v)| json!({"Name": n, "Value": v})).collect::<Vec<_>>(),
    })
}
