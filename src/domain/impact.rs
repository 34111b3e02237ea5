//! What a change of a resource means for those that use it: the children that they use and that disappear.

use std::collections::BTreeSet;

use serde_json::Value;

use super::resource_type::ResourceType;

/// A child of a resource: [`super::resource_type::Child::key`] and ID.
pub type ChildId = (String, String);

/// Which of some children of a resource a definition uses.
pub fn used_children(
    kind: &ResourceType,
    definition: &mut Value,
    of: &str,
    children: &BTreeSet<ChildId>,
) -> BTreeSet<ChildId> {
    let mut used = BTreeSet::new();
    for rule in &kind.child_references {
        let mut meant = false;
        rule.of.for_each_mut(definition, &mut |_, value| meant |= value.as_str() == Some(of));
        if meant {
            rule.path.for_each_mut(definition, &mut |_, value| {
                let found = value.as_str().map(|id| (rule.key.clone(), id.to_owned()));
                used.extend(found.filter(|found| children.contains(found)));
            });
        }
    }
    used
}
