//! Every number here was computed by hand from the fixture, a task of 0.25 vCPU and 512 MiB on Fargate.

use super::*;

const METADATA: &str = include_str!("../../../tests/testdata/fargate_task_metadata.json");
const STATS: &str = include_str!("../../../tests/testdata/fargate_task_stats.json");
const EC2_METADATA: &str = include_str!("../../../tests/testdata/ec2_task_metadata.json");
const EC2_STATS: &str = include_str!("../../../tests/testdata/ec2_task_stats.json");
/// 2025-02-27T05:22:49.186680233Z and 2025-02-27T05:22:49.406170373Z, cut to milliseconds.
const PROMETHEUS_READ: Option<Timestamp> = Some(Timestamp(1_740_633_769_186));
const EXPORTER_READ: Option<Timestamp> = Some(Timestamp(1_740_633_769_406));

fn fixture() -> Vec<Family> {
    of(METADATA, STATS)
}

/// Without kept readings.
fn of(task: &str, stats: &str) -> Vec<Family> {
    families(&serde_json::from_str(task).expect("task"), &serde_json::from_str(stats).expect("stats"), &BTreeMap::new())
}

/// Value and time of the one sample with this name and (where given) this label.
fn value(families: &[Family], name: &str, label: Option<(&str, &str)>) -> Option<(f64, Option<Timestamp>)> {
    let mut found = families
        .iter()
        .flat_map(|f| &f.samples)
        .filter(|s| s.name == name && label.is_none_or(|(n, v)| s.labels.get(n) == Some(v)));
    let first = found.next().map(|s| (s.value, s.timestamp));
    assert!(found.next().is_none(), "{name} appears more than once");
    first
}

fn container(container: &str) -> Option<(&'static str, &str)> {
    Some(("container_name", container))
}

#[test]
fn task_limits_and_storage_are_in_base_units() {
    let families = fixture();
    assert_eq!(value(&families, ecs::TASK_CPU_LIMIT_VCPUS, None), Some((0.25, None)));
    // 512 * 1,048,576
    assert_eq!(value(&families, ecs::TASK_MEMORY_LIMIT_BYTES, None), Some((536_870_912.0, None)));
    // 427 * 1,048,576 and 20,496 * 1,048,576
    assert_eq!(value(&families, ecs::TASK_EPHEMERAL_STORAGE_USED_BYTES, None), Some((447_741_952.0, None)));
    assert_eq!(value(&families, ecs::TASK_EPHEMERAL_STORAGE_ALLOCATED_BYTES, None), Some((21_491_613_696.0, None)));
    // 2025-02-27T05:06:03.714Z: 20,146 days * 86,400 + 18,363.714
    assert_eq!(value(&families, ecs::TASK_IMAGE_PULL_START_TIMESTAMP_SECONDS, None), Some((1_740_632_763.714, None)));
}

#[test]
fn cpu_is_a_counter_and_a_ratio_of_the_task_s_limit() {
    let families = fixture();
    // 932,439,492 ns
    let cpu = value(&families, ecs::CONTAINER_CPU_USAGE_SECONDS_TOTAL, container("prometheus"));
    assert_eq!(cpu, Some((0.932439492, PROMETHEUS_READ)));
    // (932,439,492 - 925,246,189) ns = 7.193303 ms in 10.001 s (49.186 - 39.185), of 0.25 vCPU:
    // 0.007193303 / 10.001 / 0.25 = 0.002877033...
    let (ratio, _) = value(&families, ecs::CONTAINER_CPU_UTILIZATION_RATIO, container("prometheus")).expect("ratio");
    assert!((ratio - 0.002_877_033).abs() < 1e-9, "{ratio}");
    // ecs-exporter: (322,633,383 - 242,770,940) ns = 79.862443 ms in 10.000 s (49.406 - 39.406): 0.0319449772.
    // Together 0.0348220...
    let (task, at) = value(&families, ecs::TASK_CPU_UTILIZATION_RATIO, None).expect("ratio");
    assert!((task - (0.002_877_033 + 0.031_944_977)).abs() < 1e-8, "{task}");
    assert_eq!(at, EXPORTER_READ);
}

