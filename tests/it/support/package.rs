//! Looking into packages, and making hostile ones out of good ones.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};

use ferry::package::signature::{Keys, sign};
use ferry::secrets::Signer25519;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::{Environment, User, comparable, scratch};

/// The entries of a package, unpacked.
pub fn entries(package: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = ZipArchive::new(Cursor::new(package)).unwrap();
    (0..archive.len())
        .map(|at| {
            let mut entry = archive.by_index(at).unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.name().unwrap().into_owned(), bytes)
        })
        .collect()
}

/// The names of a package's entries, in their order.
pub fn names(package: &[u8]) -> Vec<String> {
    let mut archive = ZipArchive::new(Cursor::new(package)).unwrap();
    (0..archive.len()).map(|at| archive.by_index(at).unwrap().name().unwrap().into_owned()).collect()
}

/// The lines of an entry.
pub fn lines(bytes: &[u8]) -> Vec<Value> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// Lines as an entry holds them.
pub fn text(lines: &[Value]) -> Vec<u8> {
    lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

/// A ZIP of some entries, in their order.
pub fn zip<'a>(entries: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The same, written as a stream: sizes and checksums stand after the data.
pub fn streamed<'a>(entries: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut writer = ZipWriter::new_stream(Vec::new());
    for (name, bytes) in entries {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A package taken apart, to be changed and put together again under a key of our own.
pub struct Forge {
    /// Without `entries`: they are made anew from the files.
    pub manifest: Value,
    /// Everything but manifest and signature, in the order of the archive.
    pub files: Vec<(String, Vec<u8>)>,
    /// Who signs.
    pub signer: Signer25519,
}

impl Forge {
    /// Of a good package; it claims to come from an environment that nobody knows yet.
    pub fn of(package: &[u8]) -> Self {
        let mut parts = entries(package);
        let mut manifest: Value = serde_json::from_slice(&parts["manifest.json"]).unwrap();
        let signer = Signer25519::from_seed(uuid::Uuid::new_v4().into_bytes().repeat(2).as_slice().try_into().unwrap());
        manifest["environment"]["id"] = json!(uuid::Uuid::new_v4().to_string());
        manifest["environment"]["public_key"] = json!(signer.public_key());
        let order =
            names(package).into_iter().filter(|name| !matches!(name.as_str(), "manifest.json" | "signature.json"));
        let files = order.map(|name| (name.clone(), parts.remove(&name).unwrap())).collect();
        Self { manifest, files, signer }
    }

    /// Changes the lines of an entry.
    pub fn edit(&mut self, name: &str, change: impl FnOnce(&mut Vec<Value>)) {
        let file = &mut self.files.iter_mut().find(|(known, _)| known == name).unwrap().1;
        let mut parsed = lines(file);
        change(&mut parsed);
        *file = text(&parsed);
    }

    /// All entries, manifest and signature last, the manifest in step with the files.
    pub fn parts(&self) -> Vec<(String, Vec<u8>)> {
        let line =
            |(name, bytes): &(String, Vec<u8>)| json!({"path": name, "size": bytes.len(), "sha256": sha256(bytes)});
        let mut manifest = self.manifest.clone();
        manifest["entries"] = self.files.iter().map(line).collect();
        self.signed(&serde_json::to_vec(&manifest).unwrap())
    }

    /// All entries with a manifest of any bytes, signed as it is.
    pub fn signed(&self, manifest: &[u8]) -> Vec<(String, Vec<u8>)> {
        let sign_bytes = |bytes: &[u8]| self.signer.sign(bytes);
        let id = self.manifest["environment"]["id"].as_str().unwrap_or_default();
        let signature = sign(manifest, &Keys { sign: &sign_bytes, key_id: id });
        let mut parts = self.files.clone();
        parts.push(("manifest.json".to_owned(), manifest.to_vec()));
        parts.push(("signature.json".to_owned(), signature));
        parts
    }

    /// The archive.
    pub fn build(&self) -> Vec<u8> {
        packed(&self.parts())
    }
}

/// A ZIP of owned entries.
pub fn packed(parts: &[(String, Vec<u8>)]) -> Vec<u8> {
    zip(parts.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))
}

/// An entry of which every word of the headers can be a lie.
#[derive(Clone)]
pub struct Raw {
    /// In the local header.
    pub local_name: Vec<u8>,
    /// In the central directory.
    pub name: Vec<u8>,
    pub bytes: Vec<u8>,
    /// General purpose bits; 1: encrypted.
    pub flags: u16,
    /// Of Unix, with the type of the file.
    pub mode: u32,
    /// Compression method.
    pub method: u16,
    /// The size that is declared.
    pub size: u32,
    pub crc: u32,
    /// Left out of the central directory.
    pub unlisted: bool,
}

impl Raw {
    /// An honest one.
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        Self {
            local_name: name.as_bytes().to_vec(),
            name: name.as_bytes().to_vec(),
            bytes: bytes.to_vec(),
            flags: 0x0800,
            mode: 0o100_644,
            method: 0,
            size: bytes.len() as u32,
            crc: crc32fast::hash(bytes),
            unlisted: false,
        }
    }
}

