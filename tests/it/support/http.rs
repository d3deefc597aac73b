//! A client of HTTP that sends what it is told.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// An answer, or what there was of one.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0 where the connection was closed without an answer.
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect to the HTTP server");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// GET over a connection of its own.
pub(crate) fn get(port: u16, path: &str) -> Answer {
    request(port, &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"))
}

/// The same as a user, with the password `user` + "pw".
pub(crate) fn get_as(port: u16, path: &str, basic: &str) -> Answer {
    let head = format!("Host: pooler.example\r\nAuthorization: Basic {basic}\r\nConnection: close");
    request(port, &format!("GET {path} HTTP/1.1\r\n{head}\r\n\r\n"))
}

pub(crate) fn request(port: u16, bytes: &str) -> Answer {
    let mut stream = connect(port);
    // The server may close before all is sent.
    let _ = stream.write_all(bytes.as_bytes());
    answer(&mut stream)
}

/// What comes until the connection is closed.
pub(crate) fn answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the HTTP server has not closed: {error}"),
    }
    let text = String::from_utf8(bytes).expect("an answer in UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}
