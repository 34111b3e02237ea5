//! Whatever a catalogue holds: it arrives as it was, and with changed IDs it is the same but for these.

use std::collections::BTreeMap;

use proptest::array::uniform6;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::failures::run;
use crate::support::package::{entries, lines};
use crate::support::{Environment, User};

const CASES: u32 = 16;
/// Of making a failing case smaller.
const STEPS: u32 = 100;
const KINDS: [&str; 7] = ["data_account", "global_parameter", "dataset", "etl", "offline_dev_task", "card", "page"];
const NAMES: [&str; 6] = ["Orders", "销售日报", "Ünïcode é", "🚀 👩‍👩‍👧", "a.b/c", "'; -- \"\\"];
const DIRECTORIES: [&str; 4] = ["/", "/Sales", "/Sales/日报", "/x y/Z"];

/// A resource before it is known what others there are.
#[derive(Debug, Clone)]
struct Sketch {
    kind: &'static str,
    name: &'static str,
    directory: &'static str,
    links: [Index; 6],
    /// Of values: not there, null, something.
    marks: [Option<bool>; 6],
}

#[derive(Debug, Clone)]
struct Catalogue {
    sketches: Vec<Sketch>,
    pictures: Vec<Vec<u8>>,
    /// Before all its IDs: each is unique in an environment.
    prefix: String,
}

fn catalogue() -> impl Strategy<Value = Catalogue> {
    let words = (select(&KINDS[..]), select(&NAMES[..]), select(&DIRECTORIES[..]));
    let sketch = (words, uniform6(any::<Index>()), uniform6(any::<Option<bool>>()));
    let sketch =
        sketch.prop_map(|((kind, name, directory), links, marks)| Sketch { kind, name, directory, links, marks });
    let pictures = vec(vec(any::<u8>(), 0..20), 1..4);
    (vec(sketch, 1..24), pictures).prop_map(|(sketches, pictures)| Catalogue {
        sketches,
        pictures,
        prefix: String::new(),
    })
}

impl Catalogue {
    fn lines(&self) -> Vec<Value> {
        let line = |at: usize| {
            let sketch = &self.sketches[at];
            let mut definition = self.definition(at);
            // No type declares it: it is never touched.
            let (mine, text) = (self.id(0), format!("{{{{dataset:{}}}}}", self.id(0)));
            definition["note"] = json!({"of": mine, "all": [text, "/img/0.png"], "n": [1.50, 1e30, -0.0, null]});
            json!({
                "id": self.id(at), "type": sketch.kind, "name": self.name(at), "directory": sketch.directory,
                "definition": definition,
            })
        };
        (0..self.sketches.len()).map(line).collect()
    }

    fn id(&self, at: usize) -> String {
        format!("{}{at}", self.prefix)
    }

    /// With a number where it must be unique.
    fn name(&self, at: usize) -> String {
        let sketch = &self.sketches[at];
        if sketch.kind == "card" { sketch.name.to_owned() } else { format!("{} {at}", sketch.name) }
    }

    /// The places of the resources of a kind that some links lead to.
    fn linked(&self, kind: &str, links: &[Index]) -> Vec<usize> {
        let all: Vec<usize> = (0..self.sketches.len()).filter(|at| self.sketches[*at].kind == kind).collect();
        if all.is_empty() { Vec::new() } else { links.iter().map(|link| all[link.index(all.len())]).collect() }
    }

    fn ids(&self, kind: &str, links: &[Index]) -> Vec<String> {
        self.linked(kind, links).into_iter().map(|at| self.id(at)).collect()
    }

