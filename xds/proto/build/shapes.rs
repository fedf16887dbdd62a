//! Which message holds which: the part of the descriptors that `canonical` needs, as plain numbers.
//!
//! The whole set takes a process 20 MB to have at hand, and everybody who serves a resource would pay for it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{fields, read_varint};

/// `FileDescriptorProto`.
const PACKAGE: u64 = 2;
const MESSAGE_TYPE: u64 = 4;
/// `DescriptorProto`.
const NAME: u64 = 1;
const FIELD: u64 = 2;
const NESTED_TYPE: u64 = 3;
const OPTIONS: u64 = 7;
/// `MessageOptions.map_entry`.
const MAP_ENTRY: u64 = 7;
/// `FieldDescriptorProto`.
const NUMBER: u64 = 3;
const TYPE_NAME: u64 = 6;
const TYPE: u64 = 5;
/// `FieldDescriptorProto.Type.TYPE_MESSAGE`.
const TYPE_MESSAGE: u64 = 11;

#[derive(Default)]
struct Message {
    is_map_entry: bool,
    /// Number and full name of the message, of those fields that hold messages.
    fields: BTreeMap<u64, String>,
}

/// The tables as Rust: `NAMES`, sorted and concatenated; `SHAPES`, for each where its name and its fields begin,
/// with one more for the end; `FIELDS`, for each its number, the place of its message and whether it is a map.
pub(super) fn table(set: &[u8]) -> String {
    let mut messages = BTreeMap::new();
    for (_, _, file) in fields(set) {
        let package = text(file.payload, PACKAGE);
        for (number, _, message) in fields(file.payload) {
            if number == MESSAGE_TYPE {
                collect(package, message.payload, &mut messages);
            }
        }
    }
    let places: BTreeMap<&str, usize> =
        messages.keys().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    let (mut names, mut shapes, mut table) = (String::new(), String::new(), String::new());
    let mut count = 0;
    for (name, message) in &messages {
        write!(shapes, "({},{count}),", names.len()).expect("a String grows");
        names.push_str(name);
        for (number, inner) in &message.fields {
            let place = places
                .get(inner.as_str())
                .unwrap_or_else(|| panic!("{name} holds {inner}, which is not there"));
            write!(table, "({number},{place},{}),", messages[inner].is_map_entry).expect("a String grows");
            count += 1;
        }
    }
    let end = format!("({},{count})", names.len());
    format!(
        "static NAMES: &str = {names:?};\nstatic SHAPES: &[(u32, u32)] = &[{shapes}{end}];\n\
         static FIELDS: &[(u32, u16, bool)] = &[{table}];\n"
    )
}

fn collect(scope: &str, descriptor: &[u8], messages: &mut BTreeMap<String, Message>) {
    let name = text(descriptor, NAME);
    let name = if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") };
    let mut message = Message::default();
    for (number, _, part) in fields(descriptor) {
        match number {
            FIELD if number_of(part.payload, TYPE) == Some(TYPE_MESSAGE) => {
                let field = number_of(part.payload, NUMBER).expect("a field has a number");
                let inner = text(part.payload, TYPE_NAME).trim_start_matches('.').to_owned();
                message.fields.insert(field, inner);
            }
            NESTED_TYPE => collect(&name, part.payload, messages),
            OPTIONS => message.is_map_entry = number_of(part.payload, MAP_ENTRY) == Some(1),
            _ => {}
        }
    }
    messages.insert(name, message);
}

fn text(message: &[u8], wanted: u64) -> &str {
    let found = fields(message).find(|(number, ..)| *number == wanted);
    found.map_or("", |(_, _, body)| std::str::from_utf8(body.payload).expect("names are text"))
}

/// The value of a varint field.
fn number_of(message: &[u8], wanted: u64) -> Option<u64> {
    let (_, mut whole, _) = fields(message).find(|(number, ..)| *number == wanted)?;
    read_varint(&mut whole);
    Some(read_varint(&mut whole))
}
