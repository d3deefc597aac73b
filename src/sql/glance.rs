//! Most texts in one quick look: a single statement of a common kind in which nothing could matter.
//!
//! It recognises what the tokenizer and [`super::statements`] would say nothing about, and leaves all else to them: what
//! is quoted or commented in any unusual way, several statements, any word that could matter where it stands. Invariant:
//! where it answers, the answer is that of the full reading.

use super::keyword::{Keyword, key_of_first};
use super::{Characters, Dialect, First, Script};

/// What a byte outside of strings is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Space,
    /// May begin a word.
    Letter,
    /// May go on a word, or is of a number.
    Digit,
    /// Stands for itself.
    Mark,
    /// `-` and `/`: themselves, or the beginning of a comment.
    Comment,
    Quote,
    Dollar,
    Semicolon,
    Nul,
    /// Not for a quick look.
    Other,
}

const CLASSES: [Class; 256] = classes();

/// What the text does, if one look tells.
#[inline]
pub(super) fn glance(text: &[u8], dialect: Dialect) -> Option<Script> {
    if !dialect.standard_strings || dialect.characters != Characters::Plain {
        return None;
    }
    let mut rest = text.trim_ascii_start();
    let length = word_length(rest);
    let verb = key_of_first(length, rest);
    let (first, inserts) = first(verb, length)?;
    rest = rest.get(length..)?;
    let mut words = 1_u32;
    let mut parameters = 0;
    while let Some((&byte, tail)) = rest.split_first() {
        match class(byte) {
            Class::Letter => {
                let length = word_length(rest);
                let key = key_of_first(length, rest);
                words += 1;
                if Keyword::is_named(key) || key == INTO && !(inserts && words == 2) {
                    return None;
                }
                let behind = rest.get(length..).unwrap_or_default();
                // It may belong to the string behind it.
                if behind.first() == Some(&b'\'') {
                    return None;
                }
                rest = behind;
                continue;
            }
            Class::Space | Class::Digit | Class::Mark => {}
            Class::Comment if tail.first().is_some_and(|next| matches!(next, b'-' | b'*')) => return None,
            Class::Comment => {}
            Class::Dollar if tail.first().is_none_or(|next| !next.is_ascii_digit()) => return None,
            Class::Dollar => {
                let (number, behind) = number(tail);
                parameters = parameters.max(number);
                rest = behind;
                continue;
            }
            Class::Quote => {
                let end = tail.iter().position(|byte| matches!(byte, b'\'' | 0))?;
                if tail.get(end) == Some(&0) {
                    return None;
                }
                rest = tail.get(end + 1..)?;
                continue;
            }
            Class::Semicolon => {
                let end = tail.iter().position(|byte| class(*byte) != Class::Space);
                let over = end.is_none_or(|end| tail.get(end) == Some(&0));
                return over.then(|| script(first, parameters));
            }
            Class::Nul => break,
            Class::Other => return None,
        }
        rest = tail;
    }
    Some(script(first, parameters))
}

fn script(first: First, parameters: u16) -> Script {
    Script { first, statements: 1, sets: 0, parameters, acts: Vec::new() }
}

/// The number that `text` begins with, as that of a parameter, and what is behind it.
fn number(text: &[u8]) -> (u16, &[u8]) {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, behind) = text.split_at_checked(length).unwrap_or_default();
    let add = |number: u16, digit: &u8| number.checked_mul(10)?.checked_add(u16::from(digit - b'0'));
    (digits.iter().try_fold(0, add).unwrap_or(u16::MAX), behind)
}

/// What a statement that begins with this word is, and whether INTO follows it; `None` where it takes more than a look.
#[inline]
fn first(verb: u64, length: usize) -> Option<(First, bool)> {
    use super::keyword::key;
    const SELECT: u64 = key(b"select");
    const INSERT: u64 = key(b"insert");
    const UPDATE: u64 = key(b"update");
    const DELETE: u64 = key(b"delete");
    const WITH: u64 = key(b"with");
    const VALUES: u64 = key(b"values");
    const BEGIN: u64 = key(b"begin");
    const COMMIT: u64 = key(b"commit");
    const END: u64 = key(b"end");
    const ROLLBACK: u64 = key(b"rollback");
    if length > 8 {
        return None;
    }
    match verb {
        SELECT | UPDATE | DELETE | WITH | VALUES => Some((First::Plain, false)),
        INSERT => Some((First::Plain, true)),
        COMMIT | END | ROLLBACK => Some((First::TransactionEnd, false)),
        BEGIN => Some((First::Other, false)),
        _ => None,
    }
}

