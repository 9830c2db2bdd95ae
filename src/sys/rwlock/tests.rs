use super::super::fork::tests::in_child;
use super::*;
use std::sync::atomic::AtomicBool;
use std::thread::scope;

#[test]
fn writers_exclude_one_another_and_readers_see_whole_values() {
    let lock = RwLock::new((0u64, 0u64));
    scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                for _ in 0..10_000 {
                    let mut pair = lock.write();
                    pair.0 += 1;
                    std::hint::black_box(&mut *pair);
                    pair.1 += 1;
                }
            });
            s.spawn(|| {
                for _ in 0..10_000 {
                    let pair = lock.read();
                    assert_eq!(pair.0, pair.1);
                }
            });
        }
    });
    assert_eq!(*lock.read(), (30_000, 30_000));
    let raw = &lock.raw;
    let left = [&raw.word, &raw.readers.count, &raw.writers.count].map(|n| n.load(Ordering::SeqCst));
    assert_eq!(left, [0, 0, 0]);
}

#[test]
fn readers_do_not_wait_for_readers() {
    let lock = RwLock::new(7);
    let first = lock.read();
    scope(|s| assert_eq!(s.spawn(|| *lock.read()).join().ok(), Some(7)));
    drop(first);
}

#[test]
fn a_stream_of_readers_does_not_keep_a_writer_out() {
    let (lock, stop) = (RwLock::new(0), AtomicBool::new(false));
    scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // Overlapping: there is a reader nearly always.
                    let guard = lock.read();
                    (0..200).for_each(|_| std::hint::spin_loop());
                    drop(guard);
                }
            });
        }
        (0..200).for_each(|_| *lock.write() += 1);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(*lock.read(), 200);
}

#[test]
fn many_writers_keep_no_reader_out_and_many_readers_no_writer() {
    let (lock, stop) = (RwLock::new(0u64), AtomicBool::new(false));
    scope(|s| {
        for writes in [true, true, true, false, false, false] {
            let (lock, stop) = (&lock, &stop);
            s.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if writes {
                        *lock.write() += 1;
                    } else {
                        std::hint::black_box(*lock.read());
                    }
                }
            });
        }
        let others = [true, false].map(|writes| {
            let lock = &lock;
            s.spawn(move || {
                for _ in 0..300 {
                    if writes {
                        *lock.write() += 1
                    } else {
                        _ = std::hint::black_box(*lock.read())
                    }
                    std::thread::yield_now();
                }
            })
        });
        others.into_iter().for_each(|thread| assert!(thread.join().is_ok()));
        stop.store(true, Ordering::Relaxed);
    });
    let raw = &lock.raw;
    let left = [&raw.word, &raw.readers.count, &raw.writers.count].map(|n| n.load(Ordering::SeqCst));
    assert_eq!(left, [0, 0, 0]);
}

#[test]
fn a_child_finds_it_free_and_no_value_half_changed() {
    let (pair, stop) = (RwLock::new((0u64, 0u64)), AtomicBool::new(false));
    scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let mut p = pair.write();
                p.0 += 1;
                std::hint::black_box(&mut *p);
                p.1 += 1;
                drop(p);
            }
        });
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let p = pair.read();
                assert_eq!(p.0, p.1);
            }
        });
        let codes: Vec<_> = (0..30)
            .map(|_| {
                in_child(|| {
                    let p = *pair.read();
                    *pair.write() = (0, 0);
                    p.0 == p.1
                })
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(codes, vec![0; 30]);
    });
}
