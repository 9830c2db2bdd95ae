#![allow(clippy::unwrap_used)]

use super::*;
use crate::error::Code;
use crate::wait::{Cancel, Deadline, Interest, poll_fd};
use crate::wire::Attachment;
use std::thread::{scope, yield_now};

fn item(n: u64) -> Message {
    Message { bytes: n.to_ne_bytes().to_vec(), ..Message::default() }
}

fn channel(capacity: Option<u64>) -> Channel {
    Channel::new(Limits { capacity, timeout: None })
}

fn write(c: &Channel, n: u64) -> Status {
    c.write(&mut [item(n)], &Wait::until(Deadline::NEVER)).unwrap()
}

fn read(c: &Channel, deadline: Deadline) -> (Option<u64>, Status) {
    let mut out = Message::default();
    let (found, status) = c.read(&mut out, &Wait::until(deadline)).unwrap();
    (found.then(|| u64::from_ne_bytes(out.bytes[..].try_into().unwrap())), status)
}

/// Until somebody sleeps at the end of the channel that `changes` says.
fn until_awaited(changes: &crate::wait::EventCount) {
    while !changes.is_awaited() {
        yield_now();
    }
}

#[test]
fn what_is_left_at_the_close_is_read_and_then_it_is_drained() {
    let c = channel(None);
    assert_eq!(read(&c, Deadline::now()), (None, Status::Open));
    assert_eq!((write(&c, 1), write(&c, 2)), (Status::Open, Status::Open));
    assert_eq!(read(&c, Deadline::NEVER), (Some(1), Status::Open));
    c.close();
    c.close();
    let mut refused = [item(9)];
    assert_eq!(c.write(&mut refused, &Wait::until(Deadline::NEVER)).unwrap(), Status::Closed);
    assert_eq!(refused[0].bytes, item(9).bytes, "what was refused is still the caller's");
    assert_eq!((c.status(), c.to_string()), (Status::Closed, "ipc.channel: closed, 1 item left".into()));
    assert_eq!(read(&c, Deadline::NEVER), (Some(2), Status::Closed));
    assert_eq!(read(&c, Deadline::NEVER), (None, Status::Drained));
    assert_eq!((write(&c, 3), c.to_string()), (Status::Drained, "ipc.channel: drained".into()));
}

#[test]
fn a_close_ends_blocked_readers_and_writers() {
    let (empty, full) = (channel(None), channel(Some(1)));
    write(&full, 1);
    scope(|s| {
        for _ in 0..2 {
            s.spawn(|| assert_eq!(read(&empty, Deadline::NEVER), (None, Status::Drained)));
            s.spawn(|| assert_eq!(write(&full, 2), Status::Closed));
        }
        until_awaited(&empty.fifo.items);
        until_awaited(&full.fifo.room);
        empty.close();
        full.close();
    });
    assert_eq!(full.len(), 1);
}

#[test]
fn a_full_channel_makes_a_write_wait_and_a_time_out_changes_nothing() {
    let c = channel(Some(2));
    assert_eq!(c.write_now(&mut [item(0), item(1)]).unwrap(), (true, Status::Open));
    assert_eq!(c.write_now(&mut [item(2)]).unwrap(), (false, Status::Open));
    let mut more = [item(2)];
    let e = c.write(&mut more, &Wait::until(Deadline::after(0.001))).unwrap_err();
    assert_eq!((e.code(), e.what()), (Code::Timeout, "it is full (2 of 2 items) and nobody read any in time"));
    assert_eq!((c.len(), &more[0].bytes), (2, &item(2).bytes));
    let e = c.write_now(&mut [0, 1, 2].map(item)).unwrap_err();
    assert_eq!(e.code(), Code::Limit);
    scope(|s| {
        s.spawn(|| (2..1000).for_each(|n| assert_eq!(write(&c, n), Status::Open)));
        (0..1000).for_each(|n| assert_eq!(read(&c, Deadline::NEVER), (Some(n), Status::Open)));
    });
}

#[test]
fn a_cancel_ends_a_blocked_read_and_a_blocked_write_and_takes_nothing() {
    let (c, who) = (channel(Some(1)), Cancel::new());
    scope(|s| {
        s.spawn(|| {
            let wait = Wait { deadline: Deadline::NEVER, interrupt: &who };
            assert_eq!(c.read(&mut Message::default(), &wait).unwrap_err().code(), Code::Cancelled);
        });
        until_awaited(&c.fifo.items);
        who.fire();
    });
    let who = Cancel::new();
    write(&c, 1);
    scope(|s| {
        s.spawn(|| {
            let wait = Wait { deadline: Deadline::NEVER, interrupt: &who };
            assert_eq!(c.write(&mut [item(2)], &wait).unwrap_err().code(), Code::Cancelled);
        });
        until_awaited(&c.fifo.room);
        who.fire();
    });
    assert_eq!((read(&c, Deadline::NEVER).0, c.len()), (Some(1), 0));
}

