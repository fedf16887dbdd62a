use std::sync::Arc;

use mesh_k8s_api::core::Service;
use mesh_k8s_api::{Object, ObjectSet, Source, Stored};
use mesh_l7proxy_wire::{StarterStatus, WorkerState, WorkerStatus};
use mesh_xds::server::{Connection, Nack, Rejection};
use serde_json::{Value, json};

use super::{LISTED, clients, objects, parts, problems, processes, refusals};
use crate::events::{EventLog, Happened};
use crate::health::{PartHealth, Problem};

/// Kind, subject and message of each, as a reader of events sees them.
fn told(happened: Vec<Happened>) -> Vec<(String, String, String)> {
    let log = EventLog::default();
    happened.into_iter().for_each(|happened| log.record(happened));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events = log.last(usize::MAX).into_iter().map(|event| {
        let shown = serde_json::to_value(&*event).expect("plain data");
        (text(&shown["kind"]), text(&shown["subject"]), text(&shown["message"]))
    });
    events.collect()
}

fn kinds(happened: Vec<Happened>) -> Vec<String> {
    told(happened).into_iter().map(|(kind, ..)| kind).collect()
}

fn service(name: &str, label: &str) -> Object {
    let object: Service = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "labels": {"a": label}},
    }))
    .expect("a Service");
    let source = Source::File { path: "web.yaml".into(), document: 0 };
    Object::Service(Arc::new(Stored { object, source, uid: "u".to_owned(), generation: 1, created_ms: 0 }))
}

#[test]
fn objects_that_come_change_and_go_are_told_with_their_file() {
    let before: ObjectSet = [service("a", "1"), service("b", "1")].into_iter().collect();
    let after: ObjectSet = [service("b", "2"), service("c", "1")].into_iter().collect();
    let mut told = told(objects(&before, &after));
    told.sort();
    let expected = [
        ("object-added", "Service shop/c", "read from web.yaml"),
        ("object-changed", "Service shop/b", "read from web.yaml"),
        ("object-removed", "Service shop/a", "no longer in web.yaml"),
    ];
    assert_eq!(told, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
}

#[test]
fn many_objects_at_once_are_counted_instead_of_listed() {
    let many: ObjectSet = (0..=LISTED).map(|number| service(&format!("s{number}"), "1")).collect();
    let told = told(objects(&ObjectSet::default(), &many));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, "objects-changed");
    assert!(told[0].2.starts_with("65 objects added"), "{}", told[0].2);
}

#[test]
fn a_problem_is_told_once_when_it_comes_and_once_when_it_goes() {
    let problem = Problem {
        severity: "error",
        object: "Ingress shop/web".to_owned(),
        source: "web.yaml:3".to_owned(),
        field: "spec".to_owned(),
        message: "no such field".to_owned(),
        fix: "take it out".to_owned(),
    };
    let list = [problem];
    let came = told(problems(&[], &list));
    assert_eq!(came[0].0, "object-refused");
    assert_eq!(came[0].1, "Ingress shop/web");
    assert!(came[0].2.contains("to mend: take it out"), "{}", came[0].2);
    assert!(problems(&list, &list).is_empty());
    assert_eq!(kinds(problems(&list, &[])), ["object-mended"]);
}

#[test]
fn many_problems_at_once_are_counted_and_stay_warnings_of_their_kind() {
    let problem = |number: usize| Problem {
        severity: "error",
        source: format!("{number}.yaml"),
        object: String::new(),
        field: String::new(),
        message: "wrong".to_owned(),
        fix: String::new(),
    };
    let many: Vec<Problem> = (0..=LISTED).map(problem).collect();
    let log = EventLog::default();
    problems(&[], &many).into_iter().for_each(|happened| log.record(happened));
    let events: Vec<Value> = log
        .last(usize::MAX)
        .iter()
        .map(|event| serde_json::to_value(&**event).expect("plain data"))
        .collect();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["kind"], &events[0]["severity"]), (&json!("object-refused"), &json!("warning")));
    assert_eq!(events[0]["details"]["count"], LISTED + 1);
}

