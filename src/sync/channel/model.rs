//! Random operations against a model: in one thread each answer is the model's; between threads the history is one that
//! a FIFO can have.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::error::Code;
use crate::wait::{Deadline, Interest, poll_fd};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::scope;

fn item(words: &[u64]) -> Message {
    Message { bytes: words.iter().flat_map(|w| w.to_ne_bytes()).collect(), ..Message::default() }
}

fn words<const N: usize>(m: &Message) -> [u64; N] {
    let mut words = m.bytes.chunks_exact(8).map(|c| u64::from_ne_bytes(c.try_into().unwrap()));
    std::array::from_fn(|_| words.next().unwrap())
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    WriteNow(usize),
    Read,
    Close,
    Descriptors,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            20 => (1usize..5).prop_map(Step::Write),
            20 => (1usize..5).prop_map(Step::WriteNow),
            40 => Just(Step::Read),
            1 => Just(Step::Close),
            1 => Just(Step::Descriptors),
        ],
        0..80,
    )
}

proptest! {
    #[test]
    fn in_one_thread_it_answers_as_the_model(steps in steps(), capacity in prop::option::of(1u64..6)) {
        let c = Channel::new(Limits { capacity, timeout: None });
        let (mut model, mut closed, mut serial) = (VecDeque::new(), false, 0);
        let (mut out, mut fds) = (Message::default(), None);
        for step in steps {
            let status = |model: &VecDeque<u64>, closed| match (closed, model.is_empty()) {
                (false, _) => Status::Open,
                (true, false) => Status::Closed,
                (true, true) => Status::Drained,
            };
            match step {
                Step::Write(count) | Step::WriteNow(count) => {
                    let mut items: Vec<_> = (serial..).take(count).map(|n| item(&[n])).collect();
                    let got = if matches!(step, Step::Write(_)) {
                        c.write(&mut items, &Wait::until(Deadline::now())).map(|s| (s == Status::Open, s))
                    } else {
                        c.write_now(&mut items)
                    };
                    let limit = capacity.unwrap_or(u64::MAX);
                    let (room, ever) = ((model.len() + count) as u64 <= limit, count as u64 <= limit);
                    match got {
                        Ok((true, status)) => {
                            prop_assert!(room && !closed && status == Status::Open);
                            model.extend(serial..serial + count as u64);
                        }
                        Ok((false, Status::Open)) => prop_assert!(!room && ever && matches!(step, Step::WriteNow(_))),
                        Ok((false, refused)) => prop_assert_eq!((closed, refused), (true, status(&model, true))),
                        Err(e) if e.code() == Code::Limit => prop_assert!(!ever && !closed),
                        Err(e) => prop_assert!(
                            e.code() == Code::Timeout && !room && ever && !closed && matches!(step, Step::Write(_))
                        ),
                    }
                    serial += count as u64;
                }
                Step::Read => {
                    let (found, told) = c.read(&mut out, &Wait::until(Deadline::now())).unwrap();
                    let expected = model.pop_front();
                    prop_assert_eq!(found.then(|| words::<1>(&out)[0]), expected);
                    let left = match (closed, expected) {
                        (false, _) => Status::Open,
                        (true, Some(_)) => Status::Closed,
                        (true, None) => Status::Drained,
                    };
                    prop_assert_eq!(told, left);
                }
                Step::Close => {
                    c.close();
                    closed = true;
                }
                Step::Descriptors => fds = Some((c.read_fd().unwrap(), c.write_fd().unwrap())),
            }
            prop_assert_eq!((c.len(), c.status()), (model.len() as u64, status(&model, closed)));
            let readable = !model.is_empty() || closed;
            let writable = (model.len() as u64) < capacity.unwrap_or(u64::MAX) || closed;
            prop_assert_eq!((c.readable(), c.writable()), (readable, writable));
            if let Some((items, room)) = fds {
                let ready = |fd| poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap();
                prop_assert_eq!((ready(items), ready(room)), (readable, writable));
            }
        }
    }
}

/// A write, as its item tells of it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    writer: usize,
    number: u64,
    /// When its write began, on a clock that every event advances.
    began: u64,
}

