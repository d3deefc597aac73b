//! A client that knows what it has set, and looks whether that and nothing else is so.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{Mischief, ROWS, TENANTS};
use crate::support::{
    Raw,
    messages::{query, terminate},
    random::Random,
    raw::NoMessage,
    reply::Row,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// What all clients share.
pub(super) struct Shared<'a> {
    pub(super) mischief: &'a [Mischief],
    over: AtomicBool,
    pub(super) turns: AtomicUsize,
    pub(super) rows: AtomicUsize,
    pub(super) looks: AtomicUsize,
    pub(super) logins: AtomicUsize,
    pub(super) kills: AtomicUsize,
    pub(super) cancels: AtomicUsize,
    /// Statements that would have pinned one backend too many.
    pub(super) unpinned: AtomicUsize,
    /// Sessions that ended otherwise than by their clients' own doing.
    lost: AtomicUsize,
    terminated: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

pub(super) struct Client<'a> {
    pub(super) number: usize,
    pub(super) shared: &'a Shared<'a>,
    pub(super) random: Random,
    pub(super) raw: Raw,
    pub(super) port: u16,
    pub(super) state: State,
}

/// What the session has set.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) tenant: Option<String>,
    pub(super) role: Option<String>,
    pub(super) path: bool,
    /// Advisory locks.
    pub(super) locks: usize,
    /// The token in each prepared statement by message, and in SQL's own.
    pub(super) named: [Option<String>; 3],
    pub(super) prepared: Option<String>,
}

/// Rows, and the SQLSTATE of an error.
pub(super) type Answer = (Vec<Row>, Option<String>);

/// Why a client has to connect again.
pub(super) struct Lost;

