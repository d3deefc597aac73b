//! Connection strings of `keyword=value` pairs, as libpq and PgBouncer's `[databases]` write them.
//!
//! Values with spaces stand in single quotes; a quote inside is written `\'` (libpq) or `''` (PgBouncer), a backslash
//! `\\` (libpq) or as it is (PgBouncer). The messages never repeat the text: it may hold a password.

use std::iter::Peekable;
use std::str::Chars;

/// Why a connection string cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeywordError {
    /// Something that should be a keyword has no `=` after it.
    #[error("expected pairs of keyword=value")]
    NoValue,
    /// A value's closing quote is missing.
    #[error("a quote is not closed")]
    OpenQuote,
    /// Text directly after a closing quote.
    #[error("expected a space after a closing quote")]
    AfterQuote,
}

/// What may stand for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escapes {
    /// A doubled quote, and whatever follows a backslash.
    Backslashes,
    /// A doubled quote, as in a pgbouncer.ini; a backslash is a backslash.
    QuotesOnly,
}

/// The pairs of `text` in their order; keywords may repeat.
pub(super) fn parse(text: &str, escapes: Escapes) -> Result<Vec<(String, String)>, KeywordError> {
    let mut chars = text.chars().peekable();
    let mut pairs = Vec::new();
    loop {
        skip_spaces(&mut chars);
        if chars.peek().is_none() {
            return Ok(pairs);
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| !c.is_whitespace() && *c != '=') {
            key.push(c);
        }
        skip_spaces(&mut chars);
        if key.is_empty() || chars.next_if_eq(&'=').is_none() {
            return Err(KeywordError::NoValue);
        }
        skip_spaces(&mut chars);
        let value =
            if chars.next_if_eq(&'\'').is_some() { quoted(&mut chars, escapes)? } else { bare(&mut chars, escapes) };
        pairs.push((key, value));
    }
}

fn skip_spaces(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| c.is_whitespace()).is_some() {}
}

fn bare(chars: &mut Peekable<Chars<'_>>, escapes: Escapes) -> String {
    let mut value = String::new();
    while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
        let escaped = if c == '\\' && escapes == Escapes::Backslashes { chars.next() } else { Some(c) };
        value.extend(escaped);
    }
    value
}

fn quoted(chars: &mut Peekable<Chars<'_>>, escapes: Escapes) -> Result<String, KeywordError> {
    let mut value = String::new();
    loop {
        match chars.next().ok_or(KeywordError::OpenQuote)? {
            '\\' if escapes == Escapes::Backslashes => value.push(chars.next().ok_or(KeywordError::OpenQuote)?),
            '\'' if chars.next_if_eq(&'\'').is_some() => value.push('\''),
            '\'' => break,
            c => value.push(c),
        }
    }
    match chars.peek() {
        Some(c) if !c.is_whitespace() => Err(KeywordError::AfterQuote),
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pairs_and_quotes() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("  ", &[]),
            ("host=h port=1", &[("host", "h"), ("port", "1")]),
            ("  host = h\tport= 1 ", &[("host", "h"), ("port", "1")]),
            ("dbname='a b'", &[("dbname", "a b")]),
            ("dbname=''", &[("dbname", "")]),
            (r"dbname='it\'s' user='x''y' z='\\'", &[("dbname", "it's"), ("user", "x'y"), ("z", r"\")]),
            (r"dbname=a\ b", &[("dbname", "a b")]),
            ("dbname=a=b", &[("dbname", "a=b")]),
        ];
        for (text, expected) in cases {
            let pairs = parse(text, Escapes::Backslashes).unwrap();
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(&pairs, expected, "{text}");
        }
    }

    #[test]
    fn a_backslash_is_no_escape_in_a_pgbouncer_ini() {
        let pairs = parse(r"a=x\'y b='it''s \' c=\", Escapes::QuotesOnly).unwrap();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("a", r"x\'y"), ("b", r"it's \"), ("c", r"\")]);
    }

    #[test]
    fn what_is_wrong() {
        let parse = |text| parse(text, Escapes::Backslashes);
        assert_eq!(parse("host"), Err(KeywordError::NoValue));
        assert_eq!(parse("=x"), Err(KeywordError::NoValue));
        assert_eq!(parse("postgres://u:p@h/d"), Err(KeywordError::NoValue));
        assert_eq!(parse("a='b"), Err(KeywordError::OpenQuote));
        assert_eq!(parse(r"a='b\"), Err(KeywordError::OpenQuote));
        assert_eq!(parse("a='b'c"), Err(KeywordError::AfterQuote));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = (parse(&text, Escapes::Backslashes), parse(&text, Escapes::QuotesOnly));
        }
    }
}
