//! One request, one answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::store::{Conflict, Store};
use super::{Asked, Fault, Shared};

/// How often a watch gets a bookmark.
const BOOKMARK_EVERY: Duration = Duration::from_millis(200);

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What a path names.
struct Target {
    /// Without the namespace.
    collection: String,
    namespace: Option<String>,
    name: Option<String>,
    is_status: bool,
}

impl Target {
    fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let root = if parts.first() == Some(&"api") { 2 } else { 3 }.min(parts.len());
        let (root, mut rest) = parts.split_at(root);
        let mut namespace = None;
        if let ["namespaces", name, more @ ..] = rest
            && !more.is_empty()
        {
            namespace = Some((*name).to_owned());
            rest = more;
        }
        let collection = format!("/{}/{}", root.join("/"), rest.first().copied().unwrap_or_default());
        let name = rest.get(1).map(|name| (*name).to_owned());
        Self { collection, namespace, name, is_status: rest.get(2) == Some(&"status") }
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

pub(super) async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let token =
        head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let fault = {
        let mut inner = shared.lock();
        let line = format!("{} {path}", head.method);
        inner.asked.push(Asked { method: head.method.to_string(), path });
        let fits = |(part, _, left): &&mut (String, Fault, usize)| *left > 0 && line.contains(part.as_str());
        let fault = inner.faults.iter_mut().find(fits).map(|(_, fault, left)| {
            *left -= 1;
            fault.clone()
        });
        let known =
            inner.tokens.as_ref().is_none_or(|tokens| token.is_some_and(|token| tokens.contains(token)));
        match known {
            true => fault,
            false => Some(Fault::Status(401, 0)),
        }
    };
    match fault {
        Some(Fault::Status(code, retry_after)) => {
            let mut answer = status(code, "on order");
            if retry_after > 0 {
                answer.headers_mut().insert(RETRY_AFTER, retry_after.into());
            }
            return Ok(answer);
        }
        Some(Fault::Body(body)) => return Ok(ok(Bytes::from(body))),
        Some(Fault::Slow(wait)) => tokio::time::sleep(wait).await,
        None => {}
    }
    let target = Target::of(head.uri.path());
    let query = head.uri.query().unwrap_or_default();
    if !shared.lock().store.serves(&target.collection) {
        return Ok(status(404, "the server could not find the requested resource"));
    }
    let is_watch = matches!(parameter(query, "watch"), Some("true" | "1"));
    Ok(match (&head.method, &target.name) {
        (&Method::GET, None) if is_watch => watch(shared, target, query),
        (&Method::GET, None) => list(&shared.lock().store, &target, query),
        (&Method::GET, Some(_)) => one(&shared.lock().store, &target),
        _ => {
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let answer = write(&mut shared.lock().store, &head.method, &target, &body);
            shared.tell();
            answer
        }
    })
}

fn write(store: &mut Store, method: &Method, target: &Target, body: &[u8]) -> Answer {
    let Ok(mut given) = serde_json::from_slice::<Value>(body) else {
        return status(400, "the body is no JSON");
    };
    let namespace = target.namespace.clone().unwrap_or_default();
    let stored =
        target.name.as_ref().and_then(|name| store.get(&target.collection, &namespace, name)).cloned();
    let object = match (method.as_str(), stored) {
        ("POST", _) => {
            if !namespace.is_empty() {
                given["metadata"]["namespace"] = json!(namespace);
            }
            let name = given["metadata"]["name"].as_str().unwrap_or_default();
            if store.get(&target.collection, &namespace, name).is_some() {
                return status(409, "it exists already");
            }
            given
        }
        ("PUT", Some(stored)) if target.is_status => {
            let mut object = stored;
            object["status"] = given["status"].take();
            object["metadata"]["resourceVersion"] = given["metadata"]["resourceVersion"].take();
            object
        }
        ("PUT", Some(stored)) => {
            given["status"] = stored["status"].clone();
            given
        }
        ("PATCH", Some(mut stored)) => {
            merge(&mut stored, given);
            stored
        }
        ("DELETE", Some(_)) => {
            let name = target.name.as_deref().unwrap_or_default();
            store.delete(&target.collection, &namespace, name);
            return status(200, "deleted");
        }
        (_, None) => return status(404, "not found"),
        _ => return status(405, "no such verb"),
    };
    match store.replace(&target.collection, object) {
        Ok(object) => ok(Bytes::from(object.to_string())),
        Err(Conflict) => status(409, "the object has been modified"),
    }
}