impl<'a> Shared<'a> {
    pub(super) fn new(mischief: &'a [Mischief]) -> Self {
        Self {
            mischief,
            over: AtomicBool::default(),
            turns: AtomicUsize::default(),
            rows: AtomicUsize::default(),
            looks: AtomicUsize::default(),
            logins: AtomicUsize::default(),
            kills: AtomicUsize::default(),
            cancels: AtomicUsize::default(),
            unpinned: AtomicUsize::default(),
            lost: AtomicUsize::default(),
            terminated: AtomicUsize::default(),
            wrong: Mutex::default(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    pub(super) fn finish(&self, terminated: usize) {
        self.terminated.store(terminated, Relaxed);
        self.over.store(true, Relaxed);
    }

    /// Whether enough has happened; `terminated` backends were.
    pub(super) fn has_enough(&self, terminated: usize) -> bool {
        let count = |count: &AtomicUsize| count.load(Relaxed);
        let kinds = [
            (Mischief::Deaths, count(&self.kills)),
            (Mischief::Cancels, count(&self.cancels)),
            (Mischief::Terminations, terminated * 5),
        ];
        let few = kinds.iter().any(|(kind, count)| self.mischief.contains(kind) && *count <= 50);
        !few && count(&self.turns) > 2000
            && count(&self.rows) > 2000
            && count(&self.looks) > 500
            && count(&self.logins) > 100
    }

    /// Nothing was wrong, and enough was looked at.
    pub(super) fn check(&self) {
        let count = |count: &AtomicUsize| count.load(Relaxed);
        let (turns, rows, looks, logins) =
            (count(&self.turns), count(&self.rows), count(&self.looks), count(&self.logins));
        let (kills, cancels, terminated) = (count(&self.kills), count(&self.cancels), count(&self.terminated));
        let (lost, unpinned) = (count(&self.lost), count(&self.unpinned));
        eprintln!(
            "{turns} turns, {rows} rows checked, {looks} looks at settings, {logins} logins, {kills} clients killed, \
             {cancels} cancel requests, {unpinned} pins refused, {terminated} backends terminated, {lost} sessions lost"
        );
        let wrong = self.wrong.lock().unwrap();
        assert!(
            wrong.is_empty(),
            "{} things are wrong, among them:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(8)].join("\n")
        );
        assert!(lost <= terminated, "a backend that is terminated takes one client with it at most");
        assert!(self.has_enough(terminated), "too little has happened");
    }
}

impl<'a> Client<'a> {
    pub(super) fn connect(port: u16, number: usize, shared: &'a Shared<'a>, random: Random) -> Self {
        let mut raw = Raw::login(port, "alice", "alicepw", "app");
        raw.set_read_timeout(PATIENCE);
        shared.logins.fetch_add(1, Relaxed);
        Self { number, shared, random, raw, port, state: State::default() }
    }

    pub(super) fn run(mut self) {
        let mut new = true;
        while !self.shared.is_over() {
            // Whoever has set nothing must find nothing.
            let done = if new { self.look() } else { self.turn() };
            new = false;
            self.shared.turns.fetch_add(1, Relaxed);
            if let Err(Lost) = done {
                self = Self::connect(self.port, self.number, self.shared, self.random);
                new = true;
            }
        }
        let _ = self.raw.try_send(&terminate());
    }

    fn turn(&mut self) -> Result<(), Lost> {
        match self.random.below(8) {
            0 => self.look(),
            1 => self.own_rows(),
            2 if self.random.once_in(4) => self.leave(),
            _ => match self.shared.mischief[self.random.below(self.shared.mischief.len())] {
                Mischief::Local => self.local(),
                Mischief::Settings => self.set_tenant(),
                Mischief::Roles => self.set_role(),
                Mischief::Paths => self.set_path(),
                Mischief::Named => self.named(),
                Mischief::SqlPrepare => self.sql_prepare(),
                Mischief::Pins => self.pin(),
                Mischief::Cancels => self.canceled(),
                Mischief::Deaths => self.vanish(),
                // The test does it.
                Mischief::Terminations => self.own_rows(),
            },
        }
    }

    /// Everything that a session can see of what it or others have set.
    pub(super) fn look(&mut self) -> Result<(), Lost> {
        let sql = "select coalesce(current_setting('app.tenant', true), ''), current_user, \
                   current_setting('search_path'), to_regclass('pg_temp.scratch') is null, \
                   (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())";
        let rows = self.rows_of(&query(sql))?;
        let path = if self.state.path { format!("c{}, public", self.number) } else { "\"$user\", public".to_owned() };
        let wanted = [
            self.state.tenant.clone().unwrap_or_default(),
            self.state.role.clone().unwrap_or_else(|| "alice".to_owned()),
            path,
            "t".to_owned(),
            self.state.locks.to_string(),
        ];
        self.shared.looks.fetch_add(1, Relaxed);
        self.expect(sql, &rows, &[wanted.map(Some).to_vec()])?;
        if self.state.path {
            let name = format!("c{}", self.number);
            self.expect_tokens("select name from place", &name, 1)?;
        }
        Ok(())
    }

    /// The rows of the tenant that the session has set.
    pub(super) fn own_rows(&mut self) -> Result<(), Lost> {
        let (tenant, rows) = self.own();
        self.expect_tokens("select tenant from owned", &tenant, rows)
    }

    /// The session's tenant and how many rows it has.
    pub(super) fn own(&self) -> (String, usize) {
        let rows = if self.state.tenant.is_some() { ROWS } else { 0 };
        (self.state.tenant.clone().unwrap_or_default(), rows)
    }

    /// One of the client's own tenants.
    pub(super) fn tenant(&mut self) -> String {
        format!("c{}.{}", self.number, self.random.below(TENANTS))
    }

    /// A value that nobody else has and that it has not had.
    pub(super) fn token(&mut self) -> String {
        format!("c{}.{:x}", self.number, self.random.next())
    }

    fn leave(&mut self) -> Result<(), Lost> {
        let _ = self.raw.try_send(&terminate());
        Err(Lost)
    }

    /// Runs a Query that gives so many rows with this token.
    pub(super) fn expect_tokens(&mut self, sql: &str, token: &str, count: usize) -> Result<(), Lost> {
        let rows = self.rows_of(&query(sql))?;
        self.expect(sql, &rows, &vec![vec![Some(token.to_owned())]; count])
    }

    pub(super) fn expect(&mut self, what: &str, rows: &[Row], wanted: &[Row]) -> Result<(), Lost> {
        self.shared.rows.fetch_add(rows.len(), Relaxed);
        if rows == wanted {
            return Ok(());
        }
        Err(self.wrong(&format!("{what}\n  gave   {rows:?}\n  wanted {wanted:?}")))
    }

    /// Writes down what is wrong, and ends the test.
    pub(super) fn wrong(&mut self, what: &str) -> Lost {
        let report = format!("client {} with {:?}: {what}", self.number, self.state);
        self.shared.wrong.lock().unwrap().push(report);
        self.shared.over.store(true, Relaxed);
        Lost
    }

    fn lost(&self) -> Lost {
        self.shared.lost.fetch_add(1, Relaxed);
        Lost
    }

    /// Runs what must not fail.
    pub(super) fn run_all(&mut self, statements: &[&str]) -> Result<(), Lost> {
        statements.iter().try_for_each(|sql| self.rows_of(&query(sql)).map(drop))
    }

    /// Runs what must fail.
    pub(super) fn fails(&mut self, sql: &str, wanted: &str) -> Result<(), Lost> {
        match self.answer_to(&query(sql))? {
            (_, Some(code)) if code == wanted => Ok(()),
            other => Err(self.wrong(&format!("{sql}: {other:?} and not {wanted}"))),
        }
    }

    /// Sends what is answered by one ReadyForQuery and no error.
    pub(super) fn rows_of(&mut self, bytes: &[u8]) -> Result<Vec<Row>, Lost> {
        match self.answer_to(bytes)? {
            (rows, None) => Ok(rows),
            (_, Some(code)) => Err(self.wrong(&format!("{}: {code}", bytes.escape_ascii()))),
        }
    }

    pub(super) fn answer_to(&mut self, bytes: &[u8]) -> Result<Answer, Lost> {
        // What went wrong is said by what can be read.
        let _ = self.raw.try_send(bytes);
        self.answer()
    }

    pub(super) fn answer(&mut self) -> Result<Answer, Lost> {
        let (mut rows, mut code) = (Vec::new(), None);
        loop {
            let message = match self.raw.try_read() {
                Ok(message) => message,
                Err(NoMessage::Closed) => return Err(self.lost()),
                Err(NoMessage::InTime) => return Err(self.wrong("no answer")),
            };
            match message.tag {
                b'D' => rows.push(message.row()),
                b'E' => {
                    let error = message.error();
                    if error.severity == "FATAL" {
                        let expected = matches!(error.code.as_str(), "57P01" | "08006");
                        return Err(if expected { self.lost() } else { self.wrong(&format!("{error:?}")) });
                    }
                    code = Some(error.code);
                }
                b'Z' => return Ok((rows, code)),
                _ => {}
            }
        }
    }
}
