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
            out = receive(&b).unwrap();
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
            let reader = s.spawn(|| [receive(&b), receive(&b), receive(&b)].map(|m| content(&m.unwrap())));
            // A plain send finishes the first before its own.
            a.send(&text(b"plain"), &never()).unwrap();
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
            assert_eq!(receive(&b).unwrap().bytes, n.to_le_bytes());
        }
        a.send(&text(b"next"), &never()).unwrap();
        assert_eq!(receive(&b).unwrap().bytes, b"next");
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
        assert_eq!(receive(&b).unwrap_err().code(), Code::Closed);
    }
}

#[test]
fn a_blocked_sender_settles_what_another_gives_up() {
    for (a, b) in pairs() {
        let (whole, mut ticket) = (parcel(large(1.0)), None);
        assert_eq!(a.try_send(&whole, &mut ticket).unwrap(), Sending::Blocked);
        thread::scope(|s| {
            let plain = s.spawn(|| a.send(&text(b"x"), &Wait::until(Deadline::after(0.3))).unwrap_err());
            while a.try_send(&whole, &mut ticket).unwrap() != Sending::Busy {
                thread::yield_now();
            }
            a.give_up(ticket.unwrap());
            plain.join().unwrap();
        });
        assert!(!a.is_open());
        assert_eq!(receive(&b).unwrap_err().code(), Code::Closed);
    }
}
