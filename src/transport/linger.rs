//! TCP sockets of connections that are closed while the peer's system has not confirmed all that was sent.
//!
//! A system that closes a TCP socket of which something is unread, or to which more comes afterwards, resets the
//! connection. It then drops what was sent and is still on its way; what the peer's system has, the peer can read. So
//! such a socket ends its sending direction only, and stays open behind the connection. One thread of the process reads
//! and drops what comes, until all is confirmed or the peer has gone. It runs only while there are such sockets.
//!
//! A peer that takes nothing for long, or that is one of too many, is left to the system: the socket is closed with
//! nothing unread, and the system goes on sending by itself, until the peer sends something. So it is when the process
//! ends, a moment later: [`at_end`].
//!
//! In the child of a fork such sockets are closed as all others, and stay with the parent. Imports no siblings.

use std::os::fd::AsRawFd;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

use crate::sys::socket::{descriptor_limit, discard, shutdown, unconfirmed};
use crate::sys::{
    Event, Fd, Lock, SetOnce, at_exit, close_later, fork_generation, is_torn, monotonic_ns, spawn_quiet, try_push,
};
use crate::wait::{Deadline, Interest, Wait, Watch, show_background_thread, sleep_on_many};

/// So many such sockets are kept open, and no more than a quarter of the descriptors that the process may have.
const MOST: usize = 1024;

/// How long a peer may take nothing, in nanoseconds.
const PATIENCE: u64 = 300_000_000_000;

/// After how many seconds sockets are asked whether all is confirmed, of which nothing tells: at first, and at most.
const PAUSES: (f64, f64) = (0.001, 0.25);

/// How long the end of the process waits while peers take what was sent, and while they take nothing, in nanoseconds.
const AT_END: (u64, u64) = (2_000_000_000, 200_000_000);

/// A socket that is closed with nothing unread, unless more comes this very moment.
#[derive(Debug)]
struct Socket {
    fd: Fd,
    /// How many bytes are not confirmed, and since when.
    left: usize,
    since: u64,
}

impl Socket {
    fn new(fd: Fd) -> Socket {
        Socket { left: unconfirmed(fd.as_raw_fd()), fd, since: monotonic_ns() }
    }

