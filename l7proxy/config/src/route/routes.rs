//! The routes of one virtual host in order, and which of them a request meets first.
//!
//! Of ten thousand routes one changes at a time. So a list that has changed shares the routes and the index of
//! an earlier one, leaves out what has gone, and has an index of its own for what is new. When that has grown
//! too large a share, everything is indexed once more.

use std::ops::Range;
use std::sync::Arc;

use super::Route;
use super::paths::PathIndex;

/// Below this number of routes an index costs less than a request notices of two.
pub(super) const PATCHED_FROM: usize = 512;

/// The share of the routes that may differ from the shared ones, as its divisor.
const PATCHED_SHARE: usize = 16;

/// Routes in order.
#[derive(Debug)]
pub(super) struct Routes {
    /// Shared with earlier and later lists.
    base: Arc<Indexed>,
    /// Positions of `base` that are not in the list any more, ascending.
    gone: Vec<u32>,
    /// In order, and so that `before` never falls.
    added: Vec<Added>,
    added_paths: PathIndex,
}

#[derive(Debug)]
struct Indexed {
    routes: Box<[Arc<Route>]>,
    paths: PathIndex,
}

/// A route that is not in `base`.
#[derive(Debug, Clone)]
struct Added {
    /// The position of the first route of `base` behind it.
    before: u32,
    route: Arc<Route>,
}

/// Where a route of the list is kept.
enum Place {
    Base(u32),
    Added(usize),
}

impl Routes {
    /// Cost: that of an index of all paths.
    pub(super) fn new(routes: Vec<Arc<Route>>) -> Self {
        let paths = PathIndex::build(routes.iter().map(|route| &route.path));
        let base = Arc::new(Indexed { routes: routes.into(), paths });
        Self { base, gone: Vec::new(), added: Vec::new(), added_paths: PathIndex::default() }
    }

    /// The same list with `new` in place of the routes at `range`. Cost: a step for each route and an index of
    /// those that differ from the shared ones; now and then an index of all.
    pub(super) fn spliced(&self, range: Range<usize>, new: Vec<Arc<Route>>) -> Self {
        let differing = self.gone.len() + self.added.len() + range.len() + new.len();
        let most = if self.len() < PATCHED_FROM { 0 } else { self.base.routes.len() / PATCHED_SHARE };
        if differing > most {
            let front = self.iter().take(range.start);
            return Self::new(front.chain(&new).chain(self.iter().skip(range.end)).cloned().collect());
        }
        let mut gone = self.gone.clone();
        let mut added = Vec::with_capacity(self.added.len() + new.len());
        let mut before = 0;
        let mut places = self.places();
        for place in places.by_ref().take(range.start) {
            before = before.max(self.behind(&place));
            self.keep(&place, &mut added);
        }
        added.extend(new.into_iter().map(|route| Added { before, route }));
        gone.extend(places.by_ref().take(range.len()).filter_map(|place| match place {
            Place::Base(position) => Some(position),
            Place::Added(_) => None,
        }));
        gone.sort_unstable();
        places.for_each(|place| self.keep(&place, &mut added));
        let added_paths = PathIndex::build(added.iter().map(|added| &added.route.path));
        Self { base: self.base.clone(), gone, added, added_paths }
    }

    /// The position of the first route of `base` that stands behind `place` for certain.
    fn behind(&self, place: &Place) -> u32 {
        match place {
            Place::Base(position) => position + 1,
            Place::Added(index) => self.added[*index].before,
        }
    }

    fn keep(&self, place: &Place, added: &mut Vec<Added>) {
        if let Place::Added(index) = place {
            added.push(self.added[*index].clone());
        }
    }

    /// The first route whose path matches and for which `holds` says yes. No allocation.
    pub(super) fn find(&self, path: &str, holds: impl Fn(&Route) -> bool) -> Option<&Route> {
        let added = self
            .added_paths
            .find(path, u32::MAX, |index| holds(&self.added[index as usize].route))
            .map(|index| &self.added[index as usize]);
        let is_first = |position| {
            self.gone.binary_search(&position).is_err() && holds(&self.base.routes[position as usize])
        };
        let end = added.map_or(u32::MAX, |added| added.before);
        match self.base.paths.find(path, end, is_first) {
            Some(position) => Some(&self.base.routes[position as usize]),
            None => added.map(|added| &*added.route),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.base.routes.len() - self.gone.len() + self.added.len()
    }

    #[cfg(test)]
    pub(super) fn shares_index_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.base, &other.base)
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.places().map(|place| match place {
            Place::Base(position) => &self.base.routes[position as usize],
            Place::Added(index) => &self.added[index].route,
        })
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let (mut position, mut index) = (0, 0);
        let mut gone = self.gone.iter().copied().peekable();
        std::iter::from_fn(move || {
            while gone.next_if_eq(&position).is_some() {
                position += 1;
            }
            if self.added.get(index).is_some_and(|added| added.before <= position) {
                index += 1;
                return Some(Place::Added(index - 1));
            }
            if (position as usize) < self.base.routes.len() {
                position += 1;
                return Some(Place::Base(position - 1));
            }
            None
        })
    }
}
