//! What the platform promises. Rules, panels and CloudWatch annotations draw the same lines.

/// Share of requests that may fail with a 5xx (alert HighErrorRate).
pub const ERROR_RATIO_MAX: f64 = 0.05;

/// 95th percentile of the response time in seconds (alert HighLatency).
pub const P95_SECONDS_MAX: f64 = 2.0;

/// CPU or memory of the task's limit in percent, from which a service should have scaled.
pub const UTILIZATION_PERCENT_MAX: f64 = 80.0;
