//! Servers to test against, and a client that says what went wrong.

pub mod audit;
pub mod buffering;
mod cluster;
pub mod commits;
pub mod gate;
pub mod package;
pub mod process;
pub mod proxy;
pub mod retail;
pub mod strange;
pub mod unended;

use std::time::Duration;

use ferry::config::Config;
use ferry::server::Server;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use unended::{Unended, left_over};

/// The token of user `admin` of domain `default`, of every environment here.
pub const ADMIN: &str = "admin token of the tests";

/// One environment: a server, its database, its files.
pub struct Environment {
    pub server: Server,
    pub database: String,
    pub files: TempDir,
    pub unended: Unended,
}

/// A server's answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub bytes: Vec<u8>,
}

/// A user of a server, by his token.
#[derive(Clone)]
pub struct User {
    pub client: Client,
    pub base: String,
    pub token: String,
}

impl Environment {
    /// An empty environment of a name; its kind is the name where that is one.
    pub async fn start(name: &str) -> Self {
        Self::configured(name, "").await
    }

    /// The same, with more settings in TOML.
    pub async fn configured(name: &str, more: &str) -> Self {
        let database = cluster::new_database().await;
        let reached = database.clone();
        Self::on(name, more, database, &reached).await
    }

    /// The same, with a proxy between it and its database.
    pub async fn behind_commits(name: &str, more: &str) -> (Self, commits::Commits) {
        let database = cluster::new_database().await;
        let commits = commits::Commits::before(&database).await;
        let reached = commits.url(&database);
        (Self::on(name, more, database, &reached).await, commits)
    }

    /// The same on files that are there already.
    pub async fn on_files(name: &str, files: TempDir) -> Self {
        let database = cluster::new_database().await;
        let reached = database.clone();
        Self::with(name, "", database, &reached, files).await
    }

    async fn on(name: &str, more: &str, database: String, reached: &str) -> Self {
        Self::with(name, more, database, reached, tempfile::tempdir().unwrap()).await
    }

    async fn with(name: &str, more: &str, database: String, reached: &str, files: TempDir) -> Self {
        let kind = if matches!(name, "test" | "production") { name } else { "other" };
        let pool = if more.contains("max_connections") { "" } else { "database.max_connections = 6" };
        let config = format!(
            "environment = {{ name = {}, kind = {} }}\nserver.listen = \"127.0.0.1:0\"\nstorage.dir = {}\n\
             security.admin_token = {}\n{pool}\n{more}",
            json!(name),
            json!(kind),
            json!(files.path()),
            json!(ADMIN),
        );
        let server = Server::start(Config::from_toml(&config).unwrap(), reached).await.unwrap();
        let unended = Unended::of(&database);
        Self { server, database, files, unended }
    }

    /// The administrator of domain `default`.
    pub fn admin(&self) -> User {
        self.user(ADMIN)
    }

    /// Whoever holds a token.
    pub fn user(&self, token: &str) -> User {
        User { client: Client::new(), base: self.server.url(), token: token.to_owned() }
    }

    /// Makes a user with a role in a domain (made if it is not there) and a token for him.
    pub async fn new_user(&self, domain: &str, role: &str) -> User {
        let admin = self.admin();
        admin.post("/api/v1/domains", json!({"name": domain})).await;
        let name = format!("{role}-{}", uuid::Uuid::new_v4().simple());
        let user = admin
            .post(
                "/api/v1/users",
                json!({"username": name, "password": "long enough to keep", "role": role, "domain": domain}),
            )
            .await;
        let id = user.is(201)["id"].as_str().unwrap().to_owned();
        let token = admin.post(&format!("/api/v1/users/{id}/tokens"), json!({"name": "test"})).await.is(201);
        self.user(token["token"].as_str().unwrap())
    }

