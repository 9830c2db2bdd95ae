//! The background thread: one for the process, started at first need, on which tokio drives what must go on while Lua
//! computes. A forked child forgets its parent's and starts its own; the descriptors of its parent's are closed there.

use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::err;
use crate::error::{Error, Result};
use crate::sys::{
    Event, Lock, epolls_that_watch, forget_fd, fork_generation, has_room_for_thread_locals, opening, spawn_quiet,
    track_fd,
};
use crate::wait::{Deadline, EventCount, Wait, show_background_thread};

struct Running {
    generation: u32,
    handle: Handle,
}

static RUNNING: AtomicPtr<Running> = AtomicPtr::new(ptr::null_mut());

/// A handle of the running thread.
pub(super) fn handle() -> Result<Handle> {
    // What is spawned from here takes a little memory that is not ours.
    if !has_room_for_thread_locals() {
        return Err(Error::no_memory());
    }
    loop {
        let there = RUNNING.load(Ordering::Acquire);
        // SAFETY: null, or a box that was leaked by `run`.
        if let Some(running) = unsafe { there.as_ref() }
            && running.generation == fork_generation()
        {
            return Ok(running.handle.clone());
        }
        start(there.expose_provenance())?;
    }
}

/// What came of the start of the thread.
#[derive(Default)]
struct Start {
    outcome: Lock<Option<Result<()>>>,
    told: EventCount,
}

impl Start {
    /// The first that is told counts.
    fn tell(&self, outcome: Result<()>) {
        self.outcome.lock().get_or_insert(outcome);
        self.told.notify_all();
    }
}

/// Tells that the thread has ended, however it did: who waits for its start does not wait for ever.
struct TellEnd<'a>(&'a Start);

impl Drop for TellEnd<'_> {
    fn drop(&mut self) {
        self.0.tell(Err(err!(State, "the background thread ended before it began")));
    }
}

/// Starts the thread, in the place of the one at `there`: which belongs to the parent of a fork, or is none.
fn start(there: usize) -> Result<()> {
    let start = Arc::new(Start::default());
    let its = start.clone();
    spawn_quiet("ipc-background", move || run(there, &its))?;
    let outcome = start.told.wait_until(&Wait::until(Deadline::NEVER), || start.outcome.lock().take())?;
    outcome.unwrap_or(Ok(()))
}

/// The thread. Its runtime is made in it, since the standard library and tokio take memory for the thread that makes
/// one in ways that end the process where there is none: this one was just given some. It goes with the thread where
/// another's was there first.
fn run(there: usize, start: &Start) {
    let _end = TellEnd(start);
    crate::wait::prepare_thread();
    crate::wire::prepare_thread();
    let tracked = match Tracked::new() {
        Ok(tracked) => tracked,
        Err(e) => return start.tell(Err(e)),
    };
    let running = Running { generation: fork_generation(), handle: tracked.runtime.handle().clone() };
    let new = Box::into_raw(Box::new(running));
    // What was there belongs to the parent of a fork: its destructor would reach into the parent's sockets, so it is
    // leaked, as the one that runs is.
    let there = ptr::with_exposed_provenance_mut(there);
    let first = RUNNING.compare_exchange(there, new, Ordering::AcqRel, Ordering::Acquire).is_ok();
    if !first {
        // SAFETY: nobody has seen this one.
        drop(unsafe { Box::from_raw(new) });
        drop(tracked);
        return start.tell(Ok(()));
    }
    start.tell(Ok(()));
    show_background_thread();
    tracked.block()
}

/// A runtime whose descriptors stand in the table of those that a forked child closes.
struct Tracked {
    runtime: ManuallyDrop<Runtime>,
    fds: Vec<RawFd>,
}

impl Tracked {
    fn new() -> Result<Tracked> {
        let failed = |e| Error::io("", "starting the background thread", &e);
        opening(|| {
            let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(failed)?;
            let event = Event::new()?;
            let fds = descriptors(&runtime, event.fd()?).map_err(failed)?;
            fds.iter().for_each(|&fd| track_fd(fd));
            Ok(Tracked { runtime: ManuallyDrop::new(runtime), fds })
        })
    }

    /// Drives what is spawned, for ever.
    fn block(&self) -> ! {
        self.runtime.block_on(std::future::pending())
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        opening(|| {
            self.fds.iter().for_each(|&fd| forget_fd(fd));
            // SAFETY: it is not used any more.
            unsafe { ManuallyDrop::drop(&mut self.runtime) };
        });
    }
}

/// What tokio has opened for `runtime`, and tells nobody: its epoll instance, under each number that it has, and the
/// event that wakes it. They are known by `event`, which is put among what it watches meanwhile.
fn descriptors(runtime: &Runtime, event: RawFd) -> std::io::Result<Vec<RawFd>> {
    let _entered = runtime.enter();
    // SAFETY: the caller keeps the event open for longer than this.
    let _watched = unsafe { AsyncFd::register(event) }.map_err(std::io::Error::from)?;
    Ok(epolls_that_watch(event))
}
