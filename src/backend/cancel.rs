//! Cancel requests: a connection of its own to the very address that the backend is connected to.
//!
//! Source: `protocol-flow.html`, "Canceling Requests in Progress". PostgreSQL gives no answer; it closes the connection
//! when it has passed the signal on, and that is what is waited for. Where the backend's own connection is encrypted, so
//! is this one, by the same settings.

use std::io;
use std::time::Duration;

use super::Closing;
use super::encrypt::encrypt;
use super::{BackendRecord, ConnectError};
use crate::net::{SocketOptions, connect_to};
use crate::wire::write;

/// Asks PostgreSQL to cancel what this backend runs, and waits until PostgreSQL has done so or `limit` has passed.
///
/// The caller has announced the cancel ([`BackendRecord::announce_cancel`]). Where the request was written and nobody
/// knows when it takes effect, the backend is marked for closing, so that it cannot hit a later client's query.
///
/// # Errors
/// The system's error; `TimedOut` after `limit`.
pub async fn cancel(record: &BackendRecord, options: &SocketOptions, limit: Duration) -> io::Result<()> {
    let attempt = async {
        let mut stream = connect_to(&record.endpoint, options).await?;
        if let Some(secured) = &record.secured {
            encrypt(&mut stream, &secured.connector, &secured.host).await.map_err(io::Error::other)?;
            if stream.session().is_none() {
                // Its secret is not told in the clear if the connection was not.
                return Err(io::Error::other(ConnectError::NoTls));
            }
        }
        let mut out = Vec::with_capacity(16);
        write::cancel_request(&mut out, record.process_id, &record.secret);
        // From here on only PostgreSQL's orderly end of the connection tells that the signal was sent.
        let doubt = Doubt(record);
        stream.write_all(&out).await?;
        let mut byte = [0];
        std::future::poll_fn(|cx| stream.poll_read(cx, &mut byte)).await?;
        std::mem::forget(doubt);
        Ok(())
    };
    tokio::time::timeout(limit, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Marks a backend for closing when it is dropped.
struct Doubt<'a>(&'a BackendRecord);

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        self.0.close_because(Closing::CancelDoubt);
        self.0.need_close();
    }
}
