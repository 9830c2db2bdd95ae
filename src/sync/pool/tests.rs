#![allow(clippy::unwrap_used)]
use super::*;
use crate::error::Code;
use crate::sync::{Batch, Next, Stage};
use crate::wait::{Deadline, sleep};
use crate::wire::Message;
use std::sync::atomic::AtomicU32;

fn forever() -> Wait<'static> {
    Wait::until(Deadline::NEVER)
}

/// What a task of these tests does: the first byte of its values says it.
const ECHO: u8 = 0;
const FAIL: u8 = 1;
/// Sleeps until it is cancelled.
const SLEEP: u8 = 2;
const PANIC: u8 = 3;
/// As SLEEP, but ends well all the same.
const SHRUG: u8 = 4;

fn task(what: u8, n: u8) -> Task {
    Task { values: Message { bytes: vec![what, n], ..Message::default() }, ..Task::default() }
}

/// A worker that starts well and does what it is told.
fn work(source: &TaskSource) -> std::result::Result<(), Failure> {
    source.ready();
    let cancel = source.cancel.clone();
    let wait = Wait { deadline: Deadline::NEVER, interrupt: &*cancel };
    while let Order::Run(task) = source.next(&wait).map_err(|e| e.to_string().into_bytes())? {
        let outcome = match task.values.bytes[0] {
            ECHO => Outcome::Done(task.values),
            FAIL => Outcome::Failed(b"no".to_vec().into()),
            SLEEP => Outcome::Failed(sleep(&wait).unwrap_err().to_string().into_bytes().into()),
            SHRUG => {
                sleep(&wait).unwrap_err();
                Outcome::Done(task.values)
            }
            // A panic that prints nothing.
            _ => std::panic::resume_unwind(Box::new("as told")),
        };
        if !source.settle(outcome, None) {
            break;
        }
    }
    Ok(())
}

fn terms(count: usize) -> Terms {
    Terms { name: "test".into(), count, stack: 256 << 10, upvalues: false }
}

fn pool(count: usize) -> Arc<Pool> {
    Arc::new(Pool::start(terms(count), work).unwrap())
}

/// What an echo gave.
fn got(future: &Future) -> u8 {
    match future.wait(&forever()).unwrap() {
        Some(Outcome::Done(message)) => message.bytes[1],
        other => panic!("{other:?}"),
    }
}

