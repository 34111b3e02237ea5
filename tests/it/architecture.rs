//! The arrows of ARCHITECTURE.md, beside every path to another room in the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// Room → the rooms that it may know.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let (_, table) = text.split_once("## Arrows").and_then(|(_, rest)| rest.split_once("```\n")).unwrap();
    let (table, _) = table.split_once("```").unwrap();
    let row = |line: &str| {
        let (room, others) = line.split_once('→').unwrap();
        (room.trim().to_owned(), others.split(',').map(|other| other.trim().to_owned()).collect())
    };
    table.lines().map(row).collect()
}

/// Crates that only some rooms may use.
const KEPT: &[(&str, &[&str])] = &[
    ("sqlx", &["db"]),
    ("reqwest", &["remote"]),
    ("axum", &["api", "page", "server"]),
    ("hyper", &["server"]),
    ("tokio_rustls", &["server"]),
    ("zip", &["package"]),
    ("object_store", &["store"]),
];

pub fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let inner = path.strip_prefix(&root).unwrap();
                let room =
                    inner.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
                found.push((room, path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// The rooms that a file names.
struct Named(BTreeSet<String>);

impl Named {
    fn of(text: &str) -> Self {
        let mut named = Self(BTreeSet::new());
        named.visit_file(&syn::parse_file(text).unwrap());
        named
    }

    /// What follows `crate` or `ferry` in a `use`, whatever is nested in braces.
    fn below(&mut self, tree: &syn::UseTree, ours: bool) {
        match tree {
            syn::UseTree::Path(path) if ours => _ = self.0.insert(path.ident.to_string()),
            syn::UseTree::Path(path) => self.below(&path.tree, path.ident == "crate" || path.ident == "ferry"),
            syn::UseTree::Name(name) if ours => _ = self.0.insert(name.ident.to_string()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.below(tree, ours)),
            _ => {}
        }
    }
}

impl<'a> Visit<'a> for Named {
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.below(&item.tree, false);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let mut segments = path.segments.iter();
        if segments.next().is_some_and(|first| first.ident == "crate" || first.ident == "ferry") {
            self.0.extend(segments.next().map(|second| second.ident.to_string()));
        }
        visit::visit_path(self, path);
    }
}

#[test]
fn every_room_knows_the_rooms_that_the_table_says() {
    let allowed = arrows();
    let rooms: BTreeSet<String> = sources().into_iter().map(|(room, ..)| room).collect();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (room, path, text) in sources().into_iter().filter(|(room, ..)| room != "lib") {
        for other in Named::of(&text).0.into_iter().filter(|other| *other != room && rooms.contains(other)) {
            let known = allowed.get(&room).is_some_and(|others| others.contains(&other));
            assert!(known, "{}: {room} must not know {other}", path.display());
            found.entry(room.clone()).or_default().insert(other);
        }
    }
    for (room, others) in allowed {
        let gone: Vec<&String> = others.iter().filter(|other| !found[&room].contains(*other)).collect();
        assert!(gone.is_empty(), "{room} needs none of {gone:?}: they can leave the table");
    }
}

#[test]
fn crates_stay_in_their_rooms() {
    let paths: Vec<_> = KEPT.iter().map(|(name, _)| regex::Regex::new(&format!(r"\b{name}::")).unwrap()).collect();
    for (room, path, text) in sources() {
        for ((name, rooms), used) in KEPT.iter().zip(&paths) {
            let uses = text.lines().any(|line| !line.trim_start().starts_with("//") && used.is_match(line));
            assert!(!uses || rooms.contains(&room.as_str()), "{}: {name} belongs to {rooms:?}", path.display());
        }
    }
}

#[test]
fn json_from_outside_has_one_door() {
    let other = regex::Regex::new(r"serde_json::from_(slice|reader)|\.json\(\)\.await").unwrap();
    for (_, path, text) in sources().into_iter().filter(|(_, path, _)| !path.ends_with("domain/json.rs")) {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let found: Vec<&str> = code.filter(|line| other.is_match(line)).collect();
        assert!(found.is_empty(), "{}: {found:?} does not go through domain::json::outside", path.display());
    }
}

#[test]
fn no_resource_type_is_named_in_the_engine() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/resource-types");
    let keys: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 12);
    for (room, path, text) in sources().into_iter().filter(|(room, ..)| room != "cli") {
        for key in &keys {
            assert!(!text.contains(&format!("\"{key}\"")), "{}: {room} names the type {key}", path.display());
        }
    }
}

/// The nouns of `api/` are the routes' files; `http` is below them, and no circle joins them.
#[test]
fn nouns_of_the_api_stand_above_http_and_in_no_circle() {
    let path = regex::Regex::new(r"crate::api::([a-z_]+)").unwrap();
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, file, text) in sources() {
        let Some((_, inner)) = file.to_str().unwrap().rsplit_once("/src/api/") else { continue };
        let noun = inner.split(['/', '.']).next().unwrap().to_owned();
        let others = path.captures_iter(&text).map(|found| found[1].to_owned()).filter(|other| *other != noun);
        needs.entry(noun.clone()).or_default().extend(others);
    }
    assert!(needs["http"].is_empty(), "api/http needs {:?}", needs["http"]);
    while let Some(done) = needs.iter().find(|(_, others)| others.is_empty()).map(|(noun, _)| noun.clone()) {
        needs.remove(&done);
        needs.values_mut().for_each(|others| _ = others.remove(&done));
    }
    assert!(needs.is_empty(), "a circle in api/: {needs:?}");
}
