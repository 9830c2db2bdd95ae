//! Writing to a child's stdin, and closing it. Imports its parent.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use super::Process;
use crate::err;
use crate::error::{Error, Result};
use crate::sys::write_some;
use crate::wait::{Interest, Wait, Watch};

impl Process {
    /// Writes all of `bytes` to stdin, in order with what others write. When time runs out after a part was taken, that
    /// part is written: the error says how much.
    pub fn write(&self, bytes: &[u8], wait: &Wait) -> Result<()> {
        self.check()?;
        let written = self.write_in_turn(bytes, wait);
        // The turn was given back with a fence, as every notification has one.
        self.close_if_told();
        written
    }

    fn write_in_turn(&self, bytes: &[u8], wait: &Wait) -> Result<()> {
        wait.check()?;
        let pid = self.pid;
        if !self.piped_stdin {
            return Err(err!(State, "stdin of process {pid} is not a pipe: start it with stdin = 'pipe'"));
        }
        let Some(mut stdin) = self.stdin.lock(wait)? else {
            return Err(err!(Timeout, "another thread wrote to process {pid} for all that time; nothing was written"));
        };
        let mut done = 0;
        loop {
            let Some(fd) = stdin.as_ref() else {
                return Err(err!(Closed, "stdin of process {pid} is closed"));
            };
            let fd = fd.check()?;
            match write_some(fd, &bytes[done..]) {
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    if wait.deadline.expired() {
                        let all = bytes.len();
                        return Err(err!(
                            Timeout,
                            "process {pid} took {done} of {all} bytes in time; the rest was not written"
                        ));
                    }
                    self.sleep(Watch::new(fd, Interest::Write), &[0, 1], wait)?;
                }
                Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                    *stdin = None;
                    return Err(err!(Closed, "process {pid} has ended, or closed its stdin"));
                }
                Err(e) => return Err(Error::io("", "write", &e)),
            }
            if done == bytes.len() {
                return Ok(());
            }
            wait.check()?;
        }
    }

    /// Closes stdin: the child reads its end. Closed, or no pipe at all, it stays as it is.
    pub fn close_stdin(&self, wait: &Wait) -> Result<()> {
        self.check()?;
        match self.stdin.lock(wait)? {
            Some(mut stdin) => *stdin = None,
            None => return Err(err!(Timeout, "another thread wrote to process {} for all that time", self.pid)),
        }
        Ok(())
    }

    /// Nothing, or who writes does it, unless nobody writes now.
    pub(super) fn close_if_told(&self) {
        if self.closes.load(Ordering::SeqCst)
            && let Some(mut stdin) = self.stdin.try_lock()
        {
            *stdin = None;
        }
    }
}
