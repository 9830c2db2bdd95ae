//! Sleeping on a word of memory.
//!
//! A signal is reported: std's own futex calls restart after one, and Ctrl-C would be lost. The system itself restarts
//! a sleep without a time-out after the handler of a signal, so only a thread that takes none sleeps so. It is a
//! seventh cheaper.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Why [`futex_wait`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FutexWait {
    /// Somebody woke us, or the kernel did for no reason.
    Woken,
    /// The word no longer had the expected value: we did not sleep.
    Changed,
    /// The time ran out.
    TimedOut,
    /// A signal arrived.
    Interrupted,
}

/// Who may sleep on the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Threads of this process.
    Private,
    /// Any process that has the memory mapped.
    Shared,
}

/// "For ever", to the kernel.
pub(super) const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Sleeps while `*word == expected`, until woken or for `timeout` (`None`: for ever, also through signals).
#[cfg(target_os = "linux")]
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>, scope: Scope) -> FutexWait {
    let time = timeout.map(|left| {
        let left = left.min(YEAR);
        libc::timespec { tv_sec: left.as_secs() as libc::time_t, tv_nsec: left.subsec_nanos().into() }
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let op = libc::FUTEX_WAIT | private(scope);
    // SAFETY: `word` and what `time` points to live through the call; FUTEX_WAIT only reads them.
    let rc = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op, expected, time, 0usize, 0) };
    if rc == 0 {
        return FutexWait::Woken;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => FutexWait::Changed,
        Some(libc::ETIMEDOUT) => FutexWait::TimedOut,
        Some(libc::EINTR) => FutexWait::Interrupted,
        // Nothing else can come from a valid word; the caller looks again.
        _ => FutexWait::Woken,
    }
}

/// Wakes up to `count` sleepers on `word`; returns how many there were.
#[cfg(target_os = "linux")]
pub fn futex_wake(word: &AtomicU32, count: u32, scope: Scope) -> u32 {
    let op = libc::FUTEX_WAKE | private(scope);
    let count = count.min(i32::MAX as u32);
    // SAFETY: FUTEX_WAKE does not touch the memory; the address is only a key.
    let rc = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op, count, 0usize, 0usize, 0) };
    u32::try_from(rc).unwrap_or(0)
}

#[cfg(target_os = "linux")]
fn private(scope: Scope) -> i32 {
    match scope {
        Scope::Private => libc::FUTEX_PRIVATE_FLAG,
        Scope::Shared => 0,
    }
}

/// Where there is no futex: looks again every millisecond at most.
#[cfg(not(target_os = "linux"))]
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>, _scope: Scope) -> FutexWait {
    use std::sync::atomic::Ordering;
    let until = std::time::Instant::now() + timeout.unwrap_or(YEAR).min(YEAR);
    loop {
        if word.load(Ordering::SeqCst) != expected {
            return FutexWait::Changed;
        }
        let left = until.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return FutexWait::TimedOut;
        }
        let nap = left.min(Duration::from_millis(1));
        let time = libc::timespec { tv_sec: 0, tv_nsec: nap.subsec_nanos() as libc::c_long };
        // SAFETY: `time` lives through the call; no remainder is asked for.
        if unsafe { libc::nanosleep(&time, std::ptr::null_mut()) } != 0 {
            return FutexWait::Interrupted;
        }
    }
}

/// Where there is no futex: sleepers look by themselves.
#[cfg(not(target_os = "linux"))]
pub fn futex_wake(_word: &AtomicU32, _count: u32, _scope: Scope) -> u32 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_changed_word_is_not_slept_on() {
        let word = AtomicU32::new(1);
        assert_eq!(futex_wait(&word, 0, None, Scope::Private), FutexWait::Changed);
    }

    #[test]
    fn time_runs_out() {
        let word = AtomicU32::new(0);
        assert_eq!(futex_wait(&word, 0, Some(Duration::from_millis(1)), Scope::Private), FutexWait::TimedOut);
    }

    #[test]
    fn a_sleeper_is_woken() {
        let word = AtomicU32::new(0);
        std::thread::scope(|s| {
            s.spawn(|| {
                while word.load(Ordering::SeqCst) == 0 {
                    futex_wait(&word, 0, None, Scope::Shared);
                }
            });
            word.store(1, Ordering::SeqCst);
            futex_wake(&word, 1, Scope::Shared);
        });
    }
}
