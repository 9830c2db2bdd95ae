//! Forks whose child can raise errors.
//!
//! LuaJIT raises errors by the C compiler's unwinder, and tells it of each piece of memory that it compiles to. The
//! unwinder keeps what it was told behind a lock of its own, which no fork waits for and no child frees: where another
//! thread holds it at that moment, the child's first error, or its first compiled loop, would wait for ever. Nobody can
//! ask whether it is held. So the child tries, before anybody sees it, and says so in a word that it shares with its
//! parent; one that is still at it after a while is ended, and the parent forks again.
//!
//! Imports its siblings `clock`, `critical`, `futex` and `process`.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::clock::monotonic_ns;
use super::critical::has_company;
use super::futex::{FutexWait, Scope, futex_wait, futex_wake};
use super::process::{fork, kill};
use crate::err;
use crate::error::{Error, Result};

/// What the word says of the child: nothing yet; it is trying; it can.
const UNBORN: u32 = 0;
const TRYING: u32 = 1;
const WELL: u32 = 2;

/// How long a child tries at least before it is given up. It takes a microsecond where the lock is free.
const TRIAL: Duration = Duration::from_millis(5);
/// How long all of it takes at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// As [`fork`], for programs whose threads use the unwinder.
pub fn fork_with_unwinder() -> Result<i32> {
    if !has_company() {
        return fork();
    }
    fork_tried(&use_unwinder)
}

/// Forks until a child comes to the end of `trial`.
fn fork_tried(trial: &dyn Fn()) -> Result<i32> {
    let give_up = monotonic_ns() + PATIENCE.as_nanos() as u64;
    loop {
        let word = SharedWord::new()?;
        let pid = fork()?;
        if pid == 0 {
            word.get().store(TRYING, Ordering::SeqCst);
            trial();
            word.get().store(WELL, Ordering::SeqCst);
            futex_wake(word.get(), 1, Scope::Shared);
            return Ok(0);
        }
        if is_well(pid, word.get(), give_up) {
            return Ok(pid);
        }
        kill(pid, libc::SIGKILL)?;
        // SAFETY: a child of ours; where it cannot be waited for, somebody else has.
        while unsafe { libc::waitpid(pid, ptr::null_mut(), 0) } < 0
            && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
        {}
        if monotonic_ns() > give_up {
            return Err(err!(
                Timeout,
                "no child came up in {} s: the machine is too busy, or other threads of this program raise errors or \
                 compile all the time; nothing was forked",
                PATIENCE.as_secs()
            ));
        }
    }
}

/// Whether child `pid` comes to the end of its trial; also where it ended before, which is for its parent to see.
fn is_well(pid: i32, word: &AtomicU32, give_up: u64) -> bool {
    let mut before = UNBORN;
    loop {
        match word.load(Ordering::SeqCst) {
            WELL => return true,
            // Twice: it had all the time in between.
            TRYING if before == TRYING => return false,
            UNBORN if monotonic_ns() > give_up => return false,
            now => {
                if matches!(futex_wait(word, now, Some(TRIAL), Scope::Shared), FutexWait::TimedOut) {
                    before = now;
                    if has_ended(pid) {
                        return true;
                    }
                }
            }
        }
    }
}

/// Whether child `pid` has ended; its end can still be waited for.
fn has_ended(pid: i32) -> bool {
    // SAFETY: zeroes are a siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid to write to.
    let got = unsafe { libc::waitid(libc::P_PID, pid as libc::id_t, &mut info, options) };
    // SAFETY: waitid has filled it, or left the zeroes.
    got != 0 || unsafe { info.si_pid() } == pid
}

/// A word that a process and the child that it forks both see.
struct SharedWord(NonNull<AtomicU32>);

impl SharedWord {
    fn new() -> Result<SharedWord> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, of zeroes.
        let at = unsafe { libc::mmap(ptr::null_mut(), size_of::<AtomicU32>(), access, flags, -1, 0) };
        match NonNull::new(at) {
            Some(at) if at.as_ptr() != libc::MAP_FAILED => Ok(SharedWord(at.cast())),
            _ => Err(Error::os("", "mmap")),
        }
    }

    fn get(&self) -> &AtomicU32 {
        // SAFETY: mapped until this is dropped, aligned to a page, and only touched as this type.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for SharedWord {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nobody in this process has it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<AtomicU32>()) };
    }
}

