//! `--terminate`: frees slots, after a list and a question. What matched is looked at once more in the statement that ends
//! it, so that a process id that has come to another session in between ends nobody.

use std::io::{IsTerminal, Write};
use std::str::FromStr;

use super::examine::Examined;
use super::facts::{Facts, Session};
use crate::cli::age;
use crate::cli::link::{Link, LinkError, literal};

/// Whom to end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    /// Idle for longer than so many seconds.
    Idle(f64),
    /// Idle in a transaction for longer.
    IdleInTransaction(f64),
    /// Of that `application_name`.
    Application(String),
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Condition, String> {
        if let Some(name) = text.strip_prefix("application=") {
            let bad = name.is_empty() || name.contains('\0');
            return if bad {
                Err(String::from("application= needs a name"))
            } else {
                Ok(Condition::Application(name.into()))
            };
        }
        let (state, span) = text
            .split_once('>')
            .ok_or_else(|| format!("\"{text}\" is none of idle>30min, idle-in-transaction>10min, application=NAME"))?;
        let seconds = age::parse(span)?.as_secs_f64();
        match state.trim() {
            "idle" => Ok(Condition::Idle(seconds)),
            "idle-in-transaction" => Ok(Condition::IdleInTransaction(seconds)),
            other => Err(format!("\"{other}\" is no state; known are idle and idle-in-transaction")),
        }
    }
}

impl Condition {
    fn fits(&self, session: &Session) -> bool {
        match self {
            Condition::Idle(seconds) => session.is_idle() && session.idle_for() > *seconds,
            Condition::IdleInTransaction(seconds) => session.is_idle_in_transaction() && session.idle_for() > *seconds,
            Condition::Application(name) => session.application == *name,
        }
    }

    /// The same for PostgreSQL to judge.
    fn sql(&self) -> String {
        let longer = |seconds: &f64| format!("extract(epoch from clock_timestamp() - state_change) > {seconds}");
        match self {
            Condition::Idle(seconds) => format!("(state = 'idle' and {})", longer(seconds)),
            Condition::IdleInTransaction(seconds) => {
                format!("(state like 'idle in transaction%' and {})", longer(seconds))
            }
            Condition::Application(name) => format!("(application_name = {})", literal(name)),
        }
    }
}

/// Whom to end, whom to spare, and whether to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders<'a> {
    pub(crate) conditions: &'a [Condition],
    pub(crate) superusers: bool,
    pub(crate) replication: bool,
    pub(crate) pooler: bool,
    pub(crate) yes: bool,
}

/// Those who match, and those of them who are spared, with the option that would not.
#[derive(Debug, Default)]
pub(crate) struct Chosen<'a> {
    pub(crate) ended: Vec<&'a Session>,
    pub(crate) spared: Vec<(&'a Session, &'static str)>,
}

/// Chooses. Never one whose state is hidden, nor PostgreSQL's own processes.
pub(crate) fn choose<'a>(facts: &'a Facts, orders: &Orders<'_>) -> Chosen<'a> {
    let mut chosen = Chosen::default();
    let clients = facts.sessions.iter().filter(|session| {
        !session.hidden && (session.kind.as_deref() == Some("client backend") || session.is_walsender())
    });
    for session in clients.filter(|session| orders.conditions.iter().any(|condition| condition.fits(session))) {
        let spared = match () {
            () if session.pid == facts.server.pid => continue,
            () if session.superuser && !orders.superusers => Some("a superuser's (--superusers)"),
            () if session.is_walsender() && !orders.replication => Some("a replication connection (--replication)"),
            () if session.pooler && !orders.pooler => Some("one of the running pgpool's (--pooler)"),
            () => None,
        };
        match spared {
            Some(why) => chosen.spared.push((session, why)),
            None => chosen.ended.push(session),
        }
    }
    chosen
}

