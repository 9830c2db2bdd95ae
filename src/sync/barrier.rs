//! A meeting point of n threads, used again and again.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::err;
use crate::error::{Code, Result};
use crate::sys::{Lock, fork_generation, try_push};
use crate::wait::{EventCount, Owner, Wait};

/// Where n callers wait for one another. Each round has its own n; callers that disagree about it all fail.
#[derive(Debug, Default)]
pub struct Barrier(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    round: Lock<Round>,
    moved: EventCount,
}

/// The round that is filling up.
#[derive(Debug, Default)]
struct Round {
    expected: u32,
    arrived: Vec<Owner>,
    /// Of the round before, if its callers disagreed: who has not heard of it yet.
    failed: Option<Failed>,
    /// The process in which they arrived: of another one's callers none is here.
    generation: u32,
    /// How it ended, shared with those who wait: a later round may be over before they look.
    outcome: Arc<AtomicU32>,
}

/// A round whose callers disagreed. Those of them who come later must fail too, not wait for callers who have left.
#[derive(Debug)]
struct Failed {
    /// Two of the numbers; the larger one is how many callers there may be.
    numbers: (u32, u32),
    told: Vec<Owner>,
}

const OPEN: u32 = 0;
const MET: u32 = 1;
/// Above it: another caller came with this n less `DISAGREED`.
const DISAGREED: u32 = 2;

impl Round {
    /// Ends this round and begins the next.
    fn end(&mut self, outcome: u32) {
        self.outcome.store(outcome, Ordering::Release);
        *self = Round { generation: self.generation, ..Round::default() };
    }

    /// Whether `by` belongs to the failed round before this one, and the numbers it failed about.
    fn belated(&mut self, by: Owner) -> Option<(u32, u32)> {
        let failed = self.failed.as_mut()?;
        // One who was told comes to a new round; so do all after the larger number of callers.
        if failed.told.contains(&by) {
            self.failed = None;
            return None;
        }
        failed.told.push(by);
        let numbers = failed.numbers;
        if failed.told.len() >= numbers.0.max(numbers.1) as usize {
            self.failed = None;
        }
        Some(numbers)
    }
}

/// A caller that has come.
#[derive(Debug)]
struct Arrival {
    barrier: Arc<Shared>,
    by: Owner,
    n: u32,
    generation: u32,
    /// How the round ended.
    outcome: Arc<AtomicU32>,
    /// It counts no more; set under the lock.
    left: AtomicBool,
}

impl Arrival {
    /// What the round gave, once it has ended.
    fn over(&self) -> Option<Result<()>> {
        match self.outcome.load(Ordering::Acquire) {
            OPEN => None,
            MET => Some(Ok(())),
            other => Some(Err(disagreed(self.n, other - DISAGREED))),
        }
    }

    /// Leaves before the end: under the lock, so that the round either counts this caller or goes on without it. How it
    /// ended, if it has; else how many others are here.
    fn leave(&self) -> std::result::Result<usize, Result<()>> {
        let mut round = self.barrier.round.lock();
        if let Some(result) = self.over() {
            return Err(result);
        }
        if !self.left.swap(true, Ordering::Relaxed)
            && let Some(at) = round.arrived.iter().position(|who| *who == self.by)
        {
            round.arrived.swap_remove(at);
        }
        Ok(round.arrived.len())
    }
}

impl Barrier {
    /// Returns once `n` callers are here. `[mismatch]` for all of a round when one comes with another n; `[timeout]`
    /// takes this caller, `by`, out of the round and leaves the others waiting. A call that is tried stays in the round
    /// between its tries.
    pub fn wait(&self, by: Owner, n: u32, wait: &Wait) -> Result<()> {
        wait.check()?;
        let place = match wait.interrupt.non_blocking() {
            Some(non_blocking) => non_blocking.state(|| self.come(by, n).map(Place))?,
            None => Rc::new(Place(self.come(by, n)?)),
        };
        let arrival = &place.0;
        if arrival.generation != fork_generation() {
            return Err(err!(State, "this call was begun before the fork, and goes on in the parent process only"));
        }
        match self.0.moved.wait_until(wait, || arrival.over()) {
            Ok(Some(result)) => result,
            Err(e) if e.code() == Code::WouldBlock => Err(e),
            ended => match arrival.leave() {
                Err(result) => result,
                Ok(here) => {
                    ended.and_then(|_| Err(err!(Timeout, "{here} of the other {} callers came in time", n - 1)))
                }
            },
        }
    }

