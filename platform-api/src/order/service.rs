//! What creating, paying, shipping and cancelling an order mean.
//!
//! Stock lives in the product service. The order of steps is such that a crash between two of them
//! leaves nothing worse than a hold that expires: stock is held before the order exists, money is only
//! taken after the stock has left the shelf, and each step can be asked for again.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use service::Shutdown;
use tracing::Instrument;
use uuid::Uuid;

use super::idempotency::{self, Claim, Key};
use super::model::{self, Line, NewOrder, Order, OrderFacts, OrderRow};
use super::payment::{Authorisation, SimulatedProvider};
use super::repo::{self, Attempt};
use super::state::{self, Command, Effect, State};
use crate::product::model::{OfOrder, RequestedLine, Reservation, ReservationRequest};
use crate::shared::Platform;
use crate::shared::auth::Caller;
use crate::shared::client::CallError;
use crate::shared::error::{ApiError, ApiResult};
use crate::shared::{outbox, trace};

/// How long stock waits for the payment.
const HOLD_TTL_S: u32 = 15 * 60;
/// A payment that has not ended by then belongs to a request that died.
const ATTEMPT_STALE_S: f64 = 30.0;
/// An order is given up this long after its stock is: a payment that began in time may end.
const OVERDUE_S: f64 = 60.0;
const EXPIRE_AT_ONCE: usize = 100;
const TIDY_EVERY: Duration = Duration::from_secs(10);
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// The order service.
#[derive(Clone)]
pub struct Orders {
    pub platform: Platform,
    provider: SimulatedProvider,
}

impl Orders {
    pub fn new(platform: Platform) -> Self {
        Orders { platform, provider: SimulatedProvider }
    }

    /// The order, and whether it was created now (or by an earlier request with the same key).
    pub async fn create(&self, caller: &Caller, key: Option<Key>, new: NewOrder) -> ApiResult<(Order, bool)> {
        let db = &self.platform.db;
        let Some(key) = key else {
            return Ok((self.create_as(caller, Uuid::now_v7(), None, new).await?, true));
        };
        match idempotency::claim(db, caller.user_id, &key, &new).await? {
            Claim::Done(order_id) => Ok((self.order(caller.org_id, Some(caller.user_id), order_id).await?, false)),
            Claim::Proceed(order_id) => {
                let created = self.create_as(caller, order_id, Some(&key), new).await;
                if created.is_err()
                    && let Err(error) = idempotency::forget(db, caller.user_id, &key).await
                {
                    tracing::warn!(%error, "an idempotency key stays locked until its time is over");
                }
                Ok((created?, true))
            }
        }
    }

    async fn create_as(&self, caller: &Caller, order_id: Uuid, key: Option<&Key>, new: NewOrder) -> ApiResult<Order> {
        let db = &self.platform.db;
        let reservation = self.reserve(caller, order_id, new).await?;
        let (currency, total_minor) = match total(&reservation) {
            Ok(total) => total,
            Err(error) => {
                self.release(order_id).await;
                return Err(error);
            }
        };
        let (state, effects) = state::apply(State::Pending, Command::Reserve).map_err(ApiError::internal)?;
        let lines: Vec<Line> = reservation.lines.iter().map(Line::from).collect();
        let row = OrderRow {
            id: order_id,
            org_id: caller.org_id,
            user_id: caller.user_id,
            state: state.as_str().to_owned(),
            failed_payments: 0,
            currency,
            total_minor,
            reserved_until: reservation.expires_at,
            created_at: reservation.expires_at,
            updated_at: reservation.expires_at,
            version: 1,
        };
        let mut tx = db.begin().await?;
        // Should this fail, the hold gives the stock back when its time is over.
        let row = repo::insert(db, &mut tx, &row, &lines).await?;
        let units = lines.iter().map(|l| i64::from(l.quantity)).sum();
        self.tell(&mut tx, effects, &row, units).await?;
        if let Some(key) = key {
            idempotency::finish(db, &mut tx, caller.user_id, key).await?;
        }
        db.commit(tx).await?;
        self.reached(&row);
        tracing::info!(%order_id, total_minor = row.total_minor, "order created");
        Ok(Order::new(row, lines))
    }

