//! References between resources in compact form: a resource is a whole number, a reference eight bytes.

use super::resource_type::Kind;

/// A resource; beyond the resources of the graph, something else that a reference names.
pub type Key = u32;

/// A reference of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// What it points to.
    pub to: Key,
    /// Which rule of the resource's type.
    pub rule: u16,
    /// It names it by name.
    pub by_name: bool,
    /// How it binds; none: what it names is not there, or of a type that it may not point to.
    pub kind: Option<Kind>,
}

/// A reference on its way into a graph.
#[derive(Debug, Clone, Copy)]
pub struct Loose {
    /// Who refers.
    pub from: Key,
    /// At which place in its definition.
    pub ordinal: i32,
    /// To what, and how.
    pub link: Link,
}

/// The references of some resources, of each in the order of its definition.
#[derive(Debug, Default)]
pub struct Graph {
    starts: Vec<u32>,
    links: Vec<Link>,
}

impl Graph {
    /// The graph of so many resources.
    pub fn new(count: usize, mut loose: Vec<Loose>) -> Self {
        loose.sort_unstable_by_key(|loose| (loose.from, loose.ordinal));
        let mut graph = Self { starts: Vec::with_capacity(count + 1), links: Vec::with_capacity(loose.len()) };
        graph.starts.push(0);
        let mut loose = loose.into_iter().peekable();
        for key in 0..count as Key {
            while let Some(next) = loose.next_if(|next| next.from == key) {
                graph.links.push(next.link);
            }
            graph.starts.push(graph.links.len() as u32);
        }
        graph
    }

    /// How many resources it has.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// It has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many references it has.
    pub fn links_len(&self) -> usize {
        self.links.len()
    }

    /// The references of a resource.
    pub fn links(&self, key: Key) -> &[Link] {
        match self.starts.get(key as usize..).and_then(|starts| Some((*starts.first()?, *starts.get(1)?))) {
            Some((start, end)) => &self.links[start as usize..end as usize],
            None => &[],
        }
    }

    /// All references, with who refers.
    pub fn all(&self) -> impl Iterator<Item = (Key, &Link)> {
        (0..self.len() as Key).flat_map(|key| self.links(key).iter().map(move |link| (key, link)))
    }

    /// Who refers to each resource, by some of the references.
    pub fn referrers(&self, wanted: impl Fn(Key, &Link) -> bool) -> Referrers {
        let count = self.len();
        let wanted = || self.all().filter(|(from, link)| (link.to as usize) < count && wanted(*from, link));
        let mut starts = vec![0u32; count + 1];
        for (_, link) in wanted() {
            starts[link.to as usize + 1] += 1;
        }
        for at in 0..count {
            starts[at + 1] += starts[at];
        }
        let mut next = starts.clone();
        let mut keys = vec![0; starts[count] as usize];
        for (from, link) in wanted() {
            let place = &mut next[link.to as usize];
            keys[*place as usize] = from;
            *place += 1;
        }
        Referrers { starts, keys }
    }
}

/// Who refers to each resource of a graph.
#[derive(Debug)]
pub struct Referrers {
    starts: Vec<u32>,
    keys: Vec<Key>,
}

impl Referrers {
    /// Those of a resource of the graph, lowest first; one that refers twice, twice.
    pub fn of(&self, key: Key) -> &[Key] {
        &self.keys[self.starts[key as usize] as usize..self.starts[key as usize + 1] as usize]
    }
}
