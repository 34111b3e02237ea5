//! What holds for every catalogue.
#![expect(clippy::print_stdout, reason = "the seed, for what `run` finds")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::failures::{Pair, run};
use crate::roll_back::{content, parse_list, roll_back};
use crate::support::{Environment, User, package};

const SEEDS: [u64; 4] = [1, 7, 42, 20_260_726];

/// splitmix64: the same catalogue for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A few IDs of resources of a type; where `dangling`, now and then one that is not there.
    fn ids(&mut self, kind: &str, most: usize, dangling: bool) -> Vec<String> {
        let count = self.below(most + 1);
        let lost = |random: &mut Self| dangling && random.one_in(25);
        (0..count)
            .map(|_| if lost(self) { "nowhere".to_owned() } else { format!("{kind}-{}", self.below(EACH)) })
            .collect()
    }
}

/// So many resources of each type.
const EACH: usize = 8;
const WORDS: [&str; 8] = ["Orders", "销售日报", "Ünïcode é", "🚀 launch 👩‍👩‍👧", "a.b/c", "[x]{{y}}", "عربى", "'; -- \"\\"];
const PREFIXES: [(&str, &str); 7] = [
    ("acc", "data_account"),
    ("par", "global_parameter"),
    ("ds", "dataset"),
    ("etl", "etl"),
    ("task", "offline_dev_task"),
    ("card", "card"),
    ("page", "page"),
];

/// A catalogue: datasets in any cycles, tasks in none.
fn catalogue(random: &mut Random, dangling: bool) -> Vec<Value> {
    let mut lines = Vec::new();
    for (prefix, kind) in PREFIXES {
        for at in 0..EACH {
            let definition = definition(random, prefix, at, dangling);
            let directory = *random.pick(&["/", "/Sales", "/Sales/日报", "/x y/Z"]);
            // Unique per type, so that only the target can hold a name.
            let name = if prefix == "par" { format!("p{at}") } else { format!("{} {at}", random.pick(&WORDS)) };
            let id = format!("{prefix}-{at}");
            lines.push(json!({"id": id, "type": kind, "name": name, "directory": directory, "definition": definition}));
        }
    }
    lines
}

fn definition(random: &mut Random, prefix: &str, at: usize, dangling: bool) -> Value {
    match prefix {
        "acc" => json!({"connector": "postgres", "host": format!("h{at}"), "password": "s3cret", "port": at}),
        "par" => json!({"data_type": "text", "default": random.below(9)}),
        "ds" => {
            let texts = random.ids("ds", 1, dangling);
            let sql: String = texts.iter().map(|id| format!("select * from {{{{dataset:{id}}}}} ")).collect();
            let named = format!("{sql}[DYNAMIC_PARAMS.p{}]", random.below(EACH));
            let fields: Vec<Value> = (0..random.below(4)).map(|field| json!({"id": format!("f{field}")})).collect();
            json!({"data_account_id": random.ids("acc", 1, dangling).pop(), "parent_dataset_ids": random.ids("ds", 2, dangling),
                "sql": if random.one_in(3) { named } else { sql }, "fields": fields, "number": 1.5e30, "n": [null, 0.1, -0.0]})
        }
        "etl" => {
            let named = |ids: Vec<String>| ids.into_iter().map(|id| json!({"dataset_id": id})).collect::<Vec<_>>();
            let inputs = named(random.ids("ds", 2, dangling));
            json!({"inputs": inputs, "outputs": named(random.ids("ds", 1, dangling)), "schedule": {"enabled": random.one_in(2)}})
        }
        "task" => {
            let inner: Vec<Value> = (0..at)
                .filter(|_| random.one_in(4))
                .map(|task| json!({"id": task, "task_id": format!("task-{task}")}))
                .collect();
            let mut nodes = inner;
            nodes.push(json!({"id": "etl", "etl_id": random.ids("etl", 1, dangling).pop(), "output_dataset_ids": random.ids("ds", 1, dangling),
                "input_dataset_ids": random.ids("ds", 2, dangling)}));
            json!({"nodes": nodes, "parameters": {"dataset_id": "ds-0"}})
        }
        "card" => {
            let images: Vec<String> = (0..random.below(3)).map(|image| format!("/img/{image}.png")).collect();
            json!({"dataset_id": format!("ds-{}", random.below(EACH)), "images": images, "parameter_ids": random.ids("par", 2, dangling)})
        }
        _ => {
            let cards: Vec<Value> =
                random.ids("card", 4, dangling).into_iter().map(|id| json!({"card_id": id})).collect();
            json!({"cards": cards, "filters": [{"dataset_id": format!("ds-{}", random.below(EACH))}]})
        }
    }
}

