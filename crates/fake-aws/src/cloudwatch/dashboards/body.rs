//! What CloudWatch finds wrong with a dashboard's body: a path and a message per finding.
//!
//! The limits are the documented ones (24 columns, 500 widgets, 500 metrics per widget, 2500 per dashboard); the
//! messages follow the JSON-schema wording that CloudWatch answers. Unknown properties are warnings, as there.

use serde_json::{Map, Value, json};

const WIDGETS_MAX: usize = 500;
const METRICS_PER_WIDGET_MAX: usize = 500;
const METRICS_MAX: usize = 2500;
const ALARMS_PER_WIDGET_MAX: usize = 100;
const TYPES: [&str; 6] = ["metric", "text", "log", "alarm", "explorer", "custom"];
const VIEWS: [&str; 6] = ["timeSeries", "singleValue", "gauge", "bar", "pie", "table"];
const WIDGET_KEYS: [&str; 6] = ["type", "x", "y", "width", "height", "properties"];
const BODY_KEYS: [&str; 5] = ["start", "end", "periodOverride", "variables", "widgets"];

#[derive(Default, Debug)]
pub(super) struct Findings {
    pub(super) errors: Vec<Value>,
    pub(super) warnings: Vec<Value>,
}

/// The body is not a JSON object.
#[derive(Debug)]
pub(super) struct NotAnObject;

impl Findings {
    fn error(&mut self, path: &str, message: impl Into<String>) {
        self.errors.push(json!({"DataPath": path, "Message": message.into()}));
    }

    fn warn(&mut self, path: &str, message: impl Into<String>) {
        self.warnings.push(json!({"DataPath": path, "Message": message.into()}));
    }
}

pub(super) fn validate(body: &str) -> Result<Findings, NotAnObject> {
    let body: Map<String, Value> = serde_json::from_str(body).map_err(|_| NotAnObject)?;
    let mut findings = Findings::default();
    for key in body.keys().filter(|k| !BODY_KEYS.contains(&k.as_str())) {
        findings.warn("", format!("Should NOT have additional properties: {key}"));
    }
    if let Some(value) = body.get("periodOverride")
        && !matches!(value.as_str(), Some("auto" | "inherit"))
    {
        findings.error("/periodOverride", "Should be equal to one of the allowed values: auto, inherit");
    }
    let Some(widgets) = body.get("widgets") else {
        findings.error("", "Should have required property 'widgets'");
        return Ok(findings);
    };
    let Some(widgets) = widgets.as_array() else {
        findings.error("/widgets", "Should be array");
        return Ok(findings);
    };
    if widgets.len() > WIDGETS_MAX {
        findings.error("/widgets", format!("Should NOT have more than {WIDGETS_MAX} items"));
    }
    let metrics: usize =
        widgets.iter().enumerate().map(|(i, w)| widget(&format!("/widgets/{i}"), w, &mut findings)).sum();
    if metrics > METRICS_MAX {
        findings.error("/widgets", format!("A dashboard can have at most {METRICS_MAX} metrics, this has {metrics}"));
    }
    Ok(findings)
}

/// Answers the number of metrics in it.
fn widget(path: &str, value: &Value, findings: &mut Findings) -> usize {
    let Some(widget) = value.as_object() else {
        findings.error(path, "Should be object");
        return 0;
    };
    for key in widget.keys().filter(|k| !WIDGET_KEYS.contains(&k.as_str())) {
        findings.warn(path, format!("Should NOT have additional properties: {key}"));
    }
    for (key, low, high) in [("width", 1, 24), ("height", 1, 1000), ("x", 0, 23), ("y", 0, i64::MAX)] {
        let Some(value) = widget.get(key) else { continue };
        match value.as_i64() {
            None => findings.error(&format!("{path}/{key}"), "Should be integer"),
            Some(n) if n < low => findings.error(&format!("{path}/{key}"), format!("Should be >= {low}")),
            Some(n) if n > high => findings.error(&format!("{path}/{key}"), format!("Should be <= {high}")),
            Some(_) => {}
        }
    }
    if widget.contains_key("x") != widget.contains_key("y") {
        findings.error(path, "Should have both x and y, or neither");
    }
    let Some(kind) = widget.get("type") else {
        findings.error(path, "Should have required property 'type'");
        return 0;
    };
    let kind = kind.as_str().unwrap_or_default();
    if !TYPES.contains(&kind) {
        findings.error(&format!("{path}/type"), "Should be equal to one of the allowed values");
        return 0;
    }
    let path = format!("{path}/properties");
    let Some(properties) = widget.get("properties").and_then(Value::as_object) else {
        findings.error(path.trim_end_matches("/properties"), "Should have required property 'properties'");
        return 0;
    };
    match kind {
        "metric" => metric_widget(&path, properties, findings),
        "text" => required_text(&path, properties, "markdown", findings),
        "log" => {
            required_text(&path, properties, "region", findings);
            required_text(&path, properties, "query", findings)
        }
        "alarm" => alarm_widget(&path, properties, findings),
        _ => 0,
    }
}

fn required_text(path: &str, properties: &Map<String, Value>, key: &str, findings: &mut Findings) -> usize {
    match properties.get(key) {
        None => findings.error(path, format!("Should have required property '{key}'")),
        Some(value) if !value.is_string() => findings.error(&format!("{path}/{key}"), "Should be string"),
        Some(_) => {}
    }
    0
}

