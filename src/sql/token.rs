//! Tokens, and the buffer that keeps the beginning of one.

use super::Name;
use super::acts::cut;
use super::keyword::{Keyword, key_of_first};

/// How much of a word or a string is kept, bytes.
const KEPT: usize = 64;

/// A token, borrowed from the tokenizer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    /// Where it starts in the text.
    pub(super) start: usize,
    /// The byte behind it.
    pub(super) end: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    Word(Word<'a>),
    /// A string constant, of one or several pieces.
    Text(Value<'a>),
    /// `$1`; `None` where it has no such number.
    Parameter(Option<u16>),
    Number,
    /// Any other character, each for itself; never the beginning of a comment.
    Mark(u8),
    /// The text ends inside of a string, a quoted identifier or a comment, or could not be read on.
    Unreadable,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'a> {
    /// Folded, and cut to a little more than PostgreSQL leaves of it.
    pub(super) text: &'a [u8],
    pub(super) keyword: Keyword,
    pub(super) quoted: bool,
}

/// What is known of a string constant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Whole(&'a [u8]),
    /// Its beginning; it is longer than what is kept.
    Part(&'a [u8]),
    /// It was not asked for, is a bit string or has escapes.
    Unknown,
}

/// Who takes the tokens.
pub(super) trait Sink {
    /// Takes the next token.
    fn token(&mut self, token: &Token<'_>);

    /// Whether most tokens are of no interest at present.
    fn idles(&self) -> bool;

    /// Takes, while it idles, a token that is neither a keyword nor a parenthesis nor a semicolon, but may be a quoted
    /// word.
    fn pass(&mut self, quoted: bool);

    /// Says, where a string constant begins, what is wanted of it.
    fn wanted(&mut self) -> Wanted;

    /// Takes the next bytes of a string constant that was wanted [`Wanted::All`]: before its token.
    fn content(&mut self, bytes: &[u8]);
}

/// What is wanted of a string constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    Beginning,
    All,
}

impl<'a> Token<'a> {
    /// The keyword that it is.
    pub(super) fn keyword(&self) -> Keyword {
        if let Kind::Word(word) = self.kind { word.keyword } else { Keyword::None }
    }

    pub(super) fn word(&self) -> Option<Word<'a>> {
        if let Kind::Word(word) = self.kind { Some(word) } else { None }
    }

    pub(super) fn is(&self, mark: u8) -> bool {
        matches!(self.kind, Kind::Mark(byte) if byte == mark)
    }

    /// The identifier that it is.
    pub(super) fn name(&self) -> Option<Name> {
        self.word().map(|word| Name { text: cut(word.text).into(), range: self.start..self.end })
    }
}

/// The beginning of a word or a string.
#[derive(Debug)]
pub(super) struct Kept {
    bytes: [u8; KEPT],
    len: usize,
    cut: bool,
}

impl Kept {
    pub(super) fn new() -> Self {
        Self { bytes: [0; KEPT], len: 0, cut: false }
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.cut = false;
    }

    pub(super) fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        } else {
            self.cut = true;
        }
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let taken = room.len().min(bytes.len());
        room.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        self.cut |= taken < bytes.len();
        self.len += taken;
    }

    /// Takes bytes as long as there is a letter for them, which is kept in their stead. How many were taken.
    pub(super) fn extend_mapped(&mut self, bytes: &[u8], letter: impl Fn(u8) -> Option<u8>) -> usize {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let mut taken = 0;
        for (place, byte) in room.iter_mut().zip(bytes) {
            let Some(letter) = letter(*byte) else {
                self.len += taken;
                return taken;
            };
            *place = letter;
            taken += 1;
        }
        self.len += taken;
        let beyond = bytes.get(taken..).unwrap_or_default().iter().take_while(|byte| letter(**byte).is_some()).count();
        self.cut |= beyond > 0;
        taken + beyond
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// [`super::keyword::key`] of the bytes.
    pub(super) fn key(&self) -> u64 {
        key_of_first(self.len, &self.bytes)
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    pub(super) fn value(&self) -> Value<'_> {
        if self.cut { Value::Part(self.bytes()) } else { Value::Whole(self.bytes()) }
    }
}
