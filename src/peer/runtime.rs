//! The background thread: one for the process, started at first need, on which tokio drives what must go on while Lua
//! computes. A forked child forgets its parent's and starts its own; the descriptors of its parent's are closed there.

use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{Error, Result};
use crate::sys::{
    Event, epolls_that_watch, forget_fd, fork_generation, has_room_for_thread_locals, opening, spawn_quiet, track_fd,
};
use crate::wait::show_background_thread;

struct Running {
    generation: u32,
    handle: Handle,
}

static RUNNING: AtomicPtr<Running> = AtomicPtr::new(ptr::null_mut());

/// A handle of the running thread.
pub(super) fn handle() -> Result<Handle> {
    // tokio has thread-locals in the threads that use it.
    if !has_room_for_thread_locals() {
        return Err(Error::no_memory());
    }
    loop {
        let there = RUNNING.load(Ordering::Acquire);
        // SAFETY: null, or a box that was leaked below.
        if let Some(running) = unsafe { there.as_ref() }
            && running.generation == fork_generation()
        {
            return Ok(running.handle.clone());
        }
        let tracked = Tracked::new()?;
        let running = Running { generation: fork_generation(), handle: tracked.runtime.handle().clone() };
        let new = Box::into_raw(Box::new(running));
        // What was there belongs to the parent of a fork: its destructor would reach into the parent's sockets, so it
        // is leaked, as the one that runs is.
        match RUNNING.compare_exchange(there, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                let started = spawn_quiet("ipc-background", move || {
                    crate::wait::prepare_thread();
                    crate::wire::prepare_thread();
                    show_background_thread();
                    tracked.block()
                });
                if let Err(e) = started {
                    // Nobody drives it: the next call tries again.
                    let _ = RUNNING.compare_exchange(new, ptr::null_mut(), Ordering::AcqRel, Ordering::Acquire);
                    return Err(e);
                }
            }
            // SAFETY: nobody has seen this one.
            Err(_) => drop(unsafe { Box::from_raw(new) }),
        }
    }
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
