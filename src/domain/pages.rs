//! The index of a package in pages, each named by the hash of its lines: two environments that have the same page
//! need not tell each other what stands in it. Where a page ends, the hash of an ID says, so that a change of one
//! resource changes no page but its own.

use serde::{Deserialize, Serialize};

use super::closure::Reason;
use super::overlay::Overlay;
use super::resource::{Hash, ResourceId};

/// An index of fewer lines is not worth pages.
pub const PAGED: usize = 256;

/// About so many lines stand in a page.
const ABOUT: u32 = 128;

/// What the target of a package needs to know of a resource that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageLine {
    /// The resource.
    pub id: ResourceId,
    /// Its type.
    #[serde(rename = "type")]
    pub type_key: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// Its content hash in the environment that exported it.
    pub content_hash: Hash,
    /// Of its body.
    pub definition_hash: Hash,
    /// Why it is in the package.
    pub reason: Reason,
    /// Its owner's user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// `[path, sha256]`, in the order of the paths.
    pub attachments: Vec<(String, Option<Hash>)>,
    /// What belongs to the environment that it comes from.
    #[serde(default, skip_serializing_if = "Overlay::is_empty")]
    pub values: Overlay,
}

/// Lines that stand together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Of the lines.
    pub name: Hash,
    /// Who they are about.
    pub ids: Vec<ResourceId>,
    /// One a resource, lowest ID first, each ended by a newline.
    pub lines: String,
}

/// Cuts lines, in any order, into pages, lowest ID first.
pub fn cut(mut lines: Vec<PageLine>) -> Result<Vec<Page>, serde_json::Error> {
    lines.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    let (mut pages, mut ids, mut text) = (Vec::new(), Vec::new(), String::new());
    for mut line in lines {
        line.attachments.sort_unstable();
        text.push_str(&serde_json::to_string(&line)?);
        text.push('\n');
        let last = ends(&line.id);
        ids.push(line.id);
        if last {
            pages.push(Page::of(std::mem::take(&mut ids), std::mem::take(&mut text)));
        }
    }
    if !ids.is_empty() {
        pages.push(Page::of(ids, text));
    }
    Ok(pages)
}

impl Page {
    fn of(ids: Vec<ResourceId>, lines: String) -> Self {
        Self { name: Hash::of(lines.as_bytes()), ids, lines }
    }
}

/// A page ends behind this ID.
fn ends(id: &ResourceId) -> bool {
    let [first, second, third, fourth, ..] = Hash::of(id.as_str().as_bytes()).0;
    u32::from_be_bytes([first, second, third, fourth]).is_multiple_of(ABOUT)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn line(id: u32, name: &str) -> PageLine {
        PageLine {
            id: ResourceId::parse(&format!("r{id}")).unwrap(),
            type_key: "kind".to_owned(),
            name: name.to_owned(),
            directory: "/".to_owned(),
            content_hash: Hash::of(b"content"),
            definition_hash: Hash::of(b"definition"),
            reason: Reason::Selected,
            owner: None,
            attachments: vec![("/b".to_owned(), None), ("/a".to_owned(), None)],
            values: Overlay::default(),
        }
    }

    fn lines(ids: &HashSet<u32>) -> Vec<PageLine> {
        ids.iter().map(|id| line(*id, "same")).collect()
    }

    fn names(lines: Vec<PageLine>) -> HashSet<Hash> {
        cut(lines).unwrap().into_iter().map(|page| page.name).collect()
    }

    #[test]
    fn pages_are_about_as_long_as_wanted_and_hold_every_line_once() {
        let ids: HashSet<u32> = (0..20_000).collect();
        let pages = cut(lines(&ids)).unwrap();
        assert!((100..220).contains(&pages.len()), "{}", pages.len());
        let listed: Vec<&ResourceId> = pages.iter().flat_map(|page| &page.ids).collect();
        assert!(listed.len() == ids.len() && listed.is_sorted());
        assert!(pages.iter().all(|page| page.lines.lines().count() == page.ids.len()));
        assert!(pages.iter().all(|page| page.name == Hash::of(page.lines.as_bytes())));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_edit_makes_one_new_page_and_an_insert_or_a_delete_at_most_two(
            ids in prop::collection::hash_set(0u32..100_000, 1..1_500),
            at in any::<prop::sample::Index>(),
            new in 100_000u32..200_000,
        ) {
            let before = names(lines(&ids));
            let one = *at.get(&ids.iter().copied().collect::<Vec<_>>());
            let mut edited = lines(&ids);
            edited.iter_mut().filter(|line| line.id.as_str() == format!("r{one}")).for_each(|line| line.name = "new".to_owned());
            prop_assert_eq!(names(edited).difference(&before).count(), 1);
            let mut more = ids.clone();
            more.insert(new);
            prop_assert!((1..=2).contains(&names(lines(&more)).difference(&before).count()));
            let mut less = ids.clone();
            less.remove(&one);
            prop_assert!(names(lines(&less)).difference(&before).count() <= 1);
        }

        #[test]
        fn the_order_of_lines_and_attachments_does_not_matter(
            shuffled in Just((0..600).collect::<Vec<u32>>()).prop_shuffle(),
        ) {
            let mut other: Vec<PageLine> = shuffled.into_iter().map(|id| line(id, "same")).collect();
            other.iter_mut().for_each(|line| line.attachments.reverse());
            prop_assert_eq!(cut(other).unwrap(), cut(lines(&(0..600).collect())).unwrap());
        }
    }
}