#[test]
fn memory_has_four_meanings() {
    let families = fixture();
    let memory = |name| value(&families, name, container("prometheus")).map(|(v, _)| v);
    assert_eq!(memory(ecs::CONTAINER_MEMORY_USAGE_BYTES), Some(127_934_464.0));
    // 127,934,464 - 52,383,744 of inactive file pages
    assert_eq!(memory(ecs::CONTAINER_MEMORY_WORKING_SET_BYTES), Some(75_550_720.0));
    assert_eq!(memory(ecs::CONTAINER_MEMORY_RSS_BYTES), Some(40_820_736.0));
    assert_eq!(memory(ecs::CONTAINER_MEMORY_PAGE_CACHE_SIZE_BYTES), Some(85_426_176.0));
    // The container has no limit of its own, so the task's ends it: 512 * 1,048,576.
    assert_eq!(memory(ecs::CONTAINER_MEMORY_LIMIT_BYTES), Some(536_870_912.0));
    assert_eq!(memory(ecs::CONTAINER_MEMORY_USAGE_MAX_BYTES), Some(128_557_056.0));
    // 75,550,720 + (84,111,360 - 39,100,416) = 120,561,664 of 536,870,912
    let (ratio, _) = value(&families, ecs::TASK_MEMORY_UTILIZATION_RATIO, None).expect("ratio");
    assert_eq!(ratio, 120_561_664.0 / 536_870_912.0);
}

#[test]
fn the_interface_is_counted_once_and_from_the_latest_reading() {
    let families = fixture();
    let eth1 = Some(("interface", "eth1"));
    // ecs-exporter was read 0.2 s after prometheus; summing the containers would give 258,091,667.
    assert_eq!(value(&families, ecs::NETWORK_RECEIVE_BYTES_TOTAL, eth1), Some((129_046_293.0, EXPORTER_READ)));
    assert_eq!(value(&families, ecs::NETWORK_TRANSMIT_PACKETS_TOTAL, eth1), Some((3507.0, EXPORTER_READ)));
}

#[test]
fn block_io_is_the_sum_over_devices() {
    let families = fixture();
    // 259:1 23,793,664 + 259:0 65,409,024
    let read = value(&families, ecs::CONTAINER_BLOCK_READ_BYTES_TOTAL, container("prometheus"));
    assert_eq!(read, Some((89_202_688.0, PROMETHEUS_READ)));
    let written = value(&families, ecs::CONTAINER_BLOCK_WRITE_BYTES_TOTAL, container("ecs-exporter"));
    assert_eq!(written, Some((4096.0, EXPORTER_READ)));
    let device = |container: &str, name, device| {
        let wanted = Labels::from_pairs([("container_name", container), ("device", device)]);
        let found = families.iter().flat_map(|f| &f.samples).find(|s| s.name == name && s.labels == wanted);
        found.map(|s| s.value)
    };
    let (read, write) = (ecs::CONTAINER_BLOCK_DEVICE_READ_BYTES_TOTAL, ecs::CONTAINER_BLOCK_DEVICE_WRITE_BYTES_TOTAL);
    assert_eq!(device("prometheus", read, "259:1"), Some(23_793_664.0));
    assert_eq!(device("prometheus", read, "259:0"), Some(65_409_024.0));
    assert_eq!(device("ecs-exporter", write, "259:0"), Some(4096.0));
}

