//! What goes over the wire and lies in the tables of the product domain.

use chrono::{DateTime, Utc};
use garde::Validate;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::shared::page::Cursor;

/// A price that a sum of the longest order cannot carry past 64 bits.
const PRICE_MINOR_MAX: i64 = 100_000_000_000;
const ON_HAND_MAX: i32 = 1_000_000_000;

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct NewProduct {
    #[garde(pattern("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))]
    pub sku: String,
    #[garde(length(chars, min = 1, max = 200))]
    pub name: String,
    #[garde(length(chars, max = 4000))]
    #[serde(default)]
    pub description: String,
    #[garde(range(min = 1, max = PRICE_MINOR_MAX))]
    pub price_minor: i64,
    #[garde(pattern("^[A-Z]{3}$"))]
    pub currency: String,
    /// Pieces in stock at the beginning.
    #[garde(range(min = 0, max = ON_HAND_MAX))]
    #[serde(default)]
    pub on_hand: i32,
}

#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct Product {
    pub id: Uuid,
    pub sku: String,
    pub name: String,
    pub description: String,
    pub price_minor: i64,
    pub currency: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i32,
}

impl Product {
    pub fn cursor(&self) -> Cursor {
        Cursor { created_at: self.created_at, id: self.id }
    }
}

#[derive(Debug, Serialize, sqlx::FromRow)]
pub struct Inventory {
    pub product_id: Uuid,
    pub on_hand: i32,
    pub reserved: i32,
    pub available: i32,
    pub updated_at: DateTime<Utc>,
    pub version: i32,
}

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct StockCount {
    /// Pieces in stock now, those held for orders included.
    #[garde(range(min = 0, max = ON_HAND_MAX))]
    pub on_hand: i32,
}

/// Asked by the order service.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReservationRequest {
    pub order_id: Uuid,
    pub org_id: Uuid,
    pub lines: Vec<RequestedLine>,
    /// How long the stock is held.
    pub ttl_s: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequestedLine {
    pub product_id: Uuid,
    pub quantity: i32,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Reservation {
    pub order_id: Uuid,
    pub state: String,
    pub expires_at: DateTime<Utc>,
    pub lines: Vec<ReservedLine>,
}

/// A line with the price that holds for this order.
#[derive(Clone, Debug, Serialize, Deserialize, sqlx::FromRow)]
pub struct ReservedLine {
    pub product_id: Uuid,
    pub name: String,
    pub quantity: i32,
    pub unit_price_minor: i64,
    pub currency: String,
}

/// Names the reservation that is to be committed or released.
#[derive(Debug, Serialize, Deserialize)]
pub struct OfOrder {
    pub order_id: Uuid,
}
