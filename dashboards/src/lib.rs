//! One typed description of a dashboard, rendered as Grafana JSON and as a CloudWatch body.
