//! Another program that this one has started: its pipes, its signals and its end.
//!
//! A call that waits for one thing of it, be it room in stdin, a line of stdout or its end, empties the other pipes
//! meanwhile, so that the child never stands still because nobody reads what it writes.
//!
//! ```ignore
//! let child = Process::start(Command { file: c"sort".into(), ..Command::default() })?;
//! child.write(b"b\na\n", &wait)?;
//! child.close_stdin(&wait)?;
//! child.read(Pipe::Stdout, Amount::All, &mut out, &wait)?;
//! child.wait(&wait)?;
//! ```

mod command;
mod input;
mod life;
mod output;
mod reaper;

use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use smallvec::SmallVec;

pub use command::{Command, Environment, Stdio};
pub use output::{Amount, KEPT};

use crate::err;
use crate::error::{Error, Lossy, Result, words};
use crate::sys::{Event, Exit, Fd, Lock, Polled, fork_generation, kill, pidfd, poll};
use crate::text;
use crate::wait::{Deadline, Interest, LONGEST_NAP, TimedMutex, Wait, Watch, sleep_on_many};
use crate::wire::Object;
use life::Life;
use output::{Found, Output};

/// How many more reads an output gets once time is over, or its process: enough for all that a pipe can hold, and an
/// end for those that are filled again and again.
const LEFT: usize = 20;

/// How often the end of a child is looked for where the system has nothing that tells of it, in seconds.
const LOOK: f64 = 0.005;

/// What a child counts for where garbage is measured, in bytes: its pipes lie in the system's memory, and descriptors
/// are scarce.
const WEIGHT: usize = 256 << 10;

/// Which output of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipe {
    /// What it writes to standard output.
    Stdout,
    /// What it writes to standard error.
    Stderr,
}

impl Pipe {
    fn name(self) -> &'static str {
        match self {
            Pipe::Stdout => "stdout",
            Pipe::Stderr => "stderr",
        }
    }
}

/// A child. Dropped while it runs, it gets a SIGTERM, and its end is heard of.
pub struct Process {
    pid: i32,
    generation: u32,
    file: String,
    group: bool,
    piped_stdin: bool,
    /// Taken by the call that writes.
    stdin: TimedMutex<Option<Fd>>,
    /// Somebody waits for the end: who writes closes stdin when it is done.
    closes: AtomicBool,
    /// Each taken by the call that reads it; one that waits for something else leaves it alone then.
    outputs: [TimedMutex<Output>; 2],
    life: Lock<Life>,
}

impl Process {
    /// Starts a program.
    pub fn start(command: Command) -> Result<Process> {
        let started = command.start()?;
        Ok(Process {
            pid: started.pid,
            generation: fork_generation(),
            file: words(format_args!("{}", Lossy(command.file.as_bytes()))).into_owned(),
            group: command.group,
            piped_stdin: started.stdin.is_some(),
            stdin: TimedMutex::new(started.stdin),
            closes: AtomicBool::new(false),
            outputs: [started.stdout, started.stderr].map(|fd| TimedMutex::new(Output::new(fd, command.keep))),
            life: Lock::default(),
        })
    }

    /// Its process id; once its end is known, perhaps another one's.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// `[state]` in the child of a fork: this is its parent's child.
    fn check(&self) -> Result<()> {
        if self.generation == fork_generation() {
            return Ok(());
        }
        let pid = self.pid;
        Err(err!(State, "process {pid} was started before the fork and belongs to the parent process; start one here"))
    }

    /// Whether it runs.
    pub fn running(&self) -> Result<bool> {
        self.check()?;
        Ok(!self.life.lock().look(self.pid))
    }

    /// Sends `signal` to it, or to its group if it leads one; false when it has ended already.
    pub fn kill(&self, signal: i32) -> Result<bool> {
        self.check()?;
        let mut life = self.life.lock();
        // Its id is its own as long as its end was not asked for, which happens under this lock.
        if life.look(self.pid) || !kill(if self.group { -self.pid } else { self.pid }, signal)? {
            return Ok(false);
        }
        life.signalled(signal);
        Ok(true)
    }

    /// Its end, as its starter counts it: killed by a signal that was sent through [`Process::kill`] is code 0. `None`
    /// while it runs.
    pub fn exit(&self) -> Result<Option<Exit>> {
        self.check()?;
        let mut life = self.life.lock();
        life.look(self.pid);
        if life.lost {
            let pid = self.pid;
            return Err(err!(
                State,
                "the end of process {pid} was told to somebody else (waitpid, or SIGCHLD is ignored)"
            ));
        }
        Ok(life.told())
    }

