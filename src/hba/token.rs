//! From the text of a file to lines of fields of tokens, as PostgreSQL's tokenizer cuts them.
//!
//! Fields are apart by blanks; tokens of a field by commas. Within `"..."` blanks, commas and `#` are themselves and `""`
//! is a quote; `#` begins a comment; a line that ends in a backslash goes on in the next, in comments and quotes too.
//! Files are not read here: `@name` and `include` are `source`'s.

use super::mistake::Mistake;

/// A name or keyword.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Without its quotes.
    pub(super) text: String,
    /// Whether it begins with a quote, which takes the special meaning from keywords, `@` and `+`.
    pub(super) quoted: bool,
}

impl Token {
    /// Whether it is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }
}

/// A line after its continuations were put together, and the number of its first line, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) number: usize,
    pub(super) text: String,
}

/// Puts continued lines together.
pub(super) fn whole_lines(text: &str) -> Vec<Whole> {
    // Editors of other systems put a byte order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Vec::new();
    let mut physical = text.split('\n').enumerate();
    while let Some((index, first)) = physical.next() {
        let mut whole = first.trim_end_matches('\r').to_owned();
        // A backslash that was left by a continuation does not continue once more.
        let mut joined = 0;
        while whole.len() > joined && whole.ends_with('\\') {
            whole.pop();
            joined = whole.len();
            let Some((_, next)) = physical.next() else { break };
            whole.push_str(next.trim_end_matches('\r'));
        }
        lines.push(Whole { number: index + 1, text: whole });
    }
    lines
}

/// Cuts one whole line into fields, each of at least one token. An empty line, or one of a comment only, has none.
pub(super) fn fields(line: &str) -> Result<Vec<Vec<Token>>, Mistake> {
    if line.contains('\0') {
        return Err(Mistake::ZeroByte);
    }
    let mut rest = line;
    let mut fields = Vec::new();
    loop {
        let mut field = Vec::new();
        loop {
            let (token, after, comma) = next_token(rest)?;
            rest = after;
            let Some(token) = token else { break };
            field.push(token);
            if !comma {
                break;
            }
        }
        if field.is_empty() {
            return Ok(fields);
        }
        fields.push(field);
    }
}

fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r')
}

/// The next token of a line, what follows it, and whether a comma ended it.
fn next_token(line: &str) -> Result<(Option<Token>, &str, bool), Mistake> {
    let line = line.trim_start_matches(|c| blank(c) || c == ',');
    let mut text = String::new();
    let (mut quoted, mut in_quote, mut was_quote, mut saw_quote) = (false, false, false, false);
    let (mut rest, mut comma) = ("", false);
    for (at, c) in line.char_indices() {
        if !in_quote {
            if blank(c) {
                rest = line.get(at..).unwrap_or_default();
                break;
            }
            if c == '#' {
                break;
            }
            if c == ',' {
                rest = line.get(at + 1..).unwrap_or_default();
                comma = true;
                break;
            }
        }
        if c != '"' || was_quote {
            text.push(c);
        }
        was_quote = in_quote && c == '"' && !was_quote;
        if c == '"' {
            in_quote = !in_quote;
            saw_quote = true;
            quoted |= text.is_empty();
        }
    }
    if in_quote {
        return Err(Mistake::OpenQuote);
    }
    let token = (saw_quote || !text.is_empty()).then_some(Token { text, quoted });
    Ok((token, rest, comma))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(line: &str) -> String {
        let shown = |token: &Token| if token.quoted { format!("<{}>", token.text) } else { token.text.clone() };
        match fields(line) {
            Ok(fields) => fields
                .iter()
                .map(|field| field.iter().map(shown).collect::<Vec<_>>().join("|"))
                .collect::<Vec<_>>()
                .join(" "),
            Err(mistake) => format!("error: {mistake}"),
        }
    }

    #[test]
    fn lines_are_cut_as_postgresql_cuts_them() {
        let cases = [
            ("", ""),
            ("   # comment", ""),
            ("# a \"b", ""),
            ("local all all trust", "local all all trust"),
            ("\tlocal\tall  all\r", "local all all"),
            ("a,b c", "a|b c"),
            ("a, b c", "a|b c"),
            ("a ,b c", "a b c"),
            ("a,,b", "a|b"),
            (",a,", "a"),
            ("a,# b", "a"),
            ("a#b c", "a"),
            (r#""a b" c"#, "<a b> c"),
            (r#""a,b",c"#, "<a,b>|c"),
            (r#""a#b""#, "<a#b>"),
            (r#""a""b""#, "<a\"b>"),
            (r#""""""#, "<\">"),
            (r#""" a"#, "<> a"),
            (r#"a"b c"d"#, "ab cd"),
            (r#"ldapsuffix=", dc=x" y"#, "ldapsuffix=, dc=x y"),
            (r#""all"x"#, "<allx>"),
            (r#""a b"#, "error: a quote is not closed: end the name with \""),
            ("a\0b", "error: a zero byte is not allowed"),
        ];
        for (line, expected) in cases {
            assert_eq!(cut(line), expected, "{line}");
        }
    }

    #[test]
    fn a_backslash_at_the_end_continues_a_line() {
        let whole = |text: &str| {
            whole_lines(text).into_iter().map(|line| format!("{}:{}", line.number, line.text)).collect::<Vec<_>>()
        };
        assert_eq!(whole("a\\\nb\nc"), ["1:ab", "3:c"]);
        assert_eq!(whole("a \\\r\n b\r\nc"), ["1:a  b", "3:c"]);
        assert_eq!(whole("# a\\\nb\nc"), ["1:# ab", "3:c"]);
        assert_eq!(whole("a\\\\\n\nc"), ["1:a\\", "3:c"]);
        assert_eq!(whole("a\\\n\\\nb"), ["1:ab"]);
        assert_eq!(whole("a\\"), ["1:a"]);
        assert_eq!(whole("\u{feff}a\n"), ["1:a", "2:"]);
    }
}
