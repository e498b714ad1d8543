//! Products and reservations.

use platform_api::product::model::{RequestedLine, Reservation, ReservationRequest};
use platform_api::product::service::Products;
use platform_api::user::model::DEFAULT_ORG;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::fixture;

#[tokio::test]
async fn a_sku_is_taken_once_per_organisation() {
    let Some(platform) = fixture::start().await else { return };
    let body = json!({ "sku": "MUG-1", "name": "Mug", "price_minor": 1290, "currency": "EUR" });
    assert_eq!(platform.post("/api/v1/products", &platform.admin, body.clone()).await.status, 201);
    let again = platform.post("/api/v1/products", &platform.admin, body.clone()).await;
    assert_eq!((again.status, again.code()), (409, "sku_taken"));
    let elsewhere = platform.register("boss@elsewhere.example", Some("Elsewhere")).await;
    assert_eq!(platform.post("/api/v1/products", &elsewhere, body.clone()).await.status, 201);
    let customer = platform.customer().await;
    assert_eq!(platform.post("/api/v1/products", &customer, body).await.status, 403);
}

#[tokio::test]
async fn a_product_that_cannot_be_is_refused_field_by_field() {
    let Some(platform) = fixture::start().await else { return };
    let body = json!({ "sku": "bad sku", "name": "", "price_minor": 0, "currency": "euro", "on_hand": -1 });
    let answer = platform.post("/api/v1/products", &platform.admin, body).await;
    assert_eq!((answer.status, answer.code()), (422, "validation_failed"));
    let mut fields: Vec<&str> =
        answer.body["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["currency", "name", "on_hand", "price_minor", "sku"]);
}

#[tokio::test]
async fn stock_cannot_be_counted_below_what_is_held() {
    let Some(platform) = fixture::start().await else { return };
    let (buyer, product) = (platform.customer().await, platform.product(500, 10).await);
    platform.order(&buyer, product, 4).await;
    let count = |on_hand: i32| {
        let request = platform.request(Method::PUT, &format!("/api/v1/products/{product}/inventory"), &platform.admin);
        platform.send(request.json(&json!({ "on_hand": on_hand })))
    };
    assert_eq!(count(3).await.code(), "stock_is_held");
    assert_eq!(count(4).await.body["available"], 0);
    assert_eq!(platform.stock(product).await, (4, 4));
}

#[tokio::test]
async fn a_reservation_asked_for_twice_holds_once_and_ends_once() {
    let Some(platform) = fixture::start().await else { return };
    let product = platform.product(500, 10).await;
    let products = Products::new(platform.platform.clone());
    let order_id = Uuid::now_v7();
    let reserve = || {
        let lines = vec![RequestedLine { product_id: product, quantity: 4 }];
        products.reserve(ReservationRequest { order_id, org_id: DEFAULT_ORG, lines, ttl_s: 60 })
    };
    let twice: Vec<Reservation> =
        futures::future::join_all((0..4).map(|_| reserve())).await.into_iter().map(|r| r.unwrap()).collect();
    assert!(twice.iter().all(|r| r.state == "held" && r.lines.len() == 1));
    assert_eq!(platform.stock(product).await, (10, 4));
    for _ in 0..2 {
        assert_eq!(products.commit(order_id).await.unwrap().state, "committed");
        assert_eq!(platform.stock(product).await, (6, 0));
    }
    assert_eq!(products.release(order_id).await.unwrap().state, "released");
    assert_eq!(platform.stock(product).await, (10, 0), "what was not paid in the end is back on the shelf");
    assert_eq!(products.commit(order_id).await.unwrap_err().code, "reservation_ended");
}

#[tokio::test]
async fn a_line_that_cannot_be_had_leaves_nothing_held() {
    let Some(platform) = fixture::start().await else { return };
    let (plenty, scarce) = (platform.product(500, 10).await, platform.product(500, 1).await);
    let buyer = platform.customer().await;
    let lines = json!([{ "product_id": plenty, "quantity": 5 }, { "product_id": scarce, "quantity": 2 }]);
    let refused = platform.post("/api/v1/orders", &buyer, json!({ "lines": lines })).await;
    assert_eq!((refused.status, refused.code()), (409, "out_of_stock"));
    assert_eq!(refused.body["product_id"], scarce.to_string());
    assert_eq!((platform.stock(plenty).await, platform.stock(scarce).await), ((10, 0), (1, 0)));
}

#[tokio::test]
async fn the_neighbours_doors_open_to_signed_requests_only() {
    let Some(platform) = fixture::start().await else { return };
    for path in [
        "/internal/product/reservations",
        "/internal/product/reservations/commit",
        "/internal/product/reservations/release",
        "/internal/analytics/events",
        "/internal/notification/events",
    ] {
        let admin = platform.post(path, &platform.admin, json!({ "order_id": Uuid::nil() })).await;
        assert_eq!((admin.status, admin.code()), (401, "signature_invalid"), "{path}");
    }
    let (keys, body) = (&platform.platform.service_keys, br#"{"order_id":"00000000-0000-0000-0000-000000000000"}"#);
    let now = chrono::Utc::now().timestamp();
    for (path, body_sent, at, status) in [
        ("/internal/product/reservations/commit", &body[..], now, 404),
        ("/internal/product/reservations/commit", &body[..], now - 120, 401),
        ("/internal/product/reservations/commit", b"{}", now, 401),
        ("/internal/product/reservations/release", &body[..], now, 401),
    ] {
        let signature = keys.sign("POST", "/internal/product/reservations/commit", body, at).await.unwrap();
        let request = platform.request(Method::POST, path, "").header("x-service-signature", signature);
        let answer = platform.send(request.body(body_sent.to_vec())).await;
        assert_eq!(answer.status, status, "{path} at {at}: {answer:?}");
    }
}
