//! The lock of src/sys: one at a time has it, sees what the one before did, and nobody sleeps while it is free.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU32;
use loom::thread;
use models::sys::word_lock::{FREE, lock, unlock};

struct Counter {
    word: AtomicU32,
    count: UnsafeCell<u32>,
}

// SAFETY: loom tells when two threads use the cell at once.
unsafe impl Sync for Counter {}

#[test]
fn increments_under_the_lock_are_not_lost() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(|| {
        let counter = Arc::new(Counter { word: AtomicU32::new(FREE), count: UnsafeCell::new(0) });
        let threads = [(); 2].map(|()| {
            let its = counter.clone();
            thread::spawn(move || count(&its))
        });
        count(&counter);
        threads.into_iter().for_each(|t| t.join().unwrap());
        lock(&counter.word);
        // SAFETY: as above.
        counter.count.with(|n| unsafe { assert_eq!(*n, 3) });
        unlock(&counter.word);
    });
}

fn count(counter: &Counter) {
    lock(&counter.word);
    // SAFETY: as above.
    counter.count.with_mut(|n| unsafe { *n += 1 });
    unlock(&counter.word);
}
