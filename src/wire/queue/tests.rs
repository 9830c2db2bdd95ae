#![allow(clippy::unwrap_used)]
use super::*;
use crate::wire::{Attachment, Foreign, Object};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn attach(alive: &Arc<AtomicUsize>) -> Attachment {
        alive.fetch_add(1, Ordering::SeqCst);
        Attachment::Object(Arc::new(Counted(alive.clone())))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Object for Counted {
    fn class(&self) -> &'static str {
        "counted"
    }
}

fn message(bytes: &[u8]) -> Message {
    Message { bytes: bytes.to_vec(), ..Message::default() }
}

#[derive(Clone, Debug)]
enum Step {
    /// Write messages of (length, attachments, functions).
    Push(Vec<(usize, usize, bool)>),
    Pop(usize),
    /// Put back what was popped last.
    PutBack,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![8 => 0usize..40, 2 => 40usize..3000, 1 => 8100usize..20_000];
    let item = (length, prop_oneof![4 => Just(0usize), 1 => 1usize..4], any::<bool>());
    prop::collection::vec(
        prop_oneof![
            3 => prop::collection::vec(item, 0..8).prop_map(Step::Push),
            2 => (1usize..12).prop_map(Step::Pop),
            1 => Just(Step::PutBack),
        ],
        0..200,
    )
}

proptest! {
    #[test]
    fn it_holds_what_a_deque_would(steps in steps(), capacity in prop::option::of(0u64..50)) {
        let alive = Arc::new(AtomicUsize::new(0));
        let queue = Queue::new(capacity);
        let mut model = VecDeque::new();
        let (mut out, mut last, mut serial, mut loose) = (Message::default(), None, 0u8, false);
        for step in steps {
            match step {
                Step::Push(items) => {
                    let mut messages = Vec::new();
                    let mut expected = Vec::new();
                    for (len, attached, functions) in items {
                        serial = serial.wrapping_add(1);
                        let bytes = vec![serial; len];
                        let attachments = (0..attached).map(|_| Counted::attach(&alive)).collect();
                        messages.push(Message { bytes: bytes.clone(), attachments, functions, ..Message::default() });
                        expected.push((bytes, attached, functions));
                    }
                    let fits = model.len() + expected.len() <= capacity.unwrap_or(u64::MAX) as usize;
                    match queue.push_all(&mut messages) {
                        Push::NoMemory => panic!("no memory for a few messages"),
                        Push::Done => {
                            // The writer may not have seen what was put back.
                            prop_assert!(fits || loose);
                            prop_assert!(messages.iter().all(|m| m.bytes.is_empty() && m.attachments.is_empty()));
                            model.extend(expected);
                        }
                        Push::Full => {
                            prop_assert!(!fits);
                            let left: Vec<_> = messages.iter().map(|m| m.bytes.clone()).collect();
                            prop_assert_eq!(left, expected.into_iter().map(|e| e.0).collect::<Vec<_>>());
                        }
                        Push::Closed => prop_assert!(false),
                    }
                }
                Step::Pop(times) => {
                    for _ in 0..times {
                        prop_assert_eq!(queue.is_empty(), model.is_empty());
                        let popped = queue.pop(&mut out);
                        let got = popped.then(|| (out.bytes.clone(), out.attachments.len(), out.functions));
                        prop_assert_eq!(&got, &model.pop_front());
                        last = got;
                    }
                }
                Step::PutBack => {
                    if let Some(item) = last.take() {
                        queue.put_back(std::mem::take(&mut out));
                        model.push_front(item);
                        loose = true;
                        prop_assert_eq!(queue.holds_objects(), model.iter().any(|m| m.1 > 0));
                        let mut seen = 0;
                        queue.hold().look(|_| { seen += 1; true });
                        prop_assert_eq!(seen, model.iter().map(|m| m.1).sum::<usize>());
                    }
                }
            }
            prop_assert_eq!(queue.len(), model.len() as u64);
        }
        drop(out);
        let held: usize = model.iter().map(|m| m.1).sum();
        prop_assert_eq!(alive.load(Ordering::SeqCst), held);
        drop(queue);
        prop_assert_eq!(alive.load(Ordering::SeqCst), 0, "unread messages release what they hold");
    }
}

