//! Is anything broken, and where?

use telemetry::names::ecs;

use super::model::{Dashboard, Unit};
use super::panel::*;
use crate::expr::Scope;
use crate::objective::{ERROR_RATIO_MAX, P95_SECONDS_MAX, UTILIZATION_PERCENT_MAX};

const SCOPE: Scope<'_> = Scope {
    matchers: r#"environment=~"$environment",service=~"$service""#,
    by: "environment, service",
    window: "$__rate_interval",
};
const LEGEND: &str = "{{environment}} {{service}}";

pub(super) fn dashboard() -> Dashboard {
    let description = format!("All services of the platform: {}.", objective_text());
    let variables = vec![
        label_variable("environment", "Environment", r#"up{service!=""}"#, true),
        label_variable("service", "Service", r#"up{environment=~"$environment",service!=""}"#, true),
    ];
    let rows = vec![
        row("Now", STAT_HEIGHT, now()),
        row("Services", 9, vec![services()]),
        row("Requests", CHART_HEIGHT, requests()),
        row("Alerts", 6, vec![alerts()]),
        collapsed("Tasks", CHART_HEIGHT, tasks()),
    ];
    super::panel::dashboard("platform-overview", "Platform overview", &description, variables, rows)
}

fn now() -> Vec<super::Panel> {
    let up = SCOPE.selector("up", r#"service!="""#);
    let firing = SCOPE.selector("ALERTS", r#"alertstate="firing""#);
    vec![
        stat(
            "Services above the error objective",
            "Services that answer more than 5 % of their requests with 5xx. \"no data\": nobody is asked anything.",
            Unit::Count,
            Some(1.0),
            format!("sum({} > bool {ERROR_RATIO_MAX})", SCOPE.error_ratio()),
        ),
        // Without the second half nothing firing would look like nothing known.
        stat(
            "Alerts firing",
            "Alerts of these services that are firing now.",
            Unit::Count,
            Some(1.0),
            format!("count({firing}) or 0 * count({up})"),
        ),
        stat(
            "Tasks that do not answer",
            "Targets that discovery knows and the last scrape did not reach.",
            Unit::Count,
            Some(1.0),
            format!("count({up}) - sum({up})"),
        ),
        stat("Tasks up", "Tasks whose sidecar answered the last scrape.", Unit::Count, None, format!("sum({up})")),
    ]
}

fn services() -> super::Panel {
    let columns = vec![
        Column { title: "Req/s", unit: Unit::RequestsPerSecond, limit: None, expr: SCOPE.request_rate() },
        Column { title: "Errors", unit: Unit::Ratio, limit: Some(ERROR_RATIO_MAX), expr: SCOPE.error_ratio() },
        Column { title: "p95", unit: Unit::Seconds, limit: Some(P95_SECONDS_MAX), expr: SCOPE.duration_quantile(0.95) },
        Column { title: "Tasks up", unit: Unit::Count, limit: None, expr: SCOPE.tasks_up() },
        Column { title: "Tasks known", unit: Unit::Count, limit: None, expr: SCOPE.tasks_known() },
    ];
    service_table(
        "Services",
        "One row per service, the highest error ratio first. The name leads to its own page.",
        "Errors",
        columns,
    )
}

fn requests() -> Vec<super::Panel> {
    vec![
        lines(
            "Requests per second",
            "How busy each service is.",
            Unit::RequestsPerSecond,
            vec![target(SCOPE.request_rate(), LEGEND)],
        ),
        lines_with_limit(
            "Error ratio",
            "Share of requests answered with 5xx; the dashed line is the objective.",
            Unit::Ratio,
            ERROR_RATIO_MAX,
            vec![target(SCOPE.error_ratio(), LEGEND)],
        ),
        lines_with_limit(
            "Response time, 95th percentile",
            "Nineteen of twenty requests are answered faster; the dashed line is the objective.",
            Unit::Seconds,
            P95_SECONDS_MAX,
            vec![target(SCOPE.duration_quantile(0.95), LEGEND)],
        ),
    ]
}

fn alerts() -> super::Panel {
    let firing = SCOPE.selector("ALERTS", r#"alertstate="firing""#);
    timeline(
        "Alerts over time",
        "When each alert was firing.",
        vec![target(
            format!("max by (alertname, environment, service) ({firing})"),
            "{{alertname}} {{environment}} {{service}}",
        )],
    )
}

fn tasks() -> Vec<super::Panel> {
    let hottest = |metric: &str| format!("max by (environment, service) ({})", SCOPE.selector(metric, ""));
    let limit = UTILIZATION_PERCENT_MAX / 100.0;
    vec![
        lines("Tasks up", "Tasks whose sidecar answers.", Unit::Count, vec![target(SCOPE.tasks_up(), LEGEND)]),
        lines_with_limit(
            "CPU of the hottest task",
            "Share of the task's CPU limit. Averages hide one hot task; this is the worst.",
            Unit::Ratio,
            limit,
            vec![target(hottest(ecs::TASK_CPU_UTILIZATION_RATIO), LEGEND)],
        ),
        lines_with_limit(
            "Memory of the fullest task",
            "Share of the task's memory limit; at 100 % the task is killed.",
            Unit::Ratio,
            limit,
            vec![target(hottest(ecs::TASK_MEMORY_UTILIZATION_RATIO), LEGEND)],
        ),
    ]
}
