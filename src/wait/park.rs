//! Sleeping on a word: the one place that goes into the futex. Imports its siblings `cancel`, `deadline` and `threads`.

use std::time::Duration;

use super::{Asleep, Wait};
use crate::error::Result;
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::{FutexWait, Scope, futex_wait};

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parked {
    /// Woken, or for no reason at all: look again.
    Awake,
    /// The deadline is past.
    OutOfTime,
}

/// Sleeps while `*word == key`: until woken, out of time, cancelled or interrupted, but no longer than `longest`. A
/// cancellation adds 1 to the word.
pub(super) fn park(word: &AtomicU32, key: u32, wait: &Wait, longest: Duration) -> Result<Parked> {
    let nap = wait.nap().min(longest);
    if nap.is_zero() {
        return Ok(Parked::OutOfTime);
    }
    let why = {
        let _ticket = wait.interrupt.cancel().map(|c| c.sleeping_on(word)).transpose()?;
        futex_wait(word, key, (nap != Duration::MAX).then_some(nap), Scope::Private)
    };
    if matches!(why, FutexWait::Interrupted | FutexWait::TimedOut) {
        wait.interrupt.on_signal()?;
    }
    wait.check()?;
    Ok(Parked::Awake)
}

/// Sleeps until the deadline; only a cancellation or an interruption ends it before.
pub fn sleep(wait: &Wait) -> Result<()> {
    wait.check()?;
    if let Some(non_blocking) = wait.interrupt.non_blocking() {
        return if wait.deadline.expired() { Ok(()) } else { Err(non_blocking.would_block_on_event(wait.deadline)) };
    }
    let _asleep = Asleep::new(wait);
    let word = AtomicU32::new(0);
    while park(&word, word.load(Ordering::Relaxed), wait, Duration::MAX)? == Parked::Awake {}
    Ok(())
}
