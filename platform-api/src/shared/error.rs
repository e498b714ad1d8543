//! The one error of the HTTP handlers: a status, a stable code, and words; answered as RFC 9457
//! `application/problem+json`.
//!
//! The middleware writes the body, because it knows the request's id. What went wrong inside is logged
//! there and never told to the client.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

pub type ApiResult<T> = Result<T, ApiError>;

/// A field of the request that did not pass, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    pub field: String,
    pub message: String,
}

/// What is told to the client, and what is only logged.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub status: StatusCode,
    /// Stable; clients may decide by it.
    pub code: &'static str,
    pub detail: String,
    pub fields: Vec<FieldError>,
    /// Further members of the problem, such as the commands an order would accept.
    pub extra: Map<String, Value>,
    /// The inner cause: logged, not sent.
    pub cause: Option<String>,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        ApiError { status, code, detail: detail.into(), fields: Vec::new(), extra: Map::new(), cause: None }
    }

    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub fn unauthorised(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    pub fn forbidden(permission: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", format!("this needs the permission {permission}"))
    }

    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("no such {what}"))
    }

    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    pub fn invalid(fields: Vec<FieldError>) -> Self {
        let detail = "the request has fields that cannot be accepted";
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail);
        error.fields = fields;
        error
    }

    pub fn unavailable(code: &'static str, detail: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).caused_by(cause)
    }

    pub fn internal(cause: impl std::fmt::Display) -> Self {
        let detail = "something went wrong on our side; the request id finds it in the logs";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", detail).caused_by(cause)
    }

    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(member.to_owned(), value.into());
        self
    }

    fn caused_by(mut self, cause: impl std::fmt::Display) -> Self {
        self.cause = Some(format!("{cause:#}"));
        self
    }

    /// The body, for the request with this id.
    pub fn body(&self, request_id: &str) -> Value {
        let mut body = self.extra.clone();
        body.insert("type".into(), format!("urn:platform:problem:{}", self.code).into());
        body.insert("title".into(), self.status.canonical_reason().unwrap_or("Error").into());
        body.insert("status".into(), self.status.as_u16().into());
        body.insert("code".into(), self.code.into());
        body.insert("detail".into(), self.detail.clone().into());
        body.insert("request_id".into(), request_id.into());
        if !self.fields.is_empty() {
            let fields = self.fields.iter().map(|f| serde_json::json!({"field": f.field, "message": f.message}));
            body.insert("errors".into(), fields.collect());
        }
        Value::Object(body)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned()).unwrap_or_default();
        let away = matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_));
        match code.as_str() {
            // SQLSTATE: it is stopping or starting, has no connection left, or lost one.
            _ if away || ["57P", "53", "08"].iter().any(|class| code.starts_with(class)) => {
                ApiError::unavailable("database_unavailable", "the database cannot be reached, try again", error)
            }
            // Serialisation failure, deadlock, lock timeout, statement timeout.
            "40001" | "40P01" | "55P03" | "57014" => {
                ApiError::unavailable("database_busy", "the database is too busy with this, try again", error)
            }
            _ => ApiError::internal(error),
        }
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        ApiError::internal(error)
    }
}
