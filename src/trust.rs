//! Whether a package's signer is accepted here: asked when it is received, when it is parsed and when it is
//! executed, so that a source that was removed meanwhile brings nothing in.

use crate::app::App;
use crate::config::Trust;
use crate::db::records::Record;
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
pub async fn check(
    app: &App,
    connection: &mut PgConnection,
    domain_id: i32,
    origin: &Origin,
) -> Result<Signature, TrustError> {
    let pinned = db::pinned_sources::key(connection, domain_id, &origin.id).await?;
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

/// Pins the signer's key, as the import of a record is executed.
///
/// # Errors
/// The signer is refused by now.
pub async fn pin(app: &App, connection: &mut PgConnection, record: &Record, origin: &Origin) -> Result<(), TrustError> {
    check(app, connection, record.domain_id, origin).await?;
    if origin.id == app.identity.id || !db::pinned_sources::pin(connection, record.domain_id, record.id, origin).await?
    {
        return Ok(());
    }
    let entry = db::audit::Entry {
        domain_id: Some(record.domain_id),
        username: Some(&record.requested_by),
        token: Some("worker"),
        action: "key.pin",
        object: ("source_environment", &origin.id),
        details: serde_json::json!({"name": origin.name, "public_key": origin.public_key, "record": record.id}),
        address: None,
    };
    Ok(db::audit::insert(connection, &entry).await?)
}
