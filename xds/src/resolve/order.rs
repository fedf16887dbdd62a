//! The order in which the matches on one host are tried.

use std::cmp::Reverse;

use mesh_model::NamespacedName;
use mesh_model::l7::{MatchPrecedence, PathMatch, RouteMatch};
use mesh_model::origin::Origin;

/// Sort key of a match on a host; the smallest is tried first.
///
/// Kind of path first, then the longer path, a method, more headers, more query parameters; then the older
/// object, its name, and the place in the object. A total order, whatever kinds of objects meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OrderKey<'a> {
    path_rank: u8,
    path_length: Reverse<usize>,
    method: Reverse<bool>,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    object: (i64, &'a NamespacedName, &'a str),
    field: &'a FieldOrder,
    rule: usize,
    matched: usize,
}

/// A field path in the order of its object: `rules[2]` before `rules[10]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FieldOrder(Vec<(String, u64)>);

impl FieldOrder {
    /// Cuts a path behind each number.
    pub(super) fn of(field: &str) -> Self {
        let pieces = field.split_inclusive(']').map(|piece| {
            let (text, number) = piece.rsplit_once('[').unwrap_or((piece, ""));
            (text.to_owned(), number.trim_end_matches(']').parse().unwrap_or_default())
        });
        Self(pieces.collect())
    }
}

/// Place of a match in its object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Index of the rule.
    pub(super) rule: usize,
    /// Index of the match in the rule.
    pub(super) matched: usize,
}

impl<'a> OrderKey<'a> {
    /// The key of `matches`, made by the object `origin` at `field`.
    pub(super) fn new(
        precedence: MatchPrecedence,
        matches: &RouteMatch,
        (origin, field): (&'a Origin, &'a FieldOrder),
        place: Place,
    ) -> Self {
        let (path_rank, path_length) = path_rank(precedence, &matches.path);
        Self {
            path_rank,
            path_length: Reverse(path_length),
            method: Reverse(matches.method.is_some()),
            headers: Reverse(matches.headers.len()),
            query: Reverse(matches.query.len()),
            object: origin.precedence(),
            field,
            rule: place.rule,
            matched: place.matched,
        }
    }
}

/// Gateway API leaves the place of regular expressions to implementations.
fn path_rank(precedence: MatchPrecedence, path: &PathMatch) -> (u8, usize) {
    match (path, precedence) {
        (PathMatch::Exact(path), _) => (0, path.len()),
        (PathMatch::Regex(path), MatchPrecedence::Ingress) => (1, path.len()),
        (PathMatch::Prefix(path), _) => (2, path.len()),
        (PathMatch::Regex(path), MatchPrecedence::GatewayApi) => (3, path.len()),
    }
}

/// The precedence for a host where routes of both kinds meet: that of Ingress, because Gateway API allows
/// any place for regular expressions, while an Ingress counts on them before its prefixes.
pub(super) fn common_precedence(kinds: impl IntoIterator<Item = MatchPrecedence>) -> MatchPrecedence {
    let ingress = kinds.into_iter().any(|kind| kind == MatchPrecedence::Ingress);
    if ingress { MatchPrecedence::Ingress } else { MatchPrecedence::GatewayApi }
}

#[cfg(test)]
mod tests {
    use super::FieldOrder;

    #[test]
    fn fields_order_by_number_and_then_by_text() {
        let fields =
            ["", "spec.defaultBackend", "spec.rules[2]", "spec.rules[10]", "spec.rules[10].http.paths[1]"];
        let order: Vec<FieldOrder> = fields.iter().map(|field| FieldOrder::of(field)).collect();
        assert!(order.is_sorted(), "{order:?}");
    }
}
