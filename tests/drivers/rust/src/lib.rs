//! What the programs for Rust's drivers share: running cases, several clients at work in turns, and the cases that are
//! SQL and therefore the same for all drivers.

mod crowd;
pub mod session_cases;

use std::{env, error::Error, fmt::Debug, panic};

pub use crowd::Crowd;

pub type Fallible<T> = Result<T, Failure>;
pub type Case = (&'static str, Box<dyn Fn() -> Fallible<()>>);

/// What went wrong, with the SQLSTATE if PostgreSQL said so.
#[derive(Debug)]
pub struct Failure {
    pub sqlstate: Option<String>,
    pub text: String,
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let state = session_state(&error);
        Self { sqlstate: state, text: format!("{error} {error:?}") }
    }
}

/// The three drivers keep it in different places.
fn session_state(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
        return error.code().map(|code| code.code().to_owned());
    }
    if let Some(sqlx::Error::Database(error)) = error.downcast_ref::<sqlx::Error>() {
        return error.code().map(Into::into);
    }
    None
}

/// One connection, driven without `async` so that all drivers look the same.
pub trait Client {
    /// The first column of each row, which is text.
    fn texts(&mut self, sql: &str) -> Fallible<Vec<Option<String>>>;
    fn run(&mut self, sql: &str) -> Fallible<()>;

    /// The only text of a query with one row.
    fn text(&mut self, sql: &str) -> Fallible<String> {
        Ok(self.texts(sql)?.pop().flatten().unwrap_or_default())
    }
}

/// How many backends the clients share; 0 = each has its own.
pub fn backends() -> usize {
    env::var("PGPOOL_BACKENDS").ok().and_then(|count| count.parse().ok()).unwrap_or(0)
}

pub fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// The connection URL; `%20` because the password has a blank in it.
pub fn url() -> String {
    let password = variable("PGPASSWORD").replace(' ', "%20");
    let (user, host, port) = (variable("PGUSER"), variable("PGHOST"), variable("PGPORT"));
    format!("postgresql://{user}:{password}@{host}:{port}/{}", variable("PGDATABASE"))
}

/// Makes a case of a function or closure.
pub fn case(name: &'static str, body: impl Fn() -> Fallible<()> + 'static) -> Case {
    (name, Box::new(body))
}

/// The version of a crate in Cargo.lock.
fn locked_version(name: &str) -> &'static str {
    let lines: Vec<_> = include_str!("../Cargo.lock").lines().collect();
    let at = lines.iter().position(|line| *line == format!("name = \"{name}\""));
    at.and_then(|at| lines[at + 1].split('"').nth(1)).unwrap_or("?")
}

pub fn main(driver: &str, cases: Vec<Case>) {
    panic::set_hook(Box::new(|_| {}));
    let asked: Vec<String> = env::args().skip(1).collect();
    let chosen: Vec<&Case> =
        cases.iter().filter(|(name, _)| asked.is_empty() || asked.iter().any(|one| one == name)).collect();
    println!("plan {}", chosen.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" "));
    for (name, body) in chosen {
        match panic::catch_unwind(panic::AssertUnwindSafe(body)) {
            Ok(Ok(())) => println!("ok {name}"),
            Ok(Err(failure)) => println!("not ok {name}: {}", failure.text.replace('\n', " ")),
            Err(_) => println!("not ok {name}: panicked"),
        }
    }
    println!("version {driver} {}", locked_version(driver));
}

#[track_caller]
pub fn equal<T: PartialEq<U> + Debug, U: Debug>(got: T, expected: U) -> Fallible<()> {
    if got == expected {
        return Ok(());
    }
    let place = panic::Location::caller();
    Err(Failure {
        sqlstate: None,
        text: format!("{}:{}: got {got:?}, expected {expected:?}", place.file(), place.line()),
    })
}

#[track_caller]
pub fn fails<T: Debug>(sqlstate: &str, result: Fallible<T>) -> Fallible<()> {
    match result {
        Err(failure) if failure.sqlstate.as_deref() == Some(sqlstate) => Ok(()),
        other => {
            let place = panic::Location::caller();
            Err(Failure {
                sqlstate: None,
                text: format!("{}:{}: no error {sqlstate} but {other:?}", place.file(), place.line()),
            })
        }
    }
}
