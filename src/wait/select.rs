//! Waiting for the first of many: queues, connections, threads, descriptors, in any mixture.
//!
//! What can be waited for is a [`Source`]. It says cheaply whether a call on it would go on now, and has a descriptor
//! to sleep on, which is asked for only when a sleep is near. Most are made of two closures:
//!
//! ```ignore
//! let source = source((queue, me), |(q, me)| Some(q.can_read(*me)), |(q, me)| q.read_fd(*me));
//! ```
//!
//! Imports its siblings `deadline` (through [`Wait`]), `poll` and `threads`.

use std::fmt;
use std::os::fd::RawFd;
use std::time::Duration;

use super::poll::{Interest, SpinBudget, Woken, entry, nap_on};
use super::{Asleep, Wait};
use crate::err;
use crate::error::Result;
use crate::sys::try_push;
use crate::sys::{poll, socket::raise_descriptor_limit};

/// Something that can be waited for beside others.
pub trait Source {
    /// Whether the call that is waited for would go on now, without a system call; `None` where only the descriptor
    /// knows. What is closed, or fails otherwise, is ready: the call reports it.
    fn ready(&self) -> Option<bool>;

    /// The descriptor to sleep on, and what to poll it for. It may be ready by mistake: asking again brings it up to
    /// date.
    fn watch(&self) -> Result<(RawFd, Interest)>;
}

/// For what an object is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Something to read, or the end.
    Read,
    /// Room to write, or the end.
    Write,
}

struct Parts<T, R, F> {
    of: T,
    ready: R,
    fd: F,
    interest: Interest,
}

impl<T, R: Fn(&T) -> Option<bool>, F: Fn(&T) -> Result<RawFd>> Source for Parts<T, R, F> {
    fn ready(&self) -> Option<bool> {
        (self.ready)(&self.of)
    }

    fn watch(&self) -> Result<(RawFd, Interest)> {
        Ok(((self.fd)(&self.of)?, self.interest))
    }
}

/// A source that keeps `of` alive, with a descriptor that polls readable.
pub fn source<T: 'static>(
    of: T,
    ready: impl Fn(&T) -> Option<bool> + 'static,
    fd: impl Fn(&T) -> Result<RawFd> + 'static,
) -> Box<dyn Source> {
    source_for(Interest::Read, of, ready, fd)
}

/// As [`source`], with a descriptor that is polled for `interest`.
pub fn source_for<T: 'static>(
    interest: Interest,
    of: T,
    ready: impl Fn(&T) -> Option<bool> + 'static,
    fd: impl Fn(&T) -> Result<RawFd> + 'static,
) -> Box<dyn Source> {
    Box::new(Parts { of, ready, fd, interest })
}

/// One of those that are waited for together.
pub struct Candidate {
    /// What is waited for; `None` is ready at once.
    pub source: Option<Box<dyn Source>>,
    /// Of several that are ready the one with the lowest rank is chosen, of equal ones the first.
    pub rank: u32,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("rank", &self.rank).finish_non_exhaustive()
    }
}

impl Candidate {
    fn ready(&self) -> Option<bool> {
        self.source.as_ref().map_or(Some(true), |source| source.ready())
    }

    /// Its entry in a poll.
    fn entry(&self) -> Result<libc::pollfd> {
        let Some(source) = &self.source else { return Ok(entry(-1, 0)) };
        let (fd, interest) = source.watch()?;
        Ok(entry(fd, interest.events()))
    }
}

/// With more candidates than these the looks cost too much to be repeated before a sleep.
const FEW: usize = 8;

/// From this many descriptors on the process's soft limit may be in the way of poll.
const MANY: usize = 256;

