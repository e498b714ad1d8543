//! What the servers are asked, while nothing is scraped: each time another moment, as rules ask.

use anyhow::bail;

use super::Options;
use super::gates::{Measure, PROMETHEUS};
use super::servers::Server;
use super::table::Table;
use crate::client::Client;

/// The seed's alerts.
const ALERTS: [(&str, &str); 5] = [
    (
        "error ratio by service, CPU ms",
        r#"sum by (service) (rate(http_requests_total{status=~"5.."}[5m])) / sum by (service) (rate(http_requests_total[5m]))"#,
    ),
    (
        "p95 by service, CPU ms",
        "histogram_quantile(0.95, sum by (service, le) (rate(http_request_duration_seconds_bucket[5m])))",
    ),
    ("connections by service, CPU ms", "max by (service) (db_connections_active)"),
    ("backlog by service and queue, CPU ms", "max by (service, queue) (queue_depth)"),
    ("free disk space, CPU ms", "node_filesystem_avail_bytes / node_filesystem_size_bytes"),
];

/// What rules look like: presence, rates, ratios, quantiles, thresholds, the largest, absence, joins, patterns, long spans.
/// Prometheus and the collector answer each with the same number of series.
const RULE_SHAPES: [&str; 15] = [
    r#"up{job="bench"} == 1"#,
    "sum by (service) (rate(http_requests_total[5m]))",
    r#"sum by (service) (rate(http_requests_total{status=~"5.."}[5m])) / sum by (service) (rate(http_requests_total[5m])) < 1"#,
    "histogram_quantile(0.95, sum by (service, le) (rate(http_request_duration_seconds_bucket[5m]))) > 0",
    "histogram_quantile(0.99, sum by (service, path, le) (rate(http_request_duration_seconds_bucket[5m])))",
    "max by (service) (db_connections_active) > 0",
    "avg by (service, queue) (avg_over_time(queue_depth[10m])) > 0",
    "node_filesystem_avail_bytes / node_filesystem_size_bytes > 0",
    "sum by (service, cache_name) (rate(cache_hits_total[5m])) / (sum by (service, cache_name) (rate(cache_hits_total[5m])) + sum by (service, cache_name) (rate(cache_misses_total[5m])))",
    "topk(10, sum by (service, path) (rate(http_requests_total[5m])))",
    r#"absent(up{job="no-such-job"})"#,
    "sum by (service) (rate(http_requests_total[5m])) * on (service) group_left (version) max by (service, version) (service_build_info)",
    r#"sum by (path) (rate(http_requests_total{path=~"/api/v1/(orders|payments|users)/.*",status!~"2.."}[5m]))"#,
    "sum by (service, operation_type) (increase(operations_total[30m]))",
    "predict_linear(node_filesystem_avail_bytes[30m], 4 * 3600) > -1e18",
];

/// Asked over the hour that was pushed, every 30 s.
const RANGE: &str = "histogram_quantile(0.99, sum by (service, le) (rate(http_request_duration_seconds_bucket[5m])))";
const ALL_SERIES: &str = r#"count({job="bench",service=~".+"})"#;
/// Of pushed samples, which are the same everywhere.
const DIGESTS: [&str; 2] =
    ["sum by (service) (http_requests_total)", "sum by (le) (http_request_duration_seconds_bucket)"];

