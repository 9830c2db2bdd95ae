//! Forks in the middle of critical sections.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicBool;
use std::thread::scope;

use super::super::fork::tests::in_child;
use super::*;

/// Two numbers that are equal outside critical sections.
#[derive(Default)]
struct Pair(AtomicU64, AtomicU64);

impl Pair {
    fn raise(&self) {
        let n = self.0.load(Ordering::Relaxed) + 1;
        self.0.store(n, Ordering::Relaxed);
        for _ in 0..20 {
            std::hint::spin_loop();
        }
        self.1.store(n, Ordering::Relaxed);
    }

    fn is_whole(&self) -> bool {
        self.0.load(Ordering::Relaxed) == self.1.load(Ordering::Relaxed)
    }
}

fn inside_now() -> usize {
    HERE.with(|here| {
        let mut n = CROWD.load(Ordering::SeqCst) as usize;
        others(here, |record| {
            n += usize::from(gate::is_inside(&record.depth));
            true
        });
        n
    })
}

#[test]
fn a_fork_never_falls_into_a_section_of_another_thread() {
    let stop = AtomicBool::new(false);
    let pairs: [Pair; 3] = Default::default();
    scope(|s| {
        for pair in &pairs {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let outer = Critical::enter();
                    pair.raise();
                    drop(Critical::enter());
                    pair.raise();
                    drop(outer);
                }
            });
        }
        // Threads that come and go, and forks by two threads at once.
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                std::thread::spawn(|| drop(Critical::enter())).join().unwrap();
            }
        });
        let forks = || (0..60).map(|_| in_child(|| pairs.iter().all(Pair::is_whole) && inside_now() == 0)).collect();
        let other = s.spawn(forks);
        let codes: Vec<i32> = forks();
        let others: Vec<i32> = other.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        assert_eq!((codes, others), (vec![0; 60], vec![0; 60]));
    });
}

#[test]
fn the_kernel_makes_the_fence_where_it_can() {
    assert_eq!(GATE.load(Ordering::SeqCst) & FENCED == 0, barrier_everywhere());
    // In the child of a fork too.
    assert_eq!(in_child(|| (GATE.load(Ordering::SeqCst) & FENCED == 0) == barrier_everywhere()), 0);
}

#[test]
fn without_the_kernels_fence_a_fork_does_not_fall_into_a_section_either() {
    // In a child, which has no other tests at the same time.
    let code = in_child(|| {
        GATE.fetch_or(FENCED, Ordering::SeqCst);
        let (pair, stop) = (Pair::default(), AtomicBool::new(false));
        scope(|s| {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _section = Critical::enter();
                    pair.raise();
                }
            });
            let whole = (0..60).all(|_| in_child(|| pair.is_whole() && inside_now() == 0) == 0);
            stop.store(true, Ordering::Relaxed);
            whole
        })
    });
    assert_eq!(code, 0);
}

#[test]
fn a_thread_that_forks_in_its_own_section_goes_on_there_in_parent_and_child() {
    let code = in_child(|| {
        let section = Critical::enter();
        let inner = in_child(|| {
            // As in a signal's handler.
            let nested = Critical::enter();
            drop(nested);
            drop(section);
            // SAFETY: this thread has a record, and records are never freed.
            HERE.with(|here| here.forks.get() == 0 && !gate::is_inside(unsafe { &(*here.record.get()).depth }))
                && GATE.load(Ordering::SeqCst) & (FORKS | TORN) == 0
        });
        inner == 0 && !is_torn()
    });
    assert_eq!(code, 0);
}

#[test]
fn a_thread_that_ends_gives_its_record_back_and_may_enter_until_its_very_end() {
    struct Late;
    thread_local!(static LATE: Late = const { Late });
    static ENTERED: AtomicU32 = AtomicU32::new(0);
    impl Drop for Late {
        fn drop(&mut self) {
            let outer = Critical::enter();
            drop(Critical::enter());
            drop(outer);
            ENTERED.fetch_add(1, Ordering::SeqCst);
        }
    }
    // In a child, where no other test has threads.
    let code = in_child(|| {
        let records = || {
            let mut n = 0;
            HERE.with(|here| {
                others(here, |_| {
                    n += 1;
                    true
                })
            });
            n
        };
        // Those of the parent's threads are here, too.
        let before = records();
        for i in 0..50 {
            std::thread::spawn(move || {
                // Its destructor runs before or after that of the record.
                if i % 2 == 0 {
                    LATE.with(|_| ());
                }
                drop(Critical::enter());
                LATE.with(|_| ());
            })
            .join()
            .unwrap();
        }
        records() <= before + 1 + 50 / 2 && ENTERED.load(Ordering::SeqCst) == 50 && inside_now() == 0
    });
    assert_eq!(code, 0);
}

#[test]
fn who_would_enter_during_a_fork_waits_and_the_thread_that_forks_does_not() {
    let code = in_child(|| {
        let entered = AtomicBool::new(false);
        let quiet = quiesce().unwrap();
        scope(|s| {
            let other = s.spawn(|| {
                drop(Critical::enter());
                entered.store(true, Ordering::SeqCst);
            });
            drop(Critical::enter());
            std::thread::sleep(Duration::from_millis(20));
            let waits = !entered.load(Ordering::SeqCst);
            drop(quiet);
            other.join().unwrap();
            waits && entered.load(Ordering::SeqCst)
        })
    });
    assert_eq!(code, 0);
}

#[test]
fn a_thread_that_stays_inside_makes_our_fork_an_error_and_the_child_of_another_torn() {
    let code = in_child(|| {
        PATIENCE.store(30, Ordering::Relaxed);
        let (inside, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let tid = AtomicU32::new(0);
        scope(|s| {
            s.spawn(|| {
                let _section = Critical::enter();
                tid.store(gettid() as u32, Ordering::SeqCst);
                inside.store(true, Ordering::SeqCst);
                while !stop.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            });
            while !inside.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let refused = quiesce().err() == Some(tid.load(Ordering::SeqCst));
            let torn = in_child(|| {
                let entered = std::panic::catch_unwind(|| drop(Critical::enter()));
                // Its own children are torn too.
                is_torn() && entered.is_err_and(|e| e.is::<Torn>()) && in_child(is_torn) == 0
            });
            stop.store(true, Ordering::SeqCst);
            refused && torn == 0 && !is_torn()
        }) && quiesce().is_ok()
            && in_child(|| !is_torn()) == 0
    });
    assert_eq!(code, 0);
}
