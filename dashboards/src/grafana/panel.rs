//! Panels in the words of those who write dashboards: a question, a unit, a sentence about why one looks at it.

use serde_json::{Value, json};

use super::model::*;
use crate::objective;

/// Where every chart has the same height.
pub(super) const CHART_HEIGHT: u32 = 8;
pub(super) const STAT_HEIGHT: u32 = 4;

pub(super) fn target(expr: impl Into<String>, legend: &str) -> Target {
    Target {
        ref_id: String::new(),
        datasource: DatasourceRef::variable(),
        expr: expr.into(),
        legend_format: legend.to_owned(),
        editor_mode: "code".to_owned(),
        range: true,
        instant: false,
        exemplar: false,
        format: "time_series".to_owned(),
    }
}

/// The value of now, for stats and tables.
pub(super) fn instant(expr: impl Into<String>) -> Target {
    Target { range: false, instant: true, format: "table".to_owned(), ..target(expr, "") }
}

fn panel(title: &str, description: &str, visual: Visual, targets: Vec<Target>, unit: Unit) -> Panel {
    let targets = targets.into_iter().zip('A'..='Z').map(|(target, id)| Target { ref_id: id.to_string(), ..target });
    Panel {
        id: 0,
        title: title.to_owned(),
        description: description.to_owned(),
        grid: GridPos { x: 0, y: 0, w: 0, h: 0 },
        targets: targets.collect(),
        field_config: FieldConfig {
            defaults: Defaults { unit: Some(unit), no_value: Some("no data".to_owned()), ..Defaults::default() },
            overrides: Vec::new(),
        },
        transformations: Vec::new(),
        visual,
    }
}

/// One number with the line behind it. `limit`: from there on it is red.
pub(super) fn stat(title: &str, description: &str, unit: Unit, limit: Option<f64>, expr: String) -> Panel {
    let visual = Visual::Stat(Stat {
        reduce_options: ReduceOptions { calcs: vec!["lastNotNull".to_owned()], fields: String::new(), values: false },
        color_mode: if limit.is_some() { "background" } else { "none" }.to_owned(),
        graph_mode: "area".to_owned(),
        text_mode: "value".to_owned(),
        justify_mode: "auto".to_owned(),
        orientation: "auto".to_owned(),
    });
    let mut panel = panel(title, description, visual, vec![target(expr, title)], unit);
    let defaults = &mut panel.field_config.defaults;
    defaults.color = Some(ColorMode { mode: "thresholds".to_owned() });
    // Healthy is quiet: no colour below the limit.
    defaults.thresholds = Some(thresholds("transparent", limit));
    panel
}

pub(super) fn lines(title: &str, description: &str, unit: Unit, targets: Vec<Target>) -> Panel {
    let visual = Visual::TimeSeries(TimeSeries { legend: legend(&["lastNotNull", "max"]), tooltip: tooltip() });
    let mut panel = panel(title, description, visual, targets, unit);
    panel.field_config.defaults.min = Some(0.0);
    panel.field_config.defaults.color = Some(ColorMode { mode: "palette-classic".to_owned() });
    panel.field_config.defaults.custom = Some(Custom {
        line_width: Some(1),
        fill_opacity: Some(0),
        show_points: Some("never".to_owned()),
        // A gap is shown as a gap.
        span_nulls: Some(false),
        thresholds_style: None,
    });
    panel
}

/// Lines with a dashed line at the objective.
pub(super) fn lines_with_limit(title: &str, description: &str, unit: Unit, limit: f64, targets: Vec<Target>) -> Panel {
    let mut panel = lines(title, description, unit, targets);
    panel.field_config.defaults.thresholds = Some(thresholds("transparent", Some(limit)));
    if let Some(custom) = &mut panel.field_config.defaults.custom {
        custom.thresholds_style = Some(ColorMode { mode: "dashed".to_owned() });
    }
    panel
}

pub(super) fn timeline(title: &str, description: &str, targets: Vec<Target>) -> Panel {
    let visual = Visual::StateTimeline(StateTimeline {
        merge_values: true,
        show_value: "never".to_owned(),
        row_height: 0.8,
        align_value: "left".to_owned(),
        legend: Legend { show_legend: false, ..legend(&[]) },
        tooltip: tooltip(),
    });
    let mut panel = panel(title, description, visual, targets, Unit::Count);
    panel.field_config.defaults.color = Some(ColorMode { mode: "thresholds".to_owned() });
    panel.field_config.defaults.thresholds = Some(thresholds("transparent", Some(1.0)));
    panel.field_config.defaults.no_value = Some("nothing fired".to_owned());
    panel.field_config.defaults.custom =
        Some(Custom { line_width: Some(0), fill_opacity: Some(85), span_nulls: Some(false), ..Custom::default() });
    panel
}

