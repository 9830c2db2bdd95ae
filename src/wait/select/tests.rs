#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;

use super::super::{Cancel, Deadline, EventCount};
use super::*;
use crate::error::Code;
use crate::sys::Event;

/// A flag with an event count, as queues have it.
#[derive(Default)]
struct Flag {
    up: AtomicBool,
    changes: EventCount,
}

impl Flag {
    fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    fn put(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
        self.changes.notify_all();
        self.changes.refresh(|| self.is_up());
    }
}

fn on_flag(flag: &Arc<Flag>) -> Box<dyn Source> {
    source(flag.clone(), |f| Some(f.is_up()), |f| f.changes.fd(|| f.is_up()))
}

fn on_event(event: &Rc<Event>) -> Box<dyn Source> {
    source(event.clone(), |_| None, |e| e.fd())
}

fn equal(sources: impl IntoIterator<Item = Box<dyn Source>>) -> Vec<Candidate> {
    sources.into_iter().map(|source| Candidate { source: Some(source), rank: 0 }).collect()
}

fn now() -> Wait<'static> {
    Wait::until(Deadline::now())
}

fn forever() -> Wait<'static> {
    Wait::until(Deadline::NEVER)
}

#[test]
fn nothing_is_ready_until_the_deadline() {
    let flags: Vec<_> = (0..3).map(|_| Arc::default()).collect();
    let event = Rc::new(Event::new().unwrap());
    let sources = equal(flags.iter().map(on_flag).chain([on_event(&event)]));
    assert_eq!(select(&sources, &now()).unwrap(), None);
    assert_eq!(select(&sources, &Wait::until(Deadline::after(0.001))).unwrap(), None);
    assert_eq!(select(&[], &Wait::until(Deadline::after(0.001))).unwrap(), None);
}

#[test]
fn the_one_that_becomes_ready_is_found_by_a_look_and_out_of_sleep() {
    let flags: Vec<_> = (0..3).map(|_| Arc::new(Flag::default())).collect();
    let event = Rc::new(Event::new().unwrap());
    let sources = equal(flags.iter().map(on_flag).chain([on_event(&event)]));
    flags[1].put(true);
    assert_eq!(select(&sources, &now()).unwrap(), Some(1));
    flags[1].put(false);
    event.set();
    assert_eq!(select(&sources, &forever()).unwrap(), Some(3));
    event.clear();
    for at in [2, 0] {
        std::thread::scope(|s| {
            let flag = &flags[at];
            s.spawn(move || {
                std::thread::sleep(Duration::from_millis(2));
                flag.put(true);
            });
            assert_eq!(select(&sources, &forever()).unwrap(), Some(at));
        });
        flags[at].put(false);
    }
}

#[test]
fn a_descriptor_that_is_ready_by_mistake_ends_no_wait() {
    let event = Rc::new(Event::new().unwrap());
    event.set();
    let asked = Rc::new(Cell::new(0));
    // Readable, though there is nothing: put right when it is asked for again.
    let mistaken = source(
        (event.clone(), asked.clone()),
        |_| Some(false),
        |(event, asked)| {
            asked.set(asked.get() + 1);
            if asked.get() > 1 {
                event.clear();
            }
            event.fd()
        },
    );
    // So many that it sleeps at once.
    let others = (0..FEW).map(|_| on_flag(&Arc::default()));
    let sources = equal([mistaken].into_iter().chain(others));
    assert_eq!(select(&sources, &Wait::until(Deadline::after(0.2))).unwrap(), None);
    assert_eq!(asked.get(), 2);
}

#[test]
fn a_candidate_without_a_source_is_ready() {
    let event = Rc::new(Event::new().unwrap());
    let mut sources = equal([on_event(&event)]);
    sources.push(Candidate { source: None, rank: 0 });
    assert_eq!(select(&sources, &forever()).unwrap(), Some(1));
}

#[test]
fn a_source_that_fails_raises_its_error_unless_it_is_ready() {
    let failing = |ready| source((), move |()| ready, |()| Err(err!(Io, "no descriptors left")));
    let e = select(&equal([failing(Some(false))]), &forever()).unwrap_err();
    assert_eq!(e.code(), Code::Io);
    assert_eq!(select(&equal([failing(Some(true))]), &forever()).unwrap(), Some(0));
}

#[test]
fn a_cancel_ends_it() {
    let flag = Arc::default();
    let who = Cancel::new();
    std::thread::scope(|s| {
        s.spawn(|| who.fire());
        let wait = Wait { deadline: Deadline::NEVER, interrupt: &who };
        assert_eq!(select(&equal([on_flag(&flag)]), &wait).unwrap_err().code(), Code::Cancelled);
    });
}

#[test]
fn no_change_is_lost_between_looking_and_sleeping() {
    const ITEMS: u64 = 2_000;
    let flags: Vec<_> = (0..4).map(|_| Arc::new((AtomicU64::new(0), EventCount::new()))).collect();
    let sources = equal(flags.iter().map(|f| {
        let some = |f: &(AtomicU64, EventCount)| f.0.load(Ordering::SeqCst) > 0;
        source(f.clone(), move |f| Some(some(f)), move |f| f.1.fd(|| some(f)))
    }));
    std::thread::scope(|s| {
        for flag in &flags {
            s.spawn(move || {
                for i in 0..ITEMS {
                    flag.0.fetch_add(1, Ordering::SeqCst);
                    flag.1.notify_one();
                    flag.1.refresh(|| flag.0.load(Ordering::SeqCst) > 0);
                    if i % 64 == 0 {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
            });
        }
        for _ in 0..ITEMS * 4 {
            let at = select(&sources, &forever()).unwrap().unwrap();
            let (items, changes) = &*flags[at];
            assert!(items.fetch_sub(1, Ordering::SeqCst) > 0);
            changes.refresh(|| items.load(Ordering::SeqCst) > 0);
        }
    });
}

proptest! {
    #[test]
    fn the_lowest_rank_of_those_that_are_ready_is_chosen_and_the_first_of_equal_ones(
        all in proptest::collection::vec((any::<bool>(), 0..4u32, any::<bool>()), 0..20)
    ) {
        let mut candidates = Vec::new();
        for (ready, rank, knows) in &all {
            let event = Rc::new(Event::new().unwrap());
            if *ready {
                event.set();
            }
            let (knows, ready) = (*knows, *ready);
            let source = source(event, move |_| knows.then_some(ready), |e| e.fd());
            candidates.push(Candidate { source: Some(source), rank: *rank });
        }
        let expected = all.iter().enumerate().filter(|(_, c)| c.0).min_by_key(|(index, c)| (c.1, *index));
        prop_assert_eq!(select(&candidates, &now()).unwrap(), expected.map(|(index, _)| index));
    }
}
