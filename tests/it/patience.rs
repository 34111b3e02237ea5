//! Who asks for what takes long is not kept waiting: the record goes on, and says what the answer would have been.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::gate::Gate;
use crate::support::{ADMIN, Answer, Environment, User};

const HASTY: &str = "server.patience_seconds = 1\n";

/// How long somebody may be kept waiting who is told after a second.
const SOON: Duration = Duration::from_secs(4);

/// A target whose callers are told after a second, an import that waits there, and where it came from.
struct Waiting {
    source: Environment,
    target: Environment,
    to: User,
    id: String,
}

impl Waiting {
    async fn start() -> Self {
        let (source, target) = (Environment::start("test").await, Environment::configured("production", HASTY).await);
        let (from, to) = (source.admin(), target.admin());
        from.resource("acc", "data_account", "Test", "/", json!({})).await;
        from.resource("ds", "dataset", "Orders", "/", json!({"data_account_id": "acc"})).await;
        to.resource("prod", "data_account", "Production", "/", json!({})).await;
        let id = to.upload(&from.export_all().await).await["id"].as_str().unwrap().to_owned();
        Self { source, target, to, id }
    }

    /// Nobody can plan, or do anything else with the catalogue.
    async fn hold(&self) -> Gate {
        Gate::shut_to_all(&self.target.database, "resources").await
    }

    async fn record(&self) -> Value {
        self.to.get(&format!("/api/v1/records/{}", self.id)).await.is(200)
    }

    async fn plan(&self, options: &Value) -> Answer {
        self.to.put(&format!("/api/v1/imports/{}/plan", self.id), options.clone()).await
    }

    async fn execute(&self, body: &Value) -> Answer {
        let path = format!("/api/v1/imports/{}/execute", self.id);
        self.to.send(self.to.request(Method::POST, &path).header("idempotency-key", "execute").json(body)).await
    }

    /// Asks while nobody can plan; the answer is that the record is at it.
    async fn told_to_wait(&self, asked: impl Future<Output = Answer>) {
        let mut gate = self.hold().await;
        let began = Instant::now();
        let answer = asked.await;
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        let record = answer.is(202);
        assert!(answer.headers["location"].to_str().unwrap().ends_with(&self.id));
        assert_eq!((&record["status"], &record["phase"]), (&json!("running"), &json!("planning")), "{record}");
        gate.reached().await;
        let record = self.record().await;
        assert_eq!((&record["status"], &record["phase"]), (&json!("running"), &json!("planning")), "{record}");
        gate.open().await;
    }

    async fn awaiting(&self) -> Value {
        self.to.wait(&self.id, |status| !matches!(status, "queued" | "running")).await
    }

    async fn end(self) {
        self.source.end().await;
        self.target.end().await;
    }
}

fn map() -> Value {
    json!({"resolutions": {"acc": {"action": "map", "target_id": "prod"}}})
}

#[tokio::test]
async fn a_plan_that_takes_long_is_made_behind_the_request() {
    let waiting = Waiting::start().await;
    let options = map();
    waiting.told_to_wait(waiting.plan(&options)).await;
    let record = waiting.awaiting().await;
    assert_eq!((&record["status"], &record["error"]), (&json!("awaiting_confirmation"), &Value::Null), "{record}");
    assert_eq!(record["options"]["resolutions"], options["resolutions"]);
    assert_eq!(record["progress"]["done"], record["progress"]["total"], "{record}");
    assert_eq!(waiting.to.item(&record, "acc").await["method"], "map");
    // It is the one that is made where it takes no time.
    let again = waiting.plan(&options).await.is(200);
    assert_eq!(again["plan_digest"], record["plan_digest"]);
    assert_eq!(waiting.to.execute(&waiting.id).await["status"], "succeeded");
    waiting.end().await;
}

#[tokio::test]
async fn options_that_turn_out_wrong_leave_the_plan_as_it_was() {
    let waiting = Waiting::start().await;
    let before = waiting.plan(&map()).await.is(200);
    let wrong = json!({"resolutions": {"nowhere": {"action": "skip"}}});
    waiting.told_to_wait(waiting.plan(&wrong)).await;
    let record = waiting.awaiting().await;
    assert_eq!(record["error"]["code"], "invalid_field", "{record}");
    assert!(record["error"]["message"].as_str().unwrap().starts_with("resolutions.nowhere "), "{record}");
    for key in ["status", "options", "plan_digest", "counts", "progress"] {
        assert_eq!(record[key], before[key], "{key}");
    }
    // The next plan is about something else.
    assert_eq!(waiting.plan(&map()).await.is(200)["error"], Value::Null);
    assert_eq!(waiting.to.execute(&waiting.id).await["status"], "succeeded");
    waiting.end().await;
}