/// Fills an environment from a seed.
async fn fill(user: &User, seed: u64, dangling: bool) {
    for image in 0..2 {
        assert!(user.attachment(&format!("/img/{image}.png"), &seed.to_be_bytes()).await.status.is_success());
    }
    if !dangling {
        assert!(user.attachment("/img/2.png", b"").await.status.is_success());
    }
    user.batch(&catalogue(&mut Random(seed), dangling)).await;
}

/// The target has its own ideas: names taken, IDs of other types, resources and fields deleted or changed.
async fn disturb(user: &User, random: &mut Random) {
    for at in 0..EACH {
        let id = format!("ds-{at}");
        match random.below(10) {
            0 => drop(user.delete(&format!("/api/v1/resources/{id}?force=true")).await.is(204)),
            1 => {
                let found = user.get(&format!("/api/v1/resources/{id}")).await.is(200);
                let (name, directory) = (found["name"].as_str().unwrap(), found["directory"].as_str().unwrap());
                user.resource(&id, "dataset", &format!("was {at}"), directory, json!({"fields": []})).await;
                user.resource(&format!("holder-{at}"), "dataset", name, directory, json!({})).await;
            }
            2 => {
                let task = format!("task-{at}");
                drop(user.delete(&format!("/api/v1/resources/{task}?force=true")).await.is(204));
                user.resource(&task, "color_theme", "Another type", "/", json!({})).await;
            }
            3 => drop(user.delete(&format!("/api/v1/resources/acc-{at}?force=true")).await.is(204)),
            _ => {}
        }
    }
}

/// No import begins with what an earlier one chose.
async fn forget_choices(user: &User) {
    for mapping in user.get("/api/v1/mappings?limit=500").await.is(200)["items"].as_array().unwrap() {
        user.delete(&format!("/api/v1/mappings/{}", mapping["id"].as_str().unwrap())).await.is(204);
    }
}