/// Waits until one of `candidates` is ready, and says which; `None` when the deadline passes. They are looked at once
/// at least.
///
/// A candidate whose descriptor was ready by mistake is waited for further, where the candidate itself can tell.
pub fn select(candidates: &[Candidate], wait: &Wait) -> Result<Option<usize>> {
    wait.check()?;
    let mut budget = SpinBudget::new();
    loop {
        if let found @ Some(_) = look(candidates)? {
            return Ok(found);
        }
        if candidates.len() > FEW || !budget.look_again(wait) {
            break;
        }
    }
    if wait.deadline.expired() {
        return Ok(None);
    }
    if candidates.len() >= MANY {
        raise_descriptor_limit();
    }
    let mut fds = Vec::new();
    fds.try_reserve_exact(candidates.len() + 1)?;
    for (index, candidate) in candidates.iter().enumerate() {
        match candidate.entry() {
            Ok(entry) => fds.push(entry),
            // Closed since the look.
            Err(_) if candidate.ready() == Some(true) => return Ok(Some(index)),
            Err(e) => return Err(e),
        }
    }
    fds.push(entry(-1, libc::POLLIN));
    sleep(candidates, &mut fds, wait)
}

/// The one to choose so far: its rank and its index.
#[derive(Default)]
struct Best(Option<(u32, usize)>);

impl Best {
    fn takes(&self, index: usize, candidate: &Candidate) -> bool {
        self.0.is_none_or(|best| (candidate.rank, index) < best)
    }

    fn offer(&mut self, index: usize, candidate: &Candidate) {
        if self.takes(index, candidate) {
            self.0 = Some((candidate.rank, index));
        }
    }

    fn index(&self) -> Option<usize> {
        self.0.map(|(_, index)| index)
    }
}

/// One look at everyone. The system is asked about those who do not know themselves, if one of them would be chosen.
fn look(candidates: &[Candidate]) -> Result<Option<usize>> {
    let mut best = Best::default();
    let mut unsure = Vec::new();
    for (index, candidate) in candidates.iter().enumerate() {
        match candidate.ready() {
            Some(true) => best.offer(index, candidate),
            Some(false) => {}
            None => try_push(&mut unsure, index)?,
        }
    }
    unsure.retain(|index| best.takes(*index, &candidates[*index]));
    if unsure.is_empty() {
        return Ok(best.index());
    }
    let mut fds = Vec::new();
    fds.try_reserve_exact(unsure.len())?;
    for index in &unsure {
        fds.push(candidates[*index].entry()?);
    }
    poll(&mut fds, Some(Duration::ZERO))?;
    for (index, fd) in unsure.into_iter().zip(fds) {
        if fd.revents != 0 {
            best.offer(index, &candidates[index]);
        }
    }
    Ok(best.index())
}

/// `fds` are those of the candidates, and a place for the one of the cancel.
fn sleep(candidates: &[Candidate], fds: &mut [libc::pollfd], wait: &Wait) -> Result<Option<usize>> {
    let _asleep = Asleep::new(wait);
    loop {
        let woken = nap_on(fds, wait, Duration::MAX)?;
        // Whatever ended the nap, everyone is looked at: some are ready by the clock.
        let mut best = Best::default();
        for (candidate, (index, fd)) in candidates.iter().zip(fds.iter_mut().enumerate()) {
            let polled = woken == Woken::Ready && fd.revents != 0;
            match candidate.ready() {
                Some(true) => best.offer(index, candidate),
                None if polled => best.offer(index, candidate),
                Some(false) if polled && fd.revents & libc::POLLNVAL != 0 => {
                    return Err(err!(State, "descriptor {} was closed by somebody who does not own it", fd.fd));
                }
                // By mistake: asking again puts it right.
                Some(false) if polled => match candidate.entry() {
                    Ok(entry) => *fd = entry,
                    // Closed since the look.
                    Err(_) if candidate.ready() == Some(true) => best.offer(index, candidate),
                    Err(e) => return Err(e),
                },
                _ => {}
            }
        }
        if let found @ Some(_) = best.index() {
            return Ok(found);
        }
        if woken == Woken::OutOfTime {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests;