/// What one writer has to say: how many items were taken, and when each write ended.
#[derive(Debug, Default)]
struct Written {
    taken: u64,
    ended: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Plan {
    capacity: Option<u64>,
    /// The sizes of its batches, again and again, for each writer.
    writers: Vec<Vec<usize>>,
    readers: usize,
    /// Closed once so many items were read: most writers are then in the middle of a write.
    close_after: u64,
    /// Readers that give up and come again, beside those that sleep.
    impatient: bool,
}

fn plans() -> impl Strategy<Value = Plan> {
    let batches = prop::collection::vec(1usize..4, 1..4);
    (
        prop::option::of(3u64..20),
        prop::collection::vec(batches, 1..5),
        1usize..5,
        prop_oneof![1 => Just(0u64), 4 => 1u64..2000],
        any::<bool>(),
    )
        .prop_map(|(capacity, writers, readers, close_after, impatient)| Plan {
            capacity,
            writers,
            readers,
            close_after,
            impatient,
        })
}

/// Runs the plan: what each writer wrote, and what each reader read, in order.
fn run(plan: &Plan) -> (Vec<Written>, Vec<Vec<Entry>>) {
    let c = Channel::new(Limits { capacity: plan.capacity, timeout: None });
    let (clock, read) = (AtomicU64::new(0), AtomicU64::new(0));
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    let writer = |writer: usize, sizes: &[usize]| {
        let mut written = Written::default();
        for &size in sizes.iter().cycle() {
            let began = tick();
            let mut items: Vec<_> =
                (written.taken..).take(size).map(|number| item(&[writer as u64, number, began])).collect();
            match c.write(&mut items, &Wait::until(Deadline::NEVER)).unwrap() {
                Status::Open => {
                    written.taken += size as u64;
                    written.ended.resize(written.taken as usize, tick());
                }
                _ => break,
            }
            // Without a capacity the readers would be left behind.
            while plan.capacity.is_none() && c.len() > 500 && c.status() == Status::Open {
                std::thread::yield_now();
            }
        }
        written
    };
    let reader = |patience: Option<f64>| {
        let (mut out, mut seen) = (Message::default(), Vec::new());
        loop {
            let deadline = patience.map_or(Deadline::NEVER, Deadline::after);
            match c.read(&mut out, &Wait::until(deadline)).unwrap() {
                (true, _) => {
                    let [writer, number, began] = words(&out);
                    seen.push(Entry { writer: writer as usize, number, began });
                    if read.fetch_add(1, Ordering::SeqCst) + 1 == plan.close_after {
                        c.close();
                    }
                }
                (false, Status::Drained) => {
                    assert_eq!((c.status(), c.len()), (Status::Drained, 0), "drained is drained for good");
                    return seen;
                }
                (false, status) => assert!(patience.is_some() && status == Status::Open),
            }
        }
    };
    scope(|s| {
        let writers: Vec<_> =
            plan.writers.iter().enumerate().map(|(w, sizes)| s.spawn(move || writer(w, sizes))).collect();
        let readers: Vec<_> = (0..plan.readers)
            .map(|r| s.spawn(move || reader((plan.impatient && r % 2 == 1).then_some(0.0001))))
            .collect();
        if plan.close_after == 0 {
            c.close();
        }
        let written = writers.into_iter().map(|w| w.join().unwrap()).collect();
        (written, readers.into_iter().map(|r| r.join().unwrap()).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 0, ..ProptestConfig::default() })]
    #[test]
    fn between_threads_its_history_is_that_of_a_fifo(plan in plans()) {
        let (written, read) = run(&plan);
        for (w, written) in written.iter().enumerate() {
            let mut numbers: Vec<_> = read.iter().flatten().filter(|e| e.writer == w).map(|e| e.number).collect();
            numbers.sort_unstable();
            prop_assert!(
                numbers.iter().copied().eq(0..written.taken),
                "of writer {}'s {} items these were read: {:?}", w, written.taken, numbers
            );
        }
        for seen in &read {
            let (mut latest, mut next) = (0, vec![0; written.len()]);
            for (at, e) in seen.iter().enumerate() {
                prop_assert!(e.number >= next[e.writer], "a writer's items come in order");
                next[e.writer] = e.number + 1;
                // Of two writes, one over before the other began, the first comes out first.
                latest = latest.max(e.began);
                let ended = written[e.writer].ended[e.number as usize];
                prop_assert!(ended >= latest, "a write that began at {latest} overtook one that ended at {ended}");
                // With one reader, nothing comes between the items of a batch.
                if plan.readers == 1 && at > 0 && seen[at - 1].began != e.began {
                    let batch = |e: &Entry| seen.iter().filter(|o| o.began == e.began).count();
                    let before = &seen[..at];
                    prop_assert_eq!(
                        before.iter().rev().take_while(|o| o.began == seen[at - 1].began).count(),
                        batch(&seen[at - 1])
                    );
                }
            }
        }
    }
}
