//! What an export takes along, and why.
//!
//! The walk asks for the edges of a *frontier* and is fed with them until none is left, so that the
//! caller may load them level by level or all at once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::resource::ResourceId;
use super::resource_type::Kind;

/// Why a resource is in an export; the first that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The user chose it.
    Selected,
    /// A chosen one is not whole without it.
    Part,
    /// A chosen one, or a part of it, reads it.
    Use,
    /// A chosen one, or a part of it, writes it.
    Output,
    /// Brought by Export Upstream Resources.
    Upstream,
}

/// A reference whose target is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Who refers.
    pub from: ResourceId,
    /// To what.
    pub to: ResourceId,
    /// How it binds.
    pub kind: Kind,
}

/// The walk over the graph.
#[derive(Debug)]
pub struct Closure {
    upstream: bool,
    reasons: HashMap<ResourceId, Reason>,
    /// Resources whose edges are wanted next.
    frontier: Vec<ResourceId>,
}

impl Closure {
    /// Starts from the selected resources.
    pub fn new(selected: impl IntoIterator<Item = ResourceId>, upstream: bool) -> Self {
        let mut closure = Self { upstream, reasons: HashMap::new(), frontier: Vec::new() };
        for id in selected {
            closure.reach(id, Reason::Selected);
        }
        closure
    }

    /// The resources whose edges to feed next: outgoing ones, and with upstream the incoming
    /// `output` ones too. Empty: the closure is whole.
    pub fn frontier(&mut self) -> Vec<ResourceId> {
        let mut frontier = std::mem::take(&mut self.frontier);
        frontier.sort_unstable();
        frontier.dedup();
        frontier
    }

    /// Follows the edges of a frontier.
    pub fn feed<'a>(&mut self, edges: impl IntoIterator<Item = &'a Edge>) {
        for edge in edges {
            if let Some(reason) = self.reasons.get(&edge.from).copied()
                && let Some(reason) = self.along(reason, edge.kind)
            {
                self.reach(edge.to.clone(), reason);
            }
            let produced = self.upstream && edge.kind == Kind::Output && self.reasons.contains_key(&edge.to);
            if produced {
                self.reach(edge.from.clone(), Reason::Upstream);
            }
        }
    }

    /// Why an edge's target comes along, if its source is there for `reason`.
    fn along(&self, reason: Reason, kind: Kind) -> Option<Reason> {
        let near = matches!(reason, Reason::Selected | Reason::Part);
        match kind {
            Kind::Part if near => Some(Reason::Part),
            Kind::Use if near => Some(Reason::Use),
            Kind::Output if near => Some(Reason::Output),
            Kind::Part => Some(reason),
            Kind::Use | Kind::Output if self.upstream => Some(Reason::Upstream),
            Kind::Use | Kind::Output => None,
        }
    }

    /// A better reason may open more edges, so the resource goes to the frontier again.
    fn reach(&mut self, id: ResourceId, reason: Reason) {
        match self.reasons.get(&id) {
            Some(known) if *known <= reason => {}
            _ => {
                self.reasons.insert(id.clone(), reason);
                self.frontier.push(id);
            }
        }
    }

    /// Every resource of the closure with its reason.
    pub fn reasons(&self) -> &HashMap<ResourceId, Reason> {
        &self.reasons
    }
}

