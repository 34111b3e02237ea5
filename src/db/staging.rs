//! Staging tables: one set per connection, temporary, emptied by every commit. What is to be written
//! stands in them before any lock is taken; a killed worker leaves nothing behind.

use sqlx::{Executor, PgConnection};

use crate::domain::definition::{Reference, Target};
use crate::domain::resource::{Hash, ResourceId};
use crate::domain::resource_type::ResourceType;

use super::DbError;
use super::copy::Rows;

/// Makes the staging tables of a new connection.
pub(super) async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection
        .execute(
            r#"
        create temporary table if not exists staged_resources (
            ordinal integer not null, id text collate "C" not null, type text not null, name text collate "C" not null,
            directory text collate "C" not null, name_scope text collate "C", definition jsonb compression lz4 not null,
            definition_hash bytea not null, content_hash bytea not null, children jsonb not null, owner text not null,
            base_revision bigint
        ) on commit delete rows;
        create temporary table if not exists staged_references (
            from_id text collate "C" not null, ordinal integer not null, rule smallint not null, kind text not null,
            acyclic boolean not null, to_id text collate "C", to_type text, to_name text collate "C"
        ) on commit delete rows;
        create temporary table if not exists staged_attachment_paths (
            resource_id text collate "C" not null, path text collate "C" not null
        ) on commit delete rows;
        create temporary table if not exists staged_attachments (
            path text collate "C" not null, sha256 bytea not null, size bigint not null
        ) on commit delete rows;
        create temporary table if not exists staged_bases (
            source_id text collate "C" not null, target_id text collate "C" not null, source_hash bytea not null,
            result_hash bytea not null, remapping text not null, entry text
        ) on commit delete rows;
        create temporary table if not exists staged_secrets (
            id text collate "C" not null, definition jsonb compression lz4 not null, base_revision bigint not null
        ) on commit delete rows;
        "#,
        )
        .await?;
    Ok(())
}

/// A resource as it is to be written.
#[derive(Debug)]
pub struct StagedResource<'a> {
    /// Its place in the request or the package.
    pub ordinal: i32,
    /// Its ID here.
    pub id: &'a ResourceId,
    /// Its type.
    pub kind: &'a ResourceType,
    /// Its name here.
    pub name: &'a str,
    /// Its directory here.
    pub directory: &'a str,
    /// The whole definition, secrets sealed, as JSON text.
    pub definition: &'a [u8],
    /// Of what counts as content.
    pub definition_hash: Hash,
    /// With name, directory and attachments.
    pub content_hash: Hash,
    /// Used when it is new; one that exists keeps its owner.
    pub owner: &'a str,
    /// The revision that it replaces; none when it is new.
    pub base_revision: Option<i64>,
    /// (which of the type's `[[child]]`, ID).
    pub children: &'a [(u16, String)],
    /// Its references.
    pub references: &'a [Reference],
    /// The paths that it names.
    pub attachments: &'a [String],
}

/// Rows on their way to the staging tables.
pub struct Staged {
    resources: Rows,
    references: Rows,
    paths: Rows,
}

impl Default for Staged {
    fn default() -> Self {
        let resources = [
            "ordinal",
            "id",
            "type",
            "name",
            "directory",
            "name_scope",
            "definition",
            "definition_hash",
            "content_hash",
            "children",
            "owner",
            "base_revision",
        ];
        let references = ["from_id", "ordinal", "rule", "kind", "acyclic", "to_id", "to_type", "to_name"];
        Self {
            resources: Rows::new("staged_resources", &resources),
            references: Rows::new("staged_references", &references),
            paths: Rows::new("staged_attachment_paths", &["resource_id", "path"]),
        }
    }
}

impl Staged {
    /// Adds a resource.
    pub fn add(&mut self, found: &StagedResource<'_>) {
        self.resources
            .row()
            .int(found.ordinal)
            .text(found.id.as_str())
            .text(&found.kind.key)
            .text(found.name)
            .text(found.directory)
            .maybe(found.kind.name_scope(found.directory))
            .json(found.definition)
            .bytes(&found.definition_hash.0)
            .bytes(&found.content_hash.0)
            .json(&found.kind.child_pairs(found.children))
            .text(found.owner)
            .maybe_big(found.base_revision);
        self.add_edges(found.id, found.kind, found.references, found.attachments);
    }

    /// Adds the references and attachment paths of a resource.
    pub fn add_edges(
        &mut self,
        id: &ResourceId,
        kind: &ResourceType,
        references: &[Reference],
        attachments: &[String],
    ) {
        for (ordinal, reference) in references.iter().enumerate() {
            let Some(rule) = kind.rules.get(reference.rule as usize) else { continue };
            let row = self.references.row().text(id.as_str()).int(ordinal as i32).small(reference.rule as i16);
            let row = row.text(rule.kind.as_str()).bool(rule.acyclic);
            match &reference.target {
                Target::Id(to) => row.text(to.as_str()).maybe(None).maybe(None),
                Target::Name(name) => row.maybe(None).maybe(rule.to.first().map(String::as_str)).text(name),
            };
        }
        for path in attachments {
            self.paths.row().text(id.as_str()).text(path);
        }
    }

    /// Appends what another set has gathered.
    pub fn append(&mut self, other: Staged) {
        self.resources.append(other.resources);
        self.references.append(other.references);
        self.paths.append(other.paths);
    }

    /// Bytes gathered so far.
    pub fn len(&self) -> usize {
        self.resources.len() + self.references.len() + self.paths.len()
    }

    /// Nothing gathered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends what is gathered, if it is more than `at_least` bytes.
    ///
    /// # Errors
    /// The database fails.
    pub async fn send(&mut self, connection: &mut PgConnection, at_least: usize) -> Result<(), DbError> {
        if self.len() >= at_least {
            self.resources.send(connection).await?;
            self.references.send(connection).await?;
            self.paths.send(connection).await?;
        }
        Ok(())
    }
}

/// Tells the planner what is staged: without it a merge of 10,000 rows takes a minute. Definitions are left
/// out: nothing is joined by them, and looking at them costs more than the rest of the staging.
///
/// # Errors
/// The database fails.
pub async fn analyze(connection: &mut PgConnection) -> Result<(), DbError> {
    connection.execute("analyze staged_resources (ordinal, id, base_revision); analyze staged_references (from_id); analyze staged_attachment_paths (resource_id); analyze staged_bases (source_id)")
    .await?;
    Ok(())
}
