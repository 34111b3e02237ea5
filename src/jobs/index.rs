//! The index of a package that is being parsed: which resources there are, at which place, and which of them the
//! domain has already, so that they are not read.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde::Deserialize;

use crate::app::App;
use crate::db::contents::{self, OwnBody, Wanted};
use crate::db::{DbError, PgConnection};
use crate::domain::closure::Reason;
use crate::domain::definition::Parts;
use crate::domain::import_plan::{Contents, Entry};
use crate::domain::manifest::{Manifest, ValuesLine};
use crate::domain::overlay::Overlay;
use crate::domain::pages::{Page, PageLine};
use crate::domain::resource::{Hash, ResourceId, content_hash, parse_directory, parse_name};
use crate::domain::{json, overlay, pages};
use crate::package::PackageError;
use crate::package::reader::Package;

use super::JobError;

/// A line of the index as far as it counts: references and children are found anew.
#[derive(Deserialize)]
pub(super) struct Line {
    pub(super) id: ResourceId,
    #[serde(rename = "type")]
    pub(super) type_key: String,
    pub(super) name: String,
    pub(super) directory: String,
    content_hash: Hash,
    pub(super) definition_hash: Hash,
    pub(super) reason: Reason,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default)]
    left_out: bool,
    /// (path, hash of the bytes that the package has), in the order of the paths.
    pub(super) attachments: Vec<(String, Option<Hash>)>,
}

impl Line {
    /// The bytes of an attachment.
    pub(super) fn bytes(&self, path: &str) -> Option<Hash> {
        let at = self.attachments.binary_search_by(|(known, _)| known.as_str().cmp(path)).ok()?;
        self.attachments[at].1
    }
}

/// An index as far as it is read.
struct Reading {
    lines: Vec<Line>,
    sent: Vec<usize>,
    seen: HashSet<ResourceId>,
    most: u64,
}

impl Reading {
    fn add(&mut self, mut line: Line) -> Result<(), PackageError> {
        if self.lines.len() as u64 >= self.most {
            return Err(PackageError::Limit(format!("it has more than {} resources", self.most)));
        }
        if !self.seen.insert(line.id.clone()) {
            return Err(PackageError::Tampered(format!("it lists the resource {} twice", line.id)));
        }
        check_words(&line.type_key, &line.name, &line.directory)
            .map_err(|reason| PackageError::Tampered(format!("the resource {}: {reason}", line.id)))?;
        line.attachments.sort_unstable();
        if !line.left_out {
            self.sent.push(self.lines.len());
        }
        self.lines.push(line);
        Ok(())
    }
}

/// The index of a package, with what belongs to the environment that it comes from.
pub(super) struct Index {
    pub(super) lines: Vec<Line>,
    /// The place of each resource whose contents the package has, in their order.
    sent: Vec<usize>,
    /// The attachments whose bytes the package has.
    present: HashSet<Hash>,
    values: HashMap<ResourceId, Overlay>,
    thin: bool,
    /// The package holds secrets.
    pub(super) secrets: bool,
    /// Nothing stands in it but in pages that were here before.
    pub(super) all_paged: bool,
}

impl Index {
    /// Reads it, up to so many lines.
    /// `pages`: the lines of those that are not in the package, as it was said before what stands in them.
    pub(super) fn read(package: &mut Package, pages: &[String], most: u64) -> Result<Self, PackageError> {
        let thin = package.manifest.thin.is_some();
        let present: HashSet<Hash> = package.attachments().into_iter().map(|(hash, _)| hash).collect();
        let mut reading = Reading { lines: Vec::new(), sent: Vec::new(), seen: HashSet::new(), most };
        package.index::<PackageError>(&mut |batch| {
            for text in batch.iter() {
                let mut line: Line =
                    json::outside(text).map_err(|error| PackageError::unread("index.ndjson", &error))?;
                for (_, hash) in &mut line.attachments {
                    *hash = hash.filter(|hash| thin || present.contains(hash));
                }
                line.left_out &= thin;
                reading.add(line)?;
            }
            Ok(())
        })?;
        let (mut values, secrets) = (values(package, &reading.seen)?, package.has_secrets());
        let all_paged = reading.lines.is_empty();
        for text in pages.iter().flat_map(|lines| lines.lines()) {
            let PageLine {
                id,
                type_key,
                name,
                directory,
                content_hash,
                definition_hash,
                reason,
                owner,
                attachments,
                values: own,
            } = serde_json::from_str(text).map_err(|error| PackageError::Tampered(format!("a page: {error}")))?;
            if own != Overlay::default() {
                values.insert(id.clone(), own);
            }
            let left_out = true;
            reading.add(Line {
                id,
                type_key,
                name,
                directory,
                content_hash,
                definition_hash,
                reason,
                owner,
                left_out,
                attachments,
            })?;
        }
        let Reading { lines, sent, .. } = reading;
        Ok(Self { lines, sent, present, values, thin, secrets, all_paged })
    }