#[tokio::test]
async fn an_execution_whose_plan_takes_long_goes_on_by_itself_once() {
    let waiting = Waiting::start().await;
    let digest = json!({"plan_digest": waiting.plan(&map()).await.is(200)["plan_digest"]});
    waiting.told_to_wait(waiting.execute(&digest)).await;
    // The same again is answered as before, whatever has become of it.
    waiting.execute(&digest).await.is(202);
    let record = waiting.to.ended(&waiting.id).await;
    assert_eq!((&record["status"], &record["counts"]["create"]), (&json!("succeeded"), &json!(1)), "{record}");
    let dataset = waiting.to.get("/api/v1/resources/ds").await.is(200);
    assert_eq!(dataset["definition"]["data_account_id"], "prod");
    waiting.end().await;
}

#[tokio::test]
async fn an_execution_whose_plan_turns_out_stale_waits_again_and_says_so() {
    let waiting = Waiting::start().await;
    let planned = waiting.plan(&json!({})).await.is(200);
    waiting.to.resource("acc", "data_account", "Moved", "/", json!({})).await;
    waiting.told_to_wait(waiting.execute(&json!({"plan_digest": planned["plan_digest"]}))).await;
    let record = waiting.awaiting().await;
    assert_eq!(
        (&record["status"], &record["error"]["code"], &record["plan_digest"]),
        (&json!("awaiting_confirmation"), &json!("plan_stale"), &planned["plan_digest"]),
        "{record}"
    );
    assert!(record["error"]["message"].as_str().unwrap().contains("acc: Test moved"), "{record}");
    waiting.to.get("/api/v1/resources/ds").await.is(404);
    let now = waiting.plan(&json!({})).await.is(200);
    assert_eq!(now["error"], Value::Null, "{now}");
    let path = format!("/api/v1/imports/{}/execute", waiting.id);
    waiting.to.post(&path, json!({"plan_digest": now["plan_digest"]})).await.is(202);
    assert_eq!(waiting.to.ended(&waiting.id).await["status"], "succeeded");
    waiting.end().await;
}

#[tokio::test]
async fn planning_that_takes_long_holds_nobody_up_and_can_be_cancelled() {
    let waiting = Waiting::start().await;
    let mut gate = waiting.hold().await;
    waiting.execute(&json!({"resolutions": {"acc": {"action": "skip"}}})).await.is(202);
    gate.reached().await;
    let began = Instant::now();
    let cancelled = waiting.to.post(&format!("/api/v1/records/{}/cancel", waiting.id), json!({})).await.is(200);
    assert_eq!(cancelled["status"], "cancelled");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // What was asked in vain does not keep its connection either.
    while gate.waiting().await > 0 {
        assert!(began.elapsed() < SOON, "somebody stands there still");
    }
    gate.open().await;
    // A retry is of the import, not of what was asked last.
    waiting.to.post(&format!("/api/v1/records/{}/retry", waiting.id), json!({})).await.is(202);
    let record = waiting.awaiting().await;
    assert_eq!((&record["status"], &record["options"]), (&json!("awaiting_confirmation"), &cancelled["options"]));
    waiting.to.get("/api/v1/resources/ds").await.is(404);
    waiting.end().await;
}

#[tokio::test]
async fn a_migration_follows_a_target_that_plans_for_long() {
    let (source, target) = (Environment::start("test").await, Environment::configured("production", HASTY).await);
    let (from, to) = (source.admin(), target.admin());
    from.resource("c", "card", "Card", "/", json!({})).await;
    let there = from.target("production", &target.server.url(), ADMIN).await;
    let body = json!({"target_id": there, "selection": {"all": true}, "confirm": true});
    let record = from.post("/api/v1/migrations", body).await.is(202);
    let id = record["id"].as_str().unwrap();
    let shown = from.wait(id, |status| status == "awaiting_confirmation").await;
    to.resource("c", "card", "Theirs", "/", json!({})).await;
    let confirm = async |record: &Value| {
        let mut gate = Gate::shut_to_all(&target.database, "resources").await;
        let body = json!({"plan_digest": record["plan_digest"]});
        from.post(&format!("/api/v1/migrations/{id}/confirm"), body).await.is(202);
        let remote = record["remote_record_id"].as_str().unwrap();
        to.wait_for(remote, |record| record["phase"] == "planning" && record["status"] == "running").await;
        gate.reached().await;
        gate.open().await;
        from.wait(id, |status| !matches!(status, "queued" | "running")).await
    };
    let stale = confirm(&shown).await;
    assert_eq!((&stale["status"], &stale["error"]["code"]), (&json!("awaiting_confirmation"), &json!("plan_stale")));
    assert_eq!(stale["counts"]["update"], 1, "{stale}");
    let ended = confirm(&stale).await;
    assert_eq!((&ended["status"], &ended["counts"]["update"]), (&json!("succeeded"), &json!(1)), "{ended}");
    source.end().await;
    target.end().await;
}

/// Four leases of a second, and some more.
const LEASES: &str = "select clock_timestamp() - $1 > interval '5 seconds'";

