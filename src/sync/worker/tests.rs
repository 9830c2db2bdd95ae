#![allow(clippy::unwrap_used)]
use super::thread::cancelled;
use super::*;
use crate::error::Code;
use crate::sys::{cpus, gettid, thread_cpu_ns};
use crate::wait::sleep;
use std::sync::atomic::{AtomicU32, AtomicUsize};

const STACK: usize = 256 << 10;

fn forever() -> Wait<'static> {
    Wait::until(Deadline::NEVER)
}

/// A job that sleeps until it is cancelled.
fn asleep(context: &WorkerContext) -> std::result::Result<usize, Failure> {
    let wait = Wait { deadline: Deadline::NEVER, interrupt: &*context.cancel };
    sleep(&wait).map(|()| 0).map_err(|e| e.to_string().into_bytes())
}

#[test]
fn results_come_in_the_order_of_the_ids_and_once() {
    let group = ThreadGroup::start("test", 5, STACK, |context| Ok(context.id * 10)).unwrap();
    assert!(group.wait(&forever()).unwrap());
    assert_eq!(group.running(), 0);
    let results = group.take_results();
    assert_eq!(results, [(1, 10), (2, 20), (3, 30), (4, 40), (5, 50)]);
    assert_eq!(group.take_results(), []);
    group.put_back(results.into_iter().skip(3));
    assert_eq!(group.take_results(), [(4, 40), (5, 50)]);
}

#[test]
fn a_crew_of_none_has_ended() {
    let group = ThreadGroup::start("test", 0, STACK, |_| Ok(())).unwrap();
    assert!(group.wait(&Wait::until(Deadline::now())).unwrap());
    assert_eq!(group.take_results(), []);
    assert_eq!(group.take_failure(), None);
}

#[test]
fn failures_are_taken_one_by_one_and_results_stay() {
    let job = |context: &WorkerContext| {
        if context.id.is_multiple_of(2) { Err(vec![b'0' + context.id as u8]) } else { Ok(context.id) }
    };
    let group = ThreadGroup::start("test", 5, STACK, job).unwrap();
    group.wait(&forever()).unwrap();
    assert_eq!(group.failed(), 2);
    assert_eq!(group.take_failure(), Some((2, b"2".to_vec())));
    assert_eq!(group.take_failure(), Some((4, b"4".to_vec())));
    assert_eq!(group.take_failure(), None);
    assert_eq!(group.take_results(), [(1, 1), (3, 3), (5, 5)]);
}

#[test]
fn a_panic_is_a_failure_of_its_thread() {
    let group = ThreadGroup::start("test", 2, STACK, |context| {
        if context.id == 1 { std::panic::resume_unwind(Box::new("no")) } else { Ok(()) }
    })
    .unwrap();
    group.wait(&forever()).unwrap();
    let (id, text) = group.take_failure().unwrap();
    assert_eq!(id, 1);
    assert!(String::from_utf8(text).unwrap().contains("internal error"));
}

#[test]
fn time_runs_out_while_threads_run_and_a_cancel_ends_them() {
    let group = ThreadGroup::start("test", 3, STACK, asleep).unwrap();
    assert!(!group.wait(&Wait::until(Deadline::after(0.001))).unwrap());
    assert_eq!(group.running(), 3);
    group.cancel();
    assert!(group.wait(&forever()).unwrap());
    for id in 1..=3 {
        let (who, text) = group.take_failure().unwrap();
        assert_eq!(who, id);
        assert!(String::from_utf8(text).unwrap().contains("[cancelled]"));
    }
}

#[test]
fn a_cancel_reaches_who_waits_and_the_stubborn_are_abandoned() {
    let stop = Arc::new(AtomicU32::new(0));
    let its = stop.clone();
    let group = ThreadGroup::start("test", 2, STACK, move |context| {
        while context.id == 2 && its.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        Ok(())
    })
    .unwrap();
    std::thread::scope(|s| {
        s.spawn(|| assert!(group.wait(&forever()).unwrap()));
        while group.running() > 1 {
            std::thread::yield_now();
        }
        group.cancel();
    });
    let (id, text) = group.take_failure().unwrap();
    assert_eq!(id, 2);
    assert!(String::from_utf8(text).unwrap().contains("abandoned"));
    assert_eq!(group.take_results(), [(1, ())]);
    assert_eq!(group.running(), 0);
    stop.store(1, Ordering::Relaxed);
}

