//! Peers that mean harm: they get nothing, and nobody else loses anything.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::support::{Cluster, Pooler, for_each_worker_count, http};

/// Sends single bytes until the server has enough of it; answers how long that took.
fn slowly(port: u16, bytes: &[u8]) -> Duration {
    let begun = Instant::now();
    let mut stream = http::connect(port);
    let mut reader = stream.try_clone().unwrap();
    let ended = thread::spawn(move || {
        let mut rest = Vec::new();
        // Closed or reset.
        let _ = reader.read_to_end(&mut rest);
    });
    for byte in bytes.iter().cycle() {
        if ended.is_finished() || stream.write_all(&[*byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    ended.join().unwrap();
    begun.elapsed()
}

#[test]
fn peers_that_mean_harm_get_nothing_and_hurt_nobody() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "http_addr = \"127.0.0.1:0\"");
        let port = pooler.http_port();
        let mut client = pooler.login("alice", "alicepw", "app");

        // Far more than may be there at once, and none says a word.
        let silent: Vec<TcpStream> = (0..300).map(|_| http::connect(port)).collect();
        // Who asks is served nevertheless.
        for _ in 0..20 {
            assert_eq!(http::get(port, "/healthz").status, 200);
        }
        let slow = ["", "GET /", "GET / HTTP/1.1\r\nX: "]
            .map(|start| thread::spawn(move || slowly(port, &[start.as_bytes(), b"aaaaaaaaaaaaaaaa"].concat())));
        // Those that hold one half of a request each.
        let mut halves: Vec<TcpStream> = (0..100).map(|_| http::connect(port)).collect();
        for half in &mut halves {
            // It may have had to go already.
            let _ = half.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127");
        }
        assert_eq!(http::get(port, "/healthz").status, 200);
        assert_eq!(client.value("select 'served'"), "served");

        let long = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
        assert!(matches!(http::request(port, &long).status, 431 | 0));
        let long = format!("GET /{} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "x".repeat(100_000));
        assert!(matches!(http::request(port, &long).status, 414 | 431 | 0));
        let many = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n", "X: y\r\n".repeat(1000));
        assert!(matches!(http::request(port, &many).status, 431 | 0));
        for garbage in
            ["\0\0\0\x08\x04\u{d2}\x16\x2f", "selekt 1\r\n\r\n", "GET\r\n\r\n", "\r\n\r\n\r\nxx\r\n\r\n", "ä\r\n\r\n"]
        {
            assert!(matches!(http::request(port, garbage).status, 400 | 0), "{garbage:?}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "NONSENSE"] {
            let refused = http::request(
                port,
                &format!("{method} /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
            );
            assert!(refused.status == 405 && refused.head.to_lowercase().contains("allow: get, head"), "{refused:?}");
        }
        let head = http::request(port, "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        // A body that is announced and never comes, and one that is smuggled in.
        let announced =
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\nConnection: close\r\n\r\n";
        assert_eq!(http::request(port, announced).status, 200);
        let both = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert!(matches!(http::request(port, both).status, 400 | 200));
        for slow in slow {
            let lasted = slow.join().unwrap();
            assert!(lasted < Duration::from_secs(14), "{lasted:?}");
        }
        drop((silent, halves));
        assert_eq!(http::get(port, "/healthz").status, 200);
        assert_eq!(client.value("select 'still served'"), "still served");
        assert!(!pooler.log().contains("panicked"), "{}", pooler.log());
    });
}

/// Nobody may read an answer forever.
#[test]
fn a_peer_that_takes_nothing_is_left() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "[pgpool]\nhttp_addr = \"127.0.0.1:0\"");
    let mut stream = http::connect(pooler.http_port());
    // Answers enough to fill what the system keeps, without ever reading.
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    while stream.write_all(&request).is_ok() {}
    assert_eq!(http::get(pooler.http_port(), "/healthz").status, 200);
}
