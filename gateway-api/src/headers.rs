//! Header names, and changes to headers.

use mesh_model::l7::HeaderMutation;

use crate::report::Refusal;

const REASON: &str = "UnsupportedValue";

/// The name in lower case, when it is one (a token of RFC 9110, section 5.1).
pub(crate) fn check_name(name: &str, field: &str) -> Result<String, Refusal> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        let message = format!("{name:?} is not a header name; use letters, digits and '-'");
        return Err(Refusal::new(format!("{field}.name"), REASON, message));
    }
    Ok(name.to_ascii_lowercase())
}

/// What a modifier changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Requests of a whole rule, where setting Host is a rewrite of the host.
    RuleRequest,
    /// Anything else.
    Other,
}

/// A header modifier as the API has it, at rule and at backend.
pub(crate) struct Modifier<'a> {
    pub(crate) place: Place,
    pub(crate) set: Vec<(&'a str, &'a str)>,
    pub(crate) add: Vec<(&'a str, &'a str)>,
    pub(crate) remove: &'a [String],
}

/// Takes a modifier out of one of the API's generated types, which differ in name alone.
macro_rules! modifier {
    ($place:ident, $given:expr) => {
        $crate::headers::Modifier {
            place: $crate::headers::Place::$place,
            set: $given.set.iter().flatten().map(|h| (h.name.as_str(), h.value.as_str())).collect(),
            add: $given.add.iter().flatten().map(|h| (h.name.as_str(), h.value.as_str())).collect(),
            remove: $given.remove.as_deref().unwrap_or_default(),
        }
    };
}
pub(crate) use modifier;

impl Modifier<'_> {
    /// The changes, when all names and values can be sent.
    pub(crate) fn read(&self, field: &str) -> Result<HeaderMutation, Refusal> {
        let mut remove: Vec<String> = Vec::new();
        for (index, name) in self.remove.iter().enumerate() {
            let name = check_changed_name(name, Place::Other, &format!("{field}.remove[{index}]"))?;
            if !remove.contains(&name) {
                remove.push(name);
            }
        }
        Ok(HeaderMutation {
            set: pairs(&self.set, self.place, &format!("{field}.set"))?,
            add: pairs(&self.add, Place::Other, &format!("{field}.add"))?,
            remove,
        })
    }
}

/// Of several entries for one name the first counts, as the specification has it.
fn pairs(given: &[(&str, &str)], place: Place, field: &str) -> Result<Vec<(String, String)>, Refusal> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (index, (name, value)) in given.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let name = check_changed_name(name, place, &field)?;
        if !value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
            let message = format!("{value:?} has control characters, which no header may; take them out");
            return Err(Refusal::new(format!("{field}.value"), REASON, message));
        }
        if !pairs.iter().any(|(earlier, _)| *earlier == name) {
            pairs.push((name, (*value).to_owned()));
        }
    }
    Ok(pairs)
}

/// Host decides where a request goes: it can be set for a rule, which is what URLRewrite does, and nothing else.
fn check_changed_name(name: &str, place: Place, field: &str) -> Result<String, Refusal> {
    let name = check_name(name, field)?;
    if name == "host" && place != Place::RuleRequest {
        let message = "the Host header can only be set, and only for a whole rule; use a URLRewrite filter";
        return Err(Refusal::new(format!("{field}.name"), REASON, message));
    }
    Ok(name)
}
