//! An admitted client: the turn machine, the relay, and how it ended.
//!
//! Idle, a [`Session`] owns its socket and a small record. The first bytes of a request borrow a workspace and take a
//! lease; the relay runs the turn; the lease goes back. One task does all of it, and nothing here spawns.

mod agree;
mod end;
mod errors;
mod executed;
mod fuzz;
mod goodbye;
mod inspect;
mod judge;
mod lend;
mod moving;
mod names;
mod pin;
mod provide;
mod reader;
mod refuse;
mod relay;
mod renaming;
mod repeat;
mod replication;
mod requests;
mod salvage;
mod scripts;
mod settle;
mod tally;
mod turn;
mod unanswered;
mod watch;
mod workspace;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::backend::{Closing, State};
use crate::net::Stream;
use crate::pool::{Lease, Listed, Phase, Pool, PoolSettings, Pools, Reason};
use crate::sql::Feature;
use crate::wire::scan::Scanner;
use crate::wire::tag::front;
use moving::Plain;
use names::Names;
use pin::Pinned;
use reader::Reader;
use relay::{Parties, Relay, request_grammar};
use salvage::Wreck;
use tally::Tally;
use watch::Watch;
use workspace::Workspace;

pub use end::{Blame, End};
#[doc(hidden)]
pub use fuzz::fuzz;
pub use names::Step;
pub use relay::whole_rows;
pub use replication::replicate;
#[doc(hidden)]
pub use turn::fuzz as fuzz_turn;
pub use turn::{About, Back, Front, Made, Own, Shifts, Turn, Undo};
pub use workspace::{WORKSPACE, Workspaces};

/// What all sessions share.
#[derive(Clone, Debug)]
pub struct House {
    /// Pools, clients, configuration.
    pub pools: Arc<Pools>,
    /// Buffers to work with.
    pub workspaces: Arc<Workspaces>,
}

/// A client that was admitted to a pool.
#[derive(Debug)]
pub struct Session {
    stream: Stream,
    client: Listed,
    pool: Arc<Pool>,
    pools: Arc<Pools>,
    workspaces: Arc<Workspaces>,
    /// The settings that the client has.
    state: State,
    /// Those that it has begun with.
    first: State,
    /// Those that connections to PostgreSQL begin with.
    plain: Plain,
    /// Its prepared statements.
    names: Names,
    /// How its texts are read at present.
    reader: Reader,
    /// What the turn may have done to the session.
    watch: Option<Box<Watch>>,
    /// Why it keeps its backend between transactions, if it does.
    pinned: Option<Box<Pinned>>,
    /// The channels that it listens to by way of the listening backend.
    channels: Vec<Box<[u8]>>,
    /// The backend that it keeps.
    lease: Option<Lease>,
    /// Others have been told of a pin.
    was_pinned: bool,
    /// What the session has left in the middle of a turn.
    wreck: Option<Box<Wreck>>,
    /// Where PostgreSQL's stream of messages stood then.
    down_scanner: Scanner,
    /// Where its stream of messages stands.
    scanner: Scanner,
    tally: Tally,
    /// Present while bytes are there that were not sent on.
    workspace: Option<Box<Workspace>>,
    /// Half a request, while many workspaces are out.
    half: Box<[u8]>,
    /// Nothing of our own can be sent to the client any more.
    mute: bool,
    /// The relay has registered for the client's next bytes, and nothing was read since.
    armed: bool,
}

/// What the first message of a turn asks for.
enum Need {
    /// More bytes.
    Bytes,
    /// A backend.
    Backend,
    /// Nothing more: the client leaves.
    Leave,
}

impl Session {
    /// A session of `client`, with the settings that its login ended with and the bytes that it has sent already
    /// (`early`, at most 64 KiB). `None` for a client that has joined no pool.
    #[must_use]
    pub fn new(stream: Stream, client: Listed, state: State, house: House, early: &[u8]) -> Option<Session> {
        let pool = client.record().pool()?;
        let House { pools, workspaces } = house;
        let mut session = Session {
            stream,
            client,
            tally: Tally::new(pool.shared.clock, Arc::clone(&pool.times)),
            plain: Plain::Own(pool.welcome().map_or_else(|| state.reported.clone(), |welcome| welcome.reported)),
            pool,
            pools,
            workspaces,
            first: state.clone(),
            state,
            names: Names::default(),
            reader: Reader::default(),
            watch: None,
            pinned: None,
            channels: Vec::new(),
            lease: None,
            was_pinned: false,
            wreck: None,
            down_scanner: Scanner::default(),
            scanner: Scanner::default(),
            workspace: None,
            half: Box::default(),
            mute: false,
            armed: false,
        };
        if !early.is_empty() {
            session.workspace.insert(session.workspaces.borrow()).up.restore(early);
        }
        Some(session)
    }

