//! A client that replicates: bytes go both ways as they come until one side ends, on a backend that is the client's alone.
//!
//! Nothing is read of what passes, since replication speaks both ways at once and never comes to rest (CopyBoth). The
//! backend is closed with the client. The timeouts of queries and transactions do not run.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Interval, interval};

use super::end::End;
use super::{ending, goodbye};
use crate::backend::Closing;
use crate::metrics::add;
use crate::net::Stream;
use crate::pool::{Dedicated, Listed, Phase, Pool, Pools, Reason};

/// Bytes that are under way in one direction.
const BUFFER: usize = 64 * 1024;
/// How often it is looked whether the backend has to go, and what passed is counted.
const LOOK: Duration = Duration::from_secs(1);

/// One direction.
struct Way {
    buf: Box<[u8]>,
    from: usize,
    to: usize,
    /// What has passed and was not counted yet.
    passed: u64,
}

/// Where a direction stopped.
enum Stopped {
    /// The one who sends has closed.
    Closed,
    /// The one who sends cannot be read.
    Unread(io::Error),
    /// The other one cannot be written to.
    Unwritten(io::Error),
}

impl Way {
    fn new(early: &[u8]) -> Way {
        let mut buf = vec![0; BUFFER.max(early.len())].into_boxed_slice();
        if let Some(start) = buf.get_mut(..early.len()) {
            start.copy_from_slice(early);
        }
        Way { buf, from: 0, to: early.len(), passed: early.len() as u64 }
    }

    /// Passes on what comes, until nothing more will.
    fn poll(&mut self, cx: &mut Context<'_>, sender: &mut Stream, taker: &mut Stream) -> Poll<Stopped> {
        loop {
            while let Some(bytes) = self.buf.get(self.from..self.to).filter(|bytes| !bytes.is_empty()) {
                match ready!(taker.poll_write(cx, bytes)) {
                    Ok(sent) => self.from += sent,
                    Err(error) => return Poll::Ready(Stopped::Unwritten(error)),
                }
            }
            match ready!(sender.poll_read(cx, &mut self.buf)) {
                Ok(0) => return Poll::Ready(Stopped::Closed),
                Ok(read) => {
                    (self.from, self.to) = (0, read);
                    self.passed += read as u64;
                }
                Err(error) => return Poll::Ready(Stopped::Unread(error)),
            }
        }
    }
}

/// Relays until one side ends.
pub async fn replicate(mut stream: Stream, client: Listed, dedicated: Box<Dedicated>, early: &[u8], pools: &Pools) {
    let Some(pool) = client.record().pool() else { return };
    let mut dedicated = dedicated;
    client.record().enter(Phase::Running, pool.shared.clock.now());
    let (mut up, mut down) = (Way::new(early), Way::new(&[]));
    let mut looks = interval(LOOK);
    let end = poll_fn(|cx| {
        client.record().interrupt.register(cx.waker());
        if let Some(end) = ending(&client) {
            return Poll::Ready(end);
        }
        let backend = &mut dedicated.backend;
        // PostgreSQL's last words go before the client's.
        match down.poll(cx, &mut backend.stream, &mut stream) {
            Poll::Ready(Stopped::Closed) => return Poll::Ready(End::Goodbye),
            Poll::Ready(Stopped::Unread(error)) => return Poll::Ready(End::BackendDied(error.to_string())),
            Poll::Ready(Stopped::Unwritten(error)) => return Poll::Ready(End::ClientBroke(error)),
            Poll::Pending => {}
        }
        match up.poll(cx, &mut stream, &mut backend.stream) {
            Poll::Ready(Stopped::Closed) => return Poll::Ready(End::ClientClosed),
            Poll::Ready(Stopped::Unread(error)) => return Poll::Ready(End::ClientBroke(error)),
            Poll::Ready(Stopped::Unwritten(error)) => return Poll::Ready(End::BackendDied(error.to_string())),
            Poll::Pending => {}
        }
        if look(cx, &mut looks, &pool, (&mut up, &mut down)) {
            let now = pool.shared.clock.now();
            client.record().request.store(now, Relaxed);
            backend.record.request.store(now, Relaxed);
        }
        if backend.record.close_needed() || pool.is_closed() {
            return Poll::Ready(End::Interrupted(Reason::ServerReplaced));
        }
        Poll::Pending
    })
    .await;
    count(&pool, &mut up, &mut down);
    client.record().set_link(None);
    // Goodbye is PostgreSQL's here.
    let closing = if matches!(end, End::Goodbye) { Closing::Crashed } else { end.closing() };
    dedicated.backend.record.close_because(closing);
    drop(dedicated);
    // Its stream may stand within a message, where no word of ours can be put in.
    let _ = tokio::time::timeout(LOOK, stream.finish()).await;
    let (config, now) = (pools.config.load(), pool.shared.clock.now());
    goodbye::say(&end, client.record(), &config.general, now);
    goodbye::log(&end, client.record(), &config.general, now);
}

/// Counts now and then, and answers whether anything has passed since it last did.
fn look(cx: &mut Context<'_>, looks: &mut Interval, pool: &Pool, (up, down): (&mut Way, &mut Way)) -> bool {
    let mut passed = false;
    while looks.poll_tick(cx).is_ready() {
        passed |= up.passed > 0 || down.passed > 0;
        count(pool, up, down);
    }
    passed
}

fn count(pool: &Pool, up: &mut Way, down: &mut Way) {
    add(&pool.counters.received, std::mem::take(&mut up.passed));
    add(&pool.counters.sent, std::mem::take(&mut down.passed));
}
