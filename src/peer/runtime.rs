//! The background thread: one for the process, started at first need, on which tokio drives what must go on while Lua
//! computes. A forked child forgets its parent's and starts its own.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use tokio::runtime::{Builder, Handle};

use crate::error::{Error, Result};
use crate::sys::{fork_generation, spawn_quiet};
use crate::wait::show_background_thread;

struct Running {
    generation: u32,
    handle: Handle,
}

static RUNNING: AtomicPtr<Running> = AtomicPtr::new(ptr::null_mut());

/// A handle of the running thread.
pub(super) fn handle() -> Result<Handle> {
    loop {
        let there = RUNNING.load(Ordering::Acquire);
        // SAFETY: null, or a box that was leaked below.
        if let Some(running) = unsafe { there.as_ref() }
            && running.generation == fork_generation()
        {
            return Ok(running.handle.clone());
        }
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|e| Error::io("", "starting the background thread", &e))?;
        let running = Running { generation: fork_generation(), handle: runtime.handle().clone() };
        let new = Box::into_raw(Box::new(running));
        // What was there belongs to the parent of a fork: its destructor would reach into the parent's sockets, so it is
        // leaked, as the one that runs is.
        match RUNNING.compare_exchange(there, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                let started = spawn_quiet("ipc-background", move || {
                    show_background_thread();
                    runtime.block_on(std::future::pending())
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
