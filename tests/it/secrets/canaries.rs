//! Canaries in every secret place, and a search for them wherever anything rests, travels or is said.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD as BASE64, URL_SAFE_NO_PAD};
use ferry::config::Config;
use reqwest::Method;
use serde_json::{Value, json};

use super::carried::target;
use super::passphrases::post_form;
use crate::support::package::entries;
use crate::support::process::Process;
use crate::support::{ADMIN, User};

/// Every one has what JSON, SQL and logs write in a way of their own.
fn canary(name: &str) -> String {
    format!("canary {name} \"quoted\" \\ ü\n{}", name.len())
}

/// A type with secrets where built-in types have none: in arrays and below keys.
const VAULT: &str = r#"
key = "vault"
label = { en = "Vault", zh = "库", plural_en = "Vaults" }
order = 200
unique_name = "none"
[secrets]
paths = ["$.all[*].key", "$.by_name[*].login.key"]
"#;

/// Every built-in type with a canary in each secret slot, as a resource to be written; the canaries.
fn resources() -> (Vec<Value>, Vec<String>) {
    let config = Config::from_toml("environment.name = \"t\"\nstorage.dir = \"/nowhere\"").unwrap();
    let types = ferry::app::load_types(&config).unwrap();
    let (mut lines, mut canaries) = (Vec::new(), Vec::new());
    for kind in types.all() {
        let text =
            std::fs::read_to_string(format!("{}/config/resource-types/{}.toml", env!("CARGO_MANIFEST_DIR"), kind.key));
        let file: toml::Value = text.unwrap().parse::<toml::Table>().unwrap().into();
        let paths = file.get("secrets").and_then(|secrets| secrets["paths"].as_array()).cloned().unwrap_or_default();
        assert_eq!(paths.len(), kind.secrets.len());
        let mut definition = json!({});
        for path in paths {
            let path = path.as_str().unwrap().trim_start_matches("$.").to_owned();
            assert!(!path.contains('['), "{path}: say here what to write there");
            let secret = canary(&format!("{} {path}", kind.key));
            let mut at = &mut definition;
            for key in path.split('.') {
                at = &mut at[key];
            }
            *at = json!(secret);
            canaries.push(secret);
        }
        if definition != json!({}) {
            lines.push(json!({"id": format!("r-{}", kind.key), "type": kind.key, "name": "R", "directory": "/", "definition": definition}));
        }
    }
    let vault = json!({
        "all": [{"id": "x", "key": canary("all x")}, {"key": canary("all 1")}],
        "by_name": {"one": {"login": {"key": canary("one")}}},
    });
    canaries.extend(["all x", "all 1", "one"].map(canary));
    lines.push(json!({"id": "r-vault", "type": "vault", "name": "R", "directory": "/", "definition": vault}));
    (lines, canaries)
}

/// What must stand nowhere, in every way in which it could be written.
struct Search {
    needles: regex::bytes::Regex,
}

impl Search {
    fn new(secrets: &[String]) -> Self {
        let mut needles: Vec<String> = Vec::new();
        for secret in secrets {
            let escaped = json!(secret).to_string();
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            let mut written = vec![
                secret.clone(),
                escaped[1..escaped.len() - 1].to_owned(),
                format!("{secret:?}"),
                hex.clone(),
                hex.to_uppercase(),
            ];
            written.push(secret.replace('\\', "\\\\").replace('\n', "\\n"));
            for shift in 0..3 {
                // Inside something longer, it begins at any of three places; its edges depend on what is beside it.
                let inner = BASE64.encode(&secret.as_bytes()[shift..]);
                written.push(inner[..inner.len() - 2].to_owned());
                let inner = URL_SAFE_NO_PAD.encode(&secret.as_bytes()[shift..]);
                written.push(inner[..inner.len() - 2].to_owned());
            }
            needles.extend(written);
        }
        // A part of all of them.
        needles.push("canary".to_owned());
        let any = needles.iter().map(|needle| regex::escape(needle)).collect::<Vec<_>>().join("|");
        Self { needles: regex::bytes::RegexBuilder::new(&any).size_limit(1 << 28).build().unwrap() }
    }

