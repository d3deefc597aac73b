//! Rust source as a list of tokens and the paths in it, as far as the rules of the layers need that: comments, literals
//! and lifetimes are gone, and so is what is compiled for tests only.

/// An identifier, `::`, or one other character; with its line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) line: usize,
}

/// A path as it is written, its parts without `::`; `use a::{b, c::d}` gives `a::b` and `a::c::d`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct UsedPath<'a> {
    pub(super) parts: Vec<&'a str>,
    pub(super) line: usize,
    /// How many inline modules stand around it in the file.
    pub(super) depth: usize,
    /// In a `use` or `extern crate` item, where a single part is a path, too.
    pub(super) imported: bool,
}

/// The tokens of what is compiled into the program.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    without_test_code(&all_tokens(text))
}

pub(super) fn paths<'a>(tokens: &[Token<'a>]) -> Vec<UsedPath<'a>> {
    let mut paths = Vec::new();
    let mut braces = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let depth = braces.iter().filter(|is_module| **is_module).count();
        match token.text {
            "{" => braces.push(at >= 2 && tokens[at - 2].text == "mod"),
            "}" => drop(braces.pop()),
            "use" => {
                at = use_tree(tokens, at + 1, (&[], depth), &mut paths);
                continue;
            }
            "crate" if at > 0 && tokens[at - 1].text == "extern" => {
                let name = tokens.get(at + 1).map_or("", |name| name.text);
                paths.push(UsedPath { parts: vec![name], line: token.line, depth, imported: true });
                at += 1;
            }
            _ if is_path_start(tokens, at) => {
                let (parts, end) = plain_path(tokens, at);
                paths.push(UsedPath { parts, line: token.line, depth, imported: false });
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    paths
}

/// One branch of a `use`, from its first token; returns where it ends.
fn use_tree<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    (prefix, depth): (&[&'a str], usize),
    paths: &mut Vec<UsedPath<'a>>,
) -> usize {
    let mut parts = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        match token.text {
            "::" => {}
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    let end = use_tree(tokens, at, (&parts, depth), paths);
                    // Over the comma, or over what is no part of a `use`.
                    at = end + usize::from(tokens.get(end).is_some_and(|token| token.text == ",") || end == at);
                }
                return at + 1;
            }
            "as" => at += 1,
            name if is_name(name) || name == "*" => parts.push(name),
            _ => break,
        }
        at += 1;
    }
    if parts.len() > prefix.len() {
        paths.push(UsedPath { parts, line, depth, imported: true });
    }
    at
}

/// A name that is followed by `::` and is not itself a later part, a method's name or a field.
fn is_path_start(tokens: &[Token<'_>], at: usize) -> bool {
    let follows = at.checked_sub(1).and_then(|before| tokens.get(before)).map_or("", |before| before.text);
    // `::name` starts a path when nothing but a keyword or punctuation stands before it.
    let continues = follows == "::" && at >= 2 && (is_name(tokens[at - 2].text) || tokens[at - 2].text == ">");
    is_name(tokens[at].text) && tokens.get(at + 1).is_some_and(|next| next.text == "::") && follows != "." && !continues
}

fn plain_path<'a>(tokens: &[Token<'a>], mut at: usize) -> (Vec<&'a str>, usize) {
    let mut parts = vec![tokens[at].text];
    while let [separator, name, ..] = &tokens[at + 1..] {
        if separator.text != "::" || !is_name(name.text) {
            break;
        }
        parts.push(name.text);
        at += 2;
    }
    (parts, at + 1)
}

pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn all_tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, is_token) = next_token(rest, first);
        if is_token {
            tokens.push(Token { text: &rest[..length], line });
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// The length of what stands at the beginning, and whether it counts.
fn next_token(rest: &str, first: char) -> (usize, bool) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), false);
    }
    if let Some(length) = string(rest) {
        return (length, false);
    }
    if first == '\'' {
        return (character_or_lifetime(rest), false);
    }
    if first.is_alphanumeric() || first == '_' {
        let end = rest.find(|other: char| !other.is_alphanumeric() && other != '_').unwrap_or(rest.len());
        return (end, true);
    }
    if rest.starts_with("::") {
        return (2, true);
    }
    (first.len_utf8(), !first.is_whitespace())
}

fn block_comment(rest: &str) -> usize {
    let (mut at, mut open) = (0, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        let step = match here {
            [b'/', b'*', ..] => {
                open += 1;
                2
            }
            [b'*', b'/', ..] => {
                open -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if open == 0 {
            break;
        }
    }
    at
}

/// `"..."`, `b"..."`, `c"..."`, and raw with any number of `#`.
fn string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let inside = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", &raw[..hashes]);
        let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
        return Some(rest.len() - inside.len() + length);
    }
    let inside = body.strip_prefix('"')?;
    let mut escaped = false;
    for (at, character) in inside.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(rest.len() - inside.len() + at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

fn character_or_lifetime(rest: &str) -> usize {
    let mut inside = rest.char_indices().skip(1);
    match (inside.next(), inside.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            rest[escaped + 1..].find('\'').map_or(rest.len(), |at| escaped + 1 + at + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => rest[1..].find(|other: char| !other.is_alphanumeric() && other != '_').map_or(rest.len(), |at| at + 1),
    }
}

/// Drops each item under `#[cfg(test)]` or a `#[...test]` attribute, to its `;` or its closing brace.
fn without_test_code<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match attribute_end(tokens, at) {
            Some(end) if is_for_tests(&tokens[at..end]) => at = item_end(tokens, end),
            _ => {
                kept.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    kept
}

/// Behind the `]` of an outer attribute that begins here.
pub(super) fn attribute_end(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let [hash, bracket, ..] = &tokens[at..] else { return None };
    (hash.text == "#" && bracket.text == "[").then(|| closing(tokens, at + 1) + 1)
}

fn is_for_tests(attribute: &[Token<'_>]) -> bool {
    let has = |name| attribute.iter().any(|token| token.text == name);
    let last = attribute.len().checked_sub(2).map_or("", |at| attribute[at].text);
    (has("cfg") && has("test") && !has("not") && !has("any")) || last == "test"
}

fn item_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.text {
            ";" => return at + 1,
            "{" => {
                let end = closing(tokens, at) + 1;
                // A `use` goes on behind its braces.
                if tokens.get(end).is_none_or(|token| token.text != ";") {
                    return end;
                }
                at = end;
            }
            "(" | "[" => at = closing(tokens, at) + 1,
            _ => at += 1,
        }
    }
    at
}

/// Where the bracket that opens here is closed.
fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}