#[test]
fn an_unread_foreign_pointer_is_given_back() {
    static GIVEN: AtomicUsize = AtomicUsize::new(0);
    let queue = Queue::new(None);
    let foreign =
        Foreign { class: "x".into(), pointer: 42, release: Some(|_, p| _ = GIVEN.fetch_add(p, Ordering::SeqCst)) };
    let mut m = message(b"a");
    m.attachments.push(Attachment::Foreign(foreign));
    assert_eq!(queue.push_all(&mut [m]), Push::Done);
    drop(queue);
    assert_eq!(GIVEN.load(Ordering::SeqCst), 42);
}

#[test]
fn a_closed_queue_takes_no_more_and_keeps_what_it_has() {
    let queue = Queue::new(None);
    assert_eq!(queue.push_all(&mut [message(b"a")]), Push::Done);
    queue.close();
    let mut refused = [message(b"b")];
    assert_eq!(queue.push_all(&mut refused), Push::Closed);
    assert_eq!(refused[0].bytes, b"b");
    let mut out = Message::default();
    assert!(queue.pop(&mut out) && out.bytes == b"a");
    assert!(!queue.pop(&mut out));
}

/// Each message: the writer's number, its count, and filler of a length that follows from them.
fn stress(writers: u64, readers: usize, each: u64, capacity: Option<u64>, put_back: bool) {
    let alive = Arc::new(AtomicUsize::new(0));
    let queue = Queue::new(capacity);
    let most = capacity.map_or(u64::MAX, |n| n + readers as u64);
    let left = AtomicU64::new(writers * each);
    let seen = std::thread::scope(|s| {
        for w in 0..writers {
            let (queue, alive) = (&queue, &alive);
            s.spawn(move || {
                let mut pair = [Message::default(), Message::default()];
                for i in (0..each).step_by(2) {
                    for (m, n) in pair.iter_mut().zip(i..) {
                        m.bytes.extend(w.to_ne_bytes());
                        m.bytes.extend(n.to_ne_bytes());
                        m.bytes.resize(16 + if n % 500 == 0 { 9000 } else { n as usize % 50 }, w as u8);
                        if n % 100 == 0 {
                            m.attachments.push(Counted::attach(alive));
                        }
                    }
                    while queue.push_all(&mut pair) != Push::Done {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let readers: Vec<_> = (0..readers)
            .map(|_| {
                s.spawn(|| {
                    let (mut out, mut seen) = (Message::default(), vec![Vec::new(); writers as usize]);
                    let mut turn = 0;
                    while left.load(Ordering::SeqCst) > 0 {
                        assert!(queue.len() <= most);
                        if queue.pop(&mut out) {
                            turn += 1;
                            if put_back && turn % 7 == 0 {
                                queue.put_back(std::mem::take(&mut out));
                                continue;
                            }
                            left.fetch_sub(1, Ordering::SeqCst);
                            let number = |at: usize| u64::from_ne_bytes(out.bytes[at..at + 8].try_into().unwrap());
                            let (w, n) = (number(0), number(8));
                            assert!(out.bytes[16..].iter().all(|&b| b == w as u8));
                            assert_eq!(out.attachments.len(), usize::from(n % 100 == 0));
                            seen[w as usize].push(n);
                        } else {
                            std::thread::yield_now();
                        }
                    }
                    seen
                })
            })
            .collect();
        readers.into_iter().map(|r| r.join().unwrap()).collect::<Vec<_>>()
    });
    for w in 0..writers as usize {
        let mut all: Vec<u64> = Vec::new();
        for reader in &seen {
            // Another reader may have taken later ones before one was put back.
            assert!(put_back || reader[w].is_sorted(), "each reader sees a writer's messages in order");
            all.extend(&reader[w]);
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(0..each), "nothing lost, nothing doubled");
    }
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn one_writer_one_reader_lose_nothing() {
    stress(1, 1, 60_000, None, false);
    stress(1, 1, 20_000, None, true);
}

#[test]
fn many_writers_and_readers_keep_the_order_of_each_writer() {
    stress(3, 3, 20_000, None, false);
    stress(3, 3, 10_000, None, true);
}

#[test]
fn a_small_capacity_loses_nothing_either() {
    stress(2, 2, 5_000, Some(3), false);
    stress(2, 2, 5_000, Some(3), true);
}
