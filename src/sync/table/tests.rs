//! The table against a model, and between threads.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;

use proptest::prelude::*;

use super::*;
use crate::error::Code;
use crate::sys::SharedBytes;
use crate::sys::fork_for_tests as in_child;
use crate::wire::{Attachment, Encoder, Message, downcast, ext};

fn number(n: i64) -> Value {
    Value::Number(Number::Integer(n))
}

fn read(value: Option<Value>) -> Option<i64> {
    match value {
        Some(Value::Number(Number::Integer(n))) => Some(n),
        None => None,
        other => panic!("{other:?}"),
    }
}

fn holding(table: &Arc<Table>) -> Value {
    let mut message = Message::default();
    Encoder::new(&mut message.bytes).numbered(ext::ATTACHMENT, 0);
    message.attachments.push(Attachment::Object(table.clone()));
    Value::message(message)
}

#[derive(Clone, Debug)]
enum Step {
    Set(Key, i64),
    Remove(Key),
    Add(Key, i64),
    Update(Key, Option<i64>),
    Cas(Key, Option<i64>, Option<i64>),
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        (-20i64..20).prop_map(Key::Integer),
        prop::sample::select(vec![0.5, -1.5, f64::INFINITY]).prop_map(|x: f64| Key::Float(x.to_bits())),
        any::<bool>().prop_map(Key::Boolean),
        "[ab]{0,2}".prop_map(|s| Key::String(SharedBytes::new(s.as_bytes()).unwrap())),
        "[ab]{0,2}"
            .prop_map(|s| Key::String(SharedBytes::new(format!("a long prefix of a key {s}").as_bytes()).unwrap())),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let n = || -2i64..2;
    let maybe = || prop::option::of(-2i64..2);
    prop_oneof![
        (key(), n()).prop_map(|(k, n)| Step::Set(k, n)),
        key().prop_map(Step::Remove),
        (key(), n()).prop_map(|(k, n)| Step::Add(k, n)),
        (key(), maybe()).prop_map(|(k, n)| Step::Update(k, n)),
        (key(), maybe(), maybe()).prop_map(|(k, a, b)| Step::Cas(k, a, b)),
    ]
}

fn name(key: &Key) -> String {
    format!("{key:?}")
}

proptest! {
    #[test]
    fn it_does_what_a_map_does(steps in prop::collection::vec(step(), 0..200)) {
        let (table, mut model) = (Table::new(), HashMap::<String, i64>::new());
        let put = |model: &mut HashMap<String, i64>, k: &Key, n: Option<i64>| match n {
            Some(n) => drop(model.insert(name(k), n)),
            None => drop(model.remove(&name(k))),
        };
        for step in steps {
            match step {
                Step::Set(k, n) => {
                    table.set(k.borrow(), Some(number(n))).unwrap();
                    put(&mut model, &k, Some(n));
                }
                Step::Remove(k) => {
                    table.set(k.borrow(), None).unwrap();
                    put(&mut model, &k, None);
                }
                Step::Add(k, n) => {
                    let sum = model.get(&name(&k)).copied().unwrap_or(0) + n;
                    let added = table.add(k.borrow(), Number::Integer(n)).unwrap();
                    prop_assert!(added.equals(Number::Integer(sum)));
                    put(&mut model, &k, Some(sum));
                }
                Step::Update(k, n) => {
                    let there = model.get(&name(&k)).copied();
                    table.update(k.borrow(), |old| {
                        assert_eq!(read(old), there);
                        Ok(n.map(number))
                    }).unwrap();
                    put(&mut model, &k, n);
                }
                Step::Cas(k, old, new) => {
                    let there = model.get(&name(&k)).copied();
                    let done = table.cas(k.borrow(), old.map(number).as_ref(), new.map(number)).unwrap();
                    prop_assert_eq!(done.is_ok(), there == old);
                    match done {
                        Ok(()) => put(&mut model, &k, new),
                        Err(held) => prop_assert_eq!(read(held), there),
                    }
                }
            }
            prop_assert_eq!(table.len(), model.len());
        }
        let (mut cursor, mut found) = (Cursor::default(), HashMap::new());
        while let Some((k, v)) = cursor.next(&table).unwrap() {
            prop_assert_eq!(read(table.get(k.borrow())), read(Some(v.clone())));
            prop_assert!(found.insert(name(&k), read(Some(v)).unwrap()).is_none());
        }
        prop_assert_eq!(found, model);
    }
}

#[test]
fn nothing_is_lost_between_threads() {
    let table = Table::new();
    scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for i in 0..3000 {
                    table.add(KeyRef::String(b"added"), Number::Integer(1)).unwrap();
                    table
                        .update(KeyRef::String(b"updated"), |old| Ok(Some(number(read(old).unwrap_or(0) + 1))))
                        .unwrap();
                    loop {
                        let there = table.get(KeyRef::Integer(1));
                        let next = number(read(there.clone()).unwrap_or(0) + 1);
                        if table.cas(KeyRef::Integer(1), there.as_ref(), Some(next)).unwrap().is_ok() {
                            break;
                        }
                    }
                    table.set(KeyRef::Integer(1000 + i), Some(number(i))).unwrap();
                }
            });
        }
    });
    for key in [KeyRef::String(b"added"), KeyRef::String(b"updated"), KeyRef::Integer(1)] {
        assert_eq!(read(table.get(key)), Some(12_000), "{key:?}");
    }
    assert_eq!(table.len(), 3003);
}