pub(super) fn heatmap(title: &str, description: &str, expr: String) -> Panel {
    let visual = Visual::Heatmap(Heatmap {
        calculate: false,
        color: HeatmapColor { mode: "scheme".to_owned(), scheme: "Blues".to_owned(), steps: 32 },
        y_axis: HeatmapAxis { unit: Unit::Seconds },
        exemplars: HeatmapExemplars { color: "rgba(255,120,0,0.8)".to_owned() },
        tooltip: HeatmapTooltip { mode: "single".to_owned(), y_histogram: true },
        legend: HeatmapLegend { show: true },
    });
    let buckets = Target { format: "heatmap".to_owned(), exemplar: true, ..target(expr, "{{le}}") };
    panel(title, description, visual, vec![buckets], Unit::RequestsPerSecond)
}

/// One column of a table of services: what is asked, how it is headed and written.
pub(super) struct Column {
    pub title: &'static str,
    pub unit: Unit,
    pub limit: Option<f64>,
    pub expr: String,
}

/// One row per environment and service; a row leads to `service-red`.
pub(super) fn service_table(title: &str, description: &str, sort_by: &str, columns: Vec<Column>) -> Panel {
    let visual = Visual::Table(Table {
        show_header: true,
        cell_height: "sm".to_owned(),
        sort_by: vec![SortBy { display_name: sort_by.to_owned(), desc: true }],
    });
    let targets = columns.iter().map(|column| instant(column.expr.clone())).collect();
    let mut table = panel(title, description, visual, targets, Unit::Count);
    let mut names = serde_json::Map::from_iter([
        ("environment".to_owned(), json!("Environment")),
        ("service".to_owned(), json!("Service")),
    ]);
    for (column, id) in columns.iter().zip('A'..='Z') {
        names.insert(format!("Value #{id}"), json!(column.title));
    }
    table.transformations = vec![
        Transformation { id: "merge".to_owned(), options: json!({}) },
        Transformation {
            id: "organize".to_owned(),
            options: json!({ "excludeByName": { "Time": true }, "renameByName": names }),
        },
    ];
    let link = "/d/service-red?${datasource:queryparam}&var-environment=${__data.fields.Environment}&var-service=${__value.raw}&${__url_time_range}";
    table.field_config.overrides =
        vec![over("Service", vec![("links", json!([{ "title": "Open ${__value.raw}", "url": link }]))])];
    for column in &columns {
        let mut properties = vec![("unit", json!(column.unit))];
        if let Some(limit) = column.limit {
            properties.push(("thresholds", json!(thresholds("transparent", Some(limit)))));
            properties.push(("custom.cellOptions", json!({ "type": "color-background" })));
        }
        table.field_config.overrides.push(over(column.title, properties));
    }
    table
}

fn over(field: &str, properties: Vec<(&str, Value)>) -> Override {
    Override {
        matcher: Matcher { id: "byName".to_owned(), options: field.to_owned() },
        properties: properties.into_iter().map(|(id, value)| Property { id: id.to_owned(), value }).collect(),
    }
}

fn thresholds(below: &str, limit: Option<f64>) -> Thresholds {
    let first = Threshold { color: below.to_owned(), value: None };
    let second = limit.map(|value| Threshold { color: "red".to_owned(), value: Some(value) });
    Thresholds { mode: "absolute".to_owned(), steps: std::iter::once(first).chain(second).collect() }
}

fn legend(calcs: &[&str]) -> Legend {
    Legend {
        show_legend: true,
        display_mode: "table".to_owned(),
        placement: "bottom".to_owned(),
        calcs: calcs.iter().map(|&calc| calc.to_owned()).collect(),
    }
}

fn tooltip() -> Tooltip {
    Tooltip { mode: "multi".to_owned(), sort: "desc".to_owned() }
}

/// A titled group of panels.
pub(super) struct Row {
    title: &'static str,
    collapsed: bool,
    height: u32,
    panels: Vec<Panel>,
}

pub(super) fn row(title: &'static str, height: u32, panels: Vec<Panel>) -> Row {
    Row { title, collapsed: false, height, panels }
}

pub(super) fn collapsed(title: &'static str, height: u32, panels: Vec<Panel>) -> Row {
    Row { title, collapsed: true, height, panels }
}

const COLUMNS: u32 = 24;

/// Gives every panel its id and its place. Panels of a line share its width; stats stand in one line, however many.
fn layout(rows: Vec<Row>) -> Vec<Panel> {
    let mut out = Vec::new();
    let (mut id, mut y) = (0, 0);
    let mut next_id = || {
        id += 1;
        id
    };
    for Row { title, collapsed, height, mut panels } in rows {
        let mut head = head(title, collapsed);
        head.id = next_id();
        head.grid = GridPos { x: 0, y, w: COLUMNS, h: 1 };
        y += 1;
        let per_line = per_line(&panels);
        for line in panels.chunks_mut(per_line) {
            let count = u32::try_from(line.len()).expect("a line has a handful of panels");
            for (index, panel) in (0..).zip(line.iter_mut()) {
                let (left, right) = (index * COLUMNS / count, (index + 1) * COLUMNS / count);
                panel.id = next_id();
                panel.grid = GridPos { x: left, y, w: right - left, h: height };
            }
            y += height;
        }
        if collapsed {
            head.visual = Visual::Row { collapsed, panels };
            out.push(head);
        } else {
            out.push(head);
            out.extend(panels);
        }
    }
    out
}

