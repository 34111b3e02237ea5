//! The sample catalogue, in one environment or before a migration to another.

use serde_json::Value;

use super::{Environment, User};

/// The sample catalogue of `examples/retail`, loaded into an environment.
pub async fn load_retail(user: &User) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/retail");
    let attachments = folder.join("attachments");
    let mut folders = vec![attachments.clone()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = format!("/{}", path.strip_prefix(&attachments).unwrap().display());
                assert!(user.attachment(&name, &std::fs::read(&path).unwrap()).await.status.is_success());
            }
        }
    }
    let lines = std::fs::read_to_string(folder.join("resources.ndjson")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    user.batch(&lines).await;
}

/// A test environment with the sample catalogue, an empty production with more settings, and the target between
/// them.
pub async fn retail_pair(more: &str) -> (Environment, Environment, String) {
    let (test, production) = (Environment::start("test").await, Environment::configured("production", more).await);
    load_retail(&test.admin()).await;
    let to = production.admin();
    let target = test.admin().target("production", &to.base, &to.token).await;
    (test, production, target)
}
