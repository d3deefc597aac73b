//! Tokens of SQL, from chunks of any size.
//!
//! A token carries at most [`MOST`] bytes of its text; what is longer is marked as cut. Literals are told from code as
//! PostgreSQL's `scan.l` does it, by the session's `standard_conforming_strings`.

/// Most bytes of a token's text that are kept: a name's, with one to spare, so that a longer one can be told.
pub(super) const MOST: usize = 64;

/// Longest tag of a dollar quote that is followed, bytes.
const MOST_TAG: usize = 1024;

/// How text is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// `standard_conforming_strings`: a backslash in a plain literal is nothing special.
    pub standard_strings: bool,
    /// The client's encoding has characters whose second byte may be ASCII: a byte from 0x81 takes the next one with it.
    pub two_byte: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Dialect { standard_strings: true, two_byte: false }
    }
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword or name, in lower case.
    Word,
    /// A quoted name.
    Quoted,
    /// A literal of text, of any quoting.
    Literal,
    /// `$n`.
    Parameter,
    /// A number.
    Number,
    /// One character of anything else.
    Mark(u8),
}

/// A token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Where it begins and ends in the text.
    pub(super) start: usize,
    pub(super) end: usize,
    /// There was more of its text, or its text has escapes that were not read.
    pub(super) cut: bool,
    length: u8,
    text: [u8; MOST],
}

impl Token {
    const NONE: Token = Token { kind: Kind::Number, start: 0, end: 0, cut: false, length: 0, text: [0; MOST] };

    /// Its text: names in lower case unless quoted, quotes taken off.
    #[inline]
    pub(super) fn text(&self) -> &[u8] {
        self.text.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// Whether it is this keyword.
    #[inline]
    pub(super) fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text() == word.as_bytes()
    }

    /// Whether it is this character.
    #[inline]
    pub(super) fn is_mark(&self, mark: u8) -> bool {
        self.kind == Kind::Mark(mark)
    }

    /// Whether it may be a name.
    pub(super) fn is_name(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::Quoted)
    }

    #[inline]
    fn begin(&mut self, kind: Kind, at: usize) {
        (self.kind, self.start, self.cut, self.length) = (kind, at, false, 0);
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        match self.text.get_mut(usize::from(self.length)) {
            Some(to) => {
                *to = byte;
                self.length += 1;
            }
            None => self.cut = true,
        }
    }
}

/// Where the lexer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Between tokens.
    Code,
    /// In a name, not quoted.
    Word,
    /// In a number.
    Number,
    /// Behind a `$` that begins a parameter or a dollar quote.
    Dollar,
    /// In a parameter.
    Parameter,
    /// Behind a `-`.
    Minus,
    /// Behind a `/`.
    Slash,
    /// In a comment to the end of the line.
    Line,
    /// In a comment in this many levels; what the last byte was.
    Block(u32, u8),
    /// In a literal; whether a backslash escapes.
    Literal(bool),
    /// Behind a backslash in a literal.
    Escaped,
    /// Behind a quote that may end a literal.
    LiteralEnd(bool),
    /// Behind a literal, where another part of it may follow on another line; whether there was a line's end.
    Continued(bool, bool),
    /// The same in a comment behind a `-`.
    ContinuedMinus(bool, bool),
    /// The same in a comment.
    ContinuedLine(bool),
    /// In a quoted name.
    Quoted,
    /// Behind a quote that may end a quoted name.
    QuotedEnd,
    /// In the tag of a dollar quote.
    Tag,
    /// In a dollar quote; how much of the closing tag was seen.
    Dollared(usize),
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Lexer {
    dialect: Dialect,
    at: At,
    offset: usize,
    token: Token,
    /// The tag of the dollar quote, dollars included.
    tag: Vec<u8>,
    /// The last byte takes this one with it.
    pair: bool,
    /// The name or literal is written with Unicode escapes.
    unicode: bool,
    /// It is not known any more what is a literal.
    pub(super) lost: bool,
}

#[inline]
fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

impl Lexer {
    pub(super) fn new(dialect: Dialect) -> Lexer {
        Lexer {
            dialect,
            at: At::Code,
            offset: 0,
            token: Token::NONE,
            tag: Vec::new(),
            pair: false,
            unicode: false,
            lost: false,
        }
    }

    /// Reads on; `sink` gets each token when it has ended.
    #[inline]
    pub(super) fn feed(&mut self, bytes: &[u8], sink: &mut impl FnMut(&Token)) {
        for &byte in bytes {
            if std::mem::take(&mut self.pair) {
                self.inside(byte);
            } else {
                if byte >= 0x81 && self.dialect.two_byte {
                    self.pair = true;
                }
                // A byte that ends a token is read again behind it.
                while !self.step(byte, sink) {}
            }
            self.offset += 1;
        }
    }

