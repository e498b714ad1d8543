//! What every metric and label is called, in one place: rules and dashboards are checked against this list.
//!
//! A counter's constant ends in `_total`; prometheus-client appends that suffix itself, so register
//! counters by [`without_total`].

/// The name under which prometheus-client wants a counter registered.
pub fn without_total(name: &str) -> &str {
    name.strip_suffix("_total").unwrap_or(name)
}

/// Labels that the sidecar puts on everything it exports.
pub mod label {
    pub const SERVICE: &str = "service";
    pub const ENVIRONMENT: &str = "environment";
    pub const TASK_ID: &str = "task_id";
    pub const JOB: &str = "job";
    pub const INSTANCE: &str = "instance";
}

/// What every service of the platform exports (requirements 20-37).
pub mod app {
    pub const HTTP_REQUESTS_TOTAL: &str = "http_requests_total";
    pub const HTTP_REQUEST_DURATION_SECONDS: &str = "http_request_duration_seconds";
    pub const HTTP_REQUEST_SIZE_BYTES: &str = "http_request_size_bytes";
    pub const HTTP_RESPONSE_SIZE_BYTES: &str = "http_response_size_bytes";
    pub const DB_QUERY_DURATION_SECONDS: &str = "db_query_duration_seconds";
    pub const DB_CONNECTIONS_ACTIVE: &str = "db_connections_active";
    pub const DB_CONNECTIONS_IDLE: &str = "db_connections_idle";
    pub const DB_CONNECTIONS_MAX: &str = "db_connections_max";
    pub const CACHE_HITS_TOTAL: &str = "cache_hits_total";
    pub const CACHE_MISSES_TOTAL: &str = "cache_misses_total";
    pub const CACHE_OPERATION_DURATION_SECONDS: &str = "cache_operation_duration_seconds";
    pub const QUEUE_JOBS_TOTAL: &str = "queue_jobs_total";
    pub const QUEUE_JOB_DURATION_SECONDS: &str = "queue_job_duration_seconds";
    pub const QUEUE_DEPTH: &str = "queue_depth";
    pub const QUEUE_OLDEST_JOB_AGE_SECONDS: &str = "queue_oldest_job_age_seconds";
    /// A gauge in spite of its suffix: the requirements fix the name.
    pub const USERS_ACTIVE_TOTAL: &str = "users_active_total";
    pub const USERS_ACTIVE: &str = "users_active";
    pub const OPERATIONS_TOTAL: &str = "operations_total";
    pub const ORDERS_TOTAL: &str = "orders_total";
    pub const ORDER_REVENUE_MINOR_UNITS_TOTAL: &str = "order_revenue_minor_units_total";
    pub const USERS_REGISTERED: &str = "users_registered";
}

/// What the sidecar says of the task; names of ecs_exporter where it has one.
pub mod ecs {
    pub const TASK_METADATA_INFO: &str = "ecs_task_metadata_info";
    pub const TASK_CPU_LIMIT_VCPUS: &str = "ecs_task_cpu_limit_vcpus";
    pub const TASK_MEMORY_LIMIT_BYTES: &str = "ecs_task_memory_limit_bytes";
    pub const TASK_CPU_UTILIZATION_RATIO: &str = "ecs_task_cpu_utilization_ratio";
    pub const TASK_MEMORY_UTILIZATION_RATIO: &str = "ecs_task_memory_utilization_ratio";
    pub const TASK_EPHEMERAL_STORAGE_UTILIZED_BYTES: &str = "ecs_task_ephemeral_storage_utilized_bytes";
    pub const TASK_EPHEMERAL_STORAGE_RESERVED_BYTES: &str = "ecs_task_ephemeral_storage_reserved_bytes";
    pub const CONTAINER_CPU_USAGE_SECONDS_TOTAL: &str = "ecs_container_cpu_usage_seconds_total";
    pub const CONTAINER_MEMORY_USAGE_BYTES: &str = "ecs_container_memory_usage_bytes";
    pub const CONTAINER_MEMORY_WORKING_SET_BYTES: &str = "ecs_container_memory_working_set_bytes";
    pub const CONTAINER_RESTARTS_TOTAL: &str = "ecs_container_restarts_total";
    pub const CONTAINER_HEALTHY: &str = "ecs_container_healthy";
    pub const NETWORK_RECEIVE_BYTES_TOTAL: &str = "ecs_network_receive_bytes_total";
    pub const NETWORK_TRANSMIT_BYTES_TOTAL: &str = "ecs_network_transmit_bytes_total";
}
