//! What the text of a query may do to the session that runs it: settings, prepared statements, LISTEN, and what keeps
//! a client on its backend. What ends with the transaction (SET LOCAL, `pg_advisory_xact_lock`) is not told.
//!
//! A tokenizer that reads text as PostgreSQL's does, and a machine that looks at tokens: neither a parser, which would
//! be slow and refuse what it does not know, nor a search for substrings, which finds names inside of strings. Where
//! it cannot tell, it says that something may happen. What functions of the user's own do is not seen.
//!
//! Invariant: any division of a text into pieces gives the same result, in bounded memory.
//!
//! Source: PostgreSQL manual, `sql-syntax-lexical.html`, and PostgreSQL's `scan.l` and `gram.y`.

mod acts;
mod block;
mod call;
mod dialect;
mod feature;
mod fingerprint;
mod glance;
mod into;
mod keyword;
mod lexer;
mod prepare;
mod script;
mod setting;
mod statements;
mod token;

#[cfg(test)]
mod tests;

pub use acts::{Act, Arg, Name};
pub use dialect::{Characters, Dialect};
pub use feature::{Feature, Features};
pub use fingerprint::fingerprint;
pub use script::{First, Reading, Script, fuzz, read};