    /// The text is over; answers its length.
    pub(super) fn finish(&mut self, sink: &mut impl FnMut(&Token)) -> usize {
        // Whatever is not closed is an error for PostgreSQL, but for these.
        match self.at {
            At::Word | At::Number | At::Parameter | At::QuotedEnd | At::LiteralEnd(_) => self.end(sink),
            At::Continued(..) | At::ContinuedMinus(..) | At::ContinuedLine(_) => self.emit(sink),
            At::Minus => self.mark(b'-', sink),
            At::Slash => self.mark(b'/', sink),
            At::Dollar => self.mark(b'$', sink),
            _ => {}
        }
        self.offset
    }

    /// The second byte of a character: never anything but text.
    fn inside(&mut self, byte: u8) {
        match self.at {
            At::Word | At::Literal(_) | At::Quoted => self.token.push(byte),
            At::Tag if self.tag.len() < MOST_TAG => self.tag.push(byte),
            At::Dollared(seen) if self.tag.get(seen) == Some(&byte) => self.at = At::Dollared(seen + 1),
            At::Dollared(_) => self.at = At::Dollared(0),
            _ => {}
        }
    }

    fn emit(&mut self, sink: &mut impl FnMut(&Token)) {
        self.token.cut |= std::mem::take(&mut self.unicode) && self.token.text().contains(&b'\\');
        sink(&self.token);
        self.at = At::Code;
    }

    /// Ends the token in front of the present byte.
    #[inline]
    fn end(&mut self, sink: &mut impl FnMut(&Token)) {
        self.token.end = self.offset;
        self.emit(sink);
    }

    fn mark(&mut self, mark: u8, sink: &mut impl FnMut(&Token)) {
        self.token.begin(Kind::Mark(mark), self.offset.saturating_sub(1));
        self.end(sink);
    }

