//! What an API server would refuse: the checks of each kind that its types cannot express.
//!
//! One file a kind (or a family). A finding names the field, what is wrong, and the fix; any error refuses
//! the object, as an API server would. What only makes sense together with other objects (a missing
//! Service, a Secret whose key does not match) is the translators' to say.

mod class;
mod endpoint_slice;
mod gateway;
mod http_route;
mod ingress;
mod lb_pool;
mod names;
mod node;
mod secret;
mod service;

use crate::finding::{Finding, Severity};
use crate::kind::Kind;
use crate::path::FieldPath;
use crate::stored::Resource;

/// A kind with checks of its own.
pub(crate) trait Check {
    /// Puts what is wrong with `self` into `issues`.
    fn check(&self, issues: &mut Issues<'_>);
}

/// Findings on one object.
pub(crate) struct Issues<'a>(&'a mut Vec<Finding>);

impl Issues<'_> {
    /// The object is refused: the field at `path` has `problem`, mended by `fix`.
    fn error(&mut self, path: impl AsRef<str>, problem: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding {
            path: FieldPath::parse(path.as_ref()),
            severity: Severity::Error,
            message: problem.into(),
            fix: fix.into(),
        });
    }
}

/// Checks metadata and then what the kind asks for.
pub(crate) fn check<T: Resource + Check>(object: &T, findings: &mut Vec<Finding>) {
    let mut issues = Issues(findings);
    let name = object.metadata().name.as_deref().unwrap_or_default();
    let checked = match T::KIND {
        Kind::Namespace | Kind::Service => names::label(name),
        _ => names::subdomain(name),
    };
    if let Err(problem) = checked {
        issues.error(
            "metadata.name",
            problem,
            "rename the object: small letters, digits and `-`, such as `my-app`",
        );
    }
    if let Some(namespace) = object.metadata().namespace.as_deref()
        && let Err(problem) = names::label(namespace)
    {
        issues.error("metadata.namespace", problem, "name a namespace in small letters, digits and `-`");
    }
    object.check(&mut issues);
}
