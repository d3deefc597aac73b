//! Bytes and descriptors over a Unix socket, from one process to another (`unix(7)`, SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Most descriptors that are passed at once; the system's own limit is 253.
pub const MOST_DESCRIPTORS: usize = 128;
/// What one call receives.
const STEP: usize = 4096;

/// Sends `bytes`, and the descriptors with the first of them. There have to be bytes.
///
/// # Errors
/// The system's error; `InvalidInput` for more than [`MOST_DESCRIPTORS`].
pub async fn send_descriptors(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > MOST_DESCRIPTORS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        stream.writable().await?;
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if sent == 0 && !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            Ok(sendmsg(stream, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL)?)
        };
        match stream.try_io(Interest::WRITABLE, send) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Appends what comes next to `bytes`, and the descriptors that came with it to `descriptors`; answers whether there was
/// anything before the end of the stream. Descriptors are closed in programs that this one starts.
///
/// # Errors
/// The system's error.
pub async fn receive_descriptors(
    stream: &UnixStream,
    bytes: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<bool> {
    loop {
        stream.readable().await?;
        let receive = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut step = [0; STEP];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let received = recvmsg(stream, &mut [IoSliceMut::new(&mut step)], &mut control, flags)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(passed) = message {
                    descriptors.extend(passed);
                }
            }
            bytes.extend_from_slice(step.get(..received.bytes).unwrap_or_default());
            Ok(received.bytes > 0)
        };
        match stream.try_io(Interest::READABLE, receive) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    #[tokio::test]
    async fn descriptors_come_with_the_first_bytes_of_a_long_text() {
        let (one, other) = UnixStream::pair().unwrap();
        let files: Vec<_> = (0..3).map(|_| tempfile::tempfile().unwrap()).collect();
        std::io::Write::write_all(&mut &files[1], b"second").unwrap();
        let text = vec![b'x'; 1 << 20];
        let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let (mut got, mut passed) = (Vec::new(), Vec::new());
        let receive = async {
            while receive_descriptors(&other, &mut got, &mut passed).await.unwrap() {
                if got.len() == text.len() {
                    break;
                }
            }
        };
        let (sent, ()) = tokio::join!(send_descriptors(&one, &text, &borrowed), receive);
        sent.unwrap();
        assert!(got == text && passed.len() == 3);
        let mut second = std::fs::File::from(passed.remove(1));
        std::io::Seek::rewind(&mut second).unwrap();
        let mut read = String::new();
        second.read_to_string(&mut read).unwrap();
        assert_eq!(read, "second");
        drop(one);
        assert!(!receive_descriptors(&other, &mut got, &mut passed).await.unwrap());
    }
}
