//! Records as they are followed, confirmed, cancelled, tried again, and let go.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::proxy::{Fault, Proxy};
use crate::support::retail::{load_retail, retail_pair};
use crate::support::{Environment, User};

async fn end(environments: impl IntoIterator<Item = Environment>) {
    for environment in environments {
        environment.end().await;
    }
}

fn id(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}

async fn shown(user: &User, id: &str) -> Value {
    user.wait(id, |status| status != "queued" && status != "running").await
}

#[tokio::test]
async fn a_migration_to_be_confirmed_waits_with_the_plan_of_its_target() {
    let (test, production, target) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    to.resource("taken", "data_account", "Warehouse", "/", json!({})).await;
    let body = json!({"target_id": target, "selection": {"all": true}, "confirm": true});
    let record = from.post("/api/v1/migrations", body).await.is(202);
    let record = shown(&from, id(&record)).await;
    assert_eq!(record["status"], "awaiting_confirmation", "{record}");
    assert!(record["plan_digest"].is_string() && record["remote_record_id"].is_string());
    assert!(record["counts"]["blocked"].as_u64().unwrap() > 0);
    let item = from.item(&record, "da_warehouse").await;
    assert_eq!((&item["method"], &item["status"]), (&json!("blocked"), &json!("pending")));
    assert_eq!(item["errors"][0]["message"], "Duplicate Data Account name");
    assert_eq!(to.catalogue().await.len(), 1, "nothing is written before it is confirmed");

    let confirm = format!("/api/v1/migrations/{}/confirm", id(&record));
    from.post(&confirm, json!({"plan_digest": "sha256:other"})).await.problem(409, "plan_stale");
    let unknown = json!({"resolutions": {"nobody": {"action": "skip"}}});
    from.post(&confirm, unknown).await.problem(422, "invalid_field");
    let wrong = json!({"resolutions": {"da_warehouse": {"action": "burn"}}});
    from.post(&confirm, wrong).await.problem(422, "invalid_field");
    // A resolution that the target refuses shows the plan again, with the reason.
    let nowhere = json!({"resolutions": {"da_warehouse": {"action": "map", "target_id": "nowhere"}}});
    from.post(&confirm, nowhere).await.is(202);
    let again = shown(&from, id(&record)).await;
    assert_eq!((&again["status"], &again["error"]["code"]), (&json!("awaiting_confirmation"), &json!("invalid_field")));
    let map = json!({"resolutions": {"da_warehouse": {"action": "map", "target_id": "taken"}}});
    from.post(&confirm, map).await.is(202);
    let ended = from.ended(id(&record)).await;
    assert_eq!((&ended["status"], &ended["counts"]["blocked"]), (&json!("succeeded"), &json!(0)), "{ended}");
    assert_eq!(from.item(&ended, "da_warehouse").await["method"], "map");
    from.post(&confirm, json!({})).await.problem(409, "wrong_state");
    end([test, production]).await;
}

#[tokio::test]
async fn a_plan_that_the_target_left_behind_is_shown_again() {
    let (test, production, target) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    let body = json!({"target_id": target, "selection": {"all": true}, "confirm": true});
    let record = from.post("/api/v1/migrations", body).await.is(202);
    let record = shown(&from, id(&record)).await;
    to.resource("taken", "data_account", "Warehouse", "/", json!({})).await;
    let confirm = format!("/api/v1/migrations/{}/confirm", id(&record));
    from.post(&confirm, json!({"plan_digest": record["plan_digest"]})).await.is(202);
    let again = shown(&from, id(&record)).await;
    assert_eq!((&again["status"], &again["error"]["code"]), (&json!("awaiting_confirmation"), &json!("plan_stale")));
    assert_ne!(again["plan_digest"], record["plan_digest"]);
    assert_eq!(to.catalogue().await.len(), 1, "nothing was written");
    from.post(&confirm, json!({"plan_digest": again["plan_digest"]})).await.is(202);
    assert_eq!(from.ended(id(&record)).await["status"], "partially_succeeded");
    end([test, production]).await;
}

