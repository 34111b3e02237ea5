//! What rules do to the definitions of an import, for people.

use std::collections::HashMap;

use crate::domain::failure::Warning;
use crate::domain::import_plan::Entry;
use crate::domain::resource::ResourceId;
use crate::domain::value_rule::{Effect, ValueRules};
use crate::wire::record::RuleEffect;

/// So many resources in which a rule finds nothing are named.
const NAMED: usize = 3;

/// What the rules of its type do to a resource.
pub fn lines(rules: &ValueRules, type_key: &str, effects: Option<&Vec<Effect>>) -> Vec<RuleEffect> {
    let effects = effects.map_or(&[][..], Vec::as_slice);
    let both = rules.of(type_key).iter().zip(effects);
    let line = both.map(|(rule, effect)| RuleEffect {
        id: rule.id,
        name: rule.name.clone(),
        revision: rule.revision,
        found: effect.found as u64,
        changed: effect.changed as u64,
    });
    line.collect()
}

/// A warning for each rule whose path is not there in some resources.
pub fn without_effect(
    entries: &[Entry],
    rules: &ValueRules,
    effects: &HashMap<ResourceId, Vec<Effect>>,
) -> Vec<Warning> {
    if effects.is_empty() {
        return Vec::new();
    }
    let mut missing: Vec<(&str, &str, Vec<&str>, usize)> = Vec::new();
    for entry in entries {
        let Some(effects) = effects.get(&entry.id) else { continue };
        for (rule, _) in rules.of(&entry.type_key).iter().zip(effects).filter(|(_, effect)| effect.found == 0) {
            let known = missing.iter().position(|(name, key, ..)| *name == rule.name && *key == entry.type_key);
            let at = known.unwrap_or_else(|| {
                missing.push((&rule.name, &entry.type_key, Vec::new(), 0));
                missing.len() - 1
            });
            missing[at].3 += 1;
            if missing[at].2.len() < NAMED {
                missing[at].2.push(&entry.name);
            }
        }
    }
    let warning = |(rule, key, names, count): (&str, &str, Vec<&str>, usize)| {
        let more = if count > names.len() { format!(" and {} more", count - names.len()) } else { String::new() };
        let message =
            format!("The rule {rule} finds nothing at its path in {count} of type {key}: {}{more}.", names.join(", "));
        Warning::new("rule_path_missing", message)
    };
    missing.into_iter().map(warning).collect()
}
