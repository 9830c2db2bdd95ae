//! The gate of src/sys: a fork that found nobody inside has nobody inside, and sees all that was done there.
//!
//! This is the protocol with fences of its own. Where the kernel makes the fence for the threads that enter, it makes
//! it in each of them: loom has no such thing, and src/sys/fork_gate.rs has the reason why that comes to the same.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU32;
use loom::thread;
use models::sys::fork_gate::{FENCED, close, enter, enter_fenced, is_inside, leave, open};

struct Process {
    gate: AtomicU32,
    depths: [AtomicU32; 2],
    /// What each thread changes inside.
    data: [UnsafeCell<u32>; 2],
}

// SAFETY: loom tells when two threads use a cell at once.
unsafe impl Sync for Process {}

impl Process {
    fn new() -> Arc<Process> {
        Arc::new(Process {
            gate: AtomicU32::new(FENCED),
            depths: [AtomicU32::new(0), AtomicU32::new(0)],
            data: [UnsafeCell::new(0), UnsafeCell::new(0)],
        })
    }

    /// Changes what thread `n` has, by one and one, in a section; false where a fork is going on.
    fn change(&self, n: usize) -> bool {
        if !enter_fenced(&self.gate, &self.depths[n]) {
            return false;
        }
        self.raise(n);
        // A section in a section is entered whatever the gate says: its thread is inside.
        self.raise(n);
        leave(&self.depths[n]);
        true
    }

    fn raise(&self, n: usize) {
        // SAFETY: as above.
        self.data[n].with_mut(|data| unsafe { *data += 1 });
    }

    /// What a child would find.
    fn fork(&self, others: &[usize]) -> Vec<u32> {
        assert!(!close(&self.gate), "nobody enters without a fence");
        for &n in others {
            while is_inside(&self.depths[n]) {
                thread::yield_now();
            }
        }
        // SAFETY: as above.
        let found = others.iter().map(|&n| self.data[n].with(|data| unsafe { *data })).collect();
        open(&self.gate);
        found
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(model);
}

#[test]
fn a_fork_finds_no_change_half_done() {
    check(|| {
        let process = Process::new();
        let threads = [0, 1].map(|n| {
            let process = process.clone();
            thread::spawn(move || process.change(n))
        });
        assert!(process.fork(&[0, 1]).iter().all(|n| n % 2 == 0));
        threads.into_iter().for_each(|t| _ = t.join().unwrap());
        assert_eq!(process.fork(&[0, 1]).len(), 2);
    });
}

#[test]
fn two_threads_that_fork_at_once_both_come_through_and_open_the_gate() {
    check(|| {
        let process = Process::new();
        let other = process.clone();
        let fork = thread::spawn(move || other.fork(&[0]));
        process.change(0);
        process.fork(&[1]);
        assert_eq!(fork.join().unwrap()[0] % 2, 0);
        assert!(process.change(0) && process.change(1));
    });
}

#[test]
fn without_a_fence_nobody_enters_a_gate_that_calls_for_one() {
    check(|| {
        let process = Process::new();
        assert!(!enter(&process.gate, &process.depths[0]) && !is_inside(&process.depths[0]));
    });
}
