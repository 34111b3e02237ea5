//! New IDs and attachment paths of one import.

use uuid::Uuid;

use crate::domain::import_plan::Fresh;
use crate::domain::resource::{MAX_PATH_BYTES, ResourceId};

/// New IDs and paths of one import, from its record's ID: the same at every plan and every try.
pub struct FreshFrom(pub Uuid);

impl Fresh for FreshFrom {
    fn id(&self, source: &ResourceId) -> ResourceId {
        let id = Uuid::new_v5(&self.0, source.as_str().as_bytes()).to_string();
        ResourceId::parse(&id).unwrap_or_else(|_| source.clone())
    }

    fn path(&self, source: &str) -> String {
        let (folder, file) = source.rsplit_once('/').unwrap_or(("", source));
        let extension = file.rsplit_once('.').map_or(String::new(), |(_, extension)| format!(".{extension}"));
        let stem = Uuid::new_v5(&self.0, format!("attachment {source}").as_bytes()).simple();
        let path = format!("{folder}/{stem}{extension}");
        if path.len() <= MAX_PATH_BYTES {
            return path;
        }
        // The stem alone keeps paths apart: what is too long beside it goes.
        let short = format!("/{stem}{extension}");
        if short.len() <= MAX_PATH_BYTES { short } else { format!("/{stem}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::resource::parse_attachment_path;

    #[test]
    fn a_fresh_path_of_a_path_as_long_as_allowed_is_legal_and_its_own() {
        let fresh = FreshFrom(Uuid::nil());
        let deep = format!("/{}", "d".repeat(MAX_PATH_BYTES - 7));
        let paths =
            [format!("{deep}/a.png"), format!("{deep}/b.png"), format!("/a.{}", "x".repeat(MAX_PATH_BYTES - 3))];
        let new: Vec<String> = paths.iter().map(|path| fresh.path(path)).collect();
        for (old, new) in paths.iter().zip(&new) {
            assert_eq!(parse_attachment_path(old).as_ref(), Ok(old));
            assert_eq!(parse_attachment_path(new).as_ref(), Ok(new));
        }
        assert!(new[0].ends_with(".png") && new[0] != new[1]);
        assert!(fresh.path("/p/a.png").starts_with("/p/"));
    }
}
