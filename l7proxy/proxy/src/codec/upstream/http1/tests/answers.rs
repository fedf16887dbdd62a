//! What endpoints answer.

use super::*;

/// What became of one answer.
#[derive(Debug, PartialEq)]
enum Outcome {
    Malformed,
    /// No answer came.
    Closed,
    /// Status, body, whether another request may follow.
    Whole(u16, &'static str, bool),
    /// Status, and the body broke off.
    Broken(u16),
}

/// One answer to one request, after which the endpoint closes the connection or leaves it open.
async fn outcome(method: &Method, bytes: &str, closes: bool) -> Outcome {
    let (mut sender, mut endpoint) = connected().await;
    let script = async {
        answer(&mut endpoint, bytes.as_bytes()).await;
        if closes {
            endpoint.shutdown().await.unwrap();
        }
    };
    let mut headers = HeaderMap::new();
    let (response, ()) = tokio::join!(send(&mut sender, method.clone(), &mut headers, no_body()), script);
    let response = match response {
        Ok(response) => response,
        Err(SendError::Malformed) => return Outcome::Malformed,
        Err(_) => return Outcome::Closed,
    };
    let status = response.status().as_u16();
    match collect(response.into_body()).await {
        Ok((body, _)) => {
            let body = String::from_utf8(body.to_vec()).unwrap().leak();
            Outcome::Whole(status, body, sender.is_ready())
        }
        Err(_) => {
            assert!(sender.is_closed() && !sender.is_ready());
            Outcome::Broken(status)
        }
    }
}

#[test]
fn the_head_says_where_the_body_ends() {
    run(async {
        for (bytes, closes, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", false, Outcome::Whole(200, "hello", true)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false, Outcome::Whole(200, "", true)),
            ("HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", false, Outcome::Whole(200, "ok", true)),
            ("HTTP/1.1 204 No Content\r\n\r\n", false, Outcome::Whole(204, "", true)),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", false, Outcome::Whole(304, "", true)),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
                false,
                Outcome::Whole(200, "abcde", true),
            ),
            ("HTTP/1.1 200 OK\r\n\r\nto the end", true, Outcome::Whole(200, "to the end", false)),
            ("HTTP/1.0 200 OK\r\n\r\nold", true, Outcome::Whole(200, "old", false)),
            ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nold", false, Outcome::Whole(200, "old", false)),
            (
                "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 2\r\n\r\nok",
                false,
                Outcome::Whole(200, "ok", false),
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
                 HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                false,
                Outcome::Whole(200, "ok", true),
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", true, Outcome::Broken(200)),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab", true, Outcome::Broken(200)),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", true, Outcome::Broken(200)),
            ("HTTP/1.1 200 OK\r\ncontent-le", true, Outcome::Closed),
            ("", true, Outcome::Closed),
        ] {
            assert_eq!(outcome(&Method::GET, bytes, closes).await, expected, "{bytes}");
        }
    });
}

#[test]
fn an_answer_to_head_has_no_body_whatever_it_says() {
    run(async {
        for framing in ["content-length: 5", "transfer-encoding: chunked", "x: y"] {
            let bytes = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
            assert_eq!(
                outcome(&Method::HEAD, &bytes, false).await,
                Outcome::Whole(200, "", true),
                "{framing}"
            );
        }
    });
}

