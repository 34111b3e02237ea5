//! Types are data: what their files declare, and files that are wrong or change.

use std::path::Path;

use ferry::app::StartError;
use ferry::config::Config;
use ferry::server::Server;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::package::{entries, lines};
use crate::support::{ADMIN, Environment, User};

/// A type with every kind of place in which a reference may stand.
pub const REPORT: &str = r#"
key = "report"
label = { en = "Report", zh = "报告", plural_en = "Reports" }
order = 200
unique_name = "domain"

[[reference]]
path = "$.sources"
role = "Source"
to = ["dataset", "report"]
kind = "use"
keys = true

[[reference]]
path = "$.position_json"
encoding = "json"
in = "$.rows[*].card"
role = "Chart"
to = ["card"]
kind = "part"

[[reference]]
path = "$.widgets[?@.kind == 'card'].ref"
role = "Widget"
to = ["card"]
kind = "part"

[[text_reference]]
path = "$..text"
pattern = '@\{([A-Za-z0-9_-]+)\}'
to = "dataset"
by = "id"
role = "Mentioned Dataset"
kind = "use"

[[text_reference]]
path = "$..text"
pattern = '%([^%]+)%'
to = "global_parameter"
by = "name"
role = "Parameter"
kind = "use"

[[child]]
path = "$.widgets[*].id"
key = "rp_wd"

[[attachment]]
path = "$.files[*].path"

[secrets]
paths = ["$.login.key"]

[environment_specific]
paths = ["$.url", "$.live"]

[on_create]
"$.live" = false

[schema]
type = "object"
required = ["title"]
"#;

pub fn report() -> Value {
    json!({
        "title": "T", "url": "http://test", "live": true, "login": {"key": "canary-4711"}, "files": [{"path": "/f/a.txt"}],
        "sources": {"ds1": {"alias": "x"}, "rp0": null},
        "position_json": "{\"rows\": [{\"card\": \"c1\"}, {\"card\": \"gone\"}], \"n\": 1.50}",
        "widgets": [{"id": "w1", "kind": "card", "ref": "c2"}, {"id": "w2", "kind": "text", "ref": "c3", "text": "see @{ds2} and %region%"}],
    })
}

pub async fn with_types(name: &str, folder: &Path) -> Environment {
    Environment::configured(name, &format!("server.resource_types_dir = {}", json!(folder))).await
}

pub async fn fill(user: &User) {
    for id in ["ds1", "ds2"] {
        user.resource(id, "dataset", id, "/", json!({})).await;
    }
    for id in ["c1", "c2", "c3"] {
        user.resource(id, "card", id, "/", json!({})).await;
    }
    user.resource("gp", "global_parameter", "region", "/", json!({})).await;
    user.attachment("/f/a.txt", b"file").await.is(201);
    user.resource("rp0", "report", "Zero", "/", json!({"title": "0"})).await;
    user.resource("rp", "report", "Report", "/", report()).await;
}

/// (role, ID, name, found), sorted.
fn references(resource: &Value) -> Vec<(String, Value, Value, bool)> {
    let line = |found: &Value| {
        (
            found["role"].as_str().unwrap().to_owned(),
            found["resource_id"].clone(),
            found["name"].clone(),
            found["found"] == true,
        )
    };
    let mut lines: Vec<_> = resource["references"].as_array().unwrap().iter().map(line).collect();
    lines.sort_by_key(|line| format!("{line:?}"));
    lines
}

