//! What holds after every fault.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::audit::audited;
use crate::support::process::Process;
use crate::support::{Environment, User, comparable};

/// Resources in a package here.
pub const MANY: usize = 3_000;

/// A catalogue of datasets, cards and pages that refer to each other; another `edition`, other contents.
pub fn catalogue(count: usize, edition: u32) -> Vec<Value> {
    let line = |at: usize| {
        let directory = format!("/Sales/{}", at % 7);
        let (kind, definition) = match at % 3 {
            0 => {
                let fields: Vec<Value> = (0..4).map(|field| json!({"id": format!("f{field}")})).collect();
                ("dataset", json!({"fields": fields, "edition": edition}))
            }
            1 => ("card", json!({"dataset_id": format!("r{}", at - 1), "title": format!("edition {edition}")})),
            _ => ("page", json!({"cards": [{"card_id": format!("r{}", at - 1)}], "edition": edition})),
        };
        json!({"id": format!("r{at}"), "type": kind, "name": format!("Resource {at}"), "directory": directory, "definition": definition})
    };
    (0..count).map(line).collect()
}

/// Two editions of the same catalogue, as packages, and what a target holds after each.
pub struct Editions {
    pub packages: [Vec<u8>; 2],
    pub catalogues: [Vec<Value>; 2],
}

/// Made once for all tests.
pub async fn editions() -> &'static Editions {
    static EDITIONS: tokio::sync::OnceCell<Editions> = tokio::sync::OnceCell::const_new();
    EDITIONS
        .get_or_init(|| async {
            let source = Environment::start("test").await;
            let user = source.admin();
            let mut made = Vec::new();
            for edition in [1, 2] {
                user.batch(&catalogue(MANY, edition)).await;
                made.push((user.export_all().await, contents(&user).await));
            }
            source.end().await;
            let (packages, catalogues): (Vec<_>, Vec<_>) = made.into_iter().unzip();
            Editions { packages: packages.try_into().unwrap(), catalogues: catalogues.try_into().unwrap() }
        })
        .await
}

/// The catalogue without what differs between environments.
pub async fn contents(user: &User) -> Vec<Value> {
    user.catalogue().await.iter().map(comparable).collect()
}

/// ID and content hash of each resource, as the database has them.
pub async fn hashes(process: &Process) -> BTreeMap<String, String> {
    let mut connection = process.sql().await;
    let rows: Vec<(String, String)> =
        sqlx::query_as("select id, 'sha256:' || encode(content_hash, 'hex') from resources")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    rows.into_iter().collect()
}

/// The same as a catalogue says it.
pub fn hashes_of(catalogue: &[Value]) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    catalogue.iter().map(|resource| (text(&resource["id"]), text(&resource["content_hash"]))).collect()
}

/// An ended record: every item is final, the counts are those of the items, the audit has each change of state once,
/// no job is open, nothing is staged.
pub async fn settled(process: &Process, record: &Value) {
    let user = process.admin();
    assert!(record["finished_at"].is_string() && record["started_at"].is_string(), "{record}");
    let id = record["id"].as_str().unwrap();
    assert_eq!(user.get(&format!("/api/v1/records/{id}")).await.is(200), *record, "it has changed since its end");
    let items = user.items(id).await;
    let total = record["progress"]["total"].as_u64().unwrap();
    assert_eq!(items.len() as u64, total);
    assert_eq!(record["progress"]["done"].as_u64().unwrap(), total);
    let ids: std::collections::BTreeSet<_> = items.iter().map(|item| item["resource_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), items.len(), "an item is there twice");
    for word in ["create", "update", "unchanged", "skip", "map", "blocked"] {
        let found = items.iter().filter(|item| item["method"] == word).count();
        assert_eq!(record["counts"][word], found, "{word}");
    }
    for word in ["succeeded", "failed"] {
        // What is unchanged has succeeded too.
        let found = items.iter().filter(|item| item["status"] == word).count();
        assert_eq!(record["counts"][word], found, "{word}: {}", record["counts"]);
    }
    assert!(items.iter().all(|item| item["status"] != "pending"), "an item is not final");

    let mut connection = process.sql().await;
    audited(&mut connection, record).await;
    assert_eq!(ferry::db::jobs::open_count(&mut connection).await.unwrap(), 0, "jobs are left over");
    let entries: i64 =
        sqlx::query_scalar("select count(*) from import_entries").fetch_one(&mut connection).await.unwrap();
    assert_eq!(entries, 0, "parsed entries are left over");
    if record["status"] == "succeeded" {
        nothing_staged(&mut connection, record).await;
    }
}

/// Every body belongs to a version, or to a run of another record.
async fn nothing_staged(connection: &mut sqlx::PgConnection, record: &Value) {
    let id: uuid::Uuid = record["id"].as_str().unwrap().parse().unwrap();
    let runs: i64 = sqlx::query_scalar("select count(*) from runs where record_id = $1")
        .bind(id)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    let bodies: i64 = sqlx::query_scalar(
        "select count(*) from definitions d
         where not exists (select from resource_versions v where v.definition_id = d.id)
            and not exists (select from runs r where d.id >= r.block and d.id < r.block + 16777216)",
    )
    .fetch_one(connection)
    .await
    .unwrap();
    assert_eq!((runs, bodies), (0, 0), "runs and bodies are left over");
}

/// A succeeded import: the target holds what the package held, once, and the same again changes nothing.
pub async fn invariants(process: &Process, record: &Value, package: &[u8], expected: &[Value]) {
    assert_eq!(record["status"], "succeeded", "{record}");
    settled(process, record).await;
    let user = process.admin();
    let found = contents(&user).await;
    assert!(found == expected, "the target does not hold what the source holds");
    for reference in found.iter().flat_map(|resource| resource["references"].as_array().unwrap()) {
        assert_eq!(reference["found"], true, "{reference}");
    }
    let again = user.import(package, json!({})).await;
    assert_eq!((&again["status"], &again["counts"]["unchanged"]), (&json!("succeeded"), &json!(found.len())));
    settled(process, &again).await;
    assert!(contents(&user).await == expected);
}

/// Executes an import as it was planned; does not wait for it.
pub async fn start(user: &User, id: &str) {
    user.send(user.request(reqwest::Method::POST, &format!("/api/v1/imports/{id}/execute"))).await.is(202);
}
