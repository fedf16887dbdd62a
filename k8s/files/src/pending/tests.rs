use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Change, Pending, Timing};

const MS: Duration = Duration::from_millis(1);

fn note(pending: &mut Pending, path: &str, change: Change, at: Instant) {
    pending.file(PathBuf::from(path), change, at, &Timing::default());
}

#[test]
fn a_burst_is_read_once_when_it_is_quiet() {
    let start = Instant::now();
    let mut pending = Pending::default();
    assert_eq!(pending.due(), None);
    for step in 0..3 {
        note(&mut pending, "a.yaml", Change::Settled, start + step * MS);
    }
    assert_eq!(pending.due(), Some(start + 7 * MS));
    let batch = pending.take(start + 7 * MS);
    assert_eq!((batch.named.len(), batch.first), (1, Some(start)));
    assert_eq!(pending.due(), None);
}

#[test]
fn a_burst_without_end_is_read_all_the_same() {
    let start = Instant::now();
    let mut pending = Pending::default();
    for step in 0..40 {
        note(&mut pending, "a.yaml", Change::Settled, start + step * MS);
    }
    assert_eq!(pending.due(), Some(start + 20 * MS));
}

#[test]
fn a_file_being_written_is_left_until_it_is_closed() {
    let start = Instant::now();
    let mut pending = Pending::default();
    note(&mut pending, "a.yaml", Change::Writing, start);
    note(&mut pending, "b.yaml", Change::Settled, start);
    let batch = pending.take(start + 5 * MS);
    assert!(
        batch.unfinished.contains(&PathBuf::from("a.yaml"))
            && !batch.named.contains(&PathBuf::from("a.yaml"))
    );
    note(&mut pending, "a.yaml", Change::Settled, start + 300 * MS);
    assert_eq!(pending.due(), Some(start + 305 * MS));
    assert!(pending.take(start + 305 * MS).unfinished.is_empty());
}

#[test]
fn a_file_that_is_never_closed_is_read_after_a_second() {
    let start = Instant::now();
    let mut pending = Pending::default();
    for step in 0..5 {
        note(&mut pending, "a.yaml", Change::Writing, start + step * 100 * MS);
    }
    assert_eq!(pending.due(), Some(start + 1000 * MS));
    assert!(pending.take(start + 1000 * MS).named.contains(&PathBuf::from("a.yaml")));
}

#[test]
fn a_removal_waits_a_little_for_the_file_to_come_back() {
    let start = Instant::now();
    let mut pending = Pending::default();
    note(&mut pending, "a.yaml", Change::Removed, start);
    assert_eq!(pending.due(), Some(start + 15 * MS));
}
