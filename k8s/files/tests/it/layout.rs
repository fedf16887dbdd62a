//! Folders in folders, links, and folders that come and go.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use mesh_k8s_files::read_once;

use crate::fixture::{Fixture, names, port, service};

/// Lays out a version of a ConfigMap volume as the kubelet does.
fn configmap_version(root: &Path, version: &str, files: &[(&str, String)]) {
    let folder = root.join(version);
    fs::create_dir(&folder).unwrap();
    for (name, text) in files {
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        fs::write(folder.join(name), text).unwrap();
    }
}

/// Points `..data` at it in one step.
fn configmap_swap(root: &Path, version: &str) {
    symlink(version, root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
}

#[test]
fn a_configmap_volume_is_read_once_and_followed_when_it_is_swapped() {
    let mut folder = Fixture::new(|root| {
        configmap_version(
            root,
            "..2024_1",
            &[("a.yaml", service("a", 80)), ("sub/b.yaml", service("b", 80))],
        );
        configmap_swap(root, "..2024_1");
        symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
        symlink("..data/sub", root.join("sub")).unwrap();
    });
    assert_eq!(folder.names(), ["Service default/a", "Service default/b"]);
    assert_eq!(folder.state().problems, []);
    for version in 2..6 {
        let name = format!("..2024_{version}");
        let text = |object| service(object, 80 + version);
        configmap_version(&folder.root, &name, &[("a.yaml", text("a")), ("sub/b.yaml", text("b"))]);
        configmap_swap(&folder.root, &name);
        fs::remove_dir_all(folder.root.join(format!("..2024_{}", version - 1))).unwrap();
        let state = folder.wait("the new version", |state| {
            assert_eq!(names(state).len(), 2, "never a moment without");
            port(state, "a") == i32::from(80 + version) && port(state, "b") == i32::from(80 + version)
        });
        assert_eq!(state.problems, []);
    }
}

#[test]
fn a_link_to_a_file_elsewhere_is_followed_through_every_link_on_the_way() {
    let mut folder = Fixture::new(|root| {
        let outside = root.with_file_name("outside");
        for version in ["v1", "v2"] {
            fs::create_dir_all(outside.join(version)).unwrap();
        }
        fs::write(outside.join("v1/a.yaml"), service("a", 81)).unwrap();
        fs::write(outside.join("v2/a.yaml"), service("a", 82)).unwrap();
        symlink("v1", outside.join("current")).unwrap();
        symlink("../outside/current/a.yaml", root.join("a.yaml")).unwrap();
        symlink("../outside/later.yaml", root.join("later.yaml")).unwrap();
    });
    let outside = folder.root.with_file_name("outside");
    assert_eq!(port(&folder.state(), "a"), 81);
    fs::write(outside.join("v1/a.yaml"), service("a", 91)).unwrap();
    folder.wait("an edit of the target", |state| port(state, "a") == 91);
    symlink("v2", outside.join("next")).unwrap();
    fs::rename(outside.join("next"), outside.join("current")).unwrap();
    folder.wait("the link on the way pointed elsewhere", |state| port(state, "a") == 82);
    fs::write(outside.join("later.yaml"), service("later", 80)).unwrap();
    folder.wait_names(&["Service default/a", "Service default/later"]);
    fs::remove_file(outside.join("later.yaml")).unwrap();
    let state = folder.wait("a link to nothing", |state| !state.problems.is_empty());
    assert_eq!(names(&state).len(), 2, "what it led to stays");
    fs::remove_file(folder.root.join("later.yaml")).unwrap();
    let state = folder.wait_names(&["Service default/a"]);
    assert_eq!(state.problems, []);
}

#[test]
fn subfolders_are_followed_as_they_come_move_and_go() {
    let mut folder = Fixture::new(|_| {});
    fs::create_dir_all(folder.root.join("x/y")).unwrap();
    folder.write("x/y/a.yaml", &service("a", 80));
    folder.wait_names(&["Service default/a"]);
    fs::rename(folder.root.join("x"), folder.root.join("z")).unwrap();
    folder.wait("z", |state| {
        state.objects.services.values().all(|service| service.source.to_string().contains("/z/y/"))
    });
    folder.write("z/y/a.yaml", &service("b", 80));
    folder.wait_names(&["Service default/b"]);
    fs::remove_dir_all(folder.root.join("z")).unwrap();
    folder.wait_names(&[]);
}

#[test]
fn a_folder_that_is_missing_at_the_start_is_waited_for() {
    let mut folder = Fixture::new(|root| fs::remove_dir(root).unwrap());
    let text = folder.state().problems[0].to_string();
    assert!(text.contains("manifests: it does not exist"), "{text}");
    fs::create_dir(&folder.root).unwrap();
    folder.write("a.yaml", &service("a", 80));
    let state = folder.wait_names(&["Service default/a"]);
    assert_eq!(state.problems, []);
}

#[test]
fn a_folder_that_is_exchanged_never_leaves_nothing() {
    let mut folder = Fixture::new(|root| fs::write(root.join("a.yaml"), service("a", 80)).unwrap());
    for new in 81..86 {
        let next = folder.root.with_file_name("next");
        fs::create_dir(&next).unwrap();
        fs::write(next.join("a.yaml"), service("a", new)).unwrap();
        fs::rename(&folder.root, folder.root.with_file_name(format!("old{new}"))).unwrap();
        folder.wait("the loss is reported", |state| !state.problems.is_empty());
        assert_eq!(folder.names(), ["Service default/a"], "the last good state serves on");
        fs::rename(&next, &folder.root).unwrap();
        folder
            .wait("the new folder", |state| state.problems.is_empty() && port(state, "a") == i32::from(new));
    }
}

#[test]
fn a_single_file_can_be_given() {
    let mut folder = Fixture::with_config(
        |root| {
            fs::write(root.join("a.yaml"), service("a", 80)).unwrap();
            fs::write(root.join("b.yaml"), service("b", 80)).unwrap();
        },
        |config| config.path.push("a.yaml"),
    );
    assert_eq!(folder.names(), ["Service default/a"]);
    folder.write("b.yaml", &service("b", 81));
    folder.write("a.yaml", &service("a", 81));
    let state = folder.wait("port 81", |state| port(state, "a") == 81);
    assert_eq!(names(&state), ["Service default/a"]);
}

#[test]
fn a_folder_given_by_a_link_is_followed_when_the_link_is_pointed_elsewhere() {
    let mut folder = Fixture::with_config(
        |root| {
            for version in [1, 2] {
                fs::create_dir(root.join(format!("v{version}"))).unwrap();
                fs::write(root.join(format!("v{version}/a.yaml")), service("a", 80 + version)).unwrap();
            }
            symlink("v1", root.join("current")).unwrap();
        },
        |config| config.path.push("current"),
    );
    assert_eq!(port(&folder.state(), "a"), 81);
    folder.write("v1/b.yaml", &service("b", 80));
    folder.wait_names(&["Service default/a", "Service default/b"]);
    symlink("v2", folder.root.join("next")).unwrap();
    fs::rename(folder.root.join("next"), folder.root.join("current")).unwrap();
    folder.wait("version 2", |state| names(state).len() == 1 && port(state, "a") == 82);
}

#[test]
fn links_that_go_round_and_files_with_two_names_are_read_once() {
    let folder = Fixture::new(|root| {
        fs::write(root.join("a.yaml"), service("a", 80)).unwrap();
        symlink("a.yaml", root.join("b.yaml")).unwrap();
        symlink(".", root.join("round")).unwrap();
        symlink("self", root.join("self")).unwrap();
    });
    assert_eq!(folder.names(), ["Service default/a"]);
    assert_eq!(folder.state().problems, []);
}

#[test]
fn reading_once_gives_what_the_watcher_gives() {
    let folder = Fixture::new(|root| {
        fs::write(root.join("a.yaml"), service("a", 80)).unwrap();
        fs::write(root.join("b.yaml"), "kind: [").unwrap();
    });
    let once = read_once(&folder.root);
    assert_eq!(*once.objects, *folder.state().objects);
    assert_eq!(once.problems, folder.state().problems);
}

#[test]
fn the_quickstart_folder_has_no_problem() {
    let state = read_once(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/quickstart"));
    assert_eq!(state.problems, []);
    assert_eq!((state.objects.ingresses.len(), state.objects.http_routes.len()), (1, 3));
    let rows = mesh_k8s_ingest::ingest(&state.objects);
    assert_eq!(rows.notes, []);
    assert!(rows.backends.values().all(|backends| backends.ports.values().all(|all| all.len() >= 2)));
}
