use mesh_k8s_api::networking::HTTPIngressPath;
use mesh_model::l7::PathMatch;

use super::path_match;

fn read(path_type: &str, path: &str) -> Result<PathMatch, String> {
    let path = HTTPIngressPath {
        path: Some(path.to_owned()),
        path_type: path_type.to_owned(),
        ..HTTPIngressPath::default()
    };
    path_match(&path).map_err(|error| format!("{} {}", error.field, error.message))
}

#[test]
fn prefixes_lose_their_trailing_slash_and_exact_paths_keep_it() {
    assert_eq!(read("Prefix", "/a/"), Ok(PathMatch::Prefix("/a".to_owned())));
    assert_eq!(read("Prefix", "/"), Ok(PathMatch::Prefix("/".to_owned())));
    assert_eq!(read("Exact", "/a/"), Ok(PathMatch::Exact("/a/".to_owned())));
}

#[test]
fn implementation_specific_paths_are_regular_expressions() {
    assert_eq!(read("ImplementationSpecific", "/v[12]/.*"), Ok(PathMatch::Regex("/v[12]/.*".to_owned())));
    assert_eq!(read("ImplementationSpecific", ""), Ok(PathMatch::default()));
}

#[test]
fn what_cannot_be_matched_names_the_field_and_the_reason() {
    let cases = [
        ("Prefix", "a", ".path \"a\" does not start with '/'"),
        ("Exact", "", ".path \"\" does not start with '/'"),
        ("Prefix", "/a//b", ".path \"/a//b\" contains \"//\""),
        ("Exact", "/a/..", ".path \"/a/..\" ends in \"/..\""),
        (
            "ImplementationSpecific",
            "/a(",
            ".path \"/a(\" is not a regular expression to use (unclosed group)",
        ),
        (
            "ImplementationSpecific",
            "/a)|(b",
            ".path \"/a)|(b\" is not a regular expression to use (unopened group)",
        ),
        ("", "/a", ".pathType is missing"),
        ("Regex", "/a", ".pathType \"Regex\" is not known"),
    ];
    for (path_type, path, expected) in cases {
        let error = read(path_type, path).expect_err(path);
        assert!(error.starts_with(expected), "{error}");
    }
}
