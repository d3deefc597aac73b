//! Message type bytes of both directions, and how long each may be.
//!
//! Source: `protocol-message-formats.html`; the limits are those of PostgreSQL's `SocketBackend`
//! (`PQ_SMALL_MESSAGE_LIMIT`, `PQ_LARGE_MESSAGE_LIMIT`).

/// Longest length word of a short frontend message (Sync, Flush, Execute and so on), bytes.
const SMALL: u32 = 10_000;
/// Longest length word of a frontend message that carries data or text, bytes.
const LARGE: u32 = 0x3fff_fffe;

/// Messages that a frontend sends.
pub mod front {
    /// Bind
    pub const BIND: u8 = b'B';
    /// Close
    pub const CLOSE: u8 = b'C';
    /// CopyData
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone
    pub const COPY_DONE: u8 = b'c';
    /// CopyFail
    pub const COPY_FAIL: u8 = b'f';
    /// Describe
    pub const DESCRIBE: u8 = b'D';
    /// Execute
    pub const EXECUTE: u8 = b'E';
    /// Flush
    pub const FLUSH: u8 = b'H';
    /// FunctionCall
    pub const FUNCTION_CALL: u8 = b'F';
    /// Parse
    pub const PARSE: u8 = b'P';
    /// PasswordMessage, SASLInitialResponse, SASLResponse
    pub const PASSWORD: u8 = b'p';
    /// Query
    pub const QUERY: u8 = b'Q';
    /// Sync
    pub const SYNC: u8 = b'S';
    /// Terminate
    pub const TERMINATE: u8 = b'X';
}

/// Messages that a backend sends.
pub mod back {
    /// Authentication request of any kind
    pub const AUTHENTICATION: u8 = b'R';
    /// BackendKeyData
    pub const KEY_DATA: u8 = b'K';
    /// BindComplete
    pub const BIND_COMPLETE: u8 = b'2';
    /// CloseComplete
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// CommandComplete
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// CopyData
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone
    pub const COPY_DONE: u8 = b'c';
    /// CopyInResponse
    pub const COPY_IN: u8 = b'G';
    /// CopyOutResponse
    pub const COPY_OUT: u8 = b'H';
    /// CopyBothResponse
    pub const COPY_BOTH: u8 = b'W';
    /// DataRow
    pub const DATA_ROW: u8 = b'D';
    /// EmptyQueryResponse
    pub const EMPTY_QUERY: u8 = b'I';
    /// ErrorResponse
    pub const ERROR: u8 = b'E';
    /// FunctionCallResponse
    pub const FUNCTION_RESULT: u8 = b'V';
    /// NegotiateProtocolVersion
    pub const NEGOTIATE: u8 = b'v';
    /// NoData
    pub const NO_DATA: u8 = b'n';
    /// NoticeResponse
    pub const NOTICE: u8 = b'N';
    /// NotificationResponse
    pub const NOTIFICATION: u8 = b'A';
    /// ParameterDescription
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    /// ParameterStatus
    pub const PARAMETER_STATUS: u8 = b'S';
    /// ParseComplete
    pub const PARSE_COMPLETE: u8 = b'1';
    /// PortalSuspended
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// ReadyForQuery
    pub const READY: u8 = b'Z';
    /// RowDescription
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// The largest value that the length word of a frontend's message may have, in bytes; `None` for a type that a
/// frontend may not send after its login.
#[must_use]
pub fn front_limit(tag: u8) -> Option<u32> {
    match tag {
        front::QUERY | front::PARSE | front::BIND | front::FUNCTION_CALL | front::COPY_DATA => Some(LARGE),
        front::CLOSE
        | front::COPY_DONE
        | front::COPY_FAIL
        | front::DESCRIBE
        | front::EXECUTE
        | front::SYNC
        | front::TERMINATE => Some(SMALL),
        // Nothing answers a Flush, so the error that PostgreSQL has for one with a body could not be told from one that
        // belongs to something else; PostgreSQL would then skip to a Sync that nobody may send.
        front::FLUSH => Some(4),
        _ => None,
    }
}

/// The largest value that the length word of a backend's message may have, in bytes; `None` for a type that a
/// backend may not send after its login.
#[must_use]
pub fn back_limit(tag: u8) -> Option<u32> {
    match tag {
        back::BIND_COMPLETE | back::CLOSE_COMPLETE | back::PARSE_COMPLETE => Some(4),
        back::PORTAL_SUSPENDED | back::NO_DATA | back::EMPTY_QUERY | back::COPY_DONE => Some(4),
        back::READY => Some(5),
        back::COMMAND_COMPLETE
        | back::COPY_DATA
        | back::COPY_IN
        | back::COPY_OUT
        | back::COPY_BOTH
        | back::DATA_ROW
        | back::ERROR
        | back::FUNCTION_RESULT
        | back::NOTICE
        | back::NOTIFICATION
        | back::PARAMETER_DESCRIPTION
        | back::PARAMETER_STATUS
        | back::ROW_DESCRIPTION => Some(0x7fff_ffff),
        _ => None,
    }
}
