//! Imports that wait for a second person.

use serde_json::{Value, json};

use crate::support::{Environment, User};

const ADDRESS: &str = "/api/v1/approvals";

/// An environment whose imports wait for a second person, and one who may approve and nothing else.
async fn watched() -> (Environment, User) {
    let environment = Environment::start("production").await;
    let change = json!({"approval": {"required": true}});
    let shown = environment.admin().patch("/api/v1/environment", change).await.is(200);
    assert_eq!(shown["approval"], json!({"required": true}));
    let approver = approver(&environment, "second").await;
    (environment, approver)
}

/// Somebody whose role holds `migration.approve` alone.
async fn approver(environment: &Environment, name: &str) -> User {
    holder(environment, name, &["migration.approve"]).await
}

async fn holder(environment: &Environment, name: &str, permissions: &[&str]) -> User {
    environment.holder(&environment.admin(), "default", name, permissions).await
}

fn id(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}

/// A package of one dataset.
async fn package(from: &User, name: &str) -> Vec<u8> {
    from.resource("ds", "dataset", name, "/Sales", json!({})).await;
    from.export(json!({"resource_ids": ["ds"]})).await
}

/// Uploads and executes; the import waits for a second person.
async fn asked(user: &User, package: &[u8]) -> Value {
    let record = user.upload(package).await;
    let answer = user.post(&format!("/api/v1/imports/{}/execute", id(&record)), json!({})).await.is(202);
    assert_eq!(answer["status"], "awaiting_approval", "{answer}");
    answer
}

async fn approve(user: &User, record: &Value, body: Value) -> crate::support::Answer {
    user.post(&format!("{ADDRESS}/{}/approve", id(record)), body).await
}

