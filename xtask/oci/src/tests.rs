use std::collections::BTreeMap;
use std::io::Read;

use super::*;

fn entries(archive: impl Read) -> BTreeMap<String, Vec<u8>> {
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("whole");
        entries.insert(path, bytes);
    }
    entries
}

#[test]
fn an_image_names_its_program_and_every_digest_is_that_of_its_blob() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("prog");
    fs::write(&program, b"a static program").expect("written");
    let file = folder.path().join("image.tar");
    let mut image =
        Image::of_programs("millrace.test/prog:7", std::slice::from_ref(&program), vec!["serve".to_owned()])
            .expect("an image");
    image.files.push(Entry::data("/usr/lib/it/data", &program));
    image.write(&file).expect("written");

    let entries_of_file = entries(File::open(&file).expect("there"));
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().expect("a digest");
        let bytes = &entries_of_file[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(super::digest(bytes), digest);
        assert_eq!(descriptor["size"], bytes.len());
        bytes.clone()
    };
    let index: Value = serde_json::from_slice(&entries_of_file["index.json"]).expect("JSON");
    let first = &index["manifests"][0];
    assert_eq!(first["annotations"]["io.containerd.image.name"], "millrace.test/prog:7");
    let manifest: Value = serde_json::from_slice(&blob(first)).expect("JSON");
    let config: Value = serde_json::from_slice(&blob(&manifest["config"])).expect("JSON");
    assert_eq!(config["config"]["Entrypoint"][0], "/prog");
    assert_eq!(config["config"]["Cmd"][0], "serve");
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    let layer = entries(&blob(&manifest["layers"][0])[..]);
    let paths: Vec<&str> = layer.keys().map(String::as_str).collect();
    assert_eq!(paths, ["prog", "tmp/", "usr/", "usr/lib/", "usr/lib/it/", "usr/lib/it/data"]);
    assert_eq!(layer["prog"], b"a static program");
}

#[test]
fn a_tree_becomes_the_root_with_its_links_and_modes() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("usr/bin")).expect("room");
    fs::create_dir_all(root.join("var/empty")).expect("room");
    fs::write(root.join("usr/bin/tool"), "tool").expect("room");
    fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o4755)).expect("a mode");
    std::os::unix::fs::symlink("usr/bin", root.join("bin")).expect("a link");
    let files = Entry::tree(&root).expect("a tree");
    let paths: Vec<&str> = files.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["bin", "usr", "usr/bin", "usr/bin/tool", "var", "var/empty"]);
    assert_eq!(files[0].content, Content::Link("usr/bin".into()));
    assert_eq!(files[3].mode, 0o4755);
    let image = Image {
        reference: "millrace.test/tree:1".to_owned(),
        files,
        entrypoint: vec!["/bin/tool".to_owned()],
        arguments: Vec::new(),
        path: "/bin".to_owned(),
    };
    let layer = image.layer().expect("a layer");
    let kinds: Vec<(String, tar::EntryType)> = tar::Archive::new(&layer[..])
        .entries()
        .expect("a tar")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| (entry.path().expect("a path").display().to_string(), entry.header().entry_type()))
        .collect();
    assert!(kinds.contains(&("bin".to_owned(), tar::EntryType::Symlink)), "{kinds:?}");
    assert!(kinds.contains(&("var/empty/".to_owned(), tar::EntryType::Directory)), "{kinds:?}");
}
