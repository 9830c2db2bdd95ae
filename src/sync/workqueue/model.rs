//! Random operations against a model of two deques, and random crowds of workers.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::error::Code;
use crate::wait::{Deadline, Interest, poll_fd};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::thread::scope;

fn item(n: u64) -> Message {
    Message { bytes: n.to_ne_bytes().to_vec(), ..Message::default() }
}

fn number(m: &Message) -> u64 {
    u64::from_ne_bytes(m.bytes[..].try_into().unwrap())
}

/// Who does it: 0 is the owner, the others are workers.
#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize),
    WriteNow(usize, usize),
    Read(usize),
    Drain,
    /// The owner's last handle goes.
    Close,
    /// The owner comes by a handle again: from a worker, or by name.
    Reopen,
    Descriptors(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            20 => (0usize..3, 1usize..4).prop_map(|(by, count)| Step::Write(by, count)),
            20 => (0usize..3, 1usize..4).prop_map(|(by, count)| Step::WriteNow(by, count)),
            40 => (0usize..3).prop_map(Step::Read),
            5 => Just(Step::Drain),
            2 => Just(Step::Close),
            2 => Just(Step::Reopen),
            3 => (0usize..3).prop_map(Step::Descriptors),
        ],
        0..80,
    )
}

#[derive(Default)]
struct Model {
    questions: VecDeque<u64>,
    answers: VecDeque<u64>,
    asked: u64,
    answered: u64,
}

