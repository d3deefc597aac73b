//! String constants in quotes, which may go on behind a newline.

use super::{Lexer, Newline, State, Style, emit, skip};
use crate::sql::token::{Kind, Sink, Value, Wanted};

impl Lexer {
    pub(super) fn begin_text<S: Sink>(&mut self, style: Style, sink: &mut S) -> State {
        self.text.clear();
        self.wanted = sink.wanted();
        State::Text(style)
    }

    pub(super) fn text<'a, S: Sink>(&mut self, style: Style, rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        let (first, others) = rest.split_at_checked(1).unwrap_or((rest, &[]));
        if first.first().is_some_and(|byte| self.take_second(*byte)) {
            self.keep(first, sink);
            return others;
        }
        let length = if style == Style::Escape || self.has_pairs() {
            rest.iter().position(|byte| matches!(byte, b'\'' | b'\\') || self.leads(*byte))
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
                self.pair = self.leads(byte);
            }
        }
        tail
    }

    /// The byte behind a backslash. Escapes by number are not decoded: a string that has escapes is not told, and the
    /// body of DO is opaque in any case.
    pub(super) fn escape<'a, S: Sink>(&mut self, rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        let Some((&byte, tail)) = rest.split_first() else { return rest };
        self.state = State::Text(Style::Escape);
        self.pair = self.leads(byte);
        if self.wanted == Wanted::Beginning {
            self.wanted = Wanted::Nothing;
        }
        let meant = match byte {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            _ => byte,
        };
        self.keep(&[meant], sink);
        tail
    }

    pub(super) fn text_end<'a, S: Sink>(&mut self, style: Style, rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        if rest.first() == Some(&b'\'') && style != Style::Bits {
            self.keep(b"'", sink);
            self.state = State::Text(style);
            return skip(rest, 1);
        }
        self.state = State::Gap(style, Newline::NotSeen);
        rest
    }

    /// Between two pieces of one constant may be space and line comments, and a newline must be.
    pub(super) fn gap<'a, S: Sink>(&mut self, rest: &'a [u8], sink: &mut S) -> &'a [u8] {
        self.state = match (self.state, rest.first()) {
            (State::Gap(style, _), Some(b'\n' | b'\r')) => State::Gap(style, Newline::Seen),
            (state @ State::Gap(..), Some(b' ' | b'\t' | 0x0b | 0x0c)) => state,
            (State::Gap(style, Newline::Seen), Some(b'\'')) => State::Text(style),
            (State::Gap(style, _), Some(b'-')) => State::GapDash(style),
            (State::GapDash(style), Some(b'-')) => State::GapComment(style),
            _ => {
                self.end_token(self.at(rest), sink);
                return rest;
            }
        };
        skip(rest, 1)
    }

    pub(super) fn keep<S: Sink>(&mut self, bytes: &[u8], sink: &mut S) {
        match self.wanted {
            Wanted::Nothing => {}
            Wanted::Beginning => self.text.extend(bytes),
            Wanted::All => sink.content(bytes),
        }
    }

    pub(super) fn emit_text<S: Sink>(&self, style: Style, sink: &mut S) {
        let known = self.wanted == Wanted::Beginning && matches!(style, Style::Plain | Style::Escape);
        let value = if known { self.text.value() } else { Value::Unknown };
        emit(Kind::Text(value), self.start..self.end, sink);
    }
}
