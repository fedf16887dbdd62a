use std::io::ErrorKind;
use std::os::fd::AsFd;

use super::{Channel, MAX_DESCRIPTORS, MAX_MESSAGE};

fn ends() -> (Channel, Channel) {
    let (one, other) = Channel::pair().unwrap();
    (Channel::new(one), Channel::new(other))
}

#[test]
fn message_and_descriptors_arrive_together() {
    let (one, mut other) = ends();
    let file = tempfile::tempfile().unwrap();
    one.send(&"hello", &[file.as_fd(), file.as_fd()]).unwrap();
    let received = other.receive::<String>().unwrap().unwrap();
    assert_eq!(received.message, "hello");
    assert_eq!(received.descriptors.len(), 2);
    for descriptor in &received.descriptors {
        assert!(rustix::io::fcntl_getfd(descriptor).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
}

#[test]
fn the_most_descriptors_that_are_allowed_arrive() {
    let (one, mut other) = ends();
    let file = tempfile::tempfile().unwrap();
    let many = vec![file.as_fd(); MAX_DESCRIPTORS];
    one.send(&1, &many).unwrap();
    assert_eq!(other.receive::<u8>().unwrap().unwrap().descriptors.len(), MAX_DESCRIPTORS);
    let too_many = vec![file.as_fd(); MAX_DESCRIPTORS + 1];
    assert_eq!(one.send(&1, &too_many).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn closed_end_reads_as_none() {
    let (one, mut other) = ends();
    drop(one);
    assert!(other.receive::<String>().unwrap().is_none());
}

#[test]
fn message_over_the_bound_is_refused_by_both_sides() {
    let (one, mut other) = ends();
    let long = "x".repeat(MAX_MESSAGE);
    assert_eq!(one.send(&long, &[]).unwrap_err().kind(), ErrorKind::InvalidInput);
    rustix::net::send(&one, long.as_bytes(), rustix::net::SendFlags::empty()).unwrap();
    assert_eq!(other.receive::<String>().unwrap_err().kind(), ErrorKind::InvalidData);
    let longer = "x".repeat(MAX_MESSAGE + 1);
    rustix::net::send(&one, longer.as_bytes(), rustix::net::SendFlags::empty()).unwrap();
    assert_eq!(other.receive::<String>().unwrap_err().kind(), ErrorKind::InvalidData);
}

#[test]
fn garbage_is_an_error_and_the_channel_goes_on() {
    let (one, mut other) = ends();
    rustix::net::send(&one, b"{\"id\":", rustix::net::SendFlags::empty()).unwrap();
    assert_eq!(other.receive::<String>().unwrap_err().kind(), ErrorKind::InvalidData);
    one.send(&"good", &[]).unwrap();
    assert_eq!(other.receive::<String>().unwrap().unwrap().message, "good");
}

#[test]
fn descriptors_that_find_no_room_are_missing_and_the_message_arrives() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let (one, mut other) = ends();
    let file = tempfile::tempfile().unwrap();
    one.send(&"first", &[file.as_fd()]).unwrap();
    one.send(&"second", &[file.as_fd()]).unwrap();
    // Tests run in a process of their own; where they do not, others may fail to open a file for a moment.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: limit.maximum }).unwrap();
    let first = other.receive::<String>();
    setrlimit(Resource::Nofile, limit).unwrap();
    let first = first.unwrap().unwrap();
    assert_eq!((first.message.as_str(), first.descriptors.len()), ("first", 0));
    let second = other.receive::<String>().unwrap().unwrap();
    assert_eq!((second.message.as_str(), second.descriptors.len()), ("second", 1));
}
