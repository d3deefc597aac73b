//! Hashing that takes long, in pieces, so that the worker does other things in between.

use tokio::task::yield_now;

use crate::auth::Derivation;

/// Rounds of one piece, some milliseconds.
const PIECE: u32 = 4096;

/// Computes all rounds.
///
/// Cancel safety: what was computed is lost.
pub async fn unhurried(mut derivation: Box<Derivation>) -> Derivation {
    while !derivation.advance(PIECE) {
        yield_now().await;
    }
    *derivation
}
