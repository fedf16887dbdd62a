//! Hand-made packets.

use std::net::IpAddr;

use crate::harness::{CLIENT4, CLIENT6};

const SYN: u8 = 2;

/// A TCP packet as bytes, with an IPv4 header of options or IPv6 extension headers before TCP.
pub(crate) struct Packet {
    source: IpAddr,
    destination: IpAddr,
    source_port: u16,
    port: u16,
    flags: u8,
    options: Vec<u8>,
}

impl Packet {
    pub(crate) fn to(destination: IpAddr, port: u16) -> Self {
        let source = if destination.is_ipv4() { CLIENT4 } else { CLIENT6 };
        Self { source, destination, source_port: 40000, port, flags: SYN, options: Vec::new() }
    }

    pub(crate) fn with_source_port(mut self, port: u16) -> Self {
        self.source_port = port;
        self
    }

    pub(crate) fn with_flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    /// What the other side sends.
    pub(crate) fn reversed(self) -> Self {
        let (source, destination) = (self.destination, self.source);
        Self { source, destination, source_port: self.port, port: self.source_port, ..self }
    }

    pub(crate) fn with_options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    pub(crate) fn ip(&self) -> Vec<u8> {
        let mut packet = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = 20 + self.options.len();
                let mut bytes = vec![0; 20];
                bytes[0] = 0x40 | (header / 4) as u8;
                bytes[2..4].copy_from_slice(&((header + 20) as u16).to_be_bytes());
                bytes[8] = 64;
                bytes[9] = 6;
                bytes[12..16].copy_from_slice(&source.octets());
                bytes[16..20].copy_from_slice(&destination.octets());
                bytes
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut bytes = vec![0; 8];
                bytes[0] = 0x60;
                bytes[4..6].copy_from_slice(&((self.options.len() + 20) as u16).to_be_bytes());
                // Extension headers here are destination options, and the last names TCP itself.
                bytes[6] = if self.options.is_empty() { 6 } else { 60 };
                bytes[7] = 64;
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes
            }
            _ => unreachable!("both ends are of one family"),
        };
        packet.extend(&self.options);
        packet.extend(self.source_port.to_be_bytes());
        packet.extend(self.port.to_be_bytes());
        packet.extend([0; 8]);
        packet.extend([5 << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet
    }

    pub(crate) fn ethernet(&self) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend(if self.source.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
        frame.extend(self.ip());
        frame
    }
}
