//! Errors of threads and tasks that nobody has fetched yet, and how the user hears of them all the same.
//!
//! Who starts a thread or a task may never ask how it ended. Its error is then told on stderr, once: when what holds it
//! is dropped; at the latest when the process ends; and earlier where the Lua state that would have to ask has been
//! waiting for a second without a time-out since then, as it may wait for ever for what will not come. A thread of our
//! own looks for that while there are such errors.
//!
//! Imports its sibling `worker`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::Failure;
use crate::error::{Code, Lossy};
use crate::sys::{
    Lock, SetOnce, check_memory, fork_generation, is_torn, monotonic_ns, notice, spawn_quiet, try_bytes, try_push,
};
use crate::text;
use crate::wait::{Deadline, Wait, show_background_thread, sleep, waits_for_ever};

/// How long a state waits before it is told of errors that it holds, in nanoseconds. One that waits for just this
/// error fetches it within that time.
const SOON: u64 = 1_000_000_000;

/// How often that is looked for, in seconds.
const LOOK: f64 = 0.2;

/// How a job failed, until somebody has fetched it.
pub struct Unfetched(Stored);

enum Stored {
    /// Nobody is to be told.
    Alone(Failure),
    /// Told unless it is fetched.
    Owed(Arc<Entry>),
}

struct Entry {
    text: Failure,
    /// `thread 2 of 4 of ipc.map`
    of: String,
    /// The number of the Lua state that would have to ask.
    owner: u64,
    generation: u32,
    /// When it was raised, on the clock of [`monotonic_ns`].
    since: u64,
    /// Whether it is to be told.
    due: AtomicBool,
}

impl Entry {
    /// Tells the error, unless it was told or fetched before.
    fn tell(&self) {
        if self.generation != fork_generation() || !self.due.swap(false, Ordering::AcqRel) {
            return;
        }
        let text: &[u8] = if self.text.is_empty() { b"not enough memory" } else { &self.text };
        notice(format_args!("an error that nobody fetched, of {}: {}", self.of, Lossy(text)));
    }
}

impl Unfetched {
    /// An error that is nobody's business so far.
    pub fn new(text: Failure) -> Unfetched {
        Unfetched(Stored::Alone(text))
    }

    /// The same error, `of` that thread or task, which the Lua state with the number `owner` has started (0: nobody):
    /// told unless it is fetched. Any number of tasks may fail while there is no memory: then nobody is told.
    pub fn owed_to(mut self, owner: u64, of: impl FnOnce() -> String) -> Unfetched {
        if let Stored::Alone(text) = &mut self.0
            && owner != 0
            && check_memory().is_ok()
        {
            let entry = Arc::new(Entry {
                text: std::mem::take(text),
                of: of(),
                owner,
                generation: fork_generation(),
                since: monotonic_ns(),
                due: AtomicBool::new(true),
            });
            remember(&entry);
            self.0 = Stored::Owed(entry);
        }
        self
    }

    /// The text, which is not told any more.
    pub fn fetch(&self) -> &Failure {
        if let Stored::Owed(entry) = &self.0 {
            entry.due.store(false, Ordering::Release);
        }
        self.text()
    }

    /// A copy of the text, which is not told any more.
    pub fn take(self) -> Failure {
        try_bytes(self.fetch()).unwrap_or_default()
    }

    /// The text, for those who only look.
    pub fn text(&self) -> &Failure {
        match &self.0 {
            Stored::Alone(text) => text,
            Stored::Owed(entry) => &entry.text,
        }
    }
}

/// Whether a text is of an error with this code: what a cancel brought about is no error that anybody would ask for.
pub(super) fn has_code(text: &[u8], code: Code) -> bool {
    let mark = text!("libipc [{code}]");
    text.windows(mark.len()).any(|w| w == mark.as_bytes())
}

impl From<Failure> for Unfetched {
    fn from(text: Failure) -> Unfetched {
        Unfetched::new(text)
    }
}

impl Drop for Unfetched {
    fn drop(&mut self) {
        if let Stored::Owed(entry) = &self.0
            && !is_torn()
        {
            entry.tell();
        }
    }
}

impl fmt::Debug for Unfetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unfetched").field("text", &Lossy(self.text())).finish_non_exhaustive()
    }
}

