//! The tokenizer: PostgreSQL's `scan.l` as a machine that may be stopped behind any byte.
//!
//! It finds the borders of tokens exactly as PostgreSQL does wherever PostgreSQL accepts the text. Where it does not
//! (a word that begins inside of a number, say) the tokens are of no consequence: an error there means that nothing of
//! the text is run.

mod dollar;
mod text;
mod word;

use super::keyword::Keyword;
use super::token::{Kept, Kind, Sink, Token, Wanted, Word};
use super::{Characters, Dialect};

#[derive(Debug)]
pub(super) struct Lexer {
    dialect: Dialect,
    state: State,
    /// The next byte is the second one of a character.
    pair: bool,
    /// Where the token under way starts, and where its last closing quote ends.
    start: usize,
    end: usize,
    /// Where the piece ends that is read.
    read: usize,
    /// The word under way, or the delimiter of a dollar quote with both dollars.
    word: Kept,
    text: Kept,
    wanted: Wanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    Word,
    /// Behind `u&`.
    Unicode,
    Number,
    Parameter(Option<u16>),
    Dash,
    Slash,
    LineComment,
    /// A comment within so many others, and the byte before.
    BlockComment(u32, u8),
    Quoted(Identifier),
    /// Behind a `"` that ends the identifier, unless another one follows.
    QuotedEnd(Identifier),
    Text(Style),
    /// Behind a backslash.
    Escape,
    /// Behind a `'` that ends the string, unless another one follows.
    TextEnd(Style),
    /// Behind a string, which goes on if a newline and a `'` follow.
    Gap(Style, Newline),
    GapDash(Style),
    GapComment(Style),
    Dollar,
    Tag,
    /// Inside of a dollar quote, behind so many bytes that may be its delimiter.
    Body(usize),
    /// Nothing is read any more.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identifier {
    Plain,
    Unicode,
}

/// How a string constant is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    /// `E'...'`
    Escape,
    /// `B'...'` and `X'...'`, where a quote cannot be doubled.
    Bits,
    /// `U&'...'`
    Unicode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newline {
    Seen,
    NotSeen,
}

