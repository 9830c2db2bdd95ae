//! Clocks, cores and thread numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds of a clock that never jumps; its zero means nothing.
pub fn monotonic_ns() -> u64 {
    nanoseconds(libc::CLOCK_MONOTONIC)
}

fn nanoseconds(clock: libc::clockid_t) -> u64 {
    as_ns(read(clock))
}

fn as_ns(time: libc::timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// For how many nanoseconds the calling thread has computed so far.
pub fn own_cpu_ns() -> u64 {
    nanoseconds(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// For how many nanoseconds thread `tid` of this process (see [`gettid`]) has computed so far; `None` once it has
/// ended, and where the system does not say.
pub fn thread_cpu_ns(tid: u64) -> Option<u64> {
    // MAKE_THREAD_CPUCLOCK(tid, CPUCLOCK_SCHED) of the kernel: what pthread_getcpuclockid makes of a pthread_t.
    #[cfg(target_os = "linux")]
    {
        let clock = (!(tid as libc::clockid_t) << 3) | 6;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid timespec to write to; a number that names no thread is an error.
        (tid != 0 && unsafe { libc::clock_gettime(clock, &mut time) } == 0).then(|| as_ns(time))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = tid;
        None
    }
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to; the clocks that are asked for here exist.
    unsafe { libc::clock_gettime(clock, &mut now) };
    now
}

/// How many cores this process may use at once: its affinity and its cgroup's quota (v1 and v2) counted; at least 1.
pub fn cpus() -> usize {
    // The standard library reads sched_getaffinity and the cgroup files on Linux.
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Whether a thread that spins leaves a core to the thread it waits for. Found out once a second at most, by the thread
/// that asks then: affinities and quotas change, but reading the cgroup files each time would cost more than spinning
/// wins.
pub fn spare_core() -> bool {
    /// The second of the last look, and the number of cores that it found; 0 before the first.
    static SEEN: AtomicU64 = AtomicU64::new(0);
    let now = coarse_seconds();
    let seen = SEEN.load(Ordering::Relaxed);
    let cores = seen as u32;
    if cores != 0 && (seen >> 32) as u32 == now {
        return cores > 1;
    }
    // One thread looks; the others go on with what is known.
    let known = u64::from(now) << 32 | u64::from(cores);
    if cores != 0 && SEEN.compare_exchange(seen, known, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return cores > 1;
    }
    let cores = u32::try_from(cpus()).unwrap_or(u32::MAX);
    SEEN.store(u64::from(now) << 32 | u64::from(cores), Ordering::Relaxed);
    cores > 1
}

/// Seconds, by a clock that costs a few nanoseconds to read.
fn coarse_seconds() -> u32 {
    #[cfg(target_os = "linux")]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC_COARSE;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    read(CLOCK).tv_sec as u32
}

/// The number that the operating system gives the calling thread.
pub fn gettid() -> u64 {
    #[cfg(target_os = "linux")]
    // SAFETY: takes nothing, cannot fail.
    let id = unsafe { libc::gettid() } as u64;
    #[cfg(not(target_os = "linux"))]
    // SAFETY: as above; the handle of a thread is unique while it lives.
    let id = unsafe { libc::pthread_self() } as u64;
    id
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_clock_goes_forward() {
        let a = monotonic_ns();
        assert!(monotonic_ns() >= a);
    }

    #[test]
    fn there_is_a_core_and_a_thread() {
        assert!(cpus() >= 1);
        assert_ne!(gettid(), 0);
        let here = gettid();
        std::thread::scope(|s| {
            s.spawn(move || assert_ne!(gettid(), here));
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_have_clocks_of_their_own() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::spawn(move || {
            tell.send(gettid()).unwrap();
            let _ = ended.recv();
        });
        let asleep = told.recv().unwrap();
        let before = thread_cpu_ns(gettid()).unwrap();
        while thread_cpu_ns(gettid()).unwrap() < before + 5_000_000 {}
        assert!(thread_cpu_ns(asleep).unwrap() < 5_000_000);
        drop(end);
        sleeper.join().unwrap();
        assert_eq!(thread_cpu_ns(0), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_loses_its_cores_soon_knows() {
        let before = spare_core();
        assert_eq!(before, cpus() > 1);
        let code = crate::sys::fork_for_tests(|| {
            // SAFETY: the set is a valid place; the affinity is that of this child.
            unsafe {
                let mut one: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(libc::sched_getcpu() as usize, &mut one);
                libc::sched_setaffinity(0, size_of_val(&one), &one);
            }
            let start = monotonic_ns();
            while spare_core() && monotonic_ns() - start < 60_000_000_000 {
                std::thread::yield_now();
            }
            !spare_core()
        });
        assert_eq!(code, 0);
    }
}
