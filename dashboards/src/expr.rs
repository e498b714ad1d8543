//! The questions that Grafana's panels and the collector's own pages ask in the same words.

use telemetry::names::app::{HTTP_REQUEST_DURATION_SECONDS, HTTP_REQUESTS_TOTAL};

/// Of which series, grouped how, over which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// Matchers without braces: `service="order"`; empty for all.
    pub matchers: &'a str,
    /// Labels of the answer: `environment, service`.
    pub by: &'a str,
    /// Range of `rate`: `1m`, `$__rate_interval`.
    pub window: &'a str,
}

impl Scope<'_> {
    /// Requests per second.
    pub fn request_rate(&self) -> String {
        self.rate_of(&self.selector(HTTP_REQUESTS_TOTAL, ""))
    }

    /// Requests per second that were answered with a 5xx: zero, not nothing, where there are requests and no failure.
    pub fn error_rate(&self) -> String {
        let failed = self.rate_of(&self.selector(HTTP_REQUESTS_TOTAL, r#"status=~"5..""#));
        format!("{failed} or 0 * {}", self.request_rate())
    }

    /// Share of requests that were answered with a 5xx; not a number where there was no request.
    pub fn error_ratio(&self) -> String {
        format!("({}) / {}", self.error_rate(), self.request_rate())
    }

    /// A quantile of the response time in seconds; not a number where there was no request.
    pub fn duration_quantile(&self, quantile: f64) -> String {
        let buckets = self.selector(&format!("{HTTP_REQUEST_DURATION_SECONDS}_bucket"), "");
        let by = if self.by.is_empty() { "le".to_owned() } else { format!("{}, le", self.by) };
        format!("histogram_quantile({quantile}, sum by ({by}) (rate({buckets}[{}])))", self.window)
    }

    /// Tasks that answered the last scrape.
    pub fn tasks_up(&self) -> String {
        format!("sum by ({}) ({})", self.by, self.selector("up", r#"service!="""#))
    }

    /// Tasks that discovery knows of.
    pub fn tasks_known(&self) -> String {
        format!("count by ({}) ({})", self.by, self.selector("up", r#"service!="""#))
    }

    fn rate_of(&self, selector: &str) -> String {
        format!("sum by ({}) (rate({selector}[{}]))", self.by, self.window)
    }

    /// `name{matchers,extra}`.
    pub fn selector(&self, name: &str, extra: &str) -> String {
        let matchers: Vec<&str> = [self.matchers, extra].into_iter().filter(|part| !part.is_empty()).collect();
        if matchers.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", matchers.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_reads_as_one_would_write_it() {
        let scope = Scope { matchers: r#"service="order""#, by: "service", window: "1m" };
        assert_eq!(
            scope.error_ratio(),
            r#"(sum by (service) (rate(http_requests_total{service="order",status=~"5.."}[1m])) or 0 * sum by (service) (rate(http_requests_total{service="order"}[1m]))) / sum by (service) (rate(http_requests_total{service="order"}[1m]))"#
        );
        assert_eq!(
            scope.duration_quantile(0.95),
            r#"histogram_quantile(0.95, sum by (service, le) (rate(http_request_duration_seconds_bucket{service="order"}[1m])))"#
        );
        assert_eq!(scope.tasks_up(), r#"sum by (service) (up{service="order",service!=""})"#);
    }

    #[test]
    fn no_matchers_make_no_braces() {
        let scope = Scope { matchers: "", by: "environment, service", window: "5m" };
        assert_eq!(scope.request_rate(), "sum by (environment, service) (rate(http_requests_total[5m]))");
    }
}