fn cancelled(future: &Future) -> String {
    match future.wait(&forever()).unwrap() {
        Some(Outcome::Cancelled(how)) => String::from_utf8(how.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Waits until the task is in a worker's hands.
fn begun(future: &Future) {
    while future.stage() == Stage::Queued {
        std::thread::yield_now();
    }
}

#[test]
fn tasks_give_what_their_workers_say_again_and_again() {
    let pool = pool(3);
    let futures: Vec<_> = (0..100).map(|n| pool.submit(task(ECHO, n)).unwrap()).collect();
    for (n, future) in futures.iter().enumerate() {
        assert_eq!(got(future), n as u8);
        assert_eq!(got(future), n as u8);
        assert!(future.is_done());
        assert!(!future.cancel().unwrap());
    }
    let failed = pool.submit(task(FAIL, 0)).unwrap();
    assert!(matches!(failed.wait(&forever()).unwrap(), Some(Outcome::Failed(e)) if e.text() == b"no"));
    assert_eq!(failed.stage(), Stage::Failed);
}

#[test]
fn time_runs_out_and_changes_nothing() {
    let pool = pool(1);
    let future = pool.submit(task(SLEEP, 0)).unwrap();
    begun(&future);
    assert!(future.wait(&Wait::until(Deadline::after(0.001))).unwrap().is_none());
    assert_eq!(pool.close(&Wait::until(Deadline::now())).unwrap_err().code(), Code::Timeout);
    assert_eq!(pool.submit(task(ECHO, 1)).unwrap_err().code(), Code::Closed);
    future.cancel().unwrap();
    pool.close(&forever()).unwrap();
    assert_eq!(cancelled(&future), "while it ran");
}

#[test]
fn a_task_cancelled_in_the_queue_never_runs() {
    let pool = pool(1);
    let first = pool.submit(task(SLEEP, 0)).unwrap();
    let second = pool.submit(task(ECHO, 0)).unwrap();
    let third = pool.submit(task(ECHO, 7)).unwrap();
    begun(&first);
    assert_eq!(second.stage(), Stage::Queued);
    assert!(second.cancel().unwrap());
    assert_eq!(cancelled(&second), "before it ran");
    assert!(first.cancel().unwrap());
    assert_eq!(got(&third), 7);
}

#[test]
fn a_worker_whose_task_is_cancelled_is_replaced() {
    let pool = pool(2);
    for round in 0..200 {
        let what = if round % 2 == 0 { SLEEP } else { SHRUG };
        let futures: Vec<_> = (0..2).map(|_| pool.submit(task(what, 0)).unwrap()).collect();
        if round % 3 != 0 {
            futures.iter().for_each(|f| begun(f));
        }
        for future in &futures {
            assert!(future.cancel().unwrap());
            future.cancel().unwrap();
        }
        futures.iter().for_each(|f| assert!(cancelled(f).ends_with("it ran")));
        assert_eq!(got(&pool.submit(task(ECHO, round)).unwrap()), round);
    }
    pool.close(&forever()).unwrap();
    assert!(pool.0.queue.lock().threads.is_empty());
}

#[test]
fn a_worker_that_panics_fails_its_task_and_is_replaced() {
    let pool = pool(1);
    for n in 0..5 {
        let bad = pool.submit(task(PANIC, 0)).unwrap();
        let good = pool.submit(task(ECHO, n)).unwrap();
        assert!(matches!(bad.wait(&forever()).unwrap(), Some(Outcome::Failed(_))));
        assert_eq!(got(&good), n);
    }
    pool.close(&forever()).unwrap();
}

#[test]
fn a_pool_whose_workers_cannot_start_fails_what_is_submitted() {
    let pool = Pool::start(terms(2), |_| Err(b"no init".to_vec())).unwrap();
    let failed = (0..1000).any(|_| match pool.submit(task(ECHO, 0)) {
        Ok(future) => {
            assert!(
                matches!(future.wait(&forever()).unwrap(), Some(Outcome::Failed(e)) if e.text().ends_with(b"no init"))
            );
            false
        }
        Err(e) => {
            assert!(e.what().ends_with("no init"), "{e}");
            true
        }
    });
    assert!(failed);
    pool.close(&forever()).unwrap();
}

#[test]
fn a_pool_without_handles_does_what_was_submitted_and_its_threads_go() {
    let pool = pool(2);
    let futures: Vec<_> = (0..50).map(|n| pool.submit(task(ECHO, n)).unwrap()).collect();
    let state = Arc::downgrade(&pool.0);
    drop(pool);
    futures.iter().enumerate().for_each(|(n, f)| assert_eq!(got(f), n as u8));
    drop(futures);
    while state.strong_count() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_cancelled_pool_drops_what_is_queued_and_ends_what_runs() {
    let pool = pool(2);
    let futures: Vec<_> = (0..10).map(|_| pool.submit(task(SLEEP, 0)).unwrap()).collect();
    futures[..2].iter().for_each(|f| begun(f));
    pool.cancel().unwrap();
    pool.cancel().unwrap();
    let how: Vec<_> = futures.iter().map(|f| cancelled(f)).collect();
    assert!(how[..2].iter().all(|h| h == "while it ran") && how[2..].iter().all(|h| h == "before it ran"), "{how:?}");
    pool.close(&forever()).unwrap();
}

#[test]
fn a_batch_gives_its_futures_as_they_end() {
    let pool = pool(2);
    let batch = Batch::new(pool.clone());
    let other = Batch::new(pool.clone());
    assert!(batch.is_ready());
    assert!(matches!(batch.next(&forever()).unwrap(), Next::Nothing));
    let (one, slow) = batch.submit(task(SLEEP, 0)).unwrap();
    let (two, _) = batch.submit(task(ECHO, 9)).unwrap();
    other.submit(task(ECHO, 1)).unwrap();
    assert_eq!((one, two, batch.pending()), (1, 2, 2));
    let Next::Future((2, quick)) = batch.next(&forever()).unwrap() else { panic!("not the second") };
    assert_eq!(got(&quick), 9);
    assert!(matches!(batch.next(&Wait::until(Deadline::now())).unwrap(), Next::OutOfTime));
    slow.cancel().unwrap();
    assert!(matches!(batch.next(&forever()).unwrap(), Next::Future((1, _))));
    assert!(matches!(batch.next(&forever()).unwrap(), Next::Nothing));
    assert!(matches!(other.next(&forever()).unwrap(), Next::Future((1, _))));
}

#[test]
fn a_batch_withdraws_its_own_tasks_only() {
    let pool = pool(1);
    let batch = Batch::new(pool.clone());
    let first = pool.submit(task(SLEEP, 0)).unwrap();
    begun(&first);
    let inside: Vec<_> = (0..5).map(|n| batch.submit(task(ECHO, n)).unwrap().1).collect();
    let outside = pool.submit(task(ECHO, 3)).unwrap();
    batch.withdraw();
    inside.iter().for_each(|f| assert_eq!(cancelled(f), "before it ran"));
    for _ in 0..5 {
        assert!(matches!(batch.next(&forever()).unwrap(), Next::Future(_)));
    }
    assert!(!outside.is_done());
    first.cancel().unwrap();
    assert_eq!(got(&outside), 3);
}

#[test]
fn descriptors_follow_futures_and_batches() {
    use crate::wait::{Interest, poll_fd};
    let readable = |fd| poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap();
    let pool = pool(1);
    let batch = Batch::new(pool.clone());
    let level = batch.fd().unwrap();
    assert!(readable(level), "an empty batch has nothing to wait for");
    let (_, future) = batch.submit(task(SLEEP, 0)).unwrap();
    let fd = future.fd().unwrap();
    assert!(!readable(fd) && !readable(level));
    future.cancel().unwrap();
    assert!(poll_fd(fd, Interest::Read, &forever()).unwrap());
    assert!(poll_fd(level, Interest::Read, &forever()).unwrap());
    assert!(matches!(batch.next(&forever()).unwrap(), Next::Future(_)));
    assert!(readable(fd), "a future stays done");
    assert_eq!(future.fd().unwrap(), fd);
}

#[test]
fn cancels_and_submits_of_many_threads_leave_nobody_waiting() {
    static DONE: AtomicU32 = AtomicU32::new(0);
    let pool = pool(3);
    std::thread::scope(|s| {
        for seed in 0..4_u32 {
            let pool = &pool;
            s.spawn(move || {
                for n in 0..300_u32 {
                    let future = pool.submit(task(if n % 3 == seed % 3 { SLEEP } else { ECHO }, 1)).unwrap();
                    if n % 3 == seed % 3 || n % 7 == 0 {
                        future.cancel().unwrap();
                    }
                    assert!(future.wait(&forever()).unwrap().is_some());
                    DONE.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    pool.close(&forever()).unwrap();
    assert_eq!(DONE.load(Ordering::SeqCst), 1200);
}
