//! Signals as something to read, for a program whose business they are (a launcher passes them on). Imports its sibling
//! `fd`.

use std::os::fd::RawFd;

use super::fd::Fd;
use crate::error::{Error, Result};

/// Signals that are read instead of ending the program. They stay blocked in the thread that made this for good, so
/// make it in the main thread before there are others.
#[derive(Debug)]
pub struct SignalWatch {
    fd: Fd,
}

#[cfg(target_os = "linux")]
impl SignalWatch {
    /// From now on `signals` are read, but SIGHUP where it is ignored: so `nohup` wants it. SIGCHLD is not ignored any
    /// more, no matter who started this: how children ended would be lost.
    pub fn new(signals: &[i32]) -> Result<SignalWatch> {
        if is_ignored(libc::SIGCHLD) {
            // SAFETY: sets what the signal does at first.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        }
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: emptying initialises the set; the mask is this thread's own.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            let heeded = signals.iter().filter(|signal| **signal != libc::SIGHUP || !is_ignored(libc::SIGHUP));
            heeded.for_each(|signal| _ = libc::sigaddset(&mut set, *signal));
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            set
        };
        // SAFETY: the set is initialised.
        let fd = Fd::open("signalfd", || unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
        Ok(SignalWatch { fd })
    }

    /// The next signal that has come, if there is one.
    pub fn next(&self) -> Result<Option<i32>> {
        let fd = self.fd.check()?;
        // SAFETY: all zeros is a valid signalfd_siginfo.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: there is room for `size` bytes.
        match unsafe { libc::read(fd, (&raw mut info).cast(), size) } {
            n if n == size as isize => Ok(Some(info.ssi_signo as i32)),
            _ => match std::io::Error::last_os_error() {
                e if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => Ok(None),
                e => Err(Error::io("", "read", &e)),
            },
        }
    }
}

#[cfg(target_os = "linux")]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros is a valid sigaction, and the call only fills it in.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

/// Elsewhere a kqueue will do the same; there is none yet.
#[cfg(not(target_os = "linux"))]
impl SignalWatch {
    /// An error.
    pub fn new(_: &[i32]) -> Result<SignalWatch> {
        Err(crate::err!(Unsupported, "reading signals needs signalfd, which only Linux has"))
    }

    /// Never called.
    pub fn next(&self) -> Result<Option<i32>> {
        Ok(None)
    }
}

impl SignalWatch {
    /// The descriptor to poll for reading.
    pub fn fd(&self) -> Result<RawFd> {
        self.fd.check()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fork::tests::in_child;
    use super::*;

    #[test]
    fn signals_are_read_and_end_nothing() {
        let code = in_child(|| {
            let watch = SignalWatch::new(&[libc::SIGTERM, libc::SIGUSR1]).unwrap();
            assert_eq!(watch.next().unwrap(), None);
            // SAFETY: a signal to this process, blocked in its only thread.
            unsafe { libc::raise(libc::SIGTERM) };
            watch.next().unwrap() == Some(libc::SIGTERM) && watch.next().unwrap().is_none()
        });
        assert_eq!(code, 0);
    }
}
