//! Whether a package's signer is accepted here: asked when it is received, when it is parsed and when it is
//! executed, so that a source that was removed meanwhile brings nothing in.

use crate::app::App;
use crate::config::Trust;
use crate::db::{self, DbError, PgConnection};
use crate::domain::manifest::Origin;
use crate::domain::trust::{Known, Signature, Untrusted, decide};

/// Why there is no yes.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The signer is refused.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Who signed it, if that is enough.
///
/// # Errors
/// The signer is refused.
pub async fn check(app: &App, connection: &mut PgConnection, origin: &Origin) -> Result<Signature, TrustError> {
    let pinned = db::environment::pinned_key(connection, &origin.id).await?;
    let trusted = db::trusted_sources::by_key(connection, &origin.public_key).await?;
    Ok(decide(
        origin,
        Known {
            own: (&app.identity.id, &app.identity.public_key),
            pinned: pinned.as_deref(),
            trusted_as: trusted.map(|source| source.name),
            trusted_only: app.config.security.trust == Trust::Trusted,
        },
    )?)
}
