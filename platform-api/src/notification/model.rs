//! What goes over the wire and lies in the tables of the notification domain.

use chrono::{DateTime, Utc};
use garde::Validate;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::shared::page::{Cursor, PageQuery};

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Only those not read yet.
    #[garde(skip)]
    #[serde(default)]
    pub unread: bool,
    #[garde(length(max = 200))]
    pub cursor: Option<String>,
    #[garde(range(min = 1, max = crate::shared::page::LIMIT_MAX))]
    pub limit: Option<u32>,
}

impl ListQuery {
    pub fn page(self) -> PageQuery {
        PageQuery { cursor: self.cursor, limit: self.limit }
    }
}

#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct Notification {
    pub id: Uuid,
    pub kind: String,
    pub title: String,
    pub body: String,
    pub read_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
}

impl Notification {
    pub fn cursor(&self) -> Cursor {
        Cursor { created_at: self.created_at, id: self.id }
    }
}

/// What an event tells to whom.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub user_id: Uuid,
    pub title: String,
    pub body: String,
}
