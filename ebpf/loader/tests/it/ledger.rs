//! How many instructions the verifier looks at for each program, kept in `ebpf/tests/verifier.txt`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::harness::on_node;

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_programs_cost_the_verifier_what_the_ledger_says() {
    on_node("kernel_programs_cost_the_verifier_what_the_ledger_says", |node| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/verifier.txt");
        let counts: BTreeMap<_, _> = node.load().verified_instructions().iter().copied().collect();
        assert!(counts.values().all(|count| *count > 0), "the kernel counts: {counts:?}");
        if std::env::var_os("BLESS").is_some() {
            let mut text = String::from(
                "# Instructions the verifier looks at, by program. The test lets a count grow by a tenth.\n\
                 # Written by BLESS=1; compilers and kernels differ a little.\n",
            );
            for (name, count) in &counts {
                writeln!(text, "{name} {count}").unwrap();
            }
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            return;
        }
        let ledger = std::fs::read_to_string(&path).unwrap();
        let ledger: BTreeMap<&str, u32> = ledger
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once(' ').unwrap())
            .map(|(name, count)| (name, count.parse().unwrap()))
            .collect();
        let programs: Vec<_> = counts.keys().collect();
        assert_eq!(ledger.keys().collect::<Vec<_>>(), programs, "BLESS=1 writes the ledger anew");
        for (name, count) in counts {
            let most = ledger[name] + ledger[name] / 10;
            assert!(count <= most, "{name}: {count} instructions, {most} at most; BLESS=1 if that is right");
        }
    });
}
