//! The part of CloudWatch's body that we use. An unknown field is an error: AWS would refuse or ignore it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::metric::Metric;

/// A whole dashboard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Body {
    /// `-PT3H` or a point in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_override: Option<PeriodOverride>,
    pub widgets: Vec<Widget>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeriodOverride {
    Auto,
    Inherit,
}

/// What is shown, and where on the grid of 24 columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenWidget", into = "WrittenWidget")]
pub struct Widget {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
    pub properties: Properties,
}

impl Widget {
    pub fn at(x: u32, y: u32, width: u32, height: u32, properties: Properties) -> Self {
        Self { x, y, width, height, properties }
    }
}

/// Decides the widget's `type`.
#[derive(Debug, Clone, PartialEq)]
pub enum Properties {
    Metric(MetricWidget),
    Text(TextWidget),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TextWidget {
    pub markdown: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MetricWidget {
    pub title: String,
    pub region: String,
    pub view: View,
    pub metrics: Vec<Metric>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stacked: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparkline: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub y_axis: Option<YAxes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legend: Option<Legend>,
}

impl MetricWidget {
    pub fn new(title: &str, region: &str, view: View) -> Self {
        Self {
            title: title.to_owned(),
            region: region.to_owned(),
            view,
            metrics: Vec::new(),
            stacked: (view == View::TimeSeries).then_some(false),
            sparkline: None,
            y_axis: None,
            annotations: None,
            legend: (view == View::TimeSeries).then_some(Legend { position: LegendPosition::Bottom }),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum View {
    TimeSeries,
    SingleValue,
    Gauge,
    Bar,
    Pie,
    Table,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct YAxes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<YAxis>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct YAxis {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub show_units: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotations {
    pub horizontal: Vec<HorizontalAnnotation>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HorizontalAnnotation {
    pub value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Legend {
    pub position: LegendPosition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LegendPosition {
    Bottom,
    Right,
    Hidden,
}

/// A widget as it stands in the body: `properties` can only be read once `type` is known.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWidget {
    #[serde(rename = "type")]
    kind: String,
    x: u32,
    y: u32,
    width: u32,
    height: u32,
    properties: Value,
}

impl From<Widget> for WrittenWidget {
    fn from(widget: Widget) -> Self {
        let Widget { x, y, width, height, properties } = widget;
        let (kind, properties) = match properties {
            Properties::Metric(metric) => ("metric", serde_json::to_value(metric)),
            Properties::Text(text) => ("text", serde_json::to_value(text)),
        };
        let properties = properties.expect("the model has string keys and finite numbers only");
        Self { kind: kind.to_owned(), x, y, width, height, properties }
    }
}

impl TryFrom<WrittenWidget> for Widget {
    type Error = String;

    fn try_from(written: WrittenWidget) -> Result<Self, String> {
        let WrittenWidget { kind, x, y, width, height, properties } = written;
        let properties = match kind.as_str() {
            "metric" => serde_json::from_value(properties).map(Properties::Metric),
            "text" => serde_json::from_value(properties).map(Properties::Text),
            other => return Err(format!("widget type `{other}` is none of metric, text")),
        };
        let properties = properties.map_err(|error| format!("{kind} widget at x {x}, y {y}: {error}"))?;
        Ok(Self { x, y, width, height, properties })
    }
}