/// Orders resources so that each comes after what it refers to, ties by rank and then ID; a cycle is
/// entered at its lowest. `nodes` gives each resource's rank. Linear but for the sorting.
pub fn dependency_order(nodes: &HashMap<ResourceId, i64>, edges: &[Edge]) -> Vec<ResourceId> {
    let mut waits: HashMap<&ResourceId, usize> = HashMap::new();
    let mut wanted_by: HashMap<&ResourceId, Vec<&ResourceId>> = HashMap::new();
    let mut seen = HashSet::new();
    for edge in edges {
        let inside = edge.from != edge.to && nodes.contains_key(&edge.from) && nodes.contains_key(&edge.to);
        if inside && seen.insert((&edge.from, &edge.to)) {
            *waits.entry(&edge.from).or_default() += 1;
            wanted_by.entry(&edge.to).or_default().push(&edge.from);
        }
    }
    let mut all: Vec<(i64, &ResourceId)> = nodes.iter().map(|(id, rank)| (*rank, id)).collect();
    all.sort_unstable();
    let mut ready: BinaryHeap<Reverse<(i64, &ResourceId)>> =
        all.iter().filter(|(_, id)| !waits.contains_key(id)).map(|node| Reverse(*node)).collect();
    let mut done: HashSet<&ResourceId> = HashSet::with_capacity(nodes.len());
    let mut order = Vec::with_capacity(nodes.len());
    let mut lowest = all.iter();
    loop {
        // Where everything left waits for something, a cycle is broken at its lowest resource.
        let next = match ready.pop() {
            Some(Reverse((_, id))) => id,
            None => match lowest.find(|(_, id)| !done.contains(id)) {
                Some((_, id)) => id,
                None => return order,
            },
        };
        if !done.insert(next) {
            continue;
        }
        order.push(next.clone());
        for waiting in wanted_by.remove(next).unwrap_or_default() {
            if let Some(count) = waits.get_mut(waiting) {
                *count -= 1;
                if *count == 0 && !done.contains(waiting) {
                    ready.push(Reverse((nodes[waiting], waiting)));
                }
            }
        }
    }
}

/// Who is on a cycle of the edges, or between two; empty where there is none. Peels off everything that
/// nothing leads to or that leads nowhere.
pub fn on_cycles(edges: &[(ResourceId, ResourceId)]) -> HashSet<ResourceId> {
    let mut left: Vec<&(ResourceId, ResourceId)> = edges.iter().collect();
    for forward in [true, false] {
        left = peel(&left, forward);
    }
    left.iter().map(|(from, _)| from.clone()).collect()
}

