//! What the text of a query may do to the session beyond its transaction, as far as the text tells.
//!
//! A tokenizer ([`lexer`]) knows comments, quoting, dollar quoting and where a statement ends; [`script`] looks at the
//! first words of each statement and at a few names in the rest. Nothing is decided by a substring. The text comes in
//! chunks of any size, and what is kept of it is bounded. Invariant: what PostgreSQL would carry out is never taken for
//! a comment or a literal; in doubt there is an act too many, not one too few.
//!
//! Source: `sql-syntax-lexical.html` of PostgreSQL's manual, and the pages of the commands.

mod act;
mod lexer;
mod script;
mod statement;

pub use act::{Act, Arg, Feature, Features, First, Name, Script};
pub use lexer::Dialect;
pub use script::Reading;

/// What a text may do. It ends at the first NUL, if there is one.
#[must_use]
pub fn read(text: &[u8], dialect: Dialect) -> Script {
    let mut reading = Reading::new(dialect);
    reading.feed(text);
    reading.finish()
}

#[cfg(test)]
mod tests;
