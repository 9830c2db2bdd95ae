#![allow(clippy::unwrap_used)]

use super::*;
use crate::error::Code;
use crate::wait::{Deadline, Interest, poll_fd};
use std::thread::scope;
use std::time::Duration;

const FOREVER: Deadline = Deadline::NEVER;

fn item(n: u64) -> Message {
    Message { bytes: n.to_ne_bytes().to_vec(), ..Message::default() }
}

fn number(m: &Message) -> u64 {
    u64::from_ne_bytes(m.bytes[..].try_into().unwrap())
}

fn write(h: &WorkQueueHandle, n: u64) -> Result<()> {
    h.queue()?.write(h.by(), &mut [item(n)], &Wait::until(FOREVER))
}

fn read(h: &WorkQueueHandle, deadline: Deadline) -> Result<Option<u64>> {
    let mut out = Message::default();
    Ok(h.queue()?.read(h.by(), &mut out, &Wait::until(deadline))?.then(|| number(&out)))
}

fn worker(h: &WorkQueueHandle) -> WorkQueueHandle {
    WorkQueueHandle::new(h.queue().unwrap().clone(), Owner::new())
}

fn capacity(n: u64) -> Limits {
    Limits { capacity: Some(n), ..Limits::default() }
}

#[test]
fn the_owner_asks_and_the_others_answer() {
    let owner = WorkQueue::nameless(Limits::default(), Owner::new());
    let worker = worker(&owner);
    write(&owner, 1).unwrap();
    assert_eq!(read(&owner, Deadline::now()).unwrap(), None, "the owner does not read its own question");
    assert_eq!(read(&worker, FOREVER).unwrap(), Some(1));
    write(&worker, 2).unwrap();
    assert_eq!(read(&worker, Deadline::now()).unwrap(), None);
    assert_eq!(read(&owner, FOREVER).unwrap(), Some(2));
}

#[test]
fn the_opener_that_makes_a_name_owns_it_and_the_name_is_free_after_the_last_handle() {
    let (me, other) = (Owner::new(), Owner::new());
    let (mut mine, made) = WorkQueue::open(b"names", Limits::default(), me).unwrap();
    assert!(made);
    let (mut theirs, made) = WorkQueue::open(b"names", Limits::default(), other).unwrap();
    assert!(!made && Arc::ptr_eq(mine.queue().unwrap(), theirs.queue().unwrap()));
    mine.close();
    mine.close();
    let (again, made) = WorkQueue::open(b"names", Limits::default(), Owner::new()).unwrap();
    assert!(!made, "somebody still holds it");
    drop(again);
    theirs.close();
    let (_new, made) = WorkQueue::open(b"names", Limits::default(), other).unwrap();
    assert!(made);
}

#[test]
fn a_blocked_reader_ends_with_closed_after_it_got_what_was_left() {
    let mut owner = WorkQueue::nameless(Limits::default(), Owner::new());
    let worker = worker(&owner);
    scope(|s| {
        s.spawn(|| {
            assert_eq!(read(&worker, FOREVER).unwrap(), Some(7));
            assert_eq!(read(&worker, FOREVER).unwrap_err().code(), Code::Closed);
            assert_eq!(read(&worker, FOREVER).unwrap_err().code(), Code::Closed);
        });
        std::thread::sleep(Duration::from_millis(2));
        write(&owner, 7).unwrap();
        owner.close();
    });
    write(&worker, 1).unwrap();
    assert_eq!(worker.queue().unwrap().pending(), (0, 0), "a late answer is dropped without error");
    assert_eq!(write(&owner, 1).unwrap_err().code(), Code::Closed);
}

#[test]
fn the_second_handle_of_the_owner_keeps_the_queue_open() {
    let me = Owner::new();
    let mut one = WorkQueue::nameless(Limits::default(), me);
    let two = WorkQueueHandle::new(one.queue().unwrap().clone(), me);
    let worker = worker(&one);
    one.close();
    assert_eq!(read(&worker, Deadline::now()).unwrap(), None);
    drop(two);
    assert_eq!(read(&worker, Deadline::now()).unwrap_err().code(), Code::Closed);
}

#[test]
fn drain_waits_for_the_answers_in_workers_hands() {
    let owner = WorkQueue::nameless(Limits::default(), Owner::new());
    let queue = owner.queue().unwrap();
    for n in 0..100 {
        write(&owner, n).unwrap();
    }
    let e = queue.drain(owner.by(), &Wait::until(Deadline::after(0.001))).unwrap_err();
    assert_eq!((e.code(), e.what()), (Code::Timeout, "100 of 100 questions have no answer yet"));
    scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                let worker = worker(&owner);
                while let Some(n) = read(&worker, Deadline::now()).unwrap() {
                    std::thread::sleep(Duration::from_micros(100));
                    write(&worker, n).unwrap();
                }
                assert_eq!(
                    worker.queue().unwrap().drain(worker.by(), &Wait::until(FOREVER)).unwrap_err().code(),
                    Code::State
                );
            });
        }
        queue.drain(owner.by(), &Wait::until(FOREVER)).unwrap();
        assert_eq!(queue.pending(), (0, 100));
    });
}

