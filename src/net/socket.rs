//! A connected socket as the system has it. What others use is the [`Stream`](super::Stream) around it.

use std::future::Future;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected socket.
#[derive(Debug)]
pub(super) enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// Unix domain.
    Unix(UnixStream),
}

/// What a look at the receive queue found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Nothing to read, and the peer is there.
    Quiet,
    /// Bytes are waiting.
    Readable,
    /// The peer closed, or the socket has an error.
    Closed,
}

/// Runs a method of whichever socket it is.
macro_rules! each {
    ($stream:expr, $inner:ident => $body:expr) => {
        match $stream {
            Socket::Tcp($inner) => $body,
            Socket::Unix($inner) => $body,
        }
    };
}

impl Socket {
    /// Ready when a read is worth trying; costs no system call.
    #[inline]
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read_ready(cx))
    }

    /// Whether the runtime knows of something to read. Costs no system call, registers no waker.
    #[inline]
    #[must_use]
    pub(super) fn readable(&self) -> bool {
        each!(self, stream => stream.try_io(Interest::READABLE, || Ok(())).is_ok())
    }

    /// Reads into `buf` and answers how many bytes came; zero is the end of the stream.
    #[inline]
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(each!(self, stream => Pin::new(stream).poll_read(cx, &mut buf)))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Writes some of `bytes`.
    #[inline]
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    /// Reads what is there; `WouldBlock` where the runtime has seen nothing arrive (no system call is made then).
    ///
    /// # Errors
    /// The system's error.
    pub(super) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => stream.try_read(buf))
    }

    /// Writes what fits.
    ///
    /// # Errors
    /// The system's error; `WouldBlock` when nothing fits.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, stream => stream.try_write(bytes))
    }

    /// Looks at the receive queue itself with one system call, whatever the runtime knows.
    #[must_use]
    pub(super) fn peek(&self) -> Peek {
        let mut byte = [MaybeUninit::uninit()];
        let seen = match self {
            Socket::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Socket::Unix(stream) => SockRef::from(stream).peek(&mut byte),
        };
        match seen {
            Ok(0) => Peek::Closed,
            Ok(_) => Peek::Readable,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Peek::Quiet,
            Err(_) => Peek::Closed,
        }
    }

    /// Takes a look where the runtime knows of something to read. One that finds nothing takes that back, unless something
    /// has come since.
    pub(super) fn look(&self, look: impl FnOnce() -> Peek) -> Peek {
        let mut seen = Peek::Quiet;
        let take = || {
            seen = look();
            if seen == Peek::Quiet { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        };
        // What it found is in `seen`.
        let _ = each!(self, stream => stream.try_io(Interest::READABLE, take));
        seen
    }

    /// Reads into the room that `buf` has; zero is the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        each!(self, stream => pin!(stream.read_buf(buf)).poll(cx))
    }

    /// Reads what is there into the room that `buf` has.
    pub(super) fn try_fill(&self, buf: &mut Vec<u8>) -> io::Result<usize> {
        each!(self, stream => stream.try_read_buf(buf))
    }

    /// The same whatever the runtime knows.
    pub(super) fn fill_now(&self, buf: &mut Vec<u8>) -> io::Result<usize> {
        let mut chunk = [0; 4096];
        let read = each!(self, stream => (&*SockRef::from(stream)).read(&mut chunk))?;
        buf.extend_from_slice(chunk.get(..read).unwrap_or_default());
        Ok(read)
    }

    /// Says that nothing more will be written.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        each!(self, stream => stream.shutdown().await)
    }

    /// The local address and port of a TCP socket.
    #[must_use]
    pub(super) fn descriptor(&self) -> u32 {
        let descriptor = match self {
            Socket::Tcp(stream) => stream.as_raw_fd(),
            Socket::Unix(stream) => stream.as_raw_fd(),
        };
        u32::try_from(descriptor).unwrap_or(0)
    }

    pub(super) fn local_addr(&self) -> Option<std::net::SocketAddr> {
        match self {
            Socket::Tcp(stream) => stream.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }
}
