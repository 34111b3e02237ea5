//! What an export takes along, and why.
//!
//! The walk asks for the edges of a *frontier* and is fed with them until none is left, so that the
//! caller may load them level by level or all at once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use serde::{Deserialize, Serialize};

use super::graph::{Graph, Key, Link};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Who refers.
    pub from: Key,
    /// To what.
    pub to: Key,
    /// How it binds.
    pub kind: Kind,
}

/// The walk over the graph.
#[derive(Debug)]
pub struct Closure {
    upstream: bool,
    reasons: Vec<Option<Reason>>,
    /// Resources whose edges are wanted next.
    frontier: Vec<Key>,
    count: usize,
}

impl Closure {
    /// Starts from the selected resources.
    pub fn new(selected: impl IntoIterator<Item = Key>, upstream: bool) -> Self {
        let mut closure = Self { upstream, reasons: Vec::new(), frontier: Vec::new(), count: 0 };
        for key in selected {
            closure.reach(key, Reason::Selected);
        }
        closure
    }

    /// The closure in a graph that is there as a whole.
    pub fn within(graph: &Graph, selected: impl IntoIterator<Item = Key>, upstream: bool) -> Self {
        let mut closure = Self::new(selected, upstream);
        let produces = |_, link: &Link| upstream && link.kind == Some(Kind::Output);
        let producers = graph.referrers(produces);
        let mut frontier = closure.frontier();
        while !frontier.is_empty() {
            for key in &frontier {
                closure.feed(graph.links(*key).iter().filter_map(|link| Edge::of(*key, link)));
                closure.feed(producers.of(*key).iter().map(|from| Edge { from: *from, to: *key, kind: Kind::Output }));
            }
            frontier = closure.frontier();
        }
        closure
    }

    /// The resources whose edges to feed next: outgoing ones, and with upstream the incoming
    /// `output` ones too. Empty: the closure is whole.
    pub fn frontier(&mut self) -> Vec<Key> {
        let mut frontier = std::mem::take(&mut self.frontier);
        frontier.sort_unstable();
        frontier.dedup();
        frontier
    }