proptest! {
    #[test]
    fn in_one_thread_it_answers_as_the_model(steps in steps(), capacity in prop::option::of(1u64..5)) {
        let limits = Limits { capacity, timeout: None };
        let owner = Owner::new();
        let mut mine = WorkQueue::nameless(limits, owner);
        let queue = mine.queue().unwrap().clone();
        let by = [owner, Owner::new(), Owner::new()];
        let now = Wait::until(Deadline::now());
        let (mut model, mut serial, mut out) = (Model::default(), 0, Message::default());
        let mut fds = [None; 3];
        let room = capacity.unwrap_or(u64::MAX);
        for step in steps {
            let open = mine.queue().is_ok();
            match step {
                Step::Write(who, count) | Step::WriteNow(who, count) if open || who > 0 => {
                    let mut items: Vec<_> = (serial..).take(count).map(item).collect();
                    let waits = matches!(step, Step::Write(..));
                    let got = match waits {
                        true => queue.write(by[who], &mut items, &now).map(|()| true),
                        false => queue.write_now(by[who], &mut items),
                    };
                    let to = if who == 0 { &mut model.questions } else { &mut model.answers };
                    let fits = (to.len() + count) as u64 <= room;
                    let kept = items.iter().all(|m| m.bytes.len() == 8);
                    match got {
                        Ok(true) if !open => prop_assert!(!kept, "dropped"),
                        Ok(true) => {
                            prop_assert!(fits);
                            to.extend(serial..serial + count as u64);
                            *(if who == 0 { &mut model.asked } else { &mut model.answered }) += count as u64;
                        }
                        Ok(false) => prop_assert!(!fits && open && !waits && kept),
                        Err(e) => {
                            let code = if count as u64 > room { Code::Limit } else { Code::Timeout };
                            prop_assert!(e.code() == code && !fits && open && kept, "{}", e.what());
                        }
                    }
                    serial += count as u64;
                }
                Step::Read(who) if open || who > 0 => {
                    let from = if who == 0 { &mut model.answers } else { &mut model.questions };
                    let expected = from.pop_front();
                    match queue.read(by[who], &mut out, &now) {
                        Ok(found) => {
                            prop_assert_eq!(found.then(|| number(&out)), expected);
                            prop_assert!(found || open);
                        }
                        Err(e) => prop_assert!(e.code() == Code::Closed && expected.is_none() && !open),
                    }
                }
                Step::Drain => {
                    let refused = queue.drain(by[1], &now).unwrap_err().code();
                    prop_assert_eq!(refused, Code::State, "by a worker");
                    let expected = if model.answered >= model.asked {
                        None
                    } else if model.answers.len() as u64 >= room {
                        Some(Code::State)
                    } else {
                        Some(Code::Timeout)
                    };
                    prop_assert_eq!(queue.drain(owner, &now).err().map(|e| e.code()), expected);
                }
                Step::Close => mine.close(),
                Step::Reopen if !open => mine = WorkQueueHandle::new(queue.clone(), owner),
                Step::Descriptors(who) if open || who > 0 => {
                    fds[who] = Some((queue.read_fd(by[who]).unwrap(), queue.write_fd(by[who]).unwrap()));
                }
                _ => {}
            }
            let open = mine.queue().is_ok();
            prop_assert_eq!(queue.is_closed(), !open);
            prop_assert_eq!(queue.pending(), (model.questions.len() as u64, model.answers.len() as u64));
            for who in 0..3 {
                // The owner of a closed queue has no handle to ask by.
                if who == 0 && !open {
                    continue;
                }
                let (to, from) = match who {
                    0 => (&model.questions, &model.answers),
                    _ => (&model.answers, &model.questions),
                };
                let ready = (!from.is_empty() || !open, (to.len() as u64) < room || !open);
                prop_assert_eq!((queue.readable(by[who]), queue.writable(by[who])), ready);
                if let Some((items, room)) = fds[who] {
                    let polls = |fd| poll_fd(fd, Interest::Read, &now).unwrap();
                    prop_assert_eq!((polls(items), polls(room)), ready, "of {}", who);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Plan {
    capacity: Option<u64>,
    workers: usize,
    /// The sizes of the owner's batches.
    batches: Vec<usize>,
    /// How many questions until the owner closes, and whether it waits for the answers before.
    questions: u64,
    drain: bool,
}

fn plans() -> impl Strategy<Value = Plan> {
    (prop::option::of(4u64..20), 1usize..5, prop::collection::vec(1usize..5, 1..4), 0u64..1500, any::<bool>()).prop_map(
        |(capacity, workers, batches, questions, drain)| Plan { capacity, workers, batches, questions, drain },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 0, ..ProptestConfig::default() })]
    #[test]
    fn each_question_is_read_once_and_answered_once_whenever_the_owner_closes(plan in plans()) {
        let mut mine = WorkQueue::nameless(Limits { capacity: plan.capacity, timeout: None }, Owner::new());
        let queue = mine.queue().unwrap().clone();
        let me = mine.by();
        let forever = || Wait::until(Deadline::NEVER);
        let (mut asked, mut answers) = (0, Vec::new());
        let mut read: Vec<Vec<u64>> = scope(|s| {
            let workers: Vec<_> = (0..plan.workers)
                .map(|_| {
                    let worker = WorkQueueHandle::new(queue.clone(), Owner::new());
                    s.spawn(move || {
                        let (mut out, mut seen) = (Message::default(), Vec::new());
                        loop {
                            let queue = worker.queue().unwrap();
                            match queue.read(worker.by(), &mut out, &forever()) {
                                Ok(true) => {
                                    seen.push(number(&out));
                                    // Waits where the answers are full, and is let go when the owner closes.
                                    queue.write(worker.by(), &mut [std::mem::take(&mut out)], &forever()).unwrap();
                                }
                                Ok(false) => panic!("a read that waits for ever ran out of time"),
                                Err(e) => {
                                    assert_eq!(e.code(), Code::Closed);
                                    return seen;
                                }
                            }
                        }
                    })
                })
                .collect();
            let mut out = Message::default();
            for &size in plan.batches.iter().cycle() {
                if asked >= plan.questions {
                    break;
                }
                let mut items: Vec<_> = (asked..).take(size).map(item).collect();
                // The owner alone reads the answers: where both are full it has to read.
                while !queue.write_now(me, &mut items).unwrap() {
                    if queue.read(me, &mut out, &Wait::until(Deadline::after(0.001))).unwrap() {
                        answers.push(number(&out));
                    }
                }
                asked += size as u64;
            }
            if plan.drain && plan.capacity.is_none() {
                queue.drain(me, &forever()).unwrap();
                assert_eq!(queue.pending(), (0, asked - answers.len() as u64));
            }
            while queue.read(me, &mut out, &Wait::until(Deadline::now())).unwrap() {
                answers.push(number(&out));
            }
            mine.close();
            workers.into_iter().map(|w| w.join().unwrap()).collect()
        });
        prop_assert!(read.iter().all(|seen| seen.is_sorted()), "each worker reads in order");
        let mut all = read.drain(..).flatten().collect::<Vec<_>>();
        all.sort_unstable();
        prop_assert!(all.into_iter().eq(0..asked), "every question is read, once, also what was left at the close");
        let count = answers.len() as u64;
        answers.sort_unstable();
        answers.dedup();
        prop_assert_eq!(answers.len() as u64, count, "no answer twice");
        prop_assert!(!plan.drain || plan.capacity.is_some() || count == asked, "after a drain all are there");
    }
}