fn alarm_widget(path: &str, properties: &Map<String, Value>, findings: &mut Findings) -> usize {
    let alarms = properties.get("alarms").and_then(Value::as_array).map_or(0, Vec::len);
    if !(1..=ALARMS_PER_WIDGET_MAX).contains(&alarms) {
        findings.error(&format!("{path}/alarms"), format!("Should have 1 to {ALARMS_PER_WIDGET_MAX} items"));
    }
    0
}

fn metric_widget(path: &str, properties: &Map<String, Value>, findings: &mut Findings) -> usize {
    required_text(path, properties, "region", findings);
    if let Some(view) = properties.get("view")
        && !view.as_str().is_some_and(|v| VIEWS.contains(&v))
    {
        findings.error(&format!("{path}/view"), "Should be equal to one of the allowed values");
    }
    if let Some(period) = properties.get("period").map(Value::as_i64)
        && !period.is_some_and(valid_period)
    {
        findings.error(&format!("{path}/period"), "Should be 1, 5, 10, 20, 30 or a multiple of 60");
    }
    let has_alarm = properties.get("annotations").is_some_and(|a| a.get("alarms").is_some());
    let Some(metrics) = properties.get("metrics") else {
        if !has_alarm {
            findings.error(path, "Should have required property 'metrics'");
        }
        return 0;
    };
    let Some(metrics) = metrics.as_array() else {
        findings.error(&format!("{path}/metrics"), "Should be array");
        return 0;
    };
    if metrics.is_empty() {
        findings.error(&format!("{path}/metrics"), "Should NOT have fewer than 1 items");
    }
    if metrics.len() > METRICS_PER_WIDGET_MAX {
        findings.error(&format!("{path}/metrics"), format!("Should NOT have more than {METRICS_PER_WIDGET_MAX} items"));
    }
    for (index, row) in metrics.iter().enumerate() {
        metric_row(&format!("{path}/metrics/{index}"), row, findings);
    }
    metrics.len()
}

fn valid_period(seconds: i64) -> bool {
    matches!(seconds, 1 | 5 | 10 | 20 | 30) || (seconds > 0 && seconds % 60 == 0)
}

/// `[namespace, name, dimension, value, …, {options}]`, or `[{expression}]`.
fn metric_row(path: &str, row: &Value, findings: &mut Findings) {
    let Some(row) = row.as_array().filter(|r| !r.is_empty()) else {
        return findings.error(path, "Should be array");
    };
    let (texts, options) = match row.split_last() {
        Some((Value::Object(options), texts)) => (texts, Some(options)),
        _ => (&row[..], None),
    };
    if texts.iter().any(|t| !t.is_string()) {
        return findings.error(path, "Should be string");
    }
    let is_expression = options.is_some_and(|o| o.contains_key("expression"));
    if texts.is_empty() && !is_expression {
        findings.error(path, "Should have a metric or an expression");
    }
    if !texts.is_empty() && (texts.len() < 2 || !texts.len().is_multiple_of(2)) {
        findings.error(path, "Should have a namespace, a metric name, and dimensions as pairs of name and value");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(body: &Value) -> Findings {
        validate(&body.to_string()).expect("an object")
    }

    fn metric(row: Value) -> Value {
        json!({"widgets": [{"type": "metric", "x": 0, "y": 0, "width": 6, "height": 6,
            "properties": {"region": "us-east-1", "metrics": [row]}}]})
    }

    #[test]
    fn a_good_body_has_no_findings() {
        let body =
            metric(json!(["AWS/ECS", "CPUUtilization", "ClusterName", "c", "ServiceName", "s", {"stat": "p95"}]));
        let found = findings(&body);
        assert!(found.errors.is_empty() && found.warnings.is_empty(), "{found:?}");
    }

    #[test]
    fn each_fault_is_named_with_its_path() {
        for (body, path) in [
            (json!({}), ""),
            (
                json!({"widgets": [{"type": "metric", "width": 99, "properties": {"region": "r", "metrics": [["a", "b"]]}}]}),
                "/widgets/0/width",
            ),
            (json!({"widgets": [{"type": "nonsense", "properties": {}}]}), "/widgets/0/type"),
            (json!({"widgets": [{"type": "text", "properties": {}}]}), "/widgets/0/properties"),
            (
                json!({"widgets": [{"type": "metric", "properties": {"metrics": [["a", "b"]]}}]}),
                "/widgets/0/properties",
            ),
            (metric(json!(["AWS/ECS", "CPUUtilization", "ClusterName"])), "/widgets/0/properties/metrics/0"),
            (metric(json!([])), "/widgets/0/properties/metrics/0"),
            (json!({"periodOverride": "x", "widgets": []}), "/periodOverride"),
        ] {
            let found = findings(&body);
            assert_eq!(found.errors.first().map(|e| e["DataPath"].clone()), Some(json!(path)), "{body}");
        }
        assert!(validate("[]").is_err());
        assert!(validate("{").is_err());
    }

    #[test]
    fn more_metrics_than_a_dashboard_takes_are_refused() {
        let widget = json!({"type": "metric", "properties": {"region": "r", "metrics": vec![json!(["a", "b"]); 500]}});
        assert!(findings(&json!({"widgets": vec![widget.clone(); 5]})).errors.is_empty());
        assert_eq!(findings(&json!({"widgets": vec![widget; 6]})).errors.len(), 1);
        let widget = json!({"type": "metric", "properties": {"region": "r", "metrics": vec![json!(["a", "b"]); 501]}});
        assert_eq!(findings(&json!({"widgets": [widget]})).errors.len(), 1);
    }
}