    /// Makes a role with some permissions and a user who has it. His token is his own: one that somebody else makes for
    /// him is good for no more than that one may do.
    pub async fn holder(&self, admin: &User, domain: &str, name: &str, permissions: &[&str]) -> User {
        const PASSWORD: &str = "a password of some length";
        let role = json!({"name": format!("role-of-{name}"), "permissions": permissions});
        admin.post("/api/v1/roles", role).await.is(201);
        let user = json!({"username": name, "password": PASSWORD, "role": format!("role-of-{name}")});
        let id = admin.post("/api/v1/users", user).await.is(201)["id"].as_str().unwrap().to_owned();
        let session = json!({"domain": domain, "username": name, "password": PASSWORD});
        let answer = admin.send(admin.client.post(format!("{}/api/v1/session", admin.base)).json(&session)).await;
        let cookie = answer.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let own = admin.client.post(format!("{}/api/v1/users/{id}/tokens", admin.base)).header("cookie", cookie);
        let token =
            admin.send(own.header("sec-fetch-site", "same-origin").json(&json!({"name": "test"}))).await.is(201);
        self.user(token["token"].as_str().unwrap())
    }

    /// Waits until something can be seen that nobody announces.
    pub async fn until(&self, seen: impl AsyncFn() -> bool) {
        for _ in 0..3_000 {
            if seen().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came to be");
    }

    /// A connection to its database, to look at what no route shows.
    pub async fn sql(&self) -> sqlx::PgConnection {
        <sqlx::PgConnection as sqlx::Connection>::connect(&self.database).await.unwrap()
    }

    /// Stops the server and drops its database; a job that is left over fails the test.
    pub async fn end(self) {
        let open = left_over(&self.database).await;
        self.server.stop().await;
        self.unended.looked();
        cluster::drop_database(&self.database).await;
        assert_eq!(open, 0, "jobs are left over");
    }
}

impl User {
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, bytes: response.bytes().await.unwrap().to_vec() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Makes a target and gives its ID.
    pub async fn target(&self, name: &str, url: &str, token: &str) -> String {
        let body = json!({"name": name, "url": url, "token": token});
        self.post("/api/v1/targets", body).await.is(201)["id"].as_str().unwrap().to_owned()
    }

    /// Writes a resource and expects it to be taken.
    pub async fn resource(&self, id: &str, kind: &str, name: &str, directory: &str, definition: Value) -> Value {
        let body = json!({"type": kind, "name": name, "directory": directory, "definition": definition});
        let answer = self.put(&format!("/api/v1/resources/{id}"), body).await;
        assert!(answer.status.is_success(), "{id}: {}", answer.text());
        answer.json()
    }

    /// Writes many resources, a JSON object each, and expects them to be taken.
    pub async fn batch(&self, lines: &[Value]) -> Value {
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.send(
            self.request(Method::POST, "/api/v1/resources/batch")
                .header("content-type", "application/x-ndjson")
                .body(body),
        )
        .await
        .is(200)
    }

    /// Writes an attachment; the path begins with `/`, as definitions name it.
    pub async fn attachment(&self, path: &str, bytes: &[u8]) -> Answer {
        self.send(self.request(Method::PUT, &format!("/api/v1/attachments{path}")).body(bytes.to_vec())).await
    }

    /// Waits until a record has one of some states.
    pub async fn wait(&self, id: &str, wanted: impl Fn(&str) -> bool) -> Value {
        self.wait_for(id, |record| wanted(record["status"].as_str().unwrap())).await
    }

