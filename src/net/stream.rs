//! One connected socket, polled by the one task that owns it.
//!
//! All methods take `&mut self` or do not wait: there is never a second task on the same stream, and moving a stream
//! to another task is a plain move.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
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
            Stream::Tcp($inner) => $body,
            Stream::Unix($inner) => $body,
        }
    };
}

impl Stream {
    /// Ready when a read is worth trying; costs no system call.
    #[inline]
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read_ready(cx))
    }

    /// Whether the runtime knows of something to read. Costs no system call, registers no waker.
    #[inline]
    #[must_use]
    pub fn readable(&self) -> bool {
        each!(self, stream => stream.try_io(Interest::READABLE, || Ok(())).is_ok())
    }

    /// Reads into `buf` and answers how many bytes came; zero is the end of the stream.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(each!(self, stream => Pin::new(stream).poll_read(cx, &mut buf)))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Like [`Stream::poll_read`]; `armed` says whether the task's waker waits at the socket, and where it does and
    /// nothing has come, the socket is not asked again. A task that has used up its budget is woken by the runtime and
    /// leaves no waker here (`tokio::task::coop`), which must not be taken for one.
    #[inline]
    pub fn poll_read_armed(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        armed: &mut bool,
    ) -> Poll<io::Result<usize>> {
        if *armed && !self.readable() {
            return Poll::Pending;
        }
        let polled = self.poll_read(cx, buf);
        // The last of the budget may have gone for a look that found nothing.
        *armed = polled.is_pending() && tokio::task::coop::has_budget_remaining();
        polled
    }

    /// Writes some of `bytes`.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    /// Writes some of `slices` in one system call.
    #[inline]
    pub fn poll_write_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    /// Reads what is there; `WouldBlock` where the runtime has seen nothing arrive (no system call is made then).
    ///
    /// # Errors
    /// The system's error.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => stream.try_read(buf))
    }

    /// Writes what fits.
    ///
    /// # Errors
    /// The system's error; `WouldBlock` when nothing fits.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, stream => stream.try_write(bytes))
    }

    /// Looks at the receive queue itself with one system call, whatever the runtime knows.
    #[must_use]
    pub fn peek(&self) -> Peek {
        let mut byte = [MaybeUninit::uninit()];
        let seen = match self {
            Stream::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Stream::Unix(stream) => SockRef::from(stream).peek(&mut byte),
        };
        match seen {
            Ok(0) => Peek::Closed,
            Ok(_) => Peek::Readable,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Peek::Quiet,
            Err(_) => Peek::Closed,
        }
    }

    /// Ready when the peer has closed. While bytes are waiting to be read this cannot be known; then it stays pending and
    /// no waker is registered.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if ready!(self.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            match self.peek() {
                Peek::Closed => return Poll::Ready(()),
                Peek::Readable => return Poll::Pending,
                Peek::Quiet => {
                    // The runtime's note of readiness is out of date; a read that would block takes it back.
                    let block = || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) };
                    let _ = each!(self, stream => stream.try_io(Interest::READABLE, block));
                }
            }
        }
    }

    /// Reads exactly `buf`.
    ///
    /// Cancel safety: none; bytes already read are lost with the future.
    ///
    /// # Errors
    /// The system's error, `UnexpectedEof` when the peer closes first.
    pub async fn read_exact(&mut self, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let read = std::future::poll_fn(|cx| self.poll_read(cx, buf)).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buf = buf.get_mut(read..).unwrap_or_default();
        }
        Ok(())
    }

    /// Writes all of `bytes`.
    ///
    /// Cancel safety: none; how much went out is lost with the future.
    ///
    /// # Errors
    /// The system's error.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = std::future::poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Ends our side of the connection and waits until the peer has read everything and closes its own, so that a reset
    /// does not overtake the last words. What the peer still sends is read and dropped, up to 1 MiB.
    ///
    /// # Errors
    /// The system's error.
    pub async fn finish(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown().await?,
            Stream::Unix(stream) => stream.shutdown().await?,
        }
        let mut scrap = [0; 1024];
        for _ in 0..1024 {
            if std::future::poll_fn(|cx| self.poll_read(cx, &mut scrap)).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The local address and port of a TCP socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<std::net::SocketAddr> {
        match self {
            Stream::Tcp(stream) => stream.local_addr().ok(),
            Stream::Unix(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::time::Duration;

    use tokio::task::coop::consume_budget;

    use super::*;

    /// More than a task may do in one poll.
    const BUDGET: usize = 200;

    #[tokio::test]
    async fn armed_means_that_a_waker_waits_however_little_budget_is_left() {
        for used in 0..BUDGET {
            let (one, other) = UnixStream::pair().unwrap();
            let (mut stream, mut armed) = (Stream::Unix(one), false);
            let mut byte = [0];
            other.try_write(b"1").unwrap();
            // A buffer that was filled leaves the runtime in the belief that there is more.
            let read = poll_fn(|cx| stream.poll_read_armed(cx, &mut byte, &mut armed)).await;
            assert_eq!((read.unwrap(), armed), (1, false));
            poll_fn(|cx| {
                for _ in 0..used {
                    let _ = pin!(consume_budget()).poll(cx);
                }
                assert!(stream.poll_read_armed(cx, &mut byte, &mut armed).is_pending());
                Poll::Ready(())
            })
            .await;
            // A task whose budget is used up is woken at once.
            tokio::task::yield_now().await;
            other.try_write(b"2").unwrap();
            tokio::select! {
                biased;
                () = tokio::time::sleep(Duration::from_secs(5)) => panic!("nobody is woken where {used} were used"),
                read = poll_fn(|cx| stream.poll_read_armed(cx, &mut byte, &mut armed)) => assert_eq!(read.unwrap(), 1),
            }
        }
    }
}