/// Goes once through what the unwinder locks: finds a function, takes one more on its list, and takes it off again.
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
fn use_unwinder() {
    use std::ffi::c_void;

    unsafe extern "C" {
        fn _Unwind_Find_FDE(code: *const c_void, bases: *mut [usize; 3]) -> *const c_void;
        fn __register_frame_info(table: *const c_void, object: *mut c_void);
        fn __deregister_frame_info(table: *const c_void) -> *mut c_void;
    }

    /// The table of one function, as a compiler writes it to `.eh_frame` (Linux Standard Base, "Exception Frames").
    #[repr(C)]
    struct Table {
        // What its functions have in common: length, mark, version 1, no augmentation, units of code and data, and the
        // register of the return address, filled up.
        common: [u32; 2],
        more: [u8; 8],
        // The function: length, how far back `common` is, its code and how long that is.
        length: u32,
        back: u32,
        code: usize,
        size: usize,
        end: u32,
    }
    /// What the unwinder remembers of a table while it knows it; it needs seven words.
    #[repr(C, align(16))]
    struct Object([usize; 16]);

    let mut bases = [0; 3];
    let mut object = Object([0; 16]);
    let mut table = Table {
        common: [12, 0],
        more: [1, 0, 1, 0x78, 16, 0, 0, 0],
        length: 20,
        back: 20,
        code: 0,
        size: size_of::<Object>(),
        end: 0,
    };
    // No code lies there, so nobody looks for it.
    table.code = ptr::from_ref(&object).addr();
    let table: *const c_void = ptr::from_ref(&table).cast();
    // SAFETY: `bases` and `object` have room for what is written there, the table is one, and both outlive the two
    // calls that they lie between.
    unsafe {
        _Unwind_Find_FDE(fork_tried as *const c_void, &mut bases);
        __register_frame_info(table, ptr::from_mut(&mut object).cast());
        __deregister_frame_info(table);
    }
}

/// Here no such lock is known.
#[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64")))]
fn use_unwinder() {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::reap;

    fn exit_code(pid: i32) -> i32 {
        loop {
            if let Some(exit) = reap(pid).unwrap() {
                return exit.code;
            }
            std::thread::yield_now();
        }
    }

    /// Leaves a child without the test harness.
    fn leave(code: i32) -> ! {
        // SAFETY: ends the process.
        unsafe { libc::_exit(code) }
    }

    #[test]
    fn a_child_that_cannot_is_replaced() {
        let tries = SharedWord::new().unwrap();
        let pid = fork_tried(&|| {
            if tries.get().fetch_add(1, Ordering::SeqCst) < 3 {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        })
        .unwrap();
        if pid == 0 {
            leave(7);
        }
        assert_eq!(exit_code(pid), 7);
        assert_eq!(tries.get().load(Ordering::SeqCst), 4);
    }

    #[test]
    fn a_child_that_ends_in_its_trial_is_its_parents_to_see() {
        let pid = fork_tried(&|| leave(9)).unwrap();
        assert_eq!(exit_code(pid), 9);
    }

    #[test]
    fn the_unwinder_is_as_it_was_after_it_was_used() {
        for _ in 0..1000 {
            use_unwinder();
        }
        let caught = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(5)));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&5));
    }

    #[test]
    fn a_child_of_threads_that_unwind_can_unwind() {
        let stop = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while stop.load(Ordering::Relaxed) == 0 {
                        use_unwinder();
                    }
                });
            }
            for _ in 0..50 {
                let pid = fork_tried(&use_unwinder).unwrap();
                if pid == 0 {
                    use_unwinder();
                    leave(3);
                }
                assert_eq!(exit_code(pid), 3);
            }
            stop.store(1, Ordering::Relaxed);
        });
    }
}