    async fn reserve(&self, caller: &Caller, order_id: Uuid, new: NewOrder) -> ApiResult<Reservation> {
        let lines =
            new.lines.iter().map(|l| RequestedLine { product_id: l.product_id, quantity: l.quantity }).collect();
        let request = ReservationRequest { order_id, org_id: caller.org_id, lines, ttl_s: HOLD_TTL_S };
        let reservation: Reservation = self
            .platform
            .neighbours
            .product
            .post("/internal/product/reservations", &request)
            .await
            .map_err(from_product)?;
        if reservation.state == "held" {
            return Ok(reservation);
        }
        // A repeated request after the first one's hold has ended.
        Err(ApiError::conflict("reservation_ended", format!("the stock of this order is {}", reservation.state)))
    }

    /// Gives stock back as well as it can: a hold that cannot be released expires.
    async fn release(&self, order_id: Uuid) {
        let product = &self.platform.neighbours.product;
        let released: Result<Reservation, _> =
            product.post("/internal/product/reservations/release", &OfOrder { order_id }).await;
        if let Err(error) = released {
            tracing::warn!(%order_id, %error, "stock could not be released, its reservation will expire");
        }
    }

    pub async fn order(&self, org_id: Uuid, owner: Option<Uuid>, id: Uuid) -> ApiResult<Order> {
        let db = &self.platform.db;
        let row = repo::order(db, org_id, owner, id).await?.ok_or_else(|| ApiError::not_found("order"))?;
        Ok(Order::new(row, repo::lines(db, &[id]).await?))
    }

    /// Pays the order: the money is held, the stock leaves the shelf, then the money is taken.
    pub async fn pay(&self, caller: &Caller, owner: Option<Uuid>, id: Uuid) -> ApiResult<Order> {
        let db = &self.platform.db;
        let mut tx = db.begin().await?;
        let row = self.lock(&mut tx, caller, owner, id).await?;
        state::apply(row.state()?, Command::Pay).map_err(refused)?;
        let attempt = repo::begin_attempt(db, &mut tx, id, ATTEMPT_STALE_S).await?;
        let attempt = attempt.ok_or_else(|| ApiError::conflict("payment_in_progress", "this order is being paid"))?;
        db.commit(tx).await?;

        match self.provider.authorise(attempt.id, row.total_minor).await {
            Authorisation::Declined { reason } => self.declined(caller, &row, &attempt, reason).await,
            Authorisation::Approved { reference } => self.approved(caller, &row, &attempt, &reference).await,
        }
    }

    async fn approved(&self, caller: &Caller, row: &OrderRow, attempt: &Attempt, reference: &str) -> ApiResult<Order> {
        let product = &self.platform.neighbours.product;
        let sold: Result<Reservation, _> =
            product.post("/internal/product/reservations/commit", &OfOrder { order_id: row.id }).await;
        match sold {
            Ok(_) => {
                self.provider.capture(reference).await;
                self.end_payment(caller, row.id, attempt, Command::Pay, "captured", Some(reference)).await
            }
            Err(CallError::Refused { code, .. }) if matches!(code.as_str(), "reservation_ended" | "not_found") => {
                self.provider.void(reference).await;
                self.end_payment(caller, row.id, attempt, Command::Expire, "voided", Some(reference)).await?;
                Err(ApiError::conflict("reservation_expired", "the stock was no longer held; nothing was charged"))
            }
            Err(error) => {
                // Whether the stock left is not known. Committing is idempotent: the next payment finds out.
                self.provider.void(reference).await;
                let mut tx = self.platform.db.begin().await?;
                repo::end_attempt(&self.platform.db, &mut tx, attempt.id, "voided", Some(reference)).await?;
                self.platform.db.commit(tx).await?;
                Err(from_product(error))
            }
        }
    }

    async fn declined(
        &self,
        caller: &Caller,
        row: &OrderRow,
        attempt: &Attempt,
        reason: &'static str,
    ) -> ApiResult<Order> {
        let order = self.end_payment(caller, row.id, attempt, Command::DeclinePayment, "declined", None).await?;
        let detail = format!("the payment provider declined: {reason}");
        Err(ApiError::new(StatusCode::PAYMENT_REQUIRED, "payment_declined", detail)
            .with("reason", reason)
            .with("order_status", order.status))
    }

