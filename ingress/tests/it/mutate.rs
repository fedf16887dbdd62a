//! Objects with parts replaced by values that no one meant to be there.

use proptest::prelude::*;
use serde_json::{Value, json};

/// One replacement: of which document, of which node in it, by what. Numbers wrap around.
#[derive(Clone, Debug)]
pub(crate) struct Mutation {
    document: usize,
    node: usize,
    value: Value,
}

pub(crate) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let one = (any::<usize>(), any::<usize>(), proptest::sample::select(values()));
    proptest::collection::vec(
        one.prop_map(|(document, node, value)| Mutation { document, node, value }),
        1..8,
    )
}

fn values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(""),
        json!("/"),
        json!("*"),
        json!("*.example.com"),
        json!("a..b"),
        json!("a)|(b"),
        json!("(?x)#"),
        json!("\u{e9}\r\n\0"),
        json!("x".repeat(300)),
        json!("Exact"),
        json!("Selector"),
        json!("HTTPS"),
        json!("99999h99999h"),
        json!(-1),
        json!(0),
        json!(65_536),
        json!(i32::MIN),
        json!(9_007_199_254_740_993_i64),
        json!(true),
        json!([]),
        json!({}),
    ]
}

/// Carries the replacements out.
pub(crate) fn apply(mut documents: Vec<Value>, mutations: &[Mutation]) -> Vec<Value> {
    for mutation in mutations {
        let at = mutation.document % documents.len();
        let document = &mut documents[at];
        let mut node = mutation.node % nodes(document);
        replace(document, &mut node, &mutation.value);
    }
    documents
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(values) => values.iter().map(nodes).sum(),
        Value::Object(map) => map.values().map(nodes).sum(),
        _ => 0,
    }
}

/// Replaces the node with this number, counted in depth first; true when it was below `value`.
fn replace(value: &mut Value, node: &mut usize, by: &Value) -> bool {
    if *node == 0 {
        *value = by.clone();
        return true;
    }
    *node -= 1;
    match value {
        Value::Array(values) => values.iter_mut().any(|value| replace(value, node, by)),
        Value::Object(map) => map.values_mut().any(|value| replace(value, node, by)),
        _ => false,
    }
}
