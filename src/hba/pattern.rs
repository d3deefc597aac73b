//! Regular expressions for names, `/expression`.
//!
//! PostgreSQL's are its "advanced regular expressions"; ours are those of the crate `regex`, which agree on what names are
//! usually matched with (classes, groups, alternatives, repetition, `^` and `$`). What one of the two would read in
//! another way is refused instead of guessed at: back references and looking around do not compile, and `dialect` finds
//! what does. As in PostgreSQL a dot takes a line's end as well, and an expression without `^` and `$` may match anywhere.

use regex::{Regex, RegexBuilder};

use super::mistake::Mistake;

/// Names between `[:` and `:]` that both know.
const CLASSES: [&str; 12] =
    ["alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit"];

/// A compiled expression; two are the same if their texts are.
#[derive(Clone, Debug)]
pub struct Pattern {
    expression: String,
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.expression == other.expression
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// Compiles an expression, without its slash.
    pub(super) fn new(expression: &str) -> Result<Self, Mistake> {
        dialect(expression)?;
        let regex = RegexBuilder::new(expression).dot_matches_new_line(true).build().map_err(|error| {
            // The last line has the reason; those above point at the place with spaces.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason).to_owned();
            Mistake::Expression { expression: expression.to_owned(), reason }
        })?;
        Ok(Self { expression: expression.to_owned(), regex })
    }

    /// The expression without its slash.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Whether some part of `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }

    /// Whether it has a group for `\1`.
    pub(super) fn has_group(&self) -> bool {
        self.regex.captures_len() > 1
    }

    /// What the first group matched, if the whole matches: `Some("")` for an empty match, `Some(None)` where the group
    /// took no part.
    pub(super) fn first_group<'n>(&self, name: &'n str) -> Option<Option<&'n str>> {
        let captures = self.regex.captures(name)?;
        Some(captures.get(1).map(|group| group.as_str()))
    }
}

/// Refuses what both dialects accept and read in two ways.
fn dialect(expression: &str) -> Result<(), Mistake> {
    let refuse = |construct: &str, instead: &'static str| {
        Err(Mistake::Dialect { expression: expression.to_owned(), construct: construct.to_owned(), instead })
    };
    if expression.starts_with("***") {
        return refuse("***", "the expression without this prefix");
    }
    let mut chars = expression.chars().peekable();
    let mut in_class = false;
    let mut class_begins = false;
    while let Some(c) = chars.next() {
        let begins = std::mem::take(&mut class_begins);
        match (c, chars.peek().copied()) {
            ('\\', Some(escaped)) => {
                chars.next();
                let same = match escaped {
                    '<' | '>' => false,
                    'd' | 'D' | 's' | 'S' | 'w' | 'W' | 't' | 'n' | 'r' | 'f' | 'v' => true,
                    'A' => !in_class,
                    _ => !escaped.is_alphanumeric(),
                };
                if !same {
                    return refuse(&format!("\\{escaped}"), "characters, classes such as [0-9a-f], ^ and $");
                }
            }
            ('[', next) if !in_class => {
                in_class = true;
                class_begins = true;
                if next == Some('^') {
                    chars.next();
                }
            }
            ('[', Some(':')) if in_class => {
                chars.next();
                let mut name = String::new();
                while let Some(letter) = chars.next_if(char::is_ascii_lowercase) {
                    name.push(letter);
                }
                // Of any other name the brackets would be a class of their own.
                let ends = chars.next() == Some(':') && chars.next() == Some(']');
                if !ends || !CLASSES.contains(&name.as_str()) {
                    return refuse(&format!("[:{name}"), "one of PostgreSQL's classes, like [:alpha:] or [:digit:]");
                }
            }
            ('[', _) if in_class => return refuse("[ within brackets", "\\[ for the character"),
            (']', _) if in_class && !begins => in_class = false,
            ('&', Some('&')) | ('-', Some('-')) | ('~', Some('~')) if in_class => {
                return refuse(&format!("{c}{c} within brackets"), "the character once, or with a backslash");
            }
            ('(', Some('?')) => {
                chars.next();
                // (?: groups mean the same; options are spelled differently.
                if chars.peek() != Some(&':') {
                    return refuse("(?", "(?: ) or ( ) without options");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_anywhere_unless_anchored() {
        let cases = [
            ("app", "my_app_1", true),
            ("^app$", "app", true),
            ("^app$", "app2", false),
            (r"^db\d{2,4}$", "db123", true),
            ("^(a|b)+$", "abba", true),
            ("^(?:a|b)$", "c", false),
            ("^[[:alpha:]_]+$", "ab_c", true),
            ("^[]a]+$", "]a", true),
            ("^[^]a]+$", "]", false),
            ("^a.b$", "a\nb", true),
            ("App", "app", false),
            ("", "anything", true),
            (r"^a\.b$", "a.b", true),
            (r"\Aa", "ab", true),
        ];
        for (expression, name, matches) in cases {
            assert_eq!(Pattern::new(expression).unwrap().matches(name), matches, "/{expression} {name}");
        }
    }

    #[test]
    fn what_postgresql_reads_otherwise_is_refused() {
        for expression in [
            r"\bapp",
            r"app\>",
            r"\Bx",
            r"\yx",
            r"\mx",
            r"(a)\1",
            r"\x41",
            "[[.a.]]",
            "[[=a=]]",
            "[a[b]]",
            "[a&&b]",
            "[a--b]",
            "(?i)a",
            "(?=a)b",
            "(?<n>a)",
            "***:a",
            r"\p{L}",
            r"a\z",
            "(",
            "[a",
            "a{2",
            "*a",
            "[[:alfa:]]",
            "[[:^alpha:]]",
            "[[:alpha]",
            r"a\",
        ] {
            let mistake = Pattern::new(expression).unwrap_err();
            assert!(matches!(mistake, Mistake::Dialect { .. } | Mistake::Expression { .. }), "{expression}: {mistake}");
        }
    }
}