/// Lists, asks, ends, and tells; answers how many are gone.
///
/// # Errors
/// Nobody is there to be asked, or PostgreSQL refuses.
pub(crate) async fn terminate(examined: &mut Examined, orders: &Orders<'_>) -> Result<u32, LinkError> {
    let Examined { link, facts } = examined;
    let chosen = choose(facts, orders);
    let mut out = std::io::stdout();
    let mut say = |line: String| drop(writeln!(out, "{line}"));
    for (session, why) in &chosen.spared {
        say(format!("spared: process {} ({}): {why}", session.pid, session.who()));
    }
    if chosen.ended.is_empty() {
        say(String::from("nothing to end"));
        return Ok(0);
    }
    for session in &chosen.ended {
        let state = session.state.as_deref().unwrap_or("?");
        say(format!(
            "to end: process {} ({}), {state} for {}",
            session.pid,
            session.who(),
            age::shown(session.idle_for())
        ));
    }
    if !orders.yes && !confirmed(chosen.ended.len())? {
        say(String::from("nothing was ended"));
        return Ok(0);
    }
    let mut ended = 0;
    for session in &chosen.ended {
        let told = match end(link, session, orders).await {
            Ok(Outcome::Ended) => {
                ended += 1;
                "ended"
            }
            Ok(Outcome::Signalled) => "told to end, and still there after 5 s",
            Ok(Outcome::Changed) => "left alone: it is gone, or no longer what it was",
            Err(error) if error.code() == Some("42501") => {
                "not ended: permission denied. HINT: a superuser can run: GRANT pg_signal_backend TO the role"
            }
            Err(error) => return Err(error),
        };
        say(format!("process {}: {told}", session.pid));
    }
    say(format!("{ended} of {} ended", chosen.ended.len()));
    Ok(ended)
}

fn confirmed(count: usize) -> Result<bool, LinkError> {
    if !std::io::stdin().is_terminal() {
        let message = "nobody can be asked (no terminal). HINT: --yes ends them without a question";
        return Err(LinkError::Said(message.to_owned()));
    }
    let mut out = std::io::stdout();
    let asked = write!(out, "end {count} connections? [y/N] ").and_then(|()| out.flush());
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    Ok(asked.is_ok() && read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}

enum Outcome {
    Ended,
    Signalled,
    Changed,
}

/// Ends one, if it is still the same and still matches.
async fn end(link: &mut Link, session: &Session, orders: &Orders<'_>) -> Result<Outcome, LinkError> {
    let Some(start) = &session.backend_start else { return Ok(Outcome::Changed) };
    let same = format!("pid = {} and backend_start = {}::timestamptz", session.pid, literal(start));
    let conditions: Vec<String> = orders.conditions.iter().map(Condition::sql).collect();
    let conditions = conditions.join(" or ");
    let sql = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where {same} and pid <> pg_backend_pid() and ({conditions})"
    );
    if link.value(&sql).await?.as_deref() != Some("t") {
        return Ok(Outcome::Changed);
    }
    for _ in 0..100 {
        if link.value(&format!("select 1 from pg_stat_activity where {same}")).await?.is_none() {
            return Ok(Outcome::Ended);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(Outcome::Signalled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read() {
        assert_eq!("idle>30min".parse(), Ok(Condition::Idle(1800.0)));
        assert_eq!("idle-in-transaction > 10s".parse(), Ok(Condition::IdleInTransaction(10.0)));
        assert_eq!("application=a>b".parse(), Ok(Condition::Application("a>b".into())));
        for text in ["idle", "active>1s", "idle>x", "application=", "idle<1s"] {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
        assert_eq!(Condition::Application("o'x\\".into()).sql(), r"(application_name = E'o''x\\')");
    }

    #[test]
    fn who_is_spared() {
        let client = Session {
            kind: Some("client backend".into()),
            state: Some("idle".into()),
            state_age: Some(100.0),
            ..Session::default()
        };
        let with = |pid, change: fn(&mut Session)| {
            let mut session = Session { pid, ..client.clone() };
            change(&mut session);
            session
        };
        let mut facts = Facts::default();
        facts.server.pid = 9;
        facts.sessions = vec![
            with(1, |_| {}),
            with(2, |session| session.superuser = true),
            with(3, |session| session.kind = Some("walsender".into())),
            with(4, |session| session.pooler = true),
            with(5, |session| session.kind = Some("autovacuum worker".into())),
            with(6, |session| session.hidden = true),
            with(7, |session| session.state_age = Some(5.0)),
            with(8, |session| session.state_age = Some(-100.0)),
            with(9, |_| {}),
        ];
        let conditions = [Condition::Idle(10.0)];
        let mut orders =
            Orders { conditions: &conditions, superusers: false, replication: false, pooler: false, yes: false };
        let pids = |chosen: &Chosen<'_>| chosen.ended.iter().map(|session| session.pid).collect::<Vec<_>>();
        let chosen = choose(&facts, &orders);
        assert_eq!(pids(&chosen), [1]);
        assert_eq!(chosen.spared.iter().map(|(session, _)| session.pid).collect::<Vec<_>>(), [2, 3, 4]);
        (orders.superusers, orders.replication, orders.pooler) = (true, true, true);
        assert_eq!(pids(&choose(&facts, &orders)), [1, 2, 3, 4]);
    }
}
