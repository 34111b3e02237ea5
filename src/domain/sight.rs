//! What of its domain a user may read and write: all of it, or his own and the directories granted to him.

use super::permission::Permission;

/// A directory that was granted, with all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// As it was given.
    pub directory: String,
    /// Writing too, not reading alone.
    pub write: bool,
}

/// What of its domain a user may read and write.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// Every resource of the domain, whoever owns it.
    pub all: bool,
    /// Whose resources are his own.
    pub username: String,
    /// What else he sees.
    pub granted: Vec<Granted>,
}

impl Sight {
    /// He may read a resource of this owner in this directory.
    pub fn reads(&self, owner: &str, directory: &str) -> bool {
        self.all || owner == self.username || self.granted.iter().any(|one| covers(&one.directory, directory))
    }

    /// He may write a resource of this owner in this directory, if he may write resources at all.
    pub fn writes(&self, owner: &str, directory: &str) -> bool {
        let granted = || self.granted.iter().any(|one| one.write && covers(&one.directory, directory));
        self.all || owner == self.username || granted()
    }

    /// What `directory || '/'` begins with where reading was granted.
    pub fn readable(&self) -> Vec<String> {
        self.granted.iter().map(|one| prefix(&one.directory)).collect()
    }

    /// What `directory || '/'` begins with where writing was granted.
    pub fn writable(&self) -> Vec<String> {
        self.granted.iter().filter(|one| one.write).map(|one| prefix(&one.directory)).collect()
    }
}

/// Whether users of a role see their whole domain. Of the roles that a domain makes, those that manage it or
/// import into it do: an import meets everything that is there.
pub fn sees_all(role: &str, permissions: &[Permission]) -> bool {
    match role {
        "admin" | "operator" => true,
        "developer" | "viewer" => false,
        _ => permissions.iter().any(|one| matches!(one, Permission::DomainManage | Permission::MigrationImport)),
    }
}

/// `/Sales` covers itself and `/Sales/Daily`, not `/Sales2`; `/` covers all.
fn covers(granted: &str, directory: &str) -> bool {
    let rest = directory.strip_prefix(granted.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn prefix(directory: &str) -> String {
    format!("{}/", directory.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_covers_itself_and_what_is_below() {
        for (granted, directory, covered) in [
            ("/Sales", "/Sales", true),
            ("/Sales", "/Sales/Daily", true),
            ("/Sales", "/Sales2", false),
            ("/Sales", "/sales", false),
            ("/Sales", "/", false),
            ("/Sales", "/Old/Sales", false),
            ("/S_les", "/Sales", false),
            ("/%", "/Sales", false),
            ("/", "/", true),
            ("/", "/Sales", true),
        ] {
            assert_eq!(covers(granted, directory), covered, "{granted} {directory}");
        }
    }

    #[test]
    fn who_sees_what() {
        let granted = vec![
            Granted { directory: "/Read".to_owned(), write: false },
            Granted { directory: "/Write".to_owned(), write: true },
        ];
        let sight = Sight { all: false, username: "me".to_owned(), granted };
        assert!(sight.reads("me", "/Else") && sight.writes("me", "/Else"));
        assert!(sight.reads("other", "/Read/x") && !sight.writes("other", "/Read/x"));
        assert!(sight.reads("other", "/Write") && sight.writes("other", "/Write"));
        assert!(!sight.reads("other", "/Else"));
        assert!(sees_all("operator", &[]) && !sees_all("viewer", &[Permission::DomainManage]));
        assert!(sees_all("own", &[Permission::MigrationImport]) && !sees_all("own", &[Permission::ResourceRead]));
    }
}
