//! A PostgreSQL that says what a test wants it to say.

use std::{
    collections::BTreeSet,
    io::Read,
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use super::{cluster::Cluster, pooler::Pooler};

/// AuthenticationOk, BackendKeyData and ReadyForQuery.
pub(crate) const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";

/// A PostgreSQL that answers by the name of the database that it is asked for.
pub(crate) struct Fake {
    port: u16,
    seen: Arc<Mutex<BTreeSet<String>>>,
}

impl Fake {
    /// `serve` has read the startup packet.
    pub(crate) fn start(serve: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, serve) = (Arc::<Mutex<BTreeSet<String>>>::default(), Arc::new(serve));
        let noted = Arc::clone(&seen);
        thread::spawn(move || {
            while let Ok((mut socket, _)) = listener.accept() {
                let (noted, serve) = (Arc::clone(&noted), Arc::clone(&serve));
                thread::spawn(move || -> std::io::Result<()> {
                    let name = asked_for(&mut socket)?;
                    serve(&name, &mut socket)?;
                    noted.lock().unwrap().insert(name);
                    socket.shutdown(std::net::Shutdown::Write)?;
                    socket.read_to_end(&mut Vec::new()).map(drop)
                });
            }
        });
        Self { port, seen }
    }

    /// A pgpool in front of it; `app` is a real database beside it.
    pub(crate) fn pooler(&self, cluster: &Cluster, settings: &str) -> Pooler {
        let more = format!("[databases.\"*\"]\nhost = \"127.0.0.1\"\nport = {}\n", self.port);
        let general = "server_tls_sslmode = \"disable\"\nserver_login_retry = 1\nquery_wait_timeout = 5\n";
        Pooler::trusting(cluster, 2, &format!("{general}{settings}\n{more}"))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn has_served(&self, count: usize) -> bool {
        self.seen.lock().unwrap().len() >= count
    }
}

/// Reads a startup packet, and finds the database in it.
fn asked_for(socket: &mut TcpStream) -> std::io::Result<String> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
    socket.read_exact(&mut body)?;
    let words: Vec<&[u8]> = body[4..].split(|byte| *byte == 0).collect();
    let pair = words.chunks(2).find(|pair| pair[0] == b"database").expect("a database");
    Ok(String::from_utf8_lossy(pair[1]).into_owned())
}

/// The body of a message.
pub(crate) fn read_message(socket: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut header = [0; 5];
    socket.read_exact(&mut header)?;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(header[1..].try_into().unwrap())).unwrap() - 4];
    socket.read_exact(&mut body)?;
    Ok(body)
}