#[test]
fn who_waits_for_a_core_among_many_is_not_abandoned() {
    // Each wants a tenth of a second of a core after its cancel, and gets it three seconds later.
    let count = 32 * cpus().min(8);
    let group = ThreadGroup::start("test", count, STACK, |context| {
        while !context.cancel.fired() {
            std::hint::spin_loop();
        }
        let cancelled = thread_cpu_ns(gettid()).unwrap_or(u64::MAX);
        while thread_cpu_ns(gettid()).is_some_and(|now| now < cancelled.saturating_add(100_000_000)) {}
        Err::<(), _>(Failure::new())
    })
    .unwrap();
    group.cancel();
    assert!(group.wait(&forever()).unwrap());
    while let Some((_, text)) = group.take_failure() {
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("[cancelled]") && !text.contains("abandoned"), "{text}");
    }
}

#[test]
fn a_dropped_crew_is_cancelled() {
    let (tx, rx) = std::sync::mpsc::channel();
    let group = ThreadGroup::start("test", 1, STACK, move |context| {
        let result = asleep(context);
        tx.send(result.clone()).unwrap();
        result
    })
    .unwrap();
    drop(group);
    assert!(rx.recv().unwrap().is_err());
}

#[test]
fn a_cancelled_thread_is_told_as_such_however_it_ended() {
    let text = |failure: Option<&str>| String::from_utf8(cancelled(failure.map(|f| f.into()))).unwrap();
    assert!(text(None).contains("[cancelled]"));
    assert!(text(Some("boom")).contains("[cancelled]") && text(Some("boom")).contains("boom"));
    assert_eq!(text(Some("x [cancelled] y")), "x [cancelled] y");
}

#[test]
fn more_threads_than_there_is_room_for_are_refused_before_one_starts() {
    let e = ThreadGroup::start("test", usize::MAX >> 8, STACK, |_| Ok(())).unwrap_err();
    assert_eq!(e.code(), Code::Limit);
}

#[test]
fn a_thread_that_cannot_start_ends_the_crew() {
    // No address space has room for such stacks.
    let e = ThreadGroup::start("test", 3, 1 << 46, |_| Ok(())).unwrap_err();
    assert_eq!(e.code(), Code::Limit);
}

#[test]
fn hundreds_of_threads_run() {
    let group = ThreadGroup::start("test", 300, STACK, |context| Ok(context.id)).unwrap();
    group.wait(&forever()).unwrap();
    assert_eq!(group.take_results().into_iter().map(|(_, n)| n).sum::<usize>(), 300 * 301 / 2);
}

/// What the next thread left, as its id and what it gave.
fn next<T: std::fmt::Debug + Send + 'static>(group: &ThreadGroup<T>, seconds: f64) -> Option<(usize, Option<T>)> {
    match group.next(&Wait::until(Deadline::after(seconds))).unwrap() {
        NextEnd::Ended(id, result) => Some((id, result.ok())),
        NextEnd::Nothing => None,
        NextEnd::OutOfTime => panic!("nobody ended in {seconds} s"),
    }
}

#[test]
fn threads_are_given_out_as_they_end_and_then_count_no_more() {
    let turn = Arc::new(AtomicUsize::new(3));
    let its = turn.clone();
    let group = ThreadGroup::start("test", 4, STACK, move |context| {
        while its.load(Ordering::Relaxed) != context.id {
            std::thread::yield_now();
        }
        if context.id == 1 { Err(Failure::new()) } else { Ok(context.id * 10) }
    })
    .unwrap();
    assert_eq!(next(&group, 1000.0), Some((3, Some(30))));
    assert!(matches!(group.next(&Wait::until(Deadline::after(0.001))).unwrap(), NextEnd::OutOfTime));
    turn.store(1, Ordering::Relaxed);
    assert_eq!(next(&group, 1000.0), Some((1, None)));
    turn.store(4, Ordering::Relaxed);
    while group.running() > 1 {
        std::thread::yield_now();
    }
    assert_eq!(group.take_results(), [(4, 40)]);
    group.put_back([(4, 40)]);
    assert_eq!(next(&group, 1000.0), Some((4, Some(40))));
    turn.store(2, Ordering::Relaxed);
    group.wait(&forever()).unwrap();
    assert_eq!(group.take_results(), [(2, 20)]);
    assert_eq!(next(&group, 0.0), None);
}

#[test]
fn abandoned_threads_are_given_out_as_failed() {
    let stop = Arc::new(AtomicU32::new(0));
    let its = stop.clone();
    let group = ThreadGroup::start("test", 1, STACK, move |_| {
        while its.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        Ok(())
    })
    .unwrap();
    group.cancel();
    assert_eq!(next(&group, 1000.0), Some((1, None)));
    assert_eq!(next(&group, 0.0), None);
    stop.store(1, Ordering::Relaxed);
}
