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
    pub const FAMILY: &str = "family";
    pub const REVISION: &str = "revision";
    pub const AZ: &str = "az";
    pub const JOB: &str = "job";
    pub const INSTANCE: &str = "instance";
    /// Put before the name of a label whose place one of ours takes.
    pub const EXPORTED_PREFIX: &str = "exported_";
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
    pub const TOKEN_KEY_CREATED_TIMESTAMP_SECONDS: &str = "token_key_created_timestamp_seconds";
}

/// What the sidecar says of the task; names of ecs_exporter where it has one.
pub mod ecs {
    pub const TASK_METADATA_INFO: &str = "ecs_task_metadata_info";
    pub const TASK_CPU_LIMIT_VCPUS: &str = "ecs_task_cpu_limit_vcpus";
    pub const TASK_MEMORY_LIMIT_BYTES: &str = "ecs_task_memory_limit_bytes";
    pub const TASK_CPU_UTILIZATION_RATIO: &str = "ecs_task_cpu_utilization_ratio";
    pub const TASK_MEMORY_UTILIZATION_RATIO: &str = "ecs_task_memory_utilization_ratio";
    pub const TASK_EPHEMERAL_STORAGE_USED_BYTES: &str = "ecs_task_ephemeral_storage_used_bytes";
    pub const TASK_EPHEMERAL_STORAGE_ALLOCATED_BYTES: &str = "ecs_task_ephemeral_storage_allocated_bytes";
    pub const TASK_IMAGE_PULL_START_TIMESTAMP_SECONDS: &str = "ecs_task_image_pull_start_timestamp_seconds";
    pub const TASK_IMAGE_PULL_STOP_TIMESTAMP_SECONDS: &str = "ecs_task_image_pull_stop_timestamp_seconds";
    pub const TASK_CLOCK_ERROR_BOUND_SECONDS: &str = "ecs_task_clock_error_bound_seconds";
    /// 1 synchronised, 0 not.
    pub const TASK_CLOCK_SYNCHRONIZED: &str = "ecs_task_clock_synchronized";
    pub const TASK_CLOCK_REFERENCE_TIMESTAMP_SECONDS: &str = "ecs_task_clock_reference_timestamp_seconds";
    pub const TASK_EXECUTION_STOPPED_TIMESTAMP_SECONDS: &str = "ecs_task_execution_stopped_timestamp_seconds";
    /// Of the CPU time that was wanted since the last look, the part that was waited for.
    pub const TASK_CPU_STARVATION_RATIO: &str = "ecs_task_cpu_starvation_ratio";
    /// Of the processes that the sidecar can see; more than its own only with `pidMode: task`.
    pub const TASK_CPU_WAIT_SECONDS_TOTAL: &str = "ecs_task_cpu_wait_seconds_total";
    pub const CONTAINER_INFO: &str = "ecs_container_info";
    pub const CONTAINER_CPU_USAGE_SECONDS_TOTAL: &str = "ecs_container_cpu_usage_seconds_total";
    /// Of the task's CPU limit, not of the container's shares (which default to 2 of 1024).
    pub const CONTAINER_CPU_UTILIZATION_RATIO: &str = "ecs_container_cpu_utilization_ratio";
    pub const CONTAINER_MEMORY_USAGE_BYTES: &str = "ecs_container_memory_usage_bytes";
    /// Usage without the page cache that the kernel can take back: alert on this one.
    pub const CONTAINER_MEMORY_WORKING_SET_BYTES: &str = "ecs_container_memory_working_set_bytes";
    pub const CONTAINER_MEMORY_RSS_BYTES: &str = "ecs_container_memory_rss_bytes";
    pub const CONTAINER_MEMORY_PAGE_CACHE_SIZE_BYTES: &str = "ecs_container_memory_page_cache_size_bytes";
    pub const CONTAINER_MEMORY_LIMIT_BYTES: &str = "ecs_container_memory_limit_bytes";
    pub const CONTAINER_MEMORY_USAGE_MAX_BYTES: &str = "ecs_container_memory_usage_max_bytes";
    pub const CONTAINER_CPU_USER_SECONDS_TOTAL: &str = "ecs_container_cpu_user_seconds_total";
    pub const CONTAINER_CPU_SYSTEM_SECONDS_TOTAL: &str = "ecs_container_cpu_system_seconds_total";
    pub const CONTAINER_PROCESSES: &str = "ecs_container_processes";
    /// All devices together.
    pub const CONTAINER_BLOCK_READ_BYTES_TOTAL: &str = "ecs_container_block_read_bytes_total";
    pub const CONTAINER_BLOCK_WRITE_BYTES_TOTAL: &str = "ecs_container_block_write_bytes_total";
    pub const CONTAINER_BLOCK_DEVICE_READ_BYTES_TOTAL: &str = "ecs_container_block_device_read_bytes_total";
    pub const CONTAINER_BLOCK_DEVICE_WRITE_BYTES_TOTAL: &str = "ecs_container_block_device_write_bytes_total";
    pub const CONTAINER_RESTARTS_TOTAL: &str = "ecs_container_restarts_total";
    pub const CONTAINER_EXIT_CODE: &str = "ecs_container_exit_code";
    /// Why a container stopped, as far as exit code and last reading tell; always 1.
    pub const CONTAINER_STOPPED_INFO: &str = "ecs_container_stopped_info";
    pub const CONTAINER_CREATED_TIMESTAMP_SECONDS: &str = "ecs_container_created_timestamp_seconds";
    pub const CONTAINER_STARTED_TIMESTAMP_SECONDS: &str = "ecs_container_started_timestamp_seconds";
    pub const CONTAINER_FINISHED_TIMESTAMP_SECONDS: &str = "ecs_container_finished_timestamp_seconds";
    /// 1 healthy, 0 unhealthy; absent while ECS does not know or where there is no health check.
    pub const CONTAINER_HEALTHY: &str = "ecs_container_healthy";
    pub const CONTAINER_HEALTH_CHANGED_TIMESTAMP_SECONDS: &str = "ecs_container_health_changed_timestamp_seconds";
    pub const NETWORK_RECEIVE_BYTES_TOTAL: &str = "ecs_network_receive_bytes_total";
    pub const NETWORK_RECEIVE_PACKETS_TOTAL: &str = "ecs_network_receive_packets_total";
    pub const NETWORK_RECEIVE_PACKETS_DROPPED_TOTAL: &str = "ecs_network_receive_packets_dropped_total";
    pub const NETWORK_RECEIVE_ERRORS_TOTAL: &str = "ecs_network_receive_errors_total";
    pub const NETWORK_TRANSMIT_BYTES_TOTAL: &str = "ecs_network_transmit_bytes_total";
    pub const NETWORK_TRANSMIT_PACKETS_TOTAL: &str = "ecs_network_transmit_packets_total";
    pub const NETWORK_TRANSMIT_PACKETS_DROPPED_TOTAL: &str = "ecs_network_transmit_packets_dropped_total";
    pub const NETWORK_TRANSMIT_ERRORS_TOTAL: &str = "ecs_network_transmit_errors_total";
}

