//! How a stream socket ends: at once, or for what is sent alone. None of these calls blocks.

use std::os::fd::RawFd;

use super::moving::{Empty, Moved, Region, moved, receive};

/// Ends both directions: wakes all that wait, here and at the peer.
pub fn shutdown(fd: RawFd) {
    // SAFETY: touches no memory. A socket that is no longer connected only says so.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// Ends the direction from here to the peer: it finds the end of the stream behind what was sent. Wakes those who wait
/// for room here, and nobody who waits for something to read.
pub fn stop_sending(fd: RawFd) {
    // SAFETY: touches no memory. A socket that is no longer connected only says so.
    unsafe { libc::shutdown(fd, libc::SHUT_WR) };
}

/// Whether nothing is to be had from a socket, now or ever: the other end has gone.
pub fn is_at_end(fd: RawFd) -> bool {
    let mut byte = 0u8;
    // SAFETY: a valid place for one byte.
    let n = unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
    matches!(moved(n), Ok(Moved::End) | Err(_))
}

/// How many bytes of what was sent the peer's system has not confirmed, for a TCP socket after [`stop_sending`]. 0
/// where the system does not say.
#[cfg(target_os = "linux")]
pub fn unconfirmed(fd: RawFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which has the number of TIOCOUTQ (see tcp(7)), writes one int.
    if unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) } != 0 {
        return 0;
    }
    // The end of the stream counts as a byte, and is confirmed last.
    usize::try_from(bytes).unwrap_or(0).saturating_sub(1)
}

/// How many bytes of what was sent the peer's system has not confirmed.
#[cfg(not(target_os = "linux"))]
pub fn unconfirmed(_: RawFd) -> usize {
    0
}

/// Reads what the socket has, up to some hundred KB, and drops it. Whether there was anything; `None` when nothing more
/// can come.
pub fn discard(fd: RawFd) -> Option<bool> {
    let mut sink = [0u8; 16 << 10];
    let sink = [Region::new(sink.as_mut_ptr(), sink.len())];
    for round in 0..16 {
        // SAFETY: a buffer of the stated length.
        match unsafe { receive(fd, &sink, Empty::Return) } {
            Ok(Moved::Bytes(_)) => {}
            Ok(Moved::Blocked) => return Some(round > 0),
            Ok(Moved::End) | Err(_) => return None,
        }
    }
    Some(true)
}
