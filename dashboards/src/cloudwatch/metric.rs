//! One row of a widget's `metrics`: an array whose last item may be an object of options.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `["AWS/ECS", "CPUUtilization", "ClusterName", "…", {options}]`. Our bodies write every value out; AWS' shorthands
/// `"."` and `"..."` and metric math are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Value>", into = "Vec<Value>")]
pub struct Metric {
    pub namespace: String,
    pub name: String,
    /// Name and value.
    pub dimensions: Vec<(String, String)>,
    pub options: MetricOptions,
}

/// How one metric is drawn.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MetricOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stat: Option<Statistic>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `#rrggbb`; CloudWatch refuses colour names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
}

/// The statistics that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statistic {
    Average,
    Maximum,
    Minimum,
    Sum,
    SampleCount,
    #[serde(rename = "p95")]
    P95,
}

impl Metric {
    pub fn color(mut self, color: &str) -> Self {
        self.options.color = Some(color.to_owned());
        self
    }
}

impl From<Metric> for Vec<Value> {
    fn from(metric: Metric) -> Self {
        let mut row = vec![Value::String(metric.namespace), Value::String(metric.name)];
        for (name, value) in metric.dimensions {
            row.push(Value::String(name));
            row.push(Value::String(value));
        }
        let options = serde_json::to_value(metric.options).expect("options are strings and integers");
        if options.as_object().is_some_and(|options| !options.is_empty()) {
            row.push(options);
        }
        row
    }
}

impl TryFrom<Vec<Value>> for Metric {
    type Error = String;

    fn try_from(mut row: Vec<Value>) -> Result<Self, String> {
        let options = match row.pop_if(|last| last.is_object()) {
            Some(options) => serde_json::from_value(options).map_err(|error| error.to_string())?,
            None => MetricOptions::default(),
        };
        let texts: Vec<String> = row
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                other => Err(format!("a metric is strings and at most one object at the end, found {other}")),
            })
            .collect::<Result<_, _>>()?;
        let [namespace, name, dimensions @ ..] = texts.as_slice() else {
            return Err("a metric needs a namespace and a name".to_owned());
        };
        let (pairs, rest) = dimensions.as_chunks::<2>();
        if let [lonely] = rest {
            return Err(format!("dimension `{lonely}` of metric {name} has no value"));
        }
        let dimensions = pairs.iter().map(|[name, value]| (name.clone(), value.clone())).collect();
        Ok(Metric { namespace: namespace.clone(), name: name.clone(), dimensions, options })
    }
}