#[tokio::test]
async fn an_import_waits_for_a_second_person_whose_name_stands_in_the_record() {
    let test = Environment::start("test").await;
    let (production, second) = watched().await;
    let admin = production.admin();
    assert_eq!(second.get(ADDRESS).await.is(200)["items"], json!([]));
    let record = asked(&admin, &package(&test.admin(), "Orders").await).await;
    let waits = &record["approval"];
    assert_eq!(
        json!([waits["state"], waits["requested_by"], waits["plan_digest"], record["finished_at"]]),
        json!(["waiting", "admin", record["plan_digest"], null])
    );
    assert!(record["plan_digest"].is_string());
    // Who may approve reads what waits, and nothing else.
    assert_eq!(second.get(ADDRESS).await.is(200)["items"], json!([record]));
    let path = format!("/api/v1/records/{}", id(&record));
    assert_eq!(second.get(&path).await.is(200), record);
    assert_eq!(second.get(&format!("{path}/items")).await.is(200)["items"][0]["method"], "create");
    assert_eq!(second.get("/api/v1/records").await.is(200)["items"], json!([]));
    second.post(&format!("{path}/cancel"), json!({})).await.problem(403, "forbidden");
    // Whoever asked does not approve, and whoever may not approve is not asked.
    approve(&admin, &record, json!({})).await.problem(403, "forbidden");
    admin.post(&format!("/api/v1/imports/{}/execute", id(&record)), json!({})).await.problem(409, "wrong_state");
    approve(&second, &record, json!({"plan_digest": "another"})).await.problem(409, "plan_stale");
    approve(&second, &record, json!({"comment": "x".repeat(1001)})).await.problem(422, "invalid_field");
    assert!(admin.catalogue().await.is_empty());

    let body = json!({"plan_digest": record["plan_digest"], "comment": " looks good "});
    approve(&second, &record, body).await.is(202);
    let ended = admin.ended(id(&record)).await;
    let said = &ended["approval"];
    assert_eq!(
        json!([ended["status"], said["state"], said["approved_by"], said["comment"], said["requested_by"]]),
        json!(["succeeded", "approved", "second", "looks good", "admin"])
    );
    assert!(said["approved_at"].is_string());
    assert_eq!(second.get(&path).await.is(200)["status"], "succeeded", "who decided sees what became of it");
    assert_eq!(second.get(ADDRESS).await.is(200)["items"], json!([]));
    approve(&second, &record, json!({})).await.problem(409, "wrong_state");
    let audit = admin.get(&format!("/api/v1/audit?object={}", id(&record))).await.is(200);
    let entry = audit["items"].as_array().unwrap().iter().find(|entry| entry["action"] == "import.approve").unwrap();
    assert_eq!(json!([entry["user"], entry["details"]["requested_by"]]), json!(["second", "admin"]));
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn nobody_approves_what_he_asked_for_whatever_else_he_may() {
    let test = Environment::start("test").await;
    let (production, second) = watched().await;
    let both = ["migration.import", "migration.approve", "resource.read"];
    let (one, other) = (holder(&production, "one", &both).await, holder(&production, "other", &both).await);
    let package = package(&test.admin(), "Orders").await;
    // Uploaded by one, executed by the other: neither of them.
    let record = one.upload(&package).await;
    other.post(&format!("/api/v1/imports/{}/execute", id(&record)), json!({})).await.is(202);
    for user in [&one, &other] {
        approve(user, &record, json!({})).await.problem(403, "forbidden");
        user.post(&format!("{ADDRESS}/{}/reject", id(&record)), json!({})).await.problem(403, "forbidden");
    }
    production.admin().post(&format!("{ADDRESS}/{}/approve", id(&record)), json!({})).await.problem(403, "forbidden");
    approve(&second, &record, json!({})).await.is(202);
    assert_eq!(one.ended(id(&record)).await["status"], "succeeded");
    // Another domain does not know of it.
    let record = asked(&one, &package).await;
    let stranger = production.new_user("elsewhere", "admin").await;
    let third = production.holder(&stranger, "elsewhere", "third", &["migration.approve"]).await;
    approve(&third, &record, json!({})).await.problem(404, "not_found");
    assert_eq!(third.get(ADDRESS).await.is(200)["items"], json!([]));
    one.post(&format!("/api/v1/records/{}/cancel", id(&record)), json!({})).await.is(200);
    assert_eq!(one.ended(id(&record)).await["status"], "cancelled");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_rejected_import_ends_and_is_planned_again_when_it_is_tried_again() {
    let test = Environment::start("test").await;
    let (production, second) = watched().await;
    let admin = production.admin();
    let record = asked(&admin, &package(&test.admin(), "Orders").await).await;
    let path = format!("{ADDRESS}/{}/reject", id(&record));
    let rejected = second.post(&path, json!({"comment": "not on a Friday"})).await.is(200);
    assert_eq!(
        json!([rejected["status"], rejected["error"]["code"], rejected["approval"]["rejected_by"]]),
        json!(["failed", "approval_rejected", "second"])
    );
    assert!(rejected["error"]["message"].as_str().unwrap().contains("not on a Friday"), "{rejected}");
    assert_eq!(admin.items(id(&record)).await[0]["status"], "skipped");
    assert!(admin.catalogue().await.is_empty());
    admin.post(&format!("/api/v1/records/{}/retry", id(&record)), json!({})).await.is(202);
    let again = admin.wait(id(&record), |status| !matches!(status, "queued" | "running")).await;
    assert_eq!(json!([again["status"], again["approval"]]), json!(["awaiting_confirmation", null]));
    admin.post(&format!("/api/v1/imports/{}/execute", id(&record)), json!({})).await.is(202);
    approve(&second, &record, json!({})).await.is(202);
    assert_eq!(admin.ended(id(&record)).await["status"], "succeeded");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn an_approval_is_of_one_plan_and_falls_with_it() {
    let test = Environment::start("test").await;
    let (production, second) = watched().await;
    let admin = production.admin();
    let record = asked(&admin, &package(&test.admin(), "Orders").await).await;
    // Planned anew: nobody waits any more.
    let planned = admin.plan(id(&record), json!({"directory_prefix": "/From test"})).await;
    assert_eq!(json!([planned["status"], planned["approval"]]), json!(["awaiting_confirmation", null]));
    approve(&second, &record, json!({})).await.problem(404, "not_found");
    let digest = json!({"plan_digest": planned["plan_digest"]});
    admin.post(&format!("/api/v1/imports/{}/execute", id(&record)), digest).await.is(202);
    // The target moves before it is applied.
    let moved = json!({"note": "made here"});
    admin.resource("ds", "dataset", "Here already", "/Sales", moved).await;
    approve(&second, &record, json!({})).await.is(202);
    let back = admin.wait(id(&record), |status| !matches!(status, "queued" | "running")).await;
    assert_eq!(
        json!([back["status"], back["error"]["code"], back["approval"]]),
        json!(["awaiting_confirmation", "plan_stale", null])
    );
    assert_eq!(admin.item(&back, "ds").await["method"], "update", "the plan that is shown is the new one");
    admin.post(&format!("/api/v1/imports/{}/execute", id(&record)), json!({})).await.is(202);
    // Who may approve sees what would change, though he sees nothing else.
    let import = format!("/api/v1/imports/{}", id(&record));
    let difference = second.get(&format!("{import}/items/ds/diff")).await.is(200);
    assert_eq!(difference["target"]["note"], "made here", "{difference}");
    assert_eq!(second.get(&format!("{import}/diff")).await.is(200)["items"][0]["resource_id"], "ds");
    second.get(&format!("{import}/impact")).await.is(200);
    second.get("/api/v1/resources/ds").await.problem(403, "forbidden");
    approve(&second, &record, json!({})).await.is(202);
    let ended = admin.ended(id(&record)).await;
    assert_eq!(json!([ended["status"], ended["error"]]), json!(["succeeded", null]));
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn what_is_executed_again_by_itself_waits_too() {
    let test = Environment::start("test").await;
    let (production, second) = watched().await;
    let (from, admin) = (test.admin(), production.admin());
    from.resource("ds", "dataset", "Orders", "/Sales", json!({"data_account_id": "nowhere"})).await;
    from.resource("other", "dataset", "Other", "/Sales", json!({})).await;
    let record = asked(&admin, &from.export_all().await).await;
    approve(&second, &record, json!({})).await.is(202);
    assert_eq!(admin.ended(id(&record)).await["status"], "partially_succeeded");
    admin.resource("nowhere", "data_account", "Nowhere", "/", json!({})).await;
    admin.post(&format!("/api/v1/records/{}/retry", id(&record)), json!({})).await.is(202);
    let waits = admin.wait(id(&record), |status| !matches!(status, "queued" | "running")).await;
    assert_eq!(
        json!([waits["status"], waits["approval"]["requested_by"], waits["approval"]["plan_digest"]]),
        json!(["awaiting_approval", "admin", waits["plan_digest"]])
    );
    assert_eq!(admin.catalogue().await.len(), 2);
    approve(&second, &record, json!({})).await.is(202);
    assert_eq!(admin.ended(id(&record)).await["status"], "succeeded");
    assert_eq!(admin.catalogue().await.len(), 3);
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_migration_waits_for_its_target_to_approve_and_who_asked_at_the_source_does_not() {
    let test = Environment::start("test").await;
    let (production, second) = watched().await;
    let from = test.admin();
    let target = from.target("production", &production.server.url(), &production.admin().token).await;
    // The same name here and there: he asked for it.
    let asks = holder(&test, "dev", &["migration.online", "resource.read", "resource.write"]).await;
    let same = approver(&production, "dev").await;
    asks.resource("ds", "dataset", "Orders", "/Sales", json!({})).await;
    let body = json!({"target_id": target, "resource_ids": ["ds"]});
    let record = asks.post("/api/v1/migrations", body.clone()).await.is(202);
    let waits = asks.wait(id(&record), |status| status == "awaiting_approval").await;
    assert_eq!(json!([waits["kind"], waits["approval"]["state"]]), json!(["online", "waiting"]));
    let there = second.get(ADDRESS).await.is(200)["items"][0].clone();
    assert_eq!(
        json!([there["id"], there["source_requested_by"], there["requested_by"]]),
        json!([waits["remote_record_id"], "dev", "admin"])
    );
    approve(&same, &there, json!({})).await.problem(403, "forbidden");
    approve(&second, &there, json!({})).await.is(202);
    let ended = asks.ended(id(&record)).await;
    assert_eq!(
        json!([ended["status"], ended["approval"]["approved_by"], ended["counts"]["succeeded"]]),
        json!(["succeeded", "second", 1]),
        "{ended}"
    );

    // One that waits is cancelled here, and there too.
    asks.resource("ds", "dataset", "Orders 2", "/Sales", json!({})).await;
    let record = asks.post("/api/v1/migrations", body.clone()).await.is(202);
    asks.wait(id(&record), |status| status == "awaiting_approval").await;
    asks.post(&format!("/api/v1/records/{}/cancel", id(&record)), json!({})).await.is(200);
    let ended = asks.ended(id(&record)).await;
    assert_eq!(ended["status"], "cancelled");
    let there = ended["remote_record_id"].as_str().unwrap();
    assert_eq!(production.admin().ended(there).await["status"], "cancelled");
    // One that is rejected there fails here.
    let record = asks.post("/api/v1/migrations", body).await.is(202);
    asks.wait(id(&record), |status| status == "awaiting_approval").await;
    let there = second.get(ADDRESS).await.is(200)["items"][0].clone();
    second.post(&format!("{ADDRESS}/{}/reject", id(&there)), json!({"comment": "later"})).await.is(200);
    let ended = asks.ended(id(&record)).await;
    assert_eq!(json!([ended["status"], ended["error"]["code"]]), json!(["failed", "approval_rejected"]));
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_confirmed_migration_is_approved_as_it_was_shown() {
    let test = Environment::start("test").await;
    let (production, second) = watched().await;
    let from = test.admin();
    let target = from.target("production", &production.server.url(), &production.admin().token).await;
    from.resource("ds", "dataset", "Orders", "/Sales", json!({})).await;
    let body = json!({"target_id": target, "resource_ids": ["ds"], "confirm": true});
    let record = from.post("/api/v1/migrations", body).await.is(202);
    let shown = from.wait(id(&record), |status| status == "awaiting_confirmation").await;
    assert_eq!(second.get(ADDRESS).await.is(200)["items"], json!([]));
    let digest = json!({"plan_digest": shown["plan_digest"]});
    from.post(&format!("/api/v1/migrations/{}/confirm", id(&record)), digest.clone()).await.is(202);
    from.wait(id(&record), |status| status == "awaiting_approval").await;
    let there = second.get(ADDRESS).await.is(200)["items"][0].clone();
    assert_eq!(there["plan_digest"], shown["plan_digest"]);
    // The target moves: what was approved is not what would be applied, and both are asked again.
    production.admin().resource("ds", "dataset", "Here", "/Sales", json!({"here": true})).await;
    approve(&second, &there, json!({})).await.is(202);
    let shown = from.wait(id(&record), |status| status == "awaiting_confirmation").await;
    assert_eq!(shown["error"]["code"], "plan_stale", "{shown}");
    let digest = json!({"plan_digest": shown["plan_digest"]});
    from.post(&format!("/api/v1/migrations/{}/confirm", id(&record)), digest).await.is(202);
    from.wait(id(&record), |status| status == "awaiting_approval").await;
    approve(&second, &there, json!({})).await.is(202);
    assert_eq!(from.ended(id(&record)).await["status"], "succeeded");
    test.end().await;
    production.end().await;
}
