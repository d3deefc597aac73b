//! Reading before the login is over: few bytes, checked lengths, nothing lost of what follows.

use zeroize::Zeroize;

use super::Rejected;
use crate::net::Stream;
use crate::wire::scan::HEADER;
use crate::wire::startup::body_length;
use crate::wire::tag::front;

/// Most that is held of a client that has not logged in, bytes.
pub const MAX_BEFORE_LOGIN: usize = 10_004;

/// Longest password in the clear, bytes with its terminator and length: PostgreSQL's own limit
/// (`PG_MAX_AUTH_TOKEN_LENGTH`). Only where one was asked for.
const MAX_PASSWORD: usize = 65_535;

/// How much is read at a time: a whole login message of any driver.
const STEP: usize = 2_048;

/// The type of a TLS record of the handshake (RFC 8446 section 5.1); as a packet it would be far too long.
const TLS_HANDSHAKE: u8 = 0x16;

/// Bytes of a client that has not logged in.
#[derive(Default)]
pub(super) struct Intake {
    buf: Vec<u8>,
    /// What the caller has had of it.
    used: usize,
}

/// It may hold a password.
impl Drop for Intake {
    fn drop(&mut self) {
        self.buf.zeroize();
    }
}

impl Intake {
    /// Whether the first byte is that of a TLS handshake instead of a packet.
    pub(super) async fn begins_tls(&mut self, stream: &mut Stream) -> Result<bool, Rejected> {
        self.need(stream, 1).await?;
        Ok(self.rest().first() == Some(&TLS_HANDSHAKE))
    }

    /// Hands over everything that was read and not taken.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        let used = std::mem::take(&mut self.used);
        let mut all = std::mem::take(&mut self.buf);
        all.drain(..used);
        all
    }

    /// The next opening packet, without its length word.
    pub(super) async fn opening(&mut self, stream: &mut Stream) -> Result<&[u8], Rejected> {
        self.need(stream, 4).await?;
        let word = *self.rest().first_chunk::<4>().ok_or(Rejected::Protocol("short packet"))?;
        let length = body_length(word).map_err(Rejected::Startup)?;
        self.need(stream, 4 + length).await?;
        Ok(self.take(4, 4 + length))
    }

    /// The body of the next message, which must be a PasswordMessage or one of its SASL relatives.
    pub(super) async fn password(&mut self, stream: &mut Stream, in_clear: bool) -> Result<&[u8], Rejected> {
        self.need(stream, HEADER).await?;
        let Some(&[tag, a, b, c, d]) = self.rest().first_chunk::<HEADER>() else {
            return Err(Rejected::Protocol("short message"));
        };
        if tag != front::PASSWORD {
            return Err(Rejected::Protocol("expected password response"));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let most = if in_clear { MAX_PASSWORD } else { MAX_BEFORE_LOGIN - 1 };
        if !(4..=most).contains(&length) {
            return Err(Rejected::Protocol("invalid password message length"));
        }
        self.need(stream, 1 + length).await?;
        Ok(self.take(HEADER, 1 + length))
    }

    /// Whether bytes were read that the caller has not had.
    pub(super) fn has_more(&self) -> bool {
        self.used < self.buf.len()
    }

    /// What the client sent behind its login.
    pub(super) fn left_over(&self) -> Vec<u8> {
        self.rest().to_vec()
    }

    fn rest(&self) -> &[u8] {
        self.buf.get(self.used..).unwrap_or_default()
    }

    fn take(&mut self, from: usize, to: usize) -> &[u8] {
        let start = self.used;
        self.used += to;
        self.buf.get(start + from..start + to).unwrap_or_default()
    }

    async fn need(&mut self, stream: &mut Stream, count: usize) -> Result<(), Rejected> {
        if self.used > 0 {
            self.buf.drain(..self.used);
            self.used = 0;
        }
        while self.buf.len() < count {
            // A client that says nothing costs no buffer.
            std::future::poll_fn(|cx| stream.poll_read_ready(cx)).await?;
            let held = self.buf.len();
            // Memory follows what comes, not what was announced. What a larger buffer leaves behind is wiped.
            let room = (held + STEP).min(count.max(MAX_BEFORE_LOGIN));
            if room > self.buf.capacity() {
                let mut larger = Vec::with_capacity(room.next_power_of_two());
                larger.extend_from_slice(&self.buf);
                self.buf.zeroize();
                self.buf = larger;
            }
            self.buf.resize(room, 0);
            let free = self.buf.get_mut(held..).unwrap_or_default();
            let read = std::future::poll_fn(|cx| stream.poll_read(cx, free)).await?;
            self.buf.truncate(held + read);
            if read == 0 {
                return Err(Rejected::Left);
            }
        }
        Ok(())
    }
}
