//! Cancelling a thread's calls from another thread.

use std::os::fd::RawFd;

use crate::err;
use crate::error::{Error, Result};
use crate::sys::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sys::{Event, Lock, Scope, futex_wake, monotonic_ns, try_push};

/// How long, in nanoseconds, a worker that was told to end may clean up: by the clock, and then by what it computes,
/// since it may have had no core meanwhile.
const GRACE: u64 = 250_000_000;
/// By the clock at the most.
const LONGEST_GRACE: u64 = 10_000_000_000;

/// The cancellation of one worker: fired once, by anyone; every blocked call of that worker ends with `[cancelled]` at
/// once, and so does every later one.
#[derive(Debug, Default)]
pub struct Cancel {
    fired: AtomicBool,
    /// When the worker first heard of it, on the clock of [`monotonic_ns`]; 0 until then.
    heard: AtomicU64,
    asleep: Lock<Asleep>,
}

/// What the threads under this token sleep on.
#[derive(Debug, Default)]
struct Asleep {
    words: Vec<Word>,
    /// Made when the first of them sleeps in poll.
    event: Option<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(*const AtomicU32);

// SAFETY: the pointer is followed only under the lock of the list it stands in, from which `Ticket` removes it before
// the word can go. The child of a fork, which lacks the threads whose words stand there, fires no cancel of before.
unsafe impl Send for Word {}

impl Cancel {
    /// One that has not fired.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Cancels. Safe from any thread, any number of times.
    pub fn fire(&self) {
        if self.fired.swap(true, Ordering::SeqCst) {
            return;
        }
        let asleep = self.asleep.lock();
        for word in &asleep.words {
            // SAFETY: see `Word`.
            let word = unsafe { &*word.0 };
            // Changed first: a thread on its way into the futex then does not go to sleep.
            word.fetch_add(1, Ordering::SeqCst);
            futex_wake(word, u32::MAX, Scope::Private);
        }
        if let Some(event) = &asleep.event {
            event.set();
        }
    }

    /// Whether it has fired.
    #[inline]
    pub fn fired(&self) -> bool {
        self.fired.load(Ordering::Acquire)
    }

    /// `[cancelled]` if it has fired.
    #[inline]
    pub fn check(&self) -> Result<()> {
        if self.fired() { Err(self.hear()) } else { Ok(()) }
    }

    /// [`Cancel::check`] for calls that do not wait: what the first error of the worker has it clean up on its way out
    /// may call those for a while. `computed` says for how many nanoseconds this thread has computed since it was first
    /// asked.
    pub fn check_all(&self, computed: impl FnOnce() -> u64) -> Result<()> {
        let heard = self.heard.load(Ordering::Relaxed);
        if heard != 0 {
            let since = monotonic_ns().saturating_sub(heard);
            if since < GRACE || since < LONGEST_GRACE && computed() < GRACE {
                return Ok(());
            }
        }
        self.check()
    }

    /// The worker is told to end: the error to raise.
    #[cold]
    pub fn hear(&self) -> Error {
        if self.heard.load(Ordering::Relaxed) == 0 {
            self.heard.store(monotonic_ns().max(1), Ordering::Relaxed);
        }
        err!(Cancelled, "this thread was cancelled by another")
    }

    /// Before sleeping on `word`: until the ticket is dropped, [`Cancel::fire`] adds 1 to the word and wakes it.
    pub(super) fn sleeping_on<'a>(&'a self, word: &'a AtomicU32) -> Result<Ticket<'a>> {
        try_push(&mut self.asleep.lock().words, Word(word))?;
        let ticket = Ticket { cancel: self, word };
        if self.fired.load(Ordering::SeqCst) {
            drop(ticket);
            self.check()?;
            unreachable!("fired never goes back");
        }
        Ok(ticket)
    }

    /// A descriptor that polls readable once this has fired.
    pub(super) fn fd(&self) -> Result<RawFd> {
        // Made before the lock is taken: making it may wait for a fork, which waits for the lock.
        let mut spare = None;
        loop {
            {
                let mut asleep = self.asleep.lock();
                match (&asleep.event, spare.take()) {
                    (Some(event), _) if event.is_ours() => {
                        let fd = event.fd()?;
                        return self.check().map(|()| fd);
                    }
                    (_, Some(event)) => {
                        // One from before a fork is dropped here, which closes nothing.
                        asleep.event = Some(event);
                        continue;
                    }
                    _ => {}
                }
            }
            spare = Some(Event::new()?);
        }
    }
}

/// For tests: a caller that nothing but this cancels.
#[cfg(test)]
impl super::Interrupt for Cancel {
    fn on_signal(&self) -> Result<()> {
        Ok(())
    }
    fn cancel(&self) -> Option<&Cancel> {
        Some(self)
    }
}

/// A thread under `cancel` sleeps on `word`.
pub(super) struct Ticket<'a> {
    cancel: &'a Cancel,
    word: &'a AtomicU32,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut asleep = self.cancel.asleep.lock();
        let at = asleep.words.iter().position(|w| *w == Word(self.word));
        if let Some(at) = at {
            asleep.words.swap_remove(at);
        }
    }
}
