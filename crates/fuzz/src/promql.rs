//! The query language.

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[Target { name: "promql_parse", run: parse, seeds: EXPRESSIONS }];

const EXPRESSIONS: &[&[u8]] = &[
    b"sum by (job) (rate(http_requests_total{status=~\"5..\", path!=\"/health\"}[5m] offset 1h))",
    b"a / on (instance) group_left (version) b > bool 0.5 unless c @ end()",
    b"histogram_quantile(0.99, sum by (le) (rate(x_bucket[5m:30s])))",
    b"quantile_over_time(0.9, {__name__=~\"node_.+\", \"utf8 name\"=\"\\u00e9\"}[1h30m]) ^ -2",
];

fn parse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(expr) = promql::parse(text) {
        let printed = expr.to_string();
        let again = promql::parse(&printed).unwrap_or_else(|error| panic!("{printed:?} was printed: {error}"));
        assert_eq!(again.to_string(), printed, "printing is not stable");
    }
}
