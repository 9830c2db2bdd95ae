//! Messages that go on where they stopped.

use super::*;
use crate::transport::{Parcel, Sending, Ticket};

fn parcel(message: Message) -> Arc<Parcel> {
    Arc::new(Parcel::new(message).unwrap())
}

/// Two ends, plain and sealed.
fn pairs() -> [(Arc<Stream>, Arc<Stream>); 2] {
    [false, true].map(|sealed| pair_with(Policy::default(), sealed))
}

/// Far more than a socket holds, with a tensor whose elements lie apart.
fn large(n: f32) -> Message {
    let t = Tensor::from_slice(&vec![n; 1 << 20]).unwrap().view(&[1 << 10, 1 << 10]).unwrap();
    t.narrow(0, 0, 1).unwrap().copy_from(&Tensor::from_slice(&[n + 1.0; 1 << 10]).unwrap()).unwrap();
    lone(&t.transpose(0, 1).unwrap())
}

#[test]
fn a_message_goes_on_where_it_stopped() {
    for (a, b) in pairs() {
        let (mut ticket, mut out) = (None, Message::default());
        let whole = parcel(large(1.0));
        let mut looks = 0;
        while a.try_send(&whole, &mut ticket).unwrap() != Sending::Sent {
            assert!(ticket.is_some());
            looks += 1;
            let _ = b.try_recv(&mut out).unwrap();
        }
        assert!(looks > 2, "{looks}");
        // Once more says so once more.
        assert_eq!(a.try_send(&whole, &mut ticket).unwrap(), Sending::Sent);
        if out.bytes.is_empty() {
            out = receive(&*b).unwrap();
        }
        assert_eq!(content(&out), content(whole.message()));
        assert_eq!(a.stats().tx.bytes, b.stats().rx.bytes);
        assert_eq!(a.stats().tx.calls, 1);
    }
}

#[test]
fn the_next_sender_moves_on_what_has_begun() {
    for (a, b) in pairs() {
        let (one, two) = (parcel(large(1.0)), parcel(large(2.0)));
        let (mut first, mut second) = (None, None);
        assert_eq!(a.try_send(&one, &mut first).unwrap(), Sending::Blocked);
        assert_eq!(a.try_send(&two, &mut second).unwrap(), Sending::Blocked);
        assert!(second.is_none());
        thread::scope(|s| {
            let reader = s.spawn(|| [receive(&*b), receive(&*b), receive(&*b)].map(|m| content(&m.unwrap())));
            // A plain send finishes the first before its own.
            a.send(&mut text(b"plain"), &never()).unwrap();
            assert_eq!(a.try_send(&one, &mut first).unwrap(), Sending::Sent);
            while a.try_send(&two, &mut second).unwrap() != Sending::Sent {
                thread::yield_now();
            }
            let [x, y, z] = reader.join().unwrap();
            assert_eq!((x, y.0, z), (content(one.message()), b"plain".to_vec(), content(two.message())));
        });
        assert_eq!(Arc::strong_count(&one), 1);
    }
}

#[test]
fn a_message_given_up_before_its_first_byte_has_never_begun() {
    for (a, b) in pairs() {
        let mut sent = 0u32;
        let last: Ticket = loop {
            let mut ticket = None;
            if a.try_send(&parcel(text(&sent.to_le_bytes())), &mut ticket).unwrap() == Sending::Blocked {
                break ticket.unwrap();
            }
            sent += 1;
        };
        a.give_up(last);
        a.give_up(last);
        assert!(a.is_open());
        for n in 0..sent {
            assert_eq!(receive(&*b).unwrap().bytes, n.to_le_bytes());
        }
        a.send(&mut text(b"next"), &never()).unwrap();
        assert_eq!(receive(&*b).unwrap().bytes, b"next");
    }
}

