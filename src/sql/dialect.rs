//! How a text is to be read, which is the session's business and not the text's.

/// How text is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// `standard_conforming_strings`: a backslash in a plain `'...'` is a backslash.
    pub standard_strings: bool,
    /// What the client's encoding makes of a byte above 0x7f.
    pub characters: Characters,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { standard_strings: true, characters: Characters::Plain }
    }
}

/// How the client's encoding writes characters that are not ASCII. It matters where the second byte of such a
/// character may look like a letter or a backslash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Characters {
    /// A byte below 0x80 is always an ASCII character: UTF8, LATIN1, `EUC_JP` and all that may be a server's encoding.
    #[default]
    Plain,
    /// A byte above 0x7f takes the next one with it: BIG5, GBK, UHC, GB18030, JOHAB.
    Pairs,
    /// The same, but 0xa1 to 0xdf stand alone: SJIS, `SHIFT_JIS_2004`.
    ShiftJis,
}

impl Characters {
    /// Those of an encoding, as `client_encoding` names it; the aliases that PostgreSQL takes are known as well.
    #[must_use]
    pub fn of_encoding(name: &str) -> Self {
        let letters = name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase());
        let name: Vec<u8> = letters.take(32).collect();
        match name.as_slice() {
            b"sjis" | b"shiftjis" | b"mskanji" | b"win932" | b"windows932" | b"shiftjis2004" => Self::ShiftJis,
            b"big5" | b"win950" | b"windows950" | b"gbk" | b"win936" | b"windows936" | b"uhc" | b"win949"
            | b"windows949" | b"gb18030" | b"johab" => Self::Pairs,
            _ => Self::Plain,
        }
    }

    /// Whether this byte takes the next one with it.
    pub(super) fn leads(self, byte: u8) -> bool {
        match self {
            Self::Plain => false,
            Self::Pairs => byte >= 0x80,
            Self::ShiftJis => byte >= 0x80 && !(0xa1..=0xdf).contains(&byte),
        }
    }
}
