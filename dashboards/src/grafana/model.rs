//! The part of Grafana's format that we use. An unknown field is an error, so that a file which was edited in Grafana
//! and saved over ours is noticed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) const SCHEMA_VERSION: u32 = 42;

/// The variable by which every panel finds its data source.
pub(super) const DATASOURCE: &str = "${datasource}";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Dashboard {
    /// Stable: links lead to it.
    pub uid: String,
    pub title: String,
    pub description: String,
    pub tags: Vec<String>,
    pub schema_version: u32,
    pub editable: bool,
    /// 1: one crosshair over all panels.
    pub graph_tooltip: u8,
    pub refresh: String,
    pub time: TimeRange,
    pub timezone: String,
    pub links: Vec<DashboardLink>,
    pub templating: Templating,
    pub annotations: Annotations,
    pub panels: Vec<Panel>,
}

impl Dashboard {
    /// Every panel that shows something, those inside collapsed rows included.
    pub fn panels_flat(&self) -> impl Iterator<Item = &Panel> {
        self.panels.iter().flat_map(|panel| match &panel.visual {
            Visual::Row { panels, .. } => panels.iter().collect::<Vec<_>>(),
            _ => vec![panel],
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeRange {
    pub from: String,
    pub to: String,
}

/// The menu that leads to the other dashboards, variables and time kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DashboardLink {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub icon: String,
    pub tooltip: String,
    pub tags: Vec<String>,
    pub as_dropdown: bool,
    pub include_vars: bool,
    pub keep_time: bool,
    pub target_blank: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Templating {
    pub list: Vec<Variable>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Variable {
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    pub label: String,
    /// A word for data sources, an object for label values.
    pub query: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datasource: Option<DatasourceRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// 1 on load, 2 on change of the time range.
    pub refresh: u8,
    pub multi: bool,
    pub include_all: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasourceRef {
    #[serde(rename = "type")]
    pub kind: String,
    pub uid: String,
}

impl DatasourceRef {
    pub fn variable() -> Self {
        Self { kind: "prometheus".to_owned(), uid: DATASOURCE.to_owned() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotations {
    pub list: Vec<Annotation>,
}

/// Marks on every chart where an expression has a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Annotation {
    pub name: String,
    pub datasource: DatasourceRef,
    pub enable: bool,
    pub icon_color: String,
    pub target: AnnotationTarget,
    pub title_format: String,
    pub text_format: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AnnotationTarget {
    pub ref_id: String,
    pub expr: String,
    /// Smallest step between two looks.
    pub interval: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenPanel", into = "WrittenPanel")]
pub struct Panel {
    pub id: u32,
    pub title: String,
    pub description: String,
    pub grid: GridPos,
    pub targets: Vec<Target>,
    pub field_config: FieldConfig,
    pub transformations: Vec<Transformation>,
    pub visual: Visual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridPos {
    pub x: u32,
    pub y: u32,
    pub w: u32,
    pub h: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Target {
    pub ref_id: String,
    pub datasource: DatasourceRef,
    pub expr: String,
    pub legend_format: String,
    pub editor_mode: String,
    #[serde(skip_serializing_if = "is_false", default)]
    pub range: bool,
    #[serde(skip_serializing_if = "is_false", default)]
    pub instant: bool,
    #[serde(skip_serializing_if = "is_false", default)]
    pub exemplar: bool,
    /// `time_series`, `table` or `heatmap`.
    pub format: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transformation {
    pub id: String,
    pub options: Value,
}

/// What draws the panel; decides its `type`.
#[derive(Debug, Clone, PartialEq)]
pub enum Visual {
    Row { collapsed: bool, panels: Vec<Panel> },
    Stat(Stat),
    TimeSeries(TimeSeries),
    StateTimeline(StateTimeline),
    Table(Table),
    Heatmap(Heatmap),
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldConfig {
    pub defaults: Defaults,
    pub overrides: Vec<Override>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Defaults {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimals: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<ColorMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Thresholds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<Custom>,
}

/// Ids of Grafana's own list of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    #[serde(rename = "reqps")]
    RequestsPerSecond,
    #[serde(rename = "ops")]
    OperationsPerSecond,
    #[serde(rename = "percentunit")]
    Ratio,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "bytes")]
    Bytes,
    #[serde(rename = "Bps")]
    BytesPerSecond,
    #[serde(rename = "short")]
    Count,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColorMode {
    pub mode: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    pub mode: String,
    pub steps: Vec<Threshold>,
}

/// From `value` on the colour holds; the first step has none and begins at minus infinity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    pub color: String,
    pub value: Option<f64>,
}

/// How lines and bands are drawn.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Custom {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line_width: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fill_opacity: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub show_points: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_nulls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholds_style: Option<ColorMode>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    pub matcher: Matcher,
    pub properties: Vec<Property>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    pub id: String,
    pub options: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Property {
    pub id: String,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Stat {
    pub reduce_options: ReduceOptions,
    pub color_mode: String,
    pub graph_mode: String,
    pub text_mode: String,
    pub justify_mode: String,
    pub orientation: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReduceOptions {
    pub calcs: Vec<String>,
    pub fields: String,
    pub values: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSeries {
    pub legend: Legend,
    pub tooltip: Tooltip,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StateTimeline {
    pub merge_values: bool,
    pub show_value: String,
    pub row_height: f64,
    pub align_value: String,
    pub legend: Legend,
    pub tooltip: Tooltip,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Table {
    pub show_header: bool,
    pub cell_height: String,
    pub sort_by: Vec<SortBy>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SortBy {
    pub display_name: String,
    pub desc: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Heatmap {
    pub calculate: bool,
    pub color: HeatmapColor,
    pub y_axis: HeatmapAxis,
    pub exemplars: HeatmapExemplars,
    pub tooltip: HeatmapTooltip,
    pub legend: HeatmapLegend,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeatmapColor {
    pub mode: String,
    pub scheme: String,
    pub steps: u8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeatmapAxis {
    pub unit: Unit,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeatmapExemplars {
    pub color: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HeatmapTooltip {
    pub mode: String,
    pub y_histogram: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeatmapLegend {
    pub show: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Legend {
    pub show_legend: bool,
    pub display_mode: String,
    pub placement: String,
    pub calcs: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tooltip {
    pub mode: String,
    pub sort: String,
}

/// A panel as it stands in the file: `options` can only be read once `type` is known.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenPanel {
    id: u32,
    #[serde(rename = "type")]
    kind: String,
    title: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    description: String,
    grid_pos: GridPos,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    datasource: Option<DatasourceRef>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    targets: Vec<Target>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    field_config: Option<FieldConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    transformations: Vec<Transformation>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    options: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    collapsed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    panels: Option<Vec<Panel>>,
}

impl From<Panel> for WrittenPanel {
    fn from(panel: Panel) -> Self {
        let (kind, options, row) = match panel.visual {
            Visual::Row { collapsed, panels } => ("row", None, Some((collapsed, panels))),
            Visual::Stat(stat) => ("stat", Some(serde_json::to_value(stat)), None),
            Visual::TimeSeries(series) => ("timeseries", Some(serde_json::to_value(series)), None),
            Visual::StateTimeline(timeline) => ("state-timeline", Some(serde_json::to_value(timeline)), None),
            Visual::Table(table) => ("table", Some(serde_json::to_value(table)), None),
            Visual::Heatmap(heatmap) => ("heatmap", Some(serde_json::to_value(heatmap)), None),
        };
        let options = options.map(|options| options.expect("options have string keys and finite numbers only"));
        let shows = row.is_none();
        let (collapsed, panels) = row.unzip();
        WrittenPanel {
            id: panel.id,
            kind: kind.to_owned(),
            title: panel.title,
            description: panel.description,
            grid_pos: panel.grid,
            datasource: shows.then(DatasourceRef::variable),
            targets: panel.targets,
            field_config: shows.then_some(panel.field_config),
            transformations: panel.transformations,
            options,
            collapsed,
            panels,
        }
    }
}

impl TryFrom<WrittenPanel> for Panel {
    type Error = String;

    fn try_from(written: WrittenPanel) -> Result<Self, String> {
        fn read<T: serde::de::DeserializeOwned>(options: Option<Value>) -> Result<T, serde_json::Error> {
            serde_json::from_value(options.unwrap_or_default())
        }
        let visual = match written.kind.as_str() {
            "row" => Ok(Visual::Row {
                collapsed: written.collapsed.unwrap_or_default(),
                panels: written.panels.unwrap_or_default(),
            }),
            "stat" => read(written.options).map(Visual::Stat),
            "timeseries" => read(written.options).map(Visual::TimeSeries),
            "state-timeline" => read(written.options).map(Visual::StateTimeline),
            "table" => read(written.options).map(Visual::Table),
            "heatmap" => read(written.options).map(Visual::Heatmap),
            other => return Err(format!("panel {}: type `{other}` is none that we draw", written.id)),
        };
        Ok(Panel {
            id: written.id,
            visual: visual.map_err(|error| format!("panel {} ({}): {error}", written.id, written.title))?,
            title: written.title,
            description: written.description,
            grid: written.grid_pos,
            targets: written.targets,
            field_config: written.field_config.unwrap_or_default(),
            transformations: written.transformations,
        })
    }
}