    /// It in pages, as whoever sent it would cut them.
    pub(super) fn pages(&self) -> Result<Vec<Page>, serde_json::Error> {
        let line = |line: &Line| PageLine {
            id: line.id.clone(),
            type_key: line.type_key.clone(),
            name: line.name.clone(),
            directory: line.directory.clone(),
            content_hash: line.content_hash,
            definition_hash: line.definition_hash,
            reason: line.reason,
            owner: line.owner.clone(),
            attachments: line.attachments.clone(),
            values: self.values(&line.id).cloned().unwrap_or_default(),
        };
        pages::cut(self.lines.iter().map(line).collect())
    }

    /// The bodies that the domain has of what it lists, by ID.
    pub(super) async fn own_bodies(
        &self,
        connection: &mut PgConnection,
        domain_id: i32,
    ) -> Result<HashMap<String, OwnBody>, DbError> {
        let ids: Vec<String> = self.lines.iter().map(|line| line.id.to_string()).collect();
        contents::own_bodies(connection, domain_id, &ids).await
    }

    /// How many resources it lists.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The place of the n-th resource with contents, which must have this ID.
    pub(super) fn place(&self, nth: usize, id: &ResourceId) -> Option<usize> {
        self.sent.get(nth).copied().filter(|place| self.lines[*place].id == *id)
    }

    /// The n-th resource with contents is at this place.
    pub(super) fn nth(&self, nth: usize) -> Option<usize> {
        self.sent.get(nth).copied()
    }

    /// How many resources come with contents.
    pub(super) fn sent(&self) -> usize {
        self.sent.len()
    }

    /// The places of some resources with contents.
    pub(super) fn places(&self, range: Range<usize>) -> &[usize] {
        let end = range.end.min(self.sent.len());
        self.sent.get(range.start.min(end)..end).unwrap_or_default()
    }

    /// What of a resource belongs to the environment that it comes from.
    pub(super) fn values(&self, id: &ResourceId) -> Option<&Overlay> {
        self.values.get(id)
    }
}

fn values(package: &mut Package, listed: &HashSet<ResourceId>) -> Result<HashMap<ResourceId, Overlay>, PackageError> {
    let wrong = |reason: &str| PackageError::Tampered(format!("values.ndjson {reason}"));
    let mut values = HashMap::new();
    package.values::<PackageError>(&mut |batch| {
        for text in batch.iter() {
            let mut line: ValuesLine =
                json::outside(text).map_err(|error| PackageError::unread("values.ndjson", &error))?;
            for (_, own) in &mut line.values.0 {
                match own {
                    overlay::Own::Value(value) => json::normalise(value).map_err(|error| wrong(&error.to_string()))?,
                    // Nothing that is sealed for another place opens here.
                    overlay::Own::Sealed(_) => *own = overlay::Own::Set,
                    _ => {}
                }
            }
            if !listed.contains(&line.id) {
                return Err(wrong("names a resource that the index does not list"));
            }
            values.insert(line.id, line.values);
        }
        Ok(())
    })?;
    Ok(values)
}

/// A type, a name and a directory are such as an environment writes.
pub(super) fn check_words(type_key: &str, name: &str, directory: &str) -> Result<(), &'static str> {
    if parse_name(name).ok().is_none_or(|parsed| parsed != name) {
        return Err("its name is not one");
    }
    if parse_directory(directory).ok().is_none_or(|parsed| parsed != directory) {
        return Err("its directory is not one");
    }
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    if !(1..=64).contains(&type_key.len()) || !type_key.bytes().all(fits) {
        return Err("its type is not one");
    }
    Ok(())
}