#[test]
fn user_and_system_time_and_the_clock_are_told() {
    let families = fixture();
    // 880,000,000 ns and 120,000,000 ns
    let cpu = |name| value(&families, name, container("prometheus"));
    assert_eq!(cpu(ecs::CONTAINER_CPU_USER_SECONDS_TOTAL), Some((0.88, PROMETHEUS_READ)));
    assert_eq!(cpu(ecs::CONTAINER_CPU_SYSTEM_SECONDS_TOTAL), Some((0.12, PROMETHEUS_READ)));
    // 0.33292849999999996 ms
    let (bound, _) = value(&families, ecs::TASK_CLOCK_ERROR_BOUND_SECONDS, None).expect("a bound");
    assert!((bound - 0.000_332_928_5).abs() < 1e-12, "{bound}");
    assert_eq!(value(&families, ecs::TASK_CLOCK_SYNCHRONIZED, None), Some((1.0, None)));
    // 2025-02-27T05:22:43Z: 20,146 days * 86,400 + 19,363
    let reference = value(&families, ecs::TASK_CLOCK_REFERENCE_TIMESTAMP_SECONDS, None);
    assert_eq!(reference, Some((1_740_633_763.0, None)));
    // 2025-02-27T05:06:18.599Z
    let pulled = value(&families, ecs::TASK_IMAGE_PULL_STOP_TIMESTAMP_SECONDS, None);
    assert_eq!(pulled, Some((1_740_632_778.599, None)));
}

#[test]
fn on_ec2_each_container_has_its_limits_and_its_interface() {
    let families = of(EC2_METADATA, EC2_STATS);
    // No limits of the task, so no ratios of them.
    for name in [ecs::TASK_CPU_LIMIT_VCPUS, ecs::TASK_MEMORY_LIMIT_BYTES, ecs::TASK_CPU_UTILIZATION_RATIO] {
        assert_eq!(value(&families, name, None), None, "{name}");
    }
    // 2025-02-27T05:18:07.856950259Z and 05:18:07.855390957Z, cut to milliseconds.
    let (exporter, prometheus) = (Some(Timestamp(1_740_633_487_856)), Some(Timestamp(1_740_633_487_855)));
    let of_exporter = |name| value(&families, name, container("ecs-exporter"));
    // 331,125,000 ns; cgroup v2 has no percpu_usage and no max_usage.
    assert_eq!(of_exporter(ecs::CONTAINER_CPU_USAGE_SECONDS_TOTAL), Some((0.331125, exporter)));
    assert_eq!(of_exporter(ecs::CONTAINER_CPU_USER_SECONDS_TOTAL), Some((0.264846, exporter)));
    assert_eq!(of_exporter(ecs::CONTAINER_MEMORY_USAGE_MAX_BYTES), None);
    // 256 * 1,048,576
    assert_eq!(of_exporter(ecs::CONTAINER_MEMORY_LIMIT_BYTES), Some((268_435_456.0, None)));
    assert_eq!(of_exporter(ecs::CONTAINER_MEMORY_USAGE_BYTES), Some((65_249_280.0, exporter)));
    // 65,249,280 - 17,641,472 of inactive file pages
    assert_eq!(of_exporter(ecs::CONTAINER_MEMORY_WORKING_SET_BYTES), Some((47_607_808.0, exporter)));
    assert_eq!(of_exporter(ecs::CONTAINER_MEMORY_RSS_BYTES), Some((37_691_392.0, exporter)));
    assert_eq!(of_exporter(ecs::CONTAINER_MEMORY_PAGE_CACHE_SIZE_BYTES), Some((25_296_896.0, exporter)));
    assert_eq!(of_exporter(ecs::CONTAINER_PROCESSES), Some((33.0, exporter)));
    assert_eq!(of_exporter(ecs::CONTAINER_BLOCK_READ_BYTES_TOTAL), Some((60_960_768.0, exporter)));
    assert_eq!(of_exporter(ecs::CONTAINER_BLOCK_WRITE_BYTES_TOTAL), Some((57_344.0, exporter)));
    // Bridge mode: two interfaces of the same name, one per container.
    let received = |name| value(&families, ecs::NETWORK_RECEIVE_BYTES_TOTAL, container(name));
    assert_eq!(received("ecs-exporter"), Some((101_869.0, exporter)));
    assert_eq!(received("prometheus"), Some((45_368.0, prometheus)));
    // The stopped container's statistics are an empty object here, not null: no zeros are made of it.
    assert_eq!(value(&families, ecs::CONTAINER_CPU_USAGE_SECONDS_TOTAL, container("nonessential")), None);
    // 2025-02-27T05:09:56.409Z
    let finished = value(&families, ecs::CONTAINER_FINISHED_TIMESTAMP_SECONDS, container("nonessential"));
    assert_eq!(finished, Some((1_740_632_996.409, None)));
}

