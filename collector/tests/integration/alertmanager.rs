//! The collector's own program with a real Alertmanager: what on-call gets is counted at a webhook receiver.
//!
//! Every part is a process of its own, is killed rather than asked to stop, and speaks over loopback. Times are
//! short (scrapes and evaluations four times a second), nothing waits for longer than what it waits for.

use std::time::Instant;

use serde_json::json;

use crate::postgres::Postgres;

mod outage;
mod reload;
mod routes;
mod tls;
mod world;

use world::{RULES, World, free_port};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_of_one_name_are_one_notification_and_its_end_is_another() {
    let Some(world) = World::new().await else { return };
    let alertmanager = world.alertmanager(free_port(), &[]).await;
    world.says(&[("failing", "order", 1), ("failing", "user", 1), ("failing", "product", 0)]);
    let _collector = world.collector("c", &[alertmanager.port], "").await;
    world.until_told("Failing", (1, 0)).await;
    let alerts = world.notifications()[0]["alerts"].as_array().cloned().expect("alerts");
    let mut summaries: Vec<_> = alerts.iter().map(|a| a["annotations"]["summary"].clone()).collect();
    summaries.sort_by_key(ToString::to_string);
    assert_eq!(summaries, [json!("order fails"), json!("user fails")]);
    world.says(&[("failing", "order", 0), ("failing", "user", 0)]);
    world
        .until("both are over", async || {
            let all = world.notifications();
            all.last().is_some_and(|last| last["status"] == "resolved")
        })
        .await;
    assert_eq!(world.told("Failing").0, 1, "one page: {:#?}", world.notifications());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_inhibited_or_silenced_reaches_nobody() {
    let Some(world) = World::new().await else { return };
    let alertmanager = world.alertmanager(free_port(), &[]).await;
    let silence = json!({
        "matchers": [{"name": "service", "value": "user", "isRegex": false, "isEqual": true}],
        "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z", "createdBy": "test", "comment": "test",
    });
    let silenced = world.client.post(alertmanager.url("/api/v2/silences")).json(&silence).send().await.expect("asked");
    assert!(silenced.status().is_success());
    world.says(&[("failing", "order", 1), ("failing", "user", 1)]);
    let _collector = world.collector("c", &[alertmanager.port], "").await;
    world.until_told("Failing", (1, 0)).await;
    // Now the warnings: one is inhibited by its critical sister, one is silenced, one may pass.
    world.says(&[("failing", "order", 1), ("slow", "order", 1), ("slow", "user", 1), ("slow", "product", 1)]);
    world.until_told("Slow", (1, 0)).await;
    world
        .until("Alertmanager has all three", async || {
            let alerts = world.json(&alertmanager.url("/api/v2/alerts?filter=alertname%3DSlow")).await;
            alerts.as_array().is_some_and(|alerts| alerts.len() == 3)
        })
        .await;
    let alerts = world.json(&alertmanager.url("/api/v2/alerts?filter=alertname%3DSlow")).await;
    for alert in alerts.as_array().expect("a list") {
        let why = match alert["labels"]["service"].as_str().expect("a service") {
            "order" => ("suppressed", 1, 0),
            "user" => ("suppressed", 0, 1),
            _ => ("active", 0, 0),
        };
        let count = |by: &str| alert["status"][by].as_array().map_or(0, Vec::len);
        let state = alert["status"]["state"].as_str().expect("a state");
        assert_eq!((state, count("inhibitedBy"), count("silencedBy")), why, "{alert:#}");
    }
    let told: Vec<String> = world
        .notifications()
        .iter()
        .flat_map(|n| n["alerts"].as_array().cloned().unwrap_or_default())
        .map(|a| format!("{} {}", a["labels"]["alertname"], a["labels"]["service"]).replace('"', ""))
        .collect();
    assert!(!told.iter().any(|t| t == "Slow order" || t.ends_with(" user")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_killed_inside_for_loses_no_time() {
    let Some(world) = World::new().await else { return };
    let alertmanager = world.alertmanager(free_port(), &[]).await;
    world.says(&[("lasting", "order", 1)]);
    let mut collector = world.collector("c", &[alertmanager.port], "").await;
    world.until("it is pending", async || world.alert(&collector, "Lasting").await.is_some()).await;
    let before = world.alert(&collector, "Lasting").await.expect("there")["activeAt"].clone();
    let pending = async || world.saved("c").await.iter().any(|row| row.state == "pending");
    world.until("its state is saved", pending).await;
    collector.kill();
    let collector = world.collector("c", &[alertmanager.port], "").await;
    world.until("it is there again", async || world.alert(&collector, "Lasting").await.is_some()).await;
    assert_eq!(world.alert(&collector, "Lasting").await.expect("there")["activeAt"], before);
    world.until_told("Lasting", (1, 0)).await;
    let started = world.notifications()[0]["alerts"][0]["startsAt"].as_str().expect("a time").to_owned();
    let seconds = |time: &str| time.parse::<jiff::Timestamp>().expect("RFC 3339").as_millisecond() as f64 / 1e3;
    let waited = seconds(&started) - seconds(before.as_str().expect("a time"));
    // Five seconds after it began, up to the start of the new process if that took longer.
    assert!((5.0..7.5).contains(&waited), "fired {waited} s after it became active");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_killed_while_an_alert_fires_pages_nobody_again() {
    let Some(world) = World::new().await else { return };
    let alertmanager = world.alertmanager(free_port(), &[]).await;
    world.says(&[("failing", "order", 1)]);
    let mut collector = world.collector("c", &[alertmanager.port], "").await;
    world.until_told("Failing", (1, 0)).await;
    let started = world.alert(&collector, "Failing").await.expect("fires")["activeAt"].clone();
    let sent = async || world.saved("c").await.iter().any(|row| row.state == "firing" && row.last_sent_at.is_some());
    world.until("its state is saved", sent).await;
    collector.kill();
    let collector = world.collector("c", &[alertmanager.port], "").await;
    // It goes on telling Alertmanager, which tells nobody.
    let sent = format!("collector_notifications_sent_total{{alertmanager=\"{}\"}}", alertmanager.url(""));
    world.until("three more sends", async || world.metric(&collector, &sent).await >= 3.0).await;
    assert_eq!(world.alert(&collector, "Failing").await.expect("fires")["activeAt"], started);
    assert_eq!(world.told("Failing"), (1, 0));
    world.says(&[("failing", "order", 0)]);
    world.until_told("Failing", (1, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fired_while_alertmanager_was_away_is_told_when_it_is_back() {
    let Some(world) = World::new().await else { return };
    let port = free_port();
    world.says(&[("failing", "order", 1)]);
    let collector = world.collector("c", &[port], "").await;
    let failed =
        format!("collector_notifications_errors_total{{alertmanager=\"http://127.0.0.1:{port}\",reason=\"connect\"}}");
    world.until("three attempts failed", async || world.metric(&collector, &failed).await >= 3.0).await;
    let _alertmanager = world.alertmanager(port, &[]).await;
    world.until_told("Failing", (1, 0)).await;
    world.says(&[("failing", "order", 0)]);
    world.until_told("Failing", (1, 1)).await;
}

/// A database that takes connections and never answers is worse than one that refuses them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_answer_delays_alerts_by_one_timeout_whatever_the_number_of_groups() {
    let Some(world) = World::new().await else { return };
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("port 0");
    let mut rules = RULES.to_owned();
    for group in 0..40 {
        rules += &format!("  - {{name: g{group}, rules: [{{record: 'g:{group}', expr: '1'}}]}}\n");
    }
    std::fs::write(world.dir.path().join("it.rules.yml"), rules).expect("written");
    let alertmanager = world.alertmanager(free_port(), &[]).await;
    world.says(&[("failing", "order", 1)]);
    let address = silent.local_addr().expect("bound");
    let state = format!("state: {{url: 'postgres://collector@{address}/picket'}}");
    let collector = world.collector("c", &[alertmanager.port], &state).await;
    let ready = Instant::now();
    world.until_told("Failing", (1, 0)).await;
    assert!(ready.elapsed() < std::time::Duration::from_secs(20), "told after {:?}", ready.elapsed());
    world.says(&[("failing", "order", 0)]);
    world.until_told("Failing", (1, 1)).await;
    let failed = "collector_state_errors_total{operation=\"load alerts\"}";
    assert!(world.metric(&collector, failed).await >= 41.0, "it was asked for every group, and did not answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_collectors_and_two_alertmanagers_page_once_and_a_killed_holder_is_replaced() {
    let Some(world) = World::new().await else { return };
    let Some(postgres) = Postgres::start().await else { return };
    let (gossip_a, gossip_b) = (free_port(), free_port());
    let cluster = |own: u16, peer: u16| -> Vec<String> {
        [
            format!("--cluster.listen-address=127.0.0.1:{own}"),
            format!("--cluster.peer=127.0.0.1:{peer}"),
            // The second one waits this long for the first one's word that it has told.
            "--cluster.peer-timeout=2s".to_owned(),
            "--cluster.settle-timeout=2s".to_owned(),
        ]
        .into()
    };
    let (first, second) = (cluster(gossip_a, gossip_b), cluster(gossip_b, gossip_a));
    let (a, b) = tokio::join!(world.alertmanager(free_port(), &first), world.alertmanager(free_port(), &second));
    world
        .until("they are a cluster", async || {
            let mut peers = Vec::new();
            for process in [&a, &b] {
                let status = world.json(&process.url("/api/v2/status")).await;
                peers.push((
                    status["cluster"]["status"].clone(),
                    status["cluster"]["peers"].as_array().map_or(0, Vec::len),
                ));
            }
            peers.iter().all(|(status, peers)| status == "ready" && *peers == 2)
        })
        .await;
    let state = format!("state: {{url: '{}'}}", postgres.url());
    world.says(&[("failing", "order", 1)]);
    let ports = [a.port, b.port];
    let (one, two) = tokio::join!(world.collector("one", &ports, &state), world.collector("two", &ports, &state));
    world.until_told("Failing", (1, 0)).await;
    // The log of notifications is asked after the wait for the peer and right before telling: both have decided.
    world
        .until("both Alertmanagers have decided", async || {
            let decided = "alertmanager_nflog_queries_total";
            world.metric(&a, decided).await >= 3.0 && world.metric(&b, decided).await >= 3.0
        })
        .await;
    for (collector, alertmanager) in [(&one, &a), (&one, &b), (&two, &a), (&two, &b)] {
        let sent = format!("collector_notifications_sent_total{{alertmanager=\"{}\"}}", alertmanager.url(""));
        world.until("everybody sends to everybody", async || world.metric(collector, &sent).await >= 1.0).await;
    }
    assert_eq!(world.told("Failing"), (1, 0), "{:#?}", world.notifications());

    let held = "collector_lease_held{lease=\"scaling\"}";
    world
        .until("somebody holds the lease", async || {
            world.metric(&one, held).await + world.metric(&two, held).await == 1.0
        })
        .await;
    let (mut holder, other) = if world.metric(&one, held).await == 1.0 { (one, two) } else { (two, one) };
    let killed = Instant::now();
    holder.kill();
    world.until("the other holds it", async || world.metric(&other, held).await == 1.0).await;
    assert!(killed.elapsed() < std::time::Duration::from_secs(20), "the lease moved after {:?}", killed.elapsed());
    assert_eq!(world.metric(&other, "collector_lease_epoch{lease=\"scaling\"}").await, 2.0);
    eprintln!("the lease moved {:.1} s after its holder was killed", killed.elapsed().as_secs_f64());
    assert_eq!(world.told("Failing"), (1, 0), "the one that is left pages nobody again");
}