    /// Takes one byte; answers whether it was taken, or is to be looked at again.
    #[inline]
    fn step(&mut self, byte: u8, sink: &mut impl FnMut(&Token)) -> bool {
        match self.at {
            At::Code => self.code(byte, sink),
            At::Word => {
                if begins_word(byte) || byte.is_ascii_digit() || byte == b'$' {
                    self.token.push(byte.to_ascii_lowercase());
                    return true;
                }
                return self.after_word(byte, sink);
            }
            At::Number => {
                if byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_' {
                    return true;
                }
                self.end(sink);
                return false;
            }
            At::Parameter => {
                if byte.is_ascii_digit() {
                    self.token.push(byte);
                    return true;
                }
                self.end(sink);
                return false;
            }
            _ => return self.other(byte, sink),
        }
        true
    }

    fn code(&mut self, byte: u8, sink: &mut impl FnMut(&Token)) {
        let at = self.offset;
        self.at = match byte {
            _ if is_space(byte) => At::Code,
            _ if begins_word(byte) => {
                self.token.begin(Kind::Word, at);
                self.token.push(byte.to_ascii_lowercase());
                At::Word
            }
            b'0'..=b'9' => {
                self.token.begin(Kind::Number, at);
                At::Number
            }
            b'\'' => {
                self.token.begin(Kind::Literal, at);
                At::Literal(!self.dialect.standard_strings)
            }
            b'"' => {
                self.token.begin(Kind::Quoted, at);
                At::Quoted
            }
            b'$' => At::Dollar,
            b'-' => At::Minus,
            b'/' => At::Slash,
            mark => {
                self.token.begin(Kind::Mark(mark), at);
                self.token.end = at + 1;
                self.emit(sink);
                At::Code
            }
        };
    }

    /// A word is over, unless it was the prefix of a literal: E'' B'' X'' N'' U&'' U&"".
    fn after_word(&mut self, byte: u8, sink: &mut impl FnMut(&Token)) -> bool {
        let adjacent = self.token.text();
        if byte == b'\'' && matches!(adjacent, b"e" | b"b" | b"x" | b"n") {
            let escapes = adjacent == b"e" || (adjacent == b"n" && !self.dialect.standard_strings);
            let start = self.token.start;
            self.token.begin(Kind::Literal, start);
            self.at = At::Literal(escapes);
            return true;
        }
        if byte == b'&' && adjacent == b"u" {
            self.at = At::Tag;
            self.tag.clear();
            self.unicode = true;
            return true;
        }
        self.end(sink);
        false
    }

    #[cold]
    #[inline(never)]
    fn unicode_prefix(&mut self, byte: u8, sink: &mut impl FnMut(&Token)) -> bool {
        let start = self.token.start;
        match byte {
            b'\'' => {
                self.token.begin(Kind::Literal, start);
                self.at = At::Literal(false);
                true
            }
            b'"' => {
                self.token.begin(Kind::Quoted, start);
                self.at = At::Quoted;
                true
            }
            _ => {
                // A word and an operator.
                self.unicode = false;
                self.token.end = self.offset.saturating_sub(1);
                self.emit(sink);
                self.mark(b'&', sink);
                false
            }
        }
    }

    fn other(&mut self, byte: u8, sink: &mut impl FnMut(&Token)) -> bool {
        match self.at {
            At::Tag if self.unicode => return self.unicode_prefix(byte, sink),
            At::Literal(escapes) => match byte {
                b'\'' => self.at = At::LiteralEnd(escapes),
                b'\\' if escapes => {
                    self.token.cut = true;
                    self.at = At::Escaped;
                }
                _ => self.token.push(byte),
            },
            At::Escaped => self.at = At::Literal(true),
            At::LiteralEnd(escapes) => {
                if byte == b'\'' {
                    self.token.push(byte);
                    self.at = At::Literal(escapes);
                } else {
                    self.token.end = self.offset;
                    self.at = At::Continued(escapes, false);
                    return false;
                }
            }
            At::Continued(escapes, line) => match byte {
                b'\'' if line => self.at = At::Literal(escapes),
                b'-' => self.at = At::ContinuedMinus(escapes, line),
                _ if is_space(byte) => self.at = At::Continued(escapes, line || ends_line(byte)),
                _ => {
                    self.emit(sink);
                    return false;
                }
            },
            At::ContinuedMinus(escapes, _) => {
                if byte == b'-' {
                    self.at = At::ContinuedLine(escapes);
                } else {
                    self.emit(sink);
                    self.at = At::Minus;
                    return false;
                }
            }
            At::ContinuedLine(escapes) => {
                if ends_line(byte) {
                    self.at = At::Continued(escapes, true);
                }
            }
            At::Quoted => match byte {
                b'"' => self.at = At::QuotedEnd,
                _ => self.token.push(byte),
            },
            At::QuotedEnd => {
                if byte == b'"' {
                    self.token.push(byte);
                    self.at = At::Quoted;
                } else {
                    self.end(sink);
                    return false;
                }
            }
            _ => return self.comment_or_dollar(byte, sink),
        }
        true
    }

    fn comment_or_dollar(&mut self, byte: u8, sink: &mut impl FnMut(&Token)) -> bool {
        match self.at {
            At::Minus if byte == b'-' => self.at = At::Line,
            At::Minus => {
                self.mark(b'-', sink);
                return false;
            }
            At::Slash if byte == b'*' => self.at = At::Block(1, 0),
            At::Slash => {
                self.mark(b'/', sink);
                return false;
            }
            At::Line => {
                if ends_line(byte) {
                    self.at = At::Code;
                }
            }
            At::Block(depth, last) => {
                self.at = match (last, byte) {
                    (b'*', b'/') if depth <= 1 => At::Code,
                    (b'*', b'/') => At::Block(depth - 1, 0),
                    (b'/', b'*') => At::Block(depth.saturating_add(1), 0),
                    _ => At::Block(depth, byte),
                };
            }
            At::Dollar => {
                let start = self.offset.saturating_sub(1);
                if byte.is_ascii_digit() {
                    self.token.begin(Kind::Parameter, start);
                    self.token.push(byte);
                    self.at = At::Parameter;
                } else if byte == b'$' || begins_word(byte) {
                    self.token.begin(Kind::Literal, start);
                    self.tag.clear();
                    self.tag.push(b'$');
                    self.at = At::Tag;
                    return false;
                } else {
                    self.mark(b'$', sink);
                    return false;
                }
            }
            At::Tag => {
                if byte == b'$' {
                    self.tag.push(byte);
                    self.at = At::Dollared(0);
                } else if (begins_word(byte) || (byte.is_ascii_digit() && self.tag.len() > 1))
                    && self.tag.len() < MOST_TAG
                {
                    self.tag.push(byte);
                } else {
                    // No quote, but a dollar and a word; or a tag that is too long to be kept, and nothing is known of
                    // what follows.
                    self.lost |= self.tag.len() >= MOST_TAG;
                    self.tag.clear();
                    self.token.kind = Kind::Word;
                    self.token.cut = true;
                    self.end(sink);
                    return false;
                }
            }
            At::Dollared(seen) => self.dollared(seen, byte, sink),
            // The others have been dealt with.
            _ => {}
        }
        true
    }

    fn dollared(&mut self, seen: usize, byte: u8, sink: &mut impl FnMut(&Token)) {
        if self.tag.get(seen) == Some(&byte) {
            if seen + 1 == self.tag.len() {
                self.token.end = self.offset + 1;
                self.emit(sink);
            } else {
                self.at = At::Dollared(seen + 1);
            }
            return;
        }
        // A dollar can only begin the closing tag; the tag has none but at its ends.
        let count = seen.min(self.tag.len());
        for index in 0..count {
            if let Some(&kept) = self.tag.get(index) {
                self.token.push(kept);
            }
        }
        if byte == b'$' {
            self.at = At::Dollared(1);
        } else {
            self.token.push(byte);
            self.at = At::Dollared(0);
        }
    }
}
