//! The grammar of the console: a statement's tokens -> a [`Command`], with nothing done yet.

use super::columns::{Column, Show};
use super::fakes::{self, Fact, Setting};
use super::similar::nearest;
use super::token::{Statement, Token, statements};
use super::{Role, Shutdown};
use crate::wire::sqlstate;
use crate::wire::write::Report;

/// Something the console was told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// SHOW of a table.
    Show(Show),
    /// SHOW of a setting that the console has in name only.
    ShowFake(&'static Setting),
    /// SELECT of something that drivers ask for.
    Select(Fact),
    /// SELECT of types of the database, of which there are none, with so many parameters.
    Types {
        /// How many.
        parameters: u16,
    },
    /// SET of a setting that the console has in name only.
    SetFake,
    /// What has no meaning here but must not fail, for drivers; the tag it is answered with.
    Nothing(&'static str),
    /// SET: name and value.
    Set(String, String),
    /// PAUSE of everything or of a database.
    Pause(Option<String>),
    /// SUSPEND
    Suspend,
    /// RESUME of everything or of a database.
    Resume(Option<String>),
    /// DISABLE
    Disable(Option<String>),
    /// ENABLE
    Enable(Option<String>),
    /// RECONNECT of everything or of a database.
    Reconnect(Option<String>),
    /// KILL of everything or of a database.
    Kill(Option<String>),
    /// KILL_CLIENT
    KillClient(Option<String>),
    /// WAIT_CLOSE for everything or for a database.
    WaitClose(Option<String>),
    /// RELOAD
    Reload,
    /// SHUTDOWN
    Shutdown(Shutdown),
}

impl Command {
    /// The columns of its answer; `None` where it has no rows.
    pub(super) fn columns(&self) -> Option<&'static [Column]> {
        match self {
            Command::Show(show) => Some(show.columns()).filter(|columns| !columns.is_empty()),
            Command::ShowFake(setting) => Some(&setting.column),
            Command::Select(fact) => Some(fact.columns()),
            Command::Types { .. } => Some(fakes::TYPES),
            _ => None,
        }
    }

    /// How many parameters it has: none, but for what drivers ask about types.
    pub(super) fn parameters(&self) -> usize {
        match self {
            Command::Types { parameters } => usize::from(*parameters),
            _ => 0,
        }
    }

    /// Whether users of this role may command it.
    pub(super) fn allowed(&self, role: Role) -> bool {
        match self {
            // As in PgBouncer, though there are no secrets in it.
            Command::Show(Show::Fds) => role == Role::Admin,
            Command::Show(_)
            | Command::ShowFake(_)
            | Command::Select(_)
            | Command::Types { .. }
            | Command::SetFake
            | Command::Nothing(_) => true,
            _ => role == Role::Admin,
        }
    }
}

/// The commands of a script, or what is wrong with the first that is none.
pub(super) fn parse(script: &str) -> Result<Vec<Command>, Report> {
    let statements = statements(script).map_err(|error| syntax(error.to_string()))?;
    statements.iter().map(command).collect()
}

/// Words that a statement starts with, for hints.
const FIRST_WORDS: &[&str] = &[
    "show",
    "set",
    "pause",
    "suspend",
    "resume",
    "disable",
    "enable",
    "reconnect",
    "kill",
    "kill_client",
    "wait_close",
    "reload",
    "shutdown",
];

fn command(statement: &Statement<'_>) -> Result<Command, Report> {
    if statement.tokens.contains(&Token::Mark('$')) && !reads_types(&statement.tokens) {
        return Err(Report::error(sqlstate::FEATURE_NOT_SUPPORTED, "console commands take no parameters")
            .hint("Write the value into the command."));
    }
    let (first, rest) = match statement.tokens.split_first() {
        Some((Token::Word(first), rest)) => (first.to_ascii_lowercase(), rest),
        Some((Token::Name(first), rest)) => (first.to_ascii_lowercase(), rest),
        _ => return Err(invalid(statement)),
    };
    let parsed = match first.as_str() {
        "show" => show(rest),
        "select" => select(rest),
        "set" => set(rest),
        "pause" => name(rest).map(Command::Pause),
        "resume" => name(rest).map(Command::Resume),
        "disable" => name(rest).map(Command::Disable),
        "enable" => name(rest).map(Command::Enable),
        "reconnect" => name(rest).map(Command::Reconnect),
        "kill" => name(rest).map(Command::Kill),
        "kill_client" => name(rest).map(Command::KillClient),
        "wait_close" => name(rest).map(Command::WaitClose),
        "suspend" => rest.is_empty().then_some(Command::Suspend),
        "reload" => rest.is_empty().then_some(Command::Reload),
        "shutdown" => shutdown(rest),
        other => nothing(other, rest),
    };
    parsed.ok_or_else(|| invalid(statement))
}

