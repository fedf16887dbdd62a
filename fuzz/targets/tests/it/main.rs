//! The kept corpora as ordinary tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_fuzz_targets::TARGETS;

/// Kept inputs of a target, sorted.
fn corpus(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

#[test]
fn every_kept_input_holds() {
    // A runtime catches the panics of its tasks; under a fuzzer they end the process, here they are counted.
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        shown(panic);
    }));
    for (name, run) in TARGETS {
        for file in corpus(name) {
            // Captured, and shown with a failure.
            println!("input: {}", file.display());
            run(&fs::read(&file).expect("the file can be read"));
            assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{}: a task panicked", file.display());
        }
    }
}

#[test]
fn corpora_stay_small() {
    let files = TARGETS.iter().flat_map(|(name, _)| corpus(name));
    let bytes: u64 = files.map(|file| fs::metadata(&file).expect("the file is there").len()).sum();
    assert!(bytes <= 1 << 20, "{bytes} bytes of kept inputs are more than a mebibyte");
}
