//! A proxy on the way that takes a package at once and passes it on slowly: what the connection has taken says nothing.

use serde_json::json;

use super::online::{begin, new_target, random_bytes};
use crate::support::buffering::Buffering;
use crate::support::{ADMIN, Environment};

/// Fifteen times as fast as 60 kB a second, with a patience fifteen times shorter than 30 seconds.
const RATE: u32 = 15 * 60_000;
const IDLE: &str = "jobs.target_idle_seconds = 2\n";

#[tokio::test]
async fn a_package_that_a_proxy_passes_on_slowly_arrives_in_pieces_of_which_none_is_sent_again() {
    let (source, target) = (Environment::configured("test", IDLE).await, Environment::start("production").await);
    let (from, to) = (source.admin(), target.admin());
    let bytes = random_bytes(4 * 1024 * 1024, 5);
    from.attachment("/img/large.png", &bytes).await.is(201);
    from.resource("c", "card", "Card", "/", json!({"images": ["/img/large.png"]})).await;
    let size = from.export_all().await.len() as u64;
    let proxy = Buffering::before(target.server.address, RATE).await;
    let record = from.ended(&begin(&from, &new_target(&from, &proxy.url(), ADMIN).await).await).await;
    assert_eq!((&record["status"], &record["counts"]["create"]), (&json!("succeeded"), &json!(1)), "{record}");
    assert!(to.get("/api/v1/attachments/img/large.png").await.bytes == bytes);
    // Once in vain, as a whole, and once in pieces; the heads of some requests.
    let again = proxy.taken().checked_sub(2 * size).unwrap();
    assert!(again < 64 * 1024, "{again} bytes were sent again");
    let imports = to.get("/api/v1/records?kind=import").await.is(200);
    assert_eq!(imports["items"].as_array().unwrap().len(), 1, "{imports}");
    source.end().await;
    target.end().await;
}