    /// Waits for its end with stdin closed and its outputs emptied; `None` when time runs out. What it wrote can be
    /// read afterwards, if it was not more than is kept. May be asked again and again.
    pub fn wait(&self, wait: &Wait) -> Result<Option<Exit>> {
        self.check()?;
        wait.check()?;
        self.closes.store(true, Ordering::SeqCst);
        // Either this thread finds that nobody writes, or who does finds that it is to close.
        fence(Ordering::SeqCst);
        self.close_if_told();
        loop {
            if let Some(exit) = self.exit()? {
                self.empty()?;
                return Ok(Some(exit));
            }
            if wait.deadline.expired() {
                return Ok(None);
            }
            match self.end_watch() {
                Some(fd) => {
                    keep_open(&fd, wait);
                    self.sleep(Watch::new(fd.check()?, Interest::Read), &[0, 1], wait)?;
                }
                // Nothing tells of the end: old kernels, or no descriptors left.
                None => {
                    let soon = wait.sooner(Deadline::after(LOOK));
                    self.sleep(Watch::new(-1, Interest::Read), &[0, 1], &soon)?;
                }
            }
        }
    }

    /// What polls readable once it has ended; `None` where that is not to be had.
    fn end_watch(&self) -> Option<Arc<Fd>> {
        let mut life = self.life.lock();
        if life.fd.is_none() && life.exit.is_none() && !life.lost {
            drop(life);
            // Made without the lock, which a fork wants: it may wait for one.
            let fd = pidfd(self.pid).map(Arc::new);
            life = self.life.lock();
            // Had another heard of the end meanwhile, the number could be a stranger's by now.
            if life.exit.is_none() && !life.lost {
                life.fd = life.fd.take().or(fd);
            }
        }
        life.fd.clone()
    }

    /// After the end: what lies in the pipes. Others may still hold them, so nobody waits for their end.
    fn empty(&self) -> Result<()> {
        for output in &self.outputs {
            let mut reads = LEFT;
            while let Some(mut output) = output.try_lock()
                && let Some(fd) = output.fd()
                && reads > 0
                && is_ready(fd.check()?)?
            {
                reads -= 1;
                output.fill()?;
            }
        }
        Ok(())
    }

    /// Sleeps until `watch` is ready, which it returns, the time is over, or there is a reason to look again; empties
    /// `others` meanwhile, of which as much is kept as they were told.
    fn sleep(&self, watch: Watch, others: &[usize], wait: &Wait) -> Result<bool> {
        let mut watches = SmallVec::<[Watch; 3]>::from_slice(&[watch]);
        let mut held = SmallVec::<[(usize, Arc<Fd>); 2]>::new();
        let mut wait = *wait;
        for &which in others {
            // One that somebody reads is left to that one, who may stop reading.
            let Some(output) = self.outputs[which].try_lock() else {
                wait = wait.sooner(Deadline::after(LONGEST_NAP.as_secs_f64()));
                continue;
            };
            if let Some(fd) = output.fd() {
                watches.push(Watch::new(fd.check()?, Interest::Read));
                keep_open(fd, &wait);
                held.push((which, fd.clone()));
            }
        }
        sleep_on_many(&mut watches, &wait)?;
        for ((which, _), watch) in held.iter().zip(&watches[1..]) {
            if watch.ready
                && let Some(mut output) = self.outputs[*which].try_lock()
                // Another may have read it just now.
                && let Some(fd) = output.fd()
                && is_ready(fd.check()?)?
            {
                output.fill()?;
            }
        }
        Ok(watches[0].ready)
    }

