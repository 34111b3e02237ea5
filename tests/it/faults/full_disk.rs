//! A full disk is told as what it is, here and at the target, and work goes on once there is room.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::online::{begin, new_target};
use crate::support::process::Process;
use crate::support::{ADMIN, Environment, User};

/// A file system of three MiB over a folder, until it is dropped.
struct Small(PathBuf);

impl Small {
    /// None: whoever runs the tests may not mount.
    fn over(folder: &Path) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(folder).output();
        mounted.is_ok_and(|done| done.status.success()).then(|| Self(folder.to_owned()))
    }

    /// Leaves no room at all.
    fn fill(&self) {
        while std::fs::write(self.0.join(uuid::Uuid::new_v4().to_string()), [0; 4096]).is_ok() {}
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

/// So many MiB that do not get smaller.
fn noise(mebibytes: usize) -> Vec<u8> {
    (0..mebibytes << 16).flat_map(|_| uuid::Uuid::new_v4().into_bytes()).collect()
}

async fn export(user: &User) -> Value {
    let body = json!({"name": "package", "selection": {"all": true}});
    let record = user.post("/api/v1/exports", body).await.is(202);
    user.ended(record["id"].as_str().unwrap()).await
}

#[tokio::test]
async fn a_full_disk_is_told_on_every_path_and_nothing_is_lost_by_it() {
    let (source, target) = (Environment::start("test").await, Process::start("production").await);
    let (from, to) = (source.admin(), target.admin());
    let bytes = noise(8);
    from.attachment("/img/large.png", &bytes).await.is(201);
    from.resource("c", "card", "Card", "/", json!({"images": ["/img/large.png"]})).await;
    to.resource("here", "card", "Here", "/", json!({})).await;
    let package = from.export_all().await;
    let Some(small) = Small::over(&target.files.path().join("store")) else { return };

    to.attachment("/img/large.png", &bytes).await.problem(507, "storage_full");
    to.post_package(&package).await.problem(507, "storage_full");
    let there = new_target(&from, &target.url(), ADMIN).await;
    let migration = begin(&from, &there).await;
    let record = from.ended(&migration).await;
    assert_eq!((&record["status"], &record["error"]["code"]), (&json!("failed"), &json!("storage_full")), "{record}");
    small.fill();
    let failed = export(&to).await;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("storage_full")), "{failed}");
    drop(small);

    let retry = |id: &str| format!("/api/v1/records/{id}/retry");
    let id = failed["id"].as_str().unwrap();
    to.post(&retry(id), json!({})).await.is(202);
    assert_eq!(to.ended(id).await["status"], "succeeded");
    from.post(&retry(&migration), json!({})).await.is(202);
    let record = from.ended(&migration).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    assert!(to.get("/api/v1/attachments/img/large.png").await.bytes == bytes);
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_full_working_folder_is_told_too() {
    let target = Process::start("production").await;
    let to = target.admin();
    let Some(small) = Small::over(&working_folder(&target)) else { return };
    small.fill();
    let bytes = &noise(1)[..10_000];
    to.attachment("/img/large.png", bytes).await.problem(507, "storage_full");
    to.post_package(bytes).await.problem(507, "storage_full");
    drop(small);
    to.attachment("/img/large.png", bytes).await.is(201);
    target.end().await;
}

fn working_folder(process: &Process) -> PathBuf {
    let mut folders = std::fs::read_dir(process.files.path().join("scratch")).unwrap();
    folders.next().unwrap().unwrap().path()
}
