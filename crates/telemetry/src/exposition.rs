//! The text formats in which metrics are exposed: Prometheus 0.0.4 and OpenMetrics 1.0.
