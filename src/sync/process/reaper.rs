//! Children whose owner has gone: a thread of ours hears of their end, so that none of them stays as a zombie. It runs
//! only while there are such.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use crate::sys::{Event, Fd, Lock, SetOnce, close_later, fork_generation, pidfd, reap, spawn_quiet};
use crate::wait::{Deadline, Interest, Wait, Watch, poll_many, show_background_thread};

/// How often children are asked for that nothing tells of, in seconds.
const LOOK: f64 = 0.05;

#[derive(Debug, Default)]
struct Orphans {
    /// Of which process they are children.
    generation: u32,
    /// Each with what tells of its end.
    children: Vec<(i32, Option<Arc<Fd>>)>,
    /// Wakes the thread; there while it runs.
    wake: Option<Arc<Event>>,
}

fn orphans() -> &'static Lock<Orphans> {
    static ORPHANS: SetOnce<Lock<Orphans>> = SetOnce::new();
    ORPHANS.get_or_init(Lock::default)
}

/// Takes child `pid` over. Waits for nothing: this may be a collector of garbage.
pub(super) fn adopt(pid: i32, fd: Option<Arc<Fd>>) {
    close_later();
    let fd = fd.or_else(|| pidfd(pid).map(Arc::new));
    let spare = Event::new().ok().map(Arc::new);
    let started = {
        let mut orphans = orphans().lock();
        if orphans.generation != fork_generation() {
            // Those are the parent's, and so is its thread.
            *orphans = Orphans { generation: fork_generation(), ..Orphans::default() };
        }
        orphans.children.push((pid, fd));
        match &orphans.wake {
            Some(wake) => {
                wake.set();
                None
            }
            None => {
                orphans.wake.clone_from(&spare);
                spare
            }
        }
    };
    // Without descriptors or threads to be had they wait for the next one that comes.
    if let Some(wake) = started
        && spawn_quiet("libipc reaper", move || run(&wake)).is_err()
    {
        orphans().lock().wake = None;
    }
}

/// The thread: ends when there is nobody left.
fn run(wake: &Event) {
    show_background_thread();
    loop {
        let mut watches = Vec::new();
        let mut told = true;
        {
            let mut orphans = orphans().lock();
            wake.clear();
            orphans.children.retain(|(pid, _)| matches!(reap(*pid), Ok(None)));
            if orphans.children.is_empty() {
                orphans.wake = None;
                return;
            }
            for (_, fd) in &orphans.children {
                told &= fd.is_some();
                // Only this thread lets go of them, so they are good as long as it sleeps.
                watches.extend(fd.as_ref().map(|fd| Watch::new(fd.as_raw_fd(), Interest::Read)));
            }
        }
        let Ok(fd) = wake.fd() else { return };
        watches.push(Watch::new(fd as RawFd, Interest::Read));
        let deadline = if told { Deadline::NEVER } else { Deadline::after(LOOK) };
        if poll_many(&mut watches, &Wait::until(deadline)).is_err() {
            std::thread::sleep(std::time::Duration::from_secs_f64(LOOK));
        }
    }
}
