//! A list of changes, from bytes, made to the seeds.

use serde_json::{Value, json};

use super::seeds;

/// Changes of one input.
const MOST_CHANGES: usize = 24;

/// Documents of one input.
const MOST_DOCUMENTS: usize = 64;

/// The seeds with the changes that the bytes ask for. No bytes: the seeds.
pub(super) fn mutated(data: &[u8]) -> Vec<Document> {
    let seeds = seeds::documents().iter().cloned().enumerate();
    let mut documents: Vec<Document> = seeds.map(|(file, value)| Document { file, value }).collect();
    let mut bytes = Bytes(data);
    for _ in 0..MOST_CHANGES {
        if bytes.0.is_empty() {
            break;
        }
        change(&mut documents, &mut bytes);
    }
    documents
}

/// A document in a file of its own.
pub(super) struct Document {
    /// The file's number: that of the seed, or a new one.
    pub(super) file: usize,
    pub(super) value: Value,
}

/// The input, from the front; zeros when it is used up.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self) -> u8 {
        let [first, rest @ ..] = self.0 else { return 0 };
        self.0 = rest;
        *first
    }

    /// Below `count`; 0 when that is 0.
    fn below(&mut self, count: usize) -> usize {
        usize::from(self.next()).checked_rem(count).unwrap_or(0)
    }

    fn text(&mut self) -> String {
        let length = self.below(24).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }
}

fn change(documents: &mut Vec<Document>, bytes: &mut Bytes<'_>) {
    let what = bytes.next() % 10;
    let index = bytes.below(documents.len());
    let Some(document) = documents.get(index) else { return };
    match what {
        0 => drop(documents.remove(index)),
        1 => {
            let mut copy = document.value.clone();
            rename(&mut copy, "name", bytes);
            if documents.len() < MOST_DOCUMENTS {
                let last = documents.iter().map(|document| document.file).max().unwrap_or(0);
                let file = last.max(seeds::documents().len()) + 1;
                documents.push(Document { file, value: copy });
            }
        }
        2 => rename(&mut documents[index].value, "namespace", bytes),
        3 => remove(walk(&mut documents[index].value, bytes, true), bytes),
        4 | 5 => *walk(&mut documents[index].value, bytes, false) = value(bytes),
        6 => {
            let other = bytes.below(documents.len());
            let part = walk(&mut documents[other].value.clone(), bytes, false).clone();
            *walk(&mut documents[index].value, bytes, false) = part;
        }
        7 => {
            if let Value::Array(items) = walk(&mut documents[index].value, bytes, true) {
                let copy = items.get(bytes.below(items.len())).cloned().unwrap_or_else(|| value(bytes));
                items.insert(bytes.below(items.len() + 1), copy);
            }
        }
        8 => {
            let key = bytes.text();
            let value = value(bytes);
            if let Value::Object(fields) = walk(&mut documents[index].value, bytes, true) {
                fields.insert(key, value);
            }
        }
        _ => {
            // Numbers and texts a little off.
            match walk(&mut documents[index].value, bytes, false) {
                Value::Number(number) => {
                    let near = number.as_i64().unwrap_or(0).wrapping_add(i64::from(bytes.next()) - 128);
                    *number = near.into();
                }
                Value::String(text) => {
                    let at = text.floor_char_boundary(bytes.below(text.len() + 1));
                    text.insert_str(at, &bytes.text());
                }
                other => *other = value(bytes),
            }
        }
    }
}

/// An earlier change may have made something of the document that has no name.
fn rename(document: &mut Value, part: &str, bytes: &mut Bytes<'_>) {
    let name = value(bytes);
    if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert(part.to_owned(), name);
    }
}

