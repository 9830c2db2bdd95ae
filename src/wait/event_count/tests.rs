#![allow(clippy::unwrap_used)]
use super::*;
use crate::error::Code;
use crate::wait::{Cancel, Deadline, Interest, Interrupt, poll_fd};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

fn take(items: &AtomicU64) -> Option<()> {
    items.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).ok().map(|_| ())
}

#[test]
fn a_condition_that_holds_is_found_without_time() {
    let wait = Wait::until(Deadline::now());
    assert_eq!(EventCount::new().wait_until(&wait, || Some(7)).unwrap(), Some(7));
    assert_eq!(EventCount::new().wait_until(&wait, || None::<()>).unwrap(), None);
}

#[test]
fn no_wake_up_is_lost_between_many_waiters_and_notifiers() {
    const EACH: u64 = 20_000;
    let (changes, items) = (EventCount::new(), AtomicU64::new(0));
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                for _ in 0..EACH {
                    let wait = Wait::until(Deadline::NEVER);
                    changes.wait_until(&wait, || take(&items)).unwrap().unwrap();
                }
            });
            s.spawn(|| {
                for i in 0..EACH {
                    items.fetch_add(1, Ordering::Relaxed);
                    changes.notify_one();
                    if i % 512 == 0 {
                        // Lets the waiters fall asleep.
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
            });
        }
    });
    assert_eq!(items.load(Ordering::SeqCst), 0);
    assert_eq!(changes.state.load(Ordering::SeqCst), 0);
}

#[test]
fn a_cancel_ends_a_sleep_and_every_later_call() {
    for pause in [0, 300] {
        let (changes, who) = (EventCount::new(), Cancel::new());
        std::thread::scope(|s| {
            s.spawn(|| {
                let wait = Wait { deadline: Deadline::NEVER, interrupt: &who };
                assert_eq!(changes.wait_until(&wait, || None::<()>).unwrap_err().code(), Code::Cancelled);
            });
            std::thread::sleep(Duration::from_micros(pause));
            who.fire();
            who.fire();
        });
        let wait = Wait { deadline: Deadline::NEVER, interrupt: &who };
        assert_eq!(changes.wait_until(&wait, || Some(())).unwrap_err().code(), Code::Cancelled);
        assert_eq!(super::super::sleep(&wait).unwrap_err().code(), Code::Cancelled);
    }
}

#[test]
fn a_signal_of_the_system_reaches_the_interrupt() {
    struct Fails;
    impl Interrupt for Fails {
        fn on_signal(&self) -> Result<()> {
            Err(crate::err!(Raised, "interrupted"))
        }
        fn takes_signals(&self) -> bool {
            true
        }
    }
    extern "C" fn nothing(_: i32) {}
    // With SA_RESTART, as the interpreters install it.
    // SAFETY: an empty handler, installed for a signal that nothing else here uses.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let done = AtomicU32::new(0);
    std::thread::scope(|s| {
        let (tx, rx) = std::sync::mpsc::channel();
        let done = &done;
        s.spawn(move || {
            // SAFETY: the handle of the calling thread.
            tx.send(unsafe { libc::pthread_self() }).unwrap();
            let wait = Wait { deadline: Deadline::NEVER, interrupt: &Fails };
            let e = EventCount::new().wait_until(&wait, || None::<()>).unwrap_err();
            done.store(1, Ordering::SeqCst);
            assert_eq!(e.code(), Code::Raised);
        });
        let thread = rx.recv().unwrap();
        while done.load(Ordering::SeqCst) == 0 {
            // SAFETY: the scope keeps the thread joinable, so the handle is valid.
            unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn the_descriptor_follows_the_condition() {
    let (changes, items) = (EventCount::new(), AtomicU64::new(1));
    let ready = || items.load(Ordering::SeqCst) > 0;
    let fd = changes.fd(ready).unwrap();
    let readable = || poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap();
    assert!(readable());
    items.store(0, Ordering::SeqCst);
    changes.refresh(ready);
    assert!(!readable());
    items.store(1, Ordering::SeqCst);
    changes.notify_one();
    changes.refresh(ready);
    assert!(readable());
    assert_eq!(changes.fd(ready).unwrap(), fd);
}

#[test]
fn a_forked_child_calls_its_own_waiters_not_those_that_are_not_there() {
    // As a fork may find it: one asleep, one that looks, the call on its way, and more that came.
    for there in [1, CALLED | 1, CALLED | MORE | 2, LOOKS | 1, LOOKS | CALLED | MORE | 3] {
        let (changes, items) = (EventCount::new(), AtomicU64::new(0));
        changes.state.store(there, Ordering::SeqCst);
        let woken = || {
            std::thread::scope(|s| {
                s.spawn(|| {
                    // Until it sleeps.
                    while changes.state.load(Ordering::SeqCst) != 1 {
                        std::thread::yield_now();
                    }
                    std::thread::sleep(Duration::from_millis(5));
                    items.store(1, Ordering::SeqCst);
                    changes.notify_one();
                });
                let wait = Wait::until(Deadline::after(60.0));
                changes.wait_until(&wait, || take(&items)).unwrap().is_some()
            }) && changes.state.load(Ordering::SeqCst) == 0
        };
        assert_eq!(crate::sys::fork_for_tests(woken), 0, "{there:x}");
        assert_eq!(changes.state.load(Ordering::SeqCst), there);
    }
}

#[test]
fn who_forks_in_a_wait_is_a_waiter_of_the_child() {
    struct Forks<'a>(&'a EventCount, &'a AtomicU64);
    impl Interrupt for Forks<'_> {
        fn on_signal(&self) -> Result<()> {
            let (changes, items) = (self.0, self.1);
            let code = crate::sys::fork_for_tests(|| {
                // The rest of the wait, in the child.
                let mut waiting = Waiting { events: changes, generation: fork_generation() - 1, pass_on: false };
                waiting.answer();
                let counted = changes.state.load(Ordering::SeqCst) == 1;
                drop(waiting);
                counted && changes.state.load(Ordering::SeqCst) == 0
            });
            assert_eq!(code, 0);
            assert_eq!(changes.state.load(Ordering::SeqCst), 1);
            items.store(1, Ordering::SeqCst);
            Ok(())
        }
        fn takes_signals(&self) -> bool {
            true
        }
    }
    let (changes, items) = (EventCount::new(), AtomicU64::new(0));
    let wait = Wait { deadline: Deadline::after(60.0), interrupt: &Forks(&changes, &items) };
    assert_eq!(changes.wait_until(&wait, || take(&items)).unwrap(), Some(()));
    assert_eq!(changes.state.load(Ordering::SeqCst), 0);
}
