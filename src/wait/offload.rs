//! Calls that cannot be interrupted, on a few helper threads: the system's resolver of names.
//!
//! There are at most [`MOST`] such threads, however many calls there are; the others wait their turn, in order. So what
//! runs here must come to its end by itself: it never waits for what another such call does.
//!
//! Imports its siblings `cancel`, `own_thread`, `event_count` and `threads`.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::own_thread::Shared;
use super::threads::show_background_thread;
use super::{Cancel, Deadline, EventCount, Wait};
use crate::err;
use crate::error::Result;
use crate::sys::{Lock, SetOnce, fork_generation, spawn_quiet};

/// How many helper threads there are at most.
const MOST: usize = 16;
/// How long one stays with nothing to do, in seconds.
const STAY: f64 = 5.0;

type Job = Box<dyn FnOnce() + Send>;

/// The helper threads and what they are to do.
#[derive(Default)]
struct Helpers {
    /// The process whose threads these are.
    generation: u32,
    threads: usize,
    /// How many of them look for something to do.
    idle: usize,
    jobs: VecDeque<Job>,
}

static HELPERS: Lock<Option<Helpers>> = Lock::new(None);

fn more_to_do() -> &'static EventCount {
    static MORE: SetOnce<EventCount> = SetOnce::new();
    MORE.get_or_init(EventCount::new)
}

/// Has a helper do `job`, starting one where none is free and there may be more.
fn submit(job: Job) -> Result<()> {
    let (start, forgotten) = {
        let mut helpers = HELPERS.lock();
        // Those of the process that forked this one are not here.
        let stale = helpers.as_ref().is_some_and(|h| h.generation != fork_generation());
        let forgotten = if stale { helpers.take() } else { None };
        let helpers = helpers.get_or_insert_with(|| Helpers { generation: fork_generation(), ..Helpers::default() });
        helpers.jobs.push_back(job);
        let start = helpers.jobs.len() > helpers.idle && helpers.threads < MOST;
        helpers.threads += usize::from(start);
        (start, forgotten)
    };
    // What the parent's jobs hold belongs to the parent.
    std::mem::forget(forgotten);
    if start && let Err(e) = spawn_quiet("ipc-helper", serve) {
        let mut helpers = HELPERS.lock();
        if let Some(helpers) = &mut *helpers {
            helpers.threads -= 1;
            // Another will do it, if there is one.
            if helpers.threads == 0 {
                let job = helpers.jobs.pop_back();
                drop(job);
                return Err(e);
            }
        }
    }
    more_to_do().notify_one();
    Ok(())
}

/// The life of a helper.
fn serve() {
    show_background_thread();
    let mut helpers = HELPERS.lock();
    loop {
        let Some(known) = &mut *helpers else { return };
        let mut job = known.jobs.pop_front();
        if job.is_none() {
            known.idle += 1;
            drop(helpers);
            let found = more_to_do().wait_until(&Wait::until(Deadline::after(STAY)), || {
                let mut helpers = HELPERS.lock();
                let known = helpers.as_mut()?;
                let job = known.jobs.pop_front();
                known.idle -= usize::from(job.is_some());
                job
            });
            job = found.ok().flatten();
            helpers = HELPERS.lock();
            if job.is_none()
                && let Some(known) = &mut *helpers
            {
                known.idle -= 1;
                // One more look, under the lock that counts the threads.
                job = known.jobs.pop_front();
                if job.is_none() {
                    known.threads -= 1;
                    return;
                }
            }
        }
        drop(helpers);
        if let Some(job) = job {
            job();
        }
        helpers = HELPERS.lock();
    }
}

/// A call on a helper thread; dropped, it is cancelled.
pub struct Offloaded<T> {
    shared: Arc<Shared<T>>,
    generation: u32,
}

impl<T> fmt::Debug for Offloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Offloaded")
    }
}

impl<T: Send + 'static> Offloaded<T> {
    /// Begins `call`, which waits by what it is given: until `deadline`.
    pub fn begin(deadline: Deadline, call: impl FnOnce(&Wait) -> Result<T> + Send + 'static) -> Result<Offloaded<T>> {
        let shared = Arc::new(Shared { cancel: Cancel::new(), result: Lock::new(None), ended: EventCount::new() });
        let theirs = shared.clone();
        submit(Box::new(move || {
            let wait = Wait { deadline, interrupt: &*theirs };
            // A panic is told to the caller, who would wait in vain otherwise.
            let result = catch_unwind(AssertUnwindSafe(|| wait.check().and_then(|()| call(&wait))))
                .unwrap_or_else(|_| Err(err!(State, "internal error, please report it: a call panicked")));
            *theirs.result.lock() = Some(result);
            theirs.ended.notify_all();
        }))?;
        Ok(Offloaded { shared, generation: fork_generation() })
    }

    /// Waits for the end of the call; `None` when time runs out. Its result is given once.
    pub fn wait(&self, wait: &Wait) -> Result<Option<Result<T>>> {
        if self.generation != fork_generation() {
            return Err(err!(State, "this call was begun before the fork, and goes on in the parent process only"));
        }
        self.shared.ended.wait_until(wait, || self.shared.result.lock().take())
    }
}

impl<T> Drop for Offloaded<T> {
    fn drop(&mut self) {
        // In the child of a fork there is nobody to be cancelled, and what he slept on may be another thread's stack.
        if self.generation == fork_generation() {
            self.shared.cancel.fire();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::sleep;
    use super::*;
    use crate::error::Code;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn forever() -> Wait<'static> {
        Wait::until(Deadline::NEVER)
    }

    #[test]
    fn many_calls_share_few_threads_and_all_come_to_their_end() {
        static INSIDE: AtomicUsize = AtomicUsize::new(0);
        let calls: Vec<_> = (0..200)
            .map(|n| {
                let call = move |wait: &Wait| {
                    assert!(INSIDE.fetch_add(1, Ordering::SeqCst) < MOST);
                    sleep(&wait.sooner(Deadline::after(0.0005)))?;
                    INSIDE.fetch_sub(1, Ordering::SeqCst);
                    Ok(n)
                };
                Offloaded::begin(Deadline::NEVER, call).unwrap()
            })
            .collect();
        let got: Vec<_> = calls.iter().map(|call| call.wait(&forever()).unwrap().unwrap().unwrap()).collect();
        assert_eq!(got, (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn a_call_that_is_given_up_is_cancelled_be_it_begun_or_not() {
        let (tell, told) = std::sync::mpsc::channel();
        let calls: Vec<_> = (0..MOST + 3)
            .map(|_| {
                let tell = tell.clone();
                let call = move |wait: &Wait| {
                    let result = sleep(wait);
                    tell.send(result.as_ref().map_err(|e| e.code()).err()).unwrap();
                    result
                };
                Offloaded::begin(Deadline::NEVER, call).unwrap()
            })
            .collect();
        assert!(calls[0].wait(&Wait::until(Deadline::after(0.001))).unwrap().is_none());
        drop(calls);
        drop(tell);
        assert!(told.iter().all(|code| code == Some(Code::Cancelled)));
    }

    #[test]
    fn a_panic_is_an_error_and_ends_no_helper() {
        let call =
            Offloaded::<()>::begin(Deadline::NEVER, |_| std::panic::resume_unwind(Box::new("on purpose"))).unwrap();
        assert_eq!(call.wait(&forever()).unwrap().unwrap().unwrap_err().code(), Code::State);
        let call = Offloaded::begin(Deadline::NEVER, |_| Ok(7)).unwrap();
        assert_eq!(call.wait(&forever()).unwrap().unwrap().unwrap(), 7);
    }
}
