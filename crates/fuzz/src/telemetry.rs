//! Wire formats of metrics.

use telemetry::exposition::strict;

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[Target { name: "telemetry_openmetrics", run: openmetrics, seeds: BODIES }];

const BODIES: &[&[u8]] = &[
    b"# TYPE a counter\n# HELP a text \\\\ \\n\na_total{l=\"v\\\"\"} 1e3 1.5 # {trace_id=\"x\"} 0.5 1\na_created 1\n# EOF\n",
    b"# TYPE h histogram\n# UNIT h_seconds seconds\nh_bucket{le=\"0.1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n# EOF\n",
    b"# TYPE s stateset\ns{s=\"a\"} 1\ns{s=\"b\"} 0\n# TYPE i info\ni_info{v=\"1\"} 1\n# EOF\n",
];

fn openmetrics(data: &[u8]) {
    // Refused or accepted: a verdict is all that is asked.
    let _ = strict::check(data);
}
