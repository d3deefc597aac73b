//! Fuzz target: sessions between clients and a PostgreSQL that all do what they like, in stopped time.
//!
//! Two clients share one or two connections. The bytes say what happens, one thing after the other: a client sends a
//! right message, a changed one, something else, or leaves; PostgreSQL answers what is next, says something that nobody
//! asked for, closes. Each request carries a token, and each row that comes of it the same. What has to hold:
//!
//! - no client is sent a token of another's, nor anything that is no message;
//! - no request reaches a connection that still owes another client something, or is in its transaction; nor one that
//!   has said what is no message;
//! - no request runs with another client's setting;
//! - a PostgreSQL that only says what PostgreSQL says breaks no protocol, and a client that only sends right messages is
//!   served to the end by it;
//! - what is kept of bytes that one side has sent and the other has not read is bounded;
//! - everything ends.

mod answers;
mod client;
mod input;
mod postgres;
mod stage;
mod token;

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use client::Client;
use input::{Input, pick};
use postgres::{Copying, Postgres, Stage as Standing};
use stage::Stage;

use crate::net::Micros;
use crate::pool::{Reason, sweep};
use crate::session::End;
use crate::wire::scan::Violation;
use crate::wire::tag::{back, front};
use crate::wire::write::{Report, message, parameter_status};

/// Most actions of one run.
const ACTIONS: usize = 256;
/// Rounds of sending and reading after which it has to be quiet.
const ROUNDS: usize = 4000;
/// Bytes that may be on their way, what the sockets hold included.
const MOST_UNREAD: usize = 2 << 20;
/// Longest that clearing up may take.
const LONGEST: Duration = Duration::from_secs(600);

/// One run.
struct Run {
    stage: Stage,
    clients: [Client; 2],
    postgres: Vec<Postgres>,
    /// Connections that PostgreSQL has seen, cancel requests included.
    seen: u32,
    /// PostgreSQL lets nobody in.
    refuses: bool,
    /// Everything that PostgreSQL has said is what PostgreSQL says.
    honest: bool,
    /// It has closed connections, or has made requests fail.
    faulty: bool,
    /// Every client has only sent right messages.
    clients_honest: bool,
    /// Sessions were interrupted, or may be by a limit.
    interrupted: bool,
    /// A COPY FROM STDIN has begun.
    copies: bool,
    /// A client has sent a request within one, as PostgreSQL has seen.
    within: bool,
    /// How much has moved.
    moved: usize,
    /// What PostgreSQL has sent and no client has read, since somebody does not read.
    unread: usize,
    room: Vec<u8>,
    swept: Micros,
    ends: Vec<End>,
}

/// Runs what `data` says, with a socket in `dir`. The runtime's time has to be stopped, and the caller's task be all
/// that it has.
///
/// # Panics
/// Where something does not hold that has to.
#[doc(hidden)]
pub async fn fuzz(data: &[u8], dir: &Path) {
    let mut input = Input(data);
    let run = Run::begin(input.next().unwrap_or_default(), dir).await;
    assert!(run.is_some(), "no pool in {}", dir.display());
    let Some(mut run) = run else { return };
    for _ in 0..ACTIONS {
        let Some(what) = input.next() else { break };
        let detail = input.next().unwrap_or_default();
        run.act(what, detail, &mut input).await;
    }
    run.finish().await;
}

fn settings(choice: u8) -> String {
    let mode = pick(&["transaction", "transaction", "statement", "session"], choice & 3);
    let statements = pick(&[3, 1, 200, 2], choice >> 2 & 3);
    format!(
        "pool_mode={mode:?}\ndefault_pool_size={}\nmin_pool_size=1\nmax_prepared_statements={statements}\n\
         server_reset_query_always={}\nidle_transaction_timeout={}\nquery_timeout={}\n",
        1 + (choice >> 4 & 1),
        choice & 0x20 != 0,
        choice >> 6 & 1,
        (choice >> 7) * 2,
    )
}

impl Run {
    async fn begin(choice: u8, dir: &Path) -> Option<Run> {
        let outer = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let mut run = Run {
            stage: Stage::open(dir, &settings(choice), &outer)?,
            clients: [0, 1].map(Client::at),
            postgres: Vec::new(),
            seen: 0,
            refuses: false,
            honest: true,
            faulty: false,
            clients_honest: true,
            interrupted: choice >= 0x40,
            copies: false,
            within: false,
            moved: 0,
            unread: 0,
            room: vec![0; 16 * 1024],
            swept: 0,
            ends: Vec::new(),
        };
        run.settle().await;
        Some(run)
    }

