//! What goes over the wire and lies in the tables of the user domain.

use chrono::{DateTime, Utc};
use garde::Validate;
use serde::{Deserialize, Serialize};
use service::config::Secret;
use uuid::Uuid;

use crate::shared::outbox::Tell;
use crate::shared::page::Cursor;

/// Where whoever names no organisation belongs; the migration makes it.
pub const DEFAULT_ORG: Uuid = Uuid::from_u128(0x01900000_0000_7000_8000_000000000001);

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    #[garde(email, length(max = 254))]
    pub email: String,
    #[garde(custom(password_length))]
    pub password: Secret,
    #[garde(length(chars, min = 1, max = 200))]
    pub display_name: String,
    /// Founds an organisation, whose administrator the new account is.
    #[garde(length(chars, min = 1, max = 200))]
    pub organisation: Option<String>,
}

/// Long enough to resist guessing, short enough not to be an attack by length.
fn password_length(password: &Secret, _: &()) -> garde::Result {
    let fits = (10..=128).contains(&password.expose().chars().count());
    fits.then_some(()).ok_or_else(|| garde::Error::new("must have 10 to 128 characters"))
}

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Login {
    #[garde(length(min = 1, max = 254))]
    pub email: String,
    #[garde(custom(|p: &Secret, _: &()| match p.expose().len() {
        1..=1024 => Ok(()),
        _ => Err(garde::Error::new("must have 1 to 1024 bytes")),
    }))]
    pub password: Secret,
}

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    #[garde(length(min = 1, max = 4096))]
    pub refresh_token: String,
}

/// An account as it is shown.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct User {
    pub id: Uuid,
    pub org_id: Uuid,
    pub email: String,
    pub display_name: String,
    pub roles: Vec<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i32,
}

impl User {
    pub fn cursor(&self) -> Cursor {
        Cursor { created_at: self.created_at, id: self.id }
    }
}

#[derive(Debug, Serialize)]
pub struct Tokens {
    pub access_token: String,
    pub token_type: &'static str,
    /// Seconds until the access token ends.
    pub expires_in: u64,
    pub refresh_token: String,
}

#[derive(Debug, Serialize)]
pub struct Registered {
    pub user_id: Uuid,
    pub org_id: Uuid,
    pub display_name: String,
}

impl Tell for Registered {
    const TYPE: &'static str = "user.registered.v1";
    fn key(&self) -> Uuid {
        self.user_id
    }
    fn org_id(&self) -> Uuid {
        self.org_id
    }
}
