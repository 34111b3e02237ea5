//! What every noun of the API needs of HTTP: who asks, how much comes in, what is answered. It knows no noun.

pub mod audited;
pub mod auth;
pub mod bodies;
pub mod bounds;
pub mod client;
pub mod cookie;
pub mod csv;
pub mod error;
pub mod extract;
pub mod idempotency;
pub mod openapi;
pub mod paging;
pub mod patience;
pub mod refusals;

use std::sync::Arc;

use crate::app::App;

/// What every handler has.
pub type AppState = Arc<App>;