impl Lexer {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            state: State::Between,
            pair: false,
            start: 0,
            end: 0,
            read: 0,
            word: Kept::new(),
            text: Kept::new(),
            wanted: Wanted::Nothing,
        }
    }

    /// Reads the next bytes, none of which is NUL.
    pub(super) fn feed<S: Sink>(&mut self, bytes: &[u8], sink: &mut S) {
        self.read += bytes.len();
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Between => self.between(rest, sink),
                State::Word => self.word(rest, sink),
                State::Unicode => self.unicode(rest, sink),
                State::Number | State::Parameter(_) => self.digits(rest, sink),
                State::Dash | State::Slash => self.comment_or_mark(rest, sink),
                State::LineComment => self.line_comment(rest, State::Between),
                State::BlockComment(depth, before) => self.block_comment((depth, before), rest),
                State::Quoted(identifier) => self.quoted(identifier, rest),
                State::QuotedEnd(identifier) => self.quoted_end(identifier, rest, sink),
                State::Text(style) => self.text(style, rest, sink),
                State::Escape => self.escape(rest, sink),
                State::TextEnd(style) => self.text_end(style, rest, sink),
                State::Gap(..) | State::GapDash(_) => self.gap(rest, sink),
                State::GapComment(style) => self.line_comment(rest, State::Gap(style, Newline::Seen)),
                State::Dollar => self.dollar(rest, sink),
                State::Tag => self.tag(rest, sink),
                State::Body(matched) => self.body(matched, rest, sink),
                State::Lost => &[],
            };
        }
    }

    /// The text is over.
    pub(super) fn finish<S: Sink>(&mut self, sink: &mut S) {
        self.end_token(self.read, sink);
    }

    /// Where `rest`, the end of the piece, starts in the text.
    fn at(&self, rest: &[u8]) -> usize {
        self.read - rest.len()
    }

    /// Ends the token that is under way, `at` being behind it. The next byte is read as the beginning of another one.
    fn end_token<S: Sink>(&mut self, at: usize, sink: &mut S) {
        let start = self.start;
        match std::mem::replace(&mut self.state, State::Between) {
            State::Between | State::LineComment | State::Lost => {}
            State::Word => self.emit_word(at, sink),
            State::Unicode => {
                let word = Word { text: b"u", keyword: Keyword::None, quoted: false };
                emit(Kind::Word(word), start..start + 1, sink);
                emit(Kind::Mark(b'&'), start + 1..start + 2, sink);
            }
            State::Number => emit(Kind::Number, start..at, sink),
            State::Parameter(number) => emit(Kind::Parameter(number), start..at, sink),
            State::Dash => emit(Kind::Mark(b'-'), start..start + 1, sink),
            State::Slash => emit(Kind::Mark(b'/'), start..start + 1, sink),
            State::Dollar | State::Tag => emit(Kind::Mark(b'$'), start..start + 1, sink),
            State::QuotedEnd(identifier) => self.emit_quoted(identifier, at, sink),
            State::TextEnd(style) | State::Gap(style, _) | State::GapComment(style) => self.emit_text(style, sink),
            State::GapDash(style) => {
                self.emit_text(style, sink);
                emit(Kind::Mark(b'-'), at.saturating_sub(1)..at, sink);
            }
            State::BlockComment(..) | State::Quoted(_) | State::Text(_) | State::Escape | State::Body(_) => {
                emit(Kind::Unreadable, start..at, sink);
            }
        }
    }

    fn between<'a, S: Sink>(&mut self, mut rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        while let Some((&byte, tail)) = rest.split_first() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => rest = tail,
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => {
                    if let Some(behind) = self.pass_word(rest, sink) {
                        rest = behind;
                        continue;
                    }
                    self.start = self.at(rest);
                    self.word.clear();
                    self.state = State::Word;
                    rest = self.word(rest, sink);
                    if self.state != State::Between {
                        return rest;
                    }
                }
                b'0'..=b'9' | b'\'' | b'"' | b'$' | b'-' | b'/' => {
                    self.start = self.at(rest);
                    self.state = match byte {
                        b'\'' => {
                            let style = if self.dialect.standard_strings { Style::Plain } else { Style::Escape };
                            self.begin_text(style, sink)
                        }
                        b'"' => {
                            self.word.clear();
                            State::Quoted(Identifier::Plain)
                        }
                        b'$' => State::Dollar,
                        b'-' => State::Dash,
                        b'/' => State::Slash,
                        _ => State::Number,
                    };
                    return tail;
                }
                _ => {
                    let at = self.at(rest);
                    emit(Kind::Mark(byte), at..at + 1, sink);
                    rest = tail;
                }
            }
        }
        rest
    }

    fn digits<'a, S: Sink>(&mut self, mut rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        while let Some((&byte, tail)) = rest.split_first() {
            if !byte.is_ascii_digit() {
                self.end_token(self.at(rest), sink);
                return rest;
            }
            if let State::Parameter(number) = &mut self.state {
                let digit = u16::from(byte - b'0');
                *number = number.and_then(|number| number.checked_mul(10)).and_then(|number| number.checked_add(digit));
            }
            rest = tail;
        }
        rest
    }

    fn comment_or_mark<'a, S: Sink>(&mut self, rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        self.state = match (self.state, rest.first()) {
            (State::Dash, Some(b'-')) => State::LineComment,
            (State::Slash, Some(b'*')) => State::BlockComment(1, 0),
            _ => {
                self.end_token(self.at(rest), sink);
                return rest;
            }
        };
        skip(rest, 1)
    }

    /// Up to the end of the line, and then in that state.
    fn line_comment<'a>(&mut self, rest: &'a [u8], then: State) -> &'a [u8] {
        let Some(newline) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else { return &[] };
        self.state = then;
        skip(rest, newline + 1)
    }

    fn block_comment<'a>(&mut self, (mut depth, mut before): (u32, u8), rest: &'a [u8]) -> &'a [u8] {
        for (at, &byte) in rest.iter().enumerate() {
            match (before, byte) {
                (b'*', b'/') if depth == 1 => {
                    self.state = State::Between;
                    return skip(rest, at + 1);
                }
                (b'*', b'/') => {
                    depth -= 1;
                    before = 0;
                }
                (b'/', b'*') => {
                    depth = depth.saturating_add(1);
                    before = 0;
                }
                _ => before = byte,
            }
        }
        self.state = State::BlockComment(depth, before);
        &[]
    }

    /// Whether `byte` is the second one of a character; asked once. Below 0x30 there is none in any encoding.
    fn take_second(&mut self, byte: u8) -> bool {
        self.pair && std::mem::take(&mut self.pair) && byte >= 0x30
    }

    fn leads(&self, byte: u8) -> bool {
        self.dialect.characters.leads(byte)
    }

    /// Whether any byte may lead.
    fn has_pairs(&self) -> bool {
        self.dialect.characters != Characters::Plain
    }
}

fn skip(bytes: &[u8], count: usize) -> &[u8] {
    bytes.get(count..).unwrap_or_default()
}

#[inline(always)]
fn emit<S: Sink>(kind: Kind<'_>, range: std::ops::Range<usize>, sink: &mut S) {
    let matters = match kind {
        Kind::Word(word) => word.keyword != Keyword::None,
        Kind::Mark(mark) => matches!(mark, b'(' | b')' | b';'),
        Kind::Number | Kind::Text(_) => false,
        Kind::Parameter(_) | Kind::Unreadable => true,
    };
    if matters || !sink.idles() {
        sink.token(&Token { kind, start: range.start, end: range.end });
    } else {
        sink.pass(matches!(kind, Kind::Word(word) if word.quoted));
    }
}
