//! The tokenizer: PostgreSQL's `scan.l` as a machine that may be stopped behind any byte.
//!
//! It finds the borders of tokens exactly as PostgreSQL does wherever PostgreSQL accepts the text. Where it does not
//! (a word that begins inside of a number, say) the tokens are of no consequence: an error there means that nothing of
//! the text is run.

use super::keyword::Keyword;
use super::token::{Kept, Kind, Sink, Token, Value, Wanted, Word};
use super::{Characters, Dialect};

/// The longest tag of a dollar quote that is understood, bytes.
const LONGEST_TAG: usize = 62;

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
    GapDash(Style, Newline),
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
        while let Some((&byte, tail)) = rest.split_first() {
            rest = match self.state {
                State::Between => self.between(byte, rest, tail, sink),
                State::Word => self.word(rest, sink),
                State::Unicode => self.unicode(byte, rest, tail, sink),
                State::Number | State::Parameter(_) => self.digit(byte, rest, tail, sink),
                State::Dash | State::Slash => self.comment_or_mark(byte, rest, tail, sink),
                State::LineComment => {
                    let newline = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    self.to_behind(rest, newline, State::Between)
                }
                State::BlockComment(depth, before) => self.block_comment((depth, before), rest),
                State::Quoted(identifier) => self.quoted(identifier, byte, rest, tail),
                State::QuotedEnd(identifier) => self.quoted_end(identifier, byte, rest, tail, sink),
                State::Text(style) => self.text(style, byte, rest, sink),
                State::Escape => self.escape(byte, tail, sink),
                State::TextEnd(style) => self.text_end(style, byte, rest, tail, sink),
                State::Gap(..) | State::GapDash(..) => self.gap(byte, rest, tail, sink),
                State::GapComment(style) => {
                    let newline = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    self.to_behind(rest, newline, State::Gap(style, Newline::Seen))
                }
                State::Dollar | State::Tag => self.dollar(byte, rest, tail, sink),
                State::Body(matched) => self.body(matched, rest, sink),
                State::Lost => &[],
            };
        }
    }

    /// The text is over.
    pub(super) fn finish<S: Sink>(mut self, sink: &mut S) {
        let state = self.state;
        self.end_token(state, self.read, sink);
    }

    /// Where `rest`, the end of the piece, starts in the text.
    fn at(&self, rest: &[u8]) -> usize {
        self.read - rest.len()
    }

    /// Ends the token that is under way, `at` being behind it. The next byte is read as the beginning of another one.
    fn end_token<S: Sink>(&mut self, state: State, at: usize, sink: &mut S) {
        self.state = State::Between;
        let start = self.start;
        match state {
            State::Between | State::LineComment | State::Lost => {}
            State::Word => emit_word(self.word.bytes(), start..at, sink),
            State::Unicode => {
                emit_word(b"u", start..start + 1, sink);
                emit(Kind::Mark(b'&'), start + 1..start + 2, sink);
            }
            State::Number => emit(Kind::Number, start..at, sink),
            State::Parameter(number) => emit(Kind::Parameter(number), start..at, sink),
            State::Dash => emit(Kind::Mark(b'-'), start..start + 1, sink),
            State::Slash => emit(Kind::Mark(b'/'), start..start + 1, sink),
            State::Dollar | State::Tag => emit(Kind::Mark(b'$'), start..start + 1, sink),
            State::QuotedEnd(identifier) => self.emit_quoted(identifier, at, sink),
            State::TextEnd(style) | State::Gap(style, _) | State::GapComment(style) => self.emit_text(style, sink),
            State::GapDash(style, _) => {
                // The dash was the byte before this one: nothing may stand between it and what it could have begun.
                self.emit_text(style, sink);
                emit(Kind::Mark(b'-'), at.saturating_sub(1)..at, sink);
            }
            State::BlockComment(..) | State::Quoted(_) | State::Text(_) | State::Escape | State::Body(_) => {
                emit(Kind::Unreadable, start..at, sink);
            }
        }
    }

    fn between<'a, S: Sink>(&mut self, byte: u8, rest: &'a [u8], tail: &'a [u8], sink: &mut S) -> &'a [u8] {
        let at = self.at(rest);
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => return tail,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => {
                self.start = at;
                self.word.clear();
                self.state = State::Word;
                return self.word(rest, sink);
            }
            b'0'..=b'9' => self.state = State::Number,
            b'\'' => {
                let style = if self.dialect.standard_strings { Style::Plain } else { Style::Escape };
                self.begin_text(style, sink);
            }
            b'"' => {
                self.word.clear();
                self.state = State::Quoted(Identifier::Plain);
            }
            b'$' => self.state = State::Dollar,
            b'-' => self.state = State::Dash,
            b'/' => self.state = State::Slash,
            _ => emit(Kind::Mark(byte), at..at + 1, sink),
        }
        self.start = at;
        tail
    }

    fn word<'a, S: Sink>(&mut self, rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        let rest = match rest.split_first() {
            Some((&second, tail)) if self.take_second(second) => {
                self.word.push(second);
                tail
            }
            _ => rest,
        };
        let goes_on = |byte: &u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | 0x80..=0xff);
        let length = if self.dialect.characters == Characters::Plain {
            rest.iter().position(|byte| !goes_on(byte))
        } else {
            rest.iter().position(|byte| !goes_on(byte) || self.dialect.characters.leads(*byte))
        };
        let (part, rest) = rest.split_at_checked(length.unwrap_or(rest.len())).unwrap_or((rest, &[]));
        self.word.extend_folded(part);
        let Some((&byte, tail)) = rest.split_first() else { return rest };
        if self.dialect.characters.leads(byte) {
            self.word.push(byte);
            self.pair = true;
            return tail;
        }
        let style = match (self.word.bytes(), byte) {
            (b"e", b'\'') => Style::Escape,
            (b"b" | b"x", b'\'') => Style::Bits,
            (b"u", b'&') => {
                self.state = State::Unicode;
                return tail;
            }
            _ => {
                self.end_token(State::Word, self.at(rest), sink);
                return rest;
            }
        };
        self.begin_text(style, sink);
        tail
    }

    fn unicode<'a, S: Sink>(&mut self, byte: u8, rest: &'a [u8], tail: &'a [u8], sink: &mut S) -> &'a [u8] {
        match byte {
            b'\'' => self.begin_text(Style::Unicode, sink),
            b'"' => {
                self.word.clear();
                self.state = State::Quoted(Identifier::Unicode);
            }
            _ => {
                self.end_token(State::Unicode, self.at(rest), sink);
                return rest;
            }
        }
        tail
    }

    fn digit<'a, S: Sink>(&mut self, byte: u8, rest: &'a [u8], tail: &'a [u8], sink: &mut S) -> &'a [u8] {
        if !byte.is_ascii_digit() {
            self.end_token(self.state, self.at(rest), sink);
            return rest;
        }
        if let State::Parameter(number) = &mut self.state {
            let digit = u16::from(byte - b'0');
            *number = number.and_then(|number| number.checked_mul(10)).and_then(|number| number.checked_add(digit));
        }
        tail
    }

    fn comment_or_mark<'a, S: Sink>(&mut self, byte: u8, rest: &'a [u8], tail: &'a [u8], sink: &mut S) -> &'a [u8] {
        match (self.state, byte) {
            (State::Dash, b'-') => self.state = State::LineComment,
            (State::Slash, b'*') => self.state = State::BlockComment(1, 0),
            (state, _) => {
                self.end_token(state, self.at(rest), sink);
                return rest;
            }
        }
        tail
    }

    fn block_comment<'a>(&mut self, (mut depth, mut before): (u32, u8), rest: &'a [u8]) -> &'a [u8] {
        for (at, &byte) in rest.iter().enumerate() {
            match (before, byte) {
                (b'*', b'/') => {
                    depth -= 1;
                    before = 0;
                    if depth == 0 {
                        self.state = State::Between;
                        return rest.get(at + 1..).unwrap_or_default();
                    }
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

    fn quoted<'a>(&mut self, identifier: Identifier, byte: u8, rest: &'a [u8], tail: &'a [u8]) -> &'a [u8] {
        if self.take_second(byte) {
            self.word.push(byte);
            return tail;
        }
        let stops = |byte: &u8| *byte == b'"' || self.dialect.characters.leads(*byte);
        let length = rest.iter().position(stops).unwrap_or(rest.len());
        let (part, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        self.word.extend(part);
        let Some((&byte, tail)) = rest.split_first() else { return rest };
        if byte == b'"' {
            self.state = State::QuotedEnd(identifier);
        } else {
            self.word.push(byte);
            self.pair = true;
        }
        tail
    }

    fn quoted_end<'a, S: Sink>(
        &mut self,
        identifier: Identifier,
        byte: u8,
        rest: &'a [u8],
        tail: &'a [u8],
        sink: &mut S,
    ) -> &'a [u8] {
        if byte == b'"' {
            self.word.push(byte);
            self.state = State::Quoted(identifier);
            return tail;
        }
        self.end_token(State::QuotedEnd(identifier), self.at(rest), sink);
        rest
    }

    fn begin_text<S: Sink>(&mut self, style: Style, sink: &mut S) {
        self.text.clear();
        self.wanted = sink.wanted();
        self.state = State::Text(style);
    }

    fn text<'a, S: Sink>(&mut self, style: Style, byte: u8, rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        let (first, others) = rest.split_at_checked(1).unwrap_or((rest, &[]));
        if self.take_second(byte) {
            self.keep(first, sink);
            return others;
        }
        let length = if style == Style::Escape || self.dialect.characters != Characters::Plain {
            let leads = |byte: u8| self.dialect.characters.leads(byte);
            rest.iter().position(|byte| matches!(byte, b'\'' | b'\\') || leads(*byte))
        } else {
            rest.iter().position(|byte| *byte == b'\'')
        };
        let (part, rest) = rest.split_at_checked(length.unwrap_or(rest.len())).unwrap_or((rest, &[]));
        self.keep(part, sink);
        let Some((&byte, tail)) = rest.split_first() else { return rest };
        match byte {
            b'\'' => {
                self.end = self.at(tail);
                self.state = State::TextEnd(style);
            }
            b'\\' if style == Style::Escape => self.state = State::Escape,
            _ => {
                self.keep(&[byte], sink);
                self.pair = self.dialect.characters.leads(byte);
            }
        }
        tail
    }

    /// The byte behind a backslash. Escapes by number are not decoded: what is in them is not told.
    fn escape<'a, S: Sink>(&mut self, byte: u8, tail: &'a [u8], sink: &mut S) -> &'a [u8] {
        self.state = State::Text(Style::Escape);
        self.pair = self.dialect.characters.leads(byte);
        let byte = match byte {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            _ => byte,
        };
        if self.wanted == Wanted::Beginning {
            self.wanted = Wanted::Nothing;
        }
        self.keep(&[byte], sink);
        tail
    }

    fn text_end<'a, S: Sink>(
        &mut self,
        style: Style,
        byte: u8,
        rest: &'a [u8],
        tail: &'a [u8],
        sink: &mut S,
    ) -> &'a [u8] {
        if byte == b'\'' && style != Style::Bits {
            self.keep(b"'", sink);
            self.state = State::Text(style);
            return tail;
        }
        self.state = State::Gap(style, Newline::NotSeen);
        rest
    }

    fn gap<'a, S: Sink>(&mut self, byte: u8, rest: &'a [u8], tail: &'a [u8], sink: &mut S) -> &'a [u8] {
        self.state = match (self.state, byte) {
            (State::Gap(style, _), b'\n' | b'\r') => State::Gap(style, Newline::Seen),
            (state @ State::Gap(..), b' ' | b'\t' | 0x0b | 0x0c) => state,
            (State::Gap(style, Newline::Seen), b'\'') => State::Text(style),
            (State::Gap(style, newline), b'-') => State::GapDash(style, newline),
            (State::GapDash(style, _), b'-') => State::GapComment(style),
            (state, _) => {
                self.end_token(state, self.at(rest), sink);
                return rest;
            }
        };
        tail
    }

    fn dollar<'a, S: Sink>(&mut self, byte: u8, rest: &'a [u8], tail: &'a [u8], sink: &mut S) -> &'a [u8] {
        let second = self.state == State::Tag && self.take_second(byte);
        match (self.state, byte) {
            (State::Dollar, b'0'..=b'9') => {
                self.state = State::Parameter(Some(0));
                return rest;
            }
            (State::Tag | State::Dollar, b'$') => {
                if self.state == State::Dollar {
                    self.word.clear();
                    self.word.push(b'$');
                }
                self.word.push(b'$');
                self.text.clear();
                self.wanted = sink.wanted();
                self.state = State::Body(0);
            }
            (State::Dollar, b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff) => {
                self.word.clear();
                self.word.push(b'$');
                self.state = State::Tag;
                return rest;
            }
            (State::Tag, _) if second || is_tag(byte) => {
                self.word.push(byte);
                self.pair = !second && self.dialect.characters.leads(byte);
                if self.word.bytes().len() > LONGEST_TAG {
                    self.state = State::Lost;
                    emit(Kind::Unreadable, self.start..self.at(tail), sink);
                }
            }
            (state, _) => {
                self.end_token(state, self.at(rest), sink);
                return rest;
            }
        }
        tail
    }

    /// A dollar quote ends where its delimiter stands next. A dollar is at its two ends only, and never the second
    /// byte of a character.
    fn body<'a, S: Sink>(&mut self, matched: usize, rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        let Some((&byte, tail)) = rest.split_first() else { return rest };
        if matched == 0 {
            let length = rest.iter().position(|byte| *byte == b'$').unwrap_or(rest.len());
            let (part, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            self.keep(part, sink);
            let Some((_, tail)) = rest.split_first() else { return rest };
            self.state = State::Body(1);
            return tail;
        }
        if self.word.bytes().get(matched) == Some(&byte) {
            if matched + 1 < self.word.bytes().len() {
                self.state = State::Body(matched + 1);
            } else {
                self.end = self.at(tail);
                self.state = State::Between;
                self.emit_text(Style::Plain, sink);
            }
            return tail;
        }
        let delimiter = std::mem::replace(&mut self.word, Kept::new());
        self.keep(delimiter.bytes().get(..matched).unwrap_or_default(), sink);
        self.word = delimiter;
        self.state = State::Body(0);
        rest
    }

    /// Behind the byte at `stop` in that state, or at the end of the piece in this one.
    fn to_behind<'a>(&mut self, rest: &'a [u8], stop: Option<usize>, state: State) -> &'a [u8] {
        let Some(stop) = stop else { return &[] };
        self.state = state;
        rest.get(stop + 1..).unwrap_or_default()
    }

    /// Whether `byte` is the second one of a character; asked once. Below 0x30 there is none in any encoding.
    fn take_second(&mut self, byte: u8) -> bool {
        std::mem::take(&mut self.pair) && byte >= 0x30
    }

    fn keep<S: Sink>(&mut self, bytes: &[u8], sink: &mut S) {
        match self.wanted {
            Wanted::Nothing => {}
            Wanted::Beginning => self.text.extend(bytes),
            Wanted::All => sink.content(bytes),
        }
    }

    fn emit_quoted<S: Sink>(&self, identifier: Identifier, at: usize, sink: &mut S) {
        let text = self.word.bytes();
        let decoded = identifier == Identifier::Plain || !(self.word.is_cut() || text.contains(&b'\\'));
        let keyword = if decoded { Keyword::of(text, true) } else { Keyword::Unreadable };
        emit(Kind::Word(Word { text, keyword, quoted: true }), self.start..at, sink);
    }

    fn emit_text<S: Sink>(&self, style: Style, sink: &mut S) {
        let known = self.wanted == Wanted::Beginning && matches!(style, Style::Plain | Style::Escape);
        let value = if known { self.text.value() } else { Value::Unknown };
        emit(Kind::Text(value), self.start..self.end, sink);
    }
}

fn is_tag(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | 0x80..=0xff)
}

fn emit_word<S: Sink>(text: &[u8], range: std::ops::Range<usize>, sink: &mut S) {
    emit(Kind::Word(Word { text, keyword: Keyword::of(text, false), quoted: false }), range, sink);
}

fn emit<S: Sink>(kind: Kind<'_>, range: std::ops::Range<usize>, sink: &mut S) {
    sink.token(&Token { kind, start: range.start, end: range.end });
}
