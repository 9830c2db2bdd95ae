//! Calls of a coroutine that cannot be tried again and again, since they change something as they go, and may wait for
//! ever: what is written to a child that does not read. Such a call waits in a thread of its own, and the tries look
//! for its end.
//!
//! Imports its siblings `non_blocking`, `cancel`, `event_count` and `threads`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use super::threads::show_background_thread;
use super::{Cancel, Deadline, EventCount, Interrupt, Wait};
use crate::err;
use crate::error::Result;
use crate::sys::{Lock, fork_generation, spawn_quiet};

/// What a caller and the thread that does its work share.
pub(super) struct Shared<T> {
    pub(super) cancel: Cancel,
    pub(super) result: Lock<Option<Result<T>>>,
    pub(super) ended: EventCount,
}

impl<T> Interrupt for Shared<T> {
    fn on_signal(&self) -> Result<()> {
        Ok(())
    }

    fn cancel(&self) -> Option<&Cancel> {
        Some(&self.cancel)
    }
}

/// The call, kept between the tries; dropped, it is cancelled.
struct Call<T> {
    shared: Arc<Shared<T>>,
    generation: u32,
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        // In the child of a fork there is nobody to be cancelled, and what he slept on may be another thread's stack.
        if self.generation == fork_generation() {
            self.shared.cancel.fire();
        }
    }
}

/// Makes a call that waits: here and now, or for a caller that tries, in a thread that all its tries share. `call`
/// gives the call itself, and is only asked where one begins. It waits by what it is given, and undoes what it did when
/// it is cancelled.
pub fn on_own_thread<T, C>(wait: &Wait, call: impl FnOnce() -> C) -> Result<T>
where
    T: Send + 'static,
    C: FnOnce(&Wait) -> Result<T> + Send + 'static,
{
    let Some(non_blocking) = wait.interrupt.non_blocking() else { return call()(wait) };
    let begun: std::result::Result<Rc<Call<T>>, _> = non_blocking.state(|| {
        // One that may not wait needs no thread.
        if wait.deadline.expired() {
            return Err(call()(wait));
        }
        begin(call(), wait.deadline).map_err(Err)
    });
    let call = match begun {
        Ok(call) => call,
        Err(result) => return result,
    };
    if call.generation != fork_generation() {
        return Err(err!(State, "this call was begun before the fork, and goes on in the parent process only"));
    }
    // The call knows itself when its time is over, and what to say then.
    let wait = Wait { deadline: Deadline::NEVER, ..*wait };
    let ended = call.shared.ended.wait_until(&wait, || call.shared.result.lock().take())?;
    ended.unwrap_or_else(|| Err(err!(State, "a call without an end")))
}

fn begin<T: Send + 'static>(
    call: impl FnOnce(&Wait) -> Result<T> + Send + 'static,
    deadline: Deadline,
) -> Result<Call<T>> {
    let shared = Arc::new(Shared { cancel: Cancel::new(), result: Lock::new(None), ended: EventCount::new() });
    let theirs = shared.clone();
    spawn_quiet("ipc-waiting", move || {
        show_background_thread();
        // A panic is told to the caller, who would wait in vain otherwise.
        let result = catch_unwind(AssertUnwindSafe(|| call(&Wait { deadline, interrupt: &*theirs })))
            .unwrap_or_else(|_| Err(err!(State, "internal error, please report it: a call panicked")));
        *theirs.result.lock() = Some(result);
        theirs.ended.notify_all();
    })?;
    Ok(Call { shared, generation: fork_generation() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::non_blocking::tests::Coroutine;
    use super::super::{Interest, poll_fd, sleep};
    use super::*;
    use crate::error::Code;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Tries until there is a result.
    fn call<T, C>(seconds: f64, call: impl Fn() -> C) -> Result<T>
    where
        T: Send + 'static,
        C: FnOnce(&Wait) -> Result<T> + Send + 'static,
    {
        let caller = Coroutine::default();
        loop {
            match on_own_thread(&caller.wait(seconds), &call) {
                Err(e) if e.code() == Code::WouldBlock => {
                    let blocker = caller.blocker(e);
                    assert!(blocker.until.remaining().is_none());
                    assert!(poll_fd(blocker.fd, Interest::Read, &Wait::until(Deadline::after(60.0))).unwrap());
                }
                result => return result,
            }
        }
    }

    #[test]
    fn without_tries_it_is_the_call_itself() {
        let here = std::thread::current().id();
        let call = || move |_: &Wait| Ok(std::thread::current().id() == here);
        assert!(on_own_thread(&Wait::until(Deadline::NEVER), call).unwrap());
    }

    #[test]
    fn all_tries_share_one_call_and_its_time() {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let slow = || {
            |wait: &Wait| {
                CALLS.fetch_add(1, Ordering::SeqCst);
                sleep(&wait.sooner(Deadline::after(0.01)))?;
                Ok(wait.deadline.remaining().unwrap().as_secs_f64() < 60.0)
            }
        };
        assert!(call(60.0, slow).unwrap());
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn its_errors_are_those_of_the_call_and_one_without_time_needs_no_thread() {
        let fails = || |wait: &Wait| -> Result<()> { sleep(wait).and_then(|()| Err(err!(Timeout, "too late"))) };
        assert_eq!(call(0.01, fails).unwrap_err().what(), "too late");
        let here = std::thread::current().id();
        let here = || move |_: &Wait| Ok(std::thread::current().id() == here);
        assert!(call(0.0, here).unwrap());
    }

    #[test]
    fn a_call_that_is_given_up_is_cancelled() {
        let (tell, told) = std::sync::mpsc::channel();
        let caller = Coroutine::default();
        let forever = || {
            move |wait: &Wait| {
                let result = sleep(wait);
                tell.send(result.as_ref().map_err(|e| e.code()).err()).unwrap();
                result
            }
        };
        assert_eq!(on_own_thread(&caller.wait(60.0), forever).unwrap_err().code(), Code::WouldBlock);
        drop(caller);
        assert_eq!(told.recv().unwrap(), Some(Code::Cancelled));
    }
}
