//! Tokens: what is written into requests and rows, so that whoever sees one knows whose it is.

use memchr::{memchr2, memmem};

/// A request of a client's: which client, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) slot: usize,
    pub(super) serial: u32,
}

/// What a token begins with, by its client. No byte of the one is in the other, so that no change of a single byte makes
/// another client's.
const MARKS: [&str; 2] = ["~~~~", "^^^^"];
const DIGITS: usize = 6;
/// Numbers of one client; the next one at its place has the next so many.
const EACH: u32 = 1000;

impl Token {
    pub(super) fn text(self) -> String {
        format!("{}{:06}", MARKS.get(self.slot).copied().unwrap_or_default(), self.serial % 1_000_000)
    }

    /// Whether both are one client's.
    pub(super) fn is_of(self, other: Token) -> bool {
        self.slot == other.slot && self.serial / EACH == other.serial / EACH
    }
}

/// Where the numbers of the next client begin.
pub(super) fn next_client(serial: u32) -> u32 {
    (serial / EACH + 1) * EACH
}

/// The tokens in these bytes.
pub(super) fn tokens(bytes: &[u8]) -> Vec<Token> {
    let mut found = Vec::new();
    if memchr2(b'~', b'^', bytes).is_none() {
        return found;
    }
    for (slot, mark) in MARKS.iter().enumerate() {
        for at in memmem::find_iter(bytes, mark) {
            let digits =
                bytes.get(at + mark.len()..at + mark.len() + DIGITS).and_then(|text| str::from_utf8(text).ok());
            found.extend(digits.and_then(|text| text.parse().ok()).map(|serial| Token { slot, serial }));
        }
    }
    found
}

/// Takes everything out of bytes that is part of a mark.
pub(super) fn unmark(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| matches!(byte, b'~' | b'^')) {
        *byte = b'-';
    }
}
