//! Orders end to end: stock, money, states.

use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::fixture::{self, Running};

async fn act(platform: &Running, order: Uuid, what: &str, token: &str) -> fixture::Answer {
    platform.post(&format!("/api/v1/orders/{order}/{what}"), token, json!(null)).await
}

#[tokio::test]
async fn sixty_four_buyers_get_exactly_the_stock_there_is() {
    let Some(platform) = fixture::start().await else { return };
    let (buyer, product) = (platform.customer().await, platform.product(1000, 20).await);
    let orders = (0..64).map(|_| platform.order(&buyer, product, 1));
    let answers = futures::future::join_all(orders).await;
    let statuses: Vec<u16> = answers.iter().map(|a| a.status).collect();
    let count = |status| statuses.iter().filter(|s| **s == status).count();
    assert_eq!((count(201), count(409)), (20, 44), "{statuses:?}");
    assert!(answers.iter().filter(|a| a.status == 409).all(|a| a.code() == "out_of_stock"));
    assert_eq!(platform.stock(product).await, (20, 20));
}

#[tokio::test]
async fn orders_with_lines_in_different_orders_do_not_deadlock() {
    let Some(platform) = fixture::start().await else { return };
    let buyer = platform.customer().await;
    let products =
        [platform.product(100, 1000).await, platform.product(100, 1000).await, platform.product(100, 1000).await];
    let orders = (0..48).map(|n| {
        let mut lines: Vec<_> = products.iter().map(|p| json!({ "product_id": p, "quantity": 1 })).collect();
        lines.rotate_left(n % 3);
        platform.post("/api/v1/orders", &buyer, json!({ "lines": lines }))
    });
    let answers = futures::future::join_all(orders).await;
    assert!(answers.iter().all(|a| a.status == 201), "{:?}", answers.iter().find(|a| a.status != 201));
    for product in products {
        assert_eq!(platform.stock(product).await, (1000, 48));
    }
}

#[tokio::test]
async fn an_order_is_reserved_paid_and_shipped_and_the_stock_follows() {
    let Some(platform) = fixture::start().await else { return };
    let (buyer, product) = (platform.customer().await, platform.product(1250, 10).await);
    let order = platform.order(&buyer, product, 2).await;
    assert_eq!(order.status, 201, "{order:?}");
    assert_eq!((&order.body["status"], &order.body["total_minor"]), (&json!("reserved"), &json!(2500)));
    assert_eq!(order.body["lines"][0]["unit_price_minor"], 1250);
    assert_eq!(platform.stock(product).await, (10, 2));

    let early = act(&platform, order.id(), "ship", &platform.admin).await;
    assert_eq!((early.status, early.code()), (409, "illegal_transition"));
    assert_eq!(early.body["allowed"], json!(["pay", "cancel"]));

    let paid = act(&platform, order.id(), "pay", &buyer).await;
    assert_eq!((paid.status, &paid.body["status"]), (200, &json!("paid")), "{paid:?}");
    assert_eq!(platform.stock(product).await, (8, 0));
    assert_eq!(act(&platform, order.id(), "pay", &buyer).await.status, 409);

    let own = act(&platform, order.id(), "ship", &buyer).await;
    assert_eq!((own.status, own.code()), (403, "forbidden"));
    let shipped = act(&platform, order.id(), "ship", &platform.admin).await;
    assert_eq!(shipped.body["status"], "shipped", "{shipped:?}");
    assert_eq!(shipped.body["version"], 3);
}

#[tokio::test]
async fn a_payment_declined_three_times_gives_the_order_up_and_the_stock_back() {
    let Some(platform) = fixture::start().await else { return };
    let (buyer, product) = (platform.customer().await, platform.product(2013, 5).await);
    let order = platform.order(&buyer, product, 1).await;
    for status in ["payment_failed", "payment_failed", "cancelled"] {
        assert_eq!(platform.stock(product).await, (5, 1));
        let declined = act(&platform, order.id(), "pay", &buyer).await;
        assert_eq!((declined.status, declined.code()), (402, "payment_declined"), "{declined:?}");
        assert_eq!(declined.body["order_status"], status);
    }
    assert_eq!(platform.stock(product).await, (5, 0));
    assert_eq!(act(&platform, order.id(), "pay", &buyer).await.status, 409);
}

