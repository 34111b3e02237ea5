//! The catalogue that is measured: a fixed seed, about 2 KB of JSON and 3 references a resource, and 10 % of it reach
//! everything.

use serde_json::{Value, json};

use super::environment::Environment;

/// Resources in a request.
const AT_ONCE: usize = 100_000;

/// A linear congruential generator: the same numbers everywhere.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Self(42)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit.max(1)
    }
}

pub fn id(n: usize) -> String {
    format!("bench_{n:07}")
}

/// The resources that reach all.
pub fn roots(count: usize) -> Vec<String> {
    (0..count / 10).map(id).collect()
}

/// Writes the whole catalogue; another version changes every definition.
pub async fn load(test: &Environment, count: usize, version: usize) -> anyhow::Result<()> {
    let mut random = Random::new();
    for first in (0..count).step_by(AT_ONCE) {
        let last = count.min(first + AT_ONCE);
        let lines: String = (first..last).map(|n| format!("{}\n", resource(n, count, version, &mut random))).collect();
        test.client.post_lines("/api/v1/resources/batch", lines.into_bytes()).await?;
    }
    Ok(())
}

/// The bytes of all definitions.
pub fn definition_bytes(count: usize) -> u64 {
    let mut random = Random::new();
    (0..count).map(|n| resource(n, count, 0, &mut random)["definition"].to_string().len() as u64).sum()
}

/// The n-th dataset. The first tenth are roots; each names three of the second layer, each of those two of the
/// third and one at random, so that the roots reach all.
pub fn resource(n: usize, count: usize, version: usize, random: &mut Random) -> Value {
    let (roots, middle) = (count / 10, count / 10 * 4);
    let parents: Vec<String> = match n {
        _ if n < roots => (0..3).map(|k| id(roots + n * 3 + k)).collect(),
        _ if n < middle => {
            let below = (0..2).map(|k| middle + (n - roots) * 2 + k).chain([middle + random.below(count - middle)]);
            below.filter(|n| *n < count).map(id).collect()
        }
        _ => (0..3).map(|_| n + 1 + random.below(count - n)).filter(|n| *n < count).map(id).collect(),
    };
    let fields: Vec<Value> = (0..14)
        .map(|k| json!({"id": format!("f{k}"), "name": format!("column_{k}_{:x}", random.below(1 << 30)), "type": "string", "length": random.below(255)}))
        .collect();
    let columns: Vec<String> =
        (0..12).map(|k| format!("t.column_{k} as \"Column {:x}\"", random.below(1 << 30))).collect();
    json!({
        "id": id(n), "type": "dataset", "name": format!("Dataset {n}"), "directory": format!("/Bench/{}", n % 97),
        "definition": {
            "source": "view", "parent_dataset_ids": parents, "fields": fields, "version": version,
            "sql": format!("select {} from warehouse.table_{n} t where t.day >= current_date - {}", columns.join(", "), random.below(90)),
            "note": format!("{:x}{:x}{:x}{:x}", random.below(1 << 31), random.below(1 << 31), random.below(1 << 31), random.below(1 << 31)),
        },
    })
}
