//! Threads as the operating system sees them: how many more it can give, what their names may be, and the end of the
//! process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::critical::Critical;
use crate::err;
use crate::error::Result;

/// How many more threads this process can have before it harms itself, each taking about `footprint` bytes of memory.
///
/// A process that runs out of memory mappings cannot grow its heap either, and one that runs out of memory is killed;
/// other limits (of the user, of the system) are harmless: starting a thread fails.
pub fn thread_room(footprint: usize) -> usize {
    mappings_left().min(memory_left() / footprint.max(1))
}

/// Each thread's stack and its guard page take a mapping; allocators want some too.
#[cfg(target_os = "linux")]
fn mappings_left() -> usize {
    let Some(most) = number_in("/proc/sys/vm/max_map_count") else { return usize::MAX };
    let used = std::fs::read("/proc/self/maps").map_or(0, |maps| maps.iter().filter(|b| **b == b'\n').count());
    (most.saturating_sub(used)) / 10 * 4
}

/// What can still be used without swapping, in bytes: of the machine, and of the control group.
#[cfg(target_os = "linux")]
fn memory_left() -> usize {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().trim_end_matches("kB").trim().parse::<usize>().ok()?.checked_mul(1024)
    });
    let group = |most: &str, used: &str| Some(number_in(most)?.saturating_sub(number_in(used)?));
    let v2 = group("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current");
    let v1 = group("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes");
    [machine, v2, v1].into_iter().flatten().min().unwrap_or(usize::MAX)
}

#[cfg(target_os = "linux")]
fn number_in(path: &str) -> Option<usize> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(not(target_os = "linux"))]
fn mappings_left() -> usize {
    usize::MAX
}

#[cfg(not(target_os = "linux"))]
fn memory_left() -> usize {
    usize::MAX
}

/// How long a thread's name may be; Linux keeps 15 bytes.
const NAME_BYTES: usize = 15;

/// `name` and a number as the name of a thread: `loader 12`; a long name is cut, never the number.
pub fn thread_name(name: &[u8], number: usize) -> Vec<u8> {
    let tail = format!(" {number}");
    // A name ends at its first NUL.
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    let most = NAME_BYTES.saturating_sub(tail.len()).min(name.len());
    // A character of UTF-8 is not cut in two.
    let inside = |end: &usize| name.get(*end).is_some_and(|b| b & 0xc0 == 0x80);
    let end = (most.saturating_sub(3)..=most).rev().find(|end| !inside(end)).unwrap_or(most);
    [&name[..end], tail.as_bytes()].concat()
}

/// The name of the calling thread: what the system calls it.
pub fn this_thread_name() -> String {
    let mut name = [0u8; 64];
    // SAFETY: the handle is the calling thread's, and there is room for a name and its NUL.
    unsafe { libc::pthread_getname_np(libc::pthread_self(), name.as_mut_ptr().cast(), name.len()) };
    String::from_utf8_lossy(name.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

/// Lets thread `tid` (see [`gettid`](super::gettid)) run only when nothing else wants to.
#[cfg(target_os = "linux")]
pub fn demote_thread(tid: u64) {
    // SAFETY: all zeros is a valid sched_param.
    let param: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the call reads `param`; a thread that has ended meanwhile is an error, which changes nothing.
    unsafe { libc::sched_setscheduler(tid as libc::pid_t, libc::SCHED_IDLE, &param) };
}

/// Lets a thread run only when nothing else wants to: where that can be asked for.
#[cfg(not(target_os = "linux"))]
pub fn demote_thread(_tid: u64) {}

/// Runs `f` when the process ends by `exit` or by returning from `main`, before what was registered earlier.
pub fn at_exit(f: extern "C" fn()) {
    // SAFETY: a function of this library, which is never unloaded (-z nodelete).
    unsafe { libc::atexit(f) };
}

/// Ends the process, flushing what C's streams hold.
pub fn exit(code: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::exit(code) }
}

/// Runs `f` in a thread that takes no signals: they go to the threads of the program, where somebody waits for them.
/// `[limit]` where the system has no thread to give.
pub fn spawn_quiet(name: &str, f: impl FnOnce() + Send + 'static) -> Result<()> {
    // A thread inherits the mask of the one that starts it.
    // SAFETY: both sets are valid places; masks are the calling thread's own.
    let old = unsafe {
        let (mut all, mut old): (libc::sigset_t, libc::sigset_t) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        old
    };
    let spawned = start_thread(name.as_bytes(), STACK, f);
    // SAFETY: `old` was filled in just above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &old, std::ptr::null_mut()) };
    // EAGAIN stands for memory and for limits alike.
    spawned.map_err(|e| err!(Limit, "the system starts no more threads ({e})").shortage())
}

/// What is allocated before a thread is started, and freed by the thread first of all: room for the library's
/// thread-locals. The C library takes memory for them at the first use in a thread, which comes next, and ends the
/// process where it finds none. It takes it from its heap, or, if it has no arena for the thread, in pages from the
/// system: so there is one block of each kind.
const BALLAST: usize = 64 << 10;

struct Ballast {
    heap: *mut libc::c_void,
    pages: *mut libc::c_void,
}

impl Ballast {
    fn take() -> Option<Ballast> {
        // SAFETY: both ask for memory that is not used.
        let (heap, pages) = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            (libc::malloc(BALLAST), libc::mmap(std::ptr::null_mut(), BALLAST, libc::PROT_NONE, flags, -1, 0))
        };
        let ballast = Ballast { heap, pages };
        (!heap.is_null() && pages != libc::MAP_FAILED).then_some(ballast)
    }
}

