//! A session of the console: greeting, then message by message until somebody ends it.
//!
//! One statement at a time, in order, by one task; the transaction status is always idle.

use std::sync::Arc;

use bytes::Bytes;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::{BackendKeyData, ParameterStatus, SecretKey};

use super::columns::Cell;
use super::command::{Command, parse};
use super::control::{self, Stop, refusal};
use super::encode::{Format, data_row, description, put};
use super::extended::{Described, Execution, Prepared};
use super::link::{Incoming, Link};
use super::said::{say_end, say_error};
use super::show::{Answer, show};
use super::{ConsoleEnd, Context, Role, fakes, message};
use crate::metrics::add;
use crate::net::{Micros, Stream};
use crate::pool::{ClientRecord, Phase, Suspended, reason_report};
use crate::wire::sqlstate;
use crate::wire::tag::front;
use crate::wire::write::Report;

/// Serves a client that was let into the console and was sent AuthenticationOk, until one of the two ends it.
///
/// Cancel safety: none; the connection is lost with the future, what it commanded stays done.
pub async fn serve(stream: Stream, client: &Arc<ClientRecord>, role: Role, context: Context) -> ConsoleEnd {
    let link = Link::new(stream, client);
    let mut console = Console {
        link,
        client,
        role,
        context,
        prepared: Prepared::default(),
        suspended: None,
        skipping: false,
        sets: false,
    };
    let end = match console.run().await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    say_end(&end, client, &console.context.pools);
    if let Some(last) = farewell(&end) {
        console.link.leave(&last);
    }
    end
}

/// What a client is told at the end, where there is something to tell and somebody to tell it.
fn farewell(end: &ConsoleEnd) -> Option<Report> {
    match end {
        ConsoleEnd::Terminated | ConsoleEnd::Closed | ConsoleEnd::Lost(_) | ConsoleEnd::Shutdown => None,
        ConsoleEnd::Violation(what) => Some(Report::fatal(sqlstate::PROTOCOL_VIOLATION, what.as_str())),
        ConsoleEnd::Interrupted(reason) => reason_report(*reason),
    }
}

/// A value that does not exist: the loop of a session ends only by its end.
enum Never {}

struct Console<'a> {
    link: Link<'a>,
    client: &'a ClientRecord,
    role: Role,
    context: Context,
    prepared: Prepared,
    /// What it has commanded to stand still goes on when it ends.
    suspended: Option<Suspended>,
    /// After an error of the extended protocol everything up to Sync is left out.
    skipping: bool,
    /// Whether the command that runs, or ran last, is a SET.
    sets: bool,
}

