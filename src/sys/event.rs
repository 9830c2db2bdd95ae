//! A descriptor that is readable while a flag is set: an eventfd on Linux, a pipe elsewhere.
//!
//! Imports its sibling `fd`.

use std::os::fd::{AsRawFd, RawFd};

use super::fd::Fd;
use crate::error::Result;

/// Readable while set. Any thread may set and clear it; setting twice is as good as once.
#[derive(Debug)]
pub struct Event {
    read: Fd,
    /// The end to write to where it is another one.
    write: Option<Fd>,
}

impl Event {
    /// A cleared one.
    #[cfg(target_os = "linux")]
    pub fn new() -> Result<Event> {
        // SAFETY: takes two numbers and touches no memory of ours.
        let read = Fd::open("eventfd", || unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        Ok(Event { read, write: None })
    }

    /// A cleared one.
    #[cfg(not(target_os = "linux"))]
    pub fn new() -> Result<Event> {
        super::fd::opening(|| {
            let mut ends = [0; 2];
            // SAFETY: `ends` has room for the two descriptors.
            if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
                return Err(crate::error::Error::os("", "pipe"));
            }
            for fd in ends {
                // SAFETY: both are open and ours; the calls touch no memory.
                unsafe {
                    libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
                    libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK);
                }
            }
            Ok(Event { read: Fd::own(ends[0]), write: Some(Fd::own(ends[1])) })
        })
    }

    /// The descriptor to poll for reading; users never read it themselves. `[state]` in a forked child.
    pub fn fd(&self) -> Result<RawFd> {
        self.read.check()
    }

    /// Whether it was made in this process.
    pub fn is_ours(&self) -> bool {
        self.read.is_ours()
    }

    /// Makes it readable.
    pub fn set(&self) {
        let to = self.write.as_ref().unwrap_or(&self.read);
        if to.is_ours() {
            // Full (a pipe set many times) counts as set.
            // SAFETY: eight valid bytes to a descriptor of ours.
            unsafe { libc::write(to.as_raw_fd(), 1u64.to_ne_bytes().as_ptr().cast(), 8) };
        }
    }

    /// Makes it unreadable.
    pub fn clear(&self) {
        if self.read.is_ours() {
            let mut sink = [0u8; 512];
            // SAFETY: a buffer of the stated length, a non-blocking descriptor of ours.
            while unsafe { libc::read(self.read.as_raw_fd(), sink.as_mut_ptr().cast(), sink.len()) } == 512 {}
        }
    }
}
