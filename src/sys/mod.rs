//! The operating system: descriptors, futex, poll, fork, processes, clocks. Nearly all `unsafe` lives here.
//!
//! What needs to know about `fork` (descriptors, critical sections) registers itself with [`fork`](at_fork) and imports
//! that file.

pub mod atomic;
mod clock;
mod critical;
mod env;
mod event;
mod fd;
mod flock;
mod folder;
mod fork;
mod fork_gate;
mod futex;
#[cfg(target_os = "linux")]
mod interrupt_thread;
mod load;
mod lock;
mod membarrier;
mod memory;
mod place;
mod poll;
mod private_folder;
mod process;
mod replacement;
mod rwlock;
mod set_once;
mod signals;
pub mod socket;
mod spawn;
mod spin;
mod stack;
mod stderr;
mod thread;
mod thread_end;
mod timer;
mod unwinder;
mod watch;
mod word_lock;

pub use clock::{cpus, gettid, monotonic_ns, own_cpu_ns, spare_core, thread_cpu_ns};
pub use critical::{Critical, Torn, is_torn};
pub use env::{env_var, environment};
pub use event::Event;
pub use fd::{Fd, close_later, closes_soon, forget_fd, is_open, opening, track_fd};
pub use flock::{FileLock, LockFile};
pub use folder::{FolderWatch, try_flock, user};
#[cfg(test)]
pub use fork::tests::in_child as fork_for_tests;
pub use fork::{ForkHook, at_fork, fork_generation};
pub use futex::{FutexWait, Scope, futex_wait, futex_wake};
#[cfg(target_os = "linux")]
pub use interrupt_thread::{Sigprof, ThreadHandle, ThreadInterrupts, sigprof};
pub use load::{Looking, pausing_pays, thread_computes};
pub use lock::{Guard, Lock};
pub use memory::{
    Allocator, LARGEST as LARGEST_RESERVED, SharedBlock, SharedBytes, Text, ask_for_huge_pages, check_memory,
    keep_freed_memory, leaves_room, memory_is_short, prepare_memory, settle_shortage, try_bytes, try_collect,
    try_extend, try_format, try_push, try_text, with_block,
};
pub use poll::{Polled, poll};
pub use private_folder::{PrivateFolder, home};
pub use process::{Exit, end_with, fork, getpid, getppid, kill, pidfd, reap, signal_name, signal_number};
pub use replacement::Replacement;
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use set_once::SetOnce;
pub use signals::SignalWatch;
pub use spawn::{Program, copy_fd, find_byte, pipe, read_some, set_nonblocking, spawn, write_some};
pub use spin::Spin;
pub use stack::{reach_stack, stack_bounds, stack_pointer};
pub use stderr::{notice, tell, tell_panics};
pub use thread::{
    at_exit, demote_thread, exit, has_room_for_thread_locals, spawn_quiet, start_thread, this_thread_name, thread_name,
    thread_room,
};
pub use thread_end::at_thread_end;
pub use timer::Alarm;
pub use unwinder::fork_with_unwinder;
pub use watch::{WatchSet, epolls_that_watch};
