//! Five minutes without Alertmanager, with Prometheus' own timing: minutes long, so it runs by `cargo xtask soak alerting`.

use std::time::{Duration, Instant};

use super::world::{World, entry, free_port};

/// How long Alertmanager is away.
const OUTAGE: Duration = Duration::from_secs(300);
/// The first wait of the outage: long enough that the alert from before is sent again in vain.
const EARLY: Duration = Duration::from_secs(90);
/// Scrapes and evaluations every second; the resend delay is the default minute.
const TIMING: &str = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}";
const RULES: &str = r#"
groups:
  - name: now
    rules:
      - {alert: Before, expr: 'max by (service) (before) > 0', labels: {severity: critical}}
      - {alert: Ends, expr: 'max by (service) (ends) > 0', labels: {severity: critical}}
      - {alert: Begins, expr: 'max by (service) (begins) > 0', labels: {severity: critical}}
      - {alert: Passes, expr: 'max by (service) (passes) > 0', labels: {severity: critical}}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes six minutes: cargo xtask soak alerting"]
async fn what_changed_in_five_minutes_without_alertmanager_is_told_once_when_it_is_back() {
    let world = World::new().await.expect("this run is for nothing without Alertmanager");
    std::fs::write(world.dir.path().join("it.rules.yml"), RULES).expect("written");
    let port = free_port();
    let mut alertmanager = world.alertmanager(port, &[]).await;
    world.says(&[("before", "order", 1), ("ends", "order", 1)]);
    world.configure("c", TIMING, &entry(&[port]), "");
    let collector = world.launch("c").await;
    tokio::join!(world.until_told("Before", (1, 0)), world.until_told("Ends", (1, 0)));

    // A deployment of Alertmanager that goes wrong: it is asked to stop, and has saved whom it told.
    alertmanager.stop();
    drop(alertmanager);
    let gone = Instant::now();
    world.says(&[("before", "order", 1), ("begins", "order", 1), ("passes", "order", 1)]);
    let fires = async |name: &str| world.alert(&collector, name).await.is_some_and(|alert| alert["state"] == "firing");
    world.until("both fire", async || fires("Begins").await && fires("Passes").await).await;
    tokio::time::sleep(EARLY).await;
    world.says(&[("before", "order", 1), ("begins", "order", 1)]);
    world.until("one is over", async || !fires("Passes").await).await;
    tokio::time::sleep_until((gone + OUTAGE).into()).await;
    let told: usize = world.notifications().len();
    assert_eq!(told, 2, "nobody can have been told: {:#?}", world.notifications());

    let _alertmanager = world.alertmanager(port, &[]).await;
    let back = Instant::now();
    world.until_told("Begins", (1, 0)).await;
    let begins = back.elapsed();
    world.until_told("Ends", (1, 1)).await;
    println!(
        "Alertmanager away for {:.0} s; after it was ready again the new alert was told in {:.1} s, the end of the old one in {:.1} s",
        (back - gone).as_secs_f64(),
        begins.as_secs_f64(),
        back.elapsed().as_secs_f64()
    );

    // Two more resends of what still fires: whoever was told is not told again.
    let sent = format!("collector_notifications_sent_total{{alertmanager=\"http://127.0.0.1:{port}\"}}");
    let now = world.metric(&collector, &sent).await;
    let again = async || world.metric(&collector, &sent).await >= now + 4.0;
    world.until_within(Duration::from_secs(200), "what fires is sent twice more", again).await;
    for (alert, expected) in [("Before", (1, 0)), ("Ends", (1, 1)), ("Begins", (1, 0)), ("Passes", (0, 0))] {
        assert_eq!(world.told(alert), expected, "{alert}: {:#?}", world.notifications());
    }
    let dropped = |reason: &str| format!("collector_notifications_dropped_total{{reason=\"{reason}\"}}");
    for reason in ["queue_full", "refused", "expired", "stopping"] {
        assert_eq!(world.metric(&collector, &dropped(reason)).await, 0.0, "{reason}");
    }
    world.says(&[]);
    tokio::join!(world.until_told("Before", (1, 1)), world.until_told("Begins", (1, 1)));
}
