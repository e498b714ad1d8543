use telemetry::LabelsBuilder;

use super::*;
use crate::discovery::{Dropped, Inventory, ServiceFacts, Snapshot, Target};
use crate::scrape::Settings;

fn task(id: &str, status: &str, has_address: bool) -> TaskFacts {
    TaskFacts {
        arn: format!("arn:aws:ecs:eu-west-1:0:task/demo/{id}"),
        service: Some("order".to_owned()),
        last_status: status.to_owned(),
        has_address,
        containers: vec!["app".to_owned()],
    }
}

fn discovered(id: &str, container: &str) -> Labels {
    let mut labels = LabelsBuilder::default();
    labels.set(TASK_ARN, &format!("arn:aws:ecs:eu-west-1:0:task/demo/{id}"));
    labels.set(CONTAINER, container);
    labels.build()
}

fn status(id: &str, health: TargetHealth) -> TargetStatus {
    let config: crate::scrape::Config =
        service::config::parse_yaml("{job_name: ecs}", std::path::Path::new("test.yml")).unwrap();
    let target = Target {
        labels: Labels::empty(),
        discovered: discovered(id, "sidecar"),
        pool: "ecs".into(),
        scrape_url: url::Url::parse("http://10.0.0.1:9464/metrics").unwrap(),
        scrape_interval: Duration::from_secs(15),
        scrape_timeout: Duration::from_secs(10),
        settings: Arc::new(Settings::new(&config, &crate::config::Global::default())),
        refused: None,
    };
    let last_error = if health == TargetHealth::Down { "connection refused".to_owned() } else { String::new() };
    TargetStatus { health, last_error, ..TargetStatus::new(target) }
}

#[test]
fn each_task_that_is_not_scraped_has_its_reason() {
    let tasks = [
        ("up", "RUNNING", true, None),
        ("starting", "PENDING", true, Some(Reason::NotRunning)),
        ("homeless", "RUNNING", false, Some(Reason::NoAddress)),
        ("down", "RUNNING", true, Some(Reason::Down)),
        ("fresh", "RUNNING", true, Some(Reason::NotScrapedYet)),
        ("dropped", "RUNNING", true, Some(Reason::Dropped)),
        ("new", "RUNNING", true, Some(Reason::NoTarget)),
    ];
    let facts = ClusterFacts {
        name: "demo".to_owned(),
        read: Timestamp(0),
        error: None,
        services: [("order".to_owned(), ServiceFacts { desired: 8, running: 6, pending: 1 })].into(),
        tasks: tasks.iter().map(|(id, status, has_address, _)| task(id, status, *has_address)).collect(),
    };
    let snapshot = Snapshot {
        // Of a task that is scraped, too: one container is enough.
        dropped: ["dropped", "up"].map(|id| Dropped { pool: "ecs".into(), discovered: discovered(id, "app") }).into(),
        ..Snapshot::default()
    };
    let targets = [("up", TargetHealth::Up), ("down", TargetHealth::Down), ("fresh", TargetHealth::Unknown)]
        .map(|(id, h)| status(id, h));
    let reports = services_of(&facts, &Evidence::new(&targets, &snapshot));
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!((report.desired, report.running, report.scraped), (8, 6, 1));
    for ((id, .., expected), found) in tasks.iter().zip(&report.tasks) {
        assert_eq!((found.task.as_str(), found.reason), (*id, *expected));
        assert!(!found.words.is_empty(), "{id} without words");
    }
    assert!(report.tasks[3].words[0].ends_with("is down: connection refused"), "{:?}", report.tasks[3].words);
    assert!(report.tasks[5].words[0].starts_with("container app: dropped by relabel_configs of job \"ecs\""));

    let metrics = Metrics::new();
    let own = ExpectedMetrics::register(&metrics);
    own.set(&reports, &[("demo".to_owned(), 12.5)]);
    let text = metrics.expose();
    for line in [
        "collector_ecs_service_tasks_desired{cluster=\"demo\",ecs_service=\"order\"} 8",
        "collector_ecs_service_tasks_scraped{cluster=\"demo\",ecs_service=\"order\"} 1",
        "collector_ecs_service_tasks_unscraped{cluster=\"demo\",ecs_service=\"order\",reason=\"down\"} 1",
        "collector_discovery_cluster_age_seconds{cluster=\"demo\"} 12.5",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    own.set(&[], &[]);
    assert!(!metrics.expose().contains("ecs_service=\"order\""));
}

#[test]
fn a_task_is_found_by_the_beginning_of_its_id() {
    let facts = ClusterFacts {
        name: "demo".to_owned(),
        read: Timestamp(0),
        error: Some("throttled".to_owned()),
        services: BTreeMap::new(),
        tasks: vec![task("0123abcd", "RUNNING", true)],
    };
    let expected = Expected {
        discovery: discovery::Status::with_inventory(Inventory::of(facts)),
        scrape: scrape::Status::default(),
        clock: Clock::starting_at(Timestamp(7_000)),
    };
    let found = expected.explain("0123").expect("it is there");
    assert_eq!((found.report.reason, found.error.as_deref()), (Some(Reason::NoTarget), Some("throttled")));
    assert!(found.age_seconds >= 7.0);
    assert!(expected.explain("").is_none() && expected.explain("99").is_none());
}
