//! What a package says of its own rights gives none.

use serde_json::{Value, json};

use crate::support::Environment;
use crate::support::package::{Forge, honest};

#[tokio::test]
async fn owner_domain_and_maker_out_of_a_package_give_nothing() {
    let production = Environment::start("production").await;
    let admin = production.admin();
    let other = production.new_user("other", "admin").await;
    let boss = other.get("/api/v1/session").await.is(200)["username"].clone();
    let operator = production.new_user("default", "operator").await;
    let who = operator.get("/api/v1/session").await.is(200)["username"].clone();
    let mut forge = Forge::of(&honest().await.package);
    let claims = json!({
        "owner": boss, "domain": "other", "domain_id": 2, "created_by": boss, "updated_by": boss,
        "created_at": "2001-01-01T00:00:00Z", "updated_at": "2001-01-01T00:00:00Z", "revision": 99,
        "imported": {"record_id": uuid::Uuid::nil(), "source_environment": "x", "at": "2001-01-01T00:00:00Z"},
        "permissions": ["domain.manage"], "content_hash": format!("sha256:{}", "0".repeat(64)),
    });
    forge.edit("resources/00001.ndjson", |lines| {
        for line in lines {
            line.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        }
    });
    forge.manifest["domain"] = json!("other");
    forge.manifest["exported_by"] = boss.clone();
    let record = operator.import(&forge.build(), json!({})).await;
    assert_eq!(
        (&record["status"], &record["domain"], &record["requested_by"]),
        (&json!("succeeded"), &json!("default"), &who)
    );

    let catalogue = admin.catalogue().await;
    assert_eq!(catalogue.len(), honest().await.catalogue.len());
    for resource in &catalogue {
        assert_eq!((&resource["owner"], &resource["updated_by"]), (&who, &who), "{resource}");
        assert_eq!(resource["revision"], 1, "{resource}");
        assert_eq!(resource["imported"]["record_id"], record["id"], "{resource}");
        assert!(resource["created_at"].as_str().unwrap() > "2026", "{resource}");
        assert_ne!(resource["content_hash"], claims["content_hash"]);
    }
    assert_eq!(other.catalogue().await, Vec::<Value>::new(), "the domain that it names has none of it");
    assert_eq!(other.get("/api/v1/records").await.is(200)["items"], json!([]));
    production.end().await;
}
