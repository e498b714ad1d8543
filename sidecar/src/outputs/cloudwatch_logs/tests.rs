//! Against a CloudWatch Logs in this process.
