//! The failure causes: code, message, hint. The messages are part of the contract (seed, *Possible
//! Failure Causes*).

use serde::{Deserialize, Serialize};

use super::resource_type::ResourceType;

/// Why a resource, or a whole package, cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Failure {
    /// A code of the contract, such as `reference_not_matched`.
    pub code: String,
    /// The text of the contract.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// The other resource that it is about, if there is one.
    #[serde(default)]
    pub related_id: Option<String>,
}

impl Failure {
    fn new(code: &str, message: String, hint: &str) -> Self {
        Self { code: code.to_owned(), message, hint: hint.to_owned(), related_id: None }
    }

    /// Names the other resource that it is about.
    #[must_use]
    pub fn about(mut self, id: impl Into<String>) -> Self {
        self.related_id = Some(id.into());
        self
    }
}

/// Something that does not stop an import, but should be known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Warning {
    /// A stable code, such as `not_imported_before`.
    pub code: String,
    /// The same for people.
    pub message: String,
    /// The resource that it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
}

impl Warning {
    /// A warning about no resource in particular.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), resource_id: None }
    }

    /// Names the resource that it is about.
    #[must_use]
    pub fn about(mut self, id: impl Into<String>) -> Self {
        self.resource_id = Some(id.into());
        self
    }
}

/// Why a reference has nothing to point to in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmatched {
    /// Neither the package nor the target's domain has it.
    Nowhere,
    /// The package has it, but the user left it out, and the target lacks it.
    LeftOut,
    /// The package has it, but it cannot be imported itself.
    Failed,
}

/// Package: a selected type's feature switch is off in the target.
pub fn feature_disabled(label: &str) -> Failure {
    Failure::new(
        "feature_disabled",
        format!("The feature switch for {label} is disabled in the target environment."),
        "Contact whoever administers the target environment, or the vendor, to enable the feature, or leave these resources out.",
    )
}

/// Package: contents were left out that the target does not have, or not any more.
pub fn package_incomplete(count: usize) -> Failure {
    Failure::new(
        "package_incomplete",
        format!(
            "The package leaves out the contents of {count} resources, and this environment does not have them as they were."
        ),
        "Migrate again: what is missing is sent then. By hand, export and import a whole package.",
    )
}

/// Package: the target's licence has no room for the new resources of a type.
pub fn license_limit_exceeded(labels: &str) -> Failure {
    Failure::new(
        "license_limit_exceeded",
        format!("This application contains {labels}, and the current number of {labels} exceeds the upper limit."),
        "Contact sales for a larger licence, remove some in the target environment, or leave these resources out.",
    )
}

/// A reference to something that is not there: `Input Dataset XXX not matched`.
pub fn reference_not_matched(message: Option<&str>, role: &str, name: &str, why: Unmatched) -> Failure {
    let message = message.map_or_else(|| format!("{role} {name} not matched"), |text| text.replace("{name}", name));
    let hint = match why {
        Unmatched::Nowhere => {
            "It is neither in the package nor in the target. Export it too (Export Upstream Resources), or create it in the target first."
        }
        Unmatched::LeftOut => {
            "It was left out of this import and the target does not have it. Import it too, or map it to a resource of the target."
        }
        Unmatched::Failed => "It is in the package but cannot be imported itself. Resolve its own errors first.",
    };
    Failure::new("reference_not_matched", message, hint)
}

/// A name that is taken; the message is the type's own.
pub fn duplicate_name(message: String) -> Failure {
    Failure::new(
        "duplicate_name",
        message,
        "Rename the resource in the environment that exported it, or choose `rename`, `map` or `skip` for it here.",
    )
}

/// An attachment whose bytes are nowhere to be had.
pub fn attachment_invalid(path: &str, id: &str) -> Failure {
    Failure::new(
        "attachment_invalid",
        format!("The attachment file path [{path}]({id}) is invalid."),
        "Upload the file in the environment that exported it, or change the path there, and export again.",
    )
}

/// The ID was deleted in the target. A `restore` is proposed only where the type allows it.
pub fn deleted_in_target(resource_type: &ResourceType) -> Failure {
    let hint = if resource_type.restorable {
        "Choose `restore`, import with changed IDs, or copy it in the environment that exported it and replace the references."
    } else {
        "Import with changed IDs, or copy it in the environment that exported it and replace the references."
    };
    Failure::new(
        "deleted_in_target",
        format!(
            "The current {} has been deleted in the target environment and cannot be imported again.",
            in_sentence(&resource_type.label.en)
        ),
        hint,
    )
}

/// Another domain of the target has the ID.
pub fn exists_in_other_domain(label: &str) -> Failure {
    let label = in_sentence(label);
    Failure::new(
        "exists_in_other_domain",
        format!(
            "Another domain already contains the same {label} ID, so the {label} cannot be imported again into the current domain."
        ),
        "Import with changed IDs, or copy it in the environment that exported it and replace the references.",
    )
}

/// A child (a field of a dataset) that was deleted in the target.
pub fn duplicate_child(resource_id: &str, child_id: &str, key: &str) -> Failure {
    Failure::new(
        "duplicate_child",
        format!("Duplicate entry '{resource_id}-{child_id}' for key '{key}'"),
        "It was deleted in the target. Choose `restore`, import with changed IDs, or copy the resource in the environment that exported it and replace the references.",
    )
}

/// The ID belongs to a resource of another type in the target.
pub fn type_mismatch(label: &str, other: &str) -> Failure {
    Failure::new(
        "type_mismatch",
        format!("The target already has a {other} with this ID, so it cannot be imported as a {label}."),
        "Import with changed IDs, or skip it.",
    )
}

/// The target does not know the type.
pub fn type_unknown(key: &str) -> Failure {
    Failure::new(
        "type_unknown",
        format!("The target environment does not know the resource type {key}."),
        "Add the type's file to the target's resource_types_dir, or skip these resources.",
    )
}

/// The definition does not fit the type as the target describes it.
pub fn resource_invalid(reason: &str) -> Failure {
    Failure::new(
        "resource_invalid",
        format!("The definition is not valid: {reason}"),
        "Correct it in the environment that exported it, or compare the type files of the two environments.",
    )
}

/// The definition cannot be rewritten so that it names what the import makes of its references.
pub fn reference_not_writable(reason: &str) -> Failure {
    Failure::new(
        "reference_not_writable",
        format!("The definition cannot be rewritten: {reason}."),
        "Choose another name, or map to another resource.",
    )
}

/// The target's copy was changed since the last import, and the user asked not to overwrite.
pub fn changed_in_target() -> Failure {
    Failure::new(
        "changed_in_target",
        "The resource was changed in the target environment since it was last imported.".to_owned(),
        "Choose `overwrite` for it, or carry the change back to the environment that exported it.",
    )
}

/// With this import the resource would become its own subprocess.
pub fn subprocess_cycle(role: &str) -> Failure {
    Failure::new(
        "subprocess_cycle",
        format!("The import would make the resource its own {role}."),
        "Remove the reference that leads back to it in the environment that exported it.",
    )
}

/// A label inside a sentence: words in lower case, abbreviations as they are (`dataset`, `ETL`).
fn in_sentence(label: &str) -> String {
    let lower = |word: &str| {
        if word.chars().any(char::is_lowercase) { word.to_lowercase() } else { word.to_owned() }
    };
    label.split(' ').map(lower).collect::<Vec<_>>().join(" ")
}
