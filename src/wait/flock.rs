//! Waiting for the lock of a file. Imports its siblings `deadline`, `park` and `threads`.
//!
//! The kernel wakes only who blocks in `flock(2)` itself, which no deadline, cancel or Ctrl-C would end; so a waiter
//! looks again and again, at first after a quarter of a millisecond, later each hundredth of a second.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use super::{Asleep, Deadline, Wait, sleep};
use crate::error::{Error, Result};
use crate::sys::{FileLock, LockFile};

const FIRST_PAUSE: f64 = 0.00025;
const LONGEST_PAUSE: f64 = 0.01;

/// Locks the file at `path`; `None` when time runs out, or when the file is missing and `create` is false.
pub fn flock(path: &Path, create: bool, wait: &Wait) -> Result<Option<FileLock>> {
    // A call that is tried goes on with its pauses at each try.
    let pause = match wait.interrupt.non_blocking() {
        Some(non_blocking) => non_blocking.state(|| Ok::<_, Error>(Cell::new(FIRST_PAUSE)))?,
        None => Rc::new(Cell::new(FIRST_PAUSE)),
    };
    let mut asleep = None;
    loop {
        wait.check()?;
        let Some(file) = LockFile::open(path, create)? else { return Ok(None) };
        while !file.try_lock()? {
            if wait.deadline.expired() {
                return Ok(None);
            }
            asleep = asleep.or_else(|| Asleep::new(wait));
            let this_pause = pause.replace(f64::min(pause.get() * 1.5, LONGEST_PAUSE));
            sleep(&wait.sooner(Deadline::after(this_pause)))?;
        }
        // The one before us may have removed it: then there is another to lock, or none.
        if file.is_in_place() {
            return Ok(Some(file.locked()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Cancel;
    use super::*;
    use crate::error::Code;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn path(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("ipc-wait-flock-{name}-{}", std::process::id()))
    }

    #[test]
    fn threads_exclude_one_another_and_lose_nothing() {
        let path = path("threads");
        let inside = AtomicU32::new(0);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..25 {
                        let lock = flock(&path, true, &Wait::until(Deadline::NEVER)).unwrap().unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        let n: u32 = String::from_utf8(lock.read().unwrap()).unwrap().parse().unwrap_or(0);
                        lock.write((n + 1).to_string().as_bytes()).unwrap();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(std::fs::read(&path).unwrap(), b"100");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_waiter_stops_in_time_and_when_it_is_cancelled() {
        let path = path("stops");
        let now = Wait::until(Deadline::now());
        assert!(flock(&path, false, &now).unwrap().is_none());
        let lock = flock(&path, true, &now).unwrap().unwrap();
        assert!(flock(&path, true, &now).unwrap().is_none());
        assert!(flock(&path, true, &Wait::until(Deadline::after(0.01))).unwrap().is_none());
        let who = Cancel::new();
        std::thread::scope(|s| {
            s.spawn(|| {
                let wait = Wait { deadline: Deadline::NEVER, interrupt: &who };
                assert_eq!(flock(&path, true, &wait).unwrap_err().code(), Code::Cancelled);
            });
            who.fire();
        });
        drop(lock);
        assert!(flock(&path, false, &now).unwrap().is_some());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_its_holder_removes_is_made_anew() {
        let path = path("removed");
        let first = flock(&path, true, &Wait::until(Deadline::NEVER)).unwrap().unwrap();
        std::thread::scope(|s| {
            let next = s.spawn(|| flock(&path, true, &Wait::until(Deadline::NEVER)).unwrap().unwrap());
            std::thread::sleep(std::time::Duration::from_millis(2));
            std::fs::remove_file(&path).unwrap();
            first.close();
            let next = next.join().unwrap();
            next.write(b"mine").unwrap();
        });
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        std::fs::remove_file(path).unwrap();
    }
}
