//! Processes: fork, and how children end. Imports its siblings `critical`, `fd` and `place`.

use super::critical::quiesce;
use super::fd::Fd;
use super::place::keep_places;
use crate::err;
use crate::error::{Error, Result};

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; 128 + n if signal n ended it, as shells count.
    pub code: i32,
    /// The name of that signal, `SIGKILL`.
    pub signal: Option<String>,
}

/// `fork(2)`: 0 in the child. Every hook around a fork runs (see `at_fork`). An error, and nothing forked, where
/// another thread does not come out of a critical section.
pub fn fork() -> Result<i32> {
    keep_places();
    let _quiet = quiesce().map_err(|thread| {
        err!(
            Timeout,
            "thread {thread} has been changing what threads share for seconds (was it stopped?), and the child would \
             have found that half done; nothing was forked"
        )
    })?;
    // SAFETY: the child goes on in the caller's Lua state alone; the atfork handlers of this library and of libc leave
    // its locks free and its descriptors closed, and it never touches what other threads had in hand.
    match unsafe { libc::fork() } {
        -1 => Err(Error::os("", "fork")),
        pid => Ok(pid),
    }
}

/// This process.
pub fn getpid() -> i32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::getpid() }
}

/// The parent of this process.
pub fn getppid() -> i32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::getppid() }
}

/// How child `pid` ended, `None` while it runs. A child is told of once: then it is gone.
pub fn reap(pid: i32) -> Result<Option<Exit>> {
    let mut status = 0;
    // SAFETY: `status` is valid to write to.
    match unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } {
        0 => Ok(None),
        -1 => match std::io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::EINTR) => Ok(None),
            e if e.raw_os_error() == Some(libc::ECHILD) => {
                Err(err!(State, "process {pid} is not a child of this process, or its end was already told"))
            }
            e => Err(Error::io("", "waitpid", &e)),
        },
        _ if libc::WIFSIGNALED(status) => {
            let n = libc::WTERMSIG(status);
            Ok(Some(Exit { code: 128 + n, signal: Some(signal_name(n)) }))
        }
        _ => Ok(Some(Exit { code: libc::WEXITSTATUS(status), signal: None })),
    }
}

/// A descriptor that polls readable once child `pid` has ended, where the system has such.
pub fn pidfd(pid: i32) -> Option<Fd> {
    #[cfg(target_os = "linux")]
    // SAFETY: takes numbers; the descriptor it makes is close-on-exec.
    return Fd::open("pidfd_open", || unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32 }).ok();
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        None
    }
}

/// Signals by name: POSIX's and Linux's.
const SIGNALS: &[(i32, &str)] = &[
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGTRAP, "SIGTRAP"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGPIPE, "SIGPIPE"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGCHLD, "SIGCHLD"),
    (libc::SIGCONT, "SIGCONT"),
    (libc::SIGSTOP, "SIGSTOP"),
    (libc::SIGTSTP, "SIGTSTP"),
    (libc::SIGTTIN, "SIGTTIN"),
    (libc::SIGTTOU, "SIGTTOU"),
    (libc::SIGURG, "SIGURG"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGXFSZ, "SIGXFSZ"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGPROF, "SIGPROF"),
    (libc::SIGWINCH, "SIGWINCH"),
    (libc::SIGIO, "SIGIO"),
    (libc::SIGSYS, "SIGSYS"),
];

/// `SIGTERM` for 15; `signal 40` for one that has no name.
pub fn signal_name(n: i32) -> String {
    match SIGNALS.iter().find(|(number, _)| *number == n) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("signal {n}"),
    }
}

/// The number of a signal: `SIGTERM`, `TERM` and `term` are 15.
pub fn signal_number(name: &str) -> Option<i32> {
    let name = name.to_ascii_uppercase();
    let bare = name.strip_prefix("SIG").unwrap_or(&name);
    SIGNALS.iter().find(|(_, known)| known[3..] == *bare).map(|(number, _)| *number)
}

/// Sends `signal` to process `pid`, or to group −`pid`; false where there is none such.
pub fn kill(pid: i32, signal: i32) -> Result<bool> {
    // SAFETY: takes numbers.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(true),
        _ => match std::io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            e => Err(Error::io("", "kill", &e)),
        },
    }
}

/// Lets this process end with its parent: it is killed when the thread that started it ends, whatever signals it
/// ignores. False if `parent` is its parent no more, so that it would wait in vain; true, and without effect, where the
/// system has no such thing.
pub fn end_with(parent: i32) -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: takes numbers.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
    }
    // Asked afterwards: it may have ended just before.
    getppid() == parent
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn signals_have_their_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(63), "signal 63");
        for name in ["SIGTERM", "TERM", "term", "sigterm"] {
            assert_eq!(signal_number(name), Some(15));
        }
        assert_eq!(signal_number("SIG"), None);
        assert_eq!(signal_number(""), None);
    }

    #[test]
    fn a_process_that_is_no_child_cannot_be_waited_for() {
        assert_eq!(reap(getppid()).unwrap_err().code(), crate::error::Code::State);
    }
}