    fn definition(&self, at: usize) -> Value {
        let Sketch { kind, links, marks, .. } = &self.sketches[at];
        let mut made = json!({});
        match *kind {
            "data_account" => {
                made = json!({"connector": "postgres", "options": {}});
                for (key, mark) in ["password", "private_key", "host", "port"].iter().zip(marks) {
                    set(&mut made, key, *mark, json!(key));
                }
                set(&mut made["options"], "token", marks[4], json!("t"));
                set(&mut made["options"], "tls", marks[5], json!({}));
            }
            "global_parameter" => set(&mut made, "default", marks[0], json!([1, self.id(0)])),
            "dataset" => {
                let account = self.ids("data_account", &links[..1]).pop();
                // Itself too, in any cycle.
                let parents = self.ids("dataset", &links[1..3]);
                let mentioned = self.ids("dataset", &links[3..4]);
                let mut sql: String =
                    mentioned.iter().map(|id| format!("select '{id}' from {{{{dataset:{id}}}}} ")).collect();
                for at in self.linked("global_parameter", &links[4..]) {
                    sql += &format!("where x = [DYNAMIC_PARAMS.{}] ", self.name(at));
                }
                made =
                    json!({"data_account_id": account, "sql": sql, "fields": [{"id": "f1"}, {"id": "f2", "n": 0.10}]});
                set(&mut made, "parent_dataset_ids", marks[2], json!(parents));
                schedule(&mut made, marks);
            }
            "etl" => {
                let of = |links| {
                    self.ids("dataset", links).into_iter().map(|id| json!({"dataset_id": id})).collect::<Vec<_>>()
                };
                made = json!({"inputs": of(&links[..2]), "outputs": of(&links[2..3])});
                schedule(&mut made, marks);
            }
            "offline_dev_task" => {
                // In no cycle.
                let inner: Vec<usize> =
                    self.linked(kind, &links[..1]).into_iter().filter(|inner| *inner < at).collect();
                let inner = inner.first().map(|at| self.id(*at));
                made = json!({
                    "nodes": [
                        {"id": 1, "task_id": inner, "input_dataset_ids": self.ids("dataset", &links[1..3])},
                        {"id": "etl", "etl_id": self.ids("etl", &links[3..4]).pop(), "output_dataset_ids": self.ids("dataset", &links[4..5])},
                    ],
                    "parameters": {"dataset_id": self.id(0)},
                });
                schedule(&mut made, marks);
            }
            "card" => {
                made = json!({"dataset_id": self.ids("dataset", &links[..1]).pop(), "background": {}});
                set(&mut made, "images", marks[0], json!([self.picture(&links[1]), self.picture(&links[2])]));
                set(&mut made["background"], "image", marks[1], json!(self.picture(&links[3])));
                set(&mut made, "parameter_ids", marks[2], json!(self.ids("global_parameter", &links[4..])));
            }
            _ => {
                let cards: Vec<Value> = self
                    .ids("card", &links[..3])
                    .into_iter()
                    .map(|id| json!({"card_id": id, "at": {"x": 1}}))
                    .collect();
                let filter = self.ids("dataset", &links[3..4]).pop();
                made = json!({"cards": cards, "filters": [{"dataset_id": filter}]});
            }
        }
        made
    }

    fn picture(&self, link: &Index) -> String {
        format!("/img/{}.png", link.index(self.pictures.len()))
    }

    async fn write(&self, user: &User) {
        for (number, bytes) in self.pictures.iter().enumerate() {
            assert!(user.attachment(&format!("/img/{number}.png"), bytes).await.status.is_success());
        }
        user.batch(&self.lines()).await;
    }
}

fn set(object: &mut Value, key: &str, mark: Option<bool>, value: Value) {
    if let Some(something) = mark {
        object[key] = if something { value } else { Value::Null };
    }
}

fn schedule(definition: &mut Value, marks: &[Option<bool>; 6]) {
    let mut schedule = json!({});
    set(&mut schedule, "cron", marks[4], json!("0 5 * * *"));
    set(&mut schedule, "enabled", marks[5], json!(marks[1]));
    set(definition, "schedule", marks[3], schedule);
}

/// All that a package says of its resources but who owns them, by ID.
fn listed(package: &[u8]) -> BTreeMap<String, Value> {
    let mut index = lines(&entries(package)["index.ndjson"]);
    for line in &mut index {
        line.as_object_mut().unwrap().remove("owner");
    }
    index.into_iter().map(|line| (line["id"].as_str().unwrap().to_owned(), line)).collect()
}

