//! The life of one thread of a group, from the gate to what it leaves. Imports its sibling `state`, and `unfetched`.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::state::{GroupState, Shared, Slot};
use super::{Failure, WorkerContext};
use crate::err;
use crate::error::Code;
use crate::sync::Unfetched;
use crate::sync::unfetched::has_code;
use crate::sys::{exit, gettid, is_torn, tell};
use crate::text;
use crate::wait::hide_thread;

thread_local! {
    /// The group that this thread works in.
    static OWN_GROUP: Cell<*const GroupState> = const { Cell::new(std::ptr::null()) };
}

/// Whether this thread works in the group of `state`.
pub(super) fn is_of(state: &GroupState) -> bool {
    OWN_GROUP.try_with(Cell::get).is_ok_and(|own| std::ptr::eq(own, state))
}

/// The whole life of one thread.
pub(super) fn work<T, J>(shared: Arc<Shared<T>>, index: usize, job: Arc<J>)
where
    J: Fn(&WorkerContext) -> std::result::Result<T, Failure>,
{
    crate::wait::prepare_thread();
    crate::wire::prepare_thread();
    let state = &shared.state;
    OWN_GROUP.set(state);
    if !state.enter() {
        return state.one_less(1);
    }
    if let Slot::Running { tid, .. } = &mut shared.slots.lock().all[index] {
        *tid = gettid();
    }
    let context = &state.contexts[index];
    let result = catch_unwind(AssertUnwindSafe(|| job(context)))
        .unwrap_or_else(|_| Err(err!(State, "internal error in a worker, please report it").to_string().into_bytes()));
    if is_torn() {
        // The job is not to be dropped either.
        std::mem::forget(job);
        end_child(result.err());
    }
    // What only the job held is gone before anybody hears that this thread has ended.
    drop(job);
    hide_thread();
    if !state.is_ours() {
        end_child(result.err());
    }
    let failed = |text: Failure| {
        let of = || text!("thread {} of {} of {}", context.id, state.contexts.len(), state.name);
        Slot::Failed(Unfetched::new(text).owed_to(state.owner, of))
    };
    let mut left = match result {
        result if !context.cancel.fired() => result.map_or_else(failed, Slot::Done),
        // An error of its own is told all the same; that what it talked to is closed comes with the end of its owner.
        Err(text) if ![Code::Cancelled, Code::Closed].iter().any(|code| has_code(&text, *code)) => {
            failed(cancelled(Some(text)))
        }
        result => Slot::Failed(cancelled(result.err()).into()),
    };
    if context.cancel.fired() {
        GroupState::note_end();
    }
    {
        let mut slots = shared.slots.lock();
        if !matches!(slots.all[index], Slot::Running { .. }) {
            return;
        }
        std::mem::swap(&mut slots.all[index], &mut left);
        slots.ended.push_back(index);
    }
    state.one_less(1);
}

/// What is told of a thread that still ran when it was cancelled, however it ended.
pub(super) fn cancelled(failure: Option<Failure>) -> Failure {
    const MARK: &[u8] = b"[cancelled]";
    let (mut text, failure) = match failure {
        Some(failure) if failure.windows(MARK.len()).any(|w| w == MARK) => return failure,
        Some(failure) => (err!(Cancelled, "it was cancelled, and then failed: ").to_string().into_bytes(), failure),
        None => (err!(Cancelled, "it was cancelled while it ran").to_string().into_bytes(), Vec::new()),
    };
    // Without memory for both, the first half says what matters.
    if text.try_reserve(failure.len()).is_ok() {
        text.extend(failure);
    }
    text
}

/// A job forked, and this is the child, whose only thread now has nobody to tell how it ended.
fn end_child(failure: Option<Failure>) -> ! {
    if let Some(text) = &failure {
        tell(&String::from_utf8_lossy(text));
    }
    exit(i32::from(failure.is_some()))
}