#[tokio::test]
async fn a_type_of_ones_own_is_read_moved_and_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("report.toml"), REPORT).unwrap();
    std::fs::write(folder.path().join("README"), "not a type").unwrap();
    let (test, production) = (with_types("test", folder.path()).await, with_types("production", folder.path()).await);
    let (from, to) = (test.admin(), production.admin());
    fill(&from).await;
    let listed = from.get("/api/v1/resource-types").await.is(200);
    let kind = listed["items"].as_array().unwrap().iter().find(|kind| kind["key"] == "report").unwrap().clone();
    assert_eq!((&kind["label"]["zh"], listed["items"].as_array().unwrap().len()), (&json!("报告"), 13));

    let made = from.get("/api/v1/resources/rp").await.is(200);
    let line = |role: &str, id: &str, name: Option<&str>| (role.to_owned(), json!(id), json!(name), name.is_some());
    let mut expected = vec![
        line("Source", "ds1", Some("ds1")),
        line("Source", "rp0", Some("Zero")),
        line("Chart", "c1", Some("c1")),
        line("Chart", "gone", None),
        line("Widget", "c2", Some("c2")),
        line("Mentioned Dataset", "ds2", Some("ds2")),
        line("Parameter", "gp", Some("region")),
    ];
    expected.sort_by_key(|line| format!("{line:?}"));
    assert_eq!(references(&made), expected, "the filter leaves c3 out");
    assert_eq!(made["definition"]["login"]["key"], json!({"$secret": "set"}));
    from.put("/api/v1/resources/bad", json!({"type": "report", "name": "n", "directory": "/", "definition": {}}))
        .await
        .problem(422, "resource_invalid");

    let preview = from.post("/api/v1/exports/preview", json!({"resource_ids": ["rp"]})).await.is(200);
    assert_eq!(preview["items"].as_array().unwrap().len(), 7);
    let package = from.export(json!({"resource_ids": ["rp"]})).await;
    let index = lines(&entries(&package)["index.ndjson"]);
    assert_eq!(index.last().unwrap()["children"], json!(["w1", "w2"]));
    assert!(!String::from_utf8_lossy(&entries(&package)["resources/00001.ndjson"]).contains("canary"));

    // `gone` blocks the report; with it there, everything arrives under new IDs.
    to.resource("gone", "card", "gone", "/", json!({})).await;
    let record = to.import(&package, json!({"change_ids": true})).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    let items = to.items(record["id"].as_str().unwrap()).await;
    let new =
        |id: &str| items.iter().find(|item| item["resource_id"] == id).unwrap()["new_id"].as_str().unwrap().to_owned();
    let arrived = to.get(&format!("/api/v1/resources/{}", new("rp"))).await.is(200);
    let definition = &arrived["definition"];
    assert_eq!(definition["sources"], json!({new("ds1"): {"alias": "x"}, new("rp0"): null}));
    let inner: Value = serde_json::from_str(definition["position_json"].as_str().unwrap()).unwrap();
    assert_eq!(inner["rows"], json!([{"card": new("c1")}, {"card": "gone"}]));
    assert_eq!(inner["n"].to_string(), "1.50", "numbers inside the text keep their form");
    assert_eq!((&definition["widgets"][0]["ref"], &definition["widgets"][1]["ref"]), (&json!(new("c2")), &json!("c3")));
    assert_eq!(definition["widgets"][1]["text"], format!("see @{{{}}} and %region%", new("ds2")));
    assert_eq!((&definition["live"], &definition["url"]), (&json!(false), &json!("http://test")));
    assert_eq!(definition["login"]["key"], json!({"$secret": "missing"}));
    assert_ne!(definition["files"][0]["path"], "/f/a.txt");
    let path = definition["files"][0]["path"].as_str().unwrap();
    assert_eq!(to.get(&format!("/api/v1/attachments{path}")).await.bytes, b"file");
    assert!(references(&arrived).iter().all(|(_, _, _, found)| *found));
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_wrong_type_file_stops_the_start_and_is_named() {
    let change = |from: &str, to: &str| {
        assert!(REPORT.contains(from));
        REPORT.replacen(from, to, 1)
    };
    let cases = [
        ("key = ", "syntax", ""),
        (&change("key = \"report\"", "key = \"Report 1\""), "key", "a-z"),
        (&change("$.sources", "$.sources["), "reference.path", "$.sources["),
        (&change("\"$..text\"", "\"text\""), "", "text"),
        (&change("$.rows[*].card", "$$"), "reference.in", "$$"),
        (&change("to = [\"card\"]", "to = [\"cart\"]"), "reference.to", "cart"),
        (&change("'%([^%]+)%'", "'%([^%]+%'"), "text_reference.pattern", ""),
        (&change("'%([^%]+)%'", "'%(a)(b)%'"), "text_reference.pattern", "capture"),
        (&change("encoding = \"json\"\n", ""), "reference.encoding", "$.position_json"),
        (&change("\"$.login.key\"", "\"$..key\""), "secrets.paths", "$..key"),
        (&change("\"$.url\"", "\"$.url[0]\""), "environment_specific.paths", "$.url[0]"),
        (&change("\"$.live\" =", "\"live\" ="), "on_create", "live"),
        (&change("\"$.live\"]", "\"$.dead\"]"), "on_create", "$.live"),
        (&change("$.widgets[*].id", "$.widgets[*"), "child.path", "$.widgets[*"),
        (&change("$.files[*].path", "files"), "attachment.path", "files"),
        (&change("type = \"object\"", "type = \"objekt\""), "schema", ""),
        (&change("kind = \"use\"", "kind = \"uses\""), "", "uses"),
        (&change("order = 200", "order = 200\ncolour = 1"), "", "colour"),
        (&change("label = { en = \"Report\", ", "label = { "), "", "en"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (text, key, reason) in cases {
        std::fs::write(folder.path().join("wrong-report.toml"), text).unwrap();
        let config = format!(
            "environment.name = \"t\"\nstorage.dir = {}\nserver.resource_types_dir = {}",
            json!(folder.path().join("data")),
            json!(folder.path())
        );
        // The types are read before anything else, so that no database is needed to refuse them.
        let started = Server::start(Config::from_toml(&config).unwrap(), "postgres://127.0.0.1:1/none").await;
        let Err(error) = started.map(|_| ()) else { panic!("it starts with {text}") };
        let error = error.to_string();
        assert!(
            error.contains("wrong-report.toml") && error.contains(key) && error.contains(reason),
            "{key} {reason}: {error}"
        );
    }
}

/// Stops a server and starts it again on its database and files.
pub async fn restarted(environment: Environment, types: &Path) -> Environment {
    let Environment { server, database, files, unended } = environment;
    server.stop().await;
    let server = another(&database, &files, types).await.unwrap();
    Environment { server, database, files, unended }
}

/// Another server of an environment, with these type files.
pub async fn another(database: &str, files: &TempDir, types: &Path) -> Result<Server, StartError> {
    let config = format!(
        "environment = {{ name = \"test\", kind = \"test\" }}\nserver.listen = \"127.0.0.1:0\"\nstorage.dir = {}\n\
         security.admin_token = {}\nserver.resource_types_dir = {}",
        json!(files.path()),
        json!(ADMIN),
        json!(types)
    );
    Server::start(Config::from_toml(&config).unwrap(), database).await
}

#[tokio::test]
async fn a_changed_type_file_derives_everything_anew_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.toml");
    let bare = "key = \"report\"\nlabel = { en = \"Report\", zh = \"报告\", plural_en = \"Reports\" }\norder = 200\nunique_name = \"none\"\n";
    std::fs::write(&file, bare).unwrap();
    let test = with_types("test", folder.path()).await;
    fill(&test.admin()).await;
    let before = test.admin().get("/api/v1/resources/rp").await.is(200);
    assert_eq!(before["references"], json!([]));
    assert_eq!(before["definition"]["login"]["key"], "canary-4711", "nothing says yet that it is a secret");

    std::fs::write(&file, REPORT).unwrap();
    let test = restarted(test, folder.path()).await;
    let after = test.admin().get("/api/v1/resources/rp").await.is(200);
    assert_eq!(references(&after).len(), 7);
    assert_eq!((&after["revision"], &after["updated_at"]), (&before["revision"], &before["updated_at"]));
    assert_ne!(after["content_hash"], before["content_hash"], "url and key count no longer");
    assert_eq!(after["definition"]["login"]["key"], json!({"$secret": "set"}));
    let mut connection = test.sql().await;
    let rests: String = sqlx::query_scalar("select string_agg(d::text, ' ') || (select string_agg(v::text, ' ') from resource_versions v) from definitions d")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(!rests.contains("canary"), "it is sealed now");
    drop(connection);
    let lineage = test.admin().get("/api/v1/resources/c2/lineage?direction=downstream").await.is(200);
    assert_eq!(lineage["nodes"][1]["resource_id"], "rp");
    let named = test.new_user("default", "viewer").await;
    named.get("/api/v1/attachments/f/a.txt").await.problem(404, "not_found");

    // Another start with the same files changes nothing; comments are no change either.
    std::fs::write(&file, format!("# a comment\n{REPORT}")).unwrap();
    let test = restarted(test, folder.path()).await;
    assert_eq!(test.admin().get("/api/v1/resources/rp").await.is(200), after);
    std::fs::write(&file, bare).unwrap();
    let test = restarted(test, folder.path()).await;
    assert_eq!(test.admin().get("/api/v1/resources/rp").await.is(200)["references"], json!([]));
    assert!(!test.admin().get("/api/v1/resources/rp").await.text().contains("canary"), "what was sealed stays sealed");
    test.end().await;
}

#[tokio::test]
async fn secrets_go_in_and_never_come_out() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let definition = json!({"host": "h", "password": "canary-1", "options": {"token": "canary-2", "ssl": true}});
    let made = user.resource("da", "data_account", "A", "/", definition).await;
    let set = json!({"$secret": "set"});
    let shown = json!({"host": "h", "password": set, "options": {"token": set, "ssl": true}});
    assert_eq!(made["definition"], shown);
    let kept = user.resource("da", "data_account", "A", "/", shown.clone()).await;
    assert_eq!((&kept["definition"], &kept["revision"]), (&shown, &json!(1)), "what was read may be written back");
    let mut fewer = shown.clone();
    fewer["options"].as_object_mut().unwrap().remove("token");
    let changed = user.resource("da", "data_account", "A", "/", fewer.clone()).await;
    assert_eq!(changed["definition"], fewer, "leaving the key out removes it");
    assert_eq!(changed["content_hash"], made["content_hash"], "secrets are no content");
    let missing = json!({"$secret": "missing"});
    let fresh = user.resource("db", "data_account", "B", "/", json!({"password": missing, "private_key": set})).await;
    assert_eq!(fresh["definition"], json!({"password": missing, "private_key": missing}), "there is none to keep");
    let refused = user
        .put(
            "/api/v1/resources/dc",
            json!({"type": "data_account", "name": "C", "directory": "/", "definition": {"password": {"canary-3": 1}}}),
        )
        .await;
    assert!(!refused.problem(422, "resource_invalid").to_string().contains("canary"));
    let refused = user
        .put(
            "/api/v1/resources/dc",
            json!({"type": "data_account", "name": "C", "directory": "/", "definition": {"password": ["canary-4"]}}),
        )
        .await;
    assert!(!refused.problem(422, "resource_invalid").to_string().contains("canary"));

    let mut connection = test.sql().await;
    for table in ["resources", "definitions", "resource_versions", "records"] {
        let query = format!("select coalesce(string_agg(t::text, ' '), '') from {table} t");
        let rests: String = sqlx::query_scalar(&query).fetch_one(&mut connection).await.unwrap();
        assert!(!rests.contains("canary"), "{table}");
    }
    drop(connection);
    let package = entries(&user.export_all().await);
    assert!(package.values().all(|bytes| !String::from_utf8_lossy(bytes).contains("canary")));
    test.end().await;
}

