//! From an order to the report and the notification: every event has its effect exactly once.

use std::time::Duration;

use platform_api::worker::Relay;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::fixture::{self, Running};

async fn paid_orders(platform: &Running, buyer: &str, count: usize) {
    let product = platform.product(1500, 1000).await;
    for _ in 0..count {
        let order = platform.order(buyer, product, 2).await.id();
        let paid = platform.post(&format!("/api/v1/orders/{order}/pay"), buyer, json!(null)).await;
        assert_eq!(paid.status, 200, "{paid:?}");
    }
}

async fn deliver_all(platform: &Running) {
    let relay = Relay::new(platform.platform.clone());
    while relay.deliver_some().await.unwrap() > 0 {}
}

async fn open_deliveries(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM shared.deliveries WHERE delivered_at IS NULL")
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn report(platform: &Running) -> Value {
    let report = platform.get("/api/v1/reports/sales?granularity=day", &platform.admin).await;
    assert_eq!(report.status, 200, "{report:?}");
    let items = report.body["items"].as_array().unwrap().clone();
    let sum = |member: &str| items.iter().map(|i| i[member].as_i64().unwrap()).sum::<i64>();
    json!({ "created": sum("orders_created"), "paid": sum("orders_paid"), "units": sum("units_sold"), "revenue": sum("revenue_minor") })
}

async fn notifications(platform: &Running, token: &str) -> Vec<String> {
    let list = platform.get("/api/v1/notifications?limit=100", token).await;
    list.body["items"].as_array().unwrap().iter().map(|n| n["title"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_paid_order_is_in_the_report_and_told_to_its_buyer() {
    let Some(platform) = fixture::start().await else { return };
    let buyer = platform.customer().await;
    paid_orders(&platform, &buyer, 2).await;
    assert_eq!(report(&platform).await["paid"], 0, "nothing before the worker has run");
    deliver_all(&platform).await;
    assert_eq!(report(&platform).await, json!({ "created": 2, "paid": 2, "units": 4, "revenue": 6000 }));
    let told = notifications(&platform, &buyer).await;
    assert_eq!(told, ["Payment received", "Order received", "Payment received", "Order received", "Welcome"]);
    assert!(notifications(&platform, &platform.admin).await.is_empty());
}

#[tokio::test]
async fn a_running_worker_delivers_soon_and_stops_when_it_is_told_to() {
    let Some(platform) = fixture::start().await else { return };
    let buyer = platform.customer().await;
    let shutdown = service::Shutdown::new();
    let relay = service::task::spawn("relay", Relay::new(platform.platform.clone()).run(shutdown.clone()));
    paid_orders(&platform, &buyer, 1).await;
    let told = async {
        while notifications(&platform, &buyer).await.len() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("welcome, received and paid arrive");
    shutdown.request();
    let ended = tokio::time::timeout(Duration::from_secs(5), relay).await.expect("it stops");
    assert!(ended.unwrap().is_ok());
    assert_eq!(open_deliveries(&platform.pool).await, 0);
}

#[tokio::test]
async fn an_event_delivered_twice_has_its_effect_once() {
    let Some(platform) = fixture::start().await else { return };
    let buyer = platform.customer().await;
    paid_orders(&platform, &buyer, 3).await;
    deliver_all(&platform).await;
    let (before, told) = (report(&platform).await, notifications(&platform, &buyer).await);
    // As if the relay had died after each delivery and before noting it.
    let again = sqlx::query("UPDATE shared.deliveries SET delivered_at = NULL, next_attempt_at = now()");
    assert!(again.execute(&platform.pool).await.unwrap().rows_affected() >= 12);
    deliver_all(&platform).await;
    assert_eq!(open_deliveries(&platform.pool).await, 0);
    assert_eq!(report(&platform).await, before);
    assert_eq!(notifications(&platform, &buyer).await, told);
}

#[tokio::test]
async fn several_relays_share_the_work_and_take_nothing_twice() {
    let Some(platform) = fixture::start().await else { return };
    let buyer = platform.customer().await;
    paid_orders(&platform, &buyer, 10).await;
    futures::future::join_all((0..4).map(|_| deliver_all(&platform))).await;
    // A relay may have ended while another still held the earlier event of an order.
    deliver_all(&platform).await;
    assert_eq!(open_deliveries(&platform.pool).await, 0);
    let attempts: i64 = sqlx::query_scalar("SELECT max(attempts)::bigint FROM shared.deliveries")
        .fetch_one(&platform.pool)
        .await
        .unwrap();
    assert_eq!(attempts, 1);
    assert_eq!(report(&platform).await, json!({ "created": 10, "paid": 10, "units": 20, "revenue": 30000 }));
}

#[tokio::test]
async fn a_consumer_that_is_away_gets_its_events_later_and_in_order() {
    let Some(platform) = fixture::start_with(&[("SERVICE_URL_NOTIFICATION", "http://127.0.0.1:1")]).await else {
        return;
    };
    let buyer = platform.customer().await;
    paid_orders(&platform, &buyer, 1).await;
    deliver_all(&platform).await;
    // Analytics has everything; notification has tried the first event of each key and waits.
    assert_eq!(report(&platform).await["paid"], 1);
    let waiting: Vec<(i32, Option<String>)> = sqlx::query_as(
        "SELECT attempts, last_error FROM shared.deliveries WHERE consumer = 'notification' ORDER BY seq",
    )
    .fetch_all(&platform.pool)
    .await
    .unwrap();
    assert_eq!(waiting.iter().map(|(attempts, _)| *attempts).collect::<Vec<_>>(), [1, 1, 0]);
    assert!(waiting[0].1.as_deref().unwrap().starts_with("notification cannot be used"), "{waiting:?}");
    let metrics = platform.text("/metrics").await;
    assert!(metrics.contains(r#"queue_jobs_total{queue="notification",status="failed"} 2"#), "{metrics}");
}

#[tokio::test]
async fn an_event_that_nobody_understands_becomes_a_dead_letter_and_blocks_nothing() {
    let Some(platform) = fixture::start().await else { return };
    let buyer = platform.customer().await;
    paid_orders(&platform, &buyer, 1).await;
    sqlx::query("UPDATE shared.outbox SET payload = '{}' WHERE type = 'order.created.v1'")
        .execute(&platform.pool)
        .await
        .unwrap();
    deliver_all(&platform).await;
    let dead: i64 = sqlx::query_scalar("SELECT count(*) FROM shared.deliveries WHERE dead_at IS NOT NULL")
        .fetch_one(&platform.pool)
        .await
        .unwrap();
    assert_eq!(dead, 2);
    assert_eq!(report(&platform).await["paid"], 1);
}

#[tokio::test]
async fn a_change_that_is_rolled_back_tells_nobody() {
    let Some(platform) = fixture::start().await else { return };
    let buyer = platform.customer().await;
    let product = platform.product(500, 1).await;
    let told: i64 = sqlx::query_scalar("SELECT count(*) FROM shared.outbox").fetch_one(&platform.pool).await.unwrap();
    assert_eq!(platform.order(&buyer, product, 2).await.status, 409);
    let after: i64 = sqlx::query_scalar("SELECT count(*) FROM shared.outbox").fetch_one(&platform.pool).await.unwrap();
    assert_eq!(told, after);
}
