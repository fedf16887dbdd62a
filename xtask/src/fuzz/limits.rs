//! Which targets there are, and what each may use.

/// One target and its limits: more is a finding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Executable, folder of the corpus.
    pub(super) name: &'static str,
    /// Bytes of the longest input.
    pub(super) longest: u32,
    /// Seconds for one input, on a machine with other work.
    pub(super) seconds: u32,
    /// Memory of the process.
    pub(super) megabytes: u32,
    /// Words of the format, under `fuzz/dictionaries`.
    pub(super) dictionary: Option<&'static str>,
    /// Whether inputs are weighed by how rare that is which they reach (libFuzzer's entropic schedule). Where
    /// one input reaches a hundred thousand features that takes longer than to run it.
    pub(super) weighs: bool,
}

const fn small(name: &'static str, longest: u32) -> Limits {
    Limits { name, longest, seconds: 20, megabytes: 512, dictionary: None, weighs: true }
}

/// Every target.
pub(super) const TARGETS: &[Limits] = &[
    small("bpf_event", 128),
    small("bpf_maps", 256),
    Limits { megabytes: 1024, ..small("client_hello", 4096) },
    small("direct_flow", 256),
    Limits { dictionary: Some("envoy_json.dict"), ..small("envoy_json", 8192) },
    Limits { dictionary: Some("http1.dict"), megabytes: 1024, ..small("http1", 4096) },
    Limits { dictionary: Some("http1.dict"), ..small("http1_response", 2048) },
    Limits { megabytes: 1024, ..small("http2", 4096) },
    small("packet", 256),
    Limits { megabytes: 1024, weighs: false, ..small("pipeline", 256) },
    Limits { megabytes: 1024, dictionary: Some("proxy_header.dict"), ..small("proxy_header", 1024) },
    Limits { megabytes: 1024, ..small("xds_messages", 4096) },
    Limits { dictionary: Some("kubernetes.dict"), ..small("yaml_to_model", 8192) },
];

#[cfg(test)]
mod tests {
    use super::TARGETS;
    use crate::process;

    #[test]
    fn every_executable_has_limits_and_a_corpus() {
        let names = |folder: &str| {
            let entries =
                std::fs::read_dir(process::root().join("fuzz").join(folder)).expect("the folder is there");
            let paths = entries.map(|entry| entry.expect("an entry").path());
            let mut names: Vec<String> =
                paths.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
            names.sort();
            names
        };
        let listed: Vec<&str> = TARGETS.iter().map(|limits| limits.name).collect();
        assert_eq!(names("bin"), listed);
        assert_eq!(names("corpus"), listed);
    }

    #[test]
    fn every_dictionary_is_used_and_there() {
        for name in TARGETS.iter().filter_map(|limits| limits.dictionary) {
            assert!(process::root().join("fuzz/dictionaries").join(name).is_file(), "{name}");
        }
    }
}
