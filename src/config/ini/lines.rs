//! The lines of a pgbouncer.ini: sections, settings and includes, without what any of them means.
//!
//! As PgBouncer cuts it: a comment stands on a line of its own, a value is the rest of its line, and what follows a
//! section's bracket is read like a line. Every item has the line that it stands on; what is no item is a mistake of its
//! line only.

/// One thing that a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// `[name]`.
    Section(&'a str),
    /// `name = value`, the name without its quotes.
    Setting { name: String, value: &'a str },
    /// `%include file`.
    Include(&'a str),
}

/// Why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LineError {
    /// A section without its end.
    #[error("a section's closing bracket is missing: write [name]")]
    OpenSection,
    /// `%include` without a file.
    #[error("%include lacks a file: write %include FILE")]
    NoFile,
    /// A quoted name without its end.
    #[error("the quote of a name is not closed")]
    OpenQuote,
    /// Neither of the above nor a setting.
    #[error("expected `name = value`, [section], %include FILE, or a comment that begins with `;` or `#`")]
    NoSetting,
    /// A name with letters that have to be quoted.
    #[error("a name of other letters than A-Z, a-z, 0-9, `_`, `.`, `-` and `*` has to be quoted: \"name\" = value")]
    Unquoted,
}

/// A line, from 1, and what stands there.
pub(super) type Line<'a> = (usize, Result<Item<'a>, LineError>);

/// Everything that `text` says, in its order.
pub(super) fn read(text: &str) -> Vec<Line<'_>> {
    // Editors of other systems put a byte order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let mut rest = line.trim();
        while !rest.is_empty() && !rest.starts_with([';', '#']) {
            let (item, after) = item(rest);
            found.push((index + 1, item));
            rest = after.trim_start();
        }
    }
    found
}

/// The first item of a line that is neither empty nor a comment, and what follows it.
fn item(line: &str) -> (Result<Item<'_>, LineError>, &str) {
    if let Some(rest) = line.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((name, rest)) => (Ok(Item::Section(name)), rest),
            None => (Err(LineError::OpenSection), ""),
        };
    }
    if let Some(rest) = line.strip_prefix("%include") {
        let file = rest.trim_start_matches([' ', '\t']);
        return match (file.is_empty(), file.len() == rest.len()) {
            (true, _) => (Err(LineError::NoFile), ""),
            (false, true) => (Err(LineError::NoSetting), ""),
            (false, false) => (Ok(Item::Include(file)), ""),
        };
    }
    (setting(line), "")
}

fn setting(line: &str) -> Result<Item<'_>, LineError> {
    let (name, rest) = match line.strip_prefix('"') {
        Some(quoted) => unquoted(quoted)?,
        None => {
            let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "_.-*".contains(c))).unwrap_or(line.len());
            let (name, rest) = line.split_at_checked(end).unwrap_or((line, ""));
            (name.to_owned(), rest)
        }
    };
    match rest.trim_start_matches([' ', '\t']).strip_prefix('=') {
        Some(_) if name.is_empty() => Err(LineError::NoSetting),
        Some(value) => Ok(Item::Setting { name, value: value.trim_start_matches([' ', '\t']) }),
        None if rest.contains('=') => Err(LineError::Unquoted),
        None => Err(LineError::NoSetting),
    }
}

/// A name up to its closing quote, two quotes being one of the name, and what follows.
fn unquoted(text: &str) -> Result<(String, &str), LineError> {
    let (mut name, mut rest) = (String::new(), text);
    loop {
        let (part, after) = rest.split_once('"').ok_or(LineError::OpenQuote)?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Ok((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set<'a>(name: &str, value: &'a str) -> Result<Item<'a>, LineError> {
        Ok(Item::Setting { name: name.to_owned(), value })
    }

    #[test]
    fn lines() {
        let cases = [
            ("", vec![]),
            ("  ; x = 1\n\t# [y]\r\n", vec![]),
            ("[pgbouncer]\n  a = b \r\n", vec![(1, Ok(Item::Section("pgbouncer"))), (2, set("a", "b"))]),
            ("a=b ; no comment", vec![(1, set("a", "b ; no comment"))]),
            ("a =", vec![(1, set("a", ""))]),
            ("* = host=x", vec![(1, set("*", "host=x"))]),
            ("a.b-c_1 = [x]", vec![(1, set("a.b-c_1", "[x]"))]),
            ("\"a b\"\"c\" = d", vec![(1, set("a b\"c", "d"))]),
            ("[databases] x = host=h", vec![(1, Ok(Item::Section("databases"))), (1, set("x", "host=h"))]),
            ("[users] ; why", vec![(1, Ok(Item::Section("users")))]),
            ("%include  a b.ini ", vec![(1, Ok(Item::Include("a b.ini")))]),
            ("\u{feff}x = y", vec![(1, set("x", "y"))]),
            ("%include", vec![(1, Err(LineError::NoFile))]),
            ("%includes x", vec![(1, Err(LineError::NoSetting))]),
            ("[x\n[y]", vec![(1, Err(LineError::OpenSection)), (2, Ok(Item::Section("y")))]),
            ("x\n= 5", vec![(1, Err(LineError::NoSetting)), (2, Err(LineError::NoSetting))]),
            ("\"x = 5", vec![(1, Err(LineError::OpenQuote))]),
            ("\u{e4} = 5\na b = 5", vec![(1, Err(LineError::Unquoted)), (2, Err(LineError::Unquoted))]),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(?s).*") {
            let lines = text.split('\n').count();
            prop_assert!(read(&text).iter().all(|(line, _)| (1..=lines).contains(line)));
        }

        #[test]
        fn a_setting_reads_back(name in "[^\n\r\\s]+( [^\n\\s]+)?", value in "[^\\s]+( [^\\s]+)*") {
            let text = format!("\"{}\" = {value}", name.replace('"', "\"\""));
            prop_assert_eq!(read(&text), vec![(1, set(&name, &value))]);
        }
    }
}
