//! What an event means for the roll-ups.

use std::time::Duration;

use service::Shutdown;

use super::model::Addition;
use super::repo;
use crate::order::model::OrderFacts;
use crate::shared::Platform;
use crate::shared::error::{ApiError, ApiResult};
use crate::shared::outbox::Event;

const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Takes an event in, once: inbox and effect are one transaction. False when it was here before.
pub async fn receive(platform: &Platform, event: &Event) -> ApiResult<bool> {
    let db = &platform.db;
    let mut tx = db.begin().await?;
    if !repo::receive(db, &mut tx, event.id).await? {
        return Ok(false);
    }
    let facts: OrderFacts = serde_json::from_value(event.payload.clone())
        .map_err(|e| ApiError::bad_request("event_not_understood", format!("{} {}: {e}", event.kind, event.id)))?;
    if let Some(addition) = addition(&event.kind, &facts) {
        repo::add(db, &mut tx, event.org_id, event.occurred_at, &facts.currency, addition).await?;
    }
    db.commit(tx).await?;
    platform.metrics.operation("event_rolled_up");
    Ok(true)
}

/// None for a kind of event that the sales do not count.
fn addition(kind: &str, facts: &OrderFacts) -> Option<Addition> {
    match kind {
        "order.created.v1" => Some(Addition { created: 1, ..Addition::default() }),
        "order.paid.v1" => {
            Some(Addition { paid: 1, units: facts.units, revenue_minor: facts.total_minor, ..Addition::default() })
        }
        "order.shipped.v1" => Some(Addition { shipped: 1, ..Addition::default() }),
        _ => None,
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
