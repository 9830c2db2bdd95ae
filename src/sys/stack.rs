//! The C stack of the calling thread: where it ends, how far down the caller is, and how it grows. Imports its sibling
//! `memory`; takes numbers of threads and processes from `clock` and `process`.

use std::cell::Cell;
use std::ops::Range;

use super::memory::has_address_space;
use super::{getpid, gettid};

/// The addresses of the calling thread's stack, guard page included; `None` where the system does not say. Asked once
/// for each thread.
///
/// The main thread's stack grows: its range is what the limit of the process (`ulimit -s`) lets it have.
pub fn stack_bounds() -> Option<Range<usize>> {
    thread_local! {
        /// An empty range before the first call.
        static BOUNDS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    }
    let (low, high) = BOUNDS.try_with(Cell::get).ok()?;
    if low < high {
        return Some(low..high);
    }
    let found = ask()?;
    let _ = BOUNDS.try_with(|bounds| bounds.set((found.start, found.end)));
    Some(found)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn ask() -> Option<Range<usize>> {
    // SAFETY: all zeros is a place for an attribute object; it is read after the call has filled it in, and destroyed.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &mut attributes) != 0 {
            return None;
        }
        let (mut low, mut size) = (std::ptr::null_mut(), 0);
        let status = libc::pthread_attr_getstack(&attributes, &mut low, &mut size);
        libc::pthread_attr_destroy(&mut attributes);
        let low = low as usize;
        (status == 0 && low != 0 && size != 0).then(|| low..low.saturating_add(size))
    }
}

#[cfg(target_vendor = "apple")]
fn ask() -> Option<Range<usize>> {
    // SAFETY: both calls take the calling thread's handle and cannot fail.
    let (high, size) = unsafe {
        let me = libc::pthread_self();
        (libc::pthread_get_stackaddr_np(me) as usize, libc::pthread_get_stacksize_np(me))
    };
    Some(high.checked_sub(size)?..high)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn ask() -> Option<Range<usize>> {
    None
}

/// Has the stack of the calling thread reach down to `lowest`, which lies in its bounds; false where there is no memory
/// for that.
///
/// The main thread's stack takes its room as it grows. Where everything else has taken the room by then, the system
/// ends the process, as it does at any place that cannot be written to: so it grows here, where that can be told
/// before.
pub fn reach_stack(lowest: usize) -> bool {
    let here = stack_pointer();
    if lowest >= here || gettid() != u64::from(getpid().unsigned_abs()) {
        return true;
    }
    let there_is_room = has_address_space(here - lowest);
    if there_is_room {
        go_down_to(lowest);
    }
    there_is_room
}

/// Calls itself until its frame lies there. Each frame is smaller than a page, so that each page is touched.
#[inline(never)]
fn go_down_to(lowest: usize) {
    let mut frame = [0u8; 2048];
    std::hint::black_box(&mut frame);
    if frame.as_ptr() as usize > lowest {
        go_down_to(lowest);
    }
    // So that it is no loop in one frame.
    std::hint::black_box(&mut frame);
}

/// An address in the frame of the caller.
#[inline(always)]
pub fn stack_pointer() -> usize {
    let here = 0u8;
    &raw const here as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_thread_is_on_its_own_stack() {
        let own = stack_bounds().unwrap();
        assert!(own.contains(&stack_pointer()));
        let others = std::thread::Builder::new().stack_size(1 << 20).spawn(|| {
            let bounds = stack_bounds().unwrap();
            assert!(bounds.contains(&stack_pointer()));
            assert_eq!(stack_bounds(), Some(bounds.clone()));
            bounds
        });
        let others = others.unwrap().join().unwrap();
        assert!(others.len() >= 1 << 20 && !others.contains(&stack_pointer()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_main_stack_grows_while_there_is_memory() {
        // In a child, whose only thread is its main thread, on a stack of a thread of ours: it reaches everywhere.
        let code = crate::sys::fork_for_tests(|| {
            let lowest = stack_pointer() - (100 << 10);
            let limit = |bytes| libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
            let grown = reach_stack(lowest);
            // SAFETY: the limit is a valid place; it is that of this child.
            unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit(1 << 20)) };
            let refused = !reach_stack(stack_pointer() - (64 << 10));
            // SAFETY: as above.
            unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit(libc::RLIM_INFINITY)) };
            grown && refused
        });
        assert_eq!(code, 0);
    }
}
