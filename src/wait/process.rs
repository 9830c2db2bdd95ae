//! Waiting for the end of a child. Imports its siblings `deadline`, `park`, `poll` and `threads`.

use std::sync::Arc;

use super::{Asleep, Deadline, Interest, Wait, sleep, sleep_on_fd};
use crate::error::Result;
use crate::sys::{Exit, pidfd, reap};

/// Waits for child `pid` to end; `None` when time runs out. Its end is told once.
pub fn wait_pid(pid: i32, wait: &Wait) -> Result<Option<Exit>> {
    wait.check()?;
    if let found @ Some(_) = reap(pid)? {
        return Ok(found);
    }
    if wait.deadline.expired() {
        return Ok(None);
    }
    let _asleep = Asleep::new(wait);
    let mut end = pidfd(pid);
    // Without such a descriptor (old kernels, other systems): look now and then, at first often.
    let mut pause = 0.0005;
    loop {
        // Also after the descriptor was made: had the child ended before and another waiter taken its end, the number
        // could be a stranger's by now.
        if let found @ Some(_) = reap(pid)? {
            return Ok(found);
        }
        if wait.deadline.expired() {
            return Ok(None);
        }
        match &end {
            Some(fd) => {
                let slept = sleep_on_fd(fd.check()?, Interest::Read, wait);
                if let (Err(_), Some(non_blocking)) = (&slept, wait.interrupt.non_blocking()) {
                    // The caller is about to sleep on it.
                    end.take().into_iter().for_each(|fd| non_blocking.keep(Arc::new(fd)));
                }
                slept?;
            }
            None => {
                sleep(&wait.sooner(Deadline::after(pause)))?;
                pause = f64::min(pause * 1.5, 0.05);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::fork;

    #[test]
    fn a_child_is_waited_for_with_its_code_or_its_signal() {
        let forever = Wait::until(Deadline::NEVER);
        let child = |f: fn()| match fork().unwrap() {
            0 => {
                f();
                // SAFETY: leaves the child without running the test harness.
                unsafe { libc::_exit(7) }
            }
            pid => pid,
        };
        let pid = child(|| ());
        assert_eq!(wait_pid(pid, &forever).unwrap(), Some(Exit { code: 7, signal: None }));
        assert_eq!(wait_pid(pid, &forever).unwrap_err().code(), crate::error::Code::State);
        // SAFETY: pause touches nothing.
        let pid = child(|| _ = unsafe { libc::pause() });
        assert_eq!(wait_pid(pid, &Wait::until(Deadline::after(0.001))).unwrap(), None);
        // SAFETY: our own child.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        assert_eq!(wait_pid(pid, &forever).unwrap(), Some(Exit { code: 137, signal: Some("SIGKILL".into()) }));
    }
}