#[tokio::test]
async fn two_payments_at_once_charge_once() {
    let Some(platform) = fixture::start().await else { return };
    let (buyer, product) = (platform.customer().await, platform.product(700, 5).await);
    let order = platform.order(&buyer, product, 1).await.id();
    let answers = futures::future::join_all((0..16).map(|_| act(&platform, order, "pay", &buyer))).await;
    let paid = answers.iter().filter(|a| a.status == 200).count();
    assert_eq!(paid, 1, "{answers:?}");
    assert!(answers.iter().all(|a| a.status == 200 || a.status == 409), "{answers:?}");
    let captured: i64 = sqlx::query_scalar("SELECT count(*) FROM orders.payment_attempts WHERE state = 'captured'")
        .fetch_one(&platform.pool)
        .await
        .unwrap();
    assert_eq!(captured, 1);
    assert_eq!(platform.stock(product).await, (4, 0));
}

#[tokio::test]
async fn an_expired_reservation_is_not_charged() {
    let Some(platform) = fixture::start().await else { return };
    let (buyer, product) = (platform.customer().await, platform.product(700, 5).await);
    let order = platform.order(&buyer, product, 3).await.id();
    sqlx::query("UPDATE products.reservations SET expires_at = now() - interval '1 second'")
        .execute(&platform.pool)
        .await
        .unwrap();
    let products = platform_api::product::service::Products::new(platform.platform.clone());
    // The service's own round may have been faster.
    products.expire_some().await.unwrap();
    assert_eq!(platform.stock(product).await, (5, 0));
    let late = act(&platform, order, "pay", &buyer).await;
    assert_eq!((late.status, late.code()), (409, "reservation_expired"), "{late:?}");
    let shown = platform.get(&format!("/api/v1/orders/{order}"), &buyer).await;
    assert_eq!(shown.body["status"], "expired");
}

#[tokio::test]
async fn an_order_that_nobody_pays_expires_and_its_buyer_is_told() {
    let Some(platform) = fixture::start().await else { return };
    let (buyer, product) = (platform.customer().await, platform.product(700, 5).await);
    let order = platform.order(&buyer, product, 3).await.id();
    let orders = platform_api::order::service::Orders::new(platform.platform.clone());
    assert_eq!(orders.expire_some().await.unwrap(), 0, "it is not overdue");
    let overdue = sqlx::query("UPDATE orders.orders SET reserved_until = now() - interval '1 hour'");
    overdue.execute(&platform.pool).await.unwrap();
    // The service's own round may be faster, but not both.
    orders.expire_some().await.unwrap();
    let shown = platform.get(&format!("/api/v1/orders/{order}"), &buyer).await;
    assert_eq!(shown.body["status"], "expired");
    let told: i64 = sqlx::query_scalar("SELECT count(*) FROM shared.outbox WHERE type = 'order.expired.v1'")
        .fetch_one(&platform.pool)
        .await
        .unwrap();
    assert_eq!(told, 1);
}

#[tokio::test]
async fn cancelling_gives_the_stock_back() {
    let Some(platform) = fixture::start().await else { return };
    let (buyer, product) = (platform.customer().await, platform.product(700, 5).await);
    let order = platform.order(&buyer, product, 3).await.id();
    let cancelled = act(&platform, order, "cancel", &buyer).await;
    assert_eq!(cancelled.body["status"], "cancelled", "{cancelled:?}");
    assert_eq!(platform.stock(product).await, (5, 0));
}

#[tokio::test]
async fn an_idempotency_key_makes_one_order_and_refuses_another_body() {
    let Some(platform) = fixture::start().await else { return };
    let (buyer, product) = (platform.customer().await, platform.product(700, 50).await);
    let send = |key: &str, quantity: i32| {
        let body = json!({ "lines": [{ "product_id": product, "quantity": quantity }] });
        platform
            .send(platform.request(Method::POST, "/api/v1/orders", &buyer).header("idempotency-key", key).json(&body))
    };
    let first = send("k-1", 1).await;
    let again = send("k-1", 1).await;
    assert_eq!((first.status, again.status), (201, 200));
    assert_eq!(first.id(), again.id());
    let other = send("k-1", 2).await;
    assert_eq!((other.status, other.code()), (422, "idempotency_key_reused"));
    assert_eq!(send("bad key", 1).await.code(), "invalid_idempotency_key");

    let answers = futures::future::join_all((0..8).map(|_| send("k-2", 1))).await;
    let ids: std::collections::BTreeSet<Uuid> = answers.iter().filter(|a| a.status < 300).map(|a| a.id()).collect();
    assert_eq!(ids.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|a| a.status < 300 || a.code() == "idempotency_in_progress"), "{answers:?}");
    assert_eq!(platform.stock(product).await, (50, 2));

    // A request that failed does not hold its key.
    assert_eq!(send("k-3", 999).await.code(), "out_of_stock");
    assert_eq!(send("k-3", 999).await.code(), "out_of_stock");
}

