//! Backend messages as they came, and views of the few that tests look into.

use std::fmt;

/// A message as it came, the length taken off.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

/// An ErrorResponse or NoticeResponse.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct PgError {
    pub(crate) severity: String,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

pub(crate) type Row = Vec<Option<String>>;

impl Message {
    /// The strings, each ended by a zero byte, from `offset` on.
    pub(crate) fn strings(&self, offset: usize) -> Vec<String> {
        let text = self.body.get(offset..).unwrap_or_default();
        let mut strings: Vec<_> =
            text.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
        strings.pop();
        strings
    }

    /// The transaction status of a ReadyForQuery: `I`, `T` or `E`.
    pub(crate) fn status(&self) -> char {
        assert_eq!(self.tag, b'Z', "{self:?} is no ReadyForQuery");
        char::from(self.body[0])
    }

    /// The tag of a CommandComplete.
    pub(crate) fn command(&self) -> String {
        assert_eq!(self.tag, b'C', "{self:?} is no CommandComplete");
        self.strings(0).concat()
    }

    /// The columns of a DataRow.
    pub(crate) fn row(&self) -> Row {
        assert_eq!(self.tag, b'D', "{self:?} is no DataRow");
        let mut rest = &self.body[2..];
        let mut row = Vec::new();
        while let Some((length, after)) = rest.split_at_checked(4) {
            let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
            let (value, after) = after.split_at(usize::try_from(length).unwrap_or(0));
            row.push((length >= 0).then(|| String::from_utf8_lossy(value).into_owned()));
            rest = after;
        }
        row
    }

    /// The fields of an ErrorResponse or NoticeResponse.
    pub(crate) fn error(&self) -> PgError {
        assert!(matches!(self.tag, b'E' | b'N'), "{self:?} is no error");
        let mut error = PgError::default();
        for field in self.strings(0) {
            let mut characters = field.chars();
            let kind = characters.next();
            let value = characters.as_str().to_owned();
            match kind {
                Some('S') => error.severity = value,
                Some('C') => error.code = value,
                Some('M') => error.message = value,
                Some('D') => error.detail = Some(value),
                Some('H') => error.hint = Some(value),
                _ => {}
            }
        }
        error
    }

    pub(super) fn u32_at(&self, offset: usize) -> u32 {
        u32::from_be_bytes(self.body[offset..offset + 4].try_into().expect("four bytes"))
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = &self.body[..self.body.len().min(200)];
        write!(formatter, "{}({})", self.tag.escape_ascii(), body.escape_ascii())
    }
}

/// The tags of messages in a row, as in `1 2 T D C Z`, without the blanks.
pub(crate) fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

/// The rows among messages, or the first error.
pub(crate) fn rows(messages: &[Message]) -> Result<Vec<Row>, PgError> {
    match messages.iter().find(|message| message.tag == b'E') {
        Some(message) => Err(message.error()),
        None => Ok(messages.iter().filter(|message| message.tag == b'D').map(Message::row).collect()),
    }
}