    /// Serves the client until it ends.
    pub async fn run(mut self) -> End {
        poll_fn(|cx| {
            self.client.record().interrupt.register(cx.waker());
            Poll::Ready(())
        })
        .await;
        loop {
            if let Err(end) = self.turn().await {
                self.tally.cut_short();
                self.tally.settle(&self.pool.counters);
                let (wreck, pool) = (self.wreck.take(), Arc::clone(&self.pool));
                let goodbye = async {
                    Box::pin(self.say_goodbye(&end)).await;
                    // The client counts no longer.
                    drop(self);
                };
                match wreck {
                    // What it held is not kept from others while it makes up its mind to hear why.
                    Some(wreck) => drop(tokio::join!(goodbye, Box::pin(wreck.salvage(&pool)))),
                    None => goodbye.await,
                }
                return end;
            }
        }
    }

    /// Waits for a request and serves one turn; in session mode all turns.
    async fn turn(&mut self) -> Result<(), End> {
        if let Some(lease) = self.lease.take() {
            let settings = self.pool.settings.load_full();
            self.workspace.get_or_insert_with(|| self.workspaces.borrow());
            return self.serve(lease, &settings).await;
        }
        while !poll_fn(|cx| self.poll_request(cx)).await? {
            Box::pin(self.deliver()).await?;
        }
        if self.pool.is_retiring() {
            self.move_on()?;
        }
        let mut settings = self.pool.settings.load_full();
        let now = self.tally.look();
        let lease = match self.pool.try_checkout(&settings) {
            Some(lease) if !lease.check_due(&settings, now) => lease,
            other => match Box::pin(self.wait_for_lease(other, &settings)).await? {
                Some(lease) => {
                    self.until_resumed().await?;
                    // It may have been long.
                    settings = self.pool.settings.load_full();
                    match lease.waited_until() {
                        Some(until) => self.tally.look_at(until),
                        None => self.tally.look(),
                    };
                    self.tally.waited(now);
                    lease
                }
                // The client cancelled what it was queued for, and was told so; or its pool retires.
                None => return Ok(()),
            },
        };
        if matches!(self.plain, Plain::Former(_)) {
            Box::pin(self.move_in()).await?;
        }
        let (record, now) = (self.client.record(), self.tally.assigned());
        record.enter(Phase::Running, now);
        lease.link(record, now);
        self.serve(lease, &settings).await
    }

    /// Waits while everything is suspended.
    async fn until_resumed(&self) -> Result<(), End> {
        poll_fn(|_| match ending(&self.client) {
            Some(end) => Poll::Ready(Err(end)),
            None if self.client.record().stands_still(&self.pool.shared.suspension) => Poll::Pending,
            None => Poll::Ready(Ok(())),
        })
        .await
    }

    /// Runs a turn on a lease and gives it back, unless the client is pinned to it.
    async fn serve(&mut self, mut lease: Lease, settings: &PoolSettings) -> Result<(), End> {
        if lease.backend().state != self.state {
            Box::pin(self.settle(&mut lease, settings)).await?;
        } else {
            self.client.record().set_link(Some(&lease.backend().record));
        }
        let result = self.relay(&mut lease, settings).await;
        if self.pinned.is_none() {
            self.client.record().set_link(None);
        }
        match result {
            Ok(leaving) => {
                self.keep_settings(&lease);
                self.tally.settle(&self.pool.counters);
                let doubtful = self.workspace.as_ref().is_some_and(|workspace| workspace.turn.doubtful());
                if doubtful && self.pinned.is_none() {
                    lease.close(Closing::Unclean);
                    self.flush_down().await?;
                } else if self.watch.is_some() || self.pinned.is_some() {
                    Box::pin(self.conclude(lease, leaving, settings)).await?;
                } else if settings.reset_query.is_empty() {
                    let count = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
                    self.client.record().prepared.store(count, std::sync::atomic::Ordering::Relaxed);
                    lease.release_at(settings, self.tally.moment());
                    self.flush_down().await?;
                } else {
                    // The answer is not kept waiting for the reset.
                    let flushed = self.flush_down().await;
                    Box::pin(lend::reset(lease, settings)).await;
                    flushed?;
                }
                if leaving { Err(End::Goodbye) } else { Ok(()) }
            }
            // Dropping the lease closes the backend.
            Err(end) => {
                if matches!(end, End::BackendDied(_)) {
                    self.pool.alarm();
                }
                let record = Arc::clone(&lease.backend().record);
                if end.leaves_backend() && !settings.death_grace.is_zero() {
                    self.wreck = self.abandon(lease, end.closing());
                }
                if self.wreck.is_none() {
                    record.close_because(end.closing());
                }
                Err(end)
            }
        }
    }

