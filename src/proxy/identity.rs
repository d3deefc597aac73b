//! Whose rights the process has: never root's.
//!
//! Invariant: past [`assume_identity`] the process is not root and cannot become it again.

use nix::unistd::{User, geteuid, initgroups, setgid, setuid};

/// Why the process cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It is root, and nobody said whom to become.
    #[error(
        "pgpool does not run as root: start it as another user, or name one to become: `user = \"postgres\"` in \
         [pgpool], or `-u postgres`"
    )]
    Root,
    /// There is no such user.
    #[error("there is no system user \"{0}\" (setting `user`)")]
    Unknown(String),
    /// The user is root.
    #[error("the system user \"{0}\" (setting `user`) is root, whom pgpool does not run as")]
    IsRoot(String),
    /// Only root can become somebody else.
    #[error("cannot become the system user \"{0}\" (setting `user`): only root can, and this is not root")]
    NotRoot(String),
    /// The system refused.
    #[error("cannot become the system user \"{user}\" (setting `user`): {source}")]
    Refused {
        /// The user.
        user: String,
        /// The system's error.
        source: nix::Error,
    },
}

/// Becomes the user of this name; with an empty one, sees to it that the process is not root. To be called before there
/// are other threads.
///
/// # Errors
/// [`IdentityError`].
pub fn assume_identity(name: &str) -> Result<(), IdentityError> {
    let present = geteuid();
    if name.is_empty() {
        return if present.is_root() { Err(IdentityError::Root) } else { Ok(()) };
    }
    let refused = |source| IdentityError::Refused { user: name.to_owned(), source };
    let user = User::from_name(name).map_err(refused)?.ok_or_else(|| IdentityError::Unknown(name.to_owned()))?;
    if user.uid.is_root() {
        return Err(IdentityError::IsRoot(name.to_owned()));
    }
    if user.uid == present {
        return Ok(());
    }
    if !present.is_root() {
        return Err(IdentityError::NotRoot(name.to_owned()));
    }
    let c_name = std::ffi::CString::new(name).map_err(|_| IdentityError::Unknown(name.to_owned()))?;
    initgroups(&c_name, user.gid).map_err(refused)?;
    setgid(user.gid).map_err(refused)?;
    setuid(user.uid).map_err(refused)?;
    // What was given up must not come back.
    if setuid(nix::unistd::Uid::from_raw(0)).is_ok() || geteuid().is_root() {
        return Err(IdentityError::IsRoot(name.to_owned()));
    }
    Ok(())
}
