//! PgBouncer's file of users: `"user" "secret"` per line.
//!
//! A quote inside a string is doubled; what follows the second string is ignored; lines that are empty or begin with `;`
//! or `#` are skipped. There is no limit on lengths. Messages never repeat a line, which may hold a password.

use std::str::Chars;

use crate::config::secret::Secret;

/// One user of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Line from 1.
    pub line: usize,
    /// Name of the user, not empty.
    pub user: String,
    /// The secret; `None` for the empty string, with which nobody can log in.
    pub secret: Option<Secret>,
}

/// Why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The line does not begin with a quoted string.
    #[error("expected \"user\" \"secret\"")]
    NoUser,
    /// There is no second quoted string.
    #[error("expected a quoted secret after the user")]
    NoSecret,
    /// A closing quote is missing.
    #[error("a quote is not closed")]
    OpenQuote,
    /// The user's name is empty.
    #[error("the user's name is empty")]
    EmptyUser,
    /// A zero byte, which no PostgreSQL message can carry.
    #[error("a zero byte is not allowed")]
    ZeroByte,
}

/// Reads a whole file: the users in their order (names may repeat), and the lines (from 1) that cannot be read.
pub fn parse(text: &str) -> (Vec<Entry>, Vec<(usize, LineError)>) {
    let (mut entries, mut errors) = (Vec::new(), Vec::new());
    // Editors of other systems put a byte order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, content) in text.lines().enumerate() {
        let line = index + 1;
        match parse_line(content) {
            Ok(Some((user, secret))) => entries.push(Entry { line, user, secret }),
            Ok(None) => {}
            Err(error) => errors.push((line, error)),
        }
    }
    (entries, errors)
}

fn parse_line(content: &str) -> Result<Option<(String, Option<Secret>)>, LineError> {
    let content = content.trim_start();
    if content.is_empty() || content.starts_with([';', '#']) {
        return Ok(None);
    }
    if content.contains('\0') {
        return Err(LineError::ZeroByte);
    }
    let rest = content.strip_prefix('"').ok_or(LineError::NoUser)?;
    let (user, rest) = quoted(rest)?;
    let rest = rest.trim_start().strip_prefix('"').ok_or(LineError::NoSecret)?;
    let (secret, _) = quoted(rest)?;
    if user.is_empty() {
        return Err(LineError::EmptyUser);
    }
    let secret = (!secret.is_empty()).then(|| Secret::new(&secret));
    Ok(Some((user, secret)))
}

/// The string up to the closing quote, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), LineError> {
    let mut value = String::new();
    let mut chars: Chars<'_> = text.chars();
    loop {
        match chars.next().ok_or(LineError::OpenQuote)? {
            '"' => match chars.as_str().strip_prefix('"') {
                Some(rest) => {
                    value.push('"');
                    chars = rest.chars();
                }
                None => return Ok((value, chars.as_str())),
            },
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Result<Option<(String, String)>, LineError> {
        let exposed = |secret: Option<Secret>| secret.map(|secret| secret.expose().to_owned()).unwrap_or_default();
        parse_line(line).map(|found| found.map(|(user, secret)| (user, exposed(secret))))
    }

    #[test]
    fn lines() {
        let long = "x".repeat(100_000);
        let long_line = format!("\"{long}\" \"{long}\"");
        let cases: &[(&str, &str, &str)] = &[
            (r#""alice" "secret""#, "alice", "secret"),
            (r#"  "alice"  "secret""#, "alice", "secret"),
            (r#""alice" "secret" "ignored" and more"#, "alice", "secret"),
            (r#""a""b" "c""""#, "a\"b", "c\""),
            (r#""alice" """#, "alice", ""),
            (r##""#alice" ";""##, "#alice", ";"),
            ("\"ünï\"\t\"pässword\"", "ünï", "pässword"),
            (&long_line, &long, &long),
        ];
        for (line, user, secret) in cases {
            assert_eq!(read(line), Ok(Some(((*user).to_owned(), (*secret).to_owned()))));
        }
        for line in ["", "   ", "; comment", "  # comment"] {
            assert_eq!(read(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn broken_lines() {
        let cases = [
            ("alice secret", LineError::NoUser),
            (r#""alice"#, LineError::OpenQuote),
            (r#""alice""#, LineError::NoSecret),
            (r#""alice" secret"#, LineError::NoSecret),
            (r#""alice" "secret"#, LineError::OpenQuote),
            (r#""" "secret""#, LineError::EmptyUser),
            ("\"a\0\" \"b\"", LineError::ZeroByte),
        ];
        for (line, error) in cases {
            assert_eq!(read(line), Err(error), "{line}");
        }
    }

    #[test]
    fn a_file_reports_every_broken_line() {
        let (entries, errors) = parse("; users\r\n\"a\" \"1\"\r\nb\n\n\"c\" \"\"\n\"d\n");
        let found: Vec<(usize, &str)> = entries.iter().map(|entry| (entry.line, entry.user.as_str())).collect();
        assert_eq!(found, [(2, "a"), (5, "c")]);
        assert_eq!(entries[1].secret, None);
        assert_eq!(errors, [(3, LineError::NoUser), (6, LineError::OpenQuote)]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(?s).*") {
            let _ = parse(&text);
        }

        #[test]
        fn quoting_goes_both_ways(user in "[^\0\r\n]+", secret in "[^\0\r\n]*") {
            let line = format!("\"{}\" \"{}\"", user.replace('"', "\"\""), secret.replace('"', "\"\""));
            prop_assert_eq!(read(&line), Ok(Some((user, secret))));
        }
    }
}