    /// Follows the edges of a frontier.
    pub fn feed(&mut self, edges: impl IntoIterator<Item = Edge>) {
        for edge in edges {
            if let Some(reason) = self.reason(edge.from)
                && let Some(reason) = self.along(reason, edge.kind)
            {
                self.reach(edge.to, reason);
            }
            if self.upstream && edge.kind == Kind::Output && self.reason(edge.to).is_some() {
                self.reach(edge.from, Reason::Upstream);
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
    fn reach(&mut self, key: Key, reason: Reason) {
        let at = key as usize;
        if at >= self.reasons.len() {
            self.reasons.resize(at + 1, None);
        }
        match &mut self.reasons[at] {
            Some(known) if *known <= reason => return,
            Some(known) => *known = reason,
            none => {
                *none = Some(reason);
                self.count += 1;
            }
        }
        self.frontier.push(key);
    }

    /// Why a resource is in the closure, if it is.
    pub fn reason(&self, key: Key) -> Option<Reason> {
        self.reasons.get(key as usize).copied().flatten()
    }

    /// How many resources are.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Edge {
    /// A reference as an edge, if its target is there.
    pub fn of(from: Key, link: &Link) -> Option<Self> {
        Some(Self { from, to: link.to, kind: link.kind? })
    }
}

/// Orders some resources of a graph so that each comes after what it refers to, ties by rank and then key; a
/// cycle is entered at its lowest. `ranks`: of each resource, none where it is not wanted.
pub fn dependency_order(graph: &Graph, ranks: &[Option<i64>]) -> Vec<Key> {
    let rank = |key: Key| ranks.get(key as usize).copied().flatten();
    let inside = |from: Key, link: &Link| {
        link.kind.is_some() && from != link.to && rank(from).is_some() && rank(link.to).is_some()
    };
    let wanted_by = graph.referrers(inside);
    let mut waits: Vec<u32> = vec![0; graph.len()];
    for (from, link) in graph.all() {
        waits[from as usize] += u32::from(inside(from, link));
    }
    let mut all: Vec<(i64, Key)> = (0..graph.len() as Key).filter_map(|key| Some((rank(key)?, key))).collect();
    all.sort_unstable();
    let mut ready: BinaryHeap<Reverse<(i64, Key)>> =
        all.iter().filter(|(_, key)| waits[*key as usize] == 0).map(|node| Reverse(*node)).collect();
    let mut done = vec![false; graph.len()];
    let mut order = Vec::with_capacity(all.len());
    let mut lowest = all.iter();
    loop {
        // Where everything left waits for something, a cycle is broken at its lowest resource.
        let next = match ready.pop() {
            Some(Reverse((_, key))) => key,
            None => match lowest.find(|(_, key)| !done[*key as usize]) {
                Some((_, key)) => *key,
                None => return order,
            },
        };
        if std::mem::replace(&mut done[next as usize], true) {
            continue;
        }
        order.push(next);
        for waiting in wanted_by.of(next) {
            waits[*waiting as usize] -= 1;
            if waits[*waiting as usize] == 0
                && !done[*waiting as usize]
                && let Some(rank) = rank(*waiting)
            {
                ready.push(Reverse((rank, *waiting)));
            }
        }
    }
}

/// Who is on a cycle of the edges, be it a cycle of one. What merely lies between two cycles is not.
pub fn on_cycles(edges: &[(ResourceId, ResourceId)]) -> HashSet<ResourceId> {
    let mut graph: DiGraph<&ResourceId, ()> = DiGraph::with_capacity(0, edges.len());
    let mut keys: HashMap<&ResourceId, NodeIndex> = HashMap::new();
    let mut cyclic: HashSet<ResourceId> = HashSet::new();
    for (from, to) in edges {
        if from == to {
            cyclic.insert(from.clone());
            continue;
        }
        let [from, to] = [from, to].map(|id| *keys.entry(id).or_insert_with(|| graph.add_node(id)));
        graph.add_edge(from, to, ());
    }
    // Tarjan's of the same crate recurses, and a chain may be as long as a catalogue.
    for component in kosaraju_scc(&graph).iter().filter(|component| component.len() > 1) {
        cyclic.extend(component.iter().map(|key| graph[*key].clone()));
    }
    cyclic
}

#[cfg(test)]
mod tests {
    use super::super::graph::Loose;
    use super::*;
    use proptest::prelude::*;

    type Reasons = HashMap<usize, Reason>;
    type Rule<'a> = dyn Fn(&Edge, &Reasons) -> Option<(usize, Reason)> + 'a;

    fn id(n: usize) -> ResourceId {
        ResourceId::parse(&format!("r{n}")).unwrap()
    }

    fn edge(from: usize, to: usize, kind: Kind) -> Edge {
        Edge { from: from as Key, to: to as Key, kind }
    }

    fn graph(count: usize, edges: &[Edge]) -> Graph {
        let link = |edge: &Edge| Link { to: edge.to, rule: 0, by_name: false, kind: Some(edge.kind) };
        let loose = |edge: &Edge| Loose { from: edge.from, ordinal: 0, link: link(edge) };
        Graph::new(count, edges.iter().map(loose).collect())
    }

    fn reasons(closure: &Closure) -> Reasons {
        (0..closure.reasons.len()).filter_map(|n| Some((n, closure.reason(n as Key)?))).collect()
    }

    /// Level by level.
    fn walk(selected: &[usize], upstream: bool, edges: &[Edge]) -> Reasons {
        let mut around: HashMap<Key, Vec<Edge>> = HashMap::new();
        for edge in edges {
            around.entry(edge.from).or_default().push(*edge);
            around.entry(edge.to).or_default().push(*edge);
        }
        let mut closure = Closure::new(selected.iter().map(|n| *n as Key), upstream);
        loop {
            let frontier = closure.frontier();
            if frontier.is_empty() {
                assert_eq!(closure.count(), reasons(&closure).len());
                return reasons(&closure);
            }
            closure.feed(frontier.iter().filter_map(|key| around.get(key)).flatten().copied());
        }
    }

    /// The rule of the design, each reason in turn, with no thought of cost.
    fn naive(selected: &[usize], upstream: bool, edges: &[Edge]) -> Reasons {
        let mut reasons: Reasons = selected.iter().map(|n| (*n, Reason::Selected)).collect();
        let spread = |reasons: &mut Reasons, rule: &Rule| {
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
            (edge.kind == Kind::Part && near(known.get(&(edge.from as usize))))
                .then_some((edge.to as usize, Reason::Part))
        });
        spread(&mut reasons, &|edge, known| match known.get(&(edge.from as usize)) {
            from if near(from) && edge.kind == Kind::Use => Some((edge.to as usize, Reason::Use)),
            Some(Reason::Use) if edge.kind == Kind::Part => Some((edge.to as usize, Reason::Use)),
            _ => None,
        });
        spread(&mut reasons, &|edge, known| match known.get(&(edge.from as usize)) {
            from if near(from) && edge.kind == Kind::Output => Some((edge.to as usize, Reason::Output)),
            Some(Reason::Output) if edge.kind == Kind::Part => Some((edge.to as usize, Reason::Output)),
            _ => None,
        });
        if upstream {
            spread(&mut reasons, &|edge, known| {
                known.contains_key(&(edge.from as usize)).then_some((edge.to as usize, Reason::Upstream)).or_else(
                    || {
                        (edge.kind == Kind::Output && known.contains_key(&(edge.to as usize)))
                            .then_some((edge.from as usize, Reason::Upstream))
                    },
                )
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
            let expected = naive(&selected, upstream, &edges);
            prop_assert_eq!(&walk(&selected, upstream, &edges), &expected);
            let keys = selected.iter().map(|n| *n as Key);
            prop_assert_eq!(reasons(&Closure::within(&graph(14, &edges), keys, upstream)), expected);
        }

        #[test]
        fn on_cycles_is_whoever_reaches_himself(edges in prop::collection::vec((0usize..12, 0usize..12), 0..24)) {
            let mut reaches = [[false; 12]; 12];
            for (from, to) in &edges {
                reaches[*from][*to] = true;
            }
            for over in 0..12 {
                for from in 0..12 {
                    for to in 0..12 {
                        reaches[from][to] |= reaches[from][over] && reaches[over][to];
                    }
                }
            }
            let expected: HashSet<ResourceId> = (0..12).filter(|n| reaches[*n][*n]).map(id).collect();
            let edges: Vec<_> = edges.into_iter().map(|(from, to)| (id(from), id(to))).collect();
            prop_assert_eq!(on_cycles(&edges), expected);
        }

        #[test]
        fn order_puts_what_is_needed_first_where_there_is_no_cycle(edges in prop::collection::vec((0usize..30, 0usize..30), 0..80)) {
            let edges: Vec<Edge> = edges.into_iter().filter(|(a, b)| a > b).map(|(from, to)| edge(from, to, Kind::Use)).collect();
            let order = dependency_order(&graph(30, &edges), &[Some(0); 30]);
            prop_assert_eq!(order.len(), 30);
            let at: HashMap<Key, _> = order.iter().enumerate().map(|(at, key)| (*key, at)).collect();
            for edge in &edges {
                prop_assert!(at[&edge.to] < at[&edge.from]);
            }
        }
    }

    #[test]
    fn cycles_do_not_take_in_what_lies_between_them_nor_mind_long_chains() {
        let pair = |from, to| (id(from), id(to));
        let edges = [pair(0, 1), pair(1, 0), pair(1, 2), pair(2, 3), pair(3, 3)];
        assert_eq!(on_cycles(&edges), HashSet::from([id(0), id(1), id(3)]));
        let mut chain: Vec<_> = (0..200_000).map(|n| pair(n, n + 1)).collect();
        assert_eq!(on_cycles(&chain), HashSet::new());
        chain.push(pair(200_000, 199_998));
        assert_eq!(on_cycles(&chain).len(), 3);
    }

    #[test]
    fn order_survives_cycles_and_long_chains() {
        let mut edges: Vec<Edge> = (0..10_000).map(|n| edge(n, n + 1, Kind::Part)).collect();
        edges.push(edge(10_000, 9_990, Kind::Part));
        let chain = graph(10_001, &edges);
        assert_eq!(dependency_order(&chain, &vec![Some(0); 10_001]).len(), 10_001);
        assert_eq!(dependency_order(&chain, &[Some(0), None, Some(1)]), [0, 2]);
        assert_eq!(walk(&[0], false, &edges).len(), 10_001);
        assert_eq!(Closure::within(&chain, [0], false).count(), 10_001);
        let pairs: Vec<_> = edges.iter().map(|edge| (id(edge.from as usize), id(edge.to as usize))).collect();
        assert_eq!(on_cycles(&pairs).len(), 11);
    }
}
