//! The frame scanner: cuts a byte stream into pieces of messages without copying and without waiting for whole ones.
//!
//! The caller owns the buffer and presents again what was not consumed, so the scanner keeps nothing but the type and
//! the number of bytes still to come of the message that is under way. Each length is checked below and above before
//! it is used; nothing is ever allocated.

/// Bytes of a message header: type and length word.
pub const HEADER: usize = 5;

/// Which part of its message a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The whole message, header included.
    Whole,
    /// The header and some of the body.
    First,
    /// Body bytes, neither the first nor the last.
    Middle,
    /// The rest of the body.
    Last,
}

impl Part {
    /// Whether the message starts with this piece.
    #[must_use]
    pub fn starts(self) -> bool {
        matches!(self, Part::Whole | Part::First)
    }

    /// Whether the message ends with this piece.
    #[must_use]
    pub fn ends(self) -> bool {
        matches!(self, Part::Whole | Part::Last)
    }
}

/// A piece of one message. `bytes` starts with the five header bytes where `part.starts()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Type byte of the message.
    pub tag: u8,
    /// Which part of it this is.
    pub part: Part,
    /// The piece, borrowed from the caller's buffer; never empty.
    pub bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// The body bytes of this piece, without the header.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        if self.part.starts() { self.bytes.get(HEADER..).unwrap_or_default() } else { self.bytes }
    }
}

/// What the stream got wrong. The stream cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A type byte that may not occur in this direction.
    #[error("invalid message type 0x{0:02x}")]
    Type(u8),
    /// A length word below 4 or above what the type may have.
    #[error("invalid message length {length} for type 0x{tag:02x}")]
    Length {
        /// Type byte of the message.
        tag: u8,
        /// Its length word, bytes.
        length: u32,
    },
}

/// How the messages of one direction may look.
#[derive(Clone, Copy, Debug)]
pub struct Grammar {
    /// Largest length word per type, bytes; `None` forbids the type.
    pub limit: fn(u8) -> Option<u32>,
    /// Types that are not cut: they are yielded whole or not yet.
    pub whole: fn(u8) -> bool,
    /// Longest message of such a type that is yielded whole, header included, bytes. A longer one is cut, but only once
    /// this much of it is there.
    pub whole_max: usize,
    /// Largest length word of any message, bytes (`max_packet_size`).
    pub max: u32,
}

/// State between two presentations of the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanner {
    tag: u8,
    left: u32,
}