    async fn end_payment(
        &self,
        caller: &Caller,
        id: Uuid,
        attempt: &Attempt,
        command: Command,
        outcome: &str,
        reference: Option<&str>,
    ) -> ApiResult<Order> {
        let db = &self.platform.db;
        let mut tx = db.begin().await?;
        // The order before its attempts, as when a payment begins: the two never wait for each other.
        let row = self.lock(&mut tx, caller, None, id).await?;
        repo::end_attempt(db, &mut tx, attempt.id, outcome, reference).await?;
        let order = self.advance(tx, row, caller.user_id, command).await?;
        if command == Command::Pay {
            self.platform.metrics.revenue(&order.currency, order.total_minor);
        }
        tracing::info!(order_id = %id, attempt = attempt.attempt, outcome, "payment ended");
        Ok(order)
    }

    pub async fn ship(&self, caller: &Caller, owner: Option<Uuid>, id: Uuid) -> ApiResult<Order> {
        self.step(self.platform.db.begin().await?, caller, owner, id, Command::Ship).await
    }

    pub async fn cancel(&self, caller: &Caller, owner: Option<Uuid>, id: Uuid) -> ApiResult<Order> {
        let db = &self.platform.db;
        let mut tx = db.begin().await?;
        self.lock(&mut tx, caller, owner, id).await?;
        // Under the order's lock no payment can begin, so none is between taking the stock and the money.
        if repo::has_open_attempt(db, &mut tx, id).await? {
            return Err(ApiError::conflict("payment_in_progress", "this order is being paid"));
        }
        self.step(tx, caller, owner, id, Command::Cancel).await
    }

    /// Applies the command within `tx`, commits, and does what follows from it.
    async fn step(
        &self,
        mut tx: sqlx::Transaction<'static, sqlx::Postgres>,
        caller: &Caller,
        owner: Option<Uuid>,
        id: Uuid,
        command: Command,
    ) -> ApiResult<Order> {
        let row = self.lock(&mut tx, caller, owner, id).await?;
        self.advance(tx, row, caller.user_id, command).await
    }

    /// The same for an order that `tx` has locked already.
    async fn advance(
        &self,
        mut tx: sqlx::Transaction<'static, sqlx::Postgres>,
        row: OrderRow,
        by: Uuid,
        command: Command,
    ) -> ApiResult<Order> {
        let (db, id) = (&self.platform.db, row.id);
        let (next, effects) = state::apply(row.state()?, command).map_err(refused)?;
        let row = repo::set_state(db, &mut tx, id, by, next).await?;
        let units = repo::units(db, &mut tx, id).await?;
        self.tell(&mut tx, effects, &row, units).await?;
        db.commit(tx).await?;
        if effects.contains(&Effect::ReleaseStock) {
            self.release(id).await;
        }
        self.reached(&row);
        Ok(Order::new(row, repo::lines(db, &[id]).await?))
    }

    async fn lock(
        &self,
        tx: &mut sqlx::PgConnection,
        caller: &Caller,
        owner: Option<Uuid>,
        id: Uuid,
    ) -> ApiResult<OrderRow> {
        let row = repo::lock(&self.platform.db, tx, caller.org_id, owner, id).await?;
        row.ok_or_else(|| ApiError::not_found("order"))
    }

    async fn tell(
        &self,
        tx: &mut sqlx::PgConnection,
        effects: &[Effect],
        row: &OrderRow,
        units: i64,
    ) -> sqlx::Result<()> {
        let facts = || OrderFacts {
            order_id: row.id,
            user_id: row.user_id,
            org_id: row.org_id,
            currency: row.currency.clone(),
            total_minor: row.total_minor,
            units,
        };
        for effect in effects {
            match effect {
                Effect::TellCreated => outbox::tell(tx, &model::Created(facts())).await?,
                Effect::TellPaid => outbox::tell(tx, &model::Paid(facts())).await?,
                Effect::TellPaymentFailed => outbox::tell(tx, &model::PaymentFailed(facts())).await?,
                Effect::TellShipped => outbox::tell(tx, &model::Shipped(facts())).await?,
                Effect::TellExpired => outbox::tell(tx, &model::Expired(facts())).await?,
                Effect::ReleaseStock => {}
            }
        }
        Ok(())
    }

