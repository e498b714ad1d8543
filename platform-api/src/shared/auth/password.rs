//! Passwords: argon2id with the library's parameters (19 MiB, two passes), off the async threads.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use service::config::Secret;
use tokio::sync::Semaphore;

use crate::shared::error::{ApiError, ApiResult};

/// Each hash takes 19 MiB and a core for tens of milliseconds: more at once only wait for each other,
/// and take memory from a small task.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// # Errors
/// 500 when the hash cannot be made.
pub async fn hash(password: Secret) -> ApiResult<String> {
    off_thread(move || {
        let hash = Argon2::default().hash_password(password.expose().as_bytes());
        hash.map(|h| h.to_string()).map_err(|error| ApiError::internal(format!("argon2: {error}")))
    })
    .await?
}

/// Whether the password is the one behind `stored`. With None as much time goes by: an answer's time
/// does not tell whether an account exists.
///
/// # Errors
/// 500 when the stored hash is not one.
pub async fn matches(password: Secret, stored: Option<String>) -> ApiResult<bool> {
    off_thread(move || {
        let Some(stored) = stored else {
            // The work is what counts, not its result.
            let _ = Argon2::default().hash_password(password.expose().as_bytes());
            return Ok(false);
        };
        let parsed = PasswordHash::new(&stored).map_err(|e| ApiError::internal(format!("stored hash: {e}")))?;
        Ok(Argon2::default().verify_password(password.expose().as_bytes(), &parsed).is_ok())
    })
    .await?
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> ApiResult<T> {
    let _permit = AT_ONCE.acquire().await.map_err(ApiError::internal)?;
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)
}