    /// Waits until a record is as wanted. Asks again and again, for there is nothing to wait on.
    pub async fn wait_for(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..6_000 {
            let record = self.get(&format!("/api/v1/records/{id}")).await.is(200);
            if wanted(&record) {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("record {id} does not get there: {}", self.get(&format!("/api/v1/records/{id}")).await.text());
    }

    /// Waits until a record has ended.
    pub async fn ended(&self, id: &str) -> Value {
        self.wait(id, |status| !matches!(status, "queued" | "running" | "awaiting_confirmation" | "awaiting_approval"))
            .await
    }

    /// Exports and downloads; the body is that of `POST /exports`, its name is given here.
    pub async fn export(&self, mut body: Value) -> Vec<u8> {
        body["name"] = json!("package");
        let record = self.post("/api/v1/exports", body).await.is(202);
        let id = record["id"].as_str().unwrap();
        let record = self.ended(id).await;
        assert_eq!(record["status"], "succeeded", "{record}");
        let answer = self.get(&format!("/api/v1/exports/{id}/package")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.bytes
    }

    /// Exports the whole catalogue.
    pub async fn export_all(&self) -> Vec<u8> {
        self.export(json!({"selection": {"all": true}})).await
    }

    /// Uploads a package and waits for its parse list.
    pub async fn upload(&self, package: &[u8]) -> Value {
        let record = self.post_package(package).await.is(202);
        self.wait(record["id"].as_str().unwrap(), |status| !matches!(status, "queued" | "running")).await
    }

    pub async fn post_package(&self, package: &[u8]) -> Answer {
        self.send(
            self.request(Method::POST, "/api/v1/imports")
                .header("content-type", "application/zip")
                .body(package.to_vec()),
        )
        .await
    }

    /// Sets the options of an import; the parse list is planned anew.
    pub async fn plan(&self, id: &str, options: Value) -> Value {
        self.put(&format!("/api/v1/imports/{id}/plan"), options).await.is(200)
    }

    /// Executes an import as it is planned and waits for its end.
    pub async fn execute(&self, id: &str) -> Value {
        self.send(self.request(Method::POST, &format!("/api/v1/imports/{id}/execute"))).await.is(202);
        self.ended(id).await
    }

    /// Uploads, plans, executes; returns the ended record.
    pub async fn import(&self, package: &[u8], options: Value) -> Value {
        let record = self.upload(package).await;
        assert_eq!(record["status"], "awaiting_confirmation", "{record}");
        let id = record["id"].as_str().unwrap();
        self.plan(id, options).await;
        self.execute(id).await
    }

    /// All items of a record.
    pub async fn items(&self, id: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/api/v1/records/{id}/items?limit=500{cursor}")).await.is(200);
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    /// The item of a resource in a record.
    pub async fn item(&self, record: &Value, resource_id: &str) -> Value {
        let items = self.items(record["id"].as_str().unwrap()).await;
        items
            .into_iter()
            .find(|item| item["resource_id"] == resource_id)
            .unwrap_or_else(|| panic!("no item {resource_id}"))
    }

    /// All resources that the user may read, by ID.
    pub async fn catalogue(&self) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/api/v1/resources?limit=500{cursor}")).await.is(200);
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("not JSON: {} {}", self.status, self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Expects a status and gives the body.
    #[track_caller]
    pub fn is(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        if self.bytes.is_empty() { Value::Null } else { self.json() }
    }

    /// Expects a problem with a status and a code; every problem has its media type and a detail.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let body = self.is(status);
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert!(!body["detail"].as_str().unwrap().is_empty());
        body
    }
}

/// What servers are working on in an environment's folder; each has a folder of its own, with a lock.
pub fn scratch(files: &std::path::Path) -> Vec<std::path::PathBuf> {
    let inside =
        |folder: std::path::PathBuf| std::fs::read_dir(folder).into_iter().flatten().map(|file| file.unwrap().path());
    let all = inside(files.join("scratch")).flat_map(inside);
    all.filter(|file| file.file_name().unwrap() != "lock").collect()
}

/// What of a checklist is about secrets.
pub fn secrets_missing(record: &Value) -> Vec<Value> {
    let entries = record["checklist"].as_array().unwrap().iter();
    entries.filter(|entry| entry["code"] == "secret_missing").cloned().collect()
}

/// What two environments must agree on after a migration: everything but times, revisions and origin.
pub fn comparable(resource: &Value) -> Value {
    let pick = |key: &str| (key.to_owned(), resource[key].clone());
    Value::Object(["id", "type", "name", "directory", "content_hash", "references"].into_iter().map(pick).collect())
}