    fn reached(&self, row: &OrderRow) {
        let (status, operation) = match row.state.as_str() {
            "reserved" => ("reserved", "order_create"),
            "paid" => ("paid", "order_pay"),
            "shipped" => ("shipped", "order_ship"),
            "cancelled" => ("cancelled", "order_cancel"),
            "expired" => ("expired", "order_expire"),
            _ => ("payment_failed", "order_payment_declined"),
        };
        self.platform.metrics.order_reached(status);
        self.platform.metrics.operation(operation);
    }

    /// Ends orders that were not paid in time, and throws away idempotency keys that are no longer
    /// remembered, until the order to stop.
    pub async fn tidy(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut every = tokio::time::interval(TIDY_EVERY);
        let mut pruned_at = None;
        loop {
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                _ = every.tick() => {}
            }
            if let Err(error) = self.expire_some().await {
                tracing::debug!(code = error.code, cause = error.cause, "overdue orders could not be ended");
            }
            if pruned_at.is_none_or(|at: Instant| at.elapsed() >= PRUNE_EVERY) {
                pruned_at = Some(Instant::now());
                if let Err(error) = idempotency::prune(&self.platform.db).await {
                    tracing::debug!(%error, "old idempotency keys could not be deleted");
                }
            }
        }
    }

    /// One round of [`Orders::tidy`]; how many orders it ended.
    pub async fn expire_some(&self) -> ApiResult<usize> {
        let db = &self.platform.db;
        let mut ended = 0;
        while ended < EXPIRE_AT_ONCE {
            let mut tx = db.begin().await?;
            let Some(row) = repo::lock_overdue(db, &mut tx, OVERDUE_S).await? else { break };
            let (id, by) = (row.id, row.user_id);
            let span = trace::job_span("expire order", None);
            self.advance(tx, row, by, Command::Expire).instrument(span).await?;
            tracing::info!(order_id = %id, "order expired unpaid");
            ended += 1;
        }
        Ok(ended)
    }
}

/// One currency per order; the sum as the provider will be asked for it.
fn total(reservation: &Reservation) -> ApiResult<(String, i64)> {
    let first = reservation.lines.first().ok_or_else(|| ApiError::internal("a reservation without lines"))?;
    if reservation.lines.iter().any(|line| line.currency != first.currency) {
        return Err(ApiError::conflict("mixed_currencies", "the products of one order must have one currency"));
    }
    let sum = reservation.lines.iter().try_fold(0i64, |sum, line| {
        line.unit_price_minor.checked_mul(line.quantity.into()).and_then(|price| sum.checked_add(price))
    });
    let sum = sum.ok_or_else(|| ApiError::conflict("total_too_large", "the order's total is out of range"))?;
    Ok((first.currency.clone(), sum))
}

fn refused(illegal: state::Illegal) -> ApiError {
    ApiError::conflict("illegal_transition", illegal.to_string())
        .with("order_status", illegal.state.as_str())
        .with("allowed", state::allowed(illegal.state))
}

/// What the product service refuses is the client's affair; that it cannot be reached is ours.
fn from_product(error: CallError) -> ApiError {
    match error {
        CallError::Refused { status: StatusCode::CONFLICT, code, detail, problem, .. } => {
            let known = ["out_of_stock", "unknown_product", "reservation_ended"];
            let code = known.into_iter().find(|k| *k == code).unwrap_or("stock_conflict");
            let refusal = ApiError::conflict(code, detail);
            match problem.get("product_id") {
                Some(id) => refusal.with("product_id", id.clone()),
                None => refusal,
            }
        }
        CallError::Refused { status: StatusCode::BAD_REQUEST, detail, .. } => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_lines", detail)
        }
        error @ CallError::Refused { .. } => ApiError::internal(error),
        error @ CallError::Unavailable { .. } => {
            ApiError::unavailable("stock_unavailable", "the stock cannot be asked at the moment, try again", error)
        }
    }
}