/// RFC 7396.
fn merge(object: &mut Value, patch: Value) {
    match patch {
        Value::Object(fields) => {
            if !object.is_object() {
                *object = json!({});
            }
            for (field, value) in fields {
                match value {
                    Value::Null => drop(object.as_object_mut().and_then(|object| object.remove(&field))),
                    value => merge(&mut object[&field], value),
                }
            }
        }
        value => *object = value,
    }
}

fn one(store: &Store, target: &Target) -> Answer {
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let name = target.name.as_deref().unwrap_or_default();
    match store.get(&target.collection, namespace, name) {
        Some(object) => ok(Bytes::from(object.to_string())),
        None => status(404, "not found"),
    }
}

fn fits(target: &Target, object: &Value, query: &str) -> bool {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let of_type = parameter(query, "fieldSelector").and_then(|selector| selector.strip_prefix("type%3D"));
    target.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
        && of_type.is_none_or(|wanted| object["type"] == wanted.replace("%2F", "/"))
}

/// A page; the token of the next one is the number of objects before it.
fn list(store: &Store, target: &Target, query: &str) -> Answer {
    let number = |name| parameter(query, name).and_then(|text| text.parse::<usize>().ok());
    let (skipped, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
    let all: Vec<&Value> =
        store.list(&target.collection).filter(|object| fits(target, object, query)).collect();
    let end = skipped.saturating_add(limit).min(all.len());
    let more = if end < all.len() { end.to_string() } else { String::new() };
    let page = json!({
        "kind": "List",
        "metadata": {"resourceVersion": store.version().to_string(), "continue": more},
        "items": all.get(skipped..end).unwrap_or_default(),
    });
    ok(Bytes::from(page.to_string()))
}

fn watch(shared: Arc<Shared>, target: Target, query: &str) -> Answer {
    let streams = parameter(query, "sendInitialEvents") == Some("true");
    let inner = shared.lock();
    if streams && !inner.streams_lists {
        return status(
            422,
            "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
        );
    }
    let position = parameter(query, "resourceVersion").and_then(|version| version.parse::<u64>().ok());
    let position = position.filter(|version| *version > 0 && !streams);
    if position.is_some_and(|version| version < inner.store.oldest()) {
        return status(410, "too old resource version");
    }
    let (cuts, query) = (inner.cuts, query.to_owned());
    drop(inner);
    let (sender, body) = Channel::<Bytes, Infallible>::new(64);
    tokio::spawn(follow(shared, target, query, position, cuts, sender));
    let mut answer = Response::new(body.boxed());
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    answer
}

async fn follow(
    shared: Arc<Shared>,
    target: Target,
    query: String,
    position: Option<u64>,
    cuts: u64,
    mut sender: Sender<Bytes, Infallible>,
) {
    let mut changed = shared.changed.subscribe();
    let mut raw_sent = shared.lock().raw.len();
    let mut at = position;
    let mut lines: Vec<String> = Vec::new();
    loop {
        {
            let inner = shared.lock();
            if inner.cuts != cuts {
                return;
            }
            let event = |kind: &str, object: &Value| format!("{}\n", json!({"type": kind, "object": object}));
            // Before the events, so that what follows them has to be found all the same.
            let raw = inner.raw.iter().skip(raw_sent).filter(|(path, _)| *path == target.collection);
            lines.extend(raw.map(|(_, bytes)| bytes.clone()));
            raw_sent = inner.raw.len();
            match at {
                None => {
                    let objects = inner.store.list(&target.collection);
                    lines.extend(objects.filter(|o| fits(&target, o, &query)).map(|o| event("ADDED", o)));
                    lines.push(bookmark(inner.store.version(), true));
                }
                Some(from) => {
                    let happened = inner.store.since(&target.collection, from);
                    let fitting = happened.iter().filter(|h| fits(&target, &h.object, &query));
                    lines.extend(fitting.map(|h| event(h.kind, &h.object)));
                }
            }
            at = Some(inner.store.version());
        }
        for line in lines.drain(..) {
            if sender.send_data(Bytes::from(line)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep(BOOKMARK_EVERY) => lines.push(bookmark(at.unwrap_or_default(), false)),
        }
    }
}

fn bookmark(version: u64, ends_list: bool) -> String {
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if ends_list {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    format!("{}\n", json!({"type": "BOOKMARK", "object": {"metadata": metadata}}))
}

fn ok(body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body).boxed());
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    answer
}

fn status(code: u16, message: &str) -> Answer {
    let body = json!({"kind": "Status", "apiVersion": "v1", "code": code, "message": message});
    let mut answer = ok(Bytes::from(body.to_string()));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer
}