/// Whether the C library finds memory now for a thread's first uses of thread-locals that have destructors, which end
/// the process where it finds none.
pub fn has_room_for_thread_locals() -> bool {
    Ballast::take().is_some()
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // SAFETY: as `take` got them; nothing else knows them.
        unsafe {
            libc::free(self.heap);
            if self.pages != libc::MAP_FAILED {
                libc::munmap(self.pages, BALLAST);
            }
        }
    }
}

/// Bytes of stack for a thread of the library's own.
const STACK: usize = 2 << 20;

/// Runs `f` in a thread of its own that nobody waits for, with `stack` bytes of stack. The standard library's way does
/// the same, but ends the process where there is no memory for what it keeps of a thread.
pub fn start_thread(name: &[u8], stack: usize, f: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    struct Start {
        /// See [`BALLAST`].
        ballast: Ballast,
        name: [u8; NAME_BYTES + 1],
        run: Box<dyn FnOnce() + Send>,
    }

    extern "C" fn main(start: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: what `start_thread` has handed over; nobody else has it any more.
        let Start { ballast, name, run } = unsafe { *Box::from_raw(start.cast::<Start>()) };
        drop(ballast);
        #[cfg(target_os = "linux")]
        // SAFETY: the name ends in a NUL.
        unsafe {
            libc::pthread_setname_np(libc::pthread_self(), name.as_ptr().cast());
        }
        // What panics has been told of by then, and ends this thread alone.
        let _ = catch_unwind(AssertUnwindSafe(run));
        std::ptr::null_mut()
    }

    let Some(ballast) = Ballast::take() else { return Err(std::io::ErrorKind::OutOfMemory.into()) };
    let mut start = Box::new(Start { ballast, name: [0; NAME_BYTES + 1], run: Box::new(f) });
    let length = name.len().min(NAME_BYTES);
    start.name[..length].copy_from_slice(&name[..length]);
    let start = Box::into_raw(start);
    // The system wants whole pages, and a few at least.
    let stack = stack.max(libc::PTHREAD_STACK_MIN).next_multiple_of(64 << 10);
    // SAFETY: the attributes are initialised before they are used and destroyed once; the thread gets what it expects,
    // and where there is none it is taken back.
    let code = unsafe {
        let mut attributes = std::mem::MaybeUninit::uninit();
        let mut code = libc::pthread_attr_init(attributes.as_mut_ptr());
        if code == 0 {
            let mut thread = std::mem::zeroed();
            libc::pthread_attr_setdetachstate(attributes.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
            code = libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack);
            if code == 0 {
                // glibc takes a stack that an ended thread has left and frees what belongs to it, one by one. The child
                // of a fork in the middle would find that stack, and free the same again when it starts a thread.
                let _no_fork = Critical::enter();
                code = libc::pthread_create(&mut thread, attributes.as_ptr(), main, start.cast());
            }
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
        }
        if code != 0 {
            drop(Box::from_raw(start));
        }
        code
    };
    if code == 0 { Ok(()) } else { Err(std::io::Error::from_raw_os_error(code)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_and_a_number_is_not() {
        assert_eq!(thread_name(b"loader", 3), b"loader 3");
        assert_eq!(thread_name(b"a very long name", 1000), b"a very lon 1000");
        assert_eq!(thread_name("déjàvudéjàvu".as_bytes(), 10), "déjàvudéj 10".as_bytes());
        assert_eq!(thread_name(b"a\0b", 1), b"a 1");
        assert_eq!(thread_name(b"\xff\xfe", 1), b"\xff\xfe 1");
        assert_eq!(thread_name(&[0x80; 20], 1), [&[0x80; 13][..], b" 1"].concat());
        assert!(thread_name(b"x", usize::MAX).len() > NAME_BYTES);
    }

    #[test]
    fn there_is_room_for_a_few_and_not_for_all() {
        assert!(thread_room(1 << 16) > 8);
        assert_eq!(thread_room(usize::MAX), 0);
    }
}
