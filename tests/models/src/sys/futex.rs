//! The futex as the kernel promises it: comparing the word and falling asleep are one step to those who wake. Nobody is
//! woken by a time-out, nor for no reason: who is not woken sleeps for ever, and loom calls that a deadlock.

use std::time::Duration;

use loom::sync::{Arc, Condvar, Mutex};

use super::atomic::{AtomicU32, Ordering};

/// As in src/sys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FutexWait {
    Woken,
    Changed,
    TimedOut,
    Interrupted,
}

/// As in src/sys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scope {
    Private,
    Shared,
}

struct Sleeper {
    word: usize,
    woken: bool,
    bell: Arc<Condvar>,
    number: usize,
}

#[derive(Default)]
struct Kernel {
    sleepers: Vec<Sleeper>,
    last: usize,
}

loom::lazy_static! {
    static ref KERNEL: Mutex<Kernel> = Mutex::new(Kernel::default());
}

fn kernel() -> loom::sync::MutexGuard<'static, Kernel> {
    KERNEL.lock().expect("a model that panicked has failed")
}

/// Sleeps while `*word == expected`, until woken.
pub fn futex_wait(word: &AtomicU32, expected: u32, _: Option<Duration>, _: Scope) -> FutexWait {
    let mut now = kernel();
    if word.load(Ordering::SeqCst) != expected {
        return FutexWait::Changed;
    }
    now.last += 1;
    let (number, bell) = (now.last, Arc::new(Condvar::new()));
    now.sleepers.push(Sleeper { word: address(word), woken: false, bell: bell.clone(), number });
    loop {
        let at = now.sleepers.iter().position(|s| s.number == number).expect("a sleeper takes itself off the list");
        if now.sleepers[at].woken {
            now.sleepers.remove(at);
            return FutexWait::Woken;
        }
        now = bell.wait(now).expect("a model that panicked has failed");
    }
}

/// Wakes up to `count` sleepers on `word`; returns how many there were.
pub fn futex_wake(word: &AtomicU32, count: u32, _: Scope) -> u32 {
    let mut woken = 0;
    for sleeper in kernel().sleepers.iter_mut().filter(|s| s.word == address(word) && !s.woken).take(count as usize) {
        sleeper.woken = true;
        sleeper.bell.notify_one();
        woken += 1;
    }
    woken
}

fn address(word: &AtomicU32) -> usize {
    std::ptr::from_ref(word).addr()
}
