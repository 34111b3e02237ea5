//! Staging tables: one set per connection, temporary, emptied by every commit. What is to be written
//! stands in them before any lock is taken; a killed worker leaves nothing behind. Bodies are not staged here: they
//! are in `definitions` already.

use sqlx::{Executor, PgConnection};

use crate::domain::definition::{Parts, Reference, Target};
use crate::domain::overlay::Overlay;
use crate::domain::resource::{Hash, ResourceId};
use crate::domain::resource_type::ResourceType;

use super::DbError;
use super::copy::Rows;

/// Makes the staging tables where the connection does not have them: not every request stages something.
pub async fn ensure(connection: &mut PgConnection) -> Result<(), DbError> {
    let there = sqlx::query_scalar::<_, bool>("select to_regclass('pg_temp.staged_bases') is not null");
    if !there.fetch_one(&mut *connection).await? {
        prepare(connection).await?;
    }
    Ok(())
}

/// Makes the staging tables of a new connection.
pub(super) async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection
        .execute(
            r#"
        create temporary table if not exists staged_resources (
            ordinal integer not null, id text collate "C" not null, type text not null, name text collate "C" not null,
            directory text collate "C" not null, name_scope text collate "C", owner text not null,
            definition_id bigint not null, definition_hash bytea not null, content_hash bytea not null,
            parts_hash bytea not null, new_parts boolean not null, children jsonb not null, attachments jsonb not null,
            overlay text, base_revision bigint
        ) on commit delete rows;
        create temporary table if not exists staged_references (
            from_id text collate "C" not null, ordinal integer not null, rule smallint not null, kind text not null,
            acyclic boolean not null, to_id text collate "C", to_type text, to_name text collate "C"
        ) on commit delete rows;
        create temporary table if not exists staged_attachments (
            path text collate "C" not null, sha256 bytea not null, size bigint not null
        ) on commit delete rows;
        create temporary table if not exists staged_bases (
            source_id text collate "C" not null, target_id text collate "C" not null, source_hash bytea not null,
            result_hash bytea not null, remapping text not null, entry text, type_digest bytea, is_new boolean not null
        ) on commit delete rows;
        "#,
        )
        .await?;
    Ok(())
}

/// A resource as it is to be written: a pointer at its body, which is there already.
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
    /// Used when it is new; one that exists keeps its owner.
    pub owner: &'a str,
    /// Its body.
    pub definition_id: i64,
    /// Of the body.
    pub definition_hash: Hash,
    /// With name, directory and attachments.
    pub content_hash: Hash,
    /// What belongs to this environment alone.
    pub overlay: &'a Overlay,
    /// References, children, attachment paths.
    pub parts: &'a Parts,
    /// The hashes of the attachments' bytes, by path.
    pub attachments: &'a [(String, Option<Hash>)],
    /// What it replaces; none when it is new.
    pub base: Option<Replaced>,
}

/// The version that is replaced.
#[derive(Debug, Clone, Copy)]
pub struct Replaced {
    /// Its revision.
    pub revision: i64,
    /// Of its references, children and attachment paths: alike ones are left alone.
    pub parts_hash: Hash,
}

/// Rows on their way to the staging tables.
pub struct Staged {
    resources: Rows,
    references: Rows,
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
            "owner",
            "definition_id",
            "definition_hash",
            "content_hash",
            "parts_hash",
            "new_parts",
            "children",
            "attachments",
            "overlay",
            "base_revision",
        ];
        let references = ["from_id", "ordinal", "rule", "kind", "acyclic", "to_id", "to_type", "to_name"];
        Self {
            resources: Rows::new("staged_resources", &resources),
            references: Rows::new("staged_references", &references),
        }
    }
}

impl Staged {
    /// Adds a resource.
    pub fn add(&mut self, found: &StagedResource<'_>) {
        let parts_hash = found.parts.hash(found.kind);
        let new_parts = found.base.is_none_or(|base| base.parts_hash != parts_hash);
        let overlay = (!found.overlay.is_empty()).then(|| serde_json::to_string(found.overlay).unwrap_or_default());
        self.resources
            .row()
            .int(found.ordinal)
            .text(found.id.as_str())
            .text(&found.kind.key)
            .text(found.name)
            .text(found.directory)
            .maybe(found.kind.name_scope(found.directory))
            .text(found.owner)
            .big(found.definition_id)
            .bytes(&found.definition_hash.0)
            .bytes(&found.content_hash.0)
            .bytes(&parts_hash.0)
            .bool(new_parts)
            .json(&found.kind.child_pairs(&found.parts.children))
            .json(&serde_json::to_vec(found.attachments).unwrap_or_default())
            .maybe(overlay.as_deref())
            .maybe_big(found.base.map(|base| base.revision));
        if new_parts {
            self.add_edges(found.id, found.kind, &found.parts.references);
        }
    }

    fn add_edges(&mut self, id: &ResourceId, kind: &ResourceType, references: &[Reference]) {
        for (ordinal, reference) in references.iter().enumerate() {
            let Some(rule) = kind.rules.get(reference.rule as usize) else { continue };
            let row = self.references.row().text(id.as_str()).int(ordinal as i32).small(reference.rule as i16);
            let row = row.text(rule.kind.as_str()).bool(rule.acyclic);
            match &reference.target {
                Target::Id(to) => row.text(to.as_str()).maybe(None).maybe(None),
                Target::Name(name) => row.maybe(None).maybe(rule.to.first().map(String::as_str)).text(name),
            };
        }
    }

    /// Appends what another set has gathered.
    pub fn append(&mut self, other: Staged) {
        self.resources.append(other.resources);
        self.references.append(other.references);
    }

    /// Bytes gathered so far.
    pub fn len(&self) -> usize {
        self.resources.len() + self.references.len()
    }

    /// Nothing gathered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends what is gathered, if it is more than `at_least` bytes.
    ///
    /// # Errors
    /// The database refuses a row.
    pub async fn send(&mut self, connection: &mut PgConnection, at_least: usize) -> Result<(), DbError> {
        if self.len() >= at_least {
            self.resources.send(connection).await?;
            self.references.send(connection).await?;
        }
        Ok(())
    }
}

/// Tells the planner what is staged: without it a merge of 10,000 rows takes a minute.
pub async fn analyze(connection: &mut PgConnection) -> Result<(), DbError> {
    connection
        .execute("set local default_statistics_target = 10; analyze staged_resources (ordinal, id, base_revision); analyze staged_references (from_id); analyze staged_bases (source_id)")
        .await?;
    Ok(())
}