/// What the sidecar says of itself and of the app's probes.
pub mod sidecar {
    pub const BUILD_INFO: &str = "sidecar_build_info";
    pub const CONFIG_PROBLEMS: &str = "sidecar_config_problems";
    /// Time in which the sidecar wanted a CPU and had none: Fargate's own throttling figures are always 0.
    pub const CPU_WAIT_SECONDS_TOTAL: &str = "sidecar_cpu_wait_seconds_total";
    /// How late the sidecar's own timers were: the scheduler's delay as an app would feel it.
    pub const TIMER_LATENESS_SECONDS_TOTAL: &str = "sidecar_timer_lateness_seconds_total";
    pub const ECS_METADATA_UP: &str = "sidecar_ecs_metadata_up";
    pub const ECS_METADATA_FAILURES_TOTAL: &str = "sidecar_ecs_metadata_failures_total";
    pub const APP_SCRAPE_UP: &str = "sidecar_app_scrape_up";
    pub const APP_SCRAPE_DURATION_SECONDS: &str = "sidecar_app_scrape_duration_seconds";
    pub const APP_SCRAPE_SERIES: &str = "sidecar_app_scrape_series";
    pub const APP_NATIVE_HISTOGRAMS_REDUCED: &str = "sidecar_app_native_histograms_reduced";
    pub const APP_SERIES_CUT: &str = "sidecar_app_series_cut";
    pub const APP_FAMILIES_REFUSED_TOTAL: &str = "sidecar_app_families_refused_total";
    pub const APP_PROBE_UP: &str = "app_probe_up";
    pub const APP_PROBE_DURATION_SECONDS: &str = "app_probe_duration_seconds";
    pub const APP_PROBE_CHANGED_TIMESTAMP_SECONDS: &str = "app_probe_changed_timestamp_seconds";
    /// in = delivered + waiting + dropped, at every moment.
    pub const LOG_RECORDS_IN_TOTAL: &str = "sidecar_log_records_in_total";
    pub const LOG_RECORDS_DELIVERED_TOTAL: &str = "sidecar_log_records_delivered_total";
    pub const LOG_RECORDS_DROPPED_TOTAL: &str = "sidecar_log_records_dropped_total";
    pub const LOG_RECORDS_WAITING: &str = "sidecar_log_records_waiting";
    pub const LOG_LINES_TRUNCATED_TOTAL: &str = "sidecar_log_lines_truncated_total";
    pub const LOG_VALUES_REDACTED_TOTAL: &str = "sidecar_log_values_redacted_total";
    pub const LOG_FILES_OPEN: &str = "sidecar_log_files_open";
    pub const FORWARD_CONNECTIONS: &str = "sidecar_forward_connections";
    pub const FORWARD_REFUSED_TOTAL: &str = "sidecar_forward_refused_total";
    pub const LOG_RECORDS_TOTAL: &str = "sidecar_log_records_total";
    pub const LOG_ERROR_SIGNATURES_TOTAL: &str = "sidecar_log_error_signatures_total";
    pub const LOG_SPOOL_BYTES: &str = "sidecar_log_spool_bytes";
    pub const LOG_SPOOL_CAPACITY_BYTES: &str = "sidecar_log_spool_capacity_bytes";
    pub const MEMORY_CEILING_BYTES: &str = "sidecar_memory_ceiling_bytes";
    pub const LOG_OUTPUT_RETRIES_TOTAL: &str = "sidecar_log_output_retries_total";
    /// in = delivered + waiting + dropped, at every moment.
    pub const SPANS_IN_TOTAL: &str = "sidecar_spans_in_total";
    pub const SPANS_DELIVERED_TOTAL: &str = "sidecar_spans_delivered_total";
    pub const SPANS_DROPPED_TOTAL: &str = "sidecar_spans_dropped_total";
    pub const SPANS_WAITING: &str = "sidecar_spans_waiting";
    pub const SPAN_OUTPUT_RETRIES_TOTAL: &str = "sidecar_span_output_retries_total";
    pub const STATSD_LINES_TOTAL: &str = "sidecar_statsd_lines_total";
    pub const STATSD_REFUSED_TOTAL: &str = "sidecar_statsd_refused_total";
    /// Of series that the sidecar sums up itself: events that found no place of their own.
    pub const EVENTS_OVERFLOWED: &str = "sidecar_events_overflowed";
    pub const OTLP_LOG_RECORDS_TOTAL: &str = "sidecar_otlp_log_records_total";
    pub const OTLP_METRIC_POINTS_TOTAL: &str = "sidecar_otlp_metric_points_total";
    pub const SPANS_SAMPLED_OUT_TOTAL: &str = "sidecar_spans_sampled_out_total";
    pub const SAMPLER_BYTES: &str = "sidecar_sampler_bytes";
    pub const METRICS_OUT_SAMPLES_TOTAL: &str = "sidecar_metrics_out_samples_total";
    pub const METRICS_OUT_DROPPED_TOTAL: &str = "sidecar_metrics_out_dropped_total";
    pub const METRICS_OUT_RETRIES_TOTAL: &str = "sidecar_metrics_out_retries_total";
    pub const EMF_METRICS: &str = "sidecar_emf_metrics";
    pub const EMF_BYTES_TOTAL: &str = "sidecar_emf_bytes_total";
    /// What this task's EMF costs a month if it goes on like this.
    pub const EMF_COST_PER_MONTH_DOLLARS: &str = "sidecar_emf_cost_per_month_dollars";
    pub const CONNECTIONS_REFUSED_TOTAL: &str = "sidecar_connections_refused_total";
    pub const OTLP_REQUESTS_REFUSED_TOTAL: &str = "sidecar_otlp_requests_refused_total";
    pub const QUEUE_BYTES: &str = "sidecar_queue_bytes";
    pub const QUEUE_CAPACITY_BYTES: &str = "sidecar_queue_capacity_bytes";
}
