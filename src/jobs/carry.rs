//! The secrets that a package takes along: those of all its resources, also of those whose contents are left
//! out, sealed for who may open them.

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::app::App;
use crate::db;
use crate::db::closure::{Node, Resolved};
use crate::db::records::Record;
use crate::domain::carried::CarriedLine;
use crate::domain::failure::Warning;
use crate::domain::overlay::Location;
use crate::package::{MAX_SECRETS, PackageError, SECRETS};
use crate::planning;
use crate::remote::RemoteError;
use crate::secrets::envelope::{self, Belongs, EnvelopeError};
use crate::wire::environment::Environment;

use super::{Context, JobError, blocking};

/// What sealing adds at most.
const SLACK: usize = 8 * 1024;

/// Who may open the secrets of a package.
pub(super) enum Recipient {
    Passphrase(SecretString),
    Environment { id: String, sealing_key: String },
}

/// Who knows the passphrase of an export.
pub(super) async fn by_passphrase(context: &Context, record: &Record) -> Result<Recipient, JobError> {
    let mut connection = context.app.pool.acquire().await?;
    let passphrase = planning::carried::passphrase(&context.app, &mut connection, record.id).await?;
    let passphrase = passphrase.ok_or_else(|| {
        let message = "The passphrase of the export is no longer kept.";
        JobError::fail("passphrase_required", message, "Export again, or give it when trying again.")
    })?;
    Ok(Recipient::Passphrase(passphrase))
}

impl Recipient {
    /// A target, by the key that it shows.
    pub(super) fn of(target: &Environment) -> Self {
        Self::Environment { id: target.id.clone(), sealing_key: target.sealing_key.clone() }
    }
}

/// What is written into the package, and what to say about it.
pub(super) struct Sealed {
    pub(super) bytes: Vec<u8>,
    pub(super) warnings: Vec<Warning>,
}

/// Seals the secrets of some resources as they were resolved.
pub(super) async fn seal(
    context: &Context,
    record: &Record,
    resolved: &Resolved,
    recipient: Recipient,
) -> Result<Sealed, JobError> {
    let app = &context.app;
    let mut gathered = Gathered::default();
    for node in resolved.nodes() {
        if let Some(overlay) = &node.overlay {
            gathered.add(app, node, overlay)?;
        }
    }
    let Gathered { payload, warnings } = gathered;
    let (app, record_id) = (app.clone(), record.id.to_string());
    let sealed = blocking(move || {
        let belongs = Belongs { environment: &app.identity.id, record: &record_id };
        let to = match &recipient {
            Recipient::Passphrase(passphrase) => envelope::Recipient::Passphrase(passphrase.expose_secret()),
            Recipient::Environment { id, sealing_key } => envelope::Recipient::Environment { id, sealing_key },
        };
        envelope::seal(&to, belongs, &payload).map_err(|error| match error {
            EnvelopeError::SealingKey => {
                let message = "The target's sealing key is none, so no secrets can be sealed for it.";
                RemoteError::settings(message, "Migrate without secrets, or look at the target's log.").into()
            }
            other => JobError::Retry(other.to_string()),
        })
    });
    Ok(Sealed { bytes: sealed.await?, warnings })
}

#[derive(Default)]
struct Gathered {
    payload: Zeroizing<Vec<u8>>,
    warnings: Vec<Warning>,
}

impl Gathered {
    fn add(&mut self, app: &App, node: &Node, overlay: &str) -> Result<(), JobError> {
        let overlay = db::resources::overlay(Some(overlay))?;
        let mut opened: Vec<(Location, Zeroizing<String>)> = Vec::new();
        for (location, sealed) in overlay.sealed() {
            match app.sealer.open_value(node.id.as_str(), sealed) {
                Ok(secret) => opened.push((location.clone(), secret)),
                Err(_) => {
                    let message = format!("A secret of {} does not open here, so it stays here.", node.name);
                    self.warnings.push(Warning::new("secret_unreadable", message).about(node.id.as_str()));
                }
            }
        }
        if opened.is_empty() {
            return Ok(());
        }
        let secrets = opened.iter().map(|(location, secret)| (location.clone(), secret.as_str())).collect();
        serde_json::to_writer(&mut *self.payload, &CarriedLine { id: node.id.clone(), secrets })
            .map_err(|error| PackageError::Io(error.into()))?;
        self.payload.push(b'\n');
        if self.payload.len() > MAX_SECRETS - SLACK {
            let message = format!("The secrets of the export have more than {MAX_SECRETS} bytes ({SECRETS}).");
            return Err(JobError::fail("package_limit_exceeded", message, "Export fewer resources at once."));
        }
        Ok(())
    }
}
