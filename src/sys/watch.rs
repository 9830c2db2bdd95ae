//! A set of descriptors that is itself a descriptor: readable while one of them is. epoll, on Linux.
//!
//! Imports its sibling `fd`.

use std::os::fd::RawFd;

use super::fd::Fd;
use crate::error::{Error, Result};

/// Descriptors to watch, most for something to read (or their end), each with a number of the caller's. Any thread may
/// add, remove and look. A descriptor that is closed leaves the set by itself, once no copy of it is open.
#[derive(Debug)]
pub struct WatchSet {
    fd: Fd,
}

#[cfg(target_os = "linux")]
impl WatchSet {
    /// An empty one.
    pub fn new() -> Result<WatchSet> {
        // SAFETY: takes a flag and touches no memory of ours.
        Ok(WatchSet { fd: Fd::open("epoll_create1", || unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })? })
    }

    /// Watches `fd` from now on.
    pub fn add(&self, fd: RawFd, number: u64) -> Result<()> {
        self.add_for(fd, number, true, false)
    }

    /// Watches `fd` from now on for something to read, for room to write, or for both.
    pub fn add_for(&self, fd: RawFd, number: u64, read: bool, write: bool) -> Result<()> {
        match self.add_absent(fd, number, read, write)? {
            true => Ok(()),
            false => Err(Error::io("", "epoll_ctl", &std::io::Error::from_raw_os_error(libc::EEXIST))),
        }
    }

    /// As [`WatchSet::add_for`]; false where `fd` is in the set already, which it stays as it is.
    pub fn add_absent(&self, fd: RawFd, number: u64, read: bool, write: bool) -> Result<bool> {
        let mut events = if read { libc::EPOLLIN | libc::EPOLLRDHUP } else { 0 };
        events |= if write { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: events as u32, u64: number };
        // SAFETY: `event` is valid through the call.
        match unsafe { libc::epoll_ctl(self.fd.check()?, libc::EPOLL_CTL_ADD, fd, &mut event) } {
            0 => Ok(true),
            _ => match std::io::Error::last_os_error() {
                e if e.raw_os_error() == Some(libc::EEXIST) => Ok(false),
                e => Err(Error::io("", "epoll_ctl", &e)),
            },
        }
    }

    /// Watches `fd` no more; whether it did. One that is not in the set, or closed already, is no error.
    pub fn remove(&self, fd: RawFd) -> bool {
        let Ok(set) = self.fd.check() else { return false };
        // SAFETY: removal reads no event.
        unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) == 0 }
    }

    /// The numbers of up to `most` descriptors that have something to read now, each added to `out`. Descriptors take
    /// turns.
    pub fn ready(&self, most: usize, mut out: impl FnMut(u64)) -> Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 128];
        let most = most.min(events.len()) as i32;
        // SAFETY: there is room for `most` events.
        let n = unsafe { libc::epoll_wait(self.fd.check()?, events.as_mut_ptr(), most, 0) };
        if n < 0 {
            let e = std::io::Error::last_os_error();
            return if e.kind() == std::io::ErrorKind::Interrupted {
                Ok(())
            } else {
                Err(Error::io("", "epoll_wait", &e))
            };
        }
        for event in &events[..n as usize] {
            out(event.u64);
        }
        Ok(())
    }
}

/// Elsewhere a kqueue will do the same; there is none yet.
#[cfg(not(target_os = "linux"))]
impl WatchSet {
    /// An error.
    pub fn new() -> Result<WatchSet> {
        Err(crate::err!(Unsupported, "watching many sockets needs epoll, which only Linux has"))
    }

    /// Never called.
    pub fn add(&self, _fd: RawFd, _number: u64) -> Result<()> {
        Ok(())
    }

    /// Never called.
    pub fn add_for(&self, _fd: RawFd, _number: u64, _read: bool, _write: bool) -> Result<()> {
        Ok(())
    }

    /// Never called.
    pub fn add_absent(&self, _fd: RawFd, _number: u64, _read: bool, _write: bool) -> Result<bool> {
        Ok(true)
    }

    /// Never called.
    pub fn remove(&self, _fd: RawFd) -> bool {
        true
    }

    /// Never called.
    pub fn ready(&self, _most: usize, _out: impl FnMut(u64)) -> Result<()> {
        Ok(())
    }
}

impl WatchSet {
    /// The descriptor of the set: poll it for reading. `[state]` in a forked child.
    pub fn fd(&self) -> Result<RawFd> {
        self.fd.check()
    }
}

/// The epoll instances of this process that watch `member`, and what else they watch: for those of other libraries,
/// which keep the numbers to themselves. Found in `/proc`; empty where there is none.
#[cfg(target_os = "linux")]
pub fn epolls_that_watch(member: RawFd) -> Vec<RawFd> {
    let mut found = Vec::new();
    let Ok(all) = std::fs::read_dir("/proc/self/fdinfo") else { return found };
    for file in all.flatten() {
        let Some(number) = file.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // What is no epoll instance has no such lines: `tfd:        5 events:       19 data: …`.
        let Ok(about) = std::fs::read_to_string(file.path()) else { continue };
        let watched =
            about.lines().filter_map(|line| line.strip_prefix("tfd:")?.split_whitespace().next()?.parse().ok());
        let watched: Vec<RawFd> = watched.collect();
        if watched.contains(&member) {
            found.push(number);
            found.extend(watched.into_iter().filter(|&fd| fd != member));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// There are no epoll instances, and a fork inherits no kqueue.
#[cfg(not(target_os = "linux"))]
pub fn epolls_that_watch(_: RawFd) -> Vec<RawFd> {
    Vec::new()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Event;
    use super::*;

    #[test]
    fn a_set_says_which_are_ready() {
        let set = WatchSet::new().unwrap();
        let (a, b) = (Event::new().unwrap(), Event::new().unwrap());
        set.add(a.fd().unwrap(), 7).unwrap();
        set.add(b.fd().unwrap(), 8).unwrap();
        assert!(!set.add_absent(b.fd().unwrap(), 9, true, true).unwrap());
        assert!(set.add(b.fd().unwrap(), 9).is_err());
        let ready = || {
            let mut out = Vec::new();
            set.ready(10, |n| out.push(n)).unwrap();
            out
        };
        assert!(ready().is_empty());
        b.set();
        assert_eq!(ready(), [8]);
        a.set();
        assert!(set.remove(b.fd().unwrap()));
        assert!(!set.remove(b.fd().unwrap()));
        assert_eq!(ready(), [7]);
        drop(a);
        assert!(ready().is_empty());
    }
}
