//! The secrets that a package carries, and the passphrases that open them.

use std::collections::HashMap;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::App;
use crate::db::records::Record;
use crate::db::{self, DbError, PgConnection};
use crate::domain::carried::CarriedLine;
use crate::domain::json;
use crate::domain::manifest::FORMAT;
use crate::domain::overlay::{self, Location, Overlay, Own};
use crate::domain::resource::ResourceId;
use crate::domain::resource_type::ResourceType;
use crate::package::reader::Package;
use crate::package::{PackageError, SECRETS};
use crate::secrets::SecretError;
use crate::secrets::envelope::{Belongs, Envelope, EnvelopeError};

/// Why the secrets of a package cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CarriedError {
    /// It takes a passphrase, and none was given.
    #[error("The package carries secrets, which open with the passphrase that it was exported with.")]
    Required,
    /// It takes another passphrase.
    #[error("The passphrase is not the one that the package was exported with.")]
    Wrong,
    /// The package is refused.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Our own keys fail.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl CarriedError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Required => {
                "Upload it as a form with package and passphrase, or as JSON with upload_id and passphrase."
            }
            Self::Wrong => "Give the passphrase of the export, or export again with another one.",
            Self::Package(error) => error.hint(),
            Self::Secret(_) => "Ask the administrator to look at the log.",
        }
    }
}

/// The opened payload of a package.
pub struct Opened {
    payload: Zeroizing<Vec<u8>>,
    /// It took a passphrase.
    pub by_passphrase: bool,
}

/// Opens what a package carries, with a passphrase or as the environment that it is for; none: it carries
/// nothing. CPU-bound, and takes a good part of a second.
pub fn open(app: &App, package: &mut Package, passphrase: Option<&str>) -> Result<Option<Opened>, CarriedError> {
    let Some(bytes) = package.secrets()? else { return Ok(None) };
    let belongs = Belongs { environment: &package.manifest.environment.id, record: &package.manifest.record_id };
    let envelope = Envelope::read(&bytes).map_err(refused)?;
    let by_passphrase = envelope.wants_passphrase();
    let payload = match (by_passphrase, passphrase) {
        (true, None) => return Err(CarriedError::Required),
        (true, Some(passphrase)) => envelope.open_with(passphrase, belongs).map_err(|error| match error {
            EnvelopeError::Closed => CarriedError::Wrong,
            other => refused(other),
        })?,
        (false, _) => envelope.open_as(&app.identity.id, &*app.sealing_seed()?, belongs).map_err(refused)?,
    };
    Ok(Some(Opened { payload, by_passphrase }))
}

fn refused(error: EnvelopeError) -> CarriedError {
    match error {
        EnvelopeError::Secret(error) => CarriedError::Secret(error),
        EnvelopeError::Newer => PackageError::FormatNewer(FORMAT + 1).into(),
        EnvelopeError::Elsewhere => PackageError::Incomplete(EnvelopeError::Elsewhere.to_string()).into(),
        other => PackageError::Tampered(other.to_string()).into(),
    }
}

/// Secrets by the resource of the package that they belong to.
#[derive(Default)]
pub struct Carried(HashMap<ResourceId, Vec<(Location, SecretString)>>);

impl Carried {
    /// Reads an opened payload; `known`: the package lists the resource.
    ///
    /// # Errors
    /// It holds anything but one line for each of some resources of the package.
    pub fn read(opened: &Opened, known: &dyn Fn(&ResourceId) -> bool) -> Result<Self, PackageError> {
        let wrong = |reason: &str| PackageError::Tampered(format!("{SECRETS} {reason}"));
        let mut carried = HashMap::new();
        for line in opened.payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: CarriedLine<SecretString> =
                json::outside(line).map_err(|_| wrong("holds a line that cannot be read"))?;
            if !known(&line.id) {
                return Err(wrong("holds secrets of a resource that is not in the package"));
            }
            if carried.insert(line.id, line.secrets).is_some() {
                return Err(wrong("holds the secrets of a resource twice"));
            }
        }
        Ok(Self(carried))
    }

    /// Puts the secrets of a resource of the package among what it has of its own, sealed for its ID there.
    ///
    /// # Errors
    /// No random bytes.
    pub fn put(&self, app: &App, kind: &ResourceType, id: &ResourceId, own: &mut Overlay) -> Result<(), SecretError> {
        for (location, secret) in self.0.get(id).into_iter().flatten() {
            // The first of a place counts.
            let taken = matches!(own.places().at(location), Some(Own::Sealed(_)));
            if !taken && kind.secrets.iter().any(|slot| overlay::leads_to(slot, location)) {
                own.set(location, Own::Sealed(app.sealer.seal_value(id.as_str(), secret.expose_secret())?));
            }
        }
        Ok(())
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn place(record_id: Uuid) -> String {
    format!("record/{record_id}/passphrase")
}

/// Keeps the passphrase of a record until that ends, sealed.
///
/// # Errors
/// There are no random bytes.
pub async fn keep_passphrase(
    app: &App,
    connection: &mut PgConnection,
    record_id: Uuid,
    passphrase: &SecretString,
) -> Result<(), super::PlanningError> {
    let sealed = app.sealer.seal(&place(record_id), passphrase.expose_secret().as_bytes())?;
    Ok(db::passphrases::keep(connection, record_id, &sealed).await?)
}

/// The passphrase of a record that has not ended.
///
/// # Errors
/// It does not open.
pub async fn passphrase(
    app: &App,
    connection: &mut PgConnection,
    record_id: Uuid,
) -> Result<Option<SecretString>, super::PlanningError> {
    let Some(sealed) = db::passphrases::find(connection, record_id).await? else { return Ok(None) };
    let opened = app.sealer.open(&place(record_id), &sealed)?;
    let text = std::str::from_utf8(&opened).map_err(|_| DbError::Corrupt("records.passphrase"))?;
    Ok(Some(SecretString::from(text)))
}

/// What the package of a record carries, and the package again; `known`: the package lists the resource.
pub async fn read(
    app: &Arc<App>,
    connection: &mut PgConnection,
    record: &Record,
    mut package: Package,
    known: impl Fn(&ResourceId) -> bool + Send + 'static,
) -> Result<(Package, Carried), super::PlanningError> {
    if !package.has_secrets() {
        return Ok((package, Carried::default()));
    }
    let passphrase = passphrase(app, connection, record.id).await?;
    let app = app.clone();
    let read = tokio::task::spawn_blocking(move || {
        let opened = open(&app, &mut package, passphrase.as_ref().map(SecretString::expose_secret))?;
        let carried = opened.map(|opened| Carried::read(&opened, &known)).transpose()?.unwrap_or_default();
        Ok((package, carried))
    });
    read.await.map_err(|_| super::PlanningError::Stopped)?
}
