//! The start of TLS: the handshake, straight down, and how many of them may be at work at once.

use std::io;

use rustls::Error;
use tokio::sync::Semaphore;

use super::Records;
use crate::net::socket::Socket;

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The library refused what came, or the other side said so.
    #[error("{0}")]
    Tls(Error),
    /// The connection broke.
    #[error("{0}")]
    Io(io::Error),
    /// The other side closed.
    #[error("the connection was closed in the TLS handshake")]
    Left,
    /// TLS that begins at once has to name the protocol.
    #[error("TLS without SSLRequest needs the protocol \"postgresql\" to be named (ALPN)")]
    NoProtocol,
}

/// Lets only so many handshakes compute at a time, so that queries get their turns between them.
///
/// A handshake is up to a millisecond of computing; a hundred logins at once would hold all queries up for as many. Who
/// has a turn computes once, lets everybody else run, and gives the turn back. Waiting for the client takes none.
#[derive(Debug)]
pub struct Turnstile(Semaphore);

impl Turnstile {
    /// One turn at a time for each thread.
    #[must_use]
    pub fn new(threads: usize) -> Turnstile {
        Turnstile(Semaphore::new(threads.max(1)))
    }
}

impl Records {
    /// Brings the handshake to its end.
    ///
    /// Cancel safety: none; the connection can only be closed then.
    pub(in crate::net) async fn handshake(
        &mut self,
        socket: &mut Socket,
        turns: Option<&Turnstile>,
    ) -> Result<(), HandshakeError> {
        loop {
            if self.has_unread() || !self.begun() {
                let turn = match turns {
                    // It is never closed.
                    Some(turns) => turns.0.acquire().await.ok(),
                    None => None,
                };
                let result = self.compute();
                if turn.is_some() {
                    tokio::task::yield_now().await;
                }
                drop(turn);
                if let Err(error) = result {
                    // The other side should hear why; whether it does is up to it.
                    let _ = std::future::poll_fn(|cx| self.poll_flush(socket, cx)).await;
                    return Err(HandshakeError::Tls(error));
                }
                std::future::poll_fn(|cx| self.poll_flush(socket, cx)).await.map_err(HandshakeError::Io)?;
            }
            if self.is_ready() {
                return Ok(());
            }
            // One that says nothing costs no buffer.
            std::future::poll_fn(|cx| socket.poll_read_ready(cx)).await.map_err(HandshakeError::Io)?;
            match std::future::poll_fn(|cx| self.poll_receive(socket, cx)).await {
                Ok(0) => return Err(HandshakeError::Left),
                Ok(_) => {}
                Err(error) => return Err(HandshakeError::Io(error)),
            }
        }
    }
}

impl From<Error> for HandshakeError {
    fn from(error: Error) -> HandshakeError {
        HandshakeError::Tls(error)
    }
}