#[test]
fn a_drain_that_can_never_end_says_so() {
    let owner = WorkQueue::nameless(capacity(2), Owner::new());
    let queue = owner.queue().unwrap();
    let worker = worker(&owner);
    for _ in 0..3 {
        write(&owner, 0).unwrap();
        read(&worker, FOREVER).unwrap();
    }
    scope(|s| {
        s.spawn(|| {
            write(&worker, 1).unwrap();
            write(&worker, 2).unwrap();
        });
        assert_eq!(queue.drain(owner.by(), &Wait::until(FOREVER)).unwrap_err().code(), Code::State);
    });
}

#[test]
fn a_full_queue_makes_write_wait_until_there_is_room() {
    let owner = WorkQueue::nameless(capacity(2), Owner::new());
    let queue = owner.queue().unwrap();
    let worker = worker(&owner);
    assert!(queue.write_now(owner.by(), &mut [item(0), item(1)]).unwrap());
    let mut more = [item(2)];
    assert!(!queue.write_now(owner.by(), &mut more).unwrap());
    let e = queue.write(owner.by(), &mut more, &Wait::until(Deadline::after(0.001))).unwrap_err();
    assert_eq!((e.code(), number(&more[0])), (Code::Timeout, 2));
    assert_eq!(
        queue.write(owner.by(), &mut [0, 1, 2].map(item), &Wait::until(FOREVER)).unwrap_err().code(),
        Code::Limit
    );
    scope(|s| {
        s.spawn(|| (0..1000).for_each(|n| assert_eq!(read(&worker, FOREVER).unwrap(), Some(n))));
        (2..1000).for_each(|n| write(&owner, n).unwrap());
    });
}

#[test]
fn a_writer_that_waits_for_room_is_let_go_when_the_owner_closes() {
    let mut owner = WorkQueue::nameless(capacity(1), Owner::new());
    let worker = worker(&owner);
    write(&worker, 1).unwrap();
    scope(|s| {
        s.spawn(|| write(&worker, 2).unwrap());
        std::thread::sleep(Duration::from_millis(2));
        owner.close();
    });
}

#[test]
fn the_descriptors_follow_the_queue() {
    let mut owner = WorkQueue::nameless(capacity(1), Owner::new());
    let queue = owner.queue().unwrap().clone();
    let worker = worker(&owner);
    let ready = |fd| poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap();
    let (items, room) = (queue.read_fd(worker.by()).unwrap(), queue.write_fd(owner.by()).unwrap());
    assert_eq!((ready(items), ready(room)), (false, true));
    write(&owner, 1).unwrap();
    assert_eq!((ready(items), ready(room)), (true, false));
    read(&worker, FOREVER).unwrap();
    assert_eq!((ready(items), ready(room)), (false, true));
    owner.close();
    assert!(ready(items), "a read would not wait: it fails");
}

#[test]
fn each_item_is_read_once_by_one_of_many_workers() {
    let owner = WorkQueue::nameless(Limits::default(), Owner::new());
    let each = 20_000;
    scope(|s| {
        for _ in 0..3 {
            let worker = worker(&owner);
            s.spawn(move || {
                while let Ok(Some(n)) = read(&worker, FOREVER) {
                    if n == u64::MAX {
                        break;
                    }
                    write(&worker, n).unwrap();
                }
            });
        }
        let mut sum = 0;
        for n in 0..each {
            write(&owner, n).unwrap();
            if n % 3 == 0 {
                sum += read(&owner, Deadline::now()).unwrap().unwrap_or(0);
            }
        }
        owner.queue().unwrap().drain(owner.by(), &Wait::until(FOREVER)).unwrap();
        while let Some(n) = read(&owner, Deadline::now()).unwrap() {
            sum += n;
        }
        assert_eq!(sum, each * (each - 1) / 2);
        (0..3).for_each(|_| write(&owner, u64::MAX).unwrap());
    });
}

#[test]
fn a_forked_child_goes_on_with_what_it_has_and_with_names_of_its_own() {
    use crate::sys::fork_for_tests as in_child;
    let (me, other) = (Owner::new(), Owner::new());
    let (mine, _) = WorkQueue::open(b"forked", Limits::default(), me).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    scope(|s| {
        // Traffic at the moment of the fork.
        s.spawn(|| {
            let worker = worker(&mine);
            while !stop.load(Ordering::Relaxed) {
                read(&worker, Deadline::after(0.0001)).unwrap();
                write(&worker, 3).unwrap();
            }
        });
        for round in 0..20 {
            write(&mine, round).unwrap();
            let code = in_child(|| {
                // Answers that were there stay; then new ones of the child's own.
                while read(&mine, Deadline::now()).unwrap().is_some() {}
                let worker = worker(&mine);
                while read(&worker, Deadline::now()).unwrap().is_some() {}
                write(&mine, 9).unwrap();
                let echo = read(&worker, FOREVER).unwrap() == Some(9);
                let (_new, made) = WorkQueue::open(b"forked", Limits::default(), other).unwrap();
                echo && made
            });
            if code != 0 {
                stop.store(true, Ordering::Relaxed);
            }
            assert_eq!(code, 0);
        }
        stop.store(true, Ordering::Relaxed);
    });
}
