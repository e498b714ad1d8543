//! What evaluating rules costs: while scraping goes on, the same span once without and once with them.

use std::fmt::Write as _;
use std::time::Duration;

use super::fleet::SERVICES;

/// Between two evaluations of a rule.
pub const INTERVAL: Duration = Duration::from_secs(15);
const GROUPS: usize = 10;

/// So many rules, a quarter of each kind, spread over services and groups.
pub fn file(count: usize) -> String {
    let mut text = String::from("groups:\n");
    for group in 0..GROUPS.min(count) {
        let _ = writeln!(text, "- name: bench-{group}\n  interval: {}s\n  rules:", INTERVAL.as_secs());
        (group..count).step_by(GROUPS).for_each(|number| text.push_str(&rule(number)));
    }
    text
}

fn rule(number: usize) -> String {
    let service = format!("service=\"svc-{:02}\"", number % SERVICES);
    match number / SERVICES % 4 {
        0 => record(
            number,
            "path:http_requests:rate5m",
            &format!("sum by (service, path) (rate(http_requests_total{{{service}}}[5m]))"),
        ),
        1 => record(
            number,
            "service:http_request_duration_seconds:p99",
            &format!(
                "histogram_quantile(0.99, sum by (service, le) (rate(http_request_duration_seconds_bucket{{{service}}}[5m])))"
            ),
        ),
        2 => format!(
            "  - alert: Connections{number}\n    expr: 'max by (service) (db_connections_active{{{service}}}) > 93'\n    for: 1m\n"
        ),
        _ => record(
            number,
            "cache:hit_ratio",
            &format!(
                "sum by (service, cache_name) (rate(cache_hits_total{{{service}}}[5m])) / (sum by (service, cache_name) (rate(cache_hits_total{{{service}}}[5m])) + sum by (service, cache_name) (rate(cache_misses_total{{{service}}}[5m])))"
            ),
        ),
    }
}

fn record(number: usize, name: &str, expr: &str) -> String {
    format!("  - record: {name}\n    expr: '{expr}'\n    labels: {{n: \"{number}\"}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_rules_as_wanted_of_each_kind() {
        for count in [1, 9, 100, 1000] {
            let text = file(count);
            let rules = text.matches("  - record: ").count() + text.matches("  - alert: ").count();
            assert_eq!((rules, text.matches("- name: ").count()), (count, count.min(GROUPS)));
        }
        assert_eq!(file(1000).matches("  - alert: ").count(), 240);
    }
}
