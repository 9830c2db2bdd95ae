//! Knowing the process: a generation that changes in the child of every fork, and hooks around it.
//!
//! `ipc.fork`, `io.popen` and other libraries all go through `fork(3)`, so a `pthread_atfork` handler sees them. What
//! runs in the child handler may only touch atomics and make plain system calls.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// What a part of the library does around a fork. `prepare` runs before it, newest hook first; the others after it,
/// oldest first: `parent` in the parent, `child` in the child, with the new generation already in force.
#[derive(Debug)]
pub struct ForkHook {
    /// In the parent, before the fork.
    pub prepare: fn(),
    /// In the parent, after it.
    pub parent: fn(),
    /// In the child. Only atomics and plain system calls: no locks, no memory allocation.
    pub child: fn(),
}

/// 0: the handlers are not installed yet.
static GENERATION: AtomicU32 = AtomicU32::new(0);

const HOOKS: usize = 16;
static TABLE: [AtomicPtr<ForkHook>; HOOKS] = [const { AtomicPtr::new(ptr::null_mut()) }; HOOKS];

/// A number that differs between a process and the children it forked: what was made under another one belongs to
/// another process.
pub fn fork_generation() -> u32 {
    match GENERATION.load(Ordering::Relaxed) {
        0 => install(),
        n => n,
    }
}

/// Runs `hook` around every fork from now on. The same hook given twice runs once.
pub fn at_fork(hook: &'static ForkHook) {
    fork_generation();
    let new = ptr::from_ref(hook).cast_mut();
    for slot in &TABLE {
        match slot.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return,
            Err(there) if there == new => return,
            Err(_) => {}
        }
    }
    debug_assert!(false, "more fork hooks than the table has room for");
}

#[cold]
fn install() -> u32 {
    if GENERATION.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        // SAFETY: the three handlers are `extern "C"` functions of this library, which is never unloaded (-z nodelete).
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    }
    GENERATION.load(Ordering::Relaxed)
}

fn hook(slot: &AtomicPtr<ForkHook>) -> Option<&'static ForkHook> {
    // SAFETY: a slot holds null or a pointer made from a `&'static ForkHook` in `at_fork`.
    unsafe { slot.load(Ordering::Acquire).as_ref() }
}

extern "C" fn prepare() {
    TABLE.iter().rev().filter_map(hook).for_each(|h| (h.prepare)());
}

extern "C" fn parent() {
    TABLE.iter().filter_map(hook).for_each(|h| (h.parent)());
}

extern "C" fn child() {
    // Never back to 0, which means "not installed".
    let next = GENERATION.load(Ordering::Relaxed).wrapping_add(1).max(1);
    GENERATION.store(next, Ordering::Relaxed);
    TABLE.iter().filter_map(hook).for_each(|h| (h.child)());
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Runs `f` in a forked child and returns its exit code: 0 where `f` returned true.
    pub fn in_child(f: impl FnOnce() -> bool) -> i32 {
        // SAFETY: the child runs `f` and leaves by `_exit`, never through the test harness.
        unsafe {
            match libc::fork() {
                0 => {
                    let ok = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(false);
                    libc::_exit(i32::from(!ok))
                }
                pid => {
                    assert!(pid > 0);
                    let mut status = 0;
                    while libc::waitpid(pid, &mut status, 0) < 0 {}
                    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 }
                }
            }
        }
    }

    #[test]
    fn a_child_has_another_generation() {
        let here = fork_generation();
        assert_eq!(in_child(|| fork_generation() != here), 0);
        assert_eq!(fork_generation(), here);
    }
}
