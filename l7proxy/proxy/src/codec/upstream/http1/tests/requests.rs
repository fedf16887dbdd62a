//! What endpoints are sent.

use super::*;

const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

#[test]
fn framing_is_ours_to_say() {
    run(async {
        let (mut sender, mut endpoint) = connected().await;
        for (fields, expected) in [
            (&[("x-a", "1")][..], "x-a: 1\r\n"),
            (&[("host", "b.test"), ("transfer-encoding", "chunked")][..], ""),
            (&[("content-length", "7"), ("x-a", "1")][..], "x-a: 1\r\ncontent-length: 0\r\n"),
        ] {
            let mut headers = headers(fields);
            let script = async {
                let seen = read_until(&mut endpoint, "\r\n\r\n").await;
                assert_eq!(seen, format!("GET /path?query HTTP/1.1\r\nhost: a.test\r\n{expected}\r\n"));
                endpoint.write_all(EMPTY).await.unwrap();
            };
            let (response, ()) =
                tokio::join!(send(&mut sender, Method::GET, &mut headers, no_body()), script);
            assert!(response.is_ok() && sender.is_ready());
        }
    });
}

#[test]
fn headers_stay_until_there_is_an_answer() {
    run(async {
        let (mut sender, mut endpoint) = connected().await;
        let mut kept = headers(&[("x-a", "1")]);
        let script = async {
            read_until(&mut endpoint, "\r\n\r\n").await;
            drop(endpoint);
        };
        let (response, ()) = tokio::join!(send(&mut sender, Method::GET, &mut kept, no_body()), script);
        assert!(matches!(response, Err(SendError::Closed)));
        assert_eq!(kept, headers(&[("x-a", "1")]));
    });
}

#[test]
fn bodies_go_out_with_a_length_or_in_chunks() {
    run(async {
        for (source, framing, expected) in [
            ("content-length: 5\r\n\r\nhello", "content-length: 5", "hello"),
            (
                "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
                "transfer-encoding: chunked",
                "5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
            ),
            (
                "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 42\r\nx-other: 1\r\n\r\n",
                "transfer-encoding: chunked",
                "2\r\nok\r\n0\r\nx-sum: 42\r\n\r\n",
            ),
        ] {
            let bytes = format!("HTTP/1.1 200 OK\r\n{source}");
            let (body, _sender, _endpoint) = body_of(bytes.as_bytes()).await;
            let (mut sender, mut endpoint) = connected().await;
            let script = async {
                let head = read_until(&mut endpoint, "\r\n\r\n").await;
                assert!(head.contains(&format!("\r\n{framing}\r\n")), "{head}");
                assert_eq!(read_until(&mut endpoint, expected).await, expected);
                endpoint.write_all(EMPTY).await.unwrap();
            };
            // A body of a request that hardly ever has one is sent as well.
            let mut headers = headers(&[("trailer", "X-Sum, x-more")]);
            let (response, ()) = tokio::join!(send(&mut sender, Method::GET, &mut headers, body), script);
            assert!(response.is_ok() && sender.is_ready(), "{source}");
        }
    });
}

#[test]
fn a_body_that_breaks_off_is_never_completed() {
    run(async {
        for source in ["content-length: 9\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
            let bytes = format!("HTTP/1.1 200 OK\r\n{source}");
            let (body, _sender, mut client) = body_of(bytes.as_bytes()).await;
            let (mut sender, mut endpoint) = connected().await;
            let script = async {
                read_until(&mut endpoint, "hello").await;
                client.shutdown().await.unwrap();
                let mut rest = Vec::new();
                let _ = endpoint.read_to_end(&mut rest).await;
                assert!(rest.is_empty() || rest == b"\r\n", "{rest:?}");
            };
            let mut headers = HeaderMap::new();
            let (response, ()) = tokio::join!(send(&mut sender, Method::POST, &mut headers, body), script);
            assert!(matches!(response, Err(SendError::Closed)), "{source}");
            assert!(sender.is_closed());
        }
    });
}

#[test]
fn a_body_goes_on_after_an_early_answer() {
    run(async {
        let source = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfirst";
        let (body, _sender, mut client) = body_of(source).await;
        let (mut sender, mut endpoint) = connected().await;
        let script = async {
            read_until(&mut endpoint, "first").await;
            endpoint.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        };
        let mut headers = HeaderMap::new();
        let (response, ()) = tokio::join!(send(&mut sender, Method::POST, &mut headers, body), script);
        let (answer, _) = collect(response.ok().unwrap().into_body()).await.unwrap();
        assert_eq!(&answer[..], b"ok");
        // Another request would be read as a part of the body.
        assert!(!sender.is_ready() && !sender.is_closed());
        client.write_all(b"last").await.unwrap();
        assert_eq!(read_until(&mut endpoint, "last").await, "last");
        until("the end of the request", || sender.is_ready()).await;
    });
}

