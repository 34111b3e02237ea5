//! What was once quadratic: each with n and with four times as many. Linear work takes four times as long.

use std::time::{Duration, Instant};

use ferry::db;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::environment::Environment;
use super::{Bench, offline};

/// A step of a spot, and what it took.
type Step = (&'static str, Duration);

/// Measures all and prints a line for each step.
pub async fn measure(bench: &Bench) -> anyhow::Result<()> {
    println!("\n| what | n | s | 4 n | s | ratio; linear 4 |\n| --- | --- | --- | --- | --- | --- |");
    compare("datasets of 400 fields that get others", 125, async |n| children(bench, n, 400).await).await?;
    compare("fields of 500 datasets that get others", 100, async |n| children(bench, 500, n).await).await?;
    compare("bytes in one line of a batch", 3_750_000, async |n| long_line(bench, n).await).await?;
    compare("pictures in one card", 8_000, async |n| pictures(bench, n).await).await?;
    compare("tasks in a chain, each with a clashing output", 1_000, async |n| chain(bench, n).await).await?;
    compare("clashing outputs of one task", 1_000, async |n| star(bench, n).await).await?;
    compare("references by a name that is not unique", 2_500, async |n| names(bench, n).await).await
}

async fn compare(what: &str, n: usize, spot: impl AsyncFn(usize) -> anyhow::Result<Vec<Step>>) -> anyhow::Result<()> {
    let (few, many) = (spot(n).await?, spot(4 * n).await?);
    for ((step, before), (_, after)) in few.iter().zip(&many) {
        let (before, after) = (before.as_secs_f64(), after.as_secs_f64());
        println!("| {what}: {step} | {n} | {before:.2} | {} | {after:.2} | {:.1} |", 4 * n, after / before);
    }
    Ok(())
}

async fn batch(to: &Environment, lines: &[Value]) -> anyhow::Result<Duration> {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let begun = Instant::now();
    to.client.post_lines("/api/v1/resources/batch", body.into_bytes()).await?;
    Ok(begun.elapsed())
}

async fn export(from: &Environment) -> anyhow::Result<(Duration, Vec<u8>)> {
    let begun = Instant::now();
    let record = from.client.post("/api/v1/exports", &json!({"name": "spot", "selection": {"all": true}})).await?;
    let record = from.ended(&record, "succeeded").await?;
    Ok((begun.elapsed(), offline::package(from, &record).await?))
}

/// Imports a package; it ends as said.
async fn import(to: &Environment, package: Vec<u8>, status: &str) -> anyhow::Result<Vec<Step>> {
    let begun = Instant::now();
    let record = to.client.post_package(package).await?;
    let record = to.ended(&record, "awaiting_confirmation").await?;
    let parsed = begun.elapsed();
    let begun = Instant::now();
    let path = format!("/api/v1/imports/{}/execute", record["id"].as_str().unwrap_or_default());
    let record = to.client.post(&path, &json!({})).await?;
    to.ended(&record, status).await?;
    Ok(vec![("parse", parsed), ("execute", begun.elapsed())])
}

fn line(id: String, kind: &str, name: String, definition: Value) -> Value {
    json!({"id": id, "type": kind, "name": name, "directory": "/Spots", "definition": definition})
}

/// Fields that disappear leave tombstones.
async fn children(bench: &Bench, datasets: usize, fields: usize) -> anyhow::Result<Vec<Step>> {
    let test = Environment::new(bench, "spot").await?;
    let edition = |edition: usize| -> Vec<Value> {
        let fields: Vec<Value> = (0..fields).map(|field| json!({"id": format!("{edition}_{field}")})).collect();
        (0..datasets)
            .map(|at| line(format!("d{at}"), "dataset", format!("D {at}"), json!({"fields": fields})))
            .collect()
    };
    batch(&test, &edition(1)).await?;
    let updated = batch(&test, &edition(2)).await?;
    test.stop()?;
    Ok(vec![("batch", updated)])
}

async fn long_line(bench: &Bench, n: usize) -> anyhow::Result<Vec<Step>> {
    let test = Environment::new(bench, "spot").await?;
    let took =
        batch(&test, &[line("long".to_owned(), "card", "Long".to_owned(), json!({"note": "x".repeat(n)}))]).await?;
    test.stop()?;
    Ok(vec![("batch", took)])
}

/// All of the same bytes: the paths are what counts.
async fn pictures(bench: &Bench, n: usize) -> anyhow::Result<Vec<Step>> {
    let (test, production) = pair(bench, "").await?;
    test.client.put_bytes("/api/v1/attachments/img/0.png", b"bytes".to_vec()).await?;
    let mut connection = PgConnection::connect(&db::with_database(&bench.admin, "spot")?).await?;
    let copies = "insert into attachments (domain_id, path, sha256, size)
        select a.domain_id, '/img/' || n || '.png', a.sha256, a.size from attachments a, generate_series(1, $1) n";
    sqlx::query(copies).bind(n as i64).execute(&mut connection).await?;
    connection.close().await?;
    let images: Vec<String> = (0..n).map(|at| format!("/img/{at}.png")).collect();
    let written =
        batch(&test, &[line("card".to_owned(), "card", "Card".to_owned(), json!({"images": images}))]).await?;
    let steps = moved(&test, &production, written).await?;
    stop([test, production])?;
    Ok(steps)
}

/// Each task needs the one before it and what that one writes; the target has all names already.
async fn chain(bench: &Bench, n: usize) -> anyhow::Result<Vec<Step>> {
    let task = |at: usize| {
        let node = match at.checked_sub(1) {
            Some(before) => json!({
                "id": 1, "task_id": format!("t{before}"), "input_dataset_ids": [format!("d{before}")],
                "output_dataset_ids": [format!("d{at}")],
            }),
            None => json!({"id": 1, "output_dataset_ids": ["d0"]}),
        };
        line(format!("t{at}"), "offline_dev_task", format!("T {at}"), json!({"nodes": [node]}))
    };
    clashing(bench, n, (0..n).map(task)).await
}

async fn star(bench: &Bench, n: usize) -> anyhow::Result<Vec<Step>> {
    let outputs: Vec<String> = (0..n).map(|at| format!("d{at}")).collect();
    let task = json!({"nodes": [{"id": 1, "output_dataset_ids": outputs}]});
    clashing(bench, n, [line("t".to_owned(), "offline_dev_task", "T".to_owned(), task)].into_iter()).await
}

async fn clashing(bench: &Bench, n: usize, tasks: impl Iterator<Item = Value>) -> anyhow::Result<Vec<Step>> {
    let (test, production) = pair(bench, "").await?;
    let datasets = |prefix: &str| -> Vec<Value> {
        (0..n).map(|at| line(format!("{prefix}{at}"), "dataset", format!("D {at}"), json!({}))).collect()
    };
    batch(&production, &datasets("holder")).await?;
    let mut lines = datasets("d");
    lines.extend(tasks);
    batch(&test, &lines).await?;
    let (_, package) = export(&test).await?;
    let steps = import(&production, package, "failed").await?;
    stop([test, production])?;
    Ok(steps)
}

/// A type whose texts name cards, which may share their names.
const LETTER: &str = r#"
key = "letter"
label = { en = "Letter", zh = "信", plural_en = "Letters" }
order = 200
unique_name = "none"

[[text_reference]]
path = "$.text"
pattern = '%([^%]+)%'
to = "card"
by = "name"
role = "Card"
kind = "use"
"#;

async fn names(bench: &Bench, n: usize) -> anyhow::Result<Vec<Step>> {
    let folder = bench.folder.join("types");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("letter.toml"), LETTER)?;
    let (test, production) = pair(bench, &format!("server.resource_types_dir = {}", json!(folder))).await?;
    let card = |at: usize| line(format!("c{at}"), "card", format!("Card {at}"), json!({}));
    let letter = |at: usize| {
        let text = format!("%Card {at}% and %Card {}%", (at * 7 + 1) % n);
        line(format!("l{at}"), "letter", format!("Letter {at}"), json!({"text": text}))
    };
    let lines: Vec<Value> = (0..n).map(card).chain((0..n).map(letter)).collect();
    let written = batch(&test, &lines).await?;
    let mut steps = moved(&test, &production, written).await?;
    // What is there is found by its name, too.
    let (_, package) = export(&test).await?;
    let options = json!({"change_ids": true});
    let copied = offline::import(&production, &package, options, "create", 2 * n).await?;
    steps.push(("import with changed IDs", copied));
    stop([test, production])?;
    Ok(steps)
}

/// Exports and imports everything.
async fn moved(from: &Environment, to: &Environment, written: Duration) -> anyhow::Result<Vec<Step>> {
    let (exported, package) = export(from).await?;
    let mut steps = vec![("batch", written), ("export", exported)];
    steps.extend(import(to, package, "succeeded").await?);
    Ok(steps)
}

async fn pair(bench: &Bench, more: &str) -> anyhow::Result<(Environment, Environment)> {
    let test = Environment::configured(bench, "spot", more).await?;
    Ok((test, Environment::configured(bench, "spot_target", more).await?))
}

fn stop(environments: impl IntoIterator<Item = Environment>) -> anyhow::Result<()> {
    environments.into_iter().try_for_each(Environment::stop)
}
