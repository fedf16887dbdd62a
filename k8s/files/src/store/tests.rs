use std::path::Path;

use mesh_k8s_api::Kind;
use mesh_model::NamespacedName;

use super::Store;
use mesh_k8s_api::Severity;

fn service(name: &str, port: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports:\n  - port: {port}\n")
}

fn names(store: &Store) -> Vec<String> {
    store.objects().iter().map(|object| object.key().to_string()).collect()
}

fn put(store: &mut Store, file: &str, text: &str) {
    store.put(Path::new(file), text.as_bytes());
}

#[test]
fn the_namespace_is_default_unless_it_is_given() {
    let mut store = Store::default();
    put(&mut store, "a.yaml", &service("web", "80"));
    assert_eq!(names(&store), ["Service default/web"]);
    assert_eq!(store.problems(), []);
}

#[test]
fn a_bad_document_does_not_take_its_neighbours_along() {
    let mut store = Store::default();
    let text = format!("{}---\nspec: [1,\n---\n{}", service("a", "80"), service("b", "80"));
    put(&mut store, "a.yaml", &text);
    assert_eq!(names(&store), ["Service default/a", "Service default/b"]);
    let [problem] = store.problems().try_into().unwrap();
    assert_eq!((problem.document, problem.severity), (Some(1), Severity::Error));
    assert!(problem.line.is_some_and(|line| (8..=10).contains(&line)), "{problem}");
}

#[test]
fn a_document_that_breaks_keeps_its_last_good_objects_until_it_is_valid_or_gone() {
    let mut store = Store::default();
    let (a, b) = (service("a", "80"), service("b", "80"));
    put(&mut store, "a.yaml", &format!("{a}---\n{b}"));
    put(&mut store, "a.yaml", &format!("{a}---\nkind: [Serv"));
    assert_eq!(names(&store), ["Service default/a", "Service default/b"]);
    assert_eq!(store.problems().len(), 1);
    put(&mut store, "a.yaml", &a);
    assert_eq!(names(&store), ["Service default/a"]);
    put(&mut store, "a.yaml", "}");
    assert_eq!(names(&store), ["Service default/a"]);
    store.remove(Path::new("a.yaml"));
    assert_eq!(names(&store), [""; 0]);
    assert_eq!(store.problems(), []);
}

#[test]
fn a_file_cut_off_anywhere_never_loses_an_object_it_cannot_parse() {
    let text = format!("{}---\n{}", service("a", "80"), service("b", "80"));
    for end in 0..text.len() {
        let mut store = Store::default();
        put(&mut store, "a.yaml", &text);
        put(&mut store, "a.yaml", &text[..end]);
        if store.problems().iter().any(|p| p.object.is_none()) {
            assert_eq!(names(&store).len(), 2, "cut at {end}");
        }
        put(&mut store, "a.yaml", &text);
        assert_eq!((names(&store).len(), store.problems().len()), (2, 0), "cut at {end}");
    }
}

#[test]
fn a_refused_object_keeps_its_last_good_version() {
    let mut store = Store::default();
    put(&mut store, "a.yaml", &format!("{}---\n{}", service("a", "80"), service("b", "80")));
    put(&mut store, "a.yaml", &service("a", "99999"));
    let name = NamespacedName::new("default", "a");
    let port = store.objects().services[&name].object.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port;
    assert_eq!(port, 80);
    assert_eq!(names(&store), ["Service default/a"], "an object beside it can be removed");
    let text = store.problems()[0].to_string();
    assert!(text.starts_with("a.yaml:6: Service default/a: spec.ports[0].port: 99999 is no port"), "{text}");
}

#[test]
fn an_unknown_kind_is_named_and_holds_nothing_back() {
    let mut store = Store::default();
    put(&mut store, "a.yaml", &format!("{}---\n{}", service("a", "80"), service("b", "80")));
    let typo = service("b", "80").replace("kind: Service", "kind: Servise");
    put(&mut store, "a.yaml", &format!("{}---\n{typo}", service("a", "81")));
    assert_eq!(names(&store), ["Service default/a", "Service default/b"], "the last good state serves on");
    let text = store.problems()[0].to_string();
    assert!(text.contains("Servise b: kind: kind \"Servise\"") && text.contains("`kind: Service`"), "{text}");
    put(&mut store, "a.yaml", &format!("{}---\n{typo}", service("c", "81")));
    assert_eq!(names(&store), ["Service default/b", "Service default/c"]);
}

#[test]
fn removing_an_object_beside_a_foreign_one_of_its_name_removes_it() {
    let mut store = Store::default();
    let foreign = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    put(&mut store, "a.yaml", &format!("{}---\n{foreign}", service("a", "80")));
    assert_eq!(names(&store), ["Service default/a"]);
    put(&mut store, "a.yaml", foreign);
    assert_eq!(names(&store), [""; 0]);
}

#[test]
fn an_unknown_field_is_a_warning_and_the_object_is_served() {
    let mut store = Store::default();
    put(&mut store, "a.yaml", &format!("{}    tragetPort: 8080\n", service("a", "80")));
    assert_eq!(names(&store), ["Service default/a"]);
    let [problem] = store.problems().try_into().unwrap();
    assert_eq!(problem.severity, Severity::Warning);
    assert_eq!(problem.line, Some(7));
    assert_eq!(problem.field.as_deref(), Some("spec.ports[0].tragetPort"));
}

