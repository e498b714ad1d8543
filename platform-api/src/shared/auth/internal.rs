//! Requests between services: signed with a key that all services read from the database they share.
//!
//! Whoever can read that key can already read and write every table, so the signature adds no secret
//! that has to be distributed. HMAC-SHA-256 over method, path, time and the body's digest; a signature
//! is good for a minute, and what it asks for is idempotent. `/internal/` is not routed by the load
//! balancer; the signature holds where it is reachable all the same.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use axum::body::Bytes;
use axum::extract::{FromRef, FromRequest, Request};
use serde::de::DeserializeOwned;
use sqlx::PgPool;
use tokio::sync::OnceCell;

use crate::shared::Platform;
use crate::shared::error::{ApiError, ApiResult};

pub const SIGNATURE_HEADER: &str = "x-service-signature";
/// Covers clock difference and a retry, not a replay next day.
const GOOD_FOR_S: i64 = 60;

/// The keys, read once at first use; the newest signs.
#[derive(Clone)]
pub struct ServiceKeys {
    pool: PgPool,
    keys: Arc<OnceCell<Vec<hmac::Key>>>,
}

impl ServiceKeys {
    pub fn new(pool: PgPool) -> Self {
        ServiceKeys { pool, keys: Arc::default() }
    }

    async fn keys(&self) -> sqlx::Result<&[hmac::Key]> {
        let keys = self.keys.get_or_try_init(async || {
            let keys: Vec<Vec<u8>> = sqlx::query_scalar("SELECT key FROM shared.service_keys ORDER BY id DESC")
                .fetch_all(&self.pool)
                .await?;
            Ok::<_, sqlx::Error>(keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)).collect())
        });
        keys.await.map(Vec::as_slice)
    }

    /// The header's value for this request.
    ///
    /// # Errors
    /// The keys cannot be read.
    pub async fn sign(&self, method: &str, path: &str, body: &[u8], now_s: i64) -> anyhow::Result<String> {
        let key = self.keys().await?.first().ok_or_else(|| anyhow::anyhow!("shared.service_keys is empty"))?;
        let tag = hmac::sign(key, signed_text(method, path, body, now_s).as_bytes());
        Ok(format!("v1,{now_s},{}", hex::encode(tag)))
    }

    /// # Errors
    /// 401 for a signature that is missing, late or wrong; 503 where the keys cannot be read.
    pub async fn check(
        &self,
        header: Option<&str>,
        method: &str,
        path: &str,
        body: &[u8],
        now_s: i64,
    ) -> ApiResult<()> {
        let refused = || ApiError::unauthorised("signature_invalid", "this is for the platform's own services");
        let mut parts = header.ok_or_else(refused)?.split(',');
        let (Some("v1"), Some(at), Some(tag), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(refused());
        };
        let at: i64 = at.parse().map_err(|_| refused())?;
        let tag = hex::decode(tag).map_err(|_| refused())?;
        if now_s.abs_diff(at) > GOOD_FOR_S as u64 {
            return Err(refused());
        }
        let text = signed_text(method, path, body, at);
        let keys = self.keys().await?;
        keys.iter().any(|key| hmac::verify(key, text.as_bytes(), &tag).is_ok()).then_some(()).ok_or_else(refused)
    }
}

fn signed_text(method: &str, path: &str, body: &[u8], at_s: i64) -> String {
    format!("{method}\n{path}\n{at_s}\n{}", hex::encode(digest(&SHA256, body)))
}

/// The JSON body of a request that a service of ours has signed.
pub struct FromService<T>(pub T);

impl<S, T> FromRequest<S> for FromService<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
    Platform: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let platform = Platform::from_ref(state);
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let header = request.headers().get(SIGNATURE_HEADER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|_| ApiError::bad_request("body_unreadable", "the body could not be read"))?;
        let now = super::jwt::now();
        platform.service_keys.check(header.as_deref(), &method, &path, &body, now).await?;
        let json = if body.is_empty() { b"null" } else { &body[..] };
        let value = serde_json::from_slice(json).map_err(|e| ApiError::bad_request("malformed_json", e.to_string()))?;
        Ok(FromService(value))
    }
}