#[test]
fn an_answer_is_not_whole_when_its_request_broke_off() {
    run(async {
        let source = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfirst";
        let (body, _sender, mut client) = body_of(source).await;
        let (mut sender, mut endpoint) = connected().await;
        let script = async {
            read_until(&mut endpoint, "first").await;
            endpoint.write_all(b"HTTP/1.1 200 OK\r\n\r\npart").await.unwrap();
        };
        let mut headers = HeaderMap::new();
        let (response, ()) = tokio::join!(send(&mut sender, Method::POST, &mut headers, body), script);
        let answer = tokio::task::spawn_local(collect(response.ok().unwrap().into_body()));
        // Its reader waits for more by now.
        tokio::task::yield_now().await;
        client.shutdown().await.unwrap();
        assert!(answer.await.unwrap().is_err());
        assert_eq!(endpoint.read(&mut [0]).await.unwrap_or_default(), 0);
        assert!(!sender.is_ready());
    });
}

#[test]
fn a_request_is_sent_to_its_end_though_its_connection_is_not_kept() {
    run(async {
        let source = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfirst";
        let (body, _sender, mut client) = body_of(source).await;
        let (mut sender, mut endpoint) = connected().await;
        let script = async {
            read_until(&mut endpoint, "first").await;
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
            endpoint.write_all(answer).await.unwrap();
        };
        let mut headers = HeaderMap::new();
        let (response, ()) = tokio::join!(send(&mut sender, Method::POST, &mut headers, body), script);
        collect(response.ok().unwrap().into_body()).await.unwrap();
        assert!(sender.is_closed());
        drop(sender);
        client.write_all(b"last").await.unwrap();
        let mut rest = String::new();
        endpoint.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "last");
    });
}

#[test]
fn an_answer_counts_though_the_endpoint_reads_no_more() {
    run(async {
        // More than sockets hold.
        let size = 64 << 20;
        let source = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
        let (body, _sender, mut client) = body_of(source.as_bytes()).await;
        let (mut sender, mut endpoint) = connected().await;
        let upload = tokio::task::spawn_local(async move {
            let part = vec![0; 64 * 1024];
            while client.write_all(&part).await.is_ok() {}
        });
        let script = async {
            read_until(&mut endpoint, "\r\n\r\n").await;
            let answer = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno";
            endpoint.write_all(answer).await.unwrap();
            endpoint.shutdown().await.unwrap();
        };
        let mut headers = HeaderMap::new();
        let (response, ()) = tokio::join!(send(&mut sender, Method::POST, &mut headers, body), script);
        let response = response.ok().unwrap();
        assert_eq!(response.status(), 413);
        assert_eq!(&collect(response.into_body()).await.unwrap().0[..], b"no");
        drop((sender, endpoint));
        upload.abort();
    });
}

#[test]
fn a_request_of_which_nothing_was_written_comes_back() {
    run(async {
        let (mut sender, endpoint) = connected().await;
        drop(endpoint);
        until("the end", || !sender.is_ready()).await;
        let source = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        let (body, _sender, _endpoint) = body_of(source).await;
        let mut kept = headers(&[("x-a", "1")]);
        let Err(SendError::NotSent(request)) = send(&mut sender, Method::POST, &mut kept, body).await else {
            panic!("it was sent");
        };
        assert_eq!(kept.len(), 1);
        assert_eq!(request.body.unwrap().collect().await.unwrap().to_bytes(), "hello");
    });
}

#[test]
fn a_long_body_is_never_collected() {
    run(async {
        let (mut sender, mut endpoint) = connected().await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n";
        let (response, ()) = tokio::join!(get(&mut sender), answer(&mut endpoint, head));
        let mut body = response.ok().unwrap().into_body();
        let endless = tokio::task::spawn_local(async move {
            let part = vec![0; 1 << 20];
            let mut sent = 0;
            // As much as the sockets hold, and then no more.
            while let Ok(Ok(())) =
                tokio::time::timeout(Duration::from_millis(200), endpoint.write_all(&part)).await
            {
                sent += part.len();
            }
            sent
        });
        let mut most = 0;
        for _ in 0..50 {
            most = most.max(body.frame().await.unwrap().unwrap().into_data().unwrap().len());
        }
        assert!(most <= 128 * 1024, "{most}");
        let sent = endless.await.unwrap();
        assert!(sent < 64 << 20, "{sent} bytes went somewhere");
    });
}