    #[track_caller]
    fn assert_none(&self, place: &str, bytes: &[u8]) {
        if let Some(found) = self.needles.find(bytes) {
            let (from, to) = (found.start().saturating_sub(100), bytes.len().min(found.end() + 100));
            panic!("a secret stands in {place}: {}", String::from_utf8_lossy(&bytes[from..to]));
        }
    }

    /// All files of a server, its log among them; packages unpacked.
    fn files(&self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.files(&path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            self.assert_none(&path.display().to_string(), &bytes);
            if bytes.starts_with(b"PK") {
                entries(&bytes).iter().for_each(|(name, bytes)| self.assert_none(name, bytes));
            }
        }
    }

    /// All rows of all tables.
    async fn database(&self, process: &Process) {
        let mut connection = process.sql().await;
        let tables: Vec<String> =
            sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public'")
                .fetch_all(&mut connection)
                .await
                .unwrap();
        assert!(tables.len() > 15, "{tables:?}");
        for table in tables {
            let query = format!("select t::text from \"{table}\" t");
            for row in sqlx::query_scalar::<_, String>(&query).fetch_all(&mut connection).await.unwrap() {
                self.assert_none(&table, row.as_bytes());
            }
        }
    }

    async fn server(&self, process: &Process) {
        self.database(process).await;
        self.files(process.files.path());
        self.assert_none("the log", process.log_text().as_bytes());
        assert!(process.log_text().contains("DEBUG"), "it says all that it ever says");
    }
}

/// Asks, and keeps every word of the answers.
struct Listener {
    user: User,
    heard: std::sync::Mutex<Vec<u8>>,
}

impl Listener {
    fn of(user: User) -> Self {
        Self { user, heard: std::sync::Mutex::default() }
    }

    fn hear(&self, bytes: &[u8]) {
        self.heard.lock().unwrap().extend_from_slice(bytes);
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let answer = self
            .user
            .send(
                self.user.request(method, path).header("idempotency-key", uuid::Uuid::new_v4().to_string()).json(&body),
            )
            .await;
        self.hear(&answer.bytes);
        self.hear(format!("{:?}", answer.headers).as_bytes());
        serde_json::from_slice(&answer.bytes).unwrap_or_default()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(Method::POST, path, body).await
    }

    /// Waits for the end of a record, confirms what waits, and listens to all that can be asked about it.
    async fn end(&self, record: &Value) -> Value {
        let id = record["id"].as_str().unwrap_or_else(|| panic!("{record}"));
        let stopped = self.user.wait(id, |status| !matches!(status, "queued" | "running")).await;
        if stopped["status"] == "awaiting_confirmation" && stopped["kind"] == "import" {
            self.post(&format!("/api/v1/imports/{id}/execute"), json!({})).await;
        }
        let ended = self.user.ended(id).await;
        for path in
            [format!("/api/v1/records/{id}"), format!("/api/v1/records/{id}/items"), "/api/v1/records".to_owned()]
        {
            self.hear(&self.user.get(&path).await.bytes);
        }
        ended
    }

    async fn package(&self, record: &Value, search: &Search) -> Vec<u8> {
        let answer = self.user.get(&format!("/api/v1/exports/{}/package", record["id"].as_str().unwrap())).await;
        assert_eq!(answer.status, 200);
        search.assert_none("the package", &answer.bytes);
        entries(&answer.bytes).iter().for_each(|(name, bytes)| search.assert_none(name, bytes));
        answer.bytes
    }
}

