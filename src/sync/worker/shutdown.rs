//! The end of the process, for all groups together. Imports its siblings `state` and `thread`, and `unfetched`.

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::state::{GroupState, Shared};
use super::thread::is_of;
use crate::error::Result;
use crate::sync::unfetched::tell_all;
use crate::sys::{Lock, SetOnce, at_exit, getpid, gettid, is_torn, try_push};
use crate::wait::{Deadline, Wait};

/// How long all threads together have to end when the process does, in seconds.
const SHUTDOWN: f64 = 0.2;

/// The process, and in the lower half the thread that ends it, once one does.
static ENDS: AtomicU64 = AtomicU64::new(0);

/// Whether another thread is about to end this process. What it has cancelled for that is no news for anybody.
pub fn another_thread_ends_process() -> bool {
    let ends = ENDS.load(Ordering::Acquire);
    ends != 0 && ends >> 32 == getpid() as u64 && ends & u64::from(u32::MAX) != gettid()
}

/// Every group that may have running threads.
static GROUPS: SetOnce<Lock<Groups>> = SetOnce::new();

/// A group, whatever its jobs give.
trait Ending: Send + Sync {
    fn state(&self) -> &GroupState;
}

impl<T: Send> Ending for Shared<T> {
    fn state(&self) -> &GroupState {
        &self.state
    }
}

#[derive(Default)]
struct Groups {
    known: Vec<Weak<dyn Ending>>,
    /// Whether [`shutdown`] runs at the end of the process.
    at_exit: bool,
}

/// From now on the end of the process thinks of this group, for as long as it is there.
pub(super) fn remember<T: Send + 'static>(shared: &Arc<Shared<T>>) -> Result<()> {
    let group: Arc<dyn Ending> = shared.clone();
    let mut groups = GROUPS.get_or_init(Lock::default).lock();
    if !groups.at_exit {
        at_exit(shutdown);
        groups.at_exit = true;
    }
    groups.known.retain(|known| known.strong_count() > 0);
    try_push(&mut groups.known, Arc::downgrade(&group))
}

/// The process ends: threads that are blocked in our calls end in good order, the others run until they are gone.
extern "C" fn shutdown() {
    if is_torn() {
        return;
    }
    let _ = catch_unwind(|| {
        let Some(groups) = GROUPS.get() else { return };
        ENDS.store((getpid() as u64) << 32 | gettid(), Ordering::Release);
        let groups: Vec<_> = groups.lock().known.iter().filter_map(Weak::upgrade).collect();
        let states = || groups.iter().map(|group| group.state()).filter(|state| state.is_ours());
        states().for_each(GroupState::cancel);
        let wait = Wait::until(Deadline::after(SHUTDOWN));
        for state in states() {
            // One of the threads may be the one that ends the process.
            let rest = || (state.running.load(Ordering::Acquire) <= usize::from(is_of(state))).then_some(());
            let _ = state.ended.wait_until(&wait, rest);
        }
        // Dropped by a thread that still runs, if at all.
        std::mem::forget(groups);
        tell_all();
    });
}