#[test]
fn of_the_same_object_in_two_files_the_first_file_is_served() {
    let mut store = Store::default();
    put(&mut store, "b.yaml", &service("a", "80"));
    put(&mut store, "a.yaml", &service("a", "81"));
    let source = |store: &Store| store.objects().services.values().next().unwrap().source.to_string();
    assert_eq!(source(&store), "a.yaml");
    let [problem] = store.problems().try_into().unwrap();
    assert!(
        problem.to_string().starts_with("b.yaml: Service default/a: the same object is in a.yaml"),
        "{problem}"
    );
    store.remove(Path::new("a.yaml"));
    assert_eq!(source(&store), "b.yaml");
    assert_eq!(store.problems(), []);
    put(&mut store, "b.yaml", &format!("{}---\n{}", service("a", "80"), service("a", "81")));
    assert!(store.problems()[0].to_string().contains("twice"));
}

#[test]
fn generation_rises_with_content_and_the_rest_is_shared() {
    let mut store = Store::default();
    let b = service("b", "80");
    put(&mut store, "a.yaml", &format!("{}---\n{b}", service("a", "80")));
    let before = store.objects().clone();
    let version = store.version();
    put(&mut store, "a.yaml", &format!("{}---\n{b}# a comment\n", service("a", "80")));
    assert_eq!(store.version(), version, "nothing changed");
    put(&mut store, "a.yaml", &format!("{}---\n{b}", service("a", "81")));
    let [a, b] = ["a", "b"].map(|name| NamespacedName::new("default", name));
    let after = store.objects();
    assert_eq!((before.services[&a].generation, after.services[&a].generation), (1, 2));
    assert_eq!(before.services[&a].uid, after.services[&a].uid);
    let (old, new) = (before.get(Kind::Service, &b).unwrap(), after.get(Kind::Service, &b).unwrap());
    assert!(old.ptr_eq(&new));
    let labelled = service("a", "81").replace("{name: a}", "{name: a, labels: {x: y}}");
    put(&mut store, "a.yaml", &labelled);
    assert_eq!(store.objects().services[&a].generation, 2, "labels are not content");
}

#[test]
fn lists_and_json_are_read_as_their_objects() {
    let mut store = Store::default();
    put(
        &mut store,
        "a.yaml",
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: n}}\n\
         - {apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 0}]}}\n",
    );
    put(&mut store, "b.yaml", "apiVersion: v1\nkind: NamespaceList\nitems: [{metadata: {name: m}}]\n");
    put(&mut store, "c.json", "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"o\"}}");
    assert_eq!(names(&store), ["Namespace m", "Namespace n", "Namespace o"]);
    let [problem] = store.problems().try_into().unwrap();
    assert_eq!((problem.line, problem.field.as_deref()), (Some(5), Some("spec.ports[0].port")));
}

#[test]
fn text_that_is_no_object_is_a_problem() {
    for (text, part) in [
        ("hello", "this is no object"),
        ("- a", "this is no object"),
        ("kind: Service", "apiVersion: is missing"),
        ("apiVersion: v1", "kind: is missing"),
        ("apiVersion: v1\nkind: Service", "metadata.name: is missing"),
        ("apiVersion: v2\nkind: Service\nmetadata: {name: a}", "version \"v2\" of Service is not read"),
        (
            "apiVersion: extensions/v1\nkind: Ingress\nmetadata: {name: a}",
            "`apiVersion: networking.k8s.io/v1`",
        ),
    ] {
        let mut store = Store::default();
        put(&mut store, "a.yaml", text);
        let [problem] = store.problems().try_into().unwrap();
        assert!(problem.to_string().contains(part), "{text:?}: {problem}");
    }
    let mut store = Store::default();
    store.put(Path::new("a.yaml"), b"a: \xff");
    assert!(store.problems()[0].to_string().contains("no UTF-8"));
}

#[test]
fn no_problem_shows_a_value_of_a_secret() {
    let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
    for rest in [
        "data: {a: canary!}\n",
        "data: canary\n",
        "stringData: {a: [canary]}\n",
        "type: kubernetes.io/tls\ndata: {x: Y2FuYXJ5}\n",
        "data: {a: *canary}\n",
        "data: {a: 'canary\n",
    ] {
        let mut store = Store::default();
        put(&mut store, "a.yaml", &format!("{head}{rest}"));
        let text = format!("{:?}", store.problems());
        assert!(!store.problems().is_empty(), "{rest}");
        let shown = text.replace("unknown anchor", "");
        assert!(!shown.contains("canary") && !shown.contains("Y2FuYXJ5"), "{text}");
    }
}

#[test]
fn a_file_of_something_else_does_not_fill_the_list_of_problems() {
    let mut store = Store::default();
    put(&mut store, "a.yaml", &"a: b\n---\n".repeat(150));
    let problems = store.problems();
    assert_eq!(problems.len(), 101);
    assert!(problems[100].to_string().contains("50 more problems"), "{}", problems[100]);
}
