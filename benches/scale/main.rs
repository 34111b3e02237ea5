//! Speed beside `pg_dump` and `pg_restore`, on the product's own tables, in paired rounds of one run.
//!
//! `cargo bench --bench scale -- [RESOURCES …] [--rounds 5] [--plot FILE]`: 10,000 unless given. Each operation counts
//! from the request to the ended record; starting servers does not count. A rate of 1.0 is as fast as Postgres' own
//! tool, 2.0 twice as fast. Servers are processes of their own, of which the memory is watched. `spots` instead of a
//! number measures what was once quadratic.
#![expect(clippy::print_stdout, reason = "the figures are for people")]

mod catalogue;
mod commits;
mod environment;
mod figures;
mod gates;
mod offline;
mod online;
mod plot;
mod spots;
mod tools;
mod wire;

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use clap::Parser;
use ferry::postgres::{Options, Postgres};
use serde_json::json;

use environment::Environment;
use figures::Figures;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures how fast Ferry is.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many resources, a run for each number; or `spots`: what was once quadratic.
    #[arg(default_value = "10000")]
    what: Vec<What>,
    /// Of which the medians are taken.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Draws the rates into an SVG file.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Resources(usize),
    Spots,
}

impl FromStr for What {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "spots" { Ok(Self::Spots) } else { text.parse().map(Self::Resources) }
    }
}

/// One Postgres and a folder for everything.
struct Bench {
    admin: String,
    folder: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = std::env::temp_dir().join("ferry-bench");
    let postgres = Postgres::start(&folder.join("postgres"), &Options { max_connections: 100, durable: true })?;
    let bench = Bench { admin: postgres.url("postgres"), folder };
    let mut runs = Vec::new();
    for what in &arguments.what {
        match what {
            What::Spots => spots::measure(&bench).await?,
            What::Resources(count) => {
                let figures = measure(&bench, *count, arguments.rounds).await?;
                print!("{figures}");
                runs.push(figures);
            }
        }
    }
    print!("{}", figures::Growth(&runs));
    if let Some(file) = arguments.plot {
        std::fs::write(&file, plot::svg(&runs)).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// A catalogue with one revision of each resource: more would weigh on Postgres' own tools alone.
async fn loaded(bench: &Bench, count: usize) -> anyhow::Result<Environment> {
    let test = Environment::new(bench, "test").await?;
    catalogue::load(&test, count, 0).await?;
    // What loading has left in its memory is not the operations'.
    test.restarted().await
}

async fn loaded_anew(bench: &Bench, before: Environment, count: usize) -> anyhow::Result<Environment> {
    before.stop()?;
    loaded(bench, count).await
}

/// All rounds of one number of resources.
async fn measure(bench: &Bench, count: usize, rounds: usize) -> anyhow::Result<Figures> {
    let mut figures = Figures::new(count, rounds);
    let mut test = loaded(bench, count).await?;
    for round in 1..=rounds {
        if round > 1 {
            test = loaded_anew(bench, test, count).await?;
        }
        let (dumped, dump) = bench.dump("test")?;
        let (exported, package) = figures.watch(&[("export", &test)], offline::export(&test, count)).await?;
        figures.time(&gates::EXPORT, dumped, exported);
        figures.bytes(&gates::PACKAGE, std::fs::metadata(&dump)?.len(), package.len() as u64);

        let production = Environment::new(bench, "production").await?;
        let import = |options, counted| offline::import(&production, &package, options, counted, count);
        let restored = bench.restore(&dump).await?;
        let created = figures.watch(&[("import, all new", &production)], import(json!({}), "create")).await?;
        figures.time(&gates::IMPORT, restored, created);
        let restored = bench.restore(&dump).await?;
        let unchanged =
            figures.watch(&[("import, nothing changed", &production)], import(json!({}), "unchanged")).await?;
        figures.time(&gates::UNCHANGED, restored, unchanged);

        catalogue::load(&test, count, round).await?;
        test = test.restarted().await?;
        let (_, package) = offline::export(&test, count).await?;
        let import = |options, counted| offline::import(&production, &package, options, counted, count);
        let restored = bench.restore(&dump).await?;
        let updated = figures.watch(&[("import, all changed", &production)], import(json!({}), "update")).await?;
        figures.time(&gates::CHANGED, restored, updated);
        let options = json!({"change_ids": true, "directory_prefix": "/Copy"});
        let copied = figures.watch(&[("import with changed IDs", &production)], import(options, "create")).await?;
        figures.time(&gates::CHANGED_IDS, created, copied);
        production.stop()?;
        test = loaded_anew(bench, test, count).await?;
        online::round(bench, &test, round, &mut figures).await?;
    }
    figures.commits = Some(commits::of_one_migration(bench, &test, count).await?);
    test.stop()?;
    Ok(figures)
}