/// The line above a group: it has a title and nothing else.
fn head(title: &str, collapsed: bool) -> Panel {
    Panel {
        field_config: FieldConfig::default(),
        ..panel(title, "", Visual::Row { collapsed, panels: Vec::new() }, Vec::new(), Unit::Count)
    }
}

/// Charts stand two or three in a line.
fn per_line(panels: &[Panel]) -> usize {
    let charts = panels.iter().any(|panel| !matches!(panel.visual, Visual::Stat(_)));
    match panels.len() {
        count if !charts => count.max(1),
        count @ 1..=3 => count,
        count if count % 3 == 0 => 3,
        _ => 2,
    }
}

/// What all dashboards have in common.
pub(super) fn dashboard(
    uid: &str,
    title: &str,
    description: &str,
    variables: Vec<Variable>,
    rows: Vec<Row>,
) -> Dashboard {
    Dashboard {
        uid: uid.to_owned(),
        title: title.to_owned(),
        description: description.to_owned(),
        tags: vec!["picket".to_owned()],
        schema_version: SCHEMA_VERSION,
        editable: false,
        graph_tooltip: 1,
        refresh: "30s".to_owned(),
        time: TimeRange { from: "now-1h".to_owned(), to: "now".to_owned() },
        timezone: "browser".to_owned(),
        links: vec![DashboardLink {
            kind: "dashboards".to_owned(),
            title: "Picket".to_owned(),
            icon: "dashboard".to_owned(),
            tooltip: "The other dashboards, same service, same time".to_owned(),
            tags: vec!["picket".to_owned()],
            as_dropdown: true,
            include_vars: true,
            keep_time: true,
            target_blank: false,
        }],
        templating: Templating { list: std::iter::once(datasource()).chain(variables).collect() },
        annotations: Annotations { list: annotations() },
        panels: layout(rows),
    }
}

fn datasource() -> Variable {
    Variable {
        kind: "datasource".to_owned(),
        name: "datasource".to_owned(),
        label: "Data source".to_owned(),
        query: json!("prometheus"),
        datasource: None,
        definition: None,
        refresh: 1,
        multi: false,
        include_all: false,
        all_value: None,
        sort: None,
        regex: Some(String::new()),
    }
}

/// Values of a label of `up`: whatever is scraped can be chosen.
pub(super) fn label_variable(name: &str, label: &str, selector: &str, multi: bool) -> Variable {
    let query = format!("label_values({selector}, {name})");
    Variable {
        kind: "query".to_owned(),
        name: name.to_owned(),
        label: label.to_owned(),
        query: json!({ "qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery" }),
        datasource: Some(DatasourceRef::variable()),
        definition: Some(query),
        refresh: 2,
        multi,
        include_all: multi,
        all_value: multi.then(|| ".+".to_owned()),
        sort: Some(1),
        regex: Some(String::new()),
    }
}

/// What changed, on every chart.
fn annotations() -> Vec<Annotation> {
    let annotation = |name: &str, color: &str, expr: String, title: &str, text: &str| Annotation {
        name: name.to_owned(),
        datasource: DatasourceRef::variable(),
        enable: true,
        icon_color: color.to_owned(),
        target: AnnotationTarget { ref_id: "Anno".to_owned(), expr, interval: "30s".to_owned() },
        title_format: title.to_owned(),
        text_format: text.to_owned(),
    };
    let matchers = r#"environment=~"$environment",service=~"$service""#;
    let restarts = telemetry::names::ecs::CONTAINER_RESTARTS_TOTAL;
    vec![
        annotation(
            "Alerts",
            "red",
            format!(r#"max by (alertname, environment, service) (ALERTS{{alertstate="firing",{matchers}}})"#),
            "{{alertname}}",
            "{{service}} ({{environment}})",
        ),
        annotation(
            "Restarts",
            "orange",
            format!("sum by (environment, service) (increase({restarts}{{{matchers}}}[$__rate_interval])) > 0"),
            "container restarted",
            "{{service}} ({{environment}})",
        ),
    ]
}

/// What every service is held to.
pub(super) fn objective_text() -> String {
    format!(
        "at most {} % of requests fail, 95 % are answered within {} s",
        objective::ERROR_RATIO_MAX * 100.0,
        objective::P95_SECONDS_MAX
    )
}