#[test]
fn the_descriptors_follow_the_channel() {
    let c = channel(Some(1));
    let ready = |fd| poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap();
    let (items, room) = (c.read_fd().unwrap(), c.write_fd().unwrap());
    let both = || {
        assert_eq!((c.readable(), c.writable()), (ready(items), ready(room)));
        (ready(items), ready(room))
    };
    assert_eq!(both(), (false, true));
    write(&c, 1);
    assert_eq!(both(), (true, false));
    read(&c, Deadline::NEVER);
    assert_eq!(both(), (false, true));
    write(&c, 1);
    c.close();
    assert_eq!(both(), (true, true), "a write would not wait: it is refused");
    read(&c, Deadline::NEVER);
    assert_eq!(both(), (true, true), "a read would not wait: it says that the channel is drained");
}

#[test]
fn a_channel_that_nobody_holds_lets_go_of_its_items() {
    let (outer, inner) = (channel(None), Arc::new(channel(None)));
    let mut message = item(1);
    message.attachments.push(Attachment::Object(inner.clone()));
    outer.write(&mut [message], &Wait::until(Deadline::NEVER)).unwrap();
    assert_eq!(Arc::strong_count(&inner), 2);
    drop(outer);
    assert_eq!(Arc::strong_count(&inner), 1);
}

#[test]
fn a_forked_child_goes_on_with_the_channel_as_its_own() {
    use crate::sys::fork_for_tests as in_child;
    let c = channel(Some(100));
    let stop = std::sync::atomic::AtomicBool::new(false);
    scope(|s| {
        // Traffic, and sleepers at either end, at the moment of the fork.
        for _ in 0..2 {
            s.spawn(|| while write(&c, 3) == Status::Open {});
            s.spawn(|| while read(&c, Deadline::NEVER).1 != Status::Drained {});
        }
        for _ in 0..20 {
            let code = in_child(|| {
                while read(&c, Deadline::now()).0.is_some() {}
                let echo = write(&c, 9) == Status::Open && read(&c, Deadline::NEVER) == (Some(9), Status::Open);
                c.close();
                echo && read(&c, Deadline::NEVER) == (None, Status::Drained)
            });
            if code != 0 || c.status() != Status::Open {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
                break;
            }
        }
        c.close();
    });
    assert!(!stop.into_inner(), "a child failed, or closed the channel of its parent");
}

#[test]
fn writers_of_one_and_of_many_items_lose_no_wake_up() {
    const ROUNDS: u64 = 2_000;
    let c = channel(Some(5));
    let batches = [1, 1, 2, 2, 5];
    scope(|s| {
        for count in batches {
            let c = &c;
            s.spawn(move || {
                for _ in 0..ROUNDS {
                    let mut items: Vec<_> = (0..count).map(item).collect();
                    c.write(&mut items, &Wait::until(Deadline::NEVER)).unwrap();
                }
            });
        }
        // Writers that give up hand on the wake-up that may have been theirs.
        for count in [1, 2] {
            let c = &c;
            s.spawn(move || {
                for _ in 0..200 {
                    let mut items: Vec<_> = (0..count).map(|_| item(100)).collect();
                    let wait = Wait::until(Deadline::after(0.0001));
                    assert!(
                        c.write(&mut items, &wait).is_ok_and(|s| s == Status::Open)
                            || items[0].bytes == item(100).bytes
                    );
                }
            });
        }
        let mut left = ROUNDS * batches.iter().sum::<u64>();
        while left > 0 {
            let (found, _) = read(&c, Deadline::after(60.0));
            left -= u64::from(found.expect("a writer sleeps beside room for its items") != 100);
        }
        // The last of those that give up.
        while read(&c, Deadline::after(0.05)).0.is_some() {}
    });
}

#[test]
fn a_writer_of_few_goes_on_where_one_of_many_cannot() {
    let c = channel(Some(4));
    (0..4).for_each(|n| _ = write(&c, n));
    scope(|s| {
        let many =
            s.spawn(|| c.write(&mut (0..4).map(item).collect::<Vec<_>>(), &Wait::until(Deadline::NEVER)).unwrap());
        while !c.fifo.has_waiting_writers() {
            yield_now();
        }
        let two = s.spawn(|| c.write(&mut [item(7), item(8)], &Wait::until(Deadline::NEVER)).unwrap());
        read(&c, Deadline::NEVER);
        read(&c, Deadline::NEVER);
        assert_eq!(two.join().unwrap(), Status::Open);
        assert!(!many.is_finished());
        (0..4).for_each(|_| _ = read(&c, Deadline::NEVER));
        assert_eq!(many.join().unwrap(), Status::Open);
    });
}
