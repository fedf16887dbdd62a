use core::net::Ipv4Addr;

use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::{EVENT_VERSION, Event, EventError, EventHeader, EventKind, PacketEvent, decode};
use crate::{Addr, Be16, Counter, DropReason};

fn drop_event() -> PacketEvent {
    PacketEvent {
        header: EventHeader {
            kind: EventKind::Drop as u8,
            version: EVENT_VERSION,
            length: size_of::<PacketEvent>() as u16,
        },
        ifindex: 7,
        timestamp: 1,
        source: Addr::from(Ipv4Addr::new(10, 0, 0, 1)),
        destination: Addr::from(Ipv4Addr::new(10, 96, 0, 1)),
        source_port: Be16::new(40000),
        destination_port: Be16::new(80),
        protocol: 6,
        reason: DropReason::NoListener as u8,
        counter: Counter::DroppedTcNoListener as u16,
    }
}

#[test]
fn a_drop_is_decoded_with_its_reason() {
    let event = drop_event();
    assert_eq!(decode(event.as_bytes()), Ok(Event::Drop(DropReason::NoListener, event)));
}

#[test]
fn a_short_event_is_an_error_that_says_how_many_bytes_are_needed() {
    let event = drop_event();
    assert_eq!(decode(&event.as_bytes()[..20]), Err(EventError::Truncated { needed: 56, found: 20 }));
    assert_eq!(decode(&[2]), Err(EventError::Truncated { needed: 4, found: 1 }));
}

#[test]
fn a_later_version_is_told_apart_from_a_broken_event() {
    let mut event = drop_event();
    event.header.version = 9;
    assert_eq!(decode(event.as_bytes()), Err(EventError::Unknown { kind: 2, version: 9 }));
}

#[test]
fn reasons_have_one_number_each() {
    for reason in DropReason::ALL {
        assert_eq!(DropReason::from_number(*reason as u8), Some(*reason));
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..80)
    ) {
        let _ = decode(&bytes);
    }
}
