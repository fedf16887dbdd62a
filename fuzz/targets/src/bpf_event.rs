//! What the kernel programs hand to user space: records of the events map, keys and values of the others.
//!
//! Holds: an event is decoded or refused, and nothing behind its end is read; any bytes of the right length
//! are a key or a value that can be shown.

use mesh_ebpf_abi::events::{EVENT_VERSION, Event, EventHeader, PacketEvent, decode};
use mesh_ebpf_abi::{
    Addr, BackendValue, ProxyConfig, ReverseKey, ReverseValue, ServiceKey, ServiceValue, SlotKey,
};
use serde::Serialize;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The bytes as an event, and as the key or value of each map.
pub fn run(data: &[u8]) {
    event(data);
    shown::<Addr>(data);
    shown::<ServiceKey>(data);
    shown::<ServiceValue>(data);
    shown::<SlotKey>(data);
    shown::<BackendValue>(data);
    shown::<ReverseKey>(data);
    shown::<ReverseValue>(data);
    shown::<ProxyConfig>(data);
}

fn event(data: &[u8]) {
    match decode(data) {
        Ok(Event::Redirect(event) | Event::Drop(_, event)) => {
            assert_eq!(event.header.version, EVENT_VERSION);
            assert!(usize::from(event.header.length) >= size_of::<PacketEvent>());
            assert_eq!(event.as_bytes(), &data[..size_of::<PacketEvent>()]);
            // What lies behind an event is not the event's.
            let alone = &data[..usize::from(event.header.length).min(data.len())];
            assert_eq!(decode(alone), decode(data));
            assert!(format!("{event:?}").len() < 1024);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok((header, _)) = EventHeader::read_from_prefix(data)
        && data.len() < size_of::<PacketEvent>()
    {
        assert!(decode(data).is_err(), "{} of {} bytes were taken", data.len(), header.length);
    }
}

fn shown<T>(data: &[u8])
where
    T: FromBytes + IntoBytes + KnownLayout + Immutable + Serialize + std::fmt::Debug,
{
    let Ok((entry, _)) = T::read_from_prefix(data) else { return };
    assert_eq!(entry.as_bytes(), &data[..size_of::<T>()], "a field was lost");
    let json = serde_json::to_string(&entry).expect("every entry has a JSON form");
    assert!(json.len() < 1024 && format!("{entry:?}").len() < 1024);
}
