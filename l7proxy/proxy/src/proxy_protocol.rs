//! Who the client is, as a load balancer in front says before the first byte of the connection.
//!
//! The PROXY protocol, versions 1 and 2 (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>). Whoever
//! can connect to such a listener is believed.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use mesh_l7proxy_config::listener::ProxyProtocol;
use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Client and its destination.
pub(crate) type Ends = (SocketAddr, SocketAddr);

/// The longest header of version 1, its line end included (section 2.1).
const LONGEST_V1: usize = 107;

/// Of version 2, extensions included; the specification allows 64 KiB and expects 536 bytes.
const LONGEST_V2: usize = 4096;

/// What every header of version 1 begins with.
const START_V1: &[u8] = b"PROXY ";

/// What every header of version 2 begins with.
const START_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads the header. Gives what it says (nothing, where the balancer speaks for itself or of no TCP), and the
/// bytes behind it that were read with it.
///
/// # Errors
/// The header is bad, too long, of a version that is not taken, or missing where one is needed.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    rules: ProxyProtocol,
) -> io::Result<(Option<Ends>, Bytes)> {
    let mut bytes = BytesMut::with_capacity(LONGEST_V2);
    loop {
        match parse(&bytes, rules) {
            Parsed::Incomplete if bytes.len() < LONGEST_V2 => {}
            Parsed::Incomplete | Parsed::Bad => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "no good PROXY protocol header"));
            }
            Parsed::Absent => return Ok((None, bytes.freeze())),
            Parsed::Header(ends, size) => {
                bytes.advance(size);
                return Ok((ends, bytes.freeze()));
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// More bytes are needed.
    Incomplete,
    Bad,
    /// The connection begins without a header, and may.
    Absent,
    /// What it says, and how many bytes it has.
    Header(Option<Ends>, usize),
}

fn parse(bytes: &[u8], rules: ProxyProtocol) -> Parsed {
    let could_be = |start: &[u8], taken: bool| taken && bytes.iter().zip(start).all(|(a, b)| a == b);
    let (v1, v2) = (could_be(START_V1, rules.v1), could_be(START_V2, rules.v2));
    // The whole header first: the parser takes the start of one for a bad one here and there.
    let whole = match (v1, v2) {
        (false, false) if rules.optional => return Parsed::Absent,
        (false, false) => return Parsed::Bad,
        (true, _) => match bytes.iter().take(LONGEST_V1).position(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if bytes.len() < LONGEST_V1 => return Parsed::Incomplete,
            None => return Parsed::Bad,
        },
        (false, true) => match bytes.get(14..16) {
            Some(length) => 16 + usize::from(u16::from_be_bytes([length[0], length[1]])),
            None => return Parsed::Incomplete,
        },
    };
    if whole > LONGEST_V2 {
        return Parsed::Bad;
    }
    let Some(header) = bytes.get(..whole) else { return Parsed::Incomplete };
    let config = ParseConfig { include_tlvs: false, allow_v1: rules.v1, allow_v2: rules.v2 };
    match ProxyHeader::parse(header, config) {
        Ok((said, size)) if size == whole => {
            let of_tcp = said.proxied_address().filter(|said| said.protocol == Protocol::Stream);
            Parsed::Header(of_tcp.map(|said| (canonical(said.source), canonical(said.destination))), whole)
        }
        Ok(_) | Err(_) => Parsed::Bad,
    }
}

/// IPv4 in IPv6 as the IPv4 that it is, as for the ends of sockets.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::{Parsed, parse};
    use mesh_l7proxy_config::listener::ProxyProtocol;

    const ANY: ProxyProtocol = ProxyProtocol { v1: true, v2: true, optional: false };

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(rest.len()).expect("short").to_be_bytes());
        header.extend(rest);
        header
    }

    fn ends(bytes: &[u8]) -> Option<(String, String)> {
        match parse(bytes, ANY) {
            Parsed::Header(Some((peer, local)), _) => Some((peer.to_string(), local.to_string())),
            _ => None,
        }
    }

    #[test]
    fn both_versions_say_who_the_client_is() {
        let expected = Some(("192.0.2.1:4000".to_owned(), "203.0.113.1:443".to_owned()));
        assert_eq!(ends(b"PROXY TCP4 192.0.2.1 203.0.113.1 4000 443\r\nGET /"), expected);
        assert_eq!(ends(b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:203.0.113.1 4000 443\r\n"), expected);
        let addresses = [192, 0, 2, 1, 203, 0, 113, 1, 0x0f, 0xa0, 0x01, 0xbb];
        assert_eq!(ends(&v2(0x21, 0x11, &addresses)), expected);
        // An extension behind the addresses.
        assert_eq!(ends(&v2(0x21, 0x11, &[&addresses[..], &[4, 0, 1, 9]].concat())), expected);
    }

    #[test]
    fn a_balancer_that_speaks_for_itself_says_nothing() {
        for header in
            [b"PROXY UNKNOWN\r\n".to_vec(), v2(0x20, 0, &[]), v2(0x21, 0, &[]), v2(0x21, 0x12, &[1; 12])]
        {
            assert_eq!(parse(&header, ANY), Parsed::Header(None, header.len()), "{header:?}");
        }
    }

    #[test]
    fn a_header_in_pieces_waits_for_the_rest() {
        let headers = [b"PROXY TCP4 192.0.2.1 203.0.113.1 4000 443\r\n".to_vec(), v2(0x21, 0x11, &[1; 12])];
        for header in headers {
            for end in 0..header.len() {
                assert_eq!(parse(&header[..end], ANY), Parsed::Incomplete, "{end} of {header:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_unless_it_may_be_missing() {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'a'; 120], b"\r\n"].concat();
        for bad in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 203.0.113.1 4000 99999\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 4000\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 203.0.113.1 4000 443\n".to_vec(),
            b"PROXYxTCP4 192.0.2.1 203.0.113.1 4000 443\r\n".to_vec(),
            long,
            v2(0x11, 0x11, &[1; 12]),
            v2(0x21, 0x11, &[1; 11]),
            v2(0x21, 0x21, &[1; 12]),
            v2(0x21, 0x11, &[0; 5000]),
        ] {
            assert_eq!(parse(&bad, ANY), Parsed::Bad, "{:?}", String::from_utf8_lossy(&bad));
        }
        let optional = ProxyProtocol { optional: true, ..ANY };
        assert_eq!(parse(b"GET / HTTP/1.1\r\n", optional), Parsed::Absent);
        assert_eq!(parse(b"PROXY TCP4 x\r\n", optional), Parsed::Bad);
        let only_v2 = ProxyProtocol { v1: false, ..ANY };
        assert_eq!(parse(b"PROXY UNKNOWN\r\n", only_v2), Parsed::Bad);
    }
}
