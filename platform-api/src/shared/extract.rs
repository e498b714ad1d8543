//! Request bodies, queries and path ids, checked before a handler sees them.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::{Json, RequestPartsExt};
use garde::Validate;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::error::{ApiError, FieldError};

/// A JSON body that has passed its own rules.
pub struct Body<T>(pub T);

impl<S, T> FromRequest<S> for Body<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Validate<Context = ()> + 'static,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Json(value) = Json::<T>::from_request(request, state).await.map_err(json_refused)?;
        check(&value)?;
        Ok(Body(value))
    }
}

/// A query string that has passed its own rules.
pub struct Asked<T>(pub T);

impl<S, T> FromRequestParts<S> for Asked<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Validate<Context = ()> + Send + 'static,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Query(value) = parts
            .extract::<Query<T>>()
            .await
            .map_err(|e: QueryRejection| ApiError::bad_request("invalid_query", e.body_text()))?;
        check(&value)?;
        Ok(Asked(value))
    }
}

/// The `{id}` of a path. Whatever is not a UUID names nothing.
pub struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Path(id) = parts.extract::<Path<Uuid>>().await.map_err(|_| ApiError::not_found("resource"))?;
        Ok(Id(id))
    }
}

fn check<T: Validate<Context = ()>>(value: &T) -> Result<(), ApiError> {
    value.validate().map_err(|report| {
        let fields = report
            .iter()
            .map(|(path, error)| FieldError { field: path.to_string(), message: error.message().to_string() });
        ApiError::invalid(fields.collect())
    })
}

fn json_refused(rejection: JsonRejection) -> ApiError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is larger than 1 MiB")
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send the body as application/json",
        ),
        StatusCode::UNPROCESSABLE_ENTITY => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", rejection.body_text())
        }
        _ => ApiError::bad_request("malformed_json", rejection.body_text()),
    }
}
