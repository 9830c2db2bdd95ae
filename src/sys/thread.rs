//! Threads as the operating system sees them: how many more it can give, what their names may be, and the end of the
//! process.

use crate::error::{Error, Result};

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
pub fn thread_name(name: &str, number: usize) -> String {
    let tail = format!(" {number}");
    // A name ends at its first NUL.
    let name = name.split('\0').next().unwrap_or_default();
    let mut end = NAME_BYTES.saturating_sub(tail.len()).min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{tail}", &name[..end])
}

/// The name of the calling thread: the one it was started under, else what the system calls it.
pub fn this_thread_name() -> String {
    if let Some(name) = std::thread::current().name() {
        return name.into();
    }
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
pub fn spawn_quiet(name: &str, f: impl FnOnce() + Send + 'static) -> Result<()> {
    // A thread inherits the mask of the one that starts it.
    // SAFETY: both sets are valid places; masks are the calling thread's own.
    let old = unsafe {
        let (mut all, mut old): (libc::sigset_t, libc::sigset_t) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        old
    };
    // A size of its own, or the standard library looks for one in the environment, under a lock.
    let spawned = std::thread::Builder::new().name(name.to_owned()).stack_size(2 << 20).spawn(f);
    // SAFETY: `old` was filled in just above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &old, std::ptr::null_mut()) };
    spawned.map(drop).map_err(|e| Error::io("", "starting a thread", &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_and_a_number_is_not() {
        assert_eq!(thread_name("loader", 3), "loader 3");
        assert_eq!(thread_name("a very long name", 1000), "a very lon 1000");
        assert_eq!(thread_name("déjàvudéjàvu", 10), "déjàvudéj 10");
        assert_eq!(thread_name("a\0b", 1), "a 1");
        assert!(thread_name("x", usize::MAX).len() > NAME_BYTES);
    }

    #[test]
    fn there_is_room_for_a_few_and_not_for_all() {
        assert!(thread_room(1 << 16) > 8);
        assert_eq!(thread_room(usize::MAX), 0);
    }
}
