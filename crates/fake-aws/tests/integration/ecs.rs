use std::collections::BTreeSet;

use fake_aws::{Fault, FaultKind, TaskStatus};

use crate::setup::{self, running, sleepers};

#[tokio::test(flavor = "multi_thread")]
async fn tasks_run_as_processes_are_replaced_after_a_crash_and_none_is_left_at_the_end() {
    let setup = setup::start(&sleepers("127.10", &[("order", 2)])).await;
    setup.until("two tasks run", |t| running(t, "order") == 2).await;
    let before = setup.aws.tasks();
    let addresses: BTreeSet<_> = before.iter().map(|t| t.ip.to_string()).collect();
    assert_eq!(addresses, BTreeSet::from(["127.10.1.1".to_owned(), "127.10.1.2".to_owned()]));
    let crashed = before[0].task_id.clone();
    assert!(setup.aws.kill(&crashed, "app"));
    setup.until("the crashed task is replaced", |t| t.len() == 3 && running(t, "order") == 2).await;

    let ecs = setup.ecs();
    let described = ecs.describe_tasks().cluster("demo").tasks(&crashed).tasks("unknown").send().await.unwrap();
    let task = &described.tasks()[0];
    assert_eq!(task.last_status(), Some("STOPPED"));
    assert_eq!(task.stop_code().map(|c| c.as_str()), Some("EssentialContainerExited"));
    assert_eq!(task.containers()[0].exit_code(), Some(137));
    assert_eq!(described.failures()[0].reason(), Some("MISSING"));

    let pids: Vec<i32> = setup.aws.tasks().iter().filter_map(|t| t.processes[0].1).collect();
    assert_eq!(pids.len(), 2);
    setup.aws.stop().await.unwrap();
    let alive: Vec<_> = pids.iter().filter(|pid| std::fs::exists(format!("/proc/{pid}/cmdline")).unwrap()).collect();
    assert!(alive.is_empty(), "left: {alive:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_has_what_service_discovery_reads_and_stands_in_the_discovery_file() {
    let setup = setup::start(
        r#"{network: "127.11", environment: test, clusters: {demo: {services: {order: {desired_count: 1,
            task_definition: {family: demo-order, containers: [
                {name: app, image: app:1, command: [sh, -c, 'echo {service} {task_ip} $GREETING; sleep 1000'],
                 env: {GREETING: "hello {environment}"}, stop_timeout: 1s},
                {name: sidecar, image: sidecar:1, command: [sleep, "1000"], port: 9464, stop_timeout: 1s,
                 docker_labels: {PROMETHEUS_EXPORTER_PORT: "9464"}}]}}}}}}"#,
    )
    .await;
    setup.until("the task runs", |t| running(t, "order") == 1).await;
    let ecs = setup.ecs();
    let arns = ecs.list_tasks().cluster("demo").service_name("order").send().await.unwrap().task_arns.unwrap();
    let task = ecs.describe_tasks().cluster("demo").set_tasks(Some(arns.clone())).send().await.unwrap().tasks.unwrap();
    let task = &task[0];
    let details = task.attachments()[0].details();
    let address = details.iter().find(|d| d.name() == Some("privateIPv4Address")).and_then(|d| d.value());
    assert_eq!(address, Some("127.11.1.1"));
    assert_eq!(task.group(), Some("service:order"));
    assert_eq!(task.containers().len(), 2);
    assert_eq!(task.containers()[1].network_interfaces()[0].private_ipv4_address(), Some("127.11.1.1"));
    let definition = ecs.describe_task_definition().task_definition(task.task_definition_arn().unwrap());
    let definition = definition.send().await.unwrap().task_definition.unwrap();
    let labels = definition.container_definitions()[1].docker_labels().unwrap();
    assert_eq!(labels["PROMETHEUS_EXPORTER_PORT"], "9464");

    let id = arns[0].rsplit('/').next().unwrap();
    let log = setup.dir.path().join(format!("logs/order-{id}-app.log"));
    eventually("the app's output", || {
        std::fs::read_to_string(&log).is_ok_and(|t| t == "order 127.11.1.1 hello test\n")
    })
    .await;
    let file = setup.dir.path().join("targets.json");
    eventually("the discovery file", || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let groups: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        groups[0]["targets"][0] == "127.11.1.1:9464"
            && groups[0]["labels"]["task_id"] == id
            && groups[0]["labels"]["environment"] == "test"
    })
    .await;
    setup.aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn desired_count_starts_and_stops_tasks_and_a_deployment_replaces_them_all() {
    let setup = setup::start(&sleepers("127.12", &[("order", 1)])).await;
    let ecs = setup.ecs();
    setup.until("one task runs", |t| running(t, "order") == 1).await;
    ecs.update_service().cluster("demo").service("order").desired_count(3).send().await.unwrap();
    setup.until("three tasks run", |t| running(t, "order") == 3).await;
    ecs.update_service().cluster("demo").service("order").desired_count(1).send().await.unwrap();
    setup.until("one task is left", |t| t.iter().filter(|t| t.status != TaskStatus::Stopped).count() == 1).await;
    let old = setup.aws.tasks().into_iter().find(|t| t.status == TaskStatus::Running).unwrap().task_id;

    let update = ecs.update_service().cluster("demo").service("order").force_new_deployment(true);
    let service = update.send().await.unwrap().service.unwrap();
    assert_eq!(service.deployments().len(), 2);
    assert_eq!(service.deployments()[0].rollout_state().map(|s| s.as_str()), Some("IN_PROGRESS"));
    setup
        .until("the old task is gone", |t| {
            running(t, "order") == 1 && t.iter().any(|t| t.task_id == old && t.status == TaskStatus::Stopped)
        })
        .await;
    let negative = ecs.update_service().cluster("demo").service("order").desired_count(-1).send().await;
    assert!(negative.unwrap_err().into_service_error().is_invalid_parameter_exception());
    setup.aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_pages_and_describe_calls_have_limits() {
    let names: Vec<String> = (0..25).map(|n| format!("svc{n:02}")).collect();
    let services: Vec<(&str, u32)> = names.iter().map(|n| (n.as_str(), 0)).collect();
    let setup = setup::start(&sleepers("127.13", &services)).await;
    let ecs = setup.ecs();
    let (mut found, mut token, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = ecs.list_services().cluster("demo").set_next_token(token).send().await.unwrap();
        found.extend(page.service_arns.unwrap());
        (token, pages) = (page.next_token, pages + 1);
        if token.is_none() {
            break;
        }
    }
    assert_eq!((found.len(), pages), (25, 3), "ten per page unless asked for more");
    let all = ecs.list_services().cluster("demo").max_results(100).send().await.unwrap();
    assert_eq!(all.service_arns().len(), 25);

    let eleven = ecs.describe_services().cluster("demo").set_services(Some(found[..11].to_vec())).send().await;
    assert!(eleven.unwrap_err().into_service_error().is_invalid_parameter_exception());
    let tasks = (0..101).map(|n| n.to_string()).collect();
    let many = ecs.describe_tasks().cluster("demo").set_tasks(Some(tasks)).send().await;
    assert!(many.unwrap_err().into_service_error().is_invalid_parameter_exception());
    let cluster = ecs.list_tasks().cluster("nowhere").send().await;
    assert!(cluster.unwrap_err().into_service_error().is_cluster_not_found_exception());
    let token = ecs.list_services().cluster("demo").next_token("nonsense").send().await;
    assert!(token.unwrap_err().into_service_error().is_invalid_parameter_exception());
    setup.aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_and_faults_reach_the_client_as_aws_says_them() {
    let setup = setup::start(&sleepers("127.14", &[])).await;
    let ecs = setup.ecs();
    setup.aws.order_fault(Fault { operation: "ecs:ListClusters".into(), kind: FaultKind::Throttle, count: 1 });
    let throttled = ecs.list_clusters().send().await.unwrap_err().into_service_error();
    assert_eq!(throttled.meta().code(), Some("ThrottlingException"));
    assert_eq!(ecs.list_clusters().send().await.unwrap().cluster_arns().len(), 1);

    let calls = (0..400).map(|_| ecs.describe_clusters().clusters("demo").send());
    let refused = futures::future::join_all(calls).await.into_iter().filter(Result::is_err).count();
    // 50 at once and 20 a second: 400 would fit only if they took seventeen seconds.
    assert!(refused > 0);

    let elsewhere = aws_sdk_ecs::Client::new(&setup::config(&setup.aws.url(), "eu-west-3").await);
    let error = elsewhere.list_clusters().send().await.unwrap_err().into_service_error();
    assert_eq!(error.meta().code(), Some("InvalidSignatureException"));
    setup.aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_balancer_shares_connections_among_healthy_tasks_and_says_503_without_any() {
    let setup = setup::start(WEB).await;
    let url = format!("http://{}/", setup.aws.load_balancer("web").unwrap());
    let get = || async { reqwest::Client::new().get(&url).send().await.unwrap() };
    assert_eq!(get().await.status(), 503);
    setup.ecs().update_service().cluster("demo").service("web").desired_count(2).send().await.unwrap();
    setup.until("two healthy tasks", |t| t.iter().filter(|t| t.health == fake_aws::Health::Healthy).count() == 2).await;
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        seen.insert(get().await.text().await.unwrap());
    }
    assert_eq!(seen, BTreeSet::from(["127.15.1.1".to_owned(), "127.15.1.2".to_owned()]));
    setup.aws.stop().await.unwrap();
}

/// Each task answers with its own address.
const WEB: &str = r#"
network: "127.15"
clusters:
  demo:
    services:
      web:
        desired_count: 0
        load_balancer: {listen: "127.0.0.1:0", container: app, port: 18080}
        task_definition:
          family: web
          containers:
            - name: app
              image: python
              stop_timeout: 1s
              command:
                - python3
                - -c
                - |
                  import http.server
                  class Handler(http.server.BaseHTTPRequestHandler):
                      def do_GET(self):
                          body = self.server.server_address[0].encode()
                          self.send_response(200)
                          self.send_header('Content-Length', str(len(body)))
                          self.end_headers()
                          self.wfile.write(body)
                  http.server.HTTPServer(('{task_ip}', 18080), Handler).serve_forever()
              health_check:
                command: [CMD, python3, -c, "import socket; socket.create_connection(('{task_ip}', 18080))"]
                interval: 1s
                timeout: 5s
"#;

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("never came: {what}");
}
