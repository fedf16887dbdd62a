//! What happens to a request.

use std::time::Duration;

use serde::Serialize;

use super::listener::ListenerKey;
use crate::name::Hostname;
use crate::origin::Origin;
use crate::service::ServicePortKey;

/// What a route hangs from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum RouteParent {
    /// A listener: north-south.
    Listener(ListenerKey),
    /// A port of a Service: east-west. The host names of the route are not looked at.
    Service(ServicePortKey),
}

/// Order in which the matches of routes on one host are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum MatchPrecedence {
    /// Gateway API: exact path, longest prefix, regex; then method, most headers, most query parameters;
    /// then the older object, then its name, then the order of rules.
    GatewayApi,
    /// Ingress: exact path, regex, prefix, each longest first, `/` last.
    Ingress,
}

/// The rules of one object for its hosts. Rules stay inside their route: they have no owner of their own
/// and never change one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The object (and field, where one object makes several routes).
    pub origin: Origin,
    /// What it hangs from, sorted and unique.
    pub parents: Vec<RouteParent>,
    /// Hosts it answers for, already intersected with nothing: the parent's host name is applied when
    /// routes are resolved. Empty: every host of the parent.
    pub hostnames: Vec<Hostname>,
    /// True when a wildcard host name covers exactly one label (Ingress), false for any number (Gateway API).
    pub wildcard_one_label: bool,
    /// How its matches order against others.
    pub precedence: MatchPrecedence,
    /// In the object's order.
    pub rules: Vec<Rule>,
}

/// Matches and what to do when one of them holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Field path within the object, such as `spec.rules[2]`.
    pub field: String,
    /// Any of them; never empty (a rule without matches has one that matches every path).
    pub matches: Vec<RouteMatch>,
    /// Changes to the request's headers before it goes up.
    pub request_headers: HeaderMutation,
    /// Changes to the response's headers before it goes down.
    pub response_headers: HeaderMutation,
    /// What to do.
    pub action: Action,
    /// Time-outs.
    pub timeouts: Timeouts,
}

/// All of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RouteMatch {
    /// Path.
    pub path: PathMatch,
    /// Method.
    pub method: Option<String>,
    /// Headers; names in lower case, unique.
    pub headers: Vec<HeaderMatch>,
    /// Query parameters; names unique.
    pub query: Vec<QueryMatch>,
}

/// A match on the path, the query left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum PathMatch {
    /// Byte for byte.
    Exact(String),
    /// By whole path elements: `/a` matches `/a`, `/a/` and `/a/b`, not `/ab`. Without a trailing slash,
    /// but for `/` itself, which matches everything.
    Prefix(String),
    /// A regular expression that has to match the whole path; [`super::check_expression`] takes it.
    Regex(String),
}

impl Default for PathMatch {
    fn default() -> Self {
        Self::Prefix("/".to_owned())
    }
}

/// How a value is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ValueMatch {
    /// Equal.
    Exact(String),
    /// A regular expression that has to match the whole value; [`super::check_expression`] takes it.
    Regex(String),
}

/// A match on a header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HeaderMatch {
    /// Name in lower case.
    pub name: String,
    /// Value; several lines of one header are joined by commas first.
    pub value: ValueMatch,
}

/// A match on a query parameter; the first of several with one name counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct QueryMatch {
    /// Name, compared byte for byte.
    pub name: String,
    /// Value.
    pub value: ValueMatch,
}

/// Changes to headers: `set` first, then `add`, then `remove`; names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderMutation {
    /// Overwrite or create.
    pub set: Vec<(String, String)>,
    /// Append to what is there.
    pub add: Vec<(String, String)>,
    /// Take out.
    pub remove: Vec<String>,
}

impl HeaderMutation {
    /// True when nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    /// Send it to one of the backends.
    Forward(Forward),
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Answer at once.
    Respond(Respond),
}

/// Sending a request on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forward {
    /// Backends in the object's order; the sum of the weights may be zero, which is answered with 500 as
    /// Gateway API asks.
    pub backends: Vec<WeightedBackend>,
    /// Changes to path and host.
    pub rewrite: Rewrite,
}

/// A backend and its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightedBackend {
    /// The Service port; `None` for a reference that cannot be used, whose share is answered with 500.
    pub backend: Option<ServicePortKey>,
    /// Share of the requests.
    pub weight: u32,
    /// Changes to the request's headers for this backend alone.
    pub request_headers: HeaderMutation,
    /// Changes to the response's headers for this backend alone.
    pub response_headers: HeaderMutation,
}

/// Changes to where a request says it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rewrite {
    /// New Host; [`super::check_host`] takes it.
    pub hostname: Option<String>,
    /// New path.
    pub path: Option<PathRewrite>,
}

/// A change of the path; the query stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PathRewrite {
    /// The whole path.
    Full(String),
    /// The matched prefix, by whole elements. Only on rules whose matches are all prefixes.
    Prefix(String),
}

/// A redirect; what is `None` stays as in the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Host.
    pub hostname: Option<String>,
    /// Port; without one the scheme's well-known port when `scheme` is given, else the listener's.
    pub port: Option<u16>,
    /// Path.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// An answer made here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Respond {
    /// Status code.
    pub status: u16,
    /// Body in plain text.
    pub body: String,
}

/// Time-outs of a rule; `None`: the default of the kind of route (none for Ingress and Gateway API);
/// zero: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// Whole request, retries included.
    pub request: Option<Duration>,
    /// One try at a backend.
    pub backend_request: Option<Duration>,
}
