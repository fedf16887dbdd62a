//! Answers that come in pieces are the same answers.

use bytes::BytesMut;

use super::super::chunked::{Chunked, Decoded};
use super::super::head::{Framing, Parser};
use super::*;

#[test]
fn heads_may_be_cut_anywhere() {
    let bytes = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 Fine\r\nX-A: 1\r\ncontent-length: 7\r\nx-a: 2\r\n\r\nbody";
    let head_size = bytes.len() - 4;
    for cut in 1..head_size {
        let mut parser = Parser::default();
        let mut input = BytesMut::from(&bytes[..cut]);
        assert!(parser.parse(&mut input, false, HeaderMap::new).unwrap().is_none(), "cut at {cut}");
        input.extend_from_slice(&bytes[cut..]);
        let head = parser.parse(&mut input, false, HeaderMap::new).unwrap().unwrap();
        assert_eq!((head.status.as_u16(), head.framing), (200, Framing::Length(7)));
        assert_eq!(head.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(&input[..], b"body");
    }
    // Byte by byte.
    let mut parser = Parser::default();
    let mut input = BytesMut::new();
    let mut heads = 0;
    for byte in &bytes[..head_size] {
        input.extend_from_slice(&[*byte]);
        heads += usize::from(parser.parse(&mut input, false, HeaderMap::new).unwrap().is_some());
    }
    assert_eq!((heads, input.len()), (1, 0));
}

#[test]
fn chunks_may_be_cut_anywhere() {
    let bytes =
        b"5;name=\"value\"\r\nhello\r\n00b \r\n, chunked w\r\n4\r\norld\r\n0\r\nx-sum: 42\r\n\r\nbehind";
    for first in 0..bytes.len() {
        for second in [first, (first + 1).min(bytes.len()), (first + 7).min(bytes.len())] {
            let mut chunked = Chunked::new();
            let mut input = BytesMut::new();
            let (mut body, mut trailers) = (Vec::new(), None);
            for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                input.extend_from_slice(piece);
                loop {
                    match chunked.decode(&mut input).unwrap() {
                        Decoded::Data(data) => body.extend_from_slice(&data),
                        Decoded::Trailers(found) => trailers = Some(found),
                        Decoded::End | Decoded::More => break,
                    }
                }
            }
            assert_eq!(body, b"hello, chunked world", "cut at {first} and {second}");
            assert_eq!(trailers.unwrap()["x-sum"], "42");
            assert_eq!(&input[..], b"behind");
        }
    }
}

#[test]
fn the_last_chunk_is_known_as_the_last_if_the_end_is_there() {
    let mut chunked = Chunked::new();
    let mut input = BytesMut::from(&b"2\r\nok\r\n0\r\n\r\n"[..]);
    assert_eq!(chunked.decode(&mut input).unwrap(), Decoded::Data(Bytes::from_static(b"ok")));
    assert!(chunked.ends_here(&mut input) && input.is_empty());
    let mut chunked = Chunked::new();
    let mut input = BytesMut::from(&b"2\r\nok\r\n0\r\n"[..]);
    assert_eq!(chunked.decode(&mut input).unwrap(), Decoded::Data(Bytes::from_static(b"ok")));
    assert!(!chunked.ends_here(&mut input));
    assert_eq!(chunked.decode(&mut input).unwrap(), Decoded::More);
    input.extend_from_slice(b"\r\n");
    assert_eq!(chunked.decode(&mut input).unwrap(), Decoded::End);
}