fn peel<'a>(edges: &[&'a (ResourceId, ResourceId)], forward: bool) -> Vec<&'a (ResourceId, ResourceId)> {
    let ends = |edge: &'a (ResourceId, ResourceId)| {
        if forward { (&edge.0, &edge.1) } else { (&edge.1, &edge.0) }
    };
    let mut incoming: HashMap<&ResourceId, usize> = HashMap::new();
    let mut outgoing: HashMap<&ResourceId, Vec<&ResourceId>> = HashMap::new();
    for edge in edges {
        let (from, to) = ends(edge);
        incoming.entry(from).or_default();
        *incoming.entry(to).or_default() += 1;
        outgoing.entry(from).or_default().push(to);
    }
    let mut free: Vec<&ResourceId> = incoming.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    while let Some(id) = free.pop() {
        incoming.remove(id);
        for to in outgoing.remove(id).unwrap_or_default() {
            if let Some(count) = incoming.get_mut(to) {
                *count -= 1;
                if *count == 0 {
                    free.push(to);
                }
            }
        }
    }
    edges.iter().copied().filter(|edge| incoming.contains_key(&edge.0) && incoming.contains_key(&edge.1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Rule<'a> = dyn Fn(&Edge, &HashMap<ResourceId, Reason>) -> Option<(ResourceId, Reason)> + 'a;

    fn id(n: usize) -> ResourceId {
        ResourceId::parse(&format!("r{n}")).unwrap()
    }

    fn edge(from: usize, to: usize, kind: Kind) -> Edge {
        Edge { from: id(from), to: id(to), kind }
    }

    fn walk(selected: &[usize], upstream: bool, edges: &[Edge]) -> HashMap<ResourceId, Reason> {
        let mut around: HashMap<&ResourceId, Vec<&Edge>> = HashMap::new();
        for edge in edges {
            around.entry(&edge.from).or_default().push(edge);
            around.entry(&edge.to).or_default().push(edge);
        }
        let mut closure = Closure::new(selected.iter().map(|n| id(*n)), upstream);
        loop {
            let frontier = closure.frontier();
            if frontier.is_empty() {
                return closure.reasons().clone();
            }
            closure.feed(frontier.iter().filter_map(|id| around.get(id)).flatten().copied());
        }
    }

    /// The rule of the design, each reason in turn, with no thought of cost.
    fn naive(selected: &[usize], upstream: bool, edges: &[Edge]) -> HashMap<ResourceId, Reason> {
        let mut reasons: HashMap<ResourceId, Reason> = selected.iter().map(|n| (id(*n), Reason::Selected)).collect();
        let spread = |reasons: &mut HashMap<ResourceId, Reason>, rule: &Rule| {
            loop {
                let new: Vec<_> = edges
                    .iter()
                    .filter_map(|edge| rule(edge, reasons))
                    .filter(|(id, _)| !reasons.contains_key(id))
                    .collect();
                if new.is_empty() {
                    return;
                }
                reasons.extend(new);
            }
        };
        let near = |reason: Option<&Reason>| matches!(reason, Some(Reason::Selected | Reason::Part));
        spread(&mut reasons, &|edge, known| {
            (edge.kind == Kind::Part && near(known.get(&edge.from))).then(|| (edge.to.clone(), Reason::Part))
        });
        spread(&mut reasons, &|edge, known| match known.get(&edge.from) {
            from if near(from) && edge.kind == Kind::Use => Some((edge.to.clone(), Reason::Use)),
            Some(Reason::Use) if edge.kind == Kind::Part => Some((edge.to.clone(), Reason::Use)),
            _ => None,
        });
        spread(&mut reasons, &|edge, known| match known.get(&edge.from) {
            from if near(from) && edge.kind == Kind::Output => Some((edge.to.clone(), Reason::Output)),
            Some(Reason::Output) if edge.kind == Kind::Part => Some((edge.to.clone(), Reason::Output)),
            _ => None,
        });
        if upstream {
            spread(&mut reasons, &|edge, known| {
                known.contains_key(&edge.from).then(|| (edge.to.clone(), Reason::Upstream)).or_else(|| {
                    (edge.kind == Kind::Output && known.contains_key(&edge.to))
                        .then(|| (edge.from.clone(), Reason::Upstream))
                })
            });
        }
        reasons
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![Just(Kind::Part), Just(Kind::Use), Just(Kind::Output)]
    }

    proptest! {
        #[test]
        fn closure_equals_a_naive_closure(
            edges in prop::collection::vec((0usize..14, 0usize..14, kinds()), 0..40),
            selected in prop::collection::vec(0usize..14, 0..4),
            upstream: bool,
        ) {
            let edges: Vec<Edge> = edges.into_iter().map(|(from, to, kind)| edge(from, to, kind)).collect();
            prop_assert_eq!(walk(&selected, upstream, &edges), naive(&selected, upstream, &edges));
        }

        #[test]
        fn order_puts_what_is_needed_first_where_there_is_no_cycle(edges in prop::collection::vec((0usize..30, 0usize..30), 0..80)) {
            let edges: Vec<Edge> = edges.into_iter().filter(|(a, b)| a > b).map(|(from, to)| edge(from, to, Kind::Use)).collect();
            let nodes: HashMap<_, _> = (0..30).map(|n| (id(n), 0)).collect();
            let order = dependency_order(&nodes, &edges);
            prop_assert_eq!(order.len(), 30);
            let at: HashMap<_, _> = order.iter().enumerate().map(|(at, id)| (id, at)).collect();
            for edge in &edges {
                prop_assert!(at[&edge.to] < at[&edge.from]);
            }
        }
    }

    #[test]
    fn order_survives_cycles_and_long_chains() {
        let mut edges: Vec<Edge> = (0..10_000).map(|n| edge(n, n + 1, Kind::Part)).collect();
        edges.push(edge(10_000, 9_990, Kind::Part));
        let nodes: HashMap<_, _> = (0..=10_000).map(|n| (id(n), 0)).collect();
        assert_eq!(dependency_order(&nodes, &edges).len(), 10_001);
        assert_eq!(walk(&[0], false, &edges).len(), 10_001);
        let pairs: Vec<_> = edges.iter().map(|edge| (edge.from.clone(), edge.to.clone())).collect();
        assert_eq!(on_cycles(&pairs).len(), 11);
    }
}
