//! Pages of lists: a keyset cursor over (created_at, id), opaque to the client.

use axum::Json;
use axum::http::header::LINK;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use garde::Validate;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::{ApiError, ApiResult};

const LIMIT_DEFAULT: u32 = 20;
pub const LIMIT_MAX: u32 = 100;

/// `?cursor=…&limit=…` of every list.
#[derive(Debug, Default, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    #[garde(length(max = 200))]
    pub cursor: Option<String>,
    #[garde(range(min = 1, max = LIMIT_MAX))]
    pub limit: Option<u32>,
}

/// Where the next page begins: after the row with this time and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub created_at: DateTime<Utc>,
    pub id: Uuid,
}

impl Cursor {
    pub fn encode(&self) -> String {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.created_at.timestamp_micros().to_be_bytes());
        bytes[8..].copy_from_slice(self.id.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    pub fn decode(text: &str) -> Option<Self> {
        let bytes: [u8; 24] = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let micros = i64::from_be_bytes(bytes[..8].try_into().ok()?);
        Some(Cursor {
            created_at: DateTime::from_timestamp_micros(micros)?,
            id: Uuid::from_bytes(bytes[8..].try_into().ok()?),
        })
    }
}

impl PageQuery {
    /// # Errors
    /// 400 for a cursor that we did not give out.
    pub fn start(&self) -> ApiResult<Option<Cursor>> {
        let unknown = || ApiError::bad_request("invalid_cursor", "take the cursor from `next_cursor` of a page");
        self.cursor.as_deref().map(|text| Cursor::decode(text).ok_or_else(unknown)).transpose()
    }

    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT_DEFAULT) as usize
    }

    /// One row more than asked for tells whether another page follows.
    pub fn rows_to_fetch(&self) -> i64 {
        self.limit() as i64 + 1
    }
}

/// One page of a list; `Link: <…>; rel="next"` repeats where the next one is.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    pub fn new(mut items: Vec<T>, query: &PageQuery, cursor: impl Fn(&T) -> Cursor) -> Self {
        let more = items.len() > query.limit();
        items.truncate(query.limit());
        let next_cursor = items.last().filter(|_| more).map(|last| cursor(last).encode());
        Page { items, next_cursor }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let link = self.next_cursor.as_ref().map(|cursor| format!("<?cursor={cursor}>; rel=\"next\""));
        match link {
            Some(link) => ([(LINK, link)], Json(self)).into_response(),
            None => Json(self).into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_round_trip_and_foreign_text_is_none() {
        let cursor =
            Cursor { created_at: DateTime::from_timestamp_micros(1_705_314_600_123_456).unwrap(), id: Uuid::now_v7() };
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        for text in ["", "abc", "%%%", "AAAA"] {
            assert_eq!(Cursor::decode(text), None, "{text}");
        }
    }

    #[test]
    fn a_full_page_names_the_next_and_the_last_page_does_not() {
        let query = PageQuery { cursor: None, limit: Some(2) };
        let at = |n: i64| Cursor { created_at: DateTime::from_timestamp_micros(n).unwrap(), id: Uuid::nil() };
        let page = Page::new(vec![1, 2, 3], &query, |n| at(*n));
        assert_eq!((page.items, page.next_cursor), (vec![1, 2], Some(at(2).encode())));
        assert_eq!(Page::new(vec![3], &query, |n| at(*n)).next_cursor, None);
    }
}