    /// Reads `amount` of an output into `into`, which is empty; false at the end. What has come when time runs out
    /// stays for the next read.
    pub fn read(&self, pipe: Pipe, amount: Amount, into: &mut Vec<u8>, wait: &Wait) -> Result<bool> {
        self.check()?;
        let name = pipe.name();
        let late = |which: &str| err!(Timeout, "process {} did not write {which} to {name} in time", self.pid);
        let Some(mut output) = self.outputs[pipe as usize].lock(wait)? else { return Err(late("what another reads")) };
        if !output.piped() {
            return Err(self.no_pipe(pipe));
        }
        let (mut ready, mut reads) = (false, LEFT);
        loop {
            wait.check()?;
            let named = |e: Error| Error::new(e.code(), "", text!("{name}: {}", e.what()));
            match output.take(amount, into, ready).map_err(named)? {
                Found::Read => return Ok(true),
                Found::End => return Ok(false),
                Found::NotYet => {}
            }
            let Some(pipe_end) = output.fd() else { continue };
            let fd = pipe_end.check()?;
            keep_open(pipe_end, wait);
            if !wait.deadline.expired() {
                ready = self.sleep(Watch::new(fd, Interest::Read), &[1 - pipe as usize], wait)?;
                continue;
            }
            ready = is_ready(fd)?;
            reads -= 1;
            if !ready || reads == 0 {
                return Err(match amount {
                    Amount::Line { .. } => late("a line"),
                    Amount::All => late("its last"),
                    Amount::UpTo(_) => late("anything"),
                });
            }
        }
    }

    /// Takes back what [`Process::read`] gave, and that there is no memory for now: it is the next to be read.
    pub fn put_back(&self, pipe: Pipe, bytes: Vec<u8>) {
        if let Some(mut output) = self.outputs[pipe as usize].try_lock() {
            output.put_back(bytes);
        }
    }

    fn no_pipe(&self, pipe: Pipe) -> Error {
        let name = pipe.name();
        err!(State, "{name} of process {} is not a pipe: start it with {name} = 'pipe'", self.pid)
    }

    /// The descriptor of an output, `None` after its end.
    pub fn output_fd(&self, pipe: Pipe, wait: &Wait) -> Result<Option<RawFd>> {
        self.check()?;
        match self.outputs[pipe as usize].lock(wait)? {
            Some(output) if !output.piped() => Err(self.no_pipe(pipe)),
            Some(output) => output.fd().map(|fd| fd.check()).transpose(),
            None => Err(err!(Timeout, "another thread read from process {} for all that time", self.pid)),
        }
    }

    /// Whether a read of an output would find something, or its end, at once, without asking the system; false while
    /// somebody reads.
    pub fn has_output(&self, pipe: Pipe) -> bool {
        self.outputs[pipe as usize].try_lock().is_some_and(|output| output.readable())
    }

    /// A descriptor that polls readable once the process has ended. It lives as long as this.
    pub fn end_fd(&self) -> Result<RawFd> {
        self.check()?;
        self.life.lock().shown = true;
        if let Some(fd) = self.end_watch() {
            return fd.check();
        }
        if self.running()? {
            return Err(err!(Unsupported, "this system has nothing that tells of the end of process {}", self.pid));
        }
        let spare = Event::new()?;
        spare.set();
        let mut life = self.life.lock();
        life.event.get_or_insert(spare).fd()
    }
}

/// For a call that is tried: `fd` stays open until the next try.
fn keep_open(fd: &Arc<Fd>, wait: &Wait) {
    if let Some(non_blocking) = wait.interrupt.non_blocking() {
        non_blocking.keep(fd.clone());
    }
}

/// Whether a read of `fd` would not wait.
fn is_ready(fd: RawFd) -> Result<bool> {
    let mut fds = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
    Ok(matches!(poll(&mut fds, Some(Duration::ZERO))?, Polled::Ready(_)))
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.check().is_err() {
            return;
        }
        let life = self.life.get_mut();
        if life.look(self.pid) {
            return;
        }
        let _ = kill(if self.group { -self.pid } else { self.pid }, libc::SIGTERM);
        reaper::adopt(self.pid, life.fd.take());
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("pid", &self.pid).field("file", &self.file).finish_non_exhaustive()
    }
}

impl fmt::Display for Process {
    /// `ipc.spawn: cat, process 123, running`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ipc.spawn: {}", self.state())
    }
}

impl Object for Process {
    fn class(&self) -> &'static str {
        "ipc.spawn"
    }

    fn state(&self) -> String {
        let state = if self.check().is_err() {
            "of the parent process".to_owned()
        } else {
            let mut life = self.life.lock();
            life.look(self.pid);
            life.state()
        };
        text!("{}, process {}, {state}", self.file, self.pid)
    }

    fn weight(&self) -> usize {
        let kept = |output: &TimedMutex<Output>| output.try_lock().map_or(0, |output| output.weight());
        WEIGHT + self.outputs.iter().map(kept).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
