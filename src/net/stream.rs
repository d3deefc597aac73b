//! One connection, polled by the one task that owns it: a socket, with or without TLS.
//!
//! All methods take `&mut self` or do not wait: there is never a second task on the same stream, and moving a stream
//! to another task is a plain move. TLS begins in place, since both sides may have to talk before it does.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::socket::Socket;
use super::tls::{Acceptor, Connector, HandshakeError, Records, Session, Turnstile};

pub use super::socket::Peek;

/// A connected socket.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    tls: Option<Box<Records>>,
    /// A waker that was left at the socket stays there until there is something to read.
    wakers_stay: bool,
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Stream {
        Stream { socket: Socket::Tcp(stream), tls: None, wakers_stay: wakers_stay() }
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Stream {
        Stream { socket: Socket::Unix(stream), tls: None, wakers_stay: wakers_stay() }
    }
}

/// Whether the thread that learns of bytes is the one that reads them. Where there are several, one may have noted that
/// bytes are there and be about to wake the task, which runs on another, has read them meanwhile and has left its waker
/// anew: the wake takes that one, and nothing is to be read.
fn wakers_stay() -> bool {
    Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::CurrentThread)
}

impl Stream {
    /// Whether it is a Unix socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.socket, Socket::Unix(_))
    }

    /// The number of its file descriptor, to be shown.
    #[must_use]
    pub fn descriptor(&self) -> u32 {
        self.socket.descriptor()
    }

    /// What TLS has agreed upon, once it has.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.tls.as_ref().and_then(|tls| tls.session())
    }

    /// What is below TLS, for tests that are no TLS.
    #[cfg(test)]
    pub(super) fn without_tls(&self) -> &Socket {
        &self.socket
    }

    /// The room of all buffers of TLS.
    #[cfg(test)]
    pub(super) fn tls_buffers(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.buffers())
    }

    /// Begins TLS as the server. `received` is what was read already and belongs to the handshake.
    ///
    /// Cancel safety: none; the stream can only be closed then.
    ///
    /// # Errors
    /// [`HandshakeError`]; nothing can be sent afterwards.
    pub async fn accept_tls(
        &mut self,
        acceptor: &Acceptor,
        received: Vec<u8>,
        turns: &Turnstile,
    ) -> Result<(), HandshakeError> {
        let tls = self.tls.insert(Box::new(Records::server(acceptor, received)?));
        tls.handshake(&mut self.socket, Some(turns)).await
    }

    /// Begins TLS as the client of `host`.
    ///
    /// Cancel safety: none; the stream can only be closed then.
    ///
    /// # Errors
    /// [`HandshakeError`]; nothing can be sent afterwards.
    pub async fn connect_tls(&mut self, connector: &Connector, host: &str) -> Result<(), HandshakeError> {
        let tls = self.tls.insert(Box::new(Records::client(connector, host)?));
        tls.handshake(&mut self.socket, None).await?;
        connector.check(tls)
    }

    /// Ready when a read is worth trying; costs no system call.
    #[inline]
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            Some(tls) if tls.readable() => Poll::Ready(Ok(())),
            Some(_) | None => self.socket.poll_read_ready(cx),
        }
    }

    /// Whether a read is worth trying, as far as is known. Costs no system call, registers no waker.
    #[inline]
    #[must_use]
    pub fn readable(&self) -> bool {
        self.socket.readable() || self.tls.as_ref().is_some_and(|tls| tls.readable())
    }

    /// Reads into `buf` and answers how many bytes came; zero is the end of the stream.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut self.tls {
            None => self.socket.poll_read(cx, buf),
            Some(tls) => tls.poll_read(&mut self.socket, cx, buf),
        }
    }

    /// Like [`Stream::poll_read`]; `armed` says whether the task's waker waits at the socket, and where it does and
    /// nothing has come, the socket is not asked again. A task that has used up its budget is woken by the runtime and
    /// leaves no waker here (`tokio::task::coop`), which must not be taken for one. On a runtime with several workers
    /// nothing is ever armed.
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
        *armed = self.wakers_stay && polled.is_pending() && tokio::task::coop::has_budget_remaining();
        polled
    }

    /// Writes some of `bytes`. Where it is pending, the next call must begin with the same bytes: TLS may have taken
    /// them already.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.tls {
            None => self.socket.poll_write(cx, bytes),
            Some(tls) => tls.poll_write(&mut self.socket, cx, bytes),
        }
    }

    /// Reads what is there; `WouldBlock` where the runtime has seen nothing arrive (no system call is made then).
    ///
    /// # Errors
    /// The system's error.
    #[inline]
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.try_read(buf),
            Some(tls) => tls.try_read(&mut self.socket, buf),
        }
    }

    /// Writes what fits.
    ///
    /// # Errors
    /// The system's error; `WouldBlock` when nothing fits.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.try_write(bytes),
            Some(tls) => tls.try_write(&mut self.socket, bytes),
        }
    }

    /// Looks at the receive queue itself, whatever the runtime knows.
    #[must_use]
    pub fn peek(&mut self) -> Peek {
        match &mut self.tls {
            None => self.socket.peek(),
            Some(tls) => tls.peek(&self.socket),
        }
    }

    /// Ready when the peer has closed. While bytes are waiting to be read this cannot be known; then it stays pending and
    /// no waker is registered.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if ready!(self.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            let Stream { socket, tls, .. } = self;
            let seen = match tls {
                None => socket.look(|| socket.peek()),
                Some(tls) if tls.readable() => tls.peek(socket),
                Some(tls) => socket.look(|| tls.peek(socket)),
            };
            match seen {
                Peek::Closed => return Poll::Ready(()),
                Peek::Readable => return Poll::Pending,
                Peek::Quiet => {}
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
        if let Some(tls) = &mut self.tls {
            tls.say_goodbye();
            std::future::poll_fn(|cx| tls.poll_flush(&mut self.socket, cx)).await?;
        }
        self.socket.shutdown().await?;
        let mut scrap = [0; 1024];
        for _ in 0..1024 {
            if std::future::poll_fn(|cx| self.poll_read(cx, &mut scrap)).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The user that the process at the other end of a Unix socket ran as when it connected, as the kernel tells.
    #[must_use]
    pub fn peer_uid(&self) -> Option<u32> {
        match &self.socket {
            Socket::Tcp(_) => None,
            Socket::Unix(stream) => stream.peer_cred().ok().map(|peer| peer.uid()),
        }
    }

    /// The process at the other end of a Unix socket, when it connected, as the kernel tells.
    #[must_use]
    pub fn peer_process(&self) -> Option<u32> {
        match &self.socket {
            Socket::Tcp(_) => None,
            Socket::Unix(stream) => u32::try_from(stream.peer_cred().ok()?.pid()?).ok(),
        }
    }

    /// Whether the process at the other end of a Unix socket ran as the system user of this one.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.peer_uid() == Some(nix::unistd::geteuid().as_raw())
    }

    /// The local address and port of a TCP socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<std::net::SocketAddr> {
        self.socket.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::io::Write;
    use std::os::unix::net::UnixStream as OtherEnd;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use tokio::runtime::Builder;
    use tokio::task::coop::consume_budget;

    use super::*;

    /// More than a task may do in one poll.
    const BUDGET: usize = 200;

    #[tokio::test]
    async fn armed_means_that_a_waker_waits_however_little_budget_is_left() {
        for used in 0..BUDGET {
            let (one, other) = UnixStream::pair().unwrap();
            let (mut stream, mut armed) = (Stream::from(one), false);
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

    /// What the waker that waits at the socket has said.
    #[derive(Default)]
    struct Calls(AtomicBool);

    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
        }
    }

    /// A waker at the end of whose life, when another one takes its place at the socket, something arrives there.
    struct Former(OtherEnd);

    impl Wake for Former {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Former {
        fn drop(&mut self) {
            self.0.write_all(b"1").unwrap();
            // The thread that looks after the sockets notes it, and waits for the lock that is held around this; if it
            // took longer, the round is another one.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What is polled by hand, as a task is: when it is woken.
    struct Polled {
        stream: Stream,
        armed: bool,
        calls: Arc<Calls>,
    }

    impl Polled {
        fn poll(&mut self, waker: &Waker) -> Poll<usize> {
            let polled = self.stream.poll_read_armed(&mut Context::from_waker(waker), &mut [0; 2], &mut self.armed);
            polled.map(Result::unwrap)
        }

        fn poll_when_woken(&mut self, waker: &Waker) -> Poll<usize> {
            let late = std::time::Instant::now() + Duration::from_secs(5);
            while !self.calls.0.swap(false, SeqCst) {
                assert!(std::time::Instant::now() < late, "nobody is woken");
                std::thread::yield_now();
            }
            self.poll(waker)
        }
    }

    /// Where another thread looks after the sockets it may have noted bytes and be about to wake the task, which has read
    /// them meanwhile and has left its waker anew: that one it takes.
    #[test]
    fn a_wake_that_comes_late_is_not_the_last() {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _inside = runtime.enter();
        let (mut rounds, mut others) = (0, 0);
        while rounds < 10 {
            assert!(others < 1000, "no wake ever came late");
            let (one, mut other) = OtherEnd::pair().unwrap();
            one.set_nonblocking(true).unwrap();
            let stream = Stream::from(UnixStream::from_std(one).unwrap());
            let mut polled = Polled { stream, armed: false, calls: Arc::default() };
            let waker = Waker::from(Arc::clone(&polled.calls));
            let former = Waker::from(Arc::new(Former(other.try_clone().unwrap())));
            assert!(polled.poll(&former).is_pending());
            drop(former);
            // Another waker has to be left at the socket, whatever is armed.
            polled.armed = false;
            if polled.poll(&waker).is_pending() {
                others += 1;
                continue;
            }
            rounds += 1;
            assert!(polled.poll(&waker).is_pending());
            // The late wake.
            assert!(polled.poll_when_woken(&waker).is_pending());
            other.write_all(b"2").unwrap();
            assert_eq!(polled.poll_when_woken(&waker), Poll::Ready(1));
        }
    }
}
