//! How long it takes from an edit to a published state.

use std::fs;
use std::time::{Duration, Instant};

use mesh_k8s_files::read_once;

use crate::fixture::{Fixture, port, service};

#[test]
fn an_edit_is_published_within_50_ms_at_the_99th_percentile() {
    let mut folder = Fixture::new(|root| {
        for index in 0..20 {
            fs::write(root.join(format!("{index:02}.yaml")), service(&format!("s{index}"), 80)).unwrap();
        }
    });
    let mut times = Vec::new();
    for edit in 0..100_u16 {
        let name = format!("s{}", edit % 20);
        folder.write(&format!("{:02}.yaml", edit % 20), &service(&name, 1000 + edit));
        let written = Instant::now();
        let state = folder.wait("the edit", |state| port(state, &name) == i32::from(1000 + edit));
        times.push(written.elapsed());
        assert!(state.read_at.elapsed() < Duration::from_secs(10));
    }
    times.sort();
    let (median, p99) = (times[times.len() / 2], times[(times.len() - 1) * 99 / 100]);
    eprintln!("edit to published state: median {median:?}, p99 {p99:?}");
    assert!(p99 <= Duration::from_millis(50), "{times:?}");
}

#[test]
fn five_thousand_objects_load_and_follow_edits() {
    let mut folder = Fixture::new(|root| {
        for file in 0..100 {
            let text: Vec<_> = (0..50).map(|index| service(&format!("s{file}-{index}"), 80)).collect();
            fs::write(root.join(format!("{file:03}.yaml")), text.join("---\n")).unwrap();
        }
    });
    let start = Instant::now();
    assert_eq!(read_once(&folder.root).objects.len(), 5000);
    let load = start.elapsed();
    folder.write("new.yaml", &service("new", 80));
    let written = Instant::now();
    folder.wait("the new object", |state| state.objects.len() == 5001);
    eprintln!("5,000 objects: load {load:?}, one more {:?}", written.elapsed());
    assert!(load < Duration::from_secs(30), "{load:?}");
}
