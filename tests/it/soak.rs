//! Kills, restarts and stops at random times, many of them: `make soak`. A run is told by its seed, which is printed;
//! what holds after every fault holds here too.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ferry::postgres::{Options, Postgres};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::faults::invariants::{catalogue, contents, hashes_of, invariants, settled};
use crate::faults::online::{new_target, until};
use crate::support::User;
use crate::support::process::Process;

const RESOURCES: usize = 400;
/// Longer than a package of so many takes from its upload to its end.
const LONGEST: u64 = 700;

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    /// Of the environment, or of the clock; another for each test of one run.
    fn of(test: &str) -> Self {
        let given = std::env::var("FERRY_SOAK_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed: u64 = given.unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1 >> 32);
        say(&format!("{test}: FERRY_SOAK_SEED={seed}"));
        Self(test.bytes().fold(seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into())))
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }

    /// Some instant of what goes on.
    async fn moment(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.below(LONGEST))).await;
    }
}

fn say(line: &str) {
    #[expect(clippy::print_stderr, reason = "how far a long run is, and how to run it again")]
    {
        eprintln!("{line}");
    }
}

fn many(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

/// Sends a POST until somebody answers it; the same key does it once.
async fn post(user: &User, path: &str, key: &str, kind: &str, body: &[u8]) -> Value {
    loop {
        let request = user.request(Method::POST, path).header("idempotency-key", key).header("content-type", kind);
        if let Ok(answer) = request.body(body.to_vec()).send().await {
            let status = answer.status().as_u16();
            let Ok(text) = answer.bytes().await else { continue };
            match status {
                200..=299 => return serde_json::from_slice(&text).unwrap(),
                // It is being received, or somebody is away.
                409 | 500 | 503 => {}
                _ => panic!("{path}: {status} {}", String::from_utf8_lossy(&text)),
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_final(record: &Value) -> bool {
    !matches!(record["status"].as_str().unwrap(), "queued" | "running" | "awaiting_confirmation")
}

/// What somebody does, from its beginning to its end, whatever happens to the servers meanwhile.
#[derive(Clone, Copy, Debug)]
enum Work {
    Export,
    Import,
    Migration,
}

const WORKS: [Work; 3] = [Work::Export, Work::Import, Work::Migration];

/// What is worked on: two environments, one of which is to be as the other is.
struct Pair {
    from: User,
    to: User,
    there: String,
    package: Vec<u8>,
    expected: Vec<Value>,
}

impl Pair {
    /// Another edition of everything at the source.
    async fn edition(from: User, to: User, there: String, edition: usize) -> Self {
        from.batch(&catalogue(RESOURCES, edition as u32)).await;
        let (package, expected) = (from.export_all().await, contents(&from).await);
        Self { from, to, there, package, expected }
    }

    /// Does it; returns the record as it ended.
    async fn done(&self, work: Work, key: &str) -> Value {
        let json = "application/json";
        let (user, record) = match work {
            Work::Export => {
                let body = json!({"name": "soak", "selection": {"all": true}}).to_string();
                (&self.from, post(&self.from, "/api/v1/exports", key, json, body.as_bytes()).await)
            }
            Work::Migration => {
                let body = json!({"target_id": self.there, "selection": {"all": true}}).to_string();
                (&self.from, post(&self.from, "/api/v1/migrations", key, json, body.as_bytes()).await)
            }
            Work::Import => {
                let record = post(&self.to, "/api/v1/imports", key, "application/zip", &self.package).await;
                let id = record["id"].as_str().unwrap();
                until(&self.to, id, |record| record["status"] == "awaiting_confirmation").await;
                (&self.to, post(&self.to, &format!("/api/v1/imports/{id}/execute"), key, json, b"{}").await)
            }
        };
        let record = until(user, record["id"].as_str().unwrap(), is_final).await;
        assert_eq!(record["status"], "succeeded", "{key} {work:?}: {record}");
        record
    }

    /// What holds now.
    async fn check(&self, work: Work, record: &Value, source: &Process, target: &Process) {
        match work {
            Work::Export => {
                settled(source, record).await;
                let path = format!("/api/v1/exports/{}/package", record["id"].as_str().unwrap());
                assert_eq!(self.from.get(&path).await.bytes.len() as u64, record["package"]["size"].as_u64().unwrap());
            }
            Work::Import => invariants(target, record, &self.package, &self.expected).await,
            Work::Migration => {
                settled(source, record).await;
                let remote = format!("/api/v1/records/{}", record["remote_record_id"].as_str().unwrap());
                invariants(target, &self.to.get(&remote).await.is(200), &self.package, &self.expected).await;
            }
        }
    }

    /// Each migration and each import made one record, whatever was repeated.
    async fn counted(&self, imports: usize) {
        let (mut found, mut cursor) = (0, String::new());
        loop {
            let page = self.to.get(&format!("/api/v1/records?kind=import&limit=500{cursor}")).await.is(200);
            found += page["items"].as_array().unwrap().len();
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(found, imports, "import records");
    }
}

/// Import records that a work and its check make.
fn imports(work: Work) -> usize {
    match work {
        Work::Export => 0,
        Work::Import | Work::Migration => 2,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes many minutes: make soak"]
async fn killed_at_any_time() {
    let (mut dice, wanted) = (Dice::of("kills"), many("FERRY_SOAK_KILLS", 200));
    let (mut source, mut target) = (Process::start("test").await, Process::start("production").await);
    let there = new_target(&source.admin(), &target.url(), &target.admin().token).await;
    let (mut kills, mut round, mut made) = (0, 0, 0);
    while kills < wanted {
        round += 1;
        let pair = Pair::edition(source.admin(), target.admin(), there.clone(), round).await;
        let work = WORKS[dice.below(3) as usize];
        let key = format!("round {round}");
        let doing = pair.done(work, &key);
        tokio::pin!(doing);
        // Not too many a round: a job that is begun ten times without an end is given up.
        let (mut here, most) = (0, 1 + dice.below(5));
        let record = loop {
            tokio::select! {
                record = &mut doing => break record,
                () = dice.moment() => {}
            }
            if here == most {
                break doing.await;
            }
            let victim = match work {
                Work::Export => &mut source,
                Work::Import => &mut target,
                Work::Migration if dice.below(2) == 0 => &mut source,
                Work::Migration => &mut target,
            };
            victim.kill();
            victim.restart().await;
            (here, kills) = (here + 1, kills + 1);
        };
        pair.check(work, &record, &source, &target).await;
        made += imports(work);
        pair.counted(made).await;
        say(&format!("{kills} kills, round {round}: {work:?}"));
    }
    source.end().await;
    target.end().await;
}

/// A Postgres of its own, which can be ended, and keeps what it has confirmed.
struct Restarted {
    postgres: Option<Postgres>,
    folder: PathBuf,
}

impl Restarted {
    async fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("ferry-soak-{}", uuid::Uuid::new_v4().simple()));
        let options = Options { max_connections: 100, durable: true };
        let at = folder.clone();
        let started = tokio::task::spawn_blocking(move || Postgres::start(&at, &options));
        Self { postgres: Some(started.await.unwrap().unwrap()), folder }
    }

    async fn database(&self, name: &str) -> String {
        let postgres = self.postgres.as_ref().unwrap();
        ferry::db::create_database(&postgres.url("postgres"), name).await.unwrap();
        postgres.url(name)
    }

    fn pid(&self) -> Option<String> {
        let status = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).ok()?;
        status.lines().next().map(str::to_owned)
    }

    /// Ends it, in an orderly way or not, and waits until it is there again.
    async fn restart(&self, signal: &str) {
        let pid = self.pid().unwrap();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let url = self.postgres.as_ref().unwrap().url("postgres");
        while self.pid().is_none_or(|now| now == pid) || PgConnection::connect(&url).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(mut self) {
        let postgres = self.postgres.take();
        tokio::task::spawn_blocking(move || drop(postgres)).await.unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes many minutes: make soak"]
async fn over_restarts_of_postgres() {
    let (mut dice, wanted) = (Dice::of("restarts"), many("FERRY_SOAK_RESTARTS", 40));
    let postgres = Restarted::start().await;
    let source = Process::on("test", &postgres.database("source").await).await;
    let target = Process::on("production", &postgres.database("target").await).await;
    let there = new_target(&source.admin(), &target.url(), &target.admin().token).await;
    let (mut restarts, mut round, mut made) = (0, 0, 0);
    while restarts < wanted {
        round += 1;
        let pair = Pair::edition(source.admin(), target.admin(), there.clone(), round).await;
        let work = WORKS[dice.below(3) as usize];
        let key = format!("round {round}");
        let doing = pair.done(work, &key);
        tokio::pin!(doing);
        let (mut here, most) = (0, 1 + dice.below(3));
        let record = loop {
            tokio::select! {
                record = &mut doing => break record,
                () = dice.moment() => {}
            }
            if here == most {
                break doing.await;
            }
            postgres.restart(["INT", "KILL"][dice.below(2) as usize]).await;
            (here, restarts) = (here + 1, restarts + 1);
        };
        // What follows is no fault any more.
        for process in [&source, &target] {
            while process.admin().get("/readyz").await.status != 200 {}
        }
        pair.check(work, &record, &source, &target).await;
        made += imports(work);
        pair.counted(made).await;
        say(&format!("{restarts} restarts, round {round}: {work:?}"));
    }
    source.end().await;
    target.end().await;
    postgres.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes many minutes: make soak"]
async fn stopped_past_their_leases() {
    let (mut dice, wanted) = (Dice::of("stops"), many("FERRY_SOAK_STOPS", 40));
    let (source, first) = (Process::start("test").await, Process::start("production").await);
    let second = first.replica().await;
    let mut made = 0;
    for round in 1..=wanted {
        // Whoever is asked goes on; either of the two may have the job.
        let (asked, stopped) = if dice.below(2) == 0 { (&first, &second) } else { (&second, &first) };
        let pair = Pair::edition(source.admin(), asked.admin(), String::new(), round).await;
        let key = format!("round {round}");
        let doing = pair.done(Work::Import, &key);
        tokio::pin!(doing);
        let record = tokio::select! {
            record = &mut doing => record,
            () = dice.moment() => {
                stopped.stop();
                let record = doing.await;
                stopped.cont();
                record
            }
        };
        while stopped.admin().get("/readyz").await.status != 200 {}
        assert_eq!(crate::faults::invariants::hashes(asked).await, hashes_of(&pair.expected));
        pair.check(Work::Import, &record, &source, asked).await;
        made += imports(Work::Import);
        pair.counted(made).await;
        say(&format!("{round} stops"));
    }
    drop(second);
    source.end().await;
    first.end().await;
}
