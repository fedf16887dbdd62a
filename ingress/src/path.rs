//! Paths of an Ingress.

use mesh_k8s_api::networking::HTTPIngressPath;
use mesh_model::l7::{PathMatch, check_expression};

/// Why a path cannot be matched: the field below the path's own, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PathError {
    pub(crate) field: &'static str,
    pub(crate) message: String,
}

/// The match a path stands for. `ImplementationSpecific` is a regular expression that has to match the whole
/// path, as in Cilium; an empty one matches every path.
pub(crate) fn path_match(path: &HTTPIngressPath) -> Result<PathMatch, PathError> {
    let text = path.path.as_deref().unwrap_or_default();
    match path.path_type.as_str() {
        "Exact" => {
            check_absolute(text)?;
            Ok(PathMatch::Exact(text.to_owned()))
        }
        "Prefix" => {
            check_absolute(text)?;
            let trimmed = text.trim_end_matches('/');
            Ok(PathMatch::Prefix(if trimmed.is_empty() { "/" } else { trimmed }.to_owned()))
        }
        "ImplementationSpecific" if text.is_empty() => Ok(PathMatch::default()),
        "ImplementationSpecific" => match check_expression(text) {
            Ok(()) => Ok(PathMatch::Regex(text.to_owned())),
            Err(reason) => Err(PathError {
                field: ".path",
                message: format!(
                    "{text:?} is not a regular expression to use ({reason}); mend it, or use pathType Prefix or Exact"
                ),
            }),
        },
        "" => Err(PathError {
            field: ".pathType",
            message: "is missing; set it to Exact, Prefix or ImplementationSpecific".to_owned(),
        }),
        other => Err(PathError {
            field: ".pathType",
            message: format!("{other:?} is not known; use Exact, Prefix or ImplementationSpecific"),
        }),
    }
}

/// The rules that the API server has for paths of type `Exact` and `Prefix`.
fn check_absolute(path: &str) -> Result<(), PathError> {
    let error = |message: String| Err(PathError { field: ".path", message });
    if !path.starts_with('/') {
        return error(format!("{path:?} does not start with '/'; write an absolute path"));
    }
    for part in ["//", "/./", "/../", "%2f", "%2F", "?", "#"] {
        if path.contains(part) {
            return error(format!("{path:?} contains {part:?}, which no normalised path does; take it out"));
        }
    }
    for end in ["/..", "/."] {
        if path.ends_with(end) {
            return error(format!("{path:?} ends in {end:?}, which no normalised path does; take it out"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