impl Console<'_> {
    async fn run(&mut self) -> Result<Never, ConsoleEnd> {
        let now = self.now();
        // The login is over; the frontend may have said so already.
        self.client.admit(now);
        add(&self.context.stats.console.client_login_count, 1);
        self.greet();
        let mut busy_since = now;
        self.link.flush().await?;
        loop {
            let message = self.link.next().await?;
            let now = self.now();
            if self.client.phase() == Phase::Idle {
                busy_since = now;
                self.client.enter(Phase::Running, now);
                self.client.request.store(now, std::sync::atomic::Ordering::Relaxed);
            }
            if self.handle(message).await? == Next::Ready {
                self.ready(busy_since).await?;
            }
            self.link.relieve().await?;
        }
    }

    fn now(&self) -> Micros {
        self.context.pools.shared.clock.now()
    }

    fn greet(&mut self) {
        for (name, value) in fakes::greeting() {
            put(&mut self.link.out, &ParameterStatus::new(name.to_owned(), value.to_owned()));
        }
        let pid = i32::try_from(fakes::process_id(self.client)).unwrap_or(0);
        let secret = SecretKey::Bytes(Bytes::copy_from_slice(&self.client.secret));
        put(&mut self.link.out, &BackendKeyData::new(pid, secret));
        put(&mut self.link.out, &ReadyForQuery::new(TransactionStatus::Idle));
    }

    /// ReadyForQuery, and the end of what is counted as one query.
    async fn ready(&mut self, since: Micros) -> Result<(), ConsoleEnd> {
        put(&mut self.link.out, &ReadyForQuery::new(TransactionStatus::Idle));
        let now = self.now();
        let counters = &self.context.stats.console;
        for count in [&counters.query_count, &counters.xact_count] {
            add(count, 1);
        }
        for time in [&counters.query_time, &counters.xact_time] {
            add(time, now.saturating_sub(since));
        }
        self.prepared.end_transaction();
        self.client.enter(Phase::Idle, now);
        self.link.flush().await?;
        Ok(())
    }

    async fn handle(&mut self, incoming: Incoming) -> Result<Next, ConsoleEnd> {
        let Incoming { tag, body } = incoming;
        match tag {
            front::TERMINATE => return Err(ConsoleEnd::Terminated),
            front::SYNC => {
                self.skipping = false;
                return Ok(Next::Ready);
            }
            _ if self.skipping => return Ok(Next::More),
            front::QUERY => {
                let script = message::query(&body).ok_or_else(|| malformed("Query"))?;
                return match self.simple(&script).await {
                    Ok(()) => Ok(Next::Ready),
                    Err(Stop::Failed(report)) => {
                        self.refuse(&report);
                        Ok(Next::Ready)
                    }
                    Err(Stop::Ended(end)) => Err(end),
                };
            }
            front::FUNCTION_CALL | front::COPY_DATA | front::COPY_DONE | front::COPY_FAIL => {
                let what = if tag == front::FUNCTION_CALL { "function calls" } else { "COPY" };
                let message = format!("{what} not supported by the console");
                self.refuse(&Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message));
                return Ok(Next::Ready);
            }
            _ => {}
        }
        match self.extended(tag, &body).await {
            Ok(()) => {}
            Err(Stop::Failed(report)) => {
                self.refuse(&report);
                self.skipping = true;
                // As PostgreSQL does: some drivers send Sync only when they have seen the error.
                self.link.flush().await?;
            }
            Err(Stop::Ended(end)) => return Err(end),
        }
        Ok(Next::More)
    }

    /// Tells the client that its command failed.
    fn refuse(&mut self, report: &Report) {
        let general = &self.context.pools.config.load().general;
        say_error(report, std::mem::take(&mut self.sets), self.client, general);
        self.link.error(report);
    }

    /// Query: all its statements, or none where one cannot be read.
    async fn simple(&mut self, script: &str) -> Result<(), Stop> {
        let commands = parse(script)?;
        if commands.is_empty() {
            put(&mut self.link.out, &EmptyQueryResponse::new());
        }
        for command in &commands {
            let answer = self.execute(command).await?;
            if let Some(columns) = command.columns() {
                put(&mut self.link.out, &description(columns, &[]));
            }
            self.send(command, &[], &answer).await.map_err(Stop::Ended)?;
        }
        Ok(())
    }

    /// A message of the extended protocol.
    async fn extended(&mut self, tag: u8, body: &[u8]) -> Result<(), Stop> {
        let ended = |what: &str| Stop::Ended(malformed(what));
        match tag {
            front::PARSE => {
                let parse = message::parse(body).ok_or_else(|| ended("Parse"))?;
                if !parse.name.is_empty() {
                    add(&self.context.stats.console.client_parse_count, 1);
                }
                self.prepared.parse(parse)?;
                put(&mut self.link.out, &ParseComplete::new());
            }
            front::BIND => {
                add(&self.context.stats.console.bind_count, 1);
                self.prepared.bind(message::bind(body).ok_or_else(|| ended("Bind"))?)?;
                put(&mut self.link.out, &BindComplete::new());
            }
            front::DESCRIBE => {
                let object = message::object(body).ok_or_else(|| ended("Describe"))?;
                let described = self.prepared.describe(&object)?;
                self.describe(&described);
            }
            front::EXECUTE => {
                let portal = message::execute(body).ok_or_else(|| ended("Execute"))?;
                match self.prepared.execute(&portal)? {
                    Execution::Run(command, formats) => {
                        let answer = self.execute(&command).await?;
                        self.send(&command, &formats, &answer).await.map_err(Stop::Ended)?;
                    }
                    Execution::Empty => put(&mut self.link.out, &EmptyQueryResponse::new()),
                    Execution::Done => put(&mut self.link.out, &CommandComplete::new("SHOW".to_owned())),
                }
            }
            front::CLOSE => {
                self.prepared.close(&message::object(body).ok_or_else(|| ended("Close"))?);
                put(&mut self.link.out, &CloseComplete::new());
            }
            front::FLUSH => self.link.flush().await.map_err(Stop::Ended)?,
            _ => return Err(ended("message")),
        }
        Ok(())
    }

    fn describe(&mut self, described: &Described) {
        if let Some(types) = &described.parameters {
            put(&mut self.link.out, &ParameterDescription::new(types.clone()));
        }
        match described.columns {
            Some(columns) => put(&mut self.link.out, &description(columns, &described.formats)),
            None => put(&mut self.link.out, &NoData::new()),
        }
    }

    async fn execute(&mut self, command: &Command) -> Result<Answer, Stop> {
        if !command.allowed(self.role) {
            return Err(refusal("admin access needed").into());
        }
        let context = &self.context.clone();
        self.sets = matches!(command, Command::Set(..));
        let answer = match command {
            Command::Show(what) => show(*what, context),
            Command::ShowFake(setting) => Answer::rows(vec![vec![Cell::from(setting.value)]]),
            Command::Types { .. } => Answer { tag: "SELECT 0".to_owned(), ..Answer::default() },
            Command::Select(fact) => {
                Answer { tag: "SELECT 1".to_owned(), ..Answer::rows(vec![vec![fact.value(self.client)]]) }
            }
            Command::SetFake => Answer::notice(Report::new("NOTICE", "00000", "SET ignored"), "SET"),
            Command::Nothing(tag) => Answer::tag(*tag),
            Command::Set(name, value) => control::set(context, name, value)?,
            Command::Pause(database) => {
                self.settle().await?;
                control::pause(context, &mut self.link, database.as_deref()).await?
            }
            Command::Suspend => {
                self.settle().await?;
                control::suspend(context, &mut self.link, &mut self.suspended).await?
            }
            Command::Resume(database) => control::resume(context, database.as_deref())?,
            Command::Disable(database) => control::disable(context, database.as_deref(), true)?,
            Command::Enable(database) => control::disable(context, database.as_deref(), false)?,
            Command::Reconnect(database) => control::reconnect(context, database.as_deref())?,
            Command::Kill(database) => control::kill(context, database.as_deref())?,
            Command::KillClient(id) => control::kill_client(context, id.as_deref())?,
            Command::WaitClose(database) => {
                self.settle().await?;
                control::wait_close(context, &mut self.link, database.as_deref()).await?
            }
            Command::Reload => control::reload(context).await?,
            Command::Shutdown(how) => {
                self.settle().await?;
                control::shutdown(context, &mut self.link, *how).await?
            }
        };
        Ok(answer)
    }

    /// Before a command that may take its time: what was answered is sent, and a cancel request from before is late.
    async fn settle(&mut self) -> Result<(), Stop> {
        self.link.flush().await.map_err(Stop::Ended)?;
        self.link.forget_cancel();
        Ok(())
    }

    /// The answer but for its RowDescription.
    async fn send(&mut self, command: &Command, formats: &[Format], answer: &Answer) -> Result<(), ConsoleEnd> {
        for notice in &answer.notices {
            self.link.notice(notice);
        }
        let columns = command.columns().unwrap_or_default();
        for row in &answer.rows {
            put(&mut self.link.out, &data_row(columns, formats, row));
            self.link.relieve().await?;
        }
        put(&mut self.link.out, &CommandComplete::new(answer.tag.clone()));
        Ok(())
    }
}

/// Whether a message ends with ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Ready,
    More,
}

fn malformed(what: &str) -> ConsoleEnd {
    ConsoleEnd::Violation(format!("malformed {what} message"))
}
