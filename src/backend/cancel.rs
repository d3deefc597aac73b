//! Cancel requests: a connection of its own to the very address that the backend is connected to.
//!
//! Source: `protocol-flow.html`, "Canceling Requests in Progress". PostgreSQL gives no answer; it closes the connection
//! when it has passed the signal on, and that is what is waited for.

use std::io;
use std::time::Duration;

use super::BackendRecord;
use crate::net::{SocketOptions, connect_to};
use crate::wire::write;

/// Asks PostgreSQL to cancel what this backend runs, and waits until PostgreSQL has done so or `limit` has passed.
///
/// The caller has announced the cancel ([`BackendRecord::announce_cancel`]) and takes it back afterwards.
///
/// # Errors
/// The system's error; `TimedOut` after `limit`.
pub async fn cancel(record: &BackendRecord, options: &SocketOptions, limit: Duration) -> io::Result<()> {
    let attempt = async {
        let mut stream = connect_to(&record.endpoint, options).await?;
        let mut out = Vec::with_capacity(16);
        write::cancel_request(&mut out, record.process_id, &record.secret);
        stream.write_all(&out).await?;
        let mut byte = [0];
        // Zero bytes or a reset: either way the postmaster's child is done.
        let _ = std::future::poll_fn(|cx| stream.poll_read(cx, &mut byte)).await;
        Ok(())
    };
    tokio::time::timeout(limit, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
