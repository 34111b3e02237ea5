//! A full disk is told as what it is, here and at the target, and work goes on once there is room.

use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::online::{begin, new_target};
use crate::support::process::Process;
use crate::support::{ADMIN, Environment, User};

/// Room for three MiB, until it is dropped.
enum Small {
    /// In a file system over a folder.
    Mounted(PathBuf),
    /// In each file that the process of this number writes.
    Limited(u32),
}

/// What is short.
#[derive(Clone, Copy)]
enum Short {
    Disk,
    FileSize,
}

/// Says that nobody may mount here; else a test that has to fails.
const NO_MOUNT: &str = "FERRY_TESTS_WITHOUT_MOUNT";

impl Small {
    /// None: it is said that nobody may mount, and the limit on files alone is tested.
    fn over(folder: &Path, process: &Process, short: Short) -> Option<Self> {
        match short {
            Short::Disk => {
                std::fs::create_dir_all(folder).unwrap();
                let mounted =
                    Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(folder).output();
                if mounted.is_ok_and(|done| done.status.success()) {
                    return Some(Self::Mounted(folder.to_owned()));
                }
                assert!(std::env::var_os(NO_MOUNT).is_some(), "run the tests as root, or set {NO_MOUNT}=1");
                None
            }
            Short::FileSize => {
                limit(process.pid(), "3145728");
                Some(Self::Limited(process.pid()))
            }
        }
    }

    /// Leaves no room at all, where it is one for all files.
    fn fill(&self) {
        if let Self::Mounted(folder) = self {
            while std::fs::write(folder.join(uuid::Uuid::new_v4().to_string()), [0; 4096]).is_ok() {}
        }
    }
}

/// Limits the size of the files that a process writes, so that it can be taken back.
fn limit(pid: u32, bytes: &str) {
    let done =
        Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--fsize={bytes}:")]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

impl Drop for Small {
    fn drop(&mut self) {
        match self {
            Self::Mounted(folder) => drop(Command::new("umount").arg("--lazy").arg(folder).status()),
            Self::Limited(pid) => limit(*pid, "unlimited"),
        }
    }
}

/// So many MiB that do not get smaller.
fn noise(mebibytes: usize) -> Vec<u8> {
    (0..mebibytes << 16).flat_map(|_| uuid::Uuid::new_v4().into_bytes()).collect()
}

/// It is said before all of a body is there: whoever still sends it may find the connection ended, and asks again.
async fn refused(request: &RequestBuilder) {
    for _ in 0..100 {
        if let Ok(answer) = request.try_clone().unwrap().send().await
            && let status = answer.status()
            && let Ok(problem) = answer.json::<Value>().await
        {
            assert_eq!((status.as_u16(), &problem["code"]), (507, &json!("storage_full")), "{problem}");
            return;
        }
    }
    panic!("nobody says that it is full");
}

async fn export(user: &User) -> Value {
    let body = json!({"name": "package", "selection": {"all": true}});
    let record = user.post("/api/v1/exports", body).await.is(202);
    user.ended(record["id"].as_str().unwrap()).await
}

#[tokio::test]
async fn a_full_disk_is_told_on_every_path_and_nothing_is_lost_by_it() {
    told_on_every_path(Short::Disk).await;
}

#[tokio::test]
async fn a_limit_on_files_is_told_on_every_path_and_nothing_is_lost_by_it() {
    told_on_every_path(Short::FileSize).await;
}

async fn told_on_every_path(short: Short) {
    let (source, target) = (Environment::start("test").await, Process::start("production").await);
    let (from, to) = (source.admin(), target.admin());
    let bytes = noise(8);
    from.attachment("/img/large.png", &bytes).await.is(201);
    from.resource("c", "card", "Card", "/", json!({"images": ["/img/large.png"]})).await;
    // A disk without any room needs no more than a resource; a file, more than it may have.
    let images = match short {
        Short::Disk => json!([]),
        Short::FileSize => {
            to.attachment("/img/here.png", &noise(4)).await.is(201);
            json!(["/img/here.png"])
        }
    };
    to.resource("here", "card", "Here", "/", json!({"images": images})).await;
    let package = from.export_all().await;
    let Some(small) = Small::over(&target.files.path().join("store"), &target, short) else { return };

    refused(&to.request(Method::PUT, "/api/v1/attachments/img/large.png").body(bytes.clone())).await;
    let request = to.request(Method::POST, "/api/v1/imports").header("content-type", "application/zip");
    refused(&request.body(package.clone())).await;
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
    let Some(small) = Small::over(&working_folder(&target), &target, Short::Disk) else { return };
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
