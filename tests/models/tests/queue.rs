//! The queue of messages: order, nothing lost, nothing doubled, the end. Each message carries a cell that loom watches,
//! so that a reader who takes one before it has seen all of its writer's work is told of.

use std::fmt;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;
use models::wire::{Attachment, Message, Object, Push, Queue, downcast};

struct Watched(UnsafeCell<u8>);

// SAFETY: loom tells when two threads use the cell at once.
unsafe impl Send for Watched {}
// SAFETY: as above.
unsafe impl Sync for Watched {}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl Object for Watched {
    fn class(&self) -> &'static str {
        "watched"
    }
}

/// A message that says `n`. Long ones fill chunks, so that these are handed on, and back.
fn message(n: u8, long: bool) -> Message {
    let watched = Watched(UnsafeCell::new(0));
    // SAFETY: as above.
    watched.0.with_mut(|cell| unsafe { *cell = n });
    Message {
        bytes: vec![n; if long { 700 } else { 1 }],
        attachments: vec![Attachment::Object(Arc::new(watched))],
        ..Message::default()
    }
}

/// What the next message says.
fn read(queue: &Queue) -> Option<u8> {
    let mut out = Message::default();
    queue.pop(&mut out).then(|| {
        let n = out.bytes[0];
        assert!(out.bytes.iter().all(|b| *b == n));
        let Some(Attachment::Object(object)) = out.attachments.pop() else { panic!("the attachment is lost") };
        let watched = downcast::<Watched>(object).unwrap();
        // SAFETY: as above.
        watched.0.with(|cell| unsafe { assert_eq!(*cell, n) });
        n
    })
}

fn write(queue: &Queue, n: u8, long: bool) -> Push {
    queue.push_all(&mut [message(n, long)])
}

fn bounded(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(model);
}

#[test]
fn a_reader_beside_the_writer_sees_all_in_order_over_several_chunks() {
    bounded(3, || {
        let queue = Arc::new(Queue::new(None));
        let its = queue.clone();
        let writer = thread::spawn(move || {
            for n in 1..=3 {
                assert_eq!(write(&its, n, true), Push::Done);
            }
        });
        let mut seen: Vec<u8> = (0..3).filter_map(|_| read(&queue)).collect();
        writer.join().unwrap();
        seen.extend(std::iter::from_fn(|| read(&queue)));
        assert_eq!(seen, [1, 2, 3]);
        assert!(queue.is_empty() && queue.len() == 0);
    });
}

#[test]
fn two_writers_and_two_readers_lose_nothing_and_double_nothing() {
    bounded(2, || {
        let queue = Arc::new(Queue::new(None));
        let writer = {
            let its = queue.clone();
            thread::spawn(move || assert_eq!(write(&its, 1, true), Push::Done))
        };
        let reader = {
            let its = queue.clone();
            thread::spawn(move || read(&its))
        };
        assert_eq!(write(&queue, 2, true), Push::Done);
        let mut seen: Vec<u8> = read(&queue).into_iter().collect();
        writer.join().unwrap();
        seen.extend(reader.join().unwrap());
        seen.extend(std::iter::from_fn(|| read(&queue)));
        seen.sort();
        assert_eq!(seen, [1, 2]);
    });
}

#[test]
fn a_full_queue_takes_one_more_only_when_one_was_taken() {
    bounded(3, || {
        let queue = Arc::new(Queue::new(Some(1)));
        assert_eq!(write(&queue, 1, false), Push::Done);
        let its = queue.clone();
        let writer = thread::spawn(move || write(&its, 2, false));
        assert_eq!(queue.len(), 1);
        let first = read(&queue);
        assert_eq!(first, Some(1));
        let second = read(&queue);
        match writer.join().unwrap() {
            Push::Done => assert_eq!(second.or_else(|| read(&queue)), Some(2)),
            Push::Full => assert_eq!((second, read(&queue)), (None, None)),
            Push::Closed => panic!("nobody closed it"),
            Push::NoMemory => panic!("memory does not run out here"),
        }
    });
}

#[test]
fn after_a_close_what_was_written_is_all_that_ever_will_be() {
    bounded(3, || {
        let queue = Arc::new(Queue::new(None));
        let its = queue.clone();
        let writer = thread::spawn(move || write(&its, 1, false));
        let closer = {
            let its = queue.clone();
            thread::spawn(move || {
                its.close();
                its.written()
            })
        };
        // A reader that finds it closed, and then empty, may go for good.
        let gone = queue.is_closed() && queue.is_empty();
        let (written, pushed) = (closer.join().unwrap(), writer.join().unwrap());
        assert_eq!(queue.written(), written);
        assert_eq!(pushed == Push::Done, written == 1);
        assert!(!gone || read(&queue).is_none());
    });
}