#[tokio::test]
async fn what_is_cancelled_changes_nothing_any_more() {
    let (test, production, target) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    // An import that waits.
    let package = from.export_all().await;
    let record = to.upload(&package).await;
    let cancel = |record: &Value| format!("/api/v1/records/{}/cancel", id(record));
    let cancelled = to.post(&cancel(&record), json!({})).await.is(200);
    assert_eq!(cancelled["status"], "cancelled");
    assert!(cancelled["finished_at"].is_string());
    assert!(to.items(id(&record)).await.iter().all(|item| item["status"] == "skipped"));
    to.post(&cancel(&record), json!({})).await.problem(409, "wrong_state");
    let execute = format!("/api/v1/imports/{}/execute", id(&record));
    to.post(&execute, json!({})).await.problem(409, "wrong_state");
    // Exports and imports at whatever they are doing.
    for _ in 0..10 {
        let record = from.post("/api/v1/exports", json!({"name": "x", "selection": {"all": true}})).await.is(202);
        let answer = from.post(&cancel(&record), json!({})).await;
        let ended = from.ended(id(&record)).await;
        match answer.status.as_u16() {
            200 => assert_eq!(ended["status"], "cancelled"),
            _ => assert_eq!(
                (answer.problem(409, "wrong_state")["status"].clone(), &ended["status"]),
                (json!(409), &json!("succeeded"))
            ),
        }
        let record = to.upload(&package).await;
        to.post(&format!("/api/v1/imports/{}/execute", id(&record)), json!({})).await.is(202);
        let answer = to.post(&cancel(&record), json!({})).await;
        let (ended, there) = (to.ended(id(&record)).await, to.catalogue().await.len());
        match answer.status.as_u16() {
            200 => assert_eq!((&ended["status"], there), (&json!("cancelled"), 0)),
            _ => {
                answer.problem(409, "wrong_state");
                assert_eq!((&ended["status"], there), (&json!("succeeded"), 70));
                break;
            }
        }
    }
    // A migration that waits takes the import at the target with it.
    let body = json!({"target_id": target, "selection": {"all": true}, "confirm": true});
    let record = from.post("/api/v1/migrations", body).await.is(202);
    let record = shown(&from, id(&record)).await;
    from.post(&cancel(&record), json!({})).await.is(200);
    let there = to.get(&format!("/api/v1/records/{}", record["remote_record_id"].as_str().unwrap())).await.is(200);
    assert_eq!(there["status"], "cancelled");
    // And one that is on its way ends so, or has ended, on both sides alike.
    for _ in 0..5 {
        let body = json!({"target_id": target, "selection": {"all": true}, "change_ids": true, "directory_prefix": "/Copy", "on_name_clash": "rename"});
        let record = from.post("/api/v1/migrations", body).await.is(202);
        from.wait(id(&record), |status| status != "queued").await;
        from.post(&cancel(&record), json!({})).await;
        let ended = from.ended(id(&record)).await;
        if let Some(there) = ended["remote_record_id"].as_str() {
            assert_eq!(to.ended(there).await["status"], ended["status"]);
        }
    }
    end([test, production]).await;
}

#[tokio::test]
async fn what_failed_is_tried_again_and_what_succeeded_is_left_alone() {
    for change_ids in [false, true] {
        let (test, production, target) = retail_pair("").await;
        let (from, to) = (test.admin(), production.admin());
        to.resource("taken", "data_account", "Warehouse", "/", json!({})).await;
        let body = json!({"target_id": target, "selection": {"all": true}, "change_ids": change_ids});
        let record = from.post("/api/v1/migrations", body).await.is(202);
        let first = from.ended(id(&record)).await;
        assert_eq!(first["status"], "partially_succeeded", "{first}");
        let done = first["counts"]["succeeded"].as_u64().unwrap();
        let before = to.catalogue().await;
        assert_eq!(before.len() as u64, done + 1);

        // The cause is removed at the target, and something that came is changed there.
        to.delete("/api/v1/resources/taken").await.is(204);
        let parameter = from.item(&first, "gp_region").await["new_id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/resources/{parameter}");
        let edited = json!({"type": "global_parameter", "name": "edited here", "directory": "/Here", "definition": {}});
        to.put(&path, edited).await.is(200);
        let retry = format!("/api/v1/records/{}/retry", id(&record));
        from.post(&retry, json!({})).await.is(202);
        let second = from.ended(id(&record)).await;
        assert_eq!((&second["status"], &second["error"]), (&json!("succeeded"), &Value::Null), "{second}");
        assert_eq!(second["counts"]["create"], 70, "{second}");
        assert_eq!(second["remote_record_id"], first["remote_record_id"]);
        assert_eq!(to.catalogue().await.len(), 70, "nothing is there twice");
        let left = to.get(&path).await.is(200);
        assert_eq!(left["name"], "edited here", "what succeeded is not written again");
        if !change_ids {
            // A reference to the parameter says its name.
            let same = |found: Vec<Value>| -> Vec<Value> {
                let line = |one: &Value| json!([one["id"], one["content_hash"]]);
                found.iter().filter(|one| one["id"] != "gp_region").map(line).collect()
            };
            assert_eq!(same(from.catalogue().await), same(to.catalogue().await));
        }
        from.post(&retry, json!({})).await.problem(409, "wrong_state");
        end([test, production]).await;
    }
}