#[tokio::test]
async fn no_secret_stands_anywhere_in_clear() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vault.toml"), VAULT).unwrap();
    let more = format!("server.resource_types_dir = {}", json!(folder.path()));
    let log = Some("debug");
    let (test, production) =
        (Process::logging("test", &more, log).await, Process::logging("production", &more, log).await);
    let (from, to) = (Listener::of(test.admin()), Listener::of(production.admin()));
    let (lines, mut secrets) = resources();
    let passphrase = canary("passphrase");
    secrets.extend([passphrase.clone(), canary("wrong"), "4711471147114711".to_owned(), ADMIN.to_owned()]);
    let search = Search::new(&secrets);

    // Written, read, written again, refused.
    from.hear(from.user.batch(&lines).await.to_string().as_bytes());
    for line in &lines {
        let path = format!("/api/v1/resources/{}", line["id"].as_str().unwrap());
        from.ask(Method::PUT, &path, line.clone()).await;
        for what in ["", "/revisions", "/lineage?direction=upstream"] {
            from.hear(&from.user.get(&format!("{path}{what}")).await.bytes);
        }
        let mut wrong = line.clone();
        wrong["name"] = json!("");
        from.ask(Method::PUT, &path, wrong).await;
    }
    for wrong in [json!(4711471147114711u64), json!([canary("list")]), json!({"canary": canary("object")}), json!(true)]
    {
        let body = json!({"type": "data_account", "name": "W", "directory": "/", "definition": {"password": wrong, "options": {"token": wrong}}});
        from.ask(Method::PUT, "/api/v1/resources/wrong", body).await;
        for passphrase in [wrong.clone(), json!("canary?")] {
            from.post("/api/v1/exports", json!({"name": "p", "selection": {"all": true}, "passphrase": passphrase}))
                .await;
            to.post("/api/v1/imports", json!({"upload_id": uuid::Uuid::new_v4(), "passphrase": passphrase})).await;
            to.post("/api/v1/imports", json!({"upload_id": "canary", "passphrase": canary("wrong")})).await;
        }
    }

    // Exported, imported, migrated, with and without.
    let plain = from.end(&from.post("/api/v1/exports", json!({"name": "p", "selection": {"all": true}})).await).await;
    let plain = from.package(&plain, &search).await;
    let sealed = json!({"name": "p", "selection": {"all": true}, "passphrase": passphrase});
    let sealed = from.end(&from.post("/api/v1/exports", sealed).await).await;
    let sealed = from.package(&sealed, &search).await;
    for wrong in [None, Some(canary("wrong"))] {
        let refused = post_form(&to.user, &sealed, wrong.as_deref(), true).await;
        assert_eq!(refused.status, 422);
        to.hear(&refused.bytes);
    }
    assert_eq!(to.end(&to.user.post_package(&plain).await.is(202)).await["status"], "succeeded");
    let waiting = post_form(&to.user, &sealed, Some(&passphrase), false).await.is(202);
    to.user.wait(waiting["id"].as_str().unwrap(), |status| status == "awaiting_confirmation").await;
    search.database(&production).await;
    assert_eq!(to.end(&waiting).await["counts"]["unchanged"], lines.len());
    let again = post_form(&to.user, &sealed, Some(&passphrase), true).await.is(202);
    let id = again["id"].as_str().unwrap().to_owned();
    to.user.wait(&id, |status| status == "awaiting_confirmation").await;
    to.post(&format!("/api/v1/imports/{id}/execute"), json!({"change_ids": true, "on_failure": "abort"})).await;
    to.user.ended(&id).await;
    to.post(&format!("/api/v1/records/{id}/retry"), json!({"passphrase": canary("wrong")})).await;
    let aim = target(&from.user, &to.user).await;
    for carry in [false, true] {
        for more in [json!({}), json!({"change_ids": true, "on_name_clash": "rename"})] {
            let mut body = json!({"target_id": aim, "selection": {"all": true}, "carry_secrets": carry});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let record = from.end(&from.post("/api/v1/migrations", body).await).await;
            assert_eq!(record["status"], "succeeded", "{record}");
            from.package(&record, &search).await;
        }
    }

    // A target that is not there, and one that refuses.
    from.ask(Method::PATCH, &format!("/api/v1/targets/{aim}"), json!({"token": "another token"})).await;
    let body = json!({"target_id": aim, "selection": {"all": true}, "carry_secrets": true});
    let refused = from.end(&from.post("/api/v1/migrations", body).await).await;
    assert_eq!(refused["error"]["code"], "target_unauthorized");

    let heard = [from.heard.lock().unwrap().clone(), to.heard.lock().unwrap().clone()].concat();
    search.assert_none("an answer", &heard);
    // The settings hold the token of the administrator, for they give it.
    for process in [&test, &production] {
        std::fs::remove_file(process.config()).unwrap();
        search.server(process).await;
    }
    let shown = to.user.get("/api/v1/resources/r-vault").await.is(200);
    assert_eq!(shown["definition"]["by_name"]["one"]["login"]["key"], json!({"$secret": "set"}));
    test.end().await;
    production.end().await;
}
