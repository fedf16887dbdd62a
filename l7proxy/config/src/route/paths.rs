//! From a path to the positions of the routes that may match it.
//!
//! Exact paths are in a hash table, prefixes in a radix tree stored in flat vectors, the rest
//! (expressions, case-insensitive paths) in a list by position. A look-up costs one hash, one walk
//! down the path's bytes, and the conditions of those candidates that stand before the best one yet.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use regex::bytes::Regex;

/// How a route matches the path. Clones share the text.
#[derive(Debug, Clone)]
pub(crate) enum PathMatch {
    Exact(Arc<str>),
    Prefix(Arc<str>),
    /// The path itself, or followed by a slash and more.
    SeparatedPrefix(Arc<str>),
    Regex(Regex),
    /// Any of the first three without regard to ASCII case.
    IgnoreCase(Box<PathMatch>),
}

impl PathMatch {
    /// The plain meaning, used for the ordered rest and as the oracle in tests.
    pub(crate) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(wanted) => path == &**wanted,
            Self::Prefix(prefix) => path.starts_with(&**prefix),
            Self::SeparatedPrefix(prefix) => path.strip_prefix(&**prefix).is_some_and(ends_segment),
            Self::Regex(regex) => regex.is_match(path.as_bytes()),
            Self::IgnoreCase(inner) => {
                let same = |wanted: &str| {
                    path.as_bytes()
                        .get(..wanted.len())
                        .is_some_and(|head| head.eq_ignore_ascii_case(wanted.as_bytes()))
                };
                match &**inner {
                    Self::Exact(wanted) => path.len() == wanted.len() && same(wanted),
                    Self::Prefix(prefix) => same(prefix),
                    Self::SeparatedPrefix(prefix) => {
                        same(prefix) && path.get(prefix.len()..).is_some_and(ends_segment)
                    }
                    other => other.matches(path),
                }
            }
        }
    }
}

fn ends_segment(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

/// The positions of all routes of one virtual host, by path.
#[derive(Debug, Default)]
pub(crate) struct PathIndex {
    /// The first position of each path.
    exact: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    nodes: Vec<Node>,
    /// First bytes of the children's labels, in step with the nodes they belong to.
    first_bytes: Vec<u8>,
    labels: Vec<u8>,
    /// For each position the next one that asks for the same path in the same way, or [`NONE`].
    next: Vec<u32>,
    rest: Vec<(u32, PathMatch)>,
}

/// No position.
const NONE: u32 = u32::MAX;

/// A node owns the routes whose prefix ends here. Children are consecutive, sorted by first byte.
#[derive(Debug)]
struct Node {
    label: Range<u32>,
    children: Range<u32>,
    /// The first position of each kind, or [`NONE`].
    prefixes: u32,
    separated: u32,
}

/// A prefix while the tree is built.
struct Prefix<'a> {
    bytes: &'a [u8],
    separated: bool,
    order: u32,
}