/// All that may be to be told.
#[derive(Default)]
struct Known {
    entries: Vec<Weak<Entry>>,
    /// At how many the list is looked through for those that are done with.
    many: usize,
    /// The process in which a thread looks for states that wait.
    watched: Option<u32>,
}

fn known() -> &'static Lock<Known> {
    static KNOWN: SetOnce<Lock<Known>> = SetOnce::new();
    KNOWN.get_or_init(Lock::default)
}

fn is_due(entry: &Weak<Entry>) -> bool {
    entry.upgrade().is_some_and(|entry| entry.generation == fork_generation() && entry.due.load(Ordering::Acquire))
}

fn remember(entry: &Arc<Entry>) {
    let start = {
        let mut known = known().lock();
        if known.entries.len() >= known.many {
            known.entries.retain(is_due);
            known.many = 2 * known.entries.len() + 16;
        }
        // Without memory for it, it is told when it is dropped.
        _ = try_push(&mut known.entries, Arc::downgrade(entry));
        known.watched.replace(fork_generation()) != Some(fork_generation())
    };
    if start && spawn_quiet("ipc-errors", watch).is_err() {
        known().lock().watched = None;
    }
}

/// Those that are due at this moment; `None` where there are none and `leave` is asked for: then nobody watches any
/// more.
fn due(leave: bool) -> Option<Vec<Arc<Entry>>> {
    let mut known = known().lock();
    known.entries.retain(is_due);
    if known.entries.is_empty() && leave {
        known.watched = None;
        return None;
    }
    let mut all = Vec::new();
    // Where there is no memory, later.
    if all.try_reserve(known.entries.len()).is_ok() {
        all.extend(known.entries.iter().filter_map(Weak::upgrade));
    }
    Some(all)
}

/// Tells the errors of states that wait.
fn watch() {
    show_background_thread();
    while let Some(entries) = due(true) {
        for entry in entries {
            let waits = |since: u64| monotonic_ns().saturating_sub(since.max(entry.since)) >= SOON;
            if waits_for_ever(entry.owner).is_some_and(waits) {
                entry.tell();
            }
        }
        _ = sleep(&Wait::until(Deadline::after(LOOK)));
    }
}

/// The process ends: nobody will fetch what is left.
pub(super) fn tell_all() {
    due(false).into_iter().flatten().for_each(|entry| entry.tell());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::fork_for_tests;

    fn error(text: &str) -> Unfetched {
        Unfetched::new(text.as_bytes().to_vec()).owed_to(7, || "a test".into())
    }

    fn entry(unfetched: &Unfetched) -> Option<&Arc<Entry>> {
        match &unfetched.0 {
            Stored::Alone(_) => None,
            Stored::Owed(entry) => Some(entry),
        }
    }

    fn is_due_now(unfetched: &Unfetched) -> bool {
        entry(unfetched).is_some_and(|entry| entry.due.load(Ordering::Acquire))
    }

    fn is_known(unfetched: &Unfetched) -> bool {
        due(false).unwrap().iter().any(|known| Arc::ptr_eq(known, entry(unfetched).unwrap()))
    }

    #[test]
    fn only_what_nobody_fetched_is_due() {
        let e = error("no");
        assert!(is_due_now(&e) && is_known(&e));
        assert_eq!(e.text(), b"no");
        assert!(is_due_now(&e));
        assert_eq!(e.fetch(), b"no");
        assert!(!is_due_now(&e) && !is_known(&e));
        assert_eq!(e.take(), b"no");
    }

    #[test]
    fn what_nobody_has_asked_for_is_not_due() {
        assert!(has_code(b"x: libipc [cancelled] channel:read: it was cancelled", Code::Cancelled));
        assert!(!has_code(b"x: libipc [cancelled] channel:read: it was cancelled", Code::Closed));
        assert!(!is_due_now(&Unfetched::new(b"no".to_vec())));
        assert!(!is_due_now(&Unfetched::new(b"no".to_vec()).owed_to(0, String::new)));
    }

    #[test]
    fn it_is_told_once() {
        let e = error("told in a test");
        entry(&e).unwrap().tell();
        assert!(!is_due_now(&e));
        entry(&e).unwrap().tell();
    }

    #[test]
    fn the_child_of_a_fork_has_nothing_to_tell() {
        let e = error("no");
        assert_eq!(fork_for_tests(|| due(false).unwrap().is_empty()), 0);
        e.fetch();
    }
}
