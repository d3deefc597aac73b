//! The console's end of the client's socket: whole messages in, bounded; bytes out; and the client's interrupt, which
//! ends whatever is waited for here.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;

use super::ConsoleEnd;
use crate::net::Stream;
use crate::pool::{ClientRecord, Reason};
use crate::wire::scan::{Grammar, Scanner};
use crate::wire::tag::front_limit;
use crate::wire::write::Report;

/// Largest length word of a message to the console, bytes.
const LONGEST: u32 = 64 * 1024;
/// No more is read ahead than one message of that length.
const READ_AHEAD: usize = LONGEST as usize + 1;
/// What may pile up before it is sent in the middle of an answer, bytes.
const PILE: usize = 64 * 1024;

const GRAMMAR: Grammar = Grammar { limit: front_limit, whole: |_| true, whole_max: usize::MAX, max: LONGEST };

/// A message, without its header.
pub(super) struct Incoming {
    /// Type byte.
    pub(super) tag: u8,
    /// Body.
    pub(super) body: Vec<u8>,
}

/// How a wait for something else than a message ended.
#[derive(Debug)]
pub(super) enum Pause {
    /// The time is over.
    Over,
    /// The client asked to cancel.
    Canceled,
    /// The session ends.
    Ended(ConsoleEnd),
}

/// The socket and its buffers.
pub(super) struct Link<'a> {
    stream: Stream,
    client: &'a ClientRecord,
    incoming: Vec<u8>,
    /// What is to be sent.
    pub(super) out: BytesMut,
}

impl<'a> Link<'a> {
    pub(super) fn new(stream: Stream, client: &'a ClientRecord) -> Link<'a> {
        Link { stream, client, incoming: Vec::new(), out: BytesMut::new() }
    }

    /// Appends an ErrorResponse.
    pub(super) fn error(&mut self, report: &Report) {
        let mut bytes = Vec::new();
        report.write(&mut bytes);
        self.out.extend_from_slice(&bytes);
    }

    /// Appends a NoticeResponse.
    pub(super) fn notice(&mut self, report: &Report) {
        let mut bytes = Vec::new();
        report.write_notice(&mut bytes);
        self.out.extend_from_slice(&bytes);
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Result<Incoming, ConsoleEnd> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            poll_fn(|cx| {
                // A cancel request that comes while nothing runs is late; PostgreSQL ignores it as well.
                if let Poll::Ready(Some(end)) = self.poll_interrupt(cx) {
                    return Poll::Ready(Err(end));
                }
                self.poll_fill(cx).map_err(ConsoleEnd::Lost)?.map(|read| match read {
                    0 => Err(ConsoleEnd::Closed),
                    _ => Ok(()),
                })
            })
            .await?;
        }
    }

    /// Cuts a message off what was read.
    fn take(&mut self) -> Result<Option<Incoming>, ConsoleEnd> {
        let piece = Scanner::default().next(&self.incoming, &GRAMMAR);
        let Some(piece) = piece.map_err(|error| ConsoleEnd::Violation(error.to_string()))? else { return Ok(None) };
        let message = Incoming { tag: piece.tag, body: piece.body().to_vec() };
        let length = piece.bytes.len();
        self.incoming.drain(..length);
        Ok(Some(message))
    }

    /// Sends what is there, if it is much.
    pub(super) async fn relieve(&mut self) -> Result<(), ConsoleEnd> {
        if self.out.len() < PILE { Ok(()) } else { self.flush().await }
    }

    /// Sends what is there.
    pub(super) async fn flush(&mut self) -> Result<(), ConsoleEnd> {
        while !self.out.is_empty() {
            let written = poll_fn(|cx| {
                if let Poll::Ready(Some(end)) = self.poll_interrupt(cx) {
                    return Poll::Ready(Err(end));
                }
                self.stream.poll_write(cx, &self.out).map_err(ConsoleEnd::Lost)
            })
            .await?;
            if written == 0 {
                return Err(ConsoleEnd::Lost(io::ErrorKind::WriteZero.into()));
            }
            drop(self.out.split_to(written));
        }
        Ok(())
    }

    /// Sends `last` as far as the socket takes it at once: nobody waits for a client that is being left.
    pub(super) fn leave(&mut self, last: &Report) {
        self.error(last);
        // A client that is gone need not be told.
        let _ = self.stream.try_write(&self.out);
    }

    /// Lets `time` pass. Messages that come meanwhile are kept.
    pub(super) async fn pause(&mut self, time: Duration) -> Pause {
        let mut sleep = pin!(tokio::time::sleep(time));
        poll_fn(|cx| {
            match self.poll_interrupt(cx) {
                Poll::Ready(Some(end)) => return Poll::Ready(Pause::Ended(end)),
                Poll::Ready(None) => return Poll::Ready(Pause::Canceled),
                Poll::Pending => {}
            }
            while self.incoming.len() < READ_AHEAD {
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Pause::Ended(ConsoleEnd::Closed)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Pause::Ended(ConsoleEnd::Lost(error))),
                    Poll::Pending => break,
                }
            }
            sleep.as_mut().poll(cx).map(|()| Pause::Over)
        })
        .await
    }

    /// Waits until the session is ended by another or by the client. Nothing is read any more.
    pub(super) async fn stay(&mut self) -> ConsoleEnd {
        loop {
            self.incoming.clear();
            if let Pause::Ended(end) = self.pause(Duration::from_secs(3600)).await {
                return end;
            }
        }
    }

    /// Forgets a cancel request for something that is over.
    pub(super) fn forget_cancel(&self) {
        self.client.interrupt.clear();
    }

    /// Ready with `None` for an interrupt that only ends a wait, which is taken thereby.
    fn poll_interrupt(&self, cx: &mut Context<'_>) -> Poll<Option<ConsoleEnd>> {
        let interrupt = &self.client.interrupt;
        interrupt.register(cx.waker());
        match interrupt.raised() {
            None => Poll::Pending,
            Some(reason) if reason.passes() => {
                interrupt.clear();
                if reason == Reason::Canceled { Poll::Ready(None) } else { Poll::Pending }
            }
            Some(reason) => Poll::Ready(Some(ConsoleEnd::Interrupted(reason))),
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut chunk = [0; 4096];
        let read = ready!(self.stream.poll_read(cx, &mut chunk))?;
        self.incoming.extend_from_slice(chunk.get(..read).unwrap_or_default());
        Poll::Ready(Ok(read))
    }
}