#[test]
fn a_walk_finds_every_key_that_stays_once_while_others_come_and_go() {
    let (table, stop) = (Table::new(), AtomicBool::new(false));
    (0..1000).for_each(|n| table.set(KeyRef::Integer(n), Some(number(n))).unwrap());
    scope(|s| {
        s.spawn(|| {
            for n in (1000..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                table.set(KeyRef::Integer(n), Some(number(n))).unwrap();
                table.set(KeyRef::Integer((n - 500).max(1000)), None).unwrap();
            }
        });
        for _ in 0..20 {
            let (mut cursor, mut seen) = (Cursor::default(), HashSet::new());
            while let Some((key, value)) = cursor.next(&table).unwrap() {
                assert_eq!(key, Key::Integer(read(Some(value)).unwrap()));
                assert!(seen.insert(name(&key)), "{key:?} twice");
            }
            assert!((0..1000).all(|n| seen.contains(&name(&Key::Integer(n)))));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_write_in_between_makes_an_update_run_again() {
    let table = Table::new();
    let key = KeyRef::String(b"k");
    let mut runs = 0;
    table
        .update(key, |old| {
            runs += 1;
            if runs < 3 {
                // The same value again is a write too.
                table.set(key, Some(number(7))).unwrap();
            }
            Ok(Some(number(read(old).unwrap_or(0) + 1)))
        })
        .unwrap();
    assert_eq!((runs, read(table.get(key))), (3, Some(8)));
    let e = table.update(key, |_| Err(err!(State, "no"))).unwrap_err();
    assert_eq!((e.code(), read(table.get(key))), (Code::State, Some(8)));
}

#[test]
fn only_numbers_are_added_to() {
    let table = Table::new();
    table.set(KeyRef::String(b"x"), Some(Value::Boolean(true))).unwrap();
    let e = table.add(KeyRef::String(b"x"), Number::Integer(1)).unwrap_err();
    assert_eq!((e.code(), e.what()), (Code::Argument, "expected a number under the key .x, found a boolean"));
}

#[test]
fn memory_is_counted_up_and_down() {
    let table = Table::new();
    let empty = table.bytes();
    let mut message = Message::default();
    assert!(Encoder::new(&mut message.bytes).string(&[b'x'; 100_000]));
    table.set(KeyRef::String(b"long"), Some(Value::message(message))).unwrap();
    assert!(table.bytes() > empty + 100_000);
    table.set(KeyRef::String(b"long"), Some(Value::Boolean(true))).unwrap();
    table.set(KeyRef::String(b"long"), None).unwrap();
    assert!(table.bytes() < empty + 1000);
}

#[test]
fn a_chain_of_tables_is_dropped_whatever_its_length() {
    let mut head = Arc::new(Table::new());
    for _ in 0..3000 {
        let next = Arc::new(Table::new());
        next.set(KeyRef::Integer(1), Some(holding(&head))).unwrap();
        head = next;
    }
    let small = std::thread::Builder::new().stack_size(64 << 10).spawn(move || drop(head)).unwrap();
    small.join().unwrap();
}

#[test]
fn a_table_in_a_table_is_the_same_one() {
    let (outer, inner) = (Table::new(), Arc::new(Table::new()));
    outer.set(KeyRef::Boolean(true), Some(holding(&inner))).unwrap();
    let Some(Value::Message(m)) = outer.get(KeyRef::Boolean(true)) else { panic!() };
    let Attachment::Object(object) = &m.attachments[0] else { panic!() };
    assert!(Arc::ptr_eq(&downcast::<Table>(object.clone()).unwrap(), &inner));
    assert!(outer.cas(KeyRef::Boolean(true), Some(&holding(&inner)), None).unwrap().is_ok());
    assert_eq!(Arc::strong_count(&inner), 2, "this one, and the message");
}

#[test]
fn a_child_has_it_whole_and_may_write_at_once() {
    let (table, stop) = (Table::new(), AtomicBool::new(false));
    scope(|s| {
        s.spawn(|| {
            for n in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                table.set(KeyRef::Integer(n % 100), Some(number(n % 100))).unwrap();
                table.set(KeyRef::Integer((n + 50) % 100), None).unwrap();
            }
        });
        let codes: Vec<_> = (0..20)
            .map(|_| {
                in_child(|| {
                    let whole = (0..100).all(|n| read(table.get(KeyRef::Integer(n))).is_none_or(|v| v == n));
                    (0..200).for_each(|n| table.set(KeyRef::Integer(n), Some(number(n))).unwrap());
                    whole && table.len() == 200
                })
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(codes, vec![0; 20]);
    });
}
