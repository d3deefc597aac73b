//! A script of the console, cut into statements and these into tokens. Comments and quotes are SQL's.

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A word or number, as written.
    Word(&'a str),
    /// `"…"`, without the quotes.
    Name(String),
    /// `'…'`, without the quotes.
    Text(String),
    /// Any other character.
    Mark(char),
}

/// A statement that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement<'a> {
    /// Its tokens, at least one.
    pub(super) tokens: Vec<Token<'a>>,
    /// Its text, for messages.
    pub(super) text: &'a str,
}

/// What was opened and not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unterminated {
    /// `"`
    #[error("unterminated quoted identifier")]
    Name,
    /// `'`
    #[error("unterminated quoted string")]
    Text,
    /// `/*`
    #[error("unterminated /* comment")]
    Comment,
}

/// The statements of a script; what is empty between two semicolons is none.
pub(super) fn statements(script: &str) -> Result<Vec<Statement<'_>>, Unterminated> {
    let mut found = Vec::new();
    let mut tokens = Vec::new();
    let mut rest = script;
    let mut start = script;
    loop {
        rest = skip_blank(rest)?;
        if tokens.is_empty() {
            start = rest;
        }
        let Some(first) = rest.chars().next() else { break };
        let before = rest;
        let (token, after) = token(first, rest)?;
        rest = after;
        match token {
            Token::Mark(';') => finish(&mut found, &mut tokens, start, before),
            other => tokens.push(other),
        }
    }
    finish(&mut found, &mut tokens, start, rest);
    Ok(found)
}

/// Ends a statement whose text starts at `start` and ends before `rest`, both ends of the same script.
fn finish<'a>(found: &mut Vec<Statement<'a>>, tokens: &mut Vec<Token<'a>>, start: &'a str, rest: &str) {
    if tokens.is_empty() {
        return;
    }
    let text = start.get(..start.len().saturating_sub(rest.len())).unwrap_or(start).trim_end();
    found.push(Statement { tokens: std::mem::take(tokens), text });
}

fn token(first: char, rest: &str) -> Result<(Token<'_>, &str), Unterminated> {
    let tail = rest.get(first.len_utf8()..).unwrap_or_default();
    match first {
        '"' => quoted(tail, '"').map(|(name, rest)| (Token::Name(name), rest)).ok_or(Unterminated::Name),
        '\'' => quoted(tail, '\'').map(|(text, rest)| (Token::Text(text), rest)).ok_or(Unterminated::Text),
        _ if in_word(first) => {
            let (word, rest) = rest.split_at(rest.find(|letter| !in_word(letter)).unwrap_or(rest.len()));
            Ok((Token::Word(word), rest))
        }
        mark => Ok((Token::Mark(mark), tail)),
    }
}

/// Letters, digits, and what joins them in a qualified name or a number.
fn in_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '.'
}

/// What stands before the closing quote, a doubled one being a quote, and what follows.
fn quoted(mut rest: &str, quote: char) -> Option<(String, &str)> {
    let mut text = String::new();
    loop {
        let (head, tail) = rest.split_once(quote)?;
        text.push_str(head);
        match tail.strip_prefix(quote) {
            Some(more) => {
                text.push(quote);
                rest = more;
            }
            None => return Some((text, tail)),
        }
    }
}

/// Skips white space and comments.
fn skip_blank(mut rest: &str) -> Result<&str, Unterminated> {
    loop {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = after_comment(comment).ok_or(Unterminated::Comment)?;
        } else {
            return Ok(rest);
        }
    }
}

/// What follows a comment whose opening was read; comments nest, as PostgreSQL's do.
fn after_comment(mut rest: &str) -> Option<&str> {
    let mut depth = 1usize;
    while depth > 0 {
        rest = rest.get(rest.find(['*', '/'])?..)?;
        if let Some(after) = rest.strip_prefix("*/") {
            (depth, rest) = (depth - 1, after);
        } else if let Some(after) = rest.strip_prefix("/*") {
            (depth, rest) = (depth + 1, after);
        } else {
            rest = rest.get(1..)?;
        }
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(script: &str) -> Vec<&str> {
        statements(script).unwrap().into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn scripts_are_cut_at_semicolons() {
        assert_eq!(texts("SHOW POOLS"), ["SHOW POOLS"]);
        assert_eq!(
            texts(" ;; show pools ; -- a;b\n pause /* ; /* ; */ */ \"a;b\" ;"),
            ["show pools", "pause /* ; /* ; */ */ \"a;b\""]
        );
        assert!(texts("-- ping").is_empty());
        assert!(texts("  ;").is_empty());
        assert!(texts("").is_empty());
    }

    #[test]
    fn quotes_are_taken_off() {
        let found = statements("set a.b = 'it''s' \"x\"\"y\",-1").unwrap();
        assert_eq!(
            found[0].tokens,
            [
                Token::Word("set"),
                Token::Word("a.b"),
                Token::Mark('='),
                Token::Text("it's".to_owned()),
                Token::Name("x\"y".to_owned()),
                Token::Mark(','),
                Token::Mark('-'),
                Token::Word("1"),
            ]
        );
    }

    #[test]
    fn what_is_opened_must_be_closed() {
        for (script, error) in [
            ("pause \"a", Unterminated::Name),
            ("set a = 'b''", Unterminated::Text),
            ("show /* pools", Unterminated::Comment),
            ("show /* /* */ pools", Unterminated::Comment),
            ("/*", Unterminated::Comment),
        ] {
            assert_eq!(statements(script), Err(error), "{script}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_scripts_never_panic(script in "[ -~;'\"/*\u{e9}\u{1f600}\n-]{0,200}") {
            for statement in statements(&script).unwrap_or_default() {
                prop_assert!(!statement.tokens.is_empty() && script.contains(statement.text));
            }
        }
    }
}
