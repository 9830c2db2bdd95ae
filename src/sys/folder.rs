//! Files that processes of one user meet at: locks on them, and news from their folder. Imports its sibling `fd`.

use std::os::fd::RawFd;

use super::fd::Fd;
use crate::error::{Error, Result};

/// The user whom files that we make belong to.
pub fn user() -> u32 {
    // SAFETY: cannot fail and touches no memory.
    unsafe { libc::geteuid() }
}

/// Takes the lock of the open file `fd` (`flock`: it lives until every copy of this descriptor is closed), shared or
/// for ourselves alone, without waiting. False when another open of the file holds it.
pub fn try_flock(fd: RawFd, alone: bool) -> bool {
    let how = if alone { libc::LOCK_EX } else { libc::LOCK_SH };
    // SAFETY: touches no memory; a bad descriptor is an error.
    unsafe { libc::flock(fd, how | libc::LOCK_NB) == 0 }
}

/// News from folders: a descriptor that is readable after something was made in one, moved into it or removed.
#[derive(Debug)]
pub struct FolderWatch {
    fd: Fd,
}

impl FolderWatch {
    /// One that watches nothing yet. An error where the system has no such thing, or no more of it.
    #[cfg(target_os = "linux")]
    pub fn new() -> Result<FolderWatch> {
        // SAFETY: makes a descriptor and touches no memory.
        let fd = Fd::open("inotify_init1", || unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })?;
        Ok(FolderWatch { fd })
    }

    /// Watches `folder`, too, from now on.
    #[cfg(target_os = "linux")]
    pub fn add(&self, folder: &std::ffi::CStr) -> Result<()> {
        let what = libc::IN_CREATE | libc::IN_MOVED_TO | libc::IN_DELETE | libc::IN_ONLYDIR;
        // SAFETY: `folder` ends in a NUL and lives through the call.
        if unsafe { libc::inotify_add_watch(self.fd.check()?, folder.as_ptr(), what) } < 0 {
            return Err(Error::os("", "inotify_add_watch"));
        }
        Ok(())
    }

    /// Watches `folder`, too, from now on.
    #[cfg(not(target_os = "linux"))]
    pub fn add(&self, _: &std::ffi::CStr) -> Result<()> {
        Ok(())
    }

    /// One that watches nothing yet. An error where the system has no such thing, or no more of it.
    #[cfg(not(target_os = "linux"))]
    pub fn new() -> Result<FolderWatch> {
        Err(crate::err!(Unsupported, "this system has no inotify"))
    }

    /// The descriptor to wait on.
    pub fn fd(&self) -> Result<RawFd> {
        self.fd.check()
    }

    /// Forgets the news so far.
    pub fn clear(&self) {
        let Ok(fd) = self.fd.check() else { return };
        let mut buffer = [0u8; 4096];
        // SAFETY: the buffer has room for what is asked; the descriptor does not block.
        while unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) } > 0 {}
    }
}