/// The index of everything that a user sees, a line per resource.
async fn index(user: &User) -> Vec<String> {
    let index = package::entries(&user.export_all().await)["index.ndjson"].clone();
    String::from_utf8(index).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_parse_list_is_what_happens() {
    for seed in SEEDS {
        println!("seed {seed}");
        let pair = Pair::start().await;
        fill(&pair.from, seed, true).await;
        let mut random = Random(seed ^ 0xabcd);
        let package = pair.from.export_all().await;
        // `run` compares item by item.
        run(&pair.to, &package, json!({})).await;
        fill(&pair.to, seed, false).await;
        disturb(&pair.to, &mut random).await;
        let chosen = |random: &mut Random| {
            let action = *random.pick(&["skip", "restore", "rename", "overwrite"]);
            (
                format!("{}-{}", random.pick(&PREFIXES).0, random.below(EACH)),
                json!({"action": action, "name": "🚀 new"}),
            )
        };
        let resolutions: BTreeMap<String, Value> = (0..6).map(|_| chosen(&mut random)).collect();
        for options in [
            json!({"resolutions": resolutions}),
            json!({"change_ids": true}),
            json!({"on_name_clash": "rename", "on_drift": "block", "resolutions": resolutions, "directory_prefix": "/P"}),
        ] {
            forget_choices(&pair.to).await;
            let ended = run(&pair.to, &package, options.clone()).await;
            let (done, failed) = (&ended.record["counts"]["succeeded"], &ended.record["counts"]["failed"]);
            assert!(done != 0 && failed != 0, "seed {seed}, {options}: it shows too little: {}", ended.record);
            assert_eq!(ended.record["status"], "partially_succeeded", "seed {seed}, {options}");
        }
        pair.end().await;
    }
}

#[tokio::test]
async fn with_changed_ids_no_reference_of_what_came_names_an_old_id() {
    for seed in SEEDS {
        println!("seed {seed}");
        let pair = Pair::start().await;
        fill(&pair.from, seed, true).await;
        // The target has resources under the old IDs, so that an old ID would be found.
        fill(&pair.to, seed ^ 1, false).await;
        let options = json!({"change_ids": true, "on_name_clash": "rename"});
        let ended = run(&pair.to, &pair.from.export_all().await, options).await;
        let came = ended.items.values().filter(|item| item["status"] == "succeeded");
        let new: BTreeMap<&str, &Value> = came.map(|item| (item["new_id"].as_str().unwrap(), item)).collect();
        assert!(!new.is_empty());
        let found = pair.to.catalogue().await;
        for resource in found.iter().filter(|found| new.contains_key(found["id"].as_str().unwrap())) {
            for reference in resource["references"].as_array().unwrap() {
                let to = reference["resource_id"].as_str().unwrap();
                assert!(new.contains_key(to), "seed {seed}: {} refers to {to}", new[resource["id"].as_str().unwrap()]);
                assert_eq!(reference["found"], true, "seed {seed}: {resource}");
            }
            let mut definition = resource["definition"].clone();
            definition.as_object_mut().unwrap().remove("parameters");
            let text = definition.to_string();
            for id in ended.items.keys().map(String::as_str).chain(["/img/"]) {
                let old = if id == "/img/" { "/img/0.png".to_owned() } else { format!("\"{id}\"") };
                assert!(!text.contains(&old), "seed {seed}: {old} in {text}");
                assert!(!text.contains(&format!("{{{{dataset:{id}}}}}")), "seed {seed}: {id} in {text}");
            }
        }
        pair.end().await;
    }
}

#[tokio::test]
async fn what_arrived_is_exported_as_it_came_and_imported_again_it_is_unchanged() {
    for seed in SEEDS {
        println!("seed {seed}");
        let pair = Pair::start().await;
        fill(&pair.from, seed, true).await;
        let package = pair.from.export_all().await;
        let ended = run(&pair.to, &package, json!({})).await;
        let before = pair.to.catalogue().await;
        let again = run(&pair.to, &package, json!({})).await;
        assert_eq!(again.record["counts"]["unchanged"], ended.record["counts"]["succeeded"], "seed {seed}");
        assert_eq!(again.record["counts"]["blocked"], ended.record["counts"]["blocked"], "seed {seed}");
        assert_eq!(before, pair.to.catalogue().await, "seed {seed}");
        // Every line of what arrived is one of the source's.
        let source: BTreeSet<String> = index(&pair.from).await.into_iter().collect();
        let arrived = index(&pair.to).await;
        assert_eq!(json!(arrived.len()), ended.record["counts"]["succeeded"], "seed {seed}");
        assert!(arrived.iter().all(|line| source.contains(line)), "seed {seed}");
        assert!(arrived.len() > 8 && arrived.len() < source.len(), "seed {seed} shows too little: {}", arrived.len());
        // What is whole goes on and on.
        let third = Environment::start("third").await;
        let whole = run(&third.admin(), &pair.to.export_all().await, json!({})).await;
        assert_eq!(whole.record["status"], "succeeded", "seed {seed}: {}", whole.record);
        assert_eq!(index(&third.admin()).await, arrived, "seed {seed}: export → import → export");
        let back = run(&pair.from, &third.admin().export_all().await, json!({})).await;
        assert_eq!(json!(arrived.len()), back.record["counts"]["unchanged"], "seed {seed}: the source knows it all");
        third.end().await;
        pair.end().await;
    }
}

/// Everything that an import can tell of a catalogue: what it holds, the bytes, and what each package would do to it.
async fn stands(user: &User, packages: &[Vec<u8>]) -> Vec<Value> {
    let mut all = content(user).await;
    for image in 0..3 {
        let bytes = user.get(&format!("/api/v1/attachments/img/{image}.png")).await.bytes;
        all.push(json!(String::from_utf8_lossy(&bytes)));
    }
    for package in packages {
        all.extend(parse_list(user, package).await);
    }
    all
}

#[tokio::test]
async fn imports_rolled_back_in_the_reverse_order_leave_the_catalogue_as_it_was() {
    for seed in SEEDS {
        println!("seed {seed}");
        let pair = Pair::start().await;
        let mut random = Random(seed ^ 0xbac);
        fill(&pair.to, seed ^ 3, false).await;
        disturb(&pair.to, &mut random).await;
        let mut packages = Vec::new();
        for offset in 0..3 {
            fill(&pair.from, seed + offset, true).await;
            packages.push(pair.from.export_all().await);
        }
        let options = [
            json!({"on_name_clash": "rename"}),
            json!({"change_ids": true, "on_name_clash": "rename", "directory_prefix": "/copies"}),
            json!({"resolutions": {"ds-0": {"action": "restore"}, "ds-1": {"action": "restore"}, "card-2": {"action": "skip"}}}),
        ];
        let (mut before, mut records) = (Vec::new(), Vec::new());
        for (package, options) in packages.iter().zip(options) {
            before.push(stands(&pair.to, &packages).await);
            let ended = run(&pair.to, package, options).await;
            assert_ne!(ended.record["counts"]["succeeded"], 0, "seed {seed}: it shows too little");
            records.push(ended.record);
        }
        for (record, before) in records.iter().zip(before).rev() {
            let undone = roll_back(&pair.to, record).await;
            assert_eq!(undone["status"], "rolled_back", "seed {seed}: {undone}");
            assert_eq!(stands(&pair.to, &packages).await, before, "seed {seed}");
        }
        pair.end().await;
    }
}

#[tokio::test]
async fn an_export_of_nothing_is_an_import_of_nothing() {
    let pair = Pair::start().await;
    pair.from.resource("ds", "dataset", "Orders", "/", json!({})).await;
    let package = pair.from.export(json!({"selection": {"types": ["page"]}})).await;
    let ended = run(&pair.to, &package, json!({})).await;
    assert_eq!(ended.record["status"], "succeeded");
    assert_eq!(json!([ended.items.len(), ended.record["package"]["resources"]]), json!([0, 0]));
    assert!(pair.to.catalogue().await.is_empty());
    pair.end().await;
}

#[tokio::test]
async fn two_imports_of_one_package_at_once_write_it_once() {
    let pair = Pair::start().await;
    fill(&pair.from, SEEDS[0], false).await;
    let package = pair.from.export_all().await;
    let (one, two) = (pair.to.upload(&package).await, pair.to.upload(&package).await);
    assert_eq!(one["counts"]["create"], EACH * PREFIXES.len());
    let (one, two) =
        tokio::join!(pair.to.execute(one["id"].as_str().unwrap()), pair.to.execute(two["id"].as_str().unwrap()));
    for record in [&one, &two] {
        assert_eq!(record["status"], "succeeded", "{record}");
        assert_eq!(record["counts"]["blocked"], 0, "{record}");
    }
    let count = |key: &str| one["counts"][key].as_u64().unwrap() + two["counts"][key].as_u64().unwrap();
    let all = (EACH * PREFIXES.len()) as u64;
    assert_eq!((count("succeeded"), count("unchanged")), (all, all), "{one} {two}");
    assert!(pair.to.catalogue().await.iter().all(|resource| resource["revision"] == 1));
    pair.end().await;
}