#[tokio::test]
async fn orders_are_seen_by_their_buyer_and_the_organisation_s_staff_only() {
    let Some(platform) = fixture::start().await else { return };
    let (buyer, other) = (platform.customer().await, platform.customer().await);
    let stranger = platform.register("boss@elsewhere.example", Some("Elsewhere")).await;
    let product = platform.product(700, 50).await;
    let path = format!("/api/v1/orders/{}", platform.order(&buyer, product, 1).await.id());
    assert_eq!(platform.get(&path, &buyer).await.status, 200);
    assert_eq!(platform.get(&path, &platform.admin).await.status, 200);
    assert_eq!(platform.get(&path, &other).await.status, 404);
    assert_eq!(platform.get(&path, &stranger).await.status, 404);
    assert_eq!(platform.order(&stranger, product, 1).await.code(), "unknown_product");
}

#[tokio::test]
async fn a_list_is_read_page_by_page_without_gaps() {
    let Some(platform) = fixture::start().await else { return };
    let (buyer, product) = (platform.customer().await, platform.product(700, 50).await);
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(platform.order(&buyer, product, 1).await.id().to_string());
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = platform.get(&format!("/api/v1/orders?limit=2{cursor}"), &buyer).await;
        let items = page.body["items"].as_array().unwrap().iter();
        seen.extend(items.map(|item| item["id"].as_str().unwrap().to_owned()));
        let Some(next) = page.body["next_cursor"].as_str() else { break };
        assert!(page.headers["link"].to_str().unwrap().contains(next));
        cursor = format!("&cursor={next}");
    }
    made.reverse();
    assert_eq!(seen, made);
    assert_eq!(platform.get("/api/v1/orders?cursor=nonsense", &buyer).await.code(), "invalid_cursor");
}

#[tokio::test]
async fn what_cannot_be_an_order_is_refused_as_a_problem() {
    let Some(platform) = fixture::start().await else { return };
    let buyer = platform.customer().await;
    let product = platform.product(700, 50).await;
    for (body, status, code) in [
        (json!({ "lines": [] }), 422, "validation_failed"),
        (json!({ "lines": [{ "product_id": product, "quantity": 0 }] }), 422, "validation_failed"),
        (json!({ "lines": [{ "product_id": "x", "quantity": 1 }] }), 422, "validation_failed"),
        (json!({ "lines": [{ "product_id": product, "quantity": 1 }], "price": 1 }), 422, "validation_failed"),
        (json!({ "lines": [{ "product_id": Uuid::nil(), "quantity": 1 }] }), 409, "unknown_product"),
        (
            json!({ "lines": [{ "product_id": product, "quantity": 1 }, { "product_id": product, "quantity": 1 }] }),
            422,
            "invalid_lines",
        ),
    ] {
        let answer = platform.post("/api/v1/orders", &buyer, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{body} {answer:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.body["request_id"], answer.headers["x-request-id"].to_str().unwrap());
        assert_eq!(answer.body["status"], status);
    }
    let order = || platform.request(Method::POST, "/api/v1/orders", &buyer).header("content-type", "application/json");
    assert_eq!(platform.send(order().body("{")).await.code(), "malformed_json");
    let large = platform.send(order().body(vec![b' '; 2 << 20])).await;
    assert_eq!((large.status, large.code()), (413, "body_too_large"));
    let form = platform.request(Method::POST, "/api/v1/orders", &buyer).body("lines=1");
    assert_eq!(platform.send(form).await.status, 415);
    assert_eq!(platform.get("/api/v1/nothing", &buyer).await.code(), "not_found");
    let patched = platform.send(platform.request(Method::PATCH, "/api/v1/orders", &buyer)).await;
    assert_eq!((patched.status, patched.code()), (405, "method_not_allowed"));
    assert_eq!(platform.get("/api/v1/orders/not-an-id", &buyer).await.status, 404);
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let Some(platform) = fixture::start().await else { return };
    let answer = platform.get("/api/v1/orders", "").await;
    for (name, value) in [
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("x-xss-protection", "0"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("permissions-policy", "geolocation=(), microphone=(), camera=()"),
    ] {
        assert_eq!(answer.headers[name], value);
    }
}