#[test]
fn a_stopped_container_keeps_its_state_and_has_no_usage() {
    let families = fixture();
    assert_eq!(value(&families, ecs::CONTAINER_EXIT_CODE, container("nonessential")), Some((0.0, None)));
    // 2025-02-27T05:06:19.219Z
    assert_eq!(
        value(&families, ecs::CONTAINER_FINISHED_TIMESTAMP_SECONDS, container("nonessential")),
        Some((1_740_632_779.219, None))
    );
    assert_eq!(value(&families, ecs::CONTAINER_MEMORY_USAGE_BYTES, container("nonessential")), None);
}

#[test]
fn cgroup_v2_and_a_first_reading_are_understood() {
    let families = of(
        r#"{"Limits":{"CPU":0.5,"Memory":1024},"Containers":[
            {"DockerId":"a","Name":"app","RestartCount":3,"Limits":{"CPU":2,"Memory":256},
             "Health":{"status":"UNHEALTHY","statusSince":"1970-01-01T00:01:00Z"}}]}"#,
        r#"{"a":{"read":"2025-02-27T05:22:49Z","preread":"0001-01-01T00:00:00Z",
            "cpu_stats":{"cpu_usage":{"total_usage":1500000000,"percpu_usage":null}},"precpu_stats":{},
            "memory_stats":{"usage":1000,"stats":{"anon":300,"file":650,"inactive_file":400}},
            "blkio_stats":{"io_service_bytes_recursive":[{"major":8,"minor":0,"op":"read","value":7},
                {"major":8,"minor":16,"op":"read","value":5},{"major":8,"minor":0,"op":"write","value":2}]},
            "networks":null}}"#,
    );
    let app = |name| value(&families, name, container("app")).map(|(v, _)| v);
    assert_eq!(app(ecs::CONTAINER_CPU_USAGE_SECONDS_TOTAL), Some(1.5));
    assert_eq!(app(ecs::CONTAINER_CPU_UTILIZATION_RATIO), None, "there is nothing to compare with yet");
    assert_eq!(app(ecs::CONTAINER_MEMORY_WORKING_SET_BYTES), Some(600.0));
    assert_eq!(app(ecs::CONTAINER_MEMORY_RSS_BYTES), Some(300.0));
    assert_eq!(app(ecs::CONTAINER_MEMORY_PAGE_CACHE_SIZE_BYTES), Some(650.0));
    assert_eq!(app(ecs::CONTAINER_MEMORY_LIMIT_BYTES), Some(268_435_456.0));
    assert_eq!(app(ecs::CONTAINER_BLOCK_READ_BYTES_TOTAL), Some(12.0));
    assert_eq!(app(ecs::CONTAINER_BLOCK_WRITE_BYTES_TOTAL), Some(2.0));
    assert_eq!(app(ecs::CONTAINER_RESTARTS_TOTAL), Some(3.0));
    assert_eq!(app(ecs::CONTAINER_HEALTHY), Some(0.0));
    assert_eq!(app(ecs::CONTAINER_HEALTH_CHANGED_TIMESTAMP_SECONDS), Some(60.0));
}

#[test]
fn an_answer_that_says_next_to_nothing_yields_no_wrong_number() {
    let families = families(&Task::default(), &TaskStats::from([("x".to_owned(), None)]), &BTreeMap::new());
    let names: Vec<&str> = families.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, [ecs::TASK_METADATA_INFO]);
}
