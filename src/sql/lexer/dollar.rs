//! What begins with a dollar: parameters and dollar quotes.

use super::{Lexer, State, Style, emit, skip};
use crate::sql::token::{Kept, Kind, Sink};

/// The longest tag of a dollar quote that is understood, bytes: with both dollars it fits into what is kept of a word.
const LONGEST_TAG: usize = 61;

impl Lexer {
    /// Behind a dollar.
    pub(super) fn dollar<'a, S: Sink>(&mut self, rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        match rest.first() {
            Some(b'0'..=b'9') => self.state = State::Parameter(Some(0)),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | 0x80..=0xff) => {
                self.word.clear();
                self.word.push(b'$');
                self.state = State::Tag;
            }
            _ => self.end_token(self.at(rest), sink),
        }
        rest
    }

    pub(super) fn tag<'a, S: Sink>(&mut self, rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        let Some((&byte, tail)) = rest.split_first() else { return rest };
        let second = self.take_second(byte);
        match byte {
            b'$' => {
                self.word.push(b'$');
                self.begin_text(Style::Plain, sink);
                self.state = State::Body(0);
            }
            _ if second || matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | 0x80..=0xff) => {
                self.word.push(byte);
                self.pair = !second && self.leads(byte);
                if self.word.bytes().len() > 1 + LONGEST_TAG {
                    self.state = State::Lost;
                    emit(Kind::Unreadable, self.start..self.at(tail), sink);
                }
            }
            _ => {
                self.end_token(self.at(rest), sink);
                return rest;
            }
        }
        tail
    }

    /// A dollar quote ends where its delimiter stands next. A dollar is at its two ends only, and never the second
    /// byte of a character.
    pub(super) fn body<'a, S: Sink>(&mut self, matched: usize, rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        if matched == 0 {
            let length = rest.iter().position(|byte| *byte == b'$').unwrap_or(rest.len());
            let (part, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            self.keep(part, sink);
            if !rest.is_empty() {
                self.state = State::Body(1);
            }
            return skip(rest, 1);
        }
        let delimiter = self.word.bytes();
        if delimiter.get(matched) == rest.first() {
            let (matched, tail) = (matched + 1, skip(rest, 1));
            if matched < delimiter.len() {
                self.state = State::Body(matched);
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
}
