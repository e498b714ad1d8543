//! Who calls: people and programs by access token, services by a signature.

pub mod internal;
pub mod jwt;
pub mod keys;
pub mod password;
pub mod permission;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use uuid::Uuid;

use super::Platform;
use super::error::{ApiError, ApiResult};
use permission::Scope;

/// The holder of a valid access token.
#[derive(Clone, Debug)]
pub struct Caller {
    pub user_id: Uuid,
    pub org_id: Uuid,
    pub roles: Vec<String>,
    permissions: Vec<String>,
}

impl Caller {
    /// How far the caller may go with `resource:action`.
    ///
    /// # Errors
    /// 403 without the permission.
    pub fn scope(&self, permission: &'static str) -> ApiResult<Scope> {
        permission::granted(&self.permissions, permission).ok_or_else(|| ApiError::forbidden(permission))
    }

    /// The user whose rows the caller may touch by `permission`; None means everybody's in the organisation.
    ///
    /// # Errors
    /// 403 without the permission, or where only assigned or public things are granted.
    pub fn owner(&self, permission: &'static str) -> ApiResult<Option<Uuid>> {
        match self.scope(permission)? {
            Scope::All => Ok(None),
            Scope::Own => Ok(Some(self.user_id)),
            Scope::Assigned | Scope::Public => Err(ApiError::forbidden(permission)),
        }
    }
}

impl<S> FromRequestParts<S> for Caller
where
    S: Send + Sync,
    Platform: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let platform = Platform::from_ref(state);
        let token = bearer(parts).ok_or_else(|| {
            ApiError::unauthorised("token_missing", "send an access token as `Authorization: Bearer …`")
        })?;
        let claims = platform.verifier.verify_access(token).await?;
        let span = tracing::Span::current();
        span.record("request.user_id", claims.sub.to_string());
        span.record("request.org_id", claims.org.to_string());
        Ok(Caller { user_id: claims.sub, org_id: claims.org, roles: claims.roles, permissions: claims.permissions })
    }
}

/// The token of `Authorization: Bearer …`; another scheme is no token.
fn bearer(parts: &Parts) -> Option<&str> {
    let (scheme, token) = parts.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|t| !t.is_empty())
}