const INTO: u64 = super::keyword::key(b"into");

#[inline]
fn class(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Other)
}

/// How long the word is that `text` begins with.
#[inline]
fn word_length(text: &[u8]) -> usize {
    let goes_on = |byte: &u8| matches!(class(*byte), Class::Letter | Class::Digit | Class::Dollar);
    text.iter().position(|byte| !goes_on(byte)).unwrap_or(text.len())
}

#[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "256 places, at compile time")]
const fn classes() -> [Class; 256] {
    let mut table = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Class::Space,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => Class::Letter,
            b'0'..=b'9' => Class::Digit,
            b',' | b'.' | b'*' | b'=' | b'<' | b'>' | b'+' | b'%' | b'!' | b':' | b'[' | b']' | b'|' | b'(' | b')' => {
                Class::Mark
            }
            b'-' | b'/' => Class::Comment,
            b'\'' => Class::Quote,
            b'$' => Class::Dollar,
            b';' => Class::Semicolon,
            0 => Class::Nul,
            _ => Class::Other,
        };
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::Reading;

    const DIALECT: Dialect = Dialect { standard_strings: true, characters: Characters::Plain };

    fn full(text: &[u8]) -> Script {
        let mut reading = Reading::new(DIALECT);
        reading.feed(text);
        reading.finish()
    }

    #[test]
    fn a_look_is_enough_for_common_texts() {
        for text in [
            "select 1;",
            "SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0",
            " select count(*), max(a.b) from t a where x in (1, 2) and y = 'it''s' -1;\n ",
            "insert into t (a, b) values ($1, 'x'), (2.5e3, null) returning id",
            "update t set a = a + 1 where b like 'a%' or c <> 'into'",
            "begin",
            "COMMIT;",
            "rollback to s",
            "with x as (select 1) delete from t using x",
        ] {
            assert_eq!(glance(text.as_bytes(), DIALECT), Some(full(text.as_bytes())), "{text}");
        }
    }

    #[test]
    fn what_could_matter_is_read_in_full() {
        for text in [
            "",
            "set x = 1",
            "select 1; set x = 1",
            "select 1 into temp t",
            "insert into t select 1 into temp u",
            "insert into pg_temp.t values (1)",
            "select set_config('a', 'b', false)",
            "select \"set_config\"('a', 'b', false)",
            "select pg_advisory_lock (1)",
            "update pg_settings set setting = 1",
            "select 1 /* ; */",
            "select 1 -- ;",
            "select $$a$$",
            "select e'\\''",
            "select u&'x'",
            "select 'open",
            "select 'open\0'",
            "explain select 1",
        ] {
            assert_eq!(glance(text.as_bytes(), DIALECT), None, "{text}");
        }
        let old = Dialect { standard_strings: false, ..DIALECT };
        let pairs = Dialect { characters: Characters::Pairs, ..DIALECT };
        assert_eq!((glance(b"select 1", old), glance(b"select 1", pairs)), (None, None));
    }

    const PIECES: &[&str] = &[
        "select",
        "insert",
        "into",
        "update",
        "with",
        "begin",
        "commit",
        "temp",
        "t",
        "e",
        "x",
        "pg_temp",
        "(",
        ")",
        ",",
        ".",
        "*",
        "=",
        "-",
        "/",
        "+",
        "1",
        "$1",
        "$",
        "$a$",
        "'",
        "''",
        "\\",
        "\"",
        ";",
        " ",
        " ",
        " ",
        "\n",
        "\0",
        "set",
        "set_config",
        "pg_settings",
        "pg_advisory_lock",
        "N",
        "&",
        "u&",
        "é",
        "LOCAL",
        "from",
        "1e5",
        "into1",
    ];

    proptest! {
        #[test]
        fn where_it_answers_the_full_reading_says_the_same(
            verb in prop::sample::select(&PIECES[..7]),
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12),
        ) {
            let text = format!("{verb} {}", pieces.concat());
            if let Some(script) = glance(text.as_bytes(), DIALECT) {
                prop_assert_eq!(script, full(text.as_bytes()), "{}", text);
            }
        }
    }
}
