//! CloudWatch dashboard bodies.
//!
//! In: where a service runs. Out: a canonical body for `PutDashboard`, which replaces the whole dashboard.
//! Only metrics that AWS itself publishes are shown: `AWS/ECS` for every service, `ECS/ContainerInsights` where the
//! cluster has Container Insights enabled (without it those widgets say "No data available").

mod canonical;
mod metric;
mod model;
mod validate;

pub use canonical::{NotJson, canonical};
pub use metric::{Metric, MetricOptions, Statistic};
pub use model::{
    Annotations, Body, HorizontalAnnotation, Legend, LegendPosition, MetricWidget, PeriodOverride, Properties,
    TextWidget, View, Widget, YAxes, YAxis,
};
pub use validate::{Problem, validate};

use crate::objective;

/// One ECS service whose dashboard is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDashboard {
    pub environment: String,
    /// Value of the dimension `ServiceName`.
    pub service: String,
    /// Value of the dimension `ClusterName`.
    pub cluster: String,
    pub region: String,
}

impl ServiceDashboard {
    /// Name under which the dashboard is published: `picket-<environment>-<service>` in the letters that AWS allows.
    pub fn name(&self) -> String {
        let wanted = format!("picket-{}-{}", self.environment, self.service);
        wanted.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).take(NAME_LEN_MAX).collect()
    }
}

/// Longest dashboard name that AWS takes.
const NAME_LEN_MAX: usize = 255;
const PERIOD_SECONDS: u32 = 60;
const COLOR_AVERAGE: &str = "#1f77b4";
const COLOR_MAXIMUM: &str = "#ff7f0e";
const COLOR_LIMIT: &str = "#d62728";

/// The body for one service, in canonical form: equal input gives equal bytes.
pub fn service_dashboard(dashboard: &ServiceDashboard) -> String {
    let json =
        serde_json::to_value(service_body(dashboard)).expect("the model has string keys and finite numbers only");
    canonical::write(&json)
}

fn service_body(of: &ServiceDashboard) -> Body {
    let stat = |title: &str, x: u32, metrics: Vec<Metric>| {
        let widget = MetricWidget { sparkline: Some(true), ..MetricWidget::new(title, &of.region, View::SingleValue) };
        Widget::at(x, 2, 6, 4, Properties::Metric(MetricWidget { metrics, ..widget }))
    };
    let chart = |title: &str, x: u32, y: u32, metrics: Vec<Metric>| {
        let widget = MetricWidget { metrics, ..MetricWidget::new(title, &of.region, View::TimeSeries) };
        Widget::at(x, y, 12, 6, Properties::Metric(widget))
    };
    Body {
        start: Some("-PT3H".to_owned()),
        end: None,
        period_override: Some(PeriodOverride::Inherit),
        widgets: vec![
            Widget::at(0, 0, 24, 2, Properties::Text(TextWidget { markdown: header(of), background: None })),
            stat("CPU", 0, vec![ecs(of, "CPUUtilization", Statistic::Average, "average")]),
            stat("Memory", 6, vec![ecs(of, "MemoryUtilization", Statistic::Average, "average")]),
            stat("Tasks running", 12, vec![insights(of, "RunningTaskCount", Statistic::Average, "running")]),
            stat("Tasks wanted", 18, vec![insights(of, "DesiredTaskCount", Statistic::Average, "wanted")]),
            utilization(of, "CPU of the reservation", 0, "CPUUtilization"),
            utilization(of, "Memory of the reservation", 12, "MemoryUtilization"),
            chart(
                "Tasks",
                0,
                12,
                vec![
                    insights(of, "DesiredTaskCount", Statistic::Average, "wanted"),
                    insights(of, "RunningTaskCount", Statistic::Average, "running"),
                    insights(of, "PendingTaskCount", Statistic::Average, "pending"),
                ],
            ),
            chart(
                "Network",
                12,
                12,
                vec![
                    insights(of, "NetworkRxBytes", Statistic::Average, "received B/s"),
                    insights(of, "NetworkTxBytes", Statistic::Average, "sent B/s"),
                ],
            ),
        ],
    }
}

fn header(of: &ServiceDashboard) -> String {
    format!(
        "## {} · {}\nCluster `{}`. Published by the Picket collector, which replaces the whole dashboard: edits made here are reported as drift.",
        of.service, of.environment, of.cluster
    )
}

/// Average and maximum over the tasks in one widget: one hot task hides in an average.
fn utilization(of: &ServiceDashboard, title: &str, x: u32, metric: &str) -> Widget {
    let average = ecs(of, metric, Statistic::Average, "average of the tasks").color(COLOR_AVERAGE);
    let maximum = ecs(of, metric, Statistic::Maximum, "hottest task").color(COLOR_MAXIMUM);
    let limit = HorizontalAnnotation {
        value: objective::UTILIZATION_PERCENT_MAX,
        label: Some(format!("{} %", objective::UTILIZATION_PERCENT_MAX)),
        color: Some(COLOR_LIMIT.to_owned()),
    };
    let widget = MetricWidget {
        metrics: vec![average, maximum],
        y_axis: Some(YAxes {
            left: Some(YAxis { min: Some(0.0), max: None, label: Some("%".to_owned()), show_units: Some(false) }),
        }),
        annotations: Some(Annotations { horizontal: vec![limit] }),
        ..MetricWidget::new(title, &of.region, View::TimeSeries)
    };
    Widget::at(x, 6, 12, 6, Properties::Metric(widget))
}

fn ecs(of: &ServiceDashboard, name: &str, stat: Statistic, label: &str) -> Metric {
    metric("AWS/ECS", of, name, stat, label)
}

fn insights(of: &ServiceDashboard, name: &str, stat: Statistic, label: &str) -> Metric {
    metric("ECS/ContainerInsights", of, name, stat, label)
}

fn metric(namespace: &str, of: &ServiceDashboard, name: &str, stat: Statistic, label: &str) -> Metric {
    Metric {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        dimensions: vec![
            ("ClusterName".to_owned(), of.cluster.clone()),
            ("ServiceName".to_owned(), of.service.clone()),
        ],
        options: MetricOptions {
            stat: Some(stat),
            period: Some(PERIOD_SECONDS),
            label: Some(label.to_owned()),
            ..MetricOptions::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> ServiceDashboard {
        ServiceDashboard {
            environment: "demo".into(),
            service: "order".into(),
            cluster: "platform".into(),
            region: "eu-central-1".into(),
        }
    }

    #[test]
    fn a_rendered_body_is_valid_and_canonical() {
        let body = service_dashboard(&order());
        assert_eq!(validate(&body), Vec::new());
        assert_eq!(canonical(&body).as_deref(), Ok(body.as_str()));
    }

    #[test]
    fn every_metric_names_cluster_and_service() {
        let body = service_body(&order());
        let metrics: Vec<&Metric> = body
            .widgets
            .iter()
            .filter_map(|widget| match &widget.properties {
                Properties::Metric(metric) => Some(metric.metrics.iter()),
                Properties::Text(_) => None,
            })
            .flatten()
            .collect();
        assert_eq!(metrics.len(), 13);
        for metric in metrics {
            assert_eq!(
                metric.dimensions,
                [("ClusterName".into(), "platform".into()), ("ServiceName".into(), "order".into())],
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn the_name_has_only_letters_that_aws_allows() {
        let odd = ServiceDashboard { environment: "eu/prod 1".into(), ..order() };
        assert_eq!(odd.name(), "picket-eu-prod-1-order");
    }
}
