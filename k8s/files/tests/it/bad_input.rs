//! Whatever is in the files, the thread lives, the good is served, and the bad is named.

use std::fs::{self, File};

use mesh_k8s_files::{FolderState, read_once};
use proptest::prelude::*;

use crate::fixture::{Fixture, names, service};

const GOOD: &str = include_str!("good.yaml");

#[test]
fn the_sample_for_mutation_is_good() {
    let state = read(GOOD.as_bytes(), "yaml");
    assert_eq!(state.problems, []);
    assert_eq!(state.objects.len(), 11);
}

#[test]
fn every_kind_of_bad_file_is_named_and_the_good_ones_are_served() {
    let bad: [(&str, &[u8], &str); 8] = [
        ("b-syntax.yaml", b"a: [\n", "cannot be parsed"),
        ("c-kind.yaml", b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: p}\n", "kind \"ConfigMap\""),
        ("d-empty.yaml", b"\n# nothing\n", ""),
        ("e-utf8.yaml", b"\xff\xfe", "no UTF-8"),
        ("f-zero.yaml", b"\0\0\0\0", "cannot be parsed"),
        ("g-scalar.yaml", b"just words", "no object"),
        ("h-json.json", b"{\"kind\": \"Service\",", "cannot be parsed"),
        ("i-tabs.yaml", b"kind:\n\t- a\n", "cannot be parsed"),
    ];
    let mut folder = Fixture::new(|root| {
        fs::write(root.join("a.yaml"), service("a", 80)).unwrap();
        for (name, bytes, _) in bad {
            fs::write(root.join(name), bytes).unwrap();
        }
        fs::write(root.join("z.yaml"), service("z", 80)).unwrap();
    });
    let state = folder.state();
    assert_eq!(names(&state), ["Service default/a", "Service default/z"]);
    for (name, _, message) in bad {
        let told =
            state.problems.iter().find(|problem| problem.file.ends_with(name)).map(ToString::to_string);
        assert_eq!(told.is_some(), !message.is_empty(), "{name}: {told:?}");
        assert!(told.unwrap_or_default().contains(message), "{name}");
    }
    for (name, ..) in bad {
        folder.write(name, &service(&name[..1], 80));
    }
    folder.wait("all mended", |state| {
        state.problems.iter().all(|p| p.file.ends_with("h-json.json")) && names(state).len() == 9
    });
}

#[test]
fn a_file_that_cannot_be_read_keeps_what_it_held() {
    let mut folder = Fixture::new(|root| fs::write(root.join("a.yaml"), service("a", 80)).unwrap());
    // Missing permission would stop nobody who is root; too long a file stops everyone.
    File::options().write(true).open(folder.root.join("a.yaml")).unwrap().set_len(65 << 20).unwrap();
    let state = folder.wait("a problem", |state| !state.problems.is_empty());
    assert!(state.problems[0].to_string().contains("longer than 64 MiB"), "{}", state.problems[0]);
    assert_eq!(names(&state), ["Service default/a"]);
    folder.write("a.yaml", &service("b", 80));
    let state = folder.wait_names(&["Service default/b"]);
    assert_eq!(state.problems, []);
}

#[test]
fn something_that_is_no_file_is_passed_over() {
    let folder = Fixture::new(|root| {
        fs::create_dir(root.join("folder.yaml")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket.yaml")).unwrap();
        fs::write(root.join("a.yaml"), service("a", 80)).unwrap();
    });
    assert_eq!(folder.names(), ["Service default/a"]);
}

fn read(bytes: &[u8], extension: &str) -> FolderState {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join(format!("a.{extension}"));
    fs::write(&file, bytes).unwrap();
    read_once(&file)
}

/// One change of a text: some of it removed, doubled, exchanged or something put in.
#[derive(Clone, Debug)]
enum Edit {
    Cut(usize, usize),
    Double(usize, usize),
    Put(usize, String),
    Byte(usize, u8),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<usize>(), 0..80usize).prop_map(|(at, len)| Edit::Cut(at, len)),
        (any::<usize>(), 0..80usize).prop_map(|(at, len)| Edit::Double(at, len)),
        (any::<usize>(), "[-:\\[\\]{}&*!|>'\"%@`,?#~\n\t 0-9a-z.]{1,6}")
            .prop_map(|(at, text)| Edit::Put(at, text)),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: Edit) {
    let clip = |at: usize| at % (bytes.len() + 1);
    match edit {
        Edit::Cut(at, len) => {
            let at = clip(at);
            let end = (at + len).min(bytes.len());
            bytes.drain(at..end);
        }
        Edit::Double(at, len) => {
            let at = clip(at);
            let part = bytes[at..(at + len).min(bytes.len())].to_vec();
            bytes.splice(at..at, part);
        }
        Edit::Put(at, text) => {
            let at = clip(at);
            bytes.splice(at..at, text.into_bytes());
        }
        Edit::Byte(at, byte) => {
            let at = clip(at);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
    }
}

/// Every problem says something, on a line that the file has.
fn well_formed(state: &FolderState, bytes: &[u8]) {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    for problem in &state.problems {
        assert!(!problem.message.is_empty() && !problem.fix.is_empty(), "{problem:?}");
        assert!(
            problem.line.is_none_or(|line| line >= 1 && line as usize <= lines + 1),
            "{problem:?} of {lines}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_manifests_never_panic(edits in prop::collection::vec(edit(), 1..6)) {
        let mut bytes = GOOD.as_bytes().to_vec();
        edits.into_iter().for_each(|edit| apply(&mut bytes, edit));
        well_formed(&read(&bytes, "yaml"), &bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        well_formed(&read(&bytes, "yaml"), &bytes);
        well_formed(&read(&bytes, "json"), &bytes);
    }

    #[test]
    fn random_yaml_like_text_never_panics(text in "([-:\\[\\]{}&*!|>'\"%@`,?#~\n\t 0-9a-z.]|kind: |apiVersion: v1\n|---\n){0,60}") {
        well_formed(&read(text.as_bytes(), "yaml"), text.as_bytes());
        well_formed(&read(text.as_bytes(), "json"), text.as_bytes());
    }
}