/// Exports, imports elsewhere, exports there: nothing is another.
async fn arrives_as_it_was(from: &User, package: &[u8], to: &User) {
    let ended = run(to, package, json!({})).await;
    assert_eq!(ended.record["status"], "succeeded", "{}", ended.record);
    let again = to.export_all().await;
    assert_eq!(listed(&again), listed(package));
    let back = run(from, &again, json!({})).await;
    assert_eq!(back.record["counts"]["unchanged"], listed(package).len(), "{}", back.record);
    let once_more = run(to, package, json!({})).await;
    assert_eq!(once_more.record["counts"]["unchanged"], listed(package).len(), "{}", once_more.record);
}

/// Imports with changed IDs: what is there is the same under other names, one for one.
async fn is_the_same_under_new_ids(from: &User, package: &[u8], to: &User) {
    let ended = run(to, package, json!({"change_ids": true})).await;
    assert_eq!(ended.record["status"], "succeeded", "{}", ended.record);
    let new = |id: &str| ended.item(id)["new_id"].as_str().unwrap().to_owned();
    let (source, mut copies) = (from.catalogue().await, BTreeMap::new());
    for copy in to.catalogue().await {
        copies.insert(copy["id"].as_str().unwrap().to_owned(), copy);
    }
    assert_eq!(source.len(), copies.len());
    // From what became of each ID and each path back to what it was.
    let mut back: BTreeMap<String, String> = BTreeMap::new();
    for resource in &source {
        let id = resource["id"].as_str().unwrap();
        assert_ne!(id, new(id));
        assert_eq!(back.insert(new(id), id.to_owned()), None, "two became one");
        for path in ["/definition/images/0", "/definition/images/1", "/definition/background/image"] {
            let [old, new] = [resource, &copies[&new(id)]].map(|found| found.pointer(path).and_then(Value::as_str));
            let (Some(old), Some(new)) = (old, new) else {
                assert_eq!(old, new);
                continue;
            };
            let known = back.insert(new.to_owned(), old.to_owned());
            assert!(old != new && known.is_none_or(|known| known == old), "{new} was {old}");
            let bytes = async |user: &User, path: &str| user.get(&format!("/api/v1/attachments{path}")).await.bytes;
            assert_eq!(bytes(from, old).await, bytes(to, new).await);
        }
    }
    for resource in &source {
        let copy = &copies[&new(resource["id"].as_str().unwrap())];
        for path in ["/definition/note", "/definition/parameters"] {
            assert_eq!(copy.pointer(path), resource.pointer(path), "it is not declared");
        }
        assert_eq!(bare(copy, &back), bare(resource, &BTreeMap::new()));
    }
}

/// A resource but for what belongs to its environment, with IDs and paths mapped.
fn bare(resource: &Value, map: &BTreeMap<String, String>) -> Value {
    let mut text = json!({
        "id": resource["id"], "type": resource["type"], "name": resource["name"], "directory": resource["directory"],
        "definition": resource["definition"], "references": resource["references"],
    })
    .to_string();
    for (new, old) in map {
        text = text.replace(new, old);
    }
    let mut resource: Value = serde_json::from_str(&text).unwrap();
    for (parent, slot) in [("/schedule", "enabled"), ("", "password"), ("", "private_key"), ("/options", "token")] {
        if let Some(Value::Object(parent)) = resource.pointer_mut(&format!("/definition{parent}")) {
            parent.remove(slot);
        }
    }
    resource
}

#[test]
fn every_catalogue_arrives_as_it_was_and_the_same_under_new_ids() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let start = async |name| Environment::start(name).await;
    let environments = async { tokio::join!(start("test"), start("production"), start("third")) };
    let (test, production, third) = runtime.block_on(environments);
    let config = Config { cases: CASES, max_shrink_iters: STEPS, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&catalogue(), |mut catalogue| {
        // Each case has a domain of its own.
        let domain = uuid::Uuid::new_v4().simple().to_string();
        catalogue.prefix = format!("r{domain}_");
        runtime.block_on(async {
            let (from, to, copies) = tokio::join!(
                test.new_user(&domain, "admin"),
                production.new_user(&domain, "admin"),
                third.new_user(&domain, "admin"),
            );
            catalogue.write(&from).await;
            let package = from.export_all().await;
            is_the_same_under_new_ids(&from, &package, &copies).await;
            arrives_as_it_was(&from, &package, &to).await;
        });
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    runtime.block_on(async { tokio::join!(test.end(), production.end(), third.end()) });
}