    /// Whether it is still to be kept, and whether anything has moved.
    fn look(&mut self) -> (bool, bool) {
        let fd = self.fd.as_raw_fd();
        let Some(came) = discard(fd) else { return (false, true) };
        let (left, now) = (unconfirmed(fd), monotonic_ns());
        let went = left < self.left;
        if went {
            (self.left, self.since) = (left, now);
        }
        (left > 0 && now - self.since < PATIENCE, came || went)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Of another process, after a fork, it has been closed.
        if self.fd.is_ours() {
            let _ = discard(self.fd.as_raw_fd());
            // Lets the peer know even where a child process still holds a copy of the descriptor.
            shutdown(self.fd.as_raw_fd());
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Of which process they are.
    generation: u32,
    /// Those that the thread has not taken over yet.
    arrived: Vec<Socket>,
    /// Wakes the thread; there while it runs.
    wake: Option<Arc<Event>>,
    /// When anything moved last.
    moved: u64,
    /// Whether [`at_end`] runs at the end of the process.
    at_exit: bool,
    /// Since when the process ends and waits for this; 0: it does not.
    ends_since: u64,
}

fn state() -> &'static Lock<State> {
    static STATE: SetOnce<Lock<State>> = SetOnce::new();
    STATE.get_or_init(Lock::default)
}

/// Keeps `fd`, whose sending direction has ended, open until the peer's system has what was sent. Waits for nothing:
/// this may be a collector of garbage.
pub(super) fn linger(fd: Fd) {
    if !fd.is_ours() {
        return;
    }
    close_later();
    let socket = Socket::new(fd);
    let mut oldest = None;
    let mut started = None;
    let has_thread = {
        let mut state = state().lock();
        if state.generation != fork_generation() {
            // Those are the parent's, and so is its thread. What is registered for the end holds for the child, too.
            let at_exit = state.at_exit;
            *state = State { generation: fork_generation(), at_exit, ..State::default() };
        }
        if !state.at_exit {
            at_exit(at_end);
            state.at_exit = true;
        }
        state.moved = socket.since;
        if state.arrived.len() >= MOST {
            oldest = Some(state.arrived.remove(0));
        }
        // Where there is no memory for one more it is closed.
        let _ = try_push(&mut state.arrived, socket);
        match &state.wake {
            Some(wake) => wake.set(),
            None => {
                started = Event::new().ok().map(Arc::new);
                state.wake.clone_from(&started);
            }
        }
        state.wake.is_some()
    };
    drop(oldest);
    match started {
        Some(wake) => {
            let own = wake.clone();
            if spawn_quiet("ipc-lingering", move || run(&own)).is_err() {
                give_up(Some(&wake));
            }
        }
        None if !has_thread => give_up(None),
        None => {}
    }
}

/// There is no descriptor for an event, or no thread for `wake`: leaves to the system what was to go to one, unless
/// another thread has been started since.
fn give_up(wake: Option<&Arc<Event>>) {
    let left = {
        let mut state = state().lock();
        if state.wake.as_ref().is_some_and(|there| !wake.is_some_and(|wake| Arc::ptr_eq(there, wake))) {
            return;
        }
        state.wake = None;
        std::mem::take(&mut state.arrived)
    };
    drop(left);
}

/// The thread: ends when there is no socket left.
fn run(wake: &Event) {
    show_background_thread();
    let mut all: Vec<Socket> = Vec::new();
    let mut pause = PAUSES.0;
    loop {
        let mut moved = false;
        all.retain_mut(|socket| {
            let (keep, has_moved) = socket.look();
            moved |= has_moved;
            keep
        });
        let arrived = {
            let mut state = state().lock();
            wake.clear();
            if moved {
                state.moved = monotonic_ns();
            }
            if state.arrived.is_empty() && all.is_empty() {
                state.wake = None;
                return;
            }
            if state.ends_since != 0 || !state.arrived.is_empty() {
                pause = PAUSES.0;
            }
            std::mem::take(&mut state.arrived)
        };
        if !arrived.is_empty() {
            take_over(&mut all, arrived, MOST.min(descriptor_limit() / 4));
            continue;
        }
        sleep(&all, wake, pause);
        pause = (pause * 2.0).min(PAUSES.1);
    }
}

/// The oldest of more than `most` are closed, and those for which there is no memory.
fn take_over(all: &mut Vec<Socket>, arrived: Vec<Socket>, most: usize) {
    if all.try_reserve(arrived.len()).is_ok() {
        all.extend(arrived);
    }
    drop(all.drain(..all.len().saturating_sub(most)));
}

/// Until one of them has something to read, more arrive, or `pause` is over.
fn sleep(all: &[Socket], wake: &Event, pause: f64) {
    let mut watches = Vec::new();
    let polled = watches.try_reserve_exact(all.len() + 1).is_ok() && {
        watches.extend(all.iter().map(|socket| Watch::new(socket.fd.as_raw_fd(), Interest::Read)));
        watches.extend(wake.fd().map(|fd| Watch::new(fd, Interest::Read)));
        sleep_on_many(&mut watches, &Wait::until(Deadline::after(pause))).is_ok()
    };
    if !polled {
        std::thread::sleep(Duration::from_secs_f64(pause));
    }
}

/// The process ends: peers that take what was sent may do so, for a moment. The rest is the system's: nothing is unread
/// in these sockets.
extern "C" fn at_end() {
    if is_torn() {
        return;
    }
    let _ = catch_unwind(|| {
        // What is left by those that end after this has it called once more.
        let began = {
            let mut state = state().lock();
            state.at_exit = false;
            if state.ends_since == 0 {
                state.ends_since = monotonic_ns();
            }
            state.ends_since
        };
        loop {
            {
                let state = state().lock();
                let (Some(wake), true) = (&state.wake, state.generation == fork_generation()) else { return };
                wake.set();
                let now = monotonic_ns();
                let still = now.saturating_sub(state.moved.max(began));
                if now - began > AT_END.0 || still > AT_END.1 {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::socket::pair;

    #[test]
    fn the_oldest_of_too_many_are_closed() {
        let ends: Vec<_> = (0..5).map(|_| pair().unwrap()).collect();
        let (here, _there): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
        let mut here = here.into_iter().map(Socket::new);
        let mut all = Vec::new();
        take_over(&mut all, here.by_ref().take(2).collect(), 3);
        assert_eq!(all.len(), 2);
        let kept: Vec<_> = here.collect();
        let newest: Vec<_> = kept.iter().map(|socket| socket.fd.as_raw_fd()).collect();
        take_over(&mut all, kept, 3);
        assert_eq!(all.iter().map(|socket| socket.fd.as_raw_fd()).collect::<Vec<_>>(), newest);
    }
}
