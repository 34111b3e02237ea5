//! The secrets that a package takes along: those of all its resources, also of those whose contents are left
//! out, sealed for who may open them.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::app::App;
use crate::db::closure::{Node, Resolved};
use crate::db::records::Record;
use crate::db::{self, PgConnection};
use crate::domain::carried::{self, CarriedLine};
use crate::domain::failure::Warning;
use crate::domain::resource_type::ResourceType;
use crate::package::{MAX_SECRETS, SECRETS};
use crate::planning;
use crate::remote::RemoteError;
use crate::secrets::envelope::{self, Belongs, EnvelopeError};
use crate::wire::environment::Environment;

use super::{Context, JobError, blocking};

/// Definitions are asked for in portions of so many.
const PORTION: usize = 500;
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

/// Seals the secrets of some resources as the connection sees them.
pub(super) async fn seal(
    context: &Context,
    connection: &mut PgConnection,
    record: &Record,
    resolved: &Resolved,
    recipient: Recipient,
) -> Result<Sealed, JobError> {
    let app = &context.app;
    let (kinds, ids) = with_secrets(app, resolved);
    let mut gathered = Gathered::default();
    for ids in ids.chunks(PORTION) {
        let mut definitions = db::exports::definitions(connection, record.domain_id, ids);
        while let Some((id, definition)) = definitions.try_next().await? {
            if let Some((node, kind)) = kinds.get(id.as_str()) {
                gathered.add(app, node, kind, &definition)?;
            }
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

type Kinds<'a> = HashMap<&'a str, (&'a Node, &'a Arc<ResourceType>)>;

/// The resources whose types have secrets: by ID, and their IDs in the order of the package.
fn with_secrets<'a>(app: &'a App, resolved: &'a Resolved) -> (Kinds<'a>, Vec<String>) {
    let (mut kinds, mut ids) = (HashMap::new(), Vec::new());
    for node in &resolved.nodes {
        if let Some(kind) = app.types.get(&node.kind).filter(|kind| !kind.secrets.is_empty()) {
            kinds.insert(node.id.as_str(), (node, kind));
            ids.push(node.id.to_string());
        }
    }
    (kinds, ids)
}

#[derive(Default)]
struct Gathered {
    payload: Zeroizing<Vec<u8>>,
    warnings: Vec<Warning>,
}

impl Gathered {
    fn add(&mut self, app: &App, node: &Node, kind: &ResourceType, definition: &str) -> Result<(), JobError> {
        let corrupt = |_| JobError::Retry("a stored definition cannot be read".to_owned());
        let mut definition: Value = serde_json::from_str(definition).map_err(corrupt)?;
        let mut opened: Vec<(carried::Location, Zeroizing<String>)> = Vec::new();
        for (location, sealed) in carried::sealed(kind, &mut definition) {
            match app.sealer.open_value(node.id.as_str(), &sealed) {
                Ok(secret) => opened.push((location, secret)),
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
        serde_json::to_writer(&mut *self.payload, &CarriedLine { id: node.id.clone(), secrets }).map_err(corrupt)?;
        self.payload.push(b'\n');
        if self.payload.len() > MAX_SECRETS - SLACK {
            let message = format!("The secrets of the export have more than {MAX_SECRETS} bytes ({SECRETS}).");
            return Err(JobError::fail("package_limit_exceeded", message, "Export fewer resources at once."));
        }
        Ok(())
    }
}
