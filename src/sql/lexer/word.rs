//! Identifiers, quoted or not, and the letters in front of a string.

use super::{Identifier, Lexer, State, Style, emit};
use crate::sql::keyword::{Keyword, key_of_first};
use crate::sql::token::{Kind, Sink, Word};

/// For each byte that may be in a word, what it is in lower case; 0 for any other.
const FOLDED: [u8; 256] = folded();

impl Lexer {
    /// Passes over a word that is whole in this piece and of no interest. What is behind it, if it is such a word.
    pub(super) fn pass_word<'a, S: Sink>(&self, rest: &'a [u8], sink: &mut S) -> Option<&'a [u8]> {
        if self.has_pairs() || !sink.idles() {
            return None;
        }
        let length = rest.iter().position(|byte| FOLDED.get(usize::from(*byte)).is_none_or(|letter| *letter == 0))?;
        // A single letter may belong to the string behind it.
        if length < 2 || Keyword::may_be(key_of_first(length, rest)) {
            return None;
        }
        sink.pass(false);
        rest.get(length..)
    }

    pub(super) fn word<'a, S: Sink>(&mut self, rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        let rest = match rest.split_first() {
            Some((&second, tail)) if self.take_second(second) => {
                self.word.push(second);
                tail
            }
            _ => rest,
        };
        let folded = |byte: u8| FOLDED.get(usize::from(byte)).copied().filter(|letter| *letter != 0);
        let characters = self.dialect.characters;
        let length = if self.has_pairs() {
            self.word.extend_mapped(rest, |byte| folded(byte).filter(|_| !characters.leads(byte)))
        } else {
            self.word.extend_mapped(rest, folded)
        };
        let rest = super::skip(rest, length);
        let Some((&byte, tail)) = rest.split_first() else { return rest };
        if self.leads(byte) {
            self.word.push(byte);
            self.pair = true;
            return tail;
        }
        self.state = match (self.word.bytes(), byte) {
            (b"e", b'\'') => self.begin_text(Style::Escape, sink),
            (b"b" | b"x", b'\'') => self.begin_text(Style::Bits, sink),
            (b"u", b'&') => State::Unicode,
            _ => {
                self.emit_word(self.at(rest), sink);
                self.state = State::Between;
                return rest;
            }
        };
        tail
    }

    /// Behind `u&`.
    pub(super) fn unicode<'a, S: Sink>(&mut self, rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        self.state = match rest.first() {
            Some(b'\'') => self.begin_text(Style::Unicode, sink),
            Some(b'"') => {
                self.word.clear();
                State::Quoted(Identifier::Unicode)
            }
            _ => {
                self.end_token(self.at(rest), sink);
                return rest;
            }
        };
        super::skip(rest, 1)
    }

    pub(super) fn quoted<'a>(&mut self, identifier: Identifier, rest: &'a [u8]) -> &'a [u8] {
        let rest = match rest.split_first() {
            Some((&second, tail)) if self.take_second(second) => {
                self.word.push(second);
                tail
            }
            _ => rest,
        };
        let characters = self.dialect.characters;
        let length = self.word.extend_mapped(rest, |byte| (byte != b'"' && !characters.leads(byte)).then_some(byte));
        match super::skip(rest, length).split_first() {
            None => &[],
            Some((b'"', tail)) => {
                self.state = State::QuotedEnd(identifier);
                tail
            }
            Some((&byte, tail)) => {
                self.word.push(byte);
                self.pair = true;
                tail
            }
        }
    }

    pub(super) fn quoted_end<'a, S: Sink>(&mut self, identifier: Identifier, rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        if rest.first() == Some(&b'"') {
            self.word.push(b'"');
            self.state = State::Quoted(identifier);
            return super::skip(rest, 1);
        }
        self.end_token(self.at(rest), sink);
        rest
    }

    #[inline]
    pub(super) fn emit_word<S: Sink>(&self, at: usize, sink: &mut S) {
        let text = self.word.bytes();
        let keyword = Keyword::of(text, self.word.key(), false);
        emit(Kind::Word(Word { text, keyword, quoted: false }), self.start..at, sink);
    }

    pub(super) fn emit_quoted<S: Sink>(&self, identifier: Identifier, at: usize, sink: &mut S) {
        let text = self.word.bytes();
        let decoded = identifier == Identifier::Plain || !(self.word.is_cut() || text.contains(&b'\\'));
        let keyword = if decoded { Keyword::of(text, self.word.key(), true) } else { Keyword::Unreadable };
        emit(Kind::Word(Word { text, keyword, quoted: true }), self.start..at, sink);
    }
}

#[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "256 places, at compile time")]
const fn folded() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            letter @ (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | 0x80..=0xff) => {
                letter.to_ascii_lowercase()
            }
            _ => 0,
        };
        byte += 1;
    }
    table
}
