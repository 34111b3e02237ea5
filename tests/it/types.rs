//! x
use crate::support::Environment;
use serde_json::{Value, json};
#[tokio::test]
async fn probe_ratio() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let t = std::time::Instant::now();
    let fields: Vec<Value> = (0..200).map(|n| json!({"id": format!("{}{n}", "f".repeat(10_000))})).collect();
    user.resource("wide", "dataset", "Wide", "/", json!({"fields": fields})).await;
    println!("put {:?}", t.elapsed());
    let package = user.export_all().await;
    println!("export {:?}", t.elapsed());
    let mut a = zip::ZipArchive::new(std::io::Cursor::new(package)).unwrap();
    for i in 0..a.len() { let e = a.by_index(i).unwrap(); println!("{} {} {} {}", e.name().unwrap(), e.size(), e.compressed_size(), e.size() / e.compressed_size().max(1)); }
    test.end().await;
}
