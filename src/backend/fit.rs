//! Whether a server is what `target_session_attrs` wants, by what it reports at the login, else by asking it.
//!
//! Source: `libpq-connect.html`. PostgreSQL reports both settings since version 14.

use super::{Backend, ExchangeError, Interner};
use crate::config::SessionAttrs;

/// What PostgreSQL before version 14, or a pooler in between, is asked.
const ASK: &[u8] =
    b"select pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only')";

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nature {
    pub(super) standby: bool,
    pub(super) read_only: bool,
}

impl Nature {
    /// What the server of this backend is.
    pub(super) async fn of(backend: &mut Backend, interner: &Interner) -> Result<Nature, ExchangeError> {
        let reported = &backend.state.reported;
        let on = |value: &[u8]| value == b"on" || value == b"t";
        if let (Some(standby), Some(read_only)) =
            (reported.value("in_hot_standby"), reported.value("default_transaction_read_only"))
        {
            return Ok(Nature { standby: on(standby), read_only: on(read_only) });
        }
        let row = backend.query_row(ASK, interner).await?;
        let says = |index: usize| row.get(index).is_some_and(|value| value.as_deref().is_some_and(on));
        Ok(Nature { standby: says(0), read_only: says(1) })
    }

    /// Why it is not what is wanted, in libpq's words.
    pub(super) fn misfit(self, wanted: SessionAttrs) -> Option<&'static str> {
        let takes_writes = !self.standby && !self.read_only;
        match wanted {
            SessionAttrs::ReadWrite => (!takes_writes).then_some("session is read-only"),
            SessionAttrs::ReadOnly => takes_writes.then_some("session is not read-only"),
            SessionAttrs::Primary => self.standby.then_some("server is in hot standby mode"),
            SessionAttrs::Standby | SessionAttrs::PreferStandby => {
                (!self.standby).then_some("server is not in hot standby mode")
            }
            SessionAttrs::Any => None,
        }
    }
}

/// Whether a change of `in_hot_standby` makes a server another one than is wanted. (What a session's own transactions are
/// by default may be the client's doing, and says nothing.)
pub(super) fn displaced(wanted: SessionAttrs, in_hot_standby: &[u8]) -> bool {
    let standby = in_hot_standby == b"on";
    match wanted {
        SessionAttrs::Primary | SessionAttrs::ReadWrite => standby,
        // What is not a standby any more may still be read-only: a new connection asks.
        SessionAttrs::Standby | SessionAttrs::ReadOnly => !standby,
        SessionAttrs::Any | SessionAttrs::PreferStandby => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_displaces_whom_it_concerns() {
        let [promoted, demoted] = [b"off".as_slice(), b"on"].map(|value| {
            let wishes = [
                SessionAttrs::Any,
                SessionAttrs::ReadWrite,
                SessionAttrs::ReadOnly,
                SessionAttrs::Primary,
                SessionAttrs::Standby,
                SessionAttrs::PreferStandby,
            ];
            wishes.map(|wanted| displaced(wanted, value))
        });
        assert_eq!(promoted, [false, false, true, false, true, false]);
        assert_eq!(demoted, [false, true, false, true, false, false]);
    }

    #[test]
    fn each_wish_has_its_servers() {
        let natures = [(false, false), (false, true), (true, false), (true, true)]
            .map(|(standby, read_only)| Nature { standby, read_only });
        let fits = |wanted| natures.map(|nature| nature.misfit(wanted).is_none());
        assert_eq!(fits(SessionAttrs::Any), [true; 4]);
        assert_eq!(fits(SessionAttrs::ReadWrite), [true, false, false, false]);
        assert_eq!(fits(SessionAttrs::ReadOnly), [false, true, true, true]);
        assert_eq!(fits(SessionAttrs::Primary), [true, true, false, false]);
        assert_eq!(fits(SessionAttrs::Standby), [false, false, true, true]);
        assert_eq!(fits(SessionAttrs::PreferStandby), [false, false, true, true]);
    }
}
