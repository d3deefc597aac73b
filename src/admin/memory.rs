//! SHOW MEM: how many there are of what takes memory, and how much that is.
//!
//! Names are PgBouncer's where they mean the same. A size is that of the thing itself and not of what it refers to; only
//! the buffers and the statements are counted to the last byte.

use super::Context;
use super::columns::{Row, row};
use crate::backend::{Backend, BackendRecord};
use crate::config::{Database, User};
use crate::pool::{ClientRecord, Pool};
use crate::session::{Session, WORKSPACE};

/// The rows.
pub(super) fn rows(context: &Context) -> Vec<Row> {
    let pools = &context.pools;
    let all = pools.all();
    let config = pools.config.load();
    let backends: usize = all.iter().map(|pool| pool.backends().len()).sum();
    let (lent, free) = context.workspaces.counts();
    let statements = &pools.shared.statements;
    vec![
        sized("user_cache", size_of::<User>(), config.users.len(), 0),
        sized("db_cache", size_of::<Database>(), config.databases.len(), 0),
        sized("pool_cache", size_of::<Pool>(), all.len(), 0),
        sized("server_cache", size_of::<Backend>() + size_of::<BackendRecord>(), backends, 0),
        sized("client_cache", size_of::<Session>() + size_of::<ClientRecord>(), pools.clients.len(), 0),
        sized("iobuf_cache", WORKSPACE, lent, free),
        // Each has a size of its own.
        row!["statement_cache", 0u32, statements.shown().len(), 0u32, statements.bytes()],
    ]
}

fn sized(name: &str, size: usize, used: usize, free: usize) -> Row {
    row![name, size, used, free, size * (used + free)]
}
