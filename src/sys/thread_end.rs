//! What is to be done when a thread ends, no matter who started it.
//!
//! A thread-local with a destructor would do it, but for each of those the C library takes memory at the first use in a
//! thread, and ends the process where there is none. Here the library has one key of POSIX threads, and the list of
//! calls in a thread-local without a destructor.
//!
//! Imports no siblings.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// As many as there are such calls in the library.
const MOST: usize = 2;

type Calls = [Option<fn()>; MOST];

thread_local! {
    static CALLS: Cell<Calls> = const { Cell::new([None; MOST]) };
}

/// The key and one; 0 until it is made.
static KEY: AtomicU64 = AtomicU64::new(0);

/// Has `f` called at the end of this thread, once, however often it is asked for until then. False where the system has
/// no room for that.
pub fn at_thread_end(f: fn()) -> bool {
    let Some(key) = key() else { return false };
    CALLS.with(|calls| {
        let mut all = calls.get();
        if all.iter().flatten().any(|known| ptr::fn_addr_eq(*known, f)) {
            return true;
        }
        let Some(free) = all.iter_mut().find(|slot| slot.is_none()) else { return false };
        // Any value but null has `end` called.
        // SAFETY: the key is made, and the value is only compared.
        if unsafe { libc::pthread_setspecific(key, ptr::without_provenance(1)) } != 0 {
            return false;
        }
        *free = Some(f);
        calls.set(all);
        true
    })
}

/// The thread ends: the last that was asked for comes first. What is asked for during this has the system call it once
/// more.
extern "C" fn end(_: *mut c_void) {
    for f in CALLS.with(|calls| calls.replace([None; MOST])).into_iter().rev().flatten() {
        f();
    }
}

fn key() -> Option<libc::pthread_key_t> {
    let known = KEY.load(Ordering::Acquire);
    if known != 0 {
        return Some((known - 1) as libc::pthread_key_t);
    }
    let mut new = 0;
    // SAFETY: `new` has room for a key; `end` is a function of this library, which is never unloaded.
    if unsafe { libc::pthread_key_create(&mut new, Some(end)) } != 0 {
        return None;
    }
    match KEY.compare_exchange(0, u64::from(new) + 1, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(new),
        Err(there) => {
            // SAFETY: nobody has used it.
            unsafe { libc::pthread_key_delete(new) };
            Some((there - 1) as libc::pthread_key_t)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn a_call_comes_once_at_the_end_of_each_thread_that_asked() {
        static ENDED: AtomicU32 = AtomicU32::new(0);
        fn ended() {
            ENDED.fetch_add(1, Ordering::SeqCst);
        }
        std::thread::spawn(|| ()).join().unwrap();
        for n in 1..4 {
            std::thread::spawn(|| {
                assert!(at_thread_end(ended) && at_thread_end(ended));
            })
            .join()
            .unwrap();
            assert_eq!(ENDED.load(Ordering::SeqCst), n);
        }
    }

    #[test]
    fn what_is_asked_for_at_the_end_comes_too() {
        static ENDED: AtomicU32 = AtomicU32::new(0);
        fn again() {
            if ENDED.fetch_add(1, Ordering::SeqCst) == 0 {
                assert!(at_thread_end(again));
            }
        }
        std::thread::spawn(|| assert!(at_thread_end(again))).join().unwrap();
        assert_eq!(ENDED.load(Ordering::SeqCst), 2);
    }
}