#[tokio::test]
async fn attachments_are_read_back_and_count_as_content_of_what_names_them() {
    let test = Environment::start("test").await;
    let user = test.admin();
    user.get("/api/v1/attachments/images/a.png").await.problem(404, "not_found");
    let card = json!({"images": ["/images/é b.png"], "background": {"image": "/images/other.png"}});
    let without = user.resource("c", "card", "C", "/", card.clone()).await["content_hash"].clone();
    let hash = async || user.get("/api/v1/resources/c").await.is(200)["content_hash"].clone();
    let written = user.attachment("/images/%C3%A9%20b.png", b"one").await.is(201);
    assert_eq!((&written["size"], &written["path"]), (&json!(3), &json!("/images/é b.png")));
    let one = hash().await;
    assert_ne!(one, without);
    user.attachment("/images/%C3%A9%20b.png", b"one").await.is(200);
    assert_eq!(hash().await, one);
    user.attachment("/images/e%CC%81%20b.png", b"two").await.is(200);
    let two = hash().await;
    assert_ne!(two, one, "NFC: it is the same path");
    assert_eq!(user.get("/api/v1/resources/c").await.is(200)["revision"], 1);
    user.attachment("/images/nobody.png", b"x").await.is(201);
    assert_eq!(hash().await, two, "no definition names it");

    let found = user.get("/api/v1/attachments/images/%C3%A9%20b.png").await;
    let etag = found.headers["etag"].clone();
    assert_eq!((found.bytes.as_slice(), &found.headers["content-type"]), (&b"two"[..], &"image/png".parse().unwrap()));
    assert_eq!(found.headers["x-content-type-options"], "nosniff");
    let again =
        user.request(reqwest::Method::GET, "/api/v1/attachments/images/%C3%A9%20b.png").header("if-none-match", etag);
    assert_eq!(user.send(again).await.status, 304);
    user.attachment("/empty", b"").await.is(201);
    assert_eq!(user.get("/api/v1/attachments/empty").await.bytes, b"");
    for path in ["/a//b", "/a/", "/%20/x", "/a%0Ab", "/x%2F..%2F..%2Fetc"] {
        user.attachment(path, b"x").await.problem(422, "invalid_field");
    }
    test.end().await;
}

#[tokio::test]
async fn definitions_that_do_not_fit_their_type_are_invalid() {
    let test = Environment::start("test").await;
    let user = test.admin();
    for (kind, definition) in [
        ("card", json!([])),
        ("card", json!("x")),
        ("card", json!({"dataset_id": 5})),
        ("card", json!({"dataset_id": "a b"})),
        ("card", json!({"images": "x"})),
        ("card", json!({"images": ["../x"]})),
        ("card", json!({"images": ["relative.png"]})),
        ("dataset", json!({"fields": {"id": "x"}})),
        ("dataset", json!({"fields": [{"id": 7}]})),
        ("dataset", json!({"schedule": {"enabled": "yes"}})),
        ("page", json!({"cards": [{"card_id": {}}]})),
        ("data_account", json!({"options": {"token": 5}})),
    ] {
        let body = json!({"type": kind, "name": "n", "directory": "/", "definition": definition});
        user.put("/api/v1/resources/x", body).await.problem(422, "resource_invalid");
    }
    assert_eq!(user.catalogue().await, Vec::<Value>::new());
    test.end().await;
}