impl Scanner {
    /// The next piece of `buf`, or `None` when the buffer holds no more than an incomplete header (or an incomplete
    /// message of a `whole` type): present these bytes again with more behind them.
    ///
    /// # Errors
    /// A [`Violation`] when a header is not possible; the scanner stays where it is.
    #[inline]
    pub fn next<'a>(&mut self, buf: &'a [u8], grammar: &Grammar) -> Result<Option<Piece<'a>>, Violation> {
        if self.left > 0 {
            return Ok(self.resume(buf));
        }
        let Some((&[tag, a, b, c, d], _)) = buf.split_first_chunk::<HEADER>() else {
            return self.check_partial(buf, grammar);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        let limit = (grammar.limit)(tag).ok_or(Violation::Type(tag))?.min(grammar.max);
        if length < 4 || length > limit {
            return Err(Violation::Length { tag, length });
        }
        let total = length as usize + 1;
        if let Some(bytes) = buf.get(..total) {
            return Ok(Some(Piece { tag, part: Part::Whole, bytes }));
        }
        if (grammar.whole)(tag) && buf.len() < total.min(grammar.whole_max) {
            return Ok(None);
        }
        self.tag = tag;
        // `buf` is shorter than `total`, which fits 32 bits.
        self.left = u32::try_from(total - buf.len()).unwrap_or(u32::MAX);
        Ok(Some(Piece { tag, part: Part::First, bytes: buf }))
    }

    /// Whether the stream stands between two messages.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.left == 0
    }

    /// Type of the message under way, if one is.
    #[must_use]
    pub fn under_way(&self) -> Option<u8> {
        (self.left > 0).then_some(self.tag)
    }

    fn resume<'a>(&mut self, buf: &'a [u8]) -> Option<Piece<'a>> {
        if buf.is_empty() {
            return None;
        }
        if let Some(bytes) = buf.get(..self.left as usize) {
            self.left = 0;
            return Some(Piece { tag: self.tag, part: Part::Last, bytes });
        }
        // Shorter than `left`, hence within 32 bits.
        self.left -= u32::try_from(buf.len()).unwrap_or(0);
        Some(Piece { tag: self.tag, part: Part::Middle, bytes: buf })
    }

    /// Less than a header: a forbidden type is known by its first byte already.
    fn check_partial<'a>(&self, buf: &[u8], grammar: &Grammar) -> Result<Option<Piece<'a>>, Violation> {
        match buf.first() {
            Some(&tag) if (grammar.limit)(tag).is_none() => Err(Violation::Type(tag)),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tag::{back_limit, front_limit};

    const BACK: Grammar =
        Grammar { limit: back_limit, whole: |tag| matches!(tag, b'Z' | b'S' | b'E'), whole_max: 40, max: u32::MAX };
    const FRONT: Grammar = Grammar { limit: front_limit, whole: |_| false, whole_max: 0, max: 1 << 20 };

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        out.extend_from_slice(&(u32::try_from(body.len() + 4).unwrap()).to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    type Read = (u8, Vec<u8>);

    /// Feeds `chunks` the way a relay does, keeping what was not consumed, and puts the messages together again.
    fn reassemble(chunks: &[&[u8]], grammar: &Grammar) -> Result<Vec<Read>, Violation> {
        let mut scanner = Scanner::default();
        let (mut buf, mut messages, mut open) = (Vec::new(), Vec::new(), Vec::new());
        for chunk in chunks {
            buf.extend_from_slice(chunk);
            let mut used = 0;
            while let Some(piece) = scanner.next(&buf[used..], grammar)? {
                assert!(!piece.bytes.is_empty());
                assert_eq!(piece.part.starts(), open.is_empty());
                used += piece.bytes.len();
                open.extend_from_slice(piece.bytes);
                if piece.part.ends() {
                    messages.push((piece.tag, std::mem::take(&mut open)));
                }
                assert_eq!(scanner.at_boundary(), open.is_empty());
            }
            buf.drain(..used);
        }
        Ok(messages)
    }

    #[test]
    fn bad_headers_are_refused_before_anything_else() {
        let cases: &[(&[u8], Violation)] = &[
            (&[b'Q', 0, 0, 0, 3], Violation::Length { tag: b'Q', length: 3 }),
            (&[b'Q', 0, 0, 0, 0], Violation::Length { tag: b'Q', length: 0 }),
            (&[b'Q', 0xff, 0xff, 0xff, 0xff], Violation::Length { tag: b'Q', length: u32::MAX }),
            (&[b'Q', 0, 0x10, 0, 1], Violation::Length { tag: b'Q', length: (1 << 20) + 1 }),
            (&[b'S', 0, 0, 0x27, 0x11], Violation::Length { tag: b'S', length: 10_001 }),
            (b"!", Violation::Type(b'!')),
            (&[0, 0, 0, 0, 8], Violation::Type(0)),
        ];
        for (bytes, violation) in cases {
            assert_eq!(Scanner::default().next(bytes, &FRONT), Err(*violation), "{bytes:?}");
        }
    }

    #[test]
    fn a_whole_type_waits_and_another_does_not() {
        let mut scanner = Scanner::default();
        assert_eq!(scanner.next(&[b'Z', 0, 0, 0, 5], &BACK), Ok(None));
        assert!(scanner.at_boundary());
        let row = message(b'D', &[7; 10]);
        let piece = scanner.next(&row[..6], &BACK).unwrap().unwrap();
        assert_eq!((piece.part, piece.body()), (Part::First, &[7][..]));
        assert_eq!(scanner.under_way(), Some(b'D'));
    }

    #[test]
    fn a_whole_type_that_is_too_long_is_cut_late() {
        for (length, part) in [(35, Part::Whole), (36, Part::First)] {
            let error = message(b'E', &vec![1; length]);
            let mut scanner = Scanner::default();
            assert_eq!(scanner.next(&error[..39], &BACK), Ok(None));
            let piece = scanner.next(&error[..40], &BACK).unwrap().unwrap();
            assert_eq!((piece.part, piece.bytes.len()), (part, 40));
        }
    }

    proptest! {
        #[test]
        fn any_split_yields_the_same_messages(
            bodies in proptest::collection::vec((0usize..6, proptest::collection::vec(any::<u8>(), 0..300)), 1..20),
            cuts in proptest::collection::vec(1usize..40, 1..200),
        ) {
            let mut expected = Vec::new();
            for (kind, body) in &bodies {
                let (tag, body) = match kind {
                    0 => (b'Z', &b"I"[..]),
                    1 => (b'S', &body[..]),
                    2 => (b'D', &body[..]),
                    3 => (b'1', &b""[..]),
                    4 => (b'd', &body[..]),
                    _ => (b'E', &body[..]),
                };
                expected.push((tag, message(tag, body)));
            }
            let stream: Vec<u8> = expected.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            let mut chunks = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = tail;
            }
            prop_assert_eq!(reassemble(&chunks, &BACK).unwrap(), expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), cut in 1usize..64) {
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            let _ = reassemble(&chunks, &BACK);
            let _ = reassemble(&chunks, &FRONT);
        }
    }
}