#[test]
fn what_others_may_read_otherwise_is_refused() {
    run(async {
        let long = "a".repeat(70 * 1024);
        let fields = "x: y\r\n".repeat(101);
        let informational = "HTTP/1.1 103 Early Hints\r\nlink: y\r\n\r\n".repeat(2000);
        for head in [
            "content-length: 5\r\ncontent-length: 5",
            "content-length: 5\r\ncontent-length: 6",
            "content-length: 5, 5",
            "content-length: +5",
            "content-length: -5",
            "content-length: 5 5",
            "content-length: 0x5",
            "content-length:",
            "content-length: 99999999999999999999",
            "content-length: 18446744073709551615",
            "content-length: 5\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked\r\ncontent-length: 5",
            "transfer-encoding: gzip",
            "transfer-encoding: gzip, chunked",
            "transfer-encoding: chunked, gzip",
            "transfer-encoding: chunked, chunked",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
            "transfer-encoding: identity",
            "transfer-encoding:",
            "transfer-encoding: \u{b}chunked",
            "x: a\r\n folded",
            "x : a",
            " x: a",
            ": a",
            "x",
            "x: a\0b",
            "x: a\rb",
            &format!("x: {long}"),
            &fields,
        ] {
            let bytes = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\nhello");
            let shown = &head[..head.len().min(100)];
            assert_eq!(outcome(&Method::GET, &bytes, false).await, Outcome::Malformed, "{shown}");
        }
        for bytes in [
            "SSH-2.0-nothing for you\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 099 What\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            &informational,
        ] {
            let shown = &bytes[..bytes.len().min(100)];
            assert_eq!(outcome(&Method::GET, bytes, false).await, Outcome::Malformed, "{shown}");
        }
    });
}

#[test]
fn chunks_that_are_none_break_the_answer() {
    run(async {
        let extension = "a".repeat(17 * 1024);
        let trailers = format!("x: {}", "a".repeat(70 * 1024));
        for body in [
            "\r\nabc\r\n0\r\n\r\n",
            "x\r\nabc\r\n0\r\n\r\n",
            "-3\r\nabc\r\n0\r\n\r\n",
            "+3\r\nabc\r\n0\r\n\r\n",
            " 3\r\nabc\r\n0\r\n\r\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            ";a\r\n\r\n",
            "3\nabc\r\n0\r\n\r\n",
            "3;a\nb\r\nabc\r\n0\r\n\r\n",
            "3 3\r\nabc\r\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nabc0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "ffffffffffffffff1\r\nabc\r\n0\r\n\r\n",
            "0\r\nx: a\nb: c\r\n\r\n",
            "0\r\nx: a\rb\r\n\r\n",
            "0\r\nx: a\r\n folded\r\n\r\n",
            "0\r\nx : a\r\n\r\n",
            "0\r\nx\r\n\r\n",
            &format!("3;{extension}\r\nabc\r\n0\r\n\r\n"),
            &format!("0\r\n{trailers}\r\n\r\n"),
            &format!("0\r\n{}\r\n", "x: y\r\n".repeat(101)),
        ] {
            let bytes = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
            let shown = &body[..body.len().min(100)];
            assert_eq!(outcome(&Method::GET, &bytes, true).await, Outcome::Broken(200), "{shown}");
        }
    });
}

#[test]
fn trailers_come_with_the_body() {
    run(async {
        let (mut sender, mut endpoint) = connected().await;
        let bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 42\r\nx-sum: 43\r\n\r\n";
        let (response, ()) = tokio::join!(get(&mut sender), answer(&mut endpoint, bytes));
        let (body, trailers) = collect(response.ok().unwrap().into_body()).await.unwrap();
        let trailers = trailers.unwrap();
        let sums: Vec<_> = trailers.get_all("x-sum").iter().collect();
        assert_eq!(&body[..], b"ok");
        assert_eq!(sums, ["42", "43"]);
        assert!(sender.is_ready());
    });
}

#[test]
fn an_answer_without_a_body_leaves_the_connection_to_the_next() {
    run(async {
        let (mut sender, mut endpoint) = connected().await;
        let bytes = b"HTTP/1.1 204 No Content\r\n\r\n";
        let (first, ()) = tokio::join!(get(&mut sender), answer(&mut endpoint, bytes));
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond";
        let (second, ()) = tokio::join!(get(&mut sender), answer(&mut endpoint, bytes));
        assert_eq!(collect(first.ok().unwrap().into_body()).await.unwrap().0, "");
        assert_eq!(collect(second.ok().unwrap().into_body()).await.unwrap().0, "second");
        assert!(sender.is_ready());
    });
}

