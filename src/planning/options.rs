//! The options of a plan, read.

use std::collections::HashMap;

use crate::domain::import_plan::{IdMode, OnDrift, OnFailure, OnNameClash, Options, Resolution};
use crate::domain::resource::{ResourceId, parse_directory, parse_name};
use crate::wire::record::PlanRequest;

/// What is wrong with the options of a plan: (field, message).
pub type OptionError = (String, String);

/// Reads the options of a plan.
///
/// # Errors
/// The field and what it may be.
pub fn options(request: &PlanRequest) -> Result<Options, OptionError> {
    let directory_prefix = request
        .directory_prefix
        .as_deref()
        .filter(|text| !text.is_empty())
        .map(parse_directory)
        .transpose()
        .map_err(|refused| ("directory_prefix".to_owned(), refused.reason.to_owned()))?;
    let mut resolutions = HashMap::new();
    for (id, line) in &request.resolutions {
        let field = format!("resolutions.{id}");
        let wrong = |message: String| (field.clone(), message);
        let key = ResourceId::parse(id).map_err(|refused| wrong(refused.reason.to_owned()))?;
        let resolution = match line.action.as_str() {
            "import" => continue,
            "skip" => Resolution::Skip,
            "restore" => Resolution::Restore,
            "overwrite" => Resolution::Overwrite,
            "map" => {
                let target = line.target_id.as_deref().ok_or_else(|| wrong("map needs a target_id".to_owned()))?;
                Resolution::Map(
                    ResourceId::parse(target).map_err(|refused| wrong(format!("target_id {}", refused.reason)))?,
                )
            }
            "rename" => {
                let name = line.name.as_deref().ok_or_else(|| wrong("rename needs a name".to_owned()))?;
                Resolution::Rename(parse_name(name).map_err(|refused| wrong(format!("name {}", refused.reason)))?)
            }
            _ => return Err(wrong("action must be import, skip, map, rename, restore or overwrite".to_owned())),
        };
        resolutions.insert(key, resolution);
    }
    Ok(Options {
        ids: if request.change_ids { IdMode::Change } else { IdMode::Keep },
        on_failure: choice("on_failure", &request.on_failure, ["skip_failed", "abort"], OnFailure::Abort)?,
        on_drift: choice("on_drift", &request.on_drift, ["overwrite", "block"], OnDrift::Block)?,
        on_name_clash: choice("on_name_clash", &request.on_name_clash, ["block", "rename"], OnNameClash::Rename)?,
        directory_prefix,
        resolutions,
    })
}

/// One of two words: the default, which nobody need say, or the other.
fn choice<T: Default>(field: &str, value: &Option<String>, words: [&str; 2], other: T) -> Result<T, OptionError> {
    match value.as_deref() {
        Some(word) if word == words[1] => Ok(other),
        Some(word) if word != words[0] => Err((field.to_owned(), format!("must be {} or {}", words[0], words[1]))),
        _ => Ok(T::default()),
    }
}
