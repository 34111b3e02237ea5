//! JSON shapes of the contract, shared by `api` and `remote`.

pub mod audit;
pub mod difference;
pub mod environment;
pub mod impact;
pub mod import;
pub mod mapping;
pub mod passphrase;
pub mod record;
pub mod resource;
pub mod selection;
pub mod target;
pub mod trust;
pub mod user;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// What there is.
    pub items: Vec<T>,
    /// Where the next page begins; null on the last one.
    pub next_cursor: Option<String>,
}

/// An error (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:ferry:problem:{code}`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, and what to do about it.
    pub detail: String,
    /// A stable code.
    pub code: String,
    /// Parts of it, where there are several.
    #[serde(default)]
    pub errors: Vec<FieldProblem>,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FieldProblem {
    /// A stable code.
    pub code: String,
    /// Where: a field, a line, a resource.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}
