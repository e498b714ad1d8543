//! What an event tells to whom.

use std::time::Duration;

use serde::Deserialize;
use service::Shutdown;
use uuid::Uuid;

use super::model::Message;
use super::repo;
use crate::order::model::OrderFacts;
use crate::shared::Platform;
use crate::shared::error::{ApiError, ApiResult};
use crate::shared::outbox::Event;

const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Takes an event in, once: inbox and notification are one transaction. False when it was here before.
pub async fn receive(platform: &Platform, event: &Event) -> ApiResult<bool> {
    let db = &platform.db;
    let mut tx = db.begin().await?;
    if !repo::receive(db, &mut tx, event.id).await? {
        return Ok(false);
    }
    let message = message(event)
        .map_err(|e| ApiError::bad_request("event_not_understood", format!("{} {}: {e}", event.kind, event.id)))?;
    if let Some(message) = message {
        repo::insert(db, &mut tx, event, &message).await?;
        platform.metrics.operation("notification_create");
    }
    db.commit(tx).await?;
    Ok(true)
}

/// None for a kind of event that nobody is told of.
fn message(event: &Event) -> serde_json::Result<Option<Message>> {
    #[derive(Deserialize)]
    struct Registered {
        user_id: Uuid,
        display_name: String,
    }
    if event.kind == "user.registered.v1" {
        let user: Registered = serde_json::from_value(event.payload.clone())?;
        let body = format!("Your account is ready, {}.", user.display_name);
        return Ok(Some(Message { user_id: user.user_id, title: "Welcome".to_owned(), body }));
    }
    let order: OrderFacts = serde_json::from_value(event.payload.clone())?;
    let amount = amount(order.total_minor, &order.currency);
    let (title, body) = match event.kind.as_str() {
        "order.created.v1" => ("Order received", format!("We hold {} pieces for you; {amount} is due.", order.units)),
        "order.paid.v1" => ("Payment received", format!("We received {amount} for your order.")),
        "order.payment_failed.v1" => ("Payment failed", format!("The payment of {amount} was declined.")),
        "order.shipped.v1" => ("Order shipped", format!("Your order of {} pieces is on its way.", order.units)),
        "order.expired.v1" => ("Order expired", "Your order was not paid in time; nothing was charged.".to_owned()),
        _ => return Ok(None),
    };
    Ok(Some(Message { user_id: order.user_id, title: title.to_owned(), body }))
}

/// With two decimals, as most currencies have; those without are shown in their minor unit.
fn amount(minor: i64, currency: &str) -> String {
    match currency {
        "JPY" | "KRW" | "CLP" | "VND" => format!("{minor} {currency}"),
        _ => format!("{}.{:02} {currency}", minor / 100, minor % 100),
    }
}

/// Forgets events that can no longer come again, until the order to stop.
pub async fn prune(platform: Platform, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut every = tokio::time::interval(PRUNE_EVERY);
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            _ = every.tick() => {}
        }
        if let Err(error) = repo::prune_inbox(&platform.db).await {
            tracing::debug!(%error, "the inbox could not be pruned");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_in_the_currency_s_own_decimals() {
        assert_eq!(amount(123_405, "EUR"), "1234.05 EUR");
        assert_eq!(amount(500, "JPY"), "500 JPY");
    }

    #[test]
    fn a_paid_order_is_told_to_its_buyer_and_a_strange_event_to_nobody() {
        let user_id = Uuid::now_v7();
        let mut event = Event {
            id: Uuid::now_v7(),
            kind: "order.paid.v1".into(),
            key: Uuid::now_v7(),
            org_id: Uuid::now_v7(),
            occurred_at: chrono::Utc::now(),
            payload: serde_json::json!({
                "order_id": Uuid::now_v7(), "user_id": user_id, "currency": "EUR", "total_minor": 1999, "units": 2
            }),
        };
        let told = message(&event).unwrap().expect("somebody is told");
        assert_eq!((told.user_id, told.body.as_str()), (user_id, "We received 19.99 EUR for your order."));
        event.kind = "order.archived.v9".into();
        assert_eq!(message(&event).unwrap(), None);
    }
}
