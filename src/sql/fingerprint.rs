//! What queries have in common that differ in their constants: a number, and a text without any constants.

use super::lexer::Lexer;
use super::token::{Kind, Sink, Token, Wanted};
use super::{Characters, Dialect};

/// FNV-1a, which is the same in every process and on every day.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// The fingerprint of a text: equal for texts that differ in constants, comments, white space and the case of words. Only
/// as much of it counts as is given.
#[must_use]
pub fn fingerprint(text: &[u8]) -> u64 {
    let mut print = Print { state: BASIS, number: usize::MAX };
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let mut lexer = Lexer::new(Dialect { standard_strings: true, characters: Characters::Plain });
    lexer.feed(text, &mut print);
    lexer.finish(&mut print);
    print.state
}

struct Print {
    state: u64,
    /// Behind the number that was read last: what touches it belongs to it.
    number: usize,
}

impl Print {
    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().chain(b" ") {
            self.state = (self.state ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }
}

impl Sink for Print {
    fn token(&mut self, token: &Token<'_>) {
        let touches = token.start == self.number;
        match token.kind {
            Kind::Number | Kind::Word(_) | Kind::Mark(b'.') if touches => self.number = token.end,
            Kind::Number => {
                self.number = token.end;
                self.take(b"?");
            }
            Kind::Word(word) => self.take(word.text),
            Kind::Mark(mark) => self.take(&[mark]),
            Kind::Text(_) | Kind::Parameter(_) => self.take(b"?"),
            // Where it was cut, if it was.
            Kind::Unreadable => {}
        }
    }

    fn idles(&self) -> bool {
        false
    }

    fn pass(&mut self, _: bool) {}

    fn wanted(&mut self) -> Wanted {
        Wanted::Nothing
    }

    fn content(&mut self, _: &[u8]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_do_not_count() {
        let same = [
            "select * from t where a = 1 and b = 'x'",
            "SELECT  *\nFROM t /* hint */ WHERE a = 23 AND b = 'it''s'",
            "select * from t where a = $1 and b = $2",
            "select * from t where a = 1.5e3 and b = $q$ y $q$ -- end",
        ];
        for text in same {
            assert_eq!(fingerprint(text.as_bytes()), fingerprint(same[0].as_bytes()), "{text}");
        }
        for other in
            ["select * from u where a = 1 and b = 'x'", "select * from t where a = 1", "", "select * from t; where"]
        {
            assert_ne!(fingerprint(other.as_bytes()), fingerprint(same[0].as_bytes()), "{other}");
        }
        assert_eq!(fingerprint(b"select 1\0select 2"), fingerprint(b"select 7"));
        assert_ne!(fingerprint(b"select 'open \xff"), 0);
    }
}
