//! The index of a package that is being parsed: which resources there are, and at which place. A thin package
//! lists all of them and holds the contents of some; the others are read from what the domain has.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use crate::app::App;
use crate::db;
use crate::db::contents::{self, Wanted};
use crate::domain::closure::Reason;
use crate::domain::import_plan::{Contents, Entry};
use crate::domain::manifest::Manifest;
use crate::domain::resource::{Hash, ResourceId, parse_directory, parse_name};
use crate::package::PackageError;
use crate::package::reader::Package;

use super::JobError;
use super::parse::lines_of;

/// What the index says of a resource and its definition cannot: why it is here, and its attachments' bytes.
pub(super) struct Listed {
    pub(super) id: ResourceId,
    pub(super) reason: Reason,
    /// (path, hash of the bytes that the package has).
    pub(super) attachments: Vec<(String, Option<Hash>)>,
    /// What else it says, in a thin package.
    line: Option<Box<Line>>,
}

/// A line of the index as far as it counts: references and children are found anew.
#[derive(Deserialize)]
struct Line {
    id: ResourceId,
    #[serde(rename = "type")]
    type_key: String,
    name: String,
    directory: String,
    content_hash: Hash,
    reason: Reason,
    attachments: Vec<(String, Option<Hash>)>,
}

/// The index of a package.
pub(super) struct Index {
    pub(super) lines: Vec<Listed>,
    /// The place of each ID, in a thin package.
    places: Option<HashMap<ResourceId, usize>>,
    /// The attachments whose bytes the package has.
    present: HashSet<Hash>,
}

impl Index {
    /// Reads it, up to so many lines.
    pub(super) fn read(package: &mut Package, most: u64) -> Result<Self, PackageError> {
        let thin = package.manifest.thin.is_some();
        let present: HashSet<Hash> = package.attachments().into_iter().map(|(hash, _)| hash).collect();
        let mut lines = Vec::new();
        let mut places = HashMap::new();
        package.index::<PackageError>(&mut |batch| {
            for text in lines_of(&batch.text) {
                let mut line: Line = serde_json::from_slice(text)
                    .map_err(|error| PackageError::Tampered(format!("index.ndjson: {error}")))?;
                if lines.len() as u64 >= most {
                    return Err(PackageError::Limit(format!("it has more than {most} resources")));
                }
                if places.insert(line.id.clone(), lines.len()).is_some() {
                    return Err(PackageError::Tampered(format!("it lists the resource {} twice", line.id)));
                }
                check_words(&line.type_key, &line.name, &line.directory)
                    .map_err(|reason| PackageError::Tampered(format!("the resource {}: {reason}", line.id)))?;
                let bytes = |hash: Option<Hash>| hash.filter(|hash| thin || present.contains(hash));
                let named = std::mem::take(&mut line.attachments);
                let attachments = named.into_iter().map(|(path, hash)| (path, bytes(hash))).collect();
                let (id, reason) = (line.id.clone(), line.reason);
                lines.push(Listed { id, reason, attachments, line: thin.then(|| Box::new(line)) });
            }
            Ok(())
        })?;
        Ok(Self { lines, places: thin.then_some(places), present })
    }

    /// How many resources it lists.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The place of a resource that is the n-th with contents.
    pub(super) fn place(&self, nth: usize, id: &ResourceId) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(id).copied(),
            None => self.lines.get(nth).filter(|listed| listed.id == *id).map(|_| nth),
        }
    }
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

/// All entries in the order of the index, from those whose contents the package has: what a thin one leaves
/// out is read from what the domain has.
pub(super) async fn complete(
    app: &App,
    domain_id: i32,
    manifest: &Manifest,
    index: &Index,
    sent: Vec<(usize, Entry)>,
) -> Result<Vec<Entry>, JobError> {
    if !sent.is_sorted_by(|one, next| one.0 < next.0) {
        return Err(PackageError::Tampered("its resources are not in the order of its index".to_owned()).into());
    }
    let Some(thin) = &manifest.thin else {
        if sent.len() != index.len() {
            let reason = format!("the index lists {} resources, {} are there", index.len(), sent.len());
            return Err(PackageError::Incomplete(reason).into());
        }
        return Ok(sent.into_iter().map(|(_, entry)| entry).collect());
    };
    if thin.base != app.identity.id {
        let reason = "it leaves out what another environment has, and was made for that one alone";
        return Err(PackageError::Incomplete(reason.to_owned()).into());
    }
    let mut connection = app.pool.acquire().await.map_err(db::DbError::from)?;
    let there: HashSet<usize> = sent.iter().map(|(place, _)| *place).collect();
    let left: Vec<&Line> = index
        .lines
        .iter()
        .enumerate()
        .filter(|(place, _)| !there.contains(place))
        .filter_map(|(_, listed)| listed.line.as_deref())
        .collect();
    let mut had = had(app, &mut connection, domain_id, manifest, &left).await?;
    let mut sent = sent.into_iter().peekable();
    let mut entries = Vec::with_capacity(index.len());
    for (place, listed) in index.lines.iter().enumerate() {
        let entry = match sent.next_if(|(at, _)| *at == place) {
            Some((_, entry)) => Some(entry),
            None => listed.line.as_deref().map(|line| match had.remove(&line.id) {
                Some(entry) => Entry { reason: line.reason, ..entry },
                None => lacking(line),
            }),
        };
        entries.extend(entry);
    }
    find_partial(&mut connection, domain_id, index, &mut entries).await?;
    Ok(entries)
}

/// The compact forms of what the domain has of some contents that were left out.
async fn had(
    app: &App,
    connection: &mut db::PgConnection,
    domain_id: i32,
    manifest: &Manifest,
    left: &[&Line],
) -> Result<HashMap<ResourceId, Entry>, JobError> {
    let same_type = |key: &str| app.types.get(key).is_some_and(|kind| manifest.types.get(key) == Some(&kind.digest));
    let mut wanted: Wanted = left
        .iter()
        .filter(|line| same_type(&line.type_key))
        .map(|line| (line.id.to_string(), line.content_hash))
        .collect();
    let own: Vec<String> = contents::own(connection, domain_id, &wanted).await?.into_iter().map(|(id, _)| id).collect();
    let own = contents::entries(connection, &app.types, domain_id, &own).await?;
    // Between the two looks a resource may have moved.
    let mut had: HashMap<ResourceId, Entry> = own
        .into_iter()
        .filter(|entry| wanted.get(entry.id.as_str()) == Some(&entry.content_hash))
        .map(|entry| (entry.id.clone(), entry))
        .collect();
    wanted.retain(|id, _| !had.contains_key(id.as_str()));
    for (entry, _) in contents::bases(connection, domain_id, &manifest.environment.id, &wanted).await? {
        had.insert(entry.id.clone(), entry);
    }
    Ok(had)
}

/// What the index says of a resource that nobody has.
fn lacking(line: &Line) -> Entry {
    Entry {
        id: line.id.clone(),
        type_key: line.type_key.clone(),
        name: line.name.clone(),
        directory: line.directory.clone(),
        owner: None,
        reason: line.reason,
        content_hash: line.content_hash,
        definition_hash: line.content_hash,
        references: Vec::new(),
        children: Vec::new(),
        attachments: Vec::new(),
        invalid: None,
        contents: Contents::Lacking,
    }
}

/// What was sent without attachment bytes that this domain does not have is not complete, wherever else they are.
async fn find_partial(
    connection: &mut db::PgConnection,
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