    /// Comes to the round that is filling up, and ends it where this caller is the last.
    fn come(&self, by: Owner, n: u32) -> Result<Arrival> {
        // A count so large that it would not fit beside the outcomes could never be reached either.
        if n == 0 || n > u32::MAX - DISAGREED {
            return Err(err!(Argument, "a barrier is for 1 or more callers, got {n}"));
        }
        let mut round = self.0.round.lock();
        if round.generation != fork_generation() {
            *round = Round { generation: fork_generation(), ..Round::default() };
        }
        if let Some((a, b)) = round.belated(by) {
            return Err(disagreed(n, if a == n { b } else { a }));
        }
        try_push(&mut round.arrived, by)?;
        let outcome = round.outcome.clone();
        if round.arrived.len() > 1 && round.expected != n {
            let expected = round.expected;
            let told = std::mem::take(&mut round.arrived);
            round.end(DISAGREED + n);
            if told.len() < expected.max(n) as usize {
                round.failed = Some(Failed { numbers: (expected, n), told });
            }
            drop(round);
            self.0.moved.notify_all();
            return Err(disagreed(n, expected));
        }
        round.expected = n;
        if round.arrived.len() == n as usize {
            round.end(MET);
            drop(round);
            self.0.moved.notify_all();
        }
        Ok(Arrival {
            barrier: self.0.clone(),
            by,
            n,
            generation: fork_generation(),
            outcome,
            left: AtomicBool::new(false),
        })
    }
}

/// An arrival that leaves when it is dropped: with the call, or with what is left of a call that is tried no more.
struct Place(Arrival);

impl Drop for Place {
    fn drop(&mut self) {
        // In the child of a fork the round is another one.
        if self.0.generation == fork_generation() && self.0.over().is_none() {
            _ = self.0.leave();
        }
    }
}

fn disagreed(mine: u32, other: u32) -> crate::error::Error {
    err!(Mismatch, "this caller waits for {mine} callers and another one for {other}; all must say the same number")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;
    use crate::wait::{Cancel, Deadline};
    use std::sync::atomic::AtomicUsize;
    use std::thread::scope;

    fn forever() -> Wait<'static> {
        Wait::until(Deadline::NEVER)
    }

    #[test]
    fn nobody_leaves_a_round_before_all_are_there() {
        const N: usize = 4;
        let (barrier, arrived) = (Barrier::default(), AtomicUsize::new(0));
        scope(|s| {
            for _ in 0..N {
                s.spawn(|| {
                    let me = Owner::new();
                    for round in 0..2000 {
                        arrived.fetch_add(1, Ordering::SeqCst);
                        barrier.wait(me, N as u32, &forever()).unwrap();
                        let seen = arrived.load(Ordering::SeqCst);
                        assert!((N * (round + 1)..N * (round + 2)).contains(&seen), "{seen} in round {round}");
                    }
                });
            }
        });
    }

    #[test]
    fn callers_that_disagree_all_fail_and_the_barrier_goes_on() {
        let barrier = Barrier::default();
        let owners = [Owner::new(), Owner::new(), Owner::new()];
        let all = |numbers: [u32; 3]| -> Vec<_> {
            scope(|s| {
                let run = |by, n| barrier.wait(by, n, &forever()).map_err(|e| e.code());
                let threads: Vec<_> =
                    owners.into_iter().zip(numbers).map(|(by, n)| s.spawn(move || run(by, n))).collect();
                threads.into_iter().map(|t| t.join().unwrap()).collect()
            })
        };
        for _ in 0..200 {
            for numbers in [[3, 3, 2], [3, 2, 3], [2, 3, 3]] {
                assert_eq!(all(numbers), vec![Err(Code::Mismatch); 3], "{numbers:?}");
                assert_eq!(all([3; 3]), vec![Ok(()); 3]);
            }
        }
    }

    #[test]
    fn who_has_been_told_of_a_mismatch_starts_anew() {
        let (barrier, a, b) = (Barrier::default(), Owner::new(), Owner::new());
        for _ in 0..50 {
            scope(|s| {
                for (by, n) in [(a, 2), (b, 3)] {
                    let barrier = &barrier;
                    s.spawn(move || {
                        assert_eq!(barrier.wait(by, n, &forever()).unwrap_err().code(), Code::Mismatch);
                        barrier.wait(by, 2, &forever()).unwrap();
                    });
                }
            });
        }
    }

    #[test]
    fn a_caller_that_runs_out_of_time_does_not_count() {
        let barrier = Barrier::default();
        let e = barrier.wait(Owner::new(), 2, &Wait::until(Deadline::after(0.001))).unwrap_err();
        assert_eq!((e.code(), e.what()), (Code::Timeout, "0 of the other 1 callers came in time"));
        assert_eq!(barrier.wait(Owner::new(), 3, &Wait::until(Deadline::now())).unwrap_err().code(), Code::Timeout);
        scope(|s| {
            s.spawn(|| barrier.wait(Owner::new(), 2, &forever()).unwrap());
            barrier.wait(Owner::new(), 2, &forever()).unwrap();
        });
        assert_eq!(barrier.wait(Owner::new(), 0, &forever()).unwrap_err().code(), Code::Argument);
        barrier.wait(Owner::new(), 1, &Wait::until(Deadline::now())).unwrap();
    }

    #[test]
    fn a_cancelled_caller_does_not_count() {
        let (barrier, who) = (Barrier::default(), Cancel::new());
        scope(|s| {
            s.spawn(|| {
                let wait = Wait { deadline: Deadline::NEVER, interrupt: &who };
                assert_eq!(barrier.wait(Owner::new(), 2, &wait).unwrap_err().code(), Code::Cancelled);
            });
            who.fire();
        });
        assert_eq!(barrier.wait(Owner::new(), 2, &Wait::until(Deadline::now())).unwrap_err().code(), Code::Timeout);
    }
}
