//! Clocks, cores and thread numbers.

use std::sync::atomic::{AtomicU32, Ordering};

/// Nanoseconds of a clock that never jumps; its zero means nothing.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to; CLOCK_MONOTONIC exists everywhere.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How many cores this process may use at once: its affinity and its cgroup's quota (v1 and v2) counted; at least 1.
pub fn cpus() -> usize {
    // The standard library reads sched_getaffinity and the cgroup files on Linux.
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Whether a thread that spins leaves a core to the thread it waits for. Asked once a process: spinning is a bet, and
/// reading the cgroup files each time would cost more than it wins.
pub fn spare_core() -> bool {
    static CORES: AtomicU32 = AtomicU32::new(0);
    let cores = match CORES.load(Ordering::Relaxed) {
        0 => {
            let n = u32::try_from(cpus()).unwrap_or(u32::MAX);
            CORES.store(n, Ordering::Relaxed);
            n
        }
        n => n,
    };
    cores > 1
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
}
