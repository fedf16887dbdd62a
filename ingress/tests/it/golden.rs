//! Golden folders: `tests/golden/<case>/{input.yaml,mesh.yaml,conditions.yaml}`. `BLESS=1` writes what came
//! out; the difference is read in review.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mesh_model::condition::{ConditionScope, ParentRef};
use mesh_model::l7::Translation;
use serde_json::{Map, Value, json};

/// The folders of all cases, in order.
pub(crate) fn cases() -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(&root)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    cases.sort();
    Ok(cases)
}

/// Holds `translation` against the files of `case`; returns what differs.
pub(crate) fn check(case: &Path, translation: &Translation) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    let mesh = tidy(serde_json::to_value(&translation.fragments)?);
    for (name, value) in [("mesh.yaml", mesh), ("conditions.yaml", said(translation)?)] {
        let text = serde_saphyr::to_string(&value)?;
        let path = case.join(name);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &text).with_context(|| path.display().to_string())?;
        } else if fs::read_to_string(&path).unwrap_or_default() != text {
            differences.push(format!("{} should be:\n{text}", path.display()));
        }
    }
    Ok(differences)
}

/// Conditions, notes and counts in a form that is good to review.
fn said(translation: &Translation) -> Result<Value> {
    let conditions = translation.conditions.iter().map(|condition| {
        let about = match &condition.scope {
            ConditionScope::Object => condition.origin.object.to_string(),
            ConditionScope::Listener(name) => format!("{} listener {name}", condition.origin.object),
            ConditionScope::Parent(parent) => {
                format!("{} on {}", condition.origin.object, parent_text(parent))
            }
        };
        json!({
            "about": about,
            "is": format!("{}={:?} {}", condition.kind, condition.status, condition.reason),
            "says": condition.message,
        })
    });
    let notes = translation.notes.iter().map(|note| {
        json!({
            "about": note.origin.object.to_string(),
            "is": format!("{:?} {}", note.severity, note.reason),
            "says": note.message,
        })
    });
    Ok(tidy(json!({
        "conditions": conditions.collect::<Vec<_>>(),
        "notes": notes.collect::<Vec<_>>(),
        "attached": serde_json::to_value(&translation.attached)?,
    })))
}

fn parent_text(parent: &ParentRef) -> String {
    let section = parent.section.as_ref().map(|section| format!(" section {section}")).unwrap_or_default();
    let port = parent.port.map(|port| format!(" port {port}")).unwrap_or_default();
    format!("{}{section}{port} ({})", parent.object, parent.controller)
}

/// Leaves out what is empty but for backends, and writes an origin as object and field. Keys are put in order here, so that
/// the text does not depend on how the JSON library keeps them.
fn tidy(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            if let (Some(object), Some(Value::String(field))) = (map.get("object"), map.get("field")) {
                let key = format!("{} {}", text(&object["kind"]), text(&object["name"]));
                return Value::String(format!("{key} {field}").trim_end().to_owned());
            }
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            let entries = entries
                .into_iter()
                .map(|(key, value)| (key, tidy(value)))
                // A backend that is null is one that cannot be used.
                .filter(|(key, value)| key == "backend" || !is_empty(value));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(tidy).collect()),
        other => other,
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
