//! A meeting point of n threads, used again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::err;
use crate::error::Result;
use crate::sys::{Lock, fork_generation};
use crate::wait::{Owner, Signal, Wait};

/// Where n callers wait for one another. Each round has its own n; callers that disagree about it all fail.
#[derive(Debug, Default)]
pub struct Barrier {
    round: Lock<Round>,
    moved: Signal,
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

impl Barrier {
    /// Returns once `n` callers are here. `[mismatch]` for all of a round when one comes with another n; `[timeout]`
    /// takes this caller, `by`, out of the round and leaves the others waiting.
    pub fn wait(&self, by: Owner, n: u32, wait: &Wait) -> Result<()> {
        wait.check()?;
        // A count so large that it would not fit beside the outcomes could never be reached either.
        if n == 0 || n > u32::MAX - DISAGREED {
            return Err(err!(Argument, "a barrier is for 1 or more callers, got {n}"));
        }
        let outcome = {
            let mut round = self.round.lock();
            if round.generation != fork_generation() {
                *round = Round { generation: fork_generation(), ..Round::default() };
            }
            if let Some((a, b)) = round.belated(by) {
                return Err(disagreed(n, if a == n { b } else { a }));
            }
            round.arrived.push(by);
            if round.arrived.len() > 1 && round.expected != n {
                let expected = round.expected;
                let told = std::mem::take(&mut round.arrived);
                round.end(DISAGREED + n);
                if told.len() < expected.max(n) as usize {
                    round.failed = Some(Failed { numbers: (expected, n), told });
                }
                drop(round);
                self.moved.notify_all();
                return Err(disagreed(n, expected));
            }
            round.expected = n;
            if round.arrived.len() == n as usize {
                round.end(MET);
                drop(round);
                self.moved.notify_all();
                return Ok(());
            }
            round.outcome.clone()
        };
        let over = || match outcome.load(Ordering::Acquire) {
            OPEN => None,
            MET => Some(Ok(())),
            other => Some(Err(disagreed(n, other - DISAGREED))),
        };
        let ended = self.moved.wait_until(wait, over);
        if let Ok(Some(result)) = ended {
            return result;
        }
        // Leaving before the end: under the lock, so that the round either counts us or goes on without us.
        let mut round = self.round.lock();
        if let Some(result) = over() {
            return result;
        }
        if let Some(at) = round.arrived.iter().position(|who| *who == by) {
            round.arrived.swap_remove(at);
        }
        let here = round.arrived.len();
        drop(round);
        ended.and_then(|_| Err(err!(Timeout, "{here} of the other {} callers came in time", n - 1)))
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