#[tokio::test]
async fn an_import_that_was_cancelled_is_taken_up_again_with_its_options() {
    let (test, production, _) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    let record = to.upload(&from.export_all().await).await;
    to.plan(id(&record), json!({"directory_prefix": "/Below"})).await;
    to.post(&format!("/api/v1/records/{}/cancel", id(&record)), json!({})).await.is(200);
    to.post(&format!("/api/v1/records/{}/retry", id(&record)), json!({})).await.is(202);
    let record = shown(&to, id(&record)).await;
    assert_eq!((&record["status"], &record["finished_at"]), (&json!("awaiting_confirmation"), &Value::Null));
    assert_eq!(record["options"]["directory_prefix"], "/Below");
    assert_eq!(to.execute(id(&record)).await["status"], "succeeded");
    assert!(to.catalogue().await.iter().all(|one| one["directory"].as_str().unwrap().starts_with("/Below/")));
    let viewer = production.new_user("default", "viewer").await;
    viewer.post(&format!("/api/v1/records/{}/retry", id(&record)), json!({})).await.problem(404, "not_found");
    end([test, production]).await;
}

/// The records that the events of a stream hold, until it ends by itself.
async fn events(user: &User, id: &str) -> Vec<Value> {
    let answer = user.send(user.request(Method::GET, &format!("/api/v1/records/{id}/events"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    assert_eq!(answer.headers["x-accel-buffering"], "no");
    let text = answer.text();
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[tokio::test]
async fn whoever_follows_a_record_hears_of_each_change_until_it_ends() {
    let (test, production, target) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    let body = json!({"target_id": target, "selection": {"all": true}});
    let record = from.post("/api/v1/migrations", body).await.is(202);
    let heard = events(&from, id(&record)).await;
    let last = heard.last().unwrap();
    assert_eq!(
        (&last["status"], last),
        (&json!("succeeded"), &from.get(&format!("/api/v1/records/{}", id(&record))).await.is(200))
    );
    assert!(heard.len() > 3, "{}", heard.len());
    assert!(heard.windows(2).all(|pair| pair[0] != pair[1]), "an event without a change");
    assert!(heard.iter().all(|one| one["progress"]["done"].as_u64() <= one["progress"]["total"].as_u64()));
    let units: Vec<_> =
        heard.iter().filter(|one| one["phase"] == "uploading").map(|one| &one["progress"]["unit"]).collect();
    assert!(units.iter().all(|unit| *unit == "bytes"), "{units:?}");
    // One that has ended is told once.
    assert_eq!(events(&from, id(&record)).await, std::slice::from_ref(last));
    let viewer = production.new_user("default", "viewer").await;
    let there = last["remote_record_id"].as_str().unwrap();
    viewer.get(&format!("/api/v1/records/{there}/events")).await.problem(404, "not_found");
    assert_eq!(events(&to, there).await.len(), 1);
    end([test, production]).await;
}

#[tokio::test]
async fn what_is_past_its_time_goes_and_what_a_record_says_stays() {
    let retention = "[retention]\npackage_days = 0\nkey_days = 0\nevery_seconds = 1\n";
    let here = Environment::configured("test", retention).await;
    let user = here.admin();
    load_retail(&user).await;
    let record = user.post("/api/v1/exports", json!({"name": "x", "selection": {"all": true}})).await.is(202);
    let ended = user.ended(id(&record)).await;
    let package = format!("/api/v1/exports/{}/package", id(&record));
    here.until(async || user.get(&package).await.status == 410).await;
    user.get(&package).await.problem(410, "gone");
    assert_eq!(user.get(&format!("/api/v1/records/{}", id(&record))).await.is(200), ended);
    let upload =
        user.request(Method::POST, "/api/v1/uploads").header("tus-resumable", "1.0.0").header("upload-length", 3);
    let upload = user.send(upload).await;
    let location = upload.headers["location"].to_str().unwrap().to_owned();
    let head = || user.request(Method::HEAD, &location).header("tus-resumable", "1.0.0");
    assert_eq!(user.send(head()).await.status, 200);
    let mut connection = here.sql().await;
    sqlx::query("update uploads set expires_at = now()").execute(&mut connection).await.unwrap();
    drop(connection);
    here.until(async || user.send(head()).await.status == 404).await;
    here.end().await;
}

#[tokio::test]
async fn a_target_that_was_told_to_write_has_the_last_word_on_a_cancel() {
    let (test, production, _) = retail_pair("jobs.concurrency = 1").await;
    let (from, to) = (test.admin(), production.admin());
    let proxy = Proxy::before(production.server.address).await;
    let target = from.target("cut", &proxy.url(), &to.token).await;
    // Nobody gets at the catalogue of the target: the import waits there after it was told to write.
    let mut holder = production.sql().await;
    let mut held = sqlx::Connection::begin(&mut holder).await.unwrap();
    sqlx::query("lock table resources in exclusive mode").execute(&mut *held).await.unwrap();
    let record =
        from.post("/api/v1/migrations", json!({"target_id": target, "selection": {"all": true}})).await.is(202);
    from.wait_for(id(&record), |record| record["phase"] == "applying").await;
    let cancel = format!("/api/v1/records/{}/cancel", id(&record));
    // It cannot be asked, so nobody says that it is cancelled.
    proxy.once(Fault::Answer(
        "POST /api/v1/records/",
        "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ));
    from.post(&cancel, json!({})).await.problem(503, "target_unreachable");
    // It is asked again until it has heard of it.
    let ended = from.ended(id(&record)).await;
    held.rollback().await.unwrap();
    drop(holder);
    assert_eq!(ended["status"], "cancelled");
    assert_eq!(to.ended(ended["remote_record_id"].as_str().unwrap()).await["status"], "cancelled");
    assert!(to.catalogue().await.is_empty());
    end([test, production]).await;
}

/// All of a list of a record, page by page.
async fn all_of(user: &User, list: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = user.get(&format!("{list}?limit=70{cursor}")).await.is(200);
        all.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[tokio::test]
async fn long_lists_of_a_record_are_shown_in_part_and_read_in_pages() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (test.admin(), production.admin());
    let target = from.target("production", &to.base, &to.token).await;
    let lines: Vec<Value> = (0..650)
        .flat_map(|at| {
            let (account, card) = (format!("account{at:03}"), format!("card{at:03}"));
            [
                json!({"id": account, "type": "data_account", "name": account, "directory": "/", "definition": {"password": "s3cret"}}),
                json!({"id": card, "type": "card", "name": card, "directory": "/", "definition": {"dataset_id": "none"}}),
            ]
        })
        .collect();
    from.batch(&lines).await;
    let body = json!({"target_id": target, "selection": {"all": true}});
    let record = from.post("/api/v1/migrations", body).await.is(202);
    let record = from.ended(id(&record)).await;
    let there = record["remote_record_id"].as_str().unwrap();
    let ids = |list: &[Value]| list.iter().map(|line| line["resource_id"].clone()).collect::<Vec<Value>>();
    for (user, record_id) in [(&from, id(&record)), (&to, there)] {
        let path = format!("/api/v1/records/{record_id}");
        let shown = user.get(&path).await.is(200);
        assert_eq!(user.get("/api/v1/records").await.is(200)["items"][0], shown);
        for list in ["warnings", "checklist"] {
            let total = shown[format!("{list}_total")].as_u64().unwrap();
            let all = all_of(user, &format!("{path}/{list}")).await;
            assert_eq!(all.len() as u64, total);
            assert_eq!(shown[list].as_array().unwrap()[..], all[..all.len().min(100)], "{list}");
            let distinct: std::collections::HashSet<String> = all.iter().map(Value::to_string).collect();
            assert_eq!(distinct.len(), all.len(), "{list}");
        }
        // The last one is about permissions.
        assert_eq!(shown["checklist_total"], 651, "{shown}");
        user.get(&format!("{path}/warnings?cursor=WzFd")).await.problem(422, "invalid_field");
    }
    assert_eq!(record["warnings_total"], 650);
    let checklist = format!("/api/v1/records/{there}/checklist");
    let before = all_of(&to, &checklist).await;
    assert_eq!(ids(&before), ids(&all_of(&from, &format!("/api/v1/records/{}/checklist", id(&record))).await));
    let last = before[649]["resource_id"].as_str().unwrap();
    to.resource(last, "data_account", last, "/", json!({"password": "given"})).await;
    let done: Vec<usize> = all_of(&to, &checklist)
        .await
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry["done"] == true)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(done, [649]);
    let stranger = production.new_user("default", "viewer").await;
    stranger.get(&checklist).await.problem(404, "not_found");
    end([test, production]).await;
}