/// Everything, `at` the last scrape.
///
/// # Errors
/// Answers that differ where they must not: the comparison would be worth nothing.
pub async fn ask(
    options: &Options,
    client: &Client,
    servers: &mut [Server],
    at: f64,
    table: &mut Table,
) -> anyhow::Result<()> {
    let mut all = vec![0.0; servers.len()];
    for (name, expr) in ALERTS {
        let costs = cost(options, client, servers, at, expr, |_| true).await?;
        all.iter_mut().zip(&costs).for_each(|(sum, cost)| *sum += cost);
        table.row(Measure::plain(name), costs);
    }
    table.row(Measure::ALERT_QUERIES, all);
    let mut mix = vec![0.0; servers.len()];
    for expr in RULE_SHAPES {
        let costs = cost(options, client, servers, at, expr, |name| name == PROMETHEUS).await?;
        mix.iter_mut().zip(&costs).for_each(|(sum, cost)| *sum += cost);
    }
    table.row(Measure::RULE_MIX, mix);

    let (mut costs, mut lengths) = (Vec::new(), Vec::new());
    let rounds = options.rounds.div_ceil(4);
    for server in servers {
        let before = server.usage()?.cpu_seconds;
        for round in 0..rounds {
            let end = at - f64::from(round);
            lengths.push(client.range(&server.url, RANGE, (end - 3600.0, end, 30)).await?);
        }
        costs.push((server.usage()?.cpu_seconds - before) * 1000.0 / f64::from(rounds));
    }
    same(RANGE, &lengths)?;
    table.row(Measure::RANGE, costs);
    Ok(())
}

/// CPU milliseconds of a query for each server. Their answers are of one length; those of servers that compare by other
/// rules are not looked at.
async fn cost(
    options: &Options,
    client: &Client,
    servers: &mut [Server],
    at: f64,
    expr: &str,
    is_compared: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<f64>> {
    let (mut costs, mut lengths) = (Vec::new(), Vec::new());
    for (index, server) in servers.iter_mut().enumerate() {
        // The first one fills plans and caches; it is not counted.
        let length = client.query_at(&server.url, expr, at).await?.len();
        if index == 0 || is_compared(server.name) {
            lengths.push(length);
        }
        let before = server.usage()?.cpu_seconds;
        for round in 0..options.rounds {
            client.query_at(&server.url, expr, at - f64::from(round) / 10.0).await?;
        }
        costs.push((server.usage()?.cpu_seconds - before) * 1000.0 / f64::from(options.rounds));
    }
    same(expr, &lengths)?;
    Ok(costs)
}

/// Whether all servers have what was pushed, each value the same; at a moment of the past.
///
/// # Errors
/// Answers that differ.
pub async fn compare_pushed(client: &Client, servers: &[Server], at: f64) -> anyhow::Result<()> {
    for expr in DIGESTS {
        let mut sums = Vec::new();
        for server in servers {
            let answer = client.query_at(&server.url, expr, at).await?;
            sums.push((answer.len(), answer.iter().map(|(_, value)| value).sum::<f64>()));
        }
        let (length, sum) = sums.first().copied().unwrap_or_default();
        let equals = |other: &(usize, f64)| other.0 == length && (other.1 - sum).abs() <= sum.abs() * 1e-9;
        if length == 0 || !sums.iter().all(equals) {
            bail!("`{expr}` of what was pushed has different answers (series, sum): {sums:?}");
        }
    }
    Ok(())
}

/// Whether every rule that records has recorded, in all servers that have rules.
///
/// # Errors
/// Rules without a result: their cost would be too good.
pub async fn compare_recorded(client: &Client, servers: &[Server], at: f64, recorded: usize) -> anyhow::Result<()> {
    for server in servers.iter().filter(|server| server.has_rules()) {
        let found = client.query_at(&server.url, r#"count by (n) ({n!=""})"#, at).await?.len();
        if found != recorded {
            bail!("{}: {found} of {recorded} rules have recorded something", server.name);
        }
    }
    Ok(())
}

/// How many series a server had at a time.
///
/// # Errors
/// No answer.
pub async fn series(client: &Client, server: &Server, at: f64) -> anyhow::Result<f64> {
    let answer = client.query_at(&server.url, ALL_SERIES, at).await?;
    Ok(answer.first().map_or(0.0, |(_, value)| *value))
}

fn same(what: &str, lengths: &[usize]) -> anyhow::Result<()> {
    if lengths.iter().any(|length| *length != lengths[0] || *length == 0) {
        bail!("`{what}` has answers of different or no length: {lengths:?}; the comparison would be worth nothing");
    }
    Ok(())
}