    async fn act(&mut self, what: u8, detail: u8, input: &mut Input<'_>) {
        let slot = usize::from(what & 1);
        let action = what >> 1 & 15;
        if action < 10 {
            self.client(slot, action, detail, input);
            // Else it goes on before anybody has looked.
            if what & 0x80 == 0 {
                self.settle().await;
            }
            return;
        }
        self.settle().await;
        match action {
            10 | 11 => {
                self.work(slot, usize::from(detail & 7) + 1, detail & 0xc0 == 0xc0);
            }
            12 => self.lie(slot, detail),
            13 => self.misbehave(slot, detail, input),
            14 => {
                // What the pooler asks has its limits.
                let asked = self.postgres.iter().any(|postgres| !postgres.inbox.is_empty());
                self.faulty |= asked && detail % 7 > 3;
                let time = pick(&[1, 20, 50, 400, 2000, 6000, 40_000], detail);
                self.sleep(Duration::from_millis(time)).await;
            }
            _ => {
                let reasons = [Reason::Canceled, Reason::Notify, Reason::QueryTimeout, Reason::Killed];
                let reason = reasons.get(usize::from(detail & 3)).copied().unwrap_or(Reason::Notify);
                self.interrupted = true;
                let all = self.stage.pools.clients.all();
                if let Some(client) = all.get(usize::from(detail >> 2) % all.len().max(1)) {
                    client.interrupt.raise(reason);
                }
            }
        }
        self.settle().await;
    }