    /// What can be made good of a backend in the middle of a turn. Half a message on its way to PostgreSQL cannot.
    fn abandon(&mut self, lease: Lease, closing: Closing) -> Option<Box<Wreck>> {
        if !self.scanner.at_boundary() {
            return None;
        }
        let holds = self.pinned.take().map(|pinned| pinned.holds).unwrap_or_default();
        let touched = self.watch.is_some();
        let workspace = std::mem::replace(self.workspace.as_mut()?, self.workspaces.borrow());
        // What PostgreSQL has said and the client has not heard is for its goodbye.
        if let Some(own) = &mut self.workspace {
            own.down.insert(workspace.down.approved());
        }
        Some(Box::new(Wreck { lease, workspace, scanner: self.down_scanner, holds, touched, closing }))
    }

    /// Ends a turn that may have done something to the session, or of a pinned client.
    async fn conclude(&mut self, mut lease: Lease, leaving: bool, settings: &PoolSettings) -> Result<(), End> {
        let mut watch = self.watch.take();
        let unlistens = watch.as_ref().is_some_and(|watch| !watch.unlistens.is_empty());
        if (self.pinned.is_some() || unlistens) && !leaving {
            // Who gives a pin up makes room for another before anybody hears of it, and who does not listen any more hears
            // nothing once he was told so.
            if let Some(watch) = watch.take() {
                self.inspect(&mut lease, watch, settings).await?;
            }
        }
        // Else the answer is not kept waiting.
        let flushed = self.flush_down().await;
        if leaving || flushed.is_err() {
            let holds = self.pinned.take().map(|pinned| pinned.holds).unwrap_or_default();
            self.client.record().set_link(None);
            if Session::clean(&mut lease, holds, settings).await {
                lease.release();
            }
            return flushed;
        }
        if let Some(watch) = watch {
            self.inspect(&mut lease, watch, settings).await?;
        }
        self.tell_settings(&lease).await?;
        if let Some(lease) = self.keep_if_pinned(lease) {
            self.client.record().set_link(None);
            if settings.reset_query.is_empty() {
                lease.release();
            } else {
                lend::reset(lease, settings).await;
            }
        }
        Ok(())
    }

    /// Relays one turn; answers whether the client has said goodbye.
    async fn relay(&mut self, lease: &mut Lease, settings: &PoolSettings) -> Result<bool, End> {
        let Some(workspace) = self.workspace.as_mut() else { return Ok(false) };
        self.reader.follow(&self.state);
        let parties = Parties {
            client: &mut self.stream,
            backend: lease.backend_mut(),
            workspace,
            tally: &mut self.tally,
            scanner: &mut self.scanner,
            names: &mut self.names,
            watch: &mut self.watch,
            reader: &self.reader,
            record: self.client.record(),
            pool: &self.pool,
            listeners: &self.pools.listeners,
            settings,
            pinned: self.pinned.is_some(),
            hears: self.pinned.as_ref().is_some_and(|pinned| pinned.holds.features.contains(Feature::Listen)),
        };
        let mut relay = Relay::new(parties);
        relay.begin()?;
        let result = poll_fn(|cx| relay.poll(cx)).await;
        let (boundary, armed) = (relay.client_at_boundary(), relay.client_armed());
        let idle = relay.idle();
        self.armed = armed;
        self.down_scanner = relay.backend_scanner();
        match result {
            // A session that ends while nothing is owed leaves a clean backend behind.
            Err(End::ClientClosed) if idle => Ok(true),
            Err(end) if !boundary => {
                // Half a message is on its way; an error within it would be read as its rest.
                self.mute = true;
                Err(end)
            }
            other => other,
        }
    }

    /// Takes over what PostgreSQL reported in this turn.
    fn keep_settings(&mut self, lease: &Lease) {
        let reported = &lease.backend().state.reported;
        if self.state.reported != *reported {
            self.state.reported = reported.clone();
            self.client.record().publish(reported);
        }
    }

