//! What registering, logging in and refreshing mean.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use service::Shutdown;
use service::config::Secret;
use uuid::Uuid;

use super::model::{DEFAULT_ORG, Login, Registered, Registration, Tokens, User};
use super::repo::{self, NewUser};
use crate::shared::Platform;
use crate::shared::auth::jwt::{self, ACCESS_AUDIENCE, AccessClaims, ISSUER, REFRESH_AUDIENCE, RefreshClaims, Signer};
use crate::shared::auth::password;
use crate::shared::auth::permission::{self, Role};
use crate::shared::db::Db;
use crate::shared::error::{ApiError, ApiResult};
use crate::shared::metrics::UserFigures;
use crate::shared::outbox;

/// How often the users' figures are counted.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// The user service with its signing key.
#[derive(Clone)]
pub struct Users {
    pub platform: Platform,
    pub signer: Arc<Signer>,
    pub lifetimes: Lifetimes,
}

/// How long tokens are good.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    pub access: Duration,
    pub refresh: Duration,
}

impl Users {
    pub async fn register(&self, asked: Registration) -> ApiResult<User> {
        let db = &self.platform.db;
        let hash = password::hash(asked.password).await?;
        let (user_id, org_id) = (Uuid::now_v7(), asked.organisation.as_ref().map_or(DEFAULT_ORG, |_| Uuid::now_v7()));
        let role = if asked.organisation.is_some() { Role::OrgAdmin } else { Role::Member };
        let roles = [role.to_string()];
        let mut tx = db.begin().await?;
        if let Some(name) = &asked.organisation {
            repo::insert_organisation(db, &mut tx, org_id, name).await?;
        }
        let (email, display_name) = (asked.email.trim(), asked.display_name.trim());
        let new = NewUser { id: user_id, org_id, email, display_name, password_hash: &hash, roles: &roles };
        if !repo::insert_user(db, &mut tx, &new).await? {
            return Err(ApiError::conflict("email_taken", "an account with this e-mail address exists"));
        }
        outbox::tell(&mut tx, &Registered { user_id, org_id, display_name: display_name.to_owned() }).await?;
        db.commit(tx).await?;
        self.platform.metrics.operation("user_register");
        tracing::info!(%user_id, "user registered");
        repo::user(db, org_id, user_id).await?.ok_or_else(|| ApiError::internal("the new account is not there"))
    }

    pub async fn login(&self, asked: Login) -> ApiResult<Tokens> {
        let db = &self.platform.db;
        let found = repo::credentials(db, asked.email.trim()).await?;
        let stored = found.as_ref().map(|c| c.password_hash.clone());
        let right = password::matches(asked.password, stored).await?;
        let Some(credentials) = found.filter(|_| right) else {
            self.platform.metrics.operation("user_login_refused");
            // The same words for both: an answer does not tell which accounts exist.
            return Err(ApiError::unauthorised(
                "credentials_invalid",
                "no account with this e-mail address and password",
            ));
        };
        let mut tx = db.begin().await?;
        let tokens = self.issue(&mut tx, &credentials.user, Uuid::now_v7()).await?;
        db.commit(tx).await?;
        self.platform.metrics.operation("user_login");
        Ok(tokens)
    }

    /// Exchanges a refresh token for a new pair. One that was used before is in two hands: the sign-in ends.
    pub async fn refresh(&self, token: &str) -> ApiResult<Tokens> {
        let db = &self.platform.db;
        let claims = self.platform.verifier.verify_refresh(token).await?;
        let mut tx = db.begin().await?;
        if let Some(user) = repo::use_refresh(db, &mut tx, claims.jti).await? {
            let tokens = self.issue(&mut tx, &user, claims.family).await?;
            db.commit(tx).await?;
            self.platform.metrics.operation("user_refresh");
            return Ok(tokens);
        }
        drop(tx);
        let revoked = repo::revoke_family(db, claims.family).await?;
        self.platform.metrics.operation("user_refresh_reused");
        tracing::warn!(user_id = %claims.sub, family = %claims.family, revoked, "a refresh token came twice, its sign-in is ended");
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "refresh_reused", "the sign-in has ended: log in again"))
    }

    async fn issue(&self, tx: &mut sqlx::PgConnection, user: &User, family: Uuid) -> ApiResult<Tokens> {
        let (iat, db) = (jwt::now(), &self.platform.db);
        let until = |lifetime: Duration| iat + lifetime.as_secs() as i64;
        let refresh_jti = Uuid::now_v7();
        let access_token = self.signer.sign(&AccessClaims {
            iss: ISSUER.into(),
            aud: ACCESS_AUDIENCE.into(),
            sub: user.id,
            org: user.org_id,
            permissions: permission::of_roles(&user.roles),
            roles: user.roles.clone(),
            iat,
            exp: until(self.lifetimes.access),
            jti: Uuid::now_v7(),
        })?;
        let refresh_token = self.signer.sign(&RefreshClaims {
            iss: ISSUER.into(),
            aud: REFRESH_AUDIENCE.into(),
            sub: user.id,
            jti: refresh_jti,
            family,
            iat,
            exp: until(self.lifetimes.refresh),
        })?;
        repo::insert_refresh(db, tx, refresh_jti, family, user.id, self.lifetimes.refresh).await?;
        repo::note_token(db, tx, user.id).await?;
        let expires_in = self.lifetimes.access.as_secs();
        Ok(Tokens { access_token, token_type: "Bearer", expires_in, refresh_token })
    }

    /// Counts the users now and then, and throws away tokens that are long over.
    pub async fn count(self, figures: UserFigures, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut every = tokio::time::interval(COUNT_EVERY);
        loop {
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                _ = every.tick() => {}
            }
            let db = &self.platform.db;
            match repo::counts(db, self.lifetimes.access).await {
                Ok((active, registered)) => {
                    figures.active.set(active);
                    figures.registered.set(registered);
                }
                // The next round tries again; readiness already tells of a database that is away.
                Err(error) => tracing::debug!(%error, "users could not be counted"),
            }
            if let Err(error) = repo::delete_old_refresh_tokens(db).await {
                tracing::debug!(%error, "old refresh tokens could not be deleted");
            }
        }
    }
}

/// Makes the first administrator of the default organisation, if there is no such account yet.
///
/// # Errors
/// The password cannot be hashed, or the database refuses.
pub async fn bootstrap_admin(db: &Db, email: &str, password: Secret) -> anyhow::Result<bool> {
    let hash = password::hash(password).await.map_err(|e| anyhow::anyhow!("{}: {:?}", e.detail, e.cause))?;
    let roles = [Role::OrgAdmin.to_string()];
    let id = Uuid::now_v7();
    let display_name = "Administrator";
    let new = NewUser { id, org_id: DEFAULT_ORG, email, display_name, password_hash: &hash, roles: &roles };
    let mut connection = db.pool.acquire().await?;
    Ok(repo::insert_user(db, &mut connection, &new).await?)
}