    /// What a client does.
    fn client(&mut self, slot: usize, action: u8, detail: u8, input: &mut Input<'_>) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        if client.socket.is_none() {
            let Some(socket) = self.stage.connect() else { return };
            client.begin(socket);
        }
        match action {
            0 => {
                let text = client.text(detail);
                client.query(&text);
            }
            1 => client.parse(detail, input),
            2 => client.bind(detail),
            3 => client.named(if detail & 0x20 == 0 { front::DESCRIBE } else { front::CLOSE }, detail),
            4 => client.execute(detail),
            5 => match detail % 8 {
                0 => client.message(front::FLUSH, b""),
                1 => client.message(front::FUNCTION_CALL, &[0; 12]),
                2 => client.message(front::COPY_DATA, b"1\n"),
                3 => client.message(front::COPY_DONE, b""),
                4 => client.message(front::COPY_FAIL, b"no\0"),
                _ => client.message(front::SYNC, b""),
            },
            6 => {
                // All in one flight.
                client.parse(detail, input);
                if detail & 0x40 != 0 {
                    client.named(front::DESCRIBE, detail | 0x80);
                }
                client.bind(detail & 0x3f);
                client.execute(0);
                client.message(front::SYNC, b"");
            }
            7 => client.change(detail, input.next().unwrap_or(1)),
            8 => client.raw(input.take(usize::from(detail % 64))),
            _ => match detail % 8 {
                0 => client.message(front::TERMINATE, b""),
                1 => client.socket = None,
                2 => {
                    if let Some(socket) = &client.socket {
                        // It may be closed already.
                        let _ = socket.shutdown(std::net::Shutdown::Write);
                        client.honest = false;
                    }
                }
                3 => client.deaf = !client.deaf,
                _ => client.hold(detail / 8),
            },
        }
    }

    /// The connection of this place among those that are open.
    fn connection(&mut self, place: usize) -> Option<&mut Postgres> {
        let open = self.postgres.iter_mut().filter(|postgres| postgres.stage == Standing::Open);
        let mut open: Vec<_> = open.collect();
        let place = place % open.len().max(1);
        (place < open.len()).then(|| open.swap_remove(place))
    }

    /// PostgreSQL answers what is next.
    fn work(&mut self, place: usize, count: usize, fails: bool) {
        self.faulty |= fails;
        let Some(postgres) = self.connection(place) else { return };
        for _ in 0..count {
            postgres.work(fails);
        }
    }

    /// PostgreSQL says what it should not, in right messages.
    fn lie(&mut self, place: usize, detail: u8) {
        const TAGS: &[u8; 24] = b"ZZZZCCCCEED123nsItTGHcVW";
        let Some(postgres) = self.connection(place) else { return };
        let tag = pick(TAGS, detail);
        let holder = postgres.holder.map(token::Token::text).unwrap_or_default();
        let mut out = Vec::new();
        message(&mut out, tag, |out| match tag {
            back::READY => out.push(pick(b"ITEx", detail)),
            back::COMMAND_COMPLETE => {
                out.extend_from_slice(pick(&[&b"SET\0"[..], b"DISCARD ALL\0", b"PREPARE\0", b"SELECT 1\0"], detail));
            }
            back::DATA_ROW => out.extend_from_slice(&[&[0, 1, 0, 0, 0, 10], holder.as_bytes()].concat()),
            back::ERROR => {
                let mut report = Vec::new();
                let (severity, code) = if detail & 1 == 0 { ("ERROR", "26000") } else { ("FATAL", "57P01") };
                Report::new(severity, code, format!("cached plan must not change result type {holder}"))
                    .write(&mut report);
                out.extend_from_slice(report.get(5..).unwrap_or_default());
            }
            back::ROW_DESCRIPTION | back::PARAMETER_DESCRIPTION => out.extend_from_slice(&[0, 0]),
            back::COPY_IN | back::COPY_OUT | back::COPY_BOTH => out.extend_from_slice(&[0, 0, 0]),
            back::FUNCTION_RESULT => out.extend_from_slice(&[0xff; 4]),
            _ => {}
        });
        postgres.lie(&out);
        self.honest = false;
    }

    /// PostgreSQL does something else that it should not, or may.
    fn misbehave(&mut self, place: usize, detail: u8, input: &mut Input<'_>) {
        match detail % 8 {
            0 => {
                self.refuses = !self.refuses;
                self.faulty = true;
                return;
            }
            1 | 2 => {
                self.honest = false;
                if let Some(postgres) = self.connection(place) {
                    let mut bytes = input.take(usize::from(detail >> 3)).to_vec();
                    token::unmark(&mut bytes);
                    postgres.lie(&bytes);
                }
                return;
            }
            3 => self.faulty = true,
            _ => {}
        }
        let Some(postgres) = self.connection(place) else { return };
        match detail % 8 {
            3 => postgres.stage = Standing::Closed,
            4 => Report::new("NOTICE", "00000", "by the way").write_notice(&mut postgres.out),
            5 => parameter_status(&mut postgres.out, "in_hot_standby", if detail & 8 == 0 { b"on" } else { b"off" }),
            6 => postgres.held = usize::from(detail / 8),
            _ => {
                // Much, for whoever is next.
                let rows = [b"D\0\0\x40\0\0\x01\0\0\x3f\xf6".to_vec(), vec![b'x'; 0x3ff6]].concat();
                postgres.lie(&rows.repeat(usize::from(detail / 8) * 4));
                self.honest = false;
            }
        }
    }

    /// Everything that can be sent and read is, until nobody has anything more to do.
    async fn settle(&mut self) {
        let mut rounds = 0;
        loop {
            let mut moved = self.stage.poll(&mut self.ends);
            // The runtime looks at its sockets.
            tokio::task::yield_now().await;
            moved |= self.exchange();
            rounds += 1;
            assert!(rounds < ROUNDS, "it does not become quiet");
            if !moved && !self.stage.poll(&mut self.ends) {
                break;
            }
        }
        if !self.honest {
            let links = self.links();
            for (postgres, client) in self.postgres.iter_mut().zip(links) {
                postgres.quiet(client.unwrap_or_default());
            }
        }
        self.judge_ends();
    }

    /// Sends and reads at all outer ends; answers whether anything moved.
    fn exchange(&mut self) -> bool {
        let before = (self.moved, self.seen);
        let deaf = self.clients.iter().any(|client| client.deaf);
        let mut canceled = Vec::new();
        let links = self.links();
        for (postgres, client) in self.postgres.iter_mut().zip(links) {
            let (read, sent) = (postgres.read(&mut self.room, client), postgres.flush());
            self.faulty |= postgres.ends;
            self.copies |= postgres.copying != Copying::No;
            self.within |= postgres.within;
            self.moved += read + sent;
            self.unread += sent;
            if let Standing::Cancel(id) = postgres.stage {
                canceled.push(id);
                postgres.stage = Standing::Closed;
            }
        }
        for postgres in self.postgres.iter_mut().filter(|postgres| canceled.contains(&postgres.id)) {
            postgres.canceled = !postgres.inbox.is_empty();
        }
        let count = self.postgres.len();
        self.postgres.retain(|postgres| postgres.stage != Standing::Closed);
        for client in &mut self.clients {
            let (sent, read) = (client.flush(), client.read(&mut self.room, self.honest));
            self.moved += sent + read;
            self.unread = self.unread.saturating_sub(read);
            self.clients_honest &= client.honest || client.socket.is_none();
        }
        let wrecks = self.stage.pools.clients.len() < self.stage.sessions();
        if !deaf || wrecks || self.postgres.len() < count {
            // What a connection had sent ends with it; what a client has left is read for nobody.
            self.unread = 0;
        }
        assert!(self.unread < MOST_UNREAD, "{} bytes are kept for clients that do not read", self.unread);
        if before.0 == self.moved {
            // Seldom, and costs a system call.
            while let Ok((socket, _)) = self.stage.listener.accept() {
                self.seen += 1;
                if !self.refuses && socket.set_nonblocking(true).is_ok() {
                    self.postgres.push(Postgres::new(self.seen, socket));
                }
            }
        }
        before != (self.moved, self.seen)
    }

    /// The client that has each connection, where it is open.
    fn links(&self) -> Vec<Option<u64>> {
        let backends = if self.honest { Vec::new() } else { self.stage.pool.backends() };
        let link = |postgres: &Postgres| backends.iter().find(|backend| backend.process_id == postgres.id);
        self.postgres.iter().map(|postgres| link(postgres).map(|backend| backend.link())).collect()
    }

    /// Whether only limits of the pool's may end a session that has not ended by itself.
    fn all_right(&self) -> bool {
        self.honest && !self.faulty && !self.within && self.clients_honest && !self.interrupted
    }

    fn judge_ends(&mut self) {
        for end in std::mem::take(&mut self.ends) {
            let fine = match &end {
                End::BackendViolation(_) => !self.honest || self.within,
                End::BackendDied(_) | End::Settings(_) | End::Unavailable(_) => !self.honest || self.faulty,
                // A request within a COPY.
                End::ClientViolation(Violation::Type(_)) => !self.clients_honest || !self.honest || self.copies,
                End::ClientViolation(Violation::Length { .. }) => !self.clients_honest,
                End::Interrupted(reason) => self.interrupted || *reason == Reason::QueryWaitTimeout,
                End::Goodbye | End::ClientClosed | End::ClientBroke(_) | End::StatementMode => true,
            };
            assert!(fine, "a session ends with {end:?}");
        }
    }

    async fn sleep(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < until {
            let mut sleep = pin!(tokio::time::sleep_until(until));
            // Whoever is woken before goes on before.
            poll_fn(|cx| {
                let slept = sleep.as_mut().poll(cx).is_ready();
                if self.stage.poll(&mut self.ends) || slept { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            self.settle().await;
        }
        sweep(&self.stage.pools, self.swept);
        self.swept = self.stage.pools.shared.clock.now();
        self.settle().await;
    }

    /// Everybody does from here on what is right: clients that can are served, and everything ends.
    async fn finish(&mut self) {
        self.refuses = false;
        for client in &mut self.clients {
            client.deaf = false;
            client.unhold();
        }
        self.settle().await;
        self.clients[1].socket = None;
        self.drive(|run| run.stage.sessions() <= usize::from(run.clients[0].socket.is_some())).await;
        let client = &mut self.clients[0];
        if client.socket.is_some() {
            client.message(front::COPY_FAIL, b"end\0");
            client.message(front::SYNC, b"");
            client.query("rollback");
            let token = client.token();
            client.query(&format!("select '{token}'"));
            let honest = self.all_right();
            self.drive(|run| run.clients[0].served()).await;
            let client = &self.clients[0];
            assert!(!honest || client.served(), "a client is not served: {client:?}, {:?}", self.postgres);
        }
        self.clients[0].socket = None;
        self.drive(|run| run.stage.sessions() == 0).await;
        assert!(self.stage.sessions() == 0 && self.stage.pools.clients.is_empty(), "a session does not end");
        let counts = self.stage.pool.counts();
        assert!(
            counts.waiting == 0 && counts.total == counts.idle + counts.opening,
            "a connection is lost: {counts:?}"
        );
    }

    /// PostgreSQL answers what it is asked until `done`, but not for ever.
    async fn drive(&mut self, done: impl Fn(&Run) -> bool) {
        let end = tokio::time::Instant::now() + LONGEST;
        while tokio::time::Instant::now() < end {
            for postgres in &mut self.postgres {
                postgres.held = 0;
                while !postgres.inbox.is_empty() && !postgres.ends {
                    postgres.work(false);
                }
            }
            self.settle().await;
            if self.postgres.iter().all(|postgres| postgres.inbox.is_empty() || postgres.ends) {
                if done(self) {
                    break;
                }
                self.sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