    /// Sends the client what is left of the turn.
    async fn flush_down(&mut self) -> Result<(), End> {
        let Some(workspace) = self.workspace.as_mut() else { return Ok(()) };
        poll_fn(|cx| {
            while !workspace.down.approved().is_empty() {
                if let Some(end) = ending(&self.client) {
                    return Poll::Ready(Err(end));
                }
                match ready!(self.stream.poll_write(cx, workspace.down.approved())) {
                    Ok(sent) => workspace.down.sent(sent),
                    Err(error) => return Poll::Ready(Err(End::ClientBroke(error))),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        if workspace.up.is_empty() {
            self.return_workspace();
        } else {
            workspace.prepare();
        }
        Ok(())
    }

    /// Gives the client the notifications that have come for it.
    async fn deliver(&mut self) -> Result<(), End> {
        let Some(mailbox) = self.client.record().mailbox() else { return Ok(()) };
        let mut messages = Vec::new();
        mailbox.take(&mut messages);
        self.stream.write_all(&messages).await.map_err(End::ClientBroke)
    }

    /// The same as `poll_first_bytes`, and ends the session of a client that is silent and was asked to leave, or that is
    /// hurried.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, End>> {
        if self.client.record().interrupt.is_hurried() {
            return Poll::Ready(Err(End::Interrupted(Reason::Shutdown)));
        }
        let polled = self.poll_first_bytes(cx);
        if polled.is_pending() && self.client.record().interrupt.asked_to_leave() && self.is_silent() {
            return Poll::Ready(Err(End::Interrupted(Reason::Shutdown)));
        }
        polled
    }

    /// Whether no part of a request has come, as far as the runtime or the system knows.
    fn is_silent(&self) -> bool {
        let nothing_read = self.half.is_empty() && self.workspace.as_ref().is_none_or(|held| held.up.is_empty());
        nothing_read && self.scanner.at_boundary() && !self.stream.readable()
    }

    /// Reads until there is a request that needs a backend, or answers `false` where there is something to deliver. What PostgreSQL would ignore between two transactions is
    /// dropped here. Without bytes, no workspace is held.
    fn poll_first_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, End>> {
        loop {
            if let Some(end) = ending(&self.client) {
                return Poll::Ready(Err(end));
            }
            if self.client.record().stands_still(&self.pool.shared.suspension) {
                return Poll::Pending;
            }
            if self.client.record().mailbox().is_some_and(|mailbox| !mailbox.is_empty()) {
                return Poll::Ready(Ok(false));
            }
            match self.look()? {
                Need::Backend => return Poll::Ready(Ok(true)),
                Need::Leave => return Poll::Ready(Err(End::Goodbye)),
                Need::Bytes => {}
            }
            if self.workspace.as_ref().is_some_and(|workspace| workspace.up.is_empty()) {
                self.return_workspace();
            }
            if self.workspace.is_none() {
                // A task's waker stays the same, and one that is registered stays so until it is woken.
                if std::mem::take(&mut self.armed) && !self.stream.readable() {
                    return Poll::Pending;
                }
                ready!(self.stream.poll_read_ready(cx)).map_err(End::ClientBroke)?;
            }
            let workspace = self.workspace.get_or_insert_with(|| {
                let mut workspace = self.workspaces.borrow();
                workspace.up.restore(&std::mem::take(&mut self.half));
                workspace
            });
            match self.stream.poll_read(cx, workspace.up.room()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(End::ClientClosed)),
                Poll::Ready(Ok(read)) => {
                    workspace.up.filled(read);
                    self.tally.received += read as u64;
                    self.armed = false;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(End::ClientBroke(error))),
                Poll::Pending => {
                    if workspace.up.is_empty() || workspace.crowded {
                        self.half = workspace.up.unjudged().into();
                        self.return_workspace();
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Looks at the bytes that were read without taking the first message that needs a backend. A request that is not
    /// there as a whole yet needs none, unless it is too long to be kept.
    fn look(&mut self) -> Result<Need, End> {
        let Some(workspace) = self.workspace.as_mut() else { return Ok(Need::Bytes) };
        let grammar = request_grammar(u32::MAX);
        loop {
            let mut scanner = self.scanner;
            let next = scanner.next(workspace.up.unjudged(), &grammar).map_err(End::ClientViolation)?;
            let Some(piece) = next else { return Ok(Need::Bytes) };
            match piece.tag {
                front::TERMINATE => return Ok(Need::Leave),
                // The end of a COPY that PostgreSQL has refused, and a Flush with nothing to flush.
                front::COPY_DATA | front::COPY_DONE | front::COPY_FAIL | front::FLUSH => {
                    let length = piece.bytes.len();
                    workspace.up.discard(length);
                    self.scanner = scanner;
                }
                _ => return Ok(Need::Backend),
            }
        }
    }

    fn return_workspace(&mut self) {
        if let Some(workspace) = self.workspace.take() {
            self.workspaces.give_back(workspace);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.return_workspace();
    }
}

/// The reason that ends a session, if somebody has raised one.
fn ending(client: &Listed) -> Option<End> {
    let interrupt = &client.record().interrupt;
    let reason = interrupt.raised()?;
    interrupt.clear();
    (!reason.passes()).then_some(End::Interrupted(reason))
}
