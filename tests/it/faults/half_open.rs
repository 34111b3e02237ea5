//! Targets that take everything and confirm nothing, or send without measure.

use std::time::{Duration, Instant};

use serde_json::json;

use super::invariants::catalogue;
use super::online::{begin, new_target};
use crate::support::process::Process;
use crate::support::proxy::{Fault, Proxy};
use crate::support::strange::Strange;
use crate::support::{ADMIN, Environment};

/// How long a call may wait, with what the rest of a migration takes.
const MOST: Duration = Duration::from_secs(45);

#[tokio::test]
async fn a_target_that_swallows_a_request_costs_half_a_minute_at_every_call() {
    let (source, target) = (Environment::start("test").await, Environment::start("production").await);
    let from = source.admin();
    from.batch(&catalogue(3, 1)).await;
    let mut running = Vec::new();
    for call in [
        "GET /api/v1/environment",
        "POST /api/v1/imports/lacking",
        "POST /api/v1/imports HTTP",
        "POST /api/v1/imports/0",
        "GET /api/v1/records/",
    ] {
        let proxy = Proxy::before(target.server.address).await;
        proxy.once(Fault::SwallowAfter(call, 0));
        let id = begin(&from, &new_target(&from, &proxy.url(), ADMIN).await).await;
        running.push((call, proxy, id));
    }
    let began = Instant::now();
    for (call, proxy, id) in running {
        let ended = from.ended(&id).await;
        assert_eq!((&ended["status"], proxy.done()), (&json!("succeeded"), 1), "{call}: {ended}");
        assert!(began.elapsed() < MOST, "{call}: {:?}", began.elapsed());
    }
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_piece_that_is_not_confirmed_is_sent_again_in_smaller_ones() {
    let (source, target) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (source.admin(), target.admin());
    let bytes: Vec<u8> = (0..6 << 16).flat_map(|_| uuid::Uuid::new_v4().into_bytes()).collect();
    from.attachment("/img/large.png", &bytes).await.is(201);
    from.resource("c", "card", "Card", "/", json!({"images": ["/img/large.png"]})).await;
    let proxy = Proxy::before(target.server.address).await;
    proxy.once(Fault::SwallowAfter("PATCH ", 0));
    let began = Instant::now();
    let migration = begin(&from, &new_target(&from, &proxy.url(), ADMIN).await).await;
    let pieces = "select count(*) from upload_pieces where start between 1 and 2000000";
    let smaller = async || sqlx::query_scalar::<_, i64>(pieces).fetch_one(&mut target.sql().await).await.unwrap() > 0;
    // The first piece had been all of the first five megabytes.
    target.until(smaller).await;
    assert_eq!(from.ended(&migration).await["status"], "succeeded");
    assert!(began.elapsed() < MOST, "{:?}", began.elapsed());
    assert!(to.get("/api/v1/attachments/img/large.png").await.bytes == bytes);
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn what_all_targets_send_takes_bounded_memory() {
    const MANY: usize = 20;
    let source = Process::start("test").await;
    let from = source.admin();
    from.batch(&catalogue(3, 1)).await;
    let before = source.peak_memory();
    let body = format!("[{}0]", "0,".repeat(15 << 20));
    let mut running = Vec::new();
    for _ in 0..MANY {
        let strange = Strange::saying("200 OK", "content-type: application/json\r\n", &body).await;
        let id = begin(&from, &new_target(&from, &strange.url(), "token").await).await;
        running.push((strange, id));
    }
    for (_, id) in &running {
        assert_eq!(from.ended(id).await["error"]["code"], "target_refused");
    }
    let grown = (source.peak_memory() - before) / 1024;
    assert!(grown < 96, "{grown} MiB");
    source.end().await;
}
