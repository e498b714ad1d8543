//! Grafana's classic JSON, schema version 42: what file provisioning of every Grafana since 10 takes.
//!
//! `platform_overview` and `service_red` say what is shown; `panel` and `model` say how Grafana wants it written;
//! `lint` holds them to the rules of Grafana's own linter, with `service` and `environment` in the places of its
//! `instance` and `job`.

pub mod lint;
mod model;
mod panel;
mod platform_overview;
mod service_red;

pub use model::{
    Annotation, Dashboard, DatasourceRef, FieldConfig, Override, Panel, Target, Threshold, Unit, Variable, Visual,
};

/// All dashboards, in the order in which a reader meets them.
pub fn dashboards() -> Vec<Dashboard> {
    vec![platform_overview::dashboard(), service_red::dashboard()]
}

/// Path below `dashboards/grafana` and content of each committed file.
pub fn files() -> Vec<(String, String)> {
    dashboards().iter().map(|dashboard| (format!("platform/{}.json", dashboard.uid), render(dashboard))).collect()
}

/// The file as it is committed.
pub fn render(dashboard: &Dashboard) -> String {
    let json = serde_json::to_string_pretty(dashboard).expect("the model has string keys and finite numbers only");
    format!("{json}\n")
}

/// A question that a dashboard asks, with Grafana's variables replaced by what they stand for in the widest view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// `service-red: Errors`.
    pub place: String,
    pub expr: String,
    /// The labels that the legend names.
    pub legend: Vec<String>,
}

/// Every question of every dashboard: the collector's tests parse and run them.
pub fn questions() -> Vec<Question> {
    let mut questions = Vec::new();
    for dashboard in dashboards() {
        for panel in dashboard.panels_flat() {
            for target in &panel.targets {
                questions.push(Question {
                    place: format!("{}: {}", dashboard.uid, panel.title),
                    expr: expand(&target.expr),
                    legend: legend_labels(&target.legend_format),
                });
            }
        }
        for annotation in &dashboard.annotations.list {
            questions.push(Question {
                place: format!("{}: annotation {}", dashboard.uid, annotation.name),
                expr: expand(&annotation.target.expr),
                legend: Vec::new(),
            });
        }
    }
    questions
}

fn expand(expr: &str) -> String {
    let known = [
        ("$__rate_interval", "1m"),
        ("$__interval", "15s"),
        ("$__range", "1h"),
        ("$environment", ".+"),
        ("$service", ".+"),
    ];
    known.iter().fold(expr.to_owned(), |expr, (name, value)| expr.replace(name, value))
}

/// `{{path}} {{status}}` names path and status.
fn legend_labels(format: &str) -> Vec<String> {
    let parts = format.split("{{").skip(1).filter_map(|part| part.split_once("}}"));
    parts.map(|(label, _)| label.trim().to_owned()).collect()
}