#[test]
fn a_connection_serves_many_requests() {
    run(async {
        let (mut sender, mut endpoint) = connected().await;
        for round in 0..1000 {
            let text = format!("answer {round}");
            let bytes = format!(
                "HTTP/1.1 200 OK\r\nx-round: {round}\r\ncontent-length: {}\r\n\r\n{text}",
                text.len()
            );
            let (response, ()) = tokio::join!(get(&mut sender), answer(&mut endpoint, bytes.as_bytes()));
            let response = response.ok().unwrap();
            assert_eq!(response.headers()["x-round"], round.to_string());
            assert_eq!(collect(response.into_body()).await.unwrap().0, text);
            assert!(sender.is_ready());
        }
    });
}

#[test]
fn bytes_that_nobody_asked_for_end_a_connection() {
    run(async {
        let behind = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(outcome(&Method::GET, behind, false).await, Outcome::Whole(200, "ok", false));
        let behind = "HTTP/1.1 204 No Content\r\ncontent-length: 1\r\n\r\na";
        assert_eq!(outcome(&Method::GET, behind, false).await, Outcome::Whole(204, "", false));
        for (what, bytes, ends) in
            [("bytes", &b"HTTP/1.1 408 Late\r\n\r\n"[..], false), ("the end", b"", true)]
        {
            let (sender, mut endpoint) = connected().await;
            assert!(sender.is_ready(), "{what}");
            endpoint.write_all(bytes).await.unwrap();
            if ends {
                endpoint.shutdown().await.unwrap();
            }
            until(what, || !sender.is_ready()).await;
            assert!(sender.is_closed(), "{what}");
            assert_eq!(endpoint.read(&mut [0]).await.unwrap_or_default(), 0, "{what}");
        }
    });
}

#[test]
fn an_answer_that_nobody_wants_any_more_closes_the_connection() {
    run(async {
        // Before its head.
        let (mut sender, mut endpoint) = connected().await;
        tokio::select! {
            _ = get(&mut sender) => panic!("nobody answered"),
            _ = read_until(&mut endpoint, "\r\n\r\n") => {}
        }
        drop(sender);
        assert_eq!(endpoint.read(&mut [0]).await.unwrap(), 0);
        // Within its body.
        let (mut sender, mut endpoint) = connected().await;
        let part = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart";
        let (response, ()) = tokio::join!(get(&mut sender), answer(&mut endpoint, part));
        assert!(!sender.is_ready());
        drop((response, sender));
        assert_eq!(endpoint.read(&mut [0]).await.unwrap_or_default(), 0);
    });
}

#[test]
fn bytes_behind_101_are_handed_on() {
    run(async {
        let (mut sender, mut endpoint) = connected().await;
        let bytes =
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nfirst";
        let (response, ()) = tokio::join!(get(&mut sender), answer(&mut endpoint, bytes));
        let mut response = response.ok().unwrap();
        let promise = crate::codec::Promise::of_response(&mut response);
        let mut tunnel = promise.kept().await.unwrap();
        assert!(!sender.is_ready());
        let mut seen = [0; 5];
        tunnel.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"first");
        tunnel.write_all(b"second").await.unwrap();
        assert_eq!(read_until(&mut endpoint, "second").await, "second");
        drop(sender);
        endpoint.write_all(b"third").await.unwrap();
        tunnel.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"third");
    });
}

#[test]
fn an_upgrade_that_did_not_come_is_an_error() {
    run(async {
        let (mut sender, mut endpoint) = connected().await;
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let (response, ()) = tokio::join!(get(&mut sender), answer(&mut endpoint, bytes));
        let promise = crate::codec::Promise::of_response(&mut response.ok().unwrap());
        assert!(promise.kept().await.is_err());
    });
}