/// Goes down from a document, as far as the bytes say. With `inner`, ends at something with parts.
fn walk<'v>(mut at: &'v mut Value, bytes: &mut Bytes<'_>, inner: bool) -> &'v mut Value {
    for _ in 0..=bytes.below(10) {
        let part = bytes.below(parts(at));
        let descends = nth(at, part).is_some_and(|next| !inner || parts(next) > 0);
        if !descends {
            break;
        }
        at = match at {
            Value::Array(items) => &mut items[part],
            Value::Object(fields) => fields.values_mut().nth(part).expect("it was there a moment ago"),
            other => return other,
        };
    }
    at
}

fn parts(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    }
}

fn nth(value: &mut Value, part: usize) -> Option<&mut Value> {
    match value {
        Value::Array(items) => items.get_mut(part),
        Value::Object(fields) => fields.values_mut().nth(part),
        _ => None,
    }
}

fn remove(from: &mut Value, bytes: &mut Bytes<'_>) {
    match from {
        Value::Array(items) if !items.is_empty() => drop(items.remove(bytes.below(items.len()))),
        Value::Object(fields) => {
            let key = fields.keys().nth(bytes.below(fields.len())).cloned();
            key.and_then(|key| fields.remove(&key));
        }
        _ => {}
    }
}

/// A value that some field somewhere takes, or none takes.
fn value(bytes: &mut Bytes<'_>) -> Value {
    const TEXTS: &[&str] = &[
        "",
        "*",
        "*.example.com",
        "shop.example.com",
        "a.test",
        "x.a.test",
        "*.a.test",
        "EXAMPLE.com",
        "a..b",
        "-a",
        "a_b",
        "1.2.3.4",
        "::1",
        "[::1]",
        "xn--bcher-kva.example",
        "a.test.",
        "web-v1",
        "web-v2",
        "catalog",
        "shop",
        "other",
        "default",
        "edge",
        "wide",
        "web",
        "none",
        "shop-tls",
        "cilium",
        "millrace",
        "/",
        "//",
        "/a/../b",
        "/a%2fb",
        "/a?b",
        "/a#b",
        "/ a",
        "a",
        "/[",
        "(a+)+$",
        "/é",
        "\u{0}",
        "\r\nx: y",
        "%REQ(a)%",
        "%",
        "Prefix",
        "Exact",
        "PathPrefix",
        "RegularExpression",
        "ReplacePrefixMatch",
        "ReplaceFullPath",
        "HTTP",
        "HTTPS",
        "TCP",
        "UDP",
        "SCTP",
        "TLS",
        "All",
        "Same",
        "Selector",
        "Terminate",
        "Passthrough",
        "0s",
        "10s",
        "-1s",
        "1h2m3s4ms",
        "99999h",
        "10.0.0.0/8",
        "192.0.2.0/32",
        "2001:db8::/130",
        "0.0.0.0/0",
        "192.0.2.130",
        "2001:db8:2::130",
        "None",
        "IPv6",
        "content-length",
        "host",
        "connection",
        ":authority",
        "Service",
        "Gateway",
        "HTTPRoute",
        "gateway.networking.k8s.io",
        "http",
        "https",
        "true",
        "h2c",
        "kubernetes.io/h2c",
        "Secret",
        "ExternalName",
        "keep",
        "node",
        "least_request",
        "shared",
        "dedicated",
    ];
    match bytes.next() {
        0..=159 => Value::from(TEXTS[bytes.below(TEXTS.len())]),
        160..=169 => Value::Null,
        170..=179 => Value::Bool(bytes.next() & 1 == 0),
        180..=219 => {
            const NUMBERS: &[i64] = &[
                0,
                1,
                -1,
                80,
                81,
                443,
                8080,
                65535,
                65536,
                301,
                302,
                303,
                999,
                i32::MAX as i64,
                i64::MAX,
                i64::MIN,
            ];
            Value::from(NUMBERS[bytes.below(NUMBERS.len())])
        }
        220..=229 => json!({}),
        230..=239 => json!([]),
        240..=244 => Value::from("a".repeat(300)),
        _ => Value::from(bytes.text()),
    }
}
