//! The mesh model: listeners, routes and what they forward to, as rows that name each other by key.
//!
//! North-south and east-west are the same rows; only a route's parent differs (a listener, or a port of a
//! Service). Translators make [`Translation`]s; conflicts are sorted out later, where rows are resolved.

mod expression;
mod header;
mod listener;
mod route;
mod translation;

pub use expression::{EXPRESSION_SIZE_LIMIT, check_expression, expression_builder};
pub use header::{OWN_HEADERS, check_changed_header, check_header_name, check_header_value, check_host};
pub use listener::{Listener, ListenerKey, ListenerProtocol, ListenerTls};
pub use route::{
    Action, Forward, HeaderMatch, HeaderMutation, MatchPrecedence, PathMatch, PathRewrite, QueryMatch,
    Redirect, Respond, Rewrite, Route, RouteMatch, RouteParent, Rule, Timeouts, ValueMatch, WeightedBackend,
};
pub use translation::{AttachedRoutes, Fragments, Translation};
