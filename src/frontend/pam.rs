//! Passwords that the system's PAM checks: `auth_type = "pam"`, and the method `pam` of a rule.
//!
//! A check blocks its thread for as long as PAM's modules like (a wrong password is often answered late on purpose), so it
//! is an errand. It cannot be taken back: a client that leaves leaves its check running, in its place.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use nonstick::items::ItemsMut;
use nonstick::{AuthnFlags, ConversationAdapter, ErrorCode, PamShared, Transaction, TransactionBuilder};

use crate::auth::Password;

/// Why PAM does not vouch for a client.
#[derive(Debug, thiserror::Error)]
pub enum PamError {
    /// It could not begin: no such service, no such item.
    #[error("PAM service \"{service}\" cannot be used: {error}")]
    Service {
        /// The service.
        service: String,
        /// PAM's code.
        error: ErrorCode,
    },
    /// The password is wrong, or the user unknown.
    #[error("PAM refuses the password: {0}")]
    Refused(ErrorCode),
    /// The account may not be used (`pam_acct_mgmt`).
    #[error("PAM refuses the account: {0}")]
    Account(ErrorCode),
    /// The check did not come to an end.
    #[error("the PAM check did not end")]
    Lost,
}

/// What PAM is asked.
pub(super) struct Question {
    /// Its file in `/etc/pam.d`.
    pub(super) service: String,
    /// The user.
    pub(super) user: String,
    /// What he has sent.
    pub(super) password: Password,
    /// Where he comes from; none by a Unix socket.
    pub(super) host: Option<String>,
}

/// Asks PAM. Blocks.
pub(super) fn check(question: Question) -> Result<(), PamError> {
    let Question { service, user, password, host } = question;
    let unusable = |error| PamError::Service { service: service.clone(), error };
    let builder = TransactionBuilder::new_with_service(&service).username(&user);
    let mut transaction = builder.build(Answers(password).into_conversation()).map_err(unusable)?;
    if let Some(host) = host {
        transaction.items_mut().set_remote_host(Some(OsStr::new(&host))).map_err(unusable)?;
    }
    transaction.authenticate(AuthnFlags::DISALLOW_NULL_AUTHTOK).map_err(PamError::Refused)?;
    transaction.account_management(AuthnFlags::DISALLOW_NULL_AUTHTOK).map_err(PamError::Account)
}

/// Answers what is not shown while it is typed with the password, and nothing else: nobody is there to be asked.
struct Answers(Password);

impl ConversationAdapter for Answers {
    fn prompt(&self, _: impl AsRef<OsStr>) -> nonstick::Result<OsString> {
        Err(ErrorCode::ConversationError)
    }

    fn masked_prompt(&self, _: impl AsRef<OsStr>) -> nonstick::Result<OsString> {
        Ok(OsString::from_vec(self.0.as_bytes().to_vec()))
    }

    fn error_msg(&self, _: impl AsRef<OsStr>) {}

    fn info_msg(&self, _: impl AsRef<OsStr>) {}
}