/// Plans, as it is asked for, while nothing of the catalogue can be read for longer than four leases.
async fn outlasting_leases(patience: &str) {
    let settings = format!("{patience}\njobs.lease_seconds = 1\n");
    let (source, target) = (Environment::start("test").await, Environment::configured("production", &settings).await);
    let (from, to) = (source.admin(), target.admin());
    from.resource("c", "card", "Card", "/", json!({})).await;
    let package = from.export_all().await;
    let planned = to.upload(&package).await;
    let id = planned["id"].as_str().unwrap();
    let mut gate = Gate::shut_to_all(&target.database, "resources").await;
    let parsed = to.post_package(&package).await.is(202);
    let path = format!("/api/v1/imports/{id}/plan");
    let options = json!({"directory_prefix": "/New"});
    let held = async {
        // The one that parses, and who plans behind the request or in it.
        while gate.waiting().await < 2 {}
        let mut sql = target.sql().await;
        let since: chrono::DateTime<chrono::Utc> =
            sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut sql).await.unwrap();
        while !sqlx::query_scalar::<_, bool>(LEASES).bind(since).fetch_one(&mut sql).await.unwrap() {}
        gate.open().await;
    };
    let (answer, ()) = tokio::join!(to.put(&path, options), held);
    assert!(answer.status.is_success(), "{}", answer.text());
    for (id, directory) in [(id, "/New"), (parsed["id"].as_str().unwrap(), "/")] {
        to.wait(id, |status| status == "awaiting_confirmation").await;
        assert_eq!(to.execute(id).await["status"], "succeeded");
        assert_eq!(to.get("/api/v1/resources/c").await.is(200)["directory"], directory);
    }
    let runs: Vec<i32> =
        sqlx::query_scalar("select run_no from jobs").fetch_all(&mut target.sql().await).await.unwrap();
    assert!(runs.iter().all(|run| *run == 1), "a job was taken over: {runs:?}");
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_plan_that_outlasts_four_leases_is_made_while_its_caller_waits() {
    outlasting_leases("server.patience_seconds = 60").await;
}

#[tokio::test]
async fn a_plan_that_outlasts_four_leases_is_made_behind_the_request() {
    outlasting_leases("server.patience_seconds = 1").await;
}

/// An upload of a whole package.
async fn uploaded(user: &User, package: &[u8]) -> Value {
    let request = user.request(Method::POST, "/api/v1/uploads").header("tus-resumable", "1.0.0");
    let upload = user.send(request.header("upload-length", package.len())).await;
    let path = upload.headers["location"].to_str().unwrap();
    let request = user.request(Method::PATCH, path).header("tus-resumable", "1.0.0").header("upload-offset", 0);
    let request = request.header("content-type", "application/offset+octet-stream");
    assert_eq!(user.send(request.body(package.to_vec())).await.status, 204);
    json!({"upload_id": path.rsplit('/').next().unwrap()})
}

#[tokio::test]
async fn an_import_that_takes_longer_than_its_caller_waits_is_not_begun_anew_each_time() {
    let (source, target) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (source.admin(), target.admin());
    from.resource("c", "card", "Card", "/", json!({})).await;
    let package = from.export_all().await;
    let body = uploaded(&to, &package).await;
    let import = || to.request(Method::POST, "/api/v1/imports").header("idempotency-key", "one").json(&body);
    // Nobody learns whom the target trusts.
    let mut gate = Gate::shut_to_all(&target.database, "pinned_sources").await;
    assert!(import().timeout(Duration::from_secs(1)).send().await.unwrap_err().is_timeout());
    gate.reached().await;
    to.send(import()).await.problem(409, "conflict");
    gate.open().await;
    let record = loop {
        let answer = to.send(import()).await;
        if answer.status != 409 {
            break answer.is(202);
        }
    };
    let id = record["id"].as_str().unwrap();
    to.wait(id, |status| status == "awaiting_confirmation").await;
    assert_eq!(to.get("/api/v1/records?kind=import").await.is(200)["items"].as_array().unwrap().len(), 1);

    // Nor is another package of it.
    let body = uploaded(&to, &package).await;
    let replace = || to.request(Method::PUT, &format!("/api/v1/imports/{id}/package")).json(&body);
    let mut gate = Gate::shut_to_all(&target.database, "pinned_sources").await;
    assert!(replace().timeout(Duration::from_secs(1)).send().await.unwrap_err().is_timeout());
    gate.reached().await;
    gate.open().await;
    let has_become = "select count(*) from uploads where record_id is not null";
    target
        .until(async || sqlx::query_scalar::<_, i64>(has_become).fetch_one(&mut target.sql().await).await.unwrap() == 2)
        .await;
    assert_eq!(to.send(replace()).await.is(202)["id"], record["id"]);
    to.wait(id, |status| status == "awaiting_confirmation").await;
    assert_eq!(to.execute(id).await["status"], "succeeded");
    source.end().await;
    target.end().await;
}