/// A stored ZIP that says what its entries say.
pub fn raw_zip(entries: &[Raw]) -> Vec<u8> {
    let (mut archive, mut directory, mut listed) = (Vec::new(), Vec::new(), 0u16);
    for entry in entries {
        let offset = archive.len() as u32;
        let mut common = Vec::new();
        for word in [20, entry.flags, entry.method, 0, 0x21] {
            common.extend(u16::to_le_bytes(word));
        }
        for word in [entry.crc, entry.bytes.len() as u32, entry.size] {
            common.extend(u32::to_le_bytes(word));
        }
        archive.extend(b"PK\x03\x04");
        archive.extend(&common);
        archive.extend((entry.local_name.len() as u16).to_le_bytes());
        archive.extend([0, 0]);
        archive.extend(&entry.local_name);
        archive.extend(&entry.bytes);
        if entry.unlisted {
            continue;
        }
        listed += 1;
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(&common);
        directory.extend((entry.name.len() as u16).to_le_bytes());
        directory.extend([0; 8]);
        directory.extend((entry.mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(&entry.name);
    }
    let start = archive.len() as u32;
    archive.extend(&directory);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend(listed.to_le_bytes());
    archive.extend(listed.to_le_bytes());
    archive.extend((directory.len() as u32).to_le_bytes());
    archive.extend(start.to_le_bytes());
    archive.extend([0, 0]);
    archive
}

/// What the honest package holds, and the package.
pub struct Honest {
    pub catalogue: Vec<Value>,
    pub package: Vec<u8>,
}

/// Five resources and an attachment, exported once.
pub async fn honest() -> &'static Honest {
    static HONEST: OnceCell<Honest> = OnceCell::const_new();
    HONEST
        .get_or_init(|| async {
            let test = Environment::start("test").await;
            let user = test.admin();
            user.attachment("/images/a.png", b"the bytes of a picture").await.is(201);
            user.resource("da", "data_account", "Account", "/", json!({"host": "a", "password": "p"})).await;
            let dataset = json!({"data_account_id": "da", "fields": [{"id": "f1"}, {"id": "f2"}]});
            user.resource("ds", "dataset", "Orders", "/Sales", dataset).await;
            let card = json!({"dataset_id": "ds", "images": ["/images/a.png"]});
            user.resource("c1", "card", "Über 图", "/Sales", card.clone()).await;
            user.resource("c2", "card", "Another", "/Sales", card).await;
            let page = json!({"cards": [{"card_id": "c1"}, {"card_id": "c2"}]});
            user.resource("p", "page", "Page", "/Sales", page).await;
            let catalogue = user.catalogue().await.iter().map(comparable).collect();
            let package = user.export_all().await;
            test.end().await;
            Honest { catalogue, package }
        })
        .await
}

/// The code of a refusal; an accepted package gives the state in which it waits.
pub async fn verdict(user: &User, package: &[u8]) -> String {
    let answer = user.post_package(package).await;
    if answer.status != 202 {
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{}", answer.text());
        return answer.json()["code"].as_str().unwrap().to_owned();
    }
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let record = user.wait(&id, |status| !matches!(status, "queued" | "running")).await;
    match record["error"]["code"].as_str() {
        Some(code) if record["status"] == "failed" => code.to_owned(),
        _ => format!("accepted: {}", record["status"]),
    }
}

/// A refused package leaves no resource, nothing parsed, no file.
pub async fn assert_nothing_left(environment: &Environment, what: &str) {
    let user = environment.admin();
    assert_eq!(user.catalogue().await, Vec::<Value>::new(), "{what}");
    let mut connection = environment.sql().await;
    for table in ["import_entries", "record_items", "pinned_sources", "attachments", "import_bases"] {
        let query = format!("select count(*) from {table}");
        let left: i64 = sqlx::query_scalar(&query).fetch_one(&mut connection).await.unwrap();
        assert_eq!(left, 0, "{what}: {table}");
    }
    let files = |folder: &str| {
        let found = std::fs::read_dir(environment.files.path().join(folder)).into_iter().flatten();
        found.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    // What a limit refused may be tried again with another limit.
    let curable = "select count(*) from records where error ->> 'code' = 'package_limit_exceeded'";
    let kept: i64 = sqlx::query_scalar(curable).fetch_one(&mut connection).await.unwrap();
    // A file may go just after the record's end.
    for _ in 0..100 {
        if files("store/packages").len() as i64 == kept && scratch(environment.files.path()).is_empty() {
            break;
        }
        user.get("/healthz").await;
    }
    assert_eq!(files("store/packages").len() as i64, kept, "{what}: the store keeps the package");
    assert_eq!(scratch(environment.files.path()), Vec::<std::path::PathBuf>::new(), "{what}");
}

/// Every case is refused with its code (or one of several, `a|b`), and nothing is left.
pub async fn assert_refused(more: &str, cases: Vec<(String, Vec<u8>, &str)>) {
    let environment = Environment::configured("production", more).await;
    let user = environment.admin();
    let mut wrong = Vec::new();
    for (name, package, expected) in &cases {
        let code = verdict(&user, package).await;
        if !expected.split('|').any(|one| one == code) {
            wrong.push(format!("{name}: {code}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_nothing_left(&environment, "after all cases").await;
    environment.end().await;
}

pub fn case(name: impl ToString, package: Vec<u8>, expected: &'static str) -> (String, Vec<u8>, &'static str) {
    (name.to_string(), package, expected)
}

/// The honest package as raw entries, and one more that the manifest names too.
pub fn with_entry(honest: &Honest, change: impl FnOnce(&mut Raw)) -> Vec<u8> {
    let mut extra = Raw::new("resources/00002.ndjson", b"");
    change(&mut extra);
    let mut forge = Forge::of(&honest.package);
    forge.files.push((String::from_utf8_lossy(&extra.name).into_owned(), extra.bytes.clone()));
    let mut raw: Vec<Raw> = forge.parts().iter().map(|(name, bytes)| Raw::new(name, bytes)).collect();
    let place = raw.len() - 3;
    raw[place] = extra;
    raw_zip(&raw)
}

/// The same with a plain entry of a name.
pub fn named(honest: &Honest, name: &str) -> Vec<u8> {
    with_entry(honest, |raw| *raw = Raw::new(name, b"content"))
}
