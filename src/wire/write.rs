//! Writers of the messages that pgpool itself makes. Each appends one whole message to `out`.
//!
//! Strings must not contain NUL; one that does is cut there, since the protocol could not carry it either.

use bytes::BufMut;

use super::SqlState;
use super::tag::{back, front};

/// An ErrorResponse or NoticeResponse of our own. Empty `detail` and `hint` are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// ERROR (the session goes on), FATAL (it is closed), NOTICE or WARNING.
    pub severity: &'static str,
    /// SQLSTATE.
    pub code: String,
    /// Primary message.
    pub message: String,
    /// Facts: pool, sizes, times.
    pub detail: String,
    /// What to do about it.
    pub hint: String,
}

impl Report {
    /// A report without detail and hint.
    #[must_use]
    pub fn new(severity: &'static str, code: impl Into<String>, message: impl Into<String>) -> Report {
        Report { severity, code: code.into(), message: message.into(), detail: String::new(), hint: String::new() }
    }

    /// A FATAL report: the session ends with it.
    #[must_use]
    pub fn fatal(code: SqlState, message: impl Into<String>) -> Report {
        Report::new("FATAL", code, message)
    }

    /// An ERROR report: the session goes on.
    #[must_use]
    pub fn error(code: SqlState, message: impl Into<String>) -> Report {
        Report::new("ERROR", code, message)
    }

    /// The same with a DETAIL.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Report {
        self.detail = detail.into();
        self
    }

    /// The same with a HINT.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Report {
        self.hint = hint.into();
        self
    }

    /// Appends it as an ErrorResponse.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_as(back::ERROR, out);
    }

    /// Appends it as a NoticeResponse.
    pub fn write_notice(&self, out: &mut Vec<u8>) {
        self.write_as(back::NOTICE, out);
    }

    fn write_as(&self, tag: u8, out: &mut Vec<u8>) {
        message(out, tag, |out| {
            let mut field = |code: u8, text: &str| {
                if !text.is_empty() {
                    out.put_u8(code);
                    put_cstr(out, text.as_bytes());
                }
            };
            field(b'S', self.severity);
            field(b'V', self.severity);
            field(b'C', &self.code);
            field(b'M', &self.message);
            field(b'D', &self.detail);
            field(b'H', &self.hint);
            out.put_u8(0);
        });
    }
}

/// Appends a message of type `tag` whose body is written by `body`; the length is filled in afterwards.
pub fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    with_length(out, body);
}

/// Appends a length word and the bytes that `body` writes (startup packets have no type byte).
pub fn with_length(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    if let Some(word) = out.get_mut(at..at + 4) {
        word.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a NUL-terminated string, cut at its first NUL.
pub fn put_cstr(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().copied().take_while(|&byte| byte != 0));
    out.push(0);
}

/// Query.
pub fn query(out: &mut Vec<u8>, sql: &[u8]) {
    message(out, front::QUERY, |out| put_cstr(out, sql));
}

/// ParameterStatus.
pub fn parameter_status(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    message(out, back::PARAMETER_STATUS, |out| {
        put_cstr(out, name.as_bytes());
        put_cstr(out, value);
    });
}

/// ReadyForQuery, not in a transaction block.
pub fn ready_idle(out: &mut Vec<u8>) {
    message(out, back::READY, |out| out.push(b'I'));
}

/// Terminate.
pub const TERMINATE: [u8; 5] = [front::TERMINATE, 0, 0, 0, 4];

/// CancelRequest for a backend's key (`protocol-message-formats.html`, CancelRequest; the secret has 4 bytes in
/// protocol 3.0 and up to 256 in 3.2).
pub fn cancel_request(out: &mut Vec<u8>, process_id: u32, secret: &[u8]) {
    with_length(out, |out| {
        out.put_u32(super::startup::CANCEL_CODE);
        out.put_u32(process_id);
        out.extend_from_slice(secret);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::view::Diagnostic;

    #[test]
    fn an_error_reads_back() {
        let mut out = Vec::new();
        let report = Report::fatal("3D000", "no such database: x").detail("facts").hint("look");
        report.write(&mut out);
        assert_eq!(out[0], b'E');
        assert_eq!(u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize, out.len() - 1);
        let read = Diagnostic::read(&out[5..]);
        assert_eq!((read.severity.as_str(), read.code.as_str()), ("FATAL", "3D000"));
        assert_eq!((read.detail.as_str(), read.hint.as_str()), ("facts", "look"));
    }

    #[test]
    fn a_nul_cannot_smuggle_a_field() {
        let mut out = Vec::new();
        parameter_status(&mut out, "a", b"b\0c");
        assert_eq!(out, [b'S', 0, 0, 0, 8, b'a', 0, b'b', 0]);
    }

    #[test]
    fn cancel_request_has_the_lengths_of_the_manual() {
        let mut out = Vec::new();
        cancel_request(&mut out, 7, &[1, 2, 3, 4]);
        assert_eq!(out, [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 7, 1, 2, 3, 4]);
    }
}