impl PathIndex {
    /// `matches` in configured order. Cost: a hash for each exact path, a sort of the prefixes.
    pub(crate) fn build<'a>(
        matches: impl DoubleEndedIterator<Item = &'a PathMatch> + ExactSizeIterator,
    ) -> Self {
        let mut index = Self { next: vec![NONE; matches.len()], ..Self::default() };
        let mut prefixes = Vec::new();
        // From the last to the first, so that each chain of positions grows at its head.
        for (order, path) in (0..matches.len() as u32).zip(matches).rev() {
            let mut prefix = |bytes: &'a Arc<str>, separated| {
                prefixes.push(Prefix { bytes: bytes.as_bytes(), separated, order });
            };
            match path {
                PathMatch::Exact(path) => match index.exact.entry(path.clone()) {
                    Entry::Occupied(mut first) => index.next[order as usize] = first.insert(order),
                    Entry::Vacant(none) => {
                        none.insert(order);
                    }
                },
                PathMatch::Prefix(bytes) => prefix(bytes, false),
                PathMatch::SeparatedPrefix(bytes) => prefix(bytes, true),
                other => index.rest.push((order, other.clone())),
            }
        }
        index.rest.reverse();
        // Stable: of equal prefixes the last position stays in front.
        prefixes.sort_by_key(|prefix| prefix.bytes);
        index.grow(&prefixes);
        index.exact.shrink_to_fit();
        index.rest.shrink_to_fit();
        index
    }

    /// Makes the tree of sorted prefixes, breadth first, so that the children of a node are neighbours.
    fn grow(&mut self, prefixes: &[Prefix<'_>]) {
        // For each node those prefixes that begin with all labels down to it, and how long these are together.
        let mut below = vec![(0..prefixes.len(), 0)];
        self.add_node(0..0, 0);
        let mut id = 0;
        while let Some((range, depth)) = below.get(id).cloned() {
            let mut rest = range;
            while let Some(prefix) =
                prefixes[rest.clone()].first().filter(|prefix| prefix.bytes.len() == depth)
            {
                let node = &mut self.nodes[id];
                let first = if prefix.separated { &mut node.separated } else { &mut node.prefixes };
                self.next[prefix.order as usize] = std::mem::replace(first, prefix.order);
                rest.start += 1;
            }
            let children = self.nodes.len() as u32;
            while let Some(lowest) = prefixes[rest.clone()].first() {
                let first = lowest.bytes[depth];
                let count = prefixes[rest.clone()].partition_point(|prefix| prefix.bytes[depth] == first);
                let highest = &prefixes[rest.start + count - 1];
                // What the two ends of a sorted list share, all of it does.
                let pairs = lowest.bytes[depth..].iter().zip(&highest.bytes[depth..]);
                let shared = depth + pairs.take_while(|(a, b)| a == b).count();
                let start = self.labels.len() as u32;
                self.labels.extend_from_slice(&lowest.bytes[depth..shared]);
                self.add_node(start..self.labels.len() as u32, first);
                below.push((rest.start..rest.start + count, shared));
                rest.start += count;
            }
            self.nodes[id].children = children..self.nodes.len() as u32;
            id += 1;
        }
        self.nodes.shrink_to_fit();
        self.first_bytes.shrink_to_fit();
        self.labels.shrink_to_fit();
    }

    fn add_node(&mut self, label: Range<u32>, first_byte: u8) {
        self.nodes.push(Node { label, children: 0..0, prefixes: NONE, separated: NONE });
        self.first_bytes.push(first_byte);
    }

    /// The lowest position below `end` whose path matches and for which `holds` says yes.
    pub(crate) fn find(&self, path: &str, end: u32, holds: impl Fn(u32) -> bool) -> Option<u32> {
        let mut best = end;
        // Ascending, so the first that holds is the best of its chain, and the first above `best` ends it.
        let mut consider = |mut order: u32| {
            while order < best {
                if holds(order) {
                    best = order;
                    break;
                }
                order = self.next[order as usize];
            }
        };
        if let Some(first) = self.exact.get(path) {
            consider(*first);
        }
        let bytes = path.as_bytes();
        let mut node = self.nodes.first();
        let mut used = 0;
        while let Some(here) = node {
            consider(here.prefixes);
            if bytes.get(used).is_none_or(|next| *next == b'/') {
                consider(here.separated);
            }
            node = bytes.get(used).and_then(|next| self.child(here, *next)).filter(|child| {
                let label = &self.labels[child.label.start as usize..child.label.end as usize];
                let fits = bytes[used..].starts_with(label);
                used += label.len();
                fits
            });
        }
        for (order, pattern) in &self.rest {
            if *order >= best {
                break;
            }
            if pattern.matches(path) && holds(*order) {
                best = *order;
                break;
            }
        }
        (best != end).then_some(best)
    }

    fn child(&self, node: &Node, first: u8) -> Option<&Node> {
        let range = node.children.start as usize..node.children.end as usize;
        let offset = self.first_bytes[range.clone()].binary_search(&first).ok()?;
        self.nodes.get(range.start + offset)
    }
}