fn show(rest: &[Token<'_>]) -> Option<Command> {
    let word = match rest {
        [Token::Word(word)] => *word,
        [Token::Name(word)] => word,
        // PostgreSQL's own spellings with a space.
        [Token::Word(time), Token::Word(zone)] if is(time, "time") && is(zone, "zone") => "timezone",
        [Token::Word(transaction), Token::Word(isolation), Token::Word(level)]
            if is(transaction, "transaction") && is(isolation, "isolation") && is(level, "level") =>
        {
            "transaction_isolation"
        }
        _ => return None,
    };
    let shown = Show::ALL.iter().find(|show| is(word, show.name()));
    shown.map(|show| Command::Show(*show)).or_else(|| fakes::find(word).map(Command::ShowFake))
}

/// SELECT is SHOW by another name, as in PgBouncer, and answers what drivers ask at connect.
fn select(rest: &[Token<'_>]) -> Option<Command> {
    let rest = match rest {
        // A name for the column, which keeps its own.
        [what @ .., Token::Word(word), Token::Word(_) | Token::Name(_)] if is(word, "as") => what,
        _ => rest,
    };
    let fact = match rest {
        [Token::Word(word)] => Fact::named(word, false),
        [Token::Word(word), Token::Mark('('), Token::Mark(')')] => Fact::named(word, true),
        _ => None,
    };
    if fact.is_none() && reads_types(rest) {
        return Some(Command::Types { parameters: parameters(rest) });
    }
    fact.map(Command::Select).or_else(|| show(rest))
}

/// Whether a SELECT looks for types of the database, as psycopg2 does for hstore: the console has none.
fn reads_types(rest: &[Token<'_>]) -> bool {
    rest.array_windows().any(|pair| match pair {
        [Token::Word(from), Token::Word(table)] if is(from, "from") => {
            is(table, "pg_type") || is(table, "pg_catalog.pg_type")
        }
        _ => false,
    })
}

/// The highest number behind a `$`.
fn parameters(tokens: &[Token<'_>]) -> u16 {
    let number = |pair: &[Token<'_>; 2]| match pair {
        [Token::Mark('$'), Token::Word(number)] => number.parse().unwrap_or(0),
        _ => 0,
    };
    tokens.array_windows().map(number).max().unwrap_or(0)
}

fn set(rest: &[Token<'_>]) -> Option<Command> {
    let rest = match rest {
        [Token::Word(scope), tail @ ..] if is(scope, "session") || is(scope, "local") => tail,
        _ => rest,
    };
    let (name, value) = match rest {
        [Token::Word(time), Token::Word(zone), _, ..] if is(time, "time") && is(zone, "zone") => {
            return Some(Command::SetFake);
        }
        [Token::Word(what), _, ..] if is(what, "transaction") || is(what, "characteristics") || is(what, "names") => {
            return Some(Command::SetFake);
        }
        [Token::Word(name), Token::Mark('='), value @ ..] => (*name, value),
        [Token::Word(name), Token::Word(to), value @ ..] if is(to, "to") => (*name, value),
        [Token::Name(name), Token::Mark('='), value @ ..] => (name.as_str(), value),
        [Token::Name(name), Token::Word(to), value @ ..] if is(to, "to") => (name.as_str(), value),
        _ => return None,
    };
    if value.is_empty() {
        return None;
    }
    match fakes::find(name) {
        Some(_) => Some(Command::SetFake),
        None => Some(Command::Set(name.to_ascii_lowercase(), text(value))),
    }
}

/// The value of a SET. Words stand as they are, with one space between two.
fn text(tokens: &[Token<'_>]) -> String {
    let mut text = String::new();
    let mut after_word = false;
    for token in tokens {
        let (piece, word) = match token {
            Token::Word(word) => (*word, true),
            Token::Name(quoted) | Token::Text(quoted) => (quoted.as_str(), true),
            Token::Mark(_) => ("", false),
        };
        if word && after_word {
            text.push(' ');
        }
        text.push_str(piece);
        if let Token::Mark(mark) = token {
            text.push(*mark);
        }
        after_word = word;
    }
    text
}

/// A name or none. The outer `None` is something else.
#[expect(clippy::option_option, reason = "no argument and a wrong argument differ")]
fn name(rest: &[Token<'_>]) -> Option<Option<String>> {
    match rest {
        [] => Some(None),
        [Token::Word(word)] => Some(Some((*word).to_owned())),
        [Token::Name(word)] => Some(Some(word.clone())),
        _ => None,
    }
}

fn shutdown(rest: &[Token<'_>]) -> Option<Command> {
    let how = match rest {
        [] => Shutdown::Now,
        [Token::Word(how)] if is(how, "wait_for_servers") => Shutdown::WaitForServers,
        [Token::Word(how)] if is(how, "wait_for_clients") => Shutdown::WaitForClients,
        [Token::Word(how)] if is(how, "drain") => Shutdown::Drain,
        _ => return None,
    };
    Some(Command::Shutdown(how))
}

/// Statements that drivers and their pools send around the ones they were told to send.
fn nothing(first: &str, rest: &[Token<'_>]) -> Option<Command> {
    let second = match rest {
        [Token::Word(word), ..] => word.to_ascii_lowercase(),
        _ => String::new(),
    };
    let tag = match (first, second.as_str()) {
        ("begin", _) => "BEGIN",
        ("start", "transaction") => "START TRANSACTION",
        ("commit" | "end", _) => "COMMIT",
        ("rollback" | "abort", "" | "work" | "transaction" | "and") => "ROLLBACK",
        ("discard", "all") => "DISCARD ALL",
        ("reset", _) => "RESET",
        ("close", "all") => "CLOSE CURSOR ALL",
        ("deallocate", "all") => "DEALLOCATE ALL",
        ("unlisten", _) => "UNLISTEN",
        _ => return None,
    };
    Some(Command::Nothing(tag))
}

fn is(word: &str, expected: &str) -> bool {
    word.eq_ignore_ascii_case(expected)
}

/// PgBouncer's answer to anything else, with a hint where one can be guessed.
fn invalid(statement: &Statement<'_>) -> Report {
    let mut shown: String = statement.text.chars().take(200).collect();
    if shown.len() < statement.text.len() {
        shown.push('…');
    }
    let report = Report::error(sqlstate::PROTOCOL_VIOLATION, format!("invalid command '{shown}', use SHOW HELP;"));
    match hint(&statement.tokens) {
        Some(hint) => report.hint(hint),
        None if is_for_postgresql(&statement.tokens) => {
            report.hint("The console has no tables and no functions. Connect to a database for those.")
        }
        None => report,
    }
}

/// Whether it is what one asks a database, as psql's commands with a backslash do.
fn is_for_postgresql(tokens: &[Token<'_>]) -> bool {
    const FIRST: [&str; 8] = ["select", "with", "table", "values", "insert", "update", "delete", "create"];
    matches!(tokens.first(), Some(Token::Word(first)) if FIRST.iter().any(|word| is(first, word)))
}

fn hint(tokens: &[Token<'_>]) -> Option<String> {
    let mut words = tokens.iter().map_while(|token| match token {
        Token::Word(word) => Some(word.to_ascii_lowercase()),
        _ => None,
    });
    let first = words.next()?;
    let meant = |text: String| Some(format!("Did you mean {}?", text.to_ascii_uppercase()));
    let shows = || Show::ALL.iter().map(|show| show.name());
    if first == "show" || first == "select" {
        let second = words.next()?;
        return meant(format!("show {}", nearest(&second, shows()).filter(|near| *near != second)?));
    }
    if let Some(near) = nearest(&first, FIRST_WORDS.iter().copied()) {
        return if near == first { None } else { meant(near.to_owned()) };
    }
    meant(format!("show {}", nearest(&first, shows())?))
}

fn syntax(message: String) -> Report {
    Report::error(sqlstate::PROTOCOL_VIOLATION, message).hint("Use SHOW HELP;")
}
