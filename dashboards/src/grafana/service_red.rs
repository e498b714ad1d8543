//! Why is this one service bad? Rate, errors, duration; then its tasks; then what it depends on.

use telemetry::names::{app, ecs};

use super::model::{Dashboard, Panel, Unit};
use super::panel::*;
use crate::expr::Scope;
use crate::objective::{ERROR_RATIO_MAX, P95_SECONDS_MAX, UTILIZATION_PERCENT_MAX};

const MATCHERS: &str = r#"environment=~"$environment",service=~"$service""#;
const WINDOW: &str = "$__rate_interval";

const fn scope(by: &str) -> Scope<'_> {
    Scope { matchers: MATCHERS, by, window: WINDOW }
}

/// Selector of a metric of this service.
fn of(metric: &str) -> String {
    scope("").selector(metric, "")
}

fn rate(by: &str, metric: &str) -> String {
    format!("sum by ({by}) (rate({}[{WINDOW}]))", of(metric))
}

fn p95(by: &str, histogram: &str) -> String {
    format!("histogram_quantile(0.95, {})", rate(&format!("{by}, le"), &format!("{histogram}_bucket")))
}

pub(super) fn dashboard() -> Dashboard {
    let description = format!("One service: {}.", objective_text());
    let variables = vec![
        label_variable("environment", "Environment", r#"up{service!=""}"#, false),
        label_variable("service", "Service", r#"up{environment=~"$environment",service!=""}"#, false),
    ];
    let rows = vec![
        row("Now", STAT_HEIGHT, now()),
        row("Requests", CHART_HEIGHT, requests()),
        row("Tasks", CHART_HEIGHT, tasks()),
        collapsed("Database", CHART_HEIGHT, database()),
        collapsed("Cache and queue", CHART_HEIGHT, cache_and_queue()),
    ];
    super::panel::dashboard("service-red", "Service", &description, variables, rows)
}

fn now() -> Vec<Panel> {
    let all = scope("environment, service");
    let quantile = |title, description, quantile, limit| {
        stat(title, description, Unit::Seconds, limit, all.duration_quantile(quantile))
    };
    vec![
        stat("Requests", "Requests per second.", Unit::RequestsPerSecond, None, all.request_rate()),
        stat("Errors", "Share of requests answered with 5xx.", Unit::Ratio, Some(ERROR_RATIO_MAX), all.error_ratio()),
        quantile("p50", "Half of the requests are answered faster.", 0.5, None),
        quantile("p95", "Nineteen of twenty requests are answered faster.", 0.95, Some(P95_SECONDS_MAX)),
        quantile("p99", "Ninety-nine of a hundred requests are answered faster.", 0.99, None),
        stat("Tasks up", "Tasks whose sidecar answered the last scrape.", Unit::Count, None, all.tasks_up()),
    ]
}

fn requests() -> Vec<Panel> {
    let failed = scope("path").selector(app::HTTP_REQUESTS_TOTAL, r#"status=~"5..""#);
    let quantile = |quantile, legend| target(scope("environment, service").duration_quantile(quantile), legend);
    let buckets = format!("{}_bucket", app::HTTP_REQUEST_DURATION_SECONDS);
    vec![
        lines(
            "Requests by path",
            "The ten busiest paths.",
            Unit::RequestsPerSecond,
            vec![target(format!("topk(10, {})", scope("method, path").request_rate()), "{{method}} {{path}}")],
        ),
        lines(
            "Requests by status",
            "What the answers say; 4xx is the caller's fault, 5xx is ours.",
            Unit::RequestsPerSecond,
            vec![target(scope("status").request_rate(), "{{status}}")],
        ),
        lines(
            "Failures by path",
            "Where the 5xx come from. Nothing here is good.",
            Unit::RequestsPerSecond,
            vec![target(format!("sum by (path) (rate({failed}[{WINDOW}])) > 0"), "{{path}}")],
        ),
        lines_with_limit(
            "Error ratio by task",
            "One task or all of them? The dashed line is the objective.",
            Unit::Ratio,
            ERROR_RATIO_MAX,
            vec![target(scope("task_id").error_ratio(), "{{task_id}}")],
        ),
        lines_with_limit(
            "Response time",
            "Quantiles over all requests; the dashed line is the objective of p95.",
            Unit::Seconds,
            P95_SECONDS_MAX,
            vec![quantile(0.5, "p50"), quantile(0.95, "p95"), quantile(0.99, "p99")],
        ),
        heatmap(
            "Response times",
            "How many requests took how long: two bands are two kinds of request, which a quantile hides.",
            rate("le", &buckets),
        ),
    ]
}

fn tasks() -> Vec<Panel> {
    let limit = UTILIZATION_PERCENT_MAX / 100.0;
    let by_task = |metric: &str| vec![target(format!("max by (task_id) ({})", of(metric)), "{{task_id}}")];
    vec![
        lines_with_limit(
            "CPU by task",
            "Share of the task's CPU limit, every task for itself.",
            Unit::Ratio,
            limit,
            by_task(ecs::TASK_CPU_UTILIZATION_RATIO),
        ),
        lines_with_limit(
            "Memory by task",
            "Share of the task's memory limit; at 100 % the task is killed.",
            Unit::Ratio,
            limit,
            by_task(ecs::TASK_MEMORY_UTILIZATION_RATIO),
        ),
        lines(
            "Network by task",
            "Bytes that each task receives and sends.",
            Unit::BytesPerSecond,
            vec![
                target(rate("task_id", ecs::NETWORK_RECEIVE_BYTES_TOTAL), "{{task_id}} received"),
                target(rate("task_id", ecs::NETWORK_TRANSMIT_BYTES_TOTAL), "{{task_id}} sent"),
            ],
        ),
    ]
}

fn database() -> Vec<Panel> {
    let sum = |metric: &str| format!("sum by (environment, service) ({})", of(metric));
    vec![
        lines(
            "Query time, 95th percentile",
            "By kind of query, as the service sees it: waiting for a connection is not in it.",
            Unit::Seconds,
            vec![target(p95("query_type", app::DB_QUERY_DURATION_SECONDS), "{{query_type}}")],
        ),
        lines(
            "Connections",
            "Connections in use, idle, and the most that the pools may open.",
            Unit::Count,
            vec![
                target(sum(app::DB_CONNECTIONS_ACTIVE), "in use"),
                target(sum(app::DB_CONNECTIONS_IDLE), "idle"),
                target(sum(app::DB_CONNECTIONS_MAX), "most"),
            ],
        ),
    ]
}

fn cache_and_queue() -> Vec<Panel> {
    let (hits, misses) = (rate("cache_name", app::CACHE_HITS_TOTAL), rate("cache_name", app::CACHE_MISSES_TOTAL));
    vec![
        lines(
            "Cache hit ratio",
            "Share of look-ups that the cache answered.",
            Unit::Ratio,
            vec![target(format!("{hits} / ({hits} + {misses})"), "{{cache_name}}")],
        ),
        lines(
            "Queue depth",
            "Jobs that wait. Every task reports the same queue, so the maximum is its depth.",
            Unit::Count,
            vec![target(format!("max by (queue) ({})", of(app::QUEUE_DEPTH)), "{{queue}}")],
        ),
        lines(
            "Job time, 95th percentile",
            "How long jobs take once they are begun.",
            Unit::Seconds,
            vec![target(p95("queue", app::QUEUE_JOB_DURATION_SECONDS), "{{queue}}")],
        ),
    ]
}
