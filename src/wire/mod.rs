//! The protocol as bytes: tags, the frame scanner, startup packets, views of the few messages that are read and
//! writers of the few that are made. No I/O, no runtime, no state but the scanner's.
//!
//! Source: PostgreSQL manual, chapter "Frontend/Backend Protocol" (`protocol-message-formats.html`).

mod fuzz;
pub mod scan;
pub mod startup;
pub mod tag;
pub mod view;
pub mod write;

#[doc(hidden)]
pub use fuzz::{fuzz_scan, fuzz_startup, fuzz_view};

/// `PG_DIAG` code of an SQLSTATE, five ASCII characters.
pub type SqlState = &'static str;

/// SQLSTATEs that pgpool itself sends (PostgreSQL manual, appendix "Error Codes").
pub mod sqlstate {
    use super::SqlState;

    /// `warning`
    pub const WARNING: SqlState = "01000";
    /// `protocol_violation`
    pub const PROTOCOL_VIOLATION: SqlState = "08P01";
    /// `connection_failure`
    pub const CONNECTION_FAILURE: SqlState = "08006";
    /// `feature_not_supported`
    pub const FEATURE_NOT_SUPPORTED: SqlState = "0A000";
    /// `invalid_authorization_specification`
    pub const INVALID_AUTHORIZATION: SqlState = "28000";
    /// `invalid_password`
    pub const INVALID_PASSWORD: SqlState = "28P01";
    /// `idle_in_transaction_session_timeout`
    pub const IDLE_IN_TRANSACTION_TIMEOUT: SqlState = "25P03";
    /// `transaction_timeout`
    pub const TRANSACTION_TIMEOUT: SqlState = "25P04";
    /// `invalid_catalog_name`
    pub const INVALID_CATALOG_NAME: SqlState = "3D000";
    /// `syntax_error`
    pub const SYNTAX_ERROR: SqlState = "42601";
    /// `insufficient_privilege`
    pub const INSUFFICIENT_PRIVILEGE: SqlState = "42501";
    /// `configuration_limit_exceeded`
    pub const CONFIGURATION_LIMIT: SqlState = "53400";
    /// `too_many_connections`
    pub const TOO_MANY_CONNECTIONS: SqlState = "53300";
    /// `program_limit_exceeded`
    pub const PROGRAM_LIMIT_EXCEEDED: SqlState = "54000";
    /// `query_canceled`
    pub const QUERY_CANCELED: SqlState = "57014";
    /// `admin_shutdown`
    pub const ADMIN_SHUTDOWN: SqlState = "57P01";
    /// `cannot_connect_now`
    pub const CANNOT_CONNECT_NOW: SqlState = "57P03";
    /// `idle_session_timeout`
    pub const IDLE_SESSION_TIMEOUT: SqlState = "57P05";
    /// `config_file_error`
    pub const CONFIG_FILE_ERROR: SqlState = "F0000";
}
