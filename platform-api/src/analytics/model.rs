//! What goes over the wire and lies in the tables of the analytics domain.

use chrono::{DateTime, Utc};
use garde::Validate;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::shared::page::Cursor;

/// `?from&to&granularity&cursor&limit` of a report; the last day by the hour unless asked otherwise.
#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct ReportQuery {
    #[garde(skip)]
    pub from: Option<DateTime<Utc>>,
    #[garde(skip)]
    pub to: Option<DateTime<Utc>>,
    #[garde(skip)]
    #[serde(default)]
    pub granularity: Granularity,
    #[garde(length(max = 200))]
    pub cursor: Option<String>,
    #[garde(range(min = 1, max = crate::shared::page::LIMIT_MAX))]
    pub limit: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    #[default]
    Hour,
    Day,
}

impl Granularity {
    pub fn as_str(self) -> &'static str {
        match self {
            Granularity::Hour => "hour",
            Granularity::Day => "day",
        }
    }
}

/// Sales of one hour or day (UTC) in one currency.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct Sales {
    pub bucket: DateTime<Utc>,
    pub currency: String,
    pub orders_created: i64,
    pub orders_paid: i64,
    pub orders_shipped: i64,
    pub units_sold: i64,
    pub revenue_minor: i64,
    #[serde(skip)]
    pub position: Uuid,
}

impl Sales {
    pub fn cursor(&self) -> Cursor {
        Cursor { created_at: self.bucket, id: self.position }
    }
}

/// What an event adds to its hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addition {
    pub created: i64,
    pub paid: i64,
    pub shipped: i64,
    pub units: i64,
    pub revenue_minor: i64,
}
