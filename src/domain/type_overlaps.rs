//! What a type file may not say of its slots: that two overlap, or that one overlaps a reference, a
//! child or an attachment. Each part of a definition then has one meaning alone.

use super::json_path::{Path, Slot};

/// A path of a type file, and the key under which it stands.
pub(super) type Named = (&'static str, String);

/// # Errors
/// The key and the reason of the first slot that overlaps something. The same slot may be named twice.
pub(super) fn check(slots: &[Named], others: &[Named]) -> Result<(), (&'static str, String)> {
    let (slots, others) = (leading(slots), leading(others));
    for (index, (named, steps)) in slots.iter().enumerate() {
        let beside = slots[index + 1..].iter().filter(|(_, other)| other != steps);
        if let Some((other, _)) = beside.chain(&others).find(|(_, other)| steps.overlaps(other)) {
            return Err((named.0, format!("{} overlaps {} of {}", named.1, other.1, other.0)));
        }
    }
    Ok(())
}

/// Paths that are none are told where they are compiled. One that says nothing of where it leads is not looked at:
/// it finds nothing in a slot, for parts are those of the body.
fn leading(paths: &[Named]) -> Vec<(&Named, Slot)> {
    let mut found = Vec::new();
    for named in paths {
        let leading = Path::parse(&named.1).map(|path| path.leading().clone());
        found.extend(leading.ok().filter(|leading| !leading.steps().is_empty()).map(|leading| (named, leading)));
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::domain::type_file::Types;

    fn refusal(rest: &str) -> Option<String> {
        let head =
            "key = \"t\"\norder = 1\nunique_name = \"none\"\nlabel = {en = \"T\", zh = \"T\", plural_en = \"Ts\"}\n";
        Types::compile([("t.toml", format!("{head}{rest}").as_str())]).err().map(|error| error.to_string())
    }

    fn assert_refused(rest: &str, reason: &str) {
        assert_eq!(refusal(rest), Some(format!("resource type file t.toml: {reason}")));
    }

    #[test]
    fn slots_that_overlap_each_other_are_refused() {
        assert_refused("[secrets]\npaths = [\"$.a\", \"$.a.b\"]", "secrets.paths: $.a overlaps $.a.b of secrets.paths");
        assert_refused(
            "[secrets]\npaths = [\"$.a[*].b\"]\n[environment_specific]\npaths = [\"$.a\"]",
            "secrets.paths: $.a[*].b overlaps $.a of environment_specific.paths",
        );
        assert_refused(
            "[environment_specific]\npaths = [\"$.a.*.c\", \"$.a.b.c\"]",
            "environment_specific.paths: $.a.*.c overlaps $.a.b.c of environment_specific.paths",
        );
    }

    #[test]
    fn slots_that_overlap_references_children_or_attachments_are_refused() {
        let slot = "[secrets]\npaths = [\"$.a.b\"]\n";
        let kept = "role = \"R\"\nkind = \"use\"\n";
        for (rest, reason) in [
            (format!("[[reference]]\npath = \"$.a\"\nto = [\"t\"]\nkeys = true\n{kept}"), "$.a of reference.path"),
            (format!("[[reference]]\npath = \"$.a[?@.k].id\"\nto = [\"t\"]\n{kept}"), "$.a[?@.k].id of reference.path"),
            (
                format!("[[text_reference]]\npath = \"$.a.b\"\npattern = \"<(.)>\"\nto = \"t\"\nby = \"id\"\n{kept}"),
                "$.a.b of text_reference.path",
            ),
            ("[[attachment]]\npath = \"$.a.b.c\"\n".to_owned(), "$.a.b.c of attachment.path"),
        ] {
            assert_refused(&(slot.to_owned() + &rest), &format!("secrets.paths: $.a.b overlaps {reason}"));
        }
    }

    #[test]
    fn what_is_set_on_create_must_be_environment_specific() {
        let reason = "must be one of environment_specific.paths and no secret";
        assert_refused("[on_create]\n\"$.a\" = 1", &format!("on_create: $.a: {reason}"));
        assert_refused(
            "[secrets]\npaths = [\"$.a\"]\n[environment_specific]\npaths = [\"$.a\"]\n[on_create]\n\"$.a\" = 1",
            &format!("on_create: $.a: {reason}"),
        );
    }

    #[test]
    fn slots_side_by_side_are_fine() {
        let rest = "[secrets]\npaths = [\"$.a.b\", \"$.l[*].s\"]\n[environment_specific]\npaths = [\"$.a.c\", \"$.a.b\"]\n\
                    [on_create]\n\"$.a.c\" = 1\n[[child]]\npath = \"$.l[*].id\"\nkey = \"k\"\n\
                    [[attachment]]\npath = \"$.m[?@.k].p\"\n";
        assert_eq!(refusal(rest), None);
    }
}
