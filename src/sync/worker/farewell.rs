//! The end of the process, for all crews together. Imports its siblings `team` and `thread`, and `unfetched`.

use std::panic::catch_unwind;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::team::{Shared, Team};
use super::thread::is_of;
use crate::error::Result;
use crate::sync::unfetched::tell_all;
use crate::sys::{Lock, SetOnce, at_exit, is_torn, try_push};
use crate::wait::{Deadline, Wait};

/// How long all threads together have to end when the process does, in seconds.
const FAREWELL: f64 = 0.2;

/// Every crew that may have running threads.
static CREWS: SetOnce<Lock<Crews>> = SetOnce::new();

/// A crew, whatever its jobs give.
trait Ending: Send + Sync {
    fn team(&self) -> &Team;
}

impl<T: Send> Ending for Shared<T> {
    fn team(&self) -> &Team {
        &self.team
    }
}

#[derive(Default)]
struct Crews {
    known: Vec<Weak<dyn Ending>>,
    /// Whether [`farewell`] runs at the end of the process.
    at_exit: bool,
}

/// From now on the end of the process thinks of this crew, for as long as it is there.
pub(super) fn remember<T: Send + 'static>(shared: &Arc<Shared<T>>) -> Result<()> {
    let crew: Arc<dyn Ending> = shared.clone();
    let mut crews = CREWS.get_or_init(Lock::default).lock();
    if !crews.at_exit {
        at_exit(farewell);
        crews.at_exit = true;
    }
    crews.known.retain(|known| known.strong_count() > 0);
    try_push(&mut crews.known, Arc::downgrade(&crew))
}

/// The process ends: threads that are blocked in our calls end in good order, the others run until they are gone.
extern "C" fn farewell() {
    if is_torn() {
        return;
    }
    let _ = catch_unwind(|| {
        let Some(crews) = CREWS.get() else { return };
        let crews: Vec<_> = crews.lock().known.iter().filter_map(Weak::upgrade).collect();
        let teams = || crews.iter().map(|crew| crew.team()).filter(|team| team.is_ours());
        teams().for_each(Team::cancel);
        let wait = Wait::until(Deadline::after(FAREWELL));
        for team in teams() {
            // One of the threads may be the one that ends the process.
            let rest = || (team.running.load(Ordering::Acquire) <= usize::from(is_of(team))).then_some(());
            let _ = team.ended.wait_until(&wait, rest);
        }
        // Dropped by a thread that still runs, if at all.
        std::mem::forget(crews);
        tell_all();
    });
}
