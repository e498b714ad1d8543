//! The user domain's SQL.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::model::User;
use crate::shared::db::{Db, Query};
use crate::shared::page::Cursor;

/// An account with what login needs to know.
#[derive(sqlx::FromRow)]
pub struct Credentials {
    #[sqlx(flatten)]
    pub user: User,
    pub password_hash: String,
}

/// A new account.
pub struct NewUser<'a> {
    pub id: Uuid,
    pub org_id: Uuid,
    pub email: &'a str,
    pub display_name: &'a str,
    pub password_hash: &'a str,
    pub roles: &'a [String],
}

pub async fn insert_organisation(db: &Db, tx: &mut PgConnection, id: Uuid, name: &str) -> sqlx::Result<()> {
    let insert = sqlx::query("INSERT INTO users.organisations (id, name) VALUES ($1, $2)").bind(id).bind(name);
    db.timed(Query::Insert, insert.execute(tx)).await.map(drop)
}

/// False when a live account has this e-mail address already.
pub async fn insert_user(db: &Db, tx: &mut PgConnection, new: &NewUser<'_>) -> sqlx::Result<bool> {
    let insert = sqlx::query(
        "INSERT INTO users.users (id, created_by, updated_by, org_id, email, display_name, password_hash, roles)
         VALUES ($1, $1, $1, $2, $3, $4, $5, $6)
         ON CONFLICT (lower(email)) WHERE deleted_at IS NULL DO NOTHING",
    )
    .bind(new.id)
    .bind(new.org_id)
    .bind(new.email)
    .bind(new.display_name)
    .bind(new.password_hash)
    .bind(new.roles);
    Ok(db.timed(Query::Insert, insert.execute(tx)).await?.rows_affected() == 1)
}

pub async fn credentials(db: &Db, email: &str) -> sqlx::Result<Option<Credentials>> {
    let select = sqlx::query_as(
        "SELECT id, org_id, email, display_name, roles, created_at, updated_at, version, password_hash
         FROM users.users WHERE lower(email) = lower($1) AND deleted_at IS NULL",
    )
    .bind(email);
    db.timed(Query::Select, select.fetch_optional(&db.pool)).await
}

pub async fn user(db: &Db, org_id: Uuid, id: Uuid) -> sqlx::Result<Option<User>> {
    let select = sqlx::query_as(
        "SELECT id, org_id, email, display_name, roles, created_at, updated_at, version
         FROM users.users WHERE id = $1 AND org_id = $2 AND deleted_at IS NULL",
    )
    .bind(id)
    .bind(org_id);
    db.timed(Query::Select, select.fetch_optional(&db.pool)).await
}

/// `only` narrows the list to one account.
pub async fn users(
    db: &Db,
    org_id: Uuid,
    only: Option<Uuid>,
    after: Option<Cursor>,
    limit: i64,
) -> sqlx::Result<Vec<User>> {
    let select = sqlx::query_as(
        "SELECT id, org_id, email, display_name, roles, created_at, updated_at, version
         FROM users.users
         WHERE org_id = $1 AND deleted_at IS NULL AND ($2::uuid IS NULL OR id = $2)
           AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4))
         ORDER BY created_at DESC, id DESC LIMIT $5",
    )
    .bind(org_id)
    .bind(only)
    .bind(after.map(|c| c.created_at))
    .bind(after.map(|c| c.id))
    .bind(limit);
    db.timed(Query::Select, select.fetch_all(&db.pool)).await
}

pub async fn note_token(db: &Db, tx: &mut PgConnection, user_id: Uuid) -> sqlx::Result<()> {
    let update = sqlx::query("UPDATE users.users SET last_token_at = now() WHERE id = $1").bind(user_id);
    db.timed(Query::Update, update.execute(tx)).await.map(drop)
}

pub async fn insert_refresh(
    db: &Db,
    tx: &mut PgConnection,
    jti: Uuid,
    family: Uuid,
    user_id: Uuid,
    lifetime: Duration,
) -> sqlx::Result<()> {
    let insert = sqlx::query(
        "INSERT INTO users.refresh_tokens (jti, family, user_id, expires_at)
         VALUES ($1, $2, $3, now() + make_interval(secs => $4))",
    )
    .bind(jti)
    .bind(family)
    .bind(user_id)
    .bind(lifetime.as_secs_f64());
    db.timed(Query::Insert, insert.execute(tx)).await.map(drop)
}

/// Marks the token used; None when it was used, revoked or over before, or never given out.
pub async fn use_refresh(db: &Db, tx: &mut PgConnection, jti: Uuid) -> sqlx::Result<Option<User>> {
    let update = sqlx::query_as(
        "WITH used AS (
             UPDATE users.refresh_tokens SET used_at = now()
             WHERE jti = $1 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > now()
             RETURNING user_id
         )
         SELECT u.id, u.org_id, u.email, u.display_name, u.roles, u.created_at, u.updated_at, u.version
         FROM users.users u JOIN used ON used.user_id = u.id WHERE u.deleted_at IS NULL",
    )
    .bind(jti);
    db.timed(Query::Update, update.fetch_optional(tx)).await
}

/// Ends a sign-in; how many tokens of it were still good for something.
pub async fn revoke_family(db: &Db, family: Uuid) -> sqlx::Result<u64> {
    let update =
        sqlx::query("UPDATE users.refresh_tokens SET revoked_at = now() WHERE family = $1 AND revoked_at IS NULL")
            .bind(family);
    Ok(db.timed(Query::Update, update.execute(&db.pool)).await?.rows_affected())
}

pub async fn delete_old_refresh_tokens(db: &Db) -> sqlx::Result<u64> {
    let delete = sqlx::query("DELETE FROM users.refresh_tokens WHERE expires_at < now() - interval '1 day'");
    Ok(db.timed(Query::Delete, delete.execute(&db.pool)).await?.rows_affected())
}

/// (accounts with a token given out within `window`, all accounts)
pub async fn counts(db: &Db, window: Duration) -> sqlx::Result<(i64, i64)> {
    let select = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE last_token_at > now() - make_interval(secs => $1)), count(*)
         FROM users.users WHERE deleted_at IS NULL",
    )
    .bind(window.as_secs_f64());
    db.timed(Query::Select, select.fetch_one(&db.pool)).await
}
