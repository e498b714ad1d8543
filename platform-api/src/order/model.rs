//! What goes over the wire and lies in the tables of the order domain.

use chrono::{DateTime, Utc};
use garde::Validate;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::state::State;
use crate::product::model::ReservedLine;
use crate::shared::outbox::Tell;
use crate::shared::page::Cursor;

const QUANTITY_MAX: i32 = 1000;

#[derive(Debug, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    #[garde(length(min = 1, max = 50), dive)]
    pub lines: Vec<NewLine>,
}

#[derive(Clone, Debug, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct NewLine {
    #[garde(skip)]
    pub product_id: Uuid,
    #[garde(range(min = 1, max = QUANTITY_MAX))]
    pub quantity: i32,
}

/// An order as it is stored, without its lines.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct OrderRow {
    pub id: Uuid,
    pub org_id: Uuid,
    pub user_id: Uuid,
    pub state: String,
    pub failed_payments: i32,
    pub currency: String,
    pub total_minor: i64,
    pub reserved_until: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i32,
}

impl OrderRow {
    pub fn state(&self) -> anyhow::Result<State> {
        let failures = u32::try_from(self.failed_payments).unwrap_or(0);
        State::parse(&self.state, failures)
            .ok_or_else(|| anyhow::anyhow!("order {} has the unknown state {:?}", self.id, self.state))
    }

    pub fn cursor(&self) -> Cursor {
        Cursor { created_at: self.created_at, id: self.id }
    }
}

#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct Line {
    #[serde(skip)]
    pub order_id: Uuid,
    pub product_id: Uuid,
    pub name: String,
    pub quantity: i32,
    pub unit_price_minor: i64,
}

impl From<&ReservedLine> for Line {
    fn from(line: &ReservedLine) -> Self {
        Line {
            order_id: Uuid::nil(),
            product_id: line.product_id,
            name: line.name.clone(),
            quantity: line.quantity,
            unit_price_minor: line.unit_price_minor,
        }
    }
}

/// An order as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct Order {
    pub id: Uuid,
    pub user_id: Uuid,
    pub status: String,
    pub currency: String,
    pub total_minor: i64,
    pub reserved_until: DateTime<Utc>,
    pub lines: Vec<Line>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i32,
}

impl Order {
    pub fn new(row: OrderRow, lines: Vec<Line>) -> Self {
        Order {
            id: row.id,
            user_id: row.user_id,
            status: row.state,
            currency: row.currency,
            total_minor: row.total_minor,
            reserved_until: row.reserved_until,
            lines,
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: row.version,
        }
    }

    pub fn cursor(&self) -> Cursor {
        Cursor { created_at: self.created_at, id: self.id }
    }
}

/// The body of every order event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrderFacts {
    pub order_id: Uuid,
    pub user_id: Uuid,
    #[serde(skip)]
    pub org_id: Uuid,
    pub currency: String,
    pub total_minor: i64,
    pub units: i64,
}

macro_rules! order_events {
    ($($event:ident = $name:literal),+ $(,)?) => {$(
        #[derive(Clone, Debug, Serialize)]
        #[serde(transparent)]
        pub struct $event(pub OrderFacts);

        impl Tell for $event {
            const TYPE: &'static str = $name;
            fn key(&self) -> Uuid {
                self.0.order_id
            }
            fn org_id(&self) -> Uuid {
                self.0.org_id
            }
        }
    )+};
}
order_events! {
    Created = "order.created.v1",
    Paid = "order.paid.v1",
    PaymentFailed = "order.payment_failed.v1",
    Shipped = "order.shipped.v1",
    Expired = "order.expired.v1",
}
