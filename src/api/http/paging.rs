//! Lists by pages.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::IntoParams;

use crate::domain::json;
use crate::wire::List;

use super::error::ApiError;
use super::extract::holds_nul;

/// Which page.
#[derive(Debug, Serialize, Deserialize, IntoParams)]
pub struct Page {
    /// Where the page begins: `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) cursor: Option<String>,
    /// How many items.
    #[param(minimum = 1, maximum = 500, default = 50)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) limit: Option<u32>,
}

/// How many items a page has: 1 to 500, 50 unless asked.
pub fn page_size(limit: Option<u32>) -> Result<i64, ApiError> {
    match limit.unwrap_or(50) {
        limit @ 1..=500 => Ok(i64::from(limit)),
        _ => Err(ApiError::field("limit", "must be from 1 to 500")),
    }
}

/// Where a page begins, as clients hand it back.
pub fn cursor<T: Serialize>(place: &T) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).unwrap_or_default())
}

/// Reads a cursor.
pub fn from_cursor<T: DeserializeOwned>(text: Option<&str>) -> Result<Option<T>, ApiError> {
    let wrong = || ApiError::field("cursor", "is not one that a list gave");
    let Some(text) = text else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
    let place: Value = json::outside(&bytes).map_err(|_| wrong())?;
    if holds_nul(&place) {
        return Err(wrong());
    }
    serde_json::from_value(place).map(Some).map_err(|_| wrong())
}

/// A page out of rows that were asked for one more than fits.
pub fn page<R, T, C: Serialize>(
    mut rows: Vec<R>,
    limit: i64,
    place: impl Fn(&R) -> C,
    shape: impl FnMut(R) -> T,
) -> List<T> {
    let more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    let next_cursor = if more { rows.last().map(|row| cursor(&place(row))) } else { None };
    List { items: rows.into_iter().map(shape).collect(), next_cursor }
}