/// The entries of resources whose body the domain has: by their place. Their bodies stay where they are, and
/// references, children and attachment paths come from there: believing the index so far only makes an import write
/// less. Only where both environments describe the type alike.
pub(super) async fn known(
    app: &App,
    connection: &mut PgConnection,
    domain_id: i32,
    manifest: &Manifest,
    index: &Index,
    own: &HashMap<String, OwnBody>,
) -> Result<HashMap<usize, Entry>, DbError> {
    let same_type = |key: &str| app.types.get(key).is_some_and(|kind| manifest.types.get(key) == Some(&kind.digest));
    let alike = |line: &Line| {
        let body = own.get(line.id.as_str())?;
        let same = body.type_key == line.type_key && body.definition_hash == line.definition_hash;
        (same && same_type(&line.type_key)).then_some(body.definition_id)
    };
    let found: Vec<(usize, i64)> =
        index.lines.iter().enumerate().filter_map(|(place, line)| Some((place, alike(line)?))).collect();
    let ids: Vec<String> = found.iter().map(|(place, _)| index.lines[*place].id.to_string()).collect();
    let mut parts = contents::parts(connection, &app.types, domain_id, &ids).await?;
    let entries = found.into_iter().filter_map(|(place, definition_id)| {
        let line = &index.lines[place];
        let Parts { references, children, attachments } = parts.remove(line.id.as_str())?;
        let with_bytes = |path: String| {
            let bytes = line.bytes(&path);
            (path, bytes)
        };
        let attachments: Vec<_> = attachments.into_iter().map(with_bytes).collect();
        let kind = app.types.get(&line.type_key)?;
        let entry = Entry {
            content_hash: content_hash(
                &line.type_key,
                &line.name,
                &line.directory,
                &line.definition_hash,
                &attachments,
            ),
            definition_hash: line.definition_hash,
            definition_id: Some(definition_id),
            references,
            children,
            attachments,
            own: index.values(&line.id).map(|own| own.fitting(kind)).unwrap_or_default(),
            contents: Contents::Sent,
            ..bare(line)
        };
        Some((place, entry))
    });
    Ok(entries.collect())
}

/// All entries in the order of the index. What a thin package leaves out and the domain does not have as a body may
/// stand as what an earlier import made of it.
pub(super) async fn complete(
    app: &App,
    connection: &mut PgConnection,
    domain_id: i32,
    manifest: &Manifest,
    index: &Index,
    mut found: HashMap<usize, Entry>,
) -> Result<Vec<Entry>, JobError> {
    if let Some(thin) = &manifest.thin
        && thin.base != app.identity.id
    {
        let reason = "it leaves out what another environment has, and was made for that one alone";
        return Err(PackageError::Incomplete(reason.to_owned()).into());
    }
    let same_type = |key: &str| app.types.get(key).is_some_and(|kind| manifest.types.get(key) == Some(&kind.digest));
    let left =
        index.lines.iter().enumerate().filter(|(place, line)| !found.contains_key(place) && same_type(&line.type_key));
    let wanted: Wanted = left.map(|(_, line)| (line.id.to_string(), line.content_hash)).collect();
    let mut stands: HashMap<ResourceId, Entry> = HashMap::new();
    if !wanted.is_empty() {
        let bases = contents::bases(connection, &app.types, domain_id, &manifest.environment.id, &wanted).await?;
        stands.extend(bases.into_iter().map(|(entry, _)| (entry.id.clone(), entry)));
    }
    let mut entries = Vec::with_capacity(index.len());
    for (place, line) in index.lines.iter().enumerate() {
        entries.push(match found.remove(&place) {
            Some(entry) => entry,
            None => match stands.remove(&line.id) {
                Some(entry) => Entry { reason: line.reason, ..entry },
                None => bare(line),
            },
        });
    }
    if index.thin {
        find_partial(connection, domain_id, index, &mut entries).await?;
    }
    Ok(entries)
}

/// What the index says of a resource that nobody has.
pub(super) fn bare(line: &Line) -> Entry {
    Entry {
        id: line.id.clone(),
        type_key: line.type_key.clone(),
        name: line.name.clone(),
        directory: line.directory.clone(),
        owner: line.owner.as_deref().and_then(|owner| parse_name(owner).ok()),
        reason: line.reason,
        content_hash: line.content_hash,
        definition_hash: line.definition_hash,
        references: Vec::new(),
        children: Vec::new(),
        attachments: Vec::new(),
        invalid: None,
        contents: Contents::Lacking,
        definition_id: None,
        own: Overlay::default(),
        openings: None,
    }
}

/// What was sent without attachment bytes that this domain does not have is not complete, wherever else they are.
async fn find_partial(
    connection: &mut PgConnection,
    domain_id: i32,
    index: &Index,
    entries: &mut [Entry],
) -> Result<(), JobError> {
    let named: HashSet<Hash> =
        entries.iter().flat_map(|entry| &entry.attachments).filter_map(|(_, hash)| *hash).collect();
    let own = contents::attachments(connection, domain_id, &named).await?;
    for entry in entries.iter_mut().filter(|entry| entry.contents.are_sent()) {
        let there = |hash: &Hash| index.present.contains(hash) || own.contains_key(hash);
        if entry.attachments.iter().any(|(_, hash)| hash.is_some_and(|hash| !there(&hash))) {
            entry.contents = Contents::Partial;
        }
    }
    Ok(())
}