#[test]
fn a_message_given_up_in_the_middle_closes_the_connection() {
    for (a, b) in pairs() {
        let (whole, mut ticket) = (parcel(large(1.0)), None);
        assert_eq!(a.try_send(&whole, &mut ticket).unwrap(), Sending::Blocked);
        a.give_up(ticket.unwrap());
        assert!(!a.is_open());
        assert_eq!(Arc::strong_count(&whole), 1);
        assert_eq!(a.try_send(&whole, &mut ticket).unwrap_err().code(), Code::Closed);
        assert!(a.ending().unwrap().what().contains("in the middle of a message"));
        assert_eq!(receive(&*b).unwrap_err().code(), Code::Closed);
    }
}

#[test]
fn a_blocked_sender_settles_what_another_gives_up() {
    for (a, b) in pairs() {
        let (whole, mut ticket) = (parcel(large(1.0)), None);
        assert_eq!(a.try_send(&whole, &mut ticket).unwrap(), Sending::Blocked);
        thread::scope(|s| {
            let plain = s.spawn(|| a.send(&mut text(b"x"), &Wait::until(Deadline::after(0.3))).unwrap_err());
            while a.try_send(&whole, &mut ticket).unwrap() != Sending::Busy {
                thread::yield_now();
            }
            a.give_up(ticket.unwrap());
            plain.join().unwrap();
        });
        assert!(!a.is_open());
        assert_eq!(receive(&*b).unwrap_err().code(), Code::Closed);
    }
}

#[test]
fn two_that_send_to_each_other_at_once_both_finish() {
    for (a, b) in pairs() {
        thread::scope(|s| {
            for (end, n) in [(&a, 1.0), (&b, 3.0)] {
                s.spawn(move || {
                    // Received by the other's send, or in part by that and then by its receive.
                    end.send(&mut large(n), &never()).unwrap();
                    assert_eq!(content(&receive(&**end).unwrap()), content(&large(4.0 - n)));
                    end.send(&mut text(b"and on"), &never()).unwrap();
                    assert_eq!(receive(&**end).unwrap().bytes, b"and on");
                });
            }
        });
        assert_eq!((a.stats().rx.calls, a.stats().rx.bytes), (2, b.stats().tx.bytes));
    }
}

/// Sends `large(1.0)` twice: so it waits until the peer has received the first one, though that sends meanwhile.
fn send_in_the_background(end: &Arc<Stream>) -> thread::JoinHandle<Result<()>> {
    let end = end.clone();
    thread::spawn(move || {
        end.send(&mut large(1.0), &never())?;
        end.send(&mut large(1.0), &never())
    })
}

#[test]
fn what_a_send_receives_is_told_of_and_goes_where_the_next_receive_wants_it() {
    for (a, b) in pairs() {
        let told = Arc::new(AtomicUsize::new(0));
        a.on_arrival(Box::new({
            let told = told.clone();
            move || {
                let _ = told.fetch_add(1, Ordering::SeqCst);
            }
        }));
        let fd = a.fd().unwrap();
        let sender = send_in_the_background(&a);
        b.send(&mut large(5.0), &never()).unwrap();
        b.send(&mut text(b"the second stays in the socket"), &never()).unwrap();
        while told.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        assert!(a.is_ready() && poll_fd(fd, Interest::Read, &never()).unwrap());
        assert_eq!(a.stats().rx.calls, 0);
        let into = Tensor::with_sizes(DType::Float, &[1 << 10, 1 << 10]).unwrap();
        let mut out = Message::default();
        a.recv(Some(Target::Tensor(&into)), &mut out, &never()).unwrap();
        assert_eq!(content(&lone(&into)), content(&large(5.0)));
        assert_eq!(receive(&*a).unwrap().bytes, b"the second stays in the socket");
        assert!(!poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap());
        (0..2).for_each(|_| drop(receive(&*b).unwrap()));
        sender.join().unwrap().unwrap();
    }
}

