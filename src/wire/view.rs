//! Views of the few messages that a pooler reads: borrowed, bounds-checked, never decoded further than a decision needs.
//!
//! Every function takes the body without the header and answers `None` for anything malformed.

/// Transaction status of ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `I`: not in a transaction block.
    Idle,
    /// `T`: in a transaction block.
    InBlock,
    /// `E`: in a failed transaction block.
    Failed,
}

impl Status {
    /// The status byte of a ReadyForQuery body.
    #[must_use]
    pub fn from_ready(body: &[u8]) -> Option<Status> {
        match body {
            b"I" => Some(Status::Idle),
            b"T" => Some(Status::InBlock),
            b"E" => Some(Status::Failed),
            _ => None,
        }
    }
}

/// Splits a NUL-terminated string off the front: `(string without NUL, rest)`.
#[inline]
#[must_use]
pub fn cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// Splits a big-endian 32-bit integer off the front.
#[must_use]
pub fn int32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*head), rest))
}

/// The values of a DataRow.
#[must_use]
pub fn data_row(body: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, tail) = int32(rest)?;
        if length == u32::MAX {
            values.push(None);
            rest = tail;
        } else {
            let (value, tail) = tail.split_at_checked(length as usize)?;
            values.push(Some(value));
            rest = tail;
        }
    }
    rest.is_empty().then_some(values)
}

/// Name and value of a ParameterStatus.
#[must_use]
pub fn parameter_status(body: &[u8]) -> Option<(&str, &[u8])> {
    let (name, rest) = cstr(body)?;
    let (value, rest) = cstr(rest)?;
    rest.is_empty().then_some(())?;
    Some((std::str::from_utf8(name).ok()?, value))
}

/// The fields of an ErrorResponse or NoticeResponse that a pooler looks at; missing ones are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostic {
    /// `V`, or `S` where the sender is older: ERROR, FATAL, PANIC, WARNING ...
    pub severity: String,
    /// `C`: SQLSTATE.
    pub code: String,
    /// `M`: primary message.
    pub message: String,
    /// `D`: detail.
    pub detail: String,
    /// `H`: hint.
    pub hint: String,
    /// `R`: routine of the sender that reported it; unlike the message it is never translated.
    pub routine: String,
}

impl Diagnostic {
    /// Reads the fields of a body; bytes that are no UTF-8 are replaced, since this copy only serves logs and our own
    /// errors (the message itself is forwarded as received).
    #[must_use]
    pub fn read(body: &[u8]) -> Diagnostic {
        let mut found = Diagnostic::default();
        let mut rest = body;
        while let Some((&field, tail)) = rest.split_first() {
            if field == 0 {
                break;
            }
            let Some((value, tail)) = cstr(tail) else { break };
            let text = || String::from_utf8_lossy(value).into_owned();
            match field {
                b'V' => found.severity = text(),
                b'S' if found.severity.is_empty() => found.severity = text(),
                b'C' => found.code = text(),
                b'M' => found.message = text(),
                b'D' => found.detail = text(),
                b'H' => found.hint = text(),
                b'R' => found.routine = text(),
                _ => {}
            }
            rest = tail;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_postgres_sends() {
        assert_eq!(Status::from_ready(b"T"), Some(Status::InBlock));
        assert_eq!(Status::from_ready(b""), None);
        assert_eq!(Status::from_ready(b"II"), None);
        assert_eq!(parameter_status(b"TimeZone\0UTC\0"), Some(("TimeZone", &b"UTC"[..])));
        assert_eq!(parameter_status(b"TimeZone\0UTC"), None);
        assert_eq!(parameter_status(b"TimeZone\0UTC\0x"), None);
        assert_eq!(data_row(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff"), Some(vec![Some(&b"a"[..]), None]));
        assert_eq!(data_row(b"\0\x01\0\0\0\x02a"), None);
        let error = Diagnostic::read(b"SFEHLER\0VERROR\0C42P01\0Mno table\0Hlook\0\0");
        assert_eq!((error.severity.as_str(), error.code.as_str()), ("ERROR", "42P01"));
        assert_eq!((error.message.as_str(), error.hint.as_str()), ("no table", "look"));
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = data_row(&body);
            let _ = (Status::from_ready(&body), cstr(&body), int32(&body), parameter_status(&body));
            let _ = Diagnostic::read(&body);
        }
    }
}
