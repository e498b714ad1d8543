//! What AWS would refuse, found before it is asked. Limits are those of PutDashboard's documentation.

use super::model::{Body, MetricWidget, Properties, Widget};

const COLUMNS: u32 = 24;
const HEIGHT_MAX: u32 = 1000;
const WIDGETS_MAX: usize = 500;
const METRICS_PER_WIDGET_MAX: usize = 500;
const METRICS_MAX: usize = 2500;

/// One fault and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `widgets[3].properties.metrics[0]`, empty for the body as a whole.
    pub path: String,
    pub message: String,
}

/// Every fault of a body; empty when AWS should take it.
pub fn validate(body: &str) -> Vec<Problem> {
    match serde_json::from_str::<Body>(body) {
        Ok(body) => problems(&body),
        Err(error) => vec![Problem { path: String::new(), message: error.to_string() }],
    }
}

fn problems(body: &Body) -> Vec<Problem> {
    let mut found = Problems::default();
    if body.widgets.len() > WIDGETS_MAX {
        found.add("widgets", format!("{} widgets, at most {WIDGETS_MAX} are allowed", body.widgets.len()));
    }
    for (index, widget) in body.widgets.iter().enumerate() {
        let path = format!("widgets[{index}]");
        found.grid(&path, widget);
        for (other, earlier) in body.widgets[..index].iter().enumerate() {
            if overlap(widget, earlier) {
                found.add(&path, format!("overlaps widgets[{other}]"));
            }
        }
        if let Properties::Metric(metric) = &widget.properties {
            found.metric_widget(&format!("{path}.properties"), metric);
        }
    }
    let metrics: usize = body.widgets.iter().map(metric_count).sum();
    if metrics > METRICS_MAX {
        found.add("widgets", format!("{metrics} metrics, at most {METRICS_MAX} are allowed"));
    }
    found.0
}

fn metric_count(widget: &Widget) -> usize {
    match &widget.properties {
        Properties::Metric(metric) => metric.metrics.len(),
        Properties::Text(_) => 0,
    }
}

fn overlap(a: &Widget, b: &Widget) -> bool {
    a.x < b.x.saturating_add(b.width)
        && b.x < a.x.saturating_add(a.width)
        && a.y < b.y.saturating_add(b.height)
        && b.y < a.y.saturating_add(a.height)
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(Problem { path: path.to_owned(), message: message.into() });
    }

    fn grid(&mut self, path: &str, widget: &Widget) {
        if widget.width == 0 || widget.x.saturating_add(widget.width) > COLUMNS {
            self.add(path, format!("x {} and width {} do not fit {COLUMNS} columns", widget.x, widget.width));
        }
        if widget.height == 0 || widget.height > HEIGHT_MAX {
            self.add(path, format!("height {} is not in 1 to {HEIGHT_MAX}", widget.height));
        }
    }

    fn metric_widget(&mut self, path: &str, widget: &MetricWidget) {
        if !is_region(&widget.region) {
            self.add(&format!("{path}.region"), format!("`{}` is no region", widget.region));
        }
        match widget.metrics.len() {
            0 => self.add(&format!("{path}.metrics"), "a metric widget needs a metric"),
            1..=METRICS_PER_WIDGET_MAX => {}
            count => self.add(&format!("{path}.metrics"), format!("{count} metrics, at most {METRICS_PER_WIDGET_MAX}")),
        }
        for (index, metric) in widget.metrics.iter().enumerate() {
            let path = format!("{path}.metrics[{index}]");
            if metric.namespace.is_empty() || metric.name.is_empty() {
                self.add(&path, "namespace and name must not be empty");
            }
            if metric.dimensions.iter().any(|(name, value)| name.is_empty() || value.is_empty()) {
                self.add(&path, "a dimension needs a name and a value");
            }
            self.color(&path, metric.options.color.as_deref());
        }
        for (index, line) in widget.annotations.iter().flat_map(|annotations| &annotations.horizontal).enumerate() {
            self.color(&format!("{path}.annotations.horizontal[{index}]"), line.color.as_deref());
        }
    }

    fn color(&mut self, path: &str, color: Option<&str>) {
        if let Some(color) = color
            && !is_hex_color(color)
        {
            self.add(path, format!("colour `{color}` is not of the form #rrggbb"));
        }
    }
}

fn is_hex_color(text: &str) -> bool {
    text.strip_prefix('#').is_some_and(|digits| digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// `eu-central-1`, `us-gov-west-1`: words and a number at the end.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    words.len() >= 2
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric_widget(properties: &str) -> String {
        format!(r#"{{"widgets":[{{"type":"metric","x":0,"y":0,"width":6,"height":6,"properties":{properties}}}]}}"#)
    }

    fn messages(body: &str) -> Vec<String> {
        validate(body).into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
    }

    #[test]
    fn each_fault_that_aws_would_report_is_named_with_its_place() {
        let cases = [
            (r#"{"title":"t","region":"eu-west-1","view":"timeSeries","metrics":[]}"#, "needs a metric"),
            (
                r#"{"title":"t","region":"europe","view":"timeSeries","metrics":[["AWS/ECS","CPUUtilization"]]}"#,
                "`europe` is no region",
            ),
            (
                r#"{"title":"t","region":"eu-west-1","view":"timeSeries","metrics":[["AWS/ECS","CPUUtilization","ClusterName"]]}"#,
                "dimension `ClusterName` of metric CPUUtilization has no value",
            ),
            (
                r#"{"title":"t","region":"eu-west-1","view":"timeSeries","metrics":[["AWS/ECS","CPUUtilization",{"color":"red"}]]}"#,
                "widgets[0].properties.metrics[0]: colour `red` is not of the form #rrggbb",
            ),
            (
                r#"{"title":"t","region":"eu-west-1","view":"timeSeries","metrics":[["AWS/ECS","CPUUtilization"]],"colour":1}"#,
                "unknown field `colour`",
            ),
            (
                r#"{"title":"t","region":"eu-west-1","view":"lines","metrics":[["AWS/ECS","CPUUtilization"]]}"#,
                "unknown variant `lines`",
            ),
        ];
        for (properties, expected) in cases {
            let found = messages(&metric_widget(properties)).join("\n");
            assert!(found.contains(expected), "{properties}\nfound: {found}");
        }
    }

    #[test]
    fn overlap_and_overflow_of_the_grid_are_found() {
        let text = |x, y, width| {
            format!(r#"{{"type":"text","x":{x},"y":{y},"width":{width},"height":2,"properties":{{"markdown":"m"}}}}"#)
        };
        let body = format!(r#"{{"widgets":[{},{},{}]}}"#, text(0, 0, 12), text(11, 1, 6), text(20, 4, 6));
        assert_eq!(
            messages(&body),
            ["widgets[1]: overlaps widgets[0]", "widgets[2]: x 20 and width 6 do not fit 24 columns"]
        );
    }

    #[test]
    fn a_body_that_is_not_json_is_one_problem() {
        assert_eq!(validate("{").len(), 1);
    }

    #[test]
    fn five_hundred_and_one_widgets_are_too_many() {
        let widgets: Vec<String> = (0..501)
            .map(|y| format!(r#"{{"type":"text","x":0,"y":{y},"width":1,"height":1,"properties":{{"markdown":"m"}}}}"#))
            .collect();
        let body = format!(r#"{{"widgets":[{}]}}"#, widgets.join(","));
        assert_eq!(messages(&body), ["widgets: 501 widgets, at most 500 are allowed"]);
    }
}