#[test]
fn a_part_is_told_when_its_state_changes_and_not_when_its_detail_does() {
    let ok = [PartHealth::ok("proxy", "has revision 1")];
    let still_ok = [PartHealth::ok("proxy", "has revision 2")];
    let bad = [PartHealth::degraded("proxy", "gone", "start it")];
    assert!(parts(&ok, &still_ok).is_empty());
    let told = told(parts(&ok, &bad));
    assert_eq!(told[0].0, "part-changed");
    assert_eq!(told[0].2, "degraded: gone; to mend: start it");
    assert_eq!(parts(&bad, &ok).len(), 1);
}

fn connection(id: u64, settled: u64) -> Connection {
    Connection { id, node_id: "l7proxy".to_owned(), pid: Some(7), settled }
}

#[test]
fn streams_are_told_when_they_open_answer_and_end() {
    let (opened, settled) = ([connection(0, 0)], [connection(0, 3)]);
    assert_eq!(kinds(clients(&[], &opened)), ["xds-connected"]);
    let answered = told(clients(&opened, &settled));
    assert_eq!(answered[0].0, "xds-acked");
    assert_eq!(answered[0].1, "l7proxy (pid 7)");
    assert!(answered[0].2.contains("revision 3"), "{}", answered[0].2);
    assert!(clients(&settled, &settled).is_empty());
    let again = [connection(1, 3)];
    assert_eq!(kinds(clients(&settled, &again)), ["xds-disconnected", "xds-connected", "xds-acked"]);
}

#[test]
fn a_refused_resource_is_told_with_its_type_its_name_and_the_reason() {
    let rejection = Rejection {
        node_id: "l7proxy".to_owned(),
        type_url: "type.googleapis.com/envoy.config.listener.v3.Listener".to_owned(),
        name: "http".to_owned(),
        nack: Nack { version: "1".to_owned(), message: "no address".to_owned() },
    };
    let list = [rejection];
    let told = told(refusals(&[], &list));
    assert_eq!((told[0].0.as_str(), told[0].1.as_str()), ("xds-refused", "Listener http"));
    assert!(told[0].2.ends_with("no address"), "{}", told[0].2);
    assert!(refusals(&list, &list).is_empty());
}

fn starter(pid: u32, worker: u32, restarts: u64) -> StarterStatus {
    let worker = WorkerStatus {
        pid: worker,
        generation: restarts + 1,
        state: WorkerState::Serving,
        version: Some("1".to_owned()),
        binary: "/l7proxy".into(),
        uptime_s: 0,
    };
    StarterStatus {
        version: "1".to_owned(),
        pid,
        instance: None,
        uptime_s: 0,
        worker_threads: 1,
        upstream_ports: None,
        workers: vec![worker],
        restarts,
        last_exit: Some("signal 9".to_owned()),
        listeners: 0,
        stored_config_bytes: None,
        capabilities: Vec::new(),
    }
}

#[test]
fn a_worker_that_died_is_told_with_how_it_ended() {
    let (first, second) = (starter(1, 2, 0), starter(1, 3, 1));
    assert_eq!(kinds(processes(None, Some(&first))), ["proxy-started", "worker-started"]);
    let told = told(processes(Some(&first), Some(&second)));
    assert_eq!(told[0].0, "worker-restarted");
    assert!(told[0].2.contains("signal 9"), "{}", told[0].2);
    assert_eq!(told[1].0, "worker-started");
    assert!(processes(Some(&second), Some(&second)).is_empty());
}

#[test]
fn an_upgrade_is_another_worker_and_no_death() {
    let (first, second) = (starter(1, 2, 0), starter(1, 3, 0));
    assert_eq!(kinds(processes(Some(&first), Some(&second))), ["worker-started"]);
}

#[test]
fn a_proxy_that_is_gone_is_told_once() {
    let first = starter(1, 2, 0);
    assert_eq!(kinds(processes(Some(&first), None)), ["proxy-gone"]);
    assert!(processes(None, None).is_empty());
    assert_eq!(
        kinds(processes(Some(&first), Some(&starter(9, 10, 0)))),
        ["proxy-started", "worker-started"],
        "another starter"
    );
}
