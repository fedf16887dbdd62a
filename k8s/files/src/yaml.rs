//! Text to values, and fields back to lines.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Options, Spanned};

use mesh_k8s_api::{FieldPath, Step};

/// Text that is no YAML or JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Line within the text, from 1.
    pub(crate) line: Option<u32>,
    /// What the parser says, without any of the text.
    pub(crate) message: String,
}

/// Parses one YAML document. Aliases, depth and size are bounded; a key given twice is an error, as for
/// kubectl; only `true` and `false` are booleans.
pub(crate) fn parse_yaml(text: &str) -> Result<Value, SyntaxError> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| SyntaxError {
        line: error
            .location()
            .map(|at| u32::try_from(at.line()).unwrap_or(u32::MAX))
            .filter(|line| *line > 0),
        message: first_line(&error.without_snippet().to_string()),
    })
}

/// Parses the JSON values of a text, one after the other. Values before an error are given with it.
pub(crate) fn parse_json(text: &str) -> (Vec<Value>, Option<SyntaxError>) {
    let mut values = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter() {
        match value {
            Ok(value) => values.push(value),
            Err(error) => {
                let line = u32::try_from(error.line()).ok().filter(|line| *line > 0);
                return (values, Some(SyntaxError { line, message: error.to_string() }));
            }
        }
    }
    (values, None)
}

/// The lines that the parts of a document are on.
pub(crate) struct Lines(Option<Spanned<Node>>);

impl Lines {
    /// Parses the text again, this time with places, so it is for reports only.
    pub(crate) fn of(text: &str) -> Self {
        Self(serde_saphyr::from_str_with_options(text, options()).ok())
    }

    /// Line, from 1, of the field at `path`, or of the nearest thing around it that is there.
    pub(crate) fn find(&self, path: &FieldPath) -> Option<u32> {
        let root = self.0.as_ref()?;
        let mut line = root.referenced.line();
        let mut node = &root.value;
        for step in &path.0 {
            let next = match (node, step) {
                (Node::Map(entries), Step::Key(key)) => {
                    entries.iter().find(|(k, _)| k.value == *key).map(|(k, v)| (k.referenced.line(), v))
                }
                (Node::List(items), Step::Index(index)) => {
                    items.get(*index).map(|v| (v.referenced.line(), v))
                }
                _ => None,
            };
            let Some((at, value)) = next else { break };
            (line, node) = (at, &value.value);
        }
        u32::try_from(line).ok().filter(|line| *line > 0)
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_nodes: 2_000_000,
            max_events: 8_000_000,
        },
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The shape of a document with the places of its parts.
enum Node {
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
    List(Vec<Spanned<Node>>),
    Scalar,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shape;

        impl<'de> Visitor<'de> for Shape {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Node::Map(entries))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_str<E>(self, _: &str) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Node, D::Error> {
                Node::deserialize(inner)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Node, D::Error> {
                IgnoredAny::deserialize(inner).map_err(D::Error::custom)?;
                Ok(Node::Scalar)
            }
        }

        deserializer.deserialize_any(Shape)
    }
}

#[cfg(test)]
mod tests;
