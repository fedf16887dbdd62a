//! From a path to the positions of the routes that may match it.
//!
//! Exact paths are in a hash table, prefixes in a radix tree stored in flat vectors, the rest
//! (expressions, case-insensitive paths) in a list by position. A look-up costs one hash, one walk
//! down the path's bytes, and the conditions of those candidates that stand before the best one yet.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use regex::bytes::Regex;
use smallvec::SmallVec;

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
    exact: HashMap<Arc<str>, Range<u32>, foldhash::fast::RandomState>,
    nodes: Vec<Node>,
    /// First bytes of the children's labels, in step with the nodes they belong to.
    first_bytes: Vec<u8>,
    labels: Vec<u8>,
    /// Positions, ascending within each range.
    orders: Vec<u32>,
    rest: Vec<(u32, PathMatch)>,
}

/// A node owns the routes whose prefix ends here. Children are consecutive, sorted by first byte.
#[derive(Debug, Default, Clone)]
struct Node {
    label: Range<u32>,
    children: Range<u32>,
    prefixes: Range<u32>,
    separated: Range<u32>,
}

/// A node while the tree is built.
#[derive(Default)]
struct Draft {
    label: Vec<u8>,
    children: Vec<Draft>,
    prefixes: Vec<u32>,
    separated: Vec<u32>,
}

impl PathIndex {
    /// `matches` in configured order.
    pub(crate) fn build(matches: impl IntoIterator<Item = PathMatch>) -> Self {
        let mut index = Self::default();
        let mut exact: HashMap<Arc<str>, SmallVec<[u32; 2]>, foldhash::fast::RandomState> =
            HashMap::default();
        let mut root = Draft::default();
        for (order, path) in (0_u32..).zip(matches) {
            match path {
                PathMatch::Exact(path) => exact.entry(path).or_default().push(order),
                PathMatch::Prefix(prefix) => root.place(prefix.as_bytes()).prefixes.push(order),
                PathMatch::SeparatedPrefix(prefix) => root.place(prefix.as_bytes()).separated.push(order),
                other => index.rest.push((order, other)),
            }
        }
        index.exact.reserve(exact.len());
        for (path, orders) in exact {
            let range = index.keep(&orders);
            index.exact.insert(path, range);
        }
        index.flatten(root);
        index
    }

    /// The lowest position whose path matches and for which `holds` says yes.
    pub(crate) fn find(&self, path: &str, holds: impl Fn(u32) -> bool) -> Option<u32> {
        let mut best = u32::MAX;
        // Ascending, so the first that holds is the best of its list, and the first above `best` ends it.
        let mut consider = |range: &Range<u32>| {
            for &order in &self.orders[range.start as usize..range.end as usize] {
                if order >= best {
                    break;
                }
                if holds(order) {
                    best = order;
                    break;
                }
            }
        };
        if let Some(range) = self.exact.get(path) {
            consider(range);
        }
        let bytes = path.as_bytes();
        let mut node = self.nodes.first();
        let mut used = 0;
        while let Some(here) = node {
            consider(&here.prefixes);
            if bytes.get(used).is_none_or(|next| *next == b'/') {
                consider(&here.separated);
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
        (best != u32::MAX).then_some(best)
    }

    fn child(&self, node: &Node, first: u8) -> Option<&Node> {
        let range = node.children.start as usize..node.children.end as usize;
        let offset = self.first_bytes[range.clone()].binary_search(&first).ok()?;
        self.nodes.get(range.start + offset)
    }

    fn keep(&mut self, orders: &[u32]) -> Range<u32> {
        let start = self.orders.len() as u32;
        self.orders.extend_from_slice(orders);
        start..self.orders.len() as u32
    }

    /// Breadth first, so that the children of a node are neighbours.
    fn flatten(&mut self, root: Draft) {
        let mut level = vec![(None, root)];
        while !level.is_empty() {
            let mut next = Vec::new();
            for (parent, mut draft) in level {
                let id = self.nodes.len() as u32;
                if let Some(parent) = parent {
                    let parent: &mut Node = &mut self.nodes[parent as usize];
                    if parent.children.is_empty() {
                        parent.children = id..id;
                    }
                    parent.children.end = id + 1;
                }
                let start = self.labels.len() as u32;
                self.labels.extend_from_slice(&draft.label);
                let label = start..self.labels.len() as u32;
                let prefixes = self.keep(&draft.prefixes);
                let separated = self.keep(&draft.separated);
                self.first_bytes.push(draft.label.first().copied().unwrap_or_default());
                self.nodes.push(Node { label, children: 0..0, prefixes, separated });
                draft.children.sort_unstable_by_key(|child| child.label[0]);
                next.extend(draft.children.into_iter().map(|child| (Some(id), child)));
            }
            level = next;
        }
    }
}

impl Draft {
    /// The node for `key`, made and split out as needed. Children stay sorted while building, so that
    /// many routes below one parent do not cost a scan each.
    fn place(&mut self, key: &[u8]) -> &mut Draft {
        let Some(&first) = key.first() else { return self };
        match self.children.binary_search_by_key(&first, |child| child.label[0]) {
            Err(position) => {
                self.children.insert(position, Draft { label: key.to_vec(), ..Draft::default() });
                &mut self.children[position]
            }
            Ok(position) => {
                let child = &mut self.children[position];
                let shared = child.label.iter().zip(key).take_while(|(a, b)| a == b).count();
                if shared < child.label.len() {
                    let lower_label = child.label.split_off(shared);
                    let upper = Draft { label: std::mem::take(&mut child.label), ..Draft::default() };
                    let mut lower = std::mem::replace(child, upper);
                    lower.label = lower_label;
                    child.children.push(lower);
                }
                child.place(&key[shared..])
            }
        }
    }
}
