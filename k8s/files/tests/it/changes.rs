//! Files that are added, changed, removed, renamed and written slowly.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::time::Duration;

use crate::fixture::{Fixture, names, port, service};

#[test]
fn a_file_that_is_added_changed_and_removed_is_followed() {
    let mut folder = Fixture::new(|_| {});
    assert_eq!(folder.state().revision, 1);
    folder.write("a.yaml", &service("a", 80));
    folder.wait_names(&["Service default/a"]);
    folder.write("a.yaml", &service("a", 81));
    folder.wait("port 81", |state| port(state, "a") == 81);
    fs::remove_file(folder.root.join("a.yaml")).unwrap();
    folder.wait_names(&[]);
}

#[test]
fn a_file_that_is_renamed_or_moved_in_or_out_is_followed() {
    let mut folder = Fixture::new(|root| fs::write(root.join("a.yaml"), service("a", 80)).unwrap());
    fs::rename(folder.root.join("a.yaml"), folder.root.join("b.yaml")).unwrap();
    let state = folder.wait("b.yaml", |state| {
        state.objects.services.values().any(|service| service.source.to_string().ends_with("b.yaml"))
    });
    assert_eq!((names(&state), state.problems.len()), (vec!["Service default/a".to_owned()], 0));
    let outside = folder.root.with_file_name("outside");
    fs::rename(folder.root.join("b.yaml"), &outside).unwrap();
    folder.wait_names(&[]);
    fs::rename(&outside, folder.root.join("c.yml")).unwrap();
    folder.wait_names(&["Service default/a"]);
    fs::rename(folder.root.join("c.yml"), folder.root.join("c.txt")).unwrap();
    folder.wait_names(&[]);
}

#[test]
fn a_file_replaced_by_rename_is_never_missing() {
    let mut folder = Fixture::new(|root| fs::write(root.join("a.yaml"), service("a", 80)).unwrap());
    for new in 81..91 {
        let temporary = folder.root.join(".a.yaml.tmp");
        fs::write(&temporary, service("a", new)).unwrap();
        fs::rename(&temporary, folder.root.join("a.yaml")).unwrap();
        folder.wait("the new port", |state| {
            assert_eq!(names(state), ["Service default/a"]);
            port(state, "a") == i32::from(new)
        });
    }
}

#[test]
fn a_file_is_not_read_while_it_is_being_written() {
    let mut folder = Fixture::new(|root| fs::write(root.join("a.yaml"), service("a", 80)).unwrap());
    let text = format!("{}---\n{}", service("a", 81), service("b", 81));
    let mut file = OpenOptions::new().write(true).truncate(true).open(folder.root.join("a.yaml")).unwrap();
    for part in text.as_bytes().chunks(40) {
        file.write_all(part).unwrap();
        // Another file's change is served meanwhile, which also shows that the half-written one was passed by.
        folder.write("other.yaml", &service("other", u16::from(part[0]) + 1));
        let state = folder.wait("the other file", |state| {
            names(state).len() == 2 && port(state, "other") == i32::from(part[0]) + 1
        });
        assert_eq!(
            (names(&state), port(&state, "a")),
            (vec!["Service default/a".into(), "Service default/other".into()], 80)
        );
        assert_eq!(state.problems, []);
    }
    drop(file);
    folder.wait("all of it", |state| names(state).len() == 3 && port(state, "a") == 81);
}

#[test]
fn a_file_that_stays_open_is_read_in_the_end() {
    let mut folder =
        Fixture::with_config(|_| {}, |config| config.timing.unclosed = Duration::from_millis(30));
    let mut file = File::create(folder.root.join("a.yaml")).unwrap();
    file.write_all(service("a", 80).as_bytes()).unwrap();
    folder.wait_names(&["Service default/a"]);
    drop(file);
}

#[test]
fn a_change_of_the_same_size_and_time_is_seen() {
    let mut folder = Fixture::new(|root| fs::write(root.join("a.yaml"), service("a", 80)).unwrap());
    let old = fs::metadata(folder.root.join("a.yaml")).unwrap().modified().unwrap();
    for new in 10..30 {
        folder.write("a.yaml", &service("a", new));
        File::options().write(true).open(folder.root.join("a.yaml")).unwrap().set_modified(old).unwrap();
        folder.wait("the new port", |state| port(state, "a") == i32::from(new));
    }
}

#[test]
fn what_editors_leave_lying_about_is_not_read() {
    let mut folder = Fixture::new(|_| {});
    for name in
        [".a.yaml.swp", "a.yaml~", "#a.yaml#", ".#a.yaml", ".hidden.yaml", "4913", "a.yaml.bak", "README.md"]
    {
        folder.write(name, &service("wrong", 80));
    }
    fs::create_dir(folder.root.join(".git")).unwrap();
    folder.write(".git/a.yaml", &service("wrong", 80));
    folder.write("a.yaml", &service("a", 80));
    let state = folder.wait_names(&["Service default/a"]);
    assert_eq!(state.problems, []);
}

#[test]
fn an_unchanged_object_is_shared_between_states() {
    let mut folder = Fixture::new(|root| {
        fs::write(root.join("a.yaml"), service("a", 80)).unwrap();
        fs::write(root.join("b.yaml"), service("b", 80)).unwrap();
    });
    let before = folder.state();
    folder.write("a.yaml", &service("a", 81));
    let after = folder.wait("port 81", |state| port(state, "a") == 81);
    let object = |state: &mesh_k8s_files::FolderState| state.objects.iter().last().unwrap();
    assert!(object(&before).ptr_eq(&object(&after)));
    assert_eq!(after.revision, before.revision + 1);
}

#[test]
fn the_watcher_ends_with_its_handle() {
    let state = Fixture::new(|_| {}).stop();
    assert!(state.has_changed().is_err(), "the sender is gone");
}