#[test]
fn what_a_send_finds_wrong_is_raised_by_the_next_receive() {
    let (a, b) = pair_with(Policy { functions: false, ..Policy::default() }, false);
    let sender = send_in_the_background(&a);
    // As from a peer that does not ask.
    let mut function = Header { functions: true, descriptors: 0, bytes: 2 }.encode().to_vec();
    function.extend([0x10, 0xc0]);
    let fd = b.socket().unwrap().unwrap().fd();
    // SAFETY: a slice.
    unsafe { socket::send(fd, &[Region::of(&function)], false) }.unwrap();
    while !a.is_ready() {
        thread::yield_now();
    }
    (0..2).for_each(|_| drop(receive(&*b).unwrap()));
    sender.join().unwrap().unwrap();
    assert_eq!(receive(&*a).unwrap_err().code(), Code::Unsupported);
    b.send(&mut text(b"in step"), &never()).unwrap();
    assert_eq!(receive(&*a).unwrap().bytes, b"in step");
    // A broken frame ends both directions, and both say so.
    let sender = send_in_the_background(&a);
    // SAFETY: a slice.
    unsafe { socket::send(fd, &[Region::of(&[0xff; 16])], false) }.unwrap();
    assert_eq!(sender.join().unwrap().unwrap_err().code(), Code::Closed);
    assert_eq!(receive(&*a).unwrap_err().code(), Code::Protocol);
}

#[test]
fn a_send_leaves_the_receiving_to_who_is_at_it() {
    let (a, b) = pair();
    let receiver = thread::spawn({
        let a = a.clone();
        move || [receive(&*a), receive(&*a)].map(|m| content(&m.unwrap()))
    });
    let sender = send_in_the_background(&a);
    b.send(&mut large(2.0), &never()).unwrap();
    b.send(&mut large(3.0), &never()).unwrap();
    (0..2).for_each(|_| assert_eq!(content(&receive(&*b).unwrap()), content(&large(1.0))));
    sender.join().unwrap().unwrap();
    assert_eq!(receiver.join().unwrap(), [content(&large(2.0)), content(&large(3.0))]);
}

#[test]
fn a_parcel_that_waits_is_given_up_when_its_time_is_over() {
    for (a, b) in pairs() {
        let (whole, mut ticket) = (parcel(large(1.0)), None);
        let e = a.send_parcel(&whole, &mut ticket, &soon()).unwrap_err();
        assert_eq!(e.code(), Code::Timeout);
        assert!(e.what().contains("broken off"), "{e}");
        assert!(ticket.is_none() && !a.is_open());
        assert_eq!(receive(&*b).unwrap_err().code(), Code::Closed);
    }
}

#[test]
fn a_tensor_that_a_send_finds_no_memory_for_is_told_of() {
    let (a, b) = pair();
    let sender = send_in_the_background(&a);
    let fd = a.fd().unwrap();
    // A tensor of 2^60 bytes, of which nothing follows.
    let mut descriptor = Vec::new();
    Descriptor::new(Kind::Tensor, DType::Byte, &[1 << 60]).encode(0, &mut descriptor).unwrap();
    let header = Header { functions: false, descriptors: descriptor.len(), bytes: LONE.len() };
    let frame = [&header.encode()[..], LONE, &descriptor].concat();
    let inside = b.socket().unwrap().unwrap();
    // SAFETY: a slice.
    unsafe { socket::send(inside.fd(), &[Region::of(&frame)], false) }.unwrap();
    while !a.is_ready() {
        thread::yield_now();
    }
    assert!(poll_fd(fd, Interest::Read, &never()).unwrap());
    (0..2).for_each(|_| drop(receive(&*b).unwrap()));
    sender.join().unwrap().unwrap();
    for _ in 0..2 {
        assert_eq!(receive(&*a).unwrap_err().code(), Code::Limit);
        assert!(a.is_ready() && poll_fd(fd, Interest::Read, &never()).unwrap());
    }
    assert_eq!(a.unfilled(), 1 << 60);
}
