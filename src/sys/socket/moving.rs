//! The four system calls that move bytes of a stream socket, and what one attempt comes to. None blocks, but for a
//! receive that is allowed to.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};

use super::{Fd, with};

/// What one attempt to move bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes (at least one).
    Bytes(usize),
    /// None now: the socket is full, or empty.
    Blocked,
    /// None ever again: the end of the stream.
    End,
}

/// A stretch of memory for the system to read or write.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Region(libc::iovec);

impl Region {
    /// Nothing.
    pub const EMPTY: Region = Region(libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 });

    /// `len` bytes from `start` on.
    pub fn new(start: *mut u8, len: usize) -> Region {
        Region(libc::iovec { iov_base: start.cast(), iov_len: len })
    }

    /// The bytes of a slice, to be read.
    pub fn of(bytes: &[u8]) -> Region {
        Region::new(bytes.as_ptr().cast_mut(), bytes.len())
    }

    /// The first byte.
    pub fn start(&self) -> *mut u8 {
        self.0.iov_base.cast()
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.0.iov_len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Without its first `n` bytes.
    pub fn skip(&self, n: usize) -> Region {
        let n = n.min(self.len());
        Region::new(self.start().wrapping_add(n), self.len() - n)
    }
}

/// A send never blocks, whether the socket would or not.
#[cfg(target_os = "linux")]
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
#[cfg(not(target_os = "linux"))]
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT;

/// A stream that a signal interrupted has moved nothing: the same as one that is blocked, since the thread that waits
/// then sees the signal's work done.
pub(super) fn moved(n: isize) -> io::Result<Moved> {
    if n > 0 {
        return Ok(Moved::Bytes(n as usize));
    }
    if n == 0 {
        return Ok(Moved::End);
    }
    let e = io::Error::last_os_error();
    match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(Moved::Blocked),
        _ => Err(e),
    }
}

/// To a send: more follows at once. TCP then waits for it, 0.2 s at most, and wakes the receiver once for both.
#[cfg(target_os = "linux")]
const MORE: i32 = libc::MSG_MORE;
#[cfg(not(target_os = "linux"))]
const MORE: i32 = 0;

/// Sends what the socket takes of `regions`, in order, without SIGPIPE. `more`: another call follows at once.
///
/// # Safety
/// Every region is valid for reads through the call.
#[inline]
pub unsafe fn send(fd: RawFd, regions: &[Region], more: bool) -> io::Result<Moved> {
    let flags = if more { SEND_FLAGS | MORE } else { SEND_FLAGS };
    let n = if let [one] = regions {
        // SAFETY: the caller vouches for the region.
        unsafe { libc::send(fd, one.0.iov_base, one.0.iov_len, flags) }
    } else {
        // SAFETY: `Region` is a transparent iovec; the caller vouches for each.
        unsafe { libc::sendmsg(fd, &header(regions), flags) }
    };
    moved(n)
}

fn header(regions: &[Region]) -> libc::msghdr {
    // SAFETY: zeroes are a valid msghdr: no name, no regions, no control data.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = regions.as_ptr().cast::<libc::iovec>().cast_mut();
    header.msg_iovlen = regions.len() as _;
    header
}

/// What a receive does when the socket has nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// It says so.
    Return,
    /// It waits, on a socket that [`let_block`] was called for: as long as was said there, or until a signal comes.
    Block,
}

/// Receives into `regions`, in order, what the socket has.
///
/// # Safety
/// Every region is valid for writes through the call; one at least is not empty.
#[inline]
pub unsafe fn receive(fd: RawFd, regions: &[Region], empty: Empty) -> io::Result<Moved> {
    let flags = if empty == Empty::Block { 0 } else { libc::MSG_DONTWAIT };
    let n = if let [one] = regions {
        // SAFETY: the caller vouches for the region.
        unsafe { libc::recv(fd, one.0.iov_base, one.0.iov_len, flags) }
    } else {
        // SAFETY: `Region` is a transparent iovec; the caller vouches for each.
        unsafe { libc::recvmsg(fd, &mut header(regions), flags) }
    };
    moved(n)
}

/// Lets a receive that asks for it block for `longest`. With a time-out of its own, a signal ends it whatever the
/// signal's handler was installed with.
pub fn let_block(fd: &Fd, longest: std::time::Duration) -> io::Result<()> {
    with(fd.as_raw_fd(), |s| s.set_read_timeout(Some(longest)).and_then(|()| s.set_nonblocking(false)))
}
