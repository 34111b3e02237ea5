//! The arrows of ARCHITECTURE.md, read off the `use crate::` lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Room → the rooms that it may know.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["api", "config", "db", "package", "postgres", "remote", "secrets", "server", "telemetry", "wire"]),
    ("server", &["api", "app", "config", "jobs", "page"]),
    ("page", &[]),
    ("api", &["app", "config", "db", "domain", "package", "planning", "remote", "secrets", "store", "trust", "wire"]),
    ("jobs", &["app", "db", "domain", "package", "planning", "remote", "secrets", "store", "trust", "wire"]),
    ("planning", &["app", "db", "domain", "package", "secrets", "store", "wire"]),
    ("trust", &["app", "config", "db", "domain"]),
    ("app", &["config", "db", "domain", "package", "remote", "secrets", "store", "telemetry"]),
    ("remote", &["domain", "wire"]),
    ("wire", &["domain"]),
    ("db", &["domain"]),
    ("store", &["domain"]),
    ("package", &["domain"]),
    ("secrets", &["domain"]),
    ("domain", &[]),
    ("config", &[]),
    ("postgres", &[]),
    ("telemetry", &[]),
    ("lib", &[]),
];

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

fn sources() -> Vec<(String, PathBuf, String)> {
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

#[test]
fn every_room_knows_only_the_rooms_that_it_may() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mention = regex::Regex::new(r"\b(?:crate|ferry)::(?:\{([^}]*)\}|([a-z_]+))").unwrap();
    for (room, path, text) in sources() {
        let allowed = arrows.get(room.as_str()).unwrap_or_else(|| panic!("{room} is not in the table"));
        for found in mention.captures_iter(&text) {
            let listed = found.get(1).or(found.get(2)).unwrap().as_str();
            for other in listed.split(',').map(|part| part.trim().split("::").next().unwrap()) {
                let known = ARROWS.iter().any(|(name, _)| *name == other);
                assert!(
                    !known || other == room || allowed.contains(&other),
                    "{}: {room} must not know {other}",
                    path.display()
                );
            }
        }
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
