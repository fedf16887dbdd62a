//! Header names, and changes to headers.

use mesh_model::l7::{
    HeaderMutation, check_changed_header, check_header_name, check_header_value, check_host,
};

use crate::report::Refusal;

const REASON: &str = "UnsupportedValue";

/// The name in lower case, when it is one (a token of RFC 9110, section 5.1).
pub(crate) fn check_name(name: &str, field: &str) -> Result<String, Refusal> {
    let refuse = |why| Refusal::new(format!("{field}.name"), REASON, format!("{name:?} {why}"));
    check_header_name(name).map_err(refuse)?;
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
        let sound = if name == "host" { check_host(value) } else { check_header_value(value) };
        sound.map_err(|why| Refusal::new(format!("{field}.value"), REASON, format!("{value:?} {why}")))?;
        if !pairs.iter().any(|(earlier, _)| *earlier == name) {
            pairs.push((name, (*value).to_owned()));
        }
    }
    Ok(pairs)
}

/// Host decides where a request goes: it can be set for a rule, which is what URLRewrite does, and nothing else.
fn check_changed_name(name: &str, place: Place, field: &str) -> Result<String, Refusal> {
    let name = check_name(name, field)?;
    let refuse = |message: String| Err(Refusal::new(format!("{field}.name"), REASON, message));
    if name == "host" {
        return match place {
            Place::RuleRequest => Ok(name),
            Place::Other => refuse(
                "the Host header can only be set, and only for a whole rule; use a URLRewrite filter"
                    .to_owned(),
            ),
        };
    }
    match check_changed_header(&name) {
        Ok(()) => Ok(name),
        Err(why) => refuse(format!("{name:?} {why}")),
    }
}
