//! Additions to and removals from headers, ready to apply.

use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_model::l7::OWN_HEADERS;
use mesh_xds_proto::core::{self, header_value_option::HeaderAppendAction};

use crate::check::{At, Checked, fields};

/// What one level (table, virtual host, route, weighted cluster) does to headers.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct HeaderMutations {
    remove: Vec<HeaderName>,
    add: Vec<(HeaderName, HeaderValue, Addition)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Addition {
    Append,
    AddIfAbsent,
    Overwrite,
    OverwriteIfExists,
}

impl HeaderMutations {
    pub(crate) fn compile(
        add: &[core::HeaderValueOption],
        at_add: At<'_>,
        remove: &[String],
        at_remove: At<'_>,
    ) -> Checked<Self> {
        let mut compiled = Self::default();
        for (index, name) in remove.iter().enumerate() {
            compiled.remove.push(changeable(name, at_remove.index(index))?);
        }
        for (index, option) in add.iter().enumerate() {
            let at = at_add.index(index);
            fields!(option, at => core::HeaderValueOption {
                take: header, append, append_action, keep_empty_value; ignore: ; refuse:
            });
            let header = header.as_ref().ok_or_else(|| at.field("header").refuse("missing"))?;
            let at_header = at.field("header");
            fields!(header, at_header => core::HeaderValue { take: key, value, raw_value; ignore: ; refuse: });
            let name = changeable(key, at_header.field("key"))?;
            let bytes = if raw_value.is_empty() {
                literal(value, at_header.field("value"))?.into_bytes()
            } else {
                raw_value.clone()
            };
            if bytes.is_empty() && !*keep_empty_value {
                continue;
            }
            let value = HeaderValue::from_bytes(&bytes)
                .map_err(|_| at_header.field("value").refuse("not a valid header value"))?;
            let addition = match append {
                Some(append) if append.value => Addition::Append,
                Some(_) => Addition::Overwrite,
                None => match HeaderAppendAction::try_from(*append_action) {
                    Ok(HeaderAppendAction::AppendIfExistsOrAdd) => Addition::Append,
                    Ok(HeaderAppendAction::AddIfAbsent) => Addition::AddIfAbsent,
                    Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => Addition::Overwrite,
                    Ok(HeaderAppendAction::OverwriteIfExists) => Addition::OverwriteIfExists,
                    Err(_) => return Err(at.field("append_action").refuse("unknown action")),
                },
            };
            compiled.add.push((name, value, addition));
        }
        Ok(compiled)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// Removes first, then adds, as Envoy does. Cost: linear in the number of mutations.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value, addition) in &self.add {
            match addition {
                Addition::Append => {
                    headers.append(name.clone(), value.clone());
                }
                Addition::Overwrite => {
                    headers.insert(name.clone(), value.clone());
                }
                Addition::AddIfAbsent => {
                    if let Entry::Vacant(entry) = headers.entry(name) {
                        entry.insert(value.clone());
                    }
                }
                Addition::OverwriteIfExists => {
                    if headers.contains_key(name) {
                        headers.insert(name.clone(), value.clone());
                    }
                }
            }
        }
    }
}

/// A header that configuration may touch: framing, connection and routing headers are the proxy's own.
fn changeable(name: &str, at: At<'_>) -> Checked<HeaderName> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| at.refuse(format!("{name:?} is not a header name that may be changed")))?;
    if OWN_HEADERS.contains(&name.as_str()) {
        Err(at.refuse(format!("{name} may not be changed")))
    } else {
        Ok(name)
    }
}

/// A value without substitution commands; `%%` stands for one percent sign.
pub(crate) fn literal(value: &str, at: At<'_>) -> Checked<String> {
    let mut out = String::with_capacity(value.len());
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        if c == '%' && rest.next() != Some('%') {
            return Err(
                at.refuse("substitution commands are not supported here; write %% for a percent sign")
            );
        }
        out.push(c);
    }
    Ok(out)
}
