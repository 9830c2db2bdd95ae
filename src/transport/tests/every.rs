//! What holds over every kind of link.

use super::*;
use crate::transport::{Parcel, Sending};

/// Larger than what any link takes unread beside another one.
fn large(fill: u8) -> Message {
    text(&vec![fill; 20 << 20])
}

/// Sends on a thread of its own, since a large message may wait for its receiver.
fn sending(end: &End, mut message: Message) -> thread::JoinHandle<Result<()>> {
    let end = end.clone();
    thread::spawn(move || end.send(&mut message, &never()))
}

#[test]
fn messages_come_in_order_and_are_counted() {
    for (link, a, b) in every() {
        for i in 0..10u8 {
            a.send(&mut text(&[i; 5]), &never()).unwrap();
        }
        for i in 0..10u8 {
            assert_eq!(receive(&*b).unwrap().bytes, [i; 5], "{link}");
        }
        let (tx, rx) = (a.stats().tx, b.stats().rx);
        assert_eq!((tx.calls, rx.calls, tx.bytes), (10, 10, rx.bytes), "{link}");
        assert!(tx.bytes >= 210, "{link}: {tx:?}");
        assert!(!b.try_recv(&mut Message::default()).unwrap() && !b.is_ready(), "{link}");
        assert!(!b.recv_before(None, &mut Message::default(), &soon()).unwrap());
        assert_eq!(b.recv(None, &mut Message::default(), &soon()).unwrap_err().code(), Code::Timeout);
    }
}

#[test]
fn a_tensor_is_what_it_was_at_the_call() {
    for (link, a, b) in every() {
        let t = tensor(&[1.0, 2.0, 3.0]);
        a.send(&mut lone(&t), &never()).unwrap();
        t.fill(7.0).unwrap();
        let got = receive(&*b).unwrap();
        assert_eq!(content(&got), content(&lone(&tensor(&[1.0, 2.0, 3.0]))), "{link}");
        let [Attachment::Tensor(came)] = &got.attachments[..] else { panic!("{got:?}") };
        came.fill(9.0).unwrap();
        assert_eq!(t.to_vec::<f32>().unwrap(), [7.0; 3], "{link}");
    }
}

#[test]
fn a_tensor_goes_into_another_of_any_strides() {
    for (link, a, b) in every() {
        let sent = Tensor::from_slice(&[1i64, 2, 3, 4, 5, 6]).unwrap().view(&[2, 3]).unwrap();
        let mut out = Message::default();
        for target in [
            Tensor::with_sizes(DType::Long, &[2, 3]).unwrap(),
            Tensor::with_sizes(DType::Long, &[3, 2]).unwrap().transpose(0, 1).unwrap(),
        ] {
            for message in [sent.clone(), sent.transpose(0, 1).unwrap().contiguous().unwrap().transpose(0, 1).unwrap()]
            {
                target.zero().unwrap();
                a.send(&mut lone(&message), &never()).unwrap();
                b.recv(Some(Target::Tensor(&target)), &mut out, &never()).unwrap();
                assert_eq!(target.to_vec::<i64>().unwrap(), [1, 2, 3, 4, 5, 6], "{link}");
                assert!(matches!(&out.attachments[..], [Attachment::Tensor(t)] if t.same_view(&target)), "{link}");
            }
        }
        let storage = Storage::from_slice(&[7u8; 100_000]).unwrap();
        let attachments = vec![Attachment::Storage(storage.clone())];
        let sender = sending(&a, Message { bytes: LONE.to_vec(), attachments, ..Message::default() });
        let target = Storage::new(DType::Byte, 100_000).unwrap();
        b.recv(Some(Target::Storage(&target)), &mut out, &never()).unwrap();
        sender.join().unwrap().unwrap();
        assert_eq!(target.span().unwrap().to_vec(), storage.span().unwrap().to_vec(), "{link}");
    }
}

#[test]
fn what_shares_memory_arrives_sharing_it() {
    for (link, a, b) in every() {
        let t = tensor(&(0..50_000).map(|i| i as f32).collect::<Vec<_>>()).view(&[100, 500]).unwrap();
        let attachments = [t.clone(), t.transpose(0, 1).unwrap(), t.narrow(0, 10, 20).unwrap(), tensor(&[1.0; 3])];
        let mut message = text(&[0x10; 100]);
        message.attachments = attachments.into_iter().map(Attachment::Tensor).collect();
        message.attachments.push(Attachment::Storage(t.storage().unwrap().clone()));
        let want = content(&message);
        let sender = sending(&a, message);
        let got = receive(&*b).unwrap();
        sender.join().unwrap().unwrap();
        assert_eq!(content(&got), want, "{link}");
        // It travels once.
        assert!(a.stats().tx.bytes < 202_000 && a.stats().tx.bytes == b.stats().rx.bytes, "{link}: {:?}", a.stats());
        let [
            Attachment::Tensor(whole),
            Attachment::Tensor(turned),
            Attachment::Tensor(part),
            Attachment::Tensor(apart),
            Attachment::Storage(storage),
        ] = &got.attachments[..]
        else {
            panic!("{got:?}")
        };
        whole.fill(2.0).unwrap();
        assert_eq!((turned.sizes(), turned.strides()), (&[500, 100][..], &[1, 500][..]), "{link}");
        assert!(turned.to_vec::<f32>().unwrap().iter().all(|&x| x == 2.0), "{link}");
        assert!(part.to_vec::<f32>().unwrap().iter().all(|&x| x == 2.0), "{link}");
        assert_eq!(storage.get(49_999).unwrap().to_f64(), 2.0, "{link}");
        assert_eq!(apart.to_vec::<f32>().unwrap(), [1.0; 3], "{link}");
        // The sender's are its own.
        assert_eq!(t.to_vec::<f32>().unwrap()[7], 7.0, "{link}");
    }
}

#[test]
fn what_does_not_fit_names_both_and_the_next_message_is_found() {
    for (link, a, b) in every() {
        let target = tensor(&[0.0; 6]);
        let mut out = Message::default();
        let mut table = lone(&tensor(&[1.0; 6]));
        table.bytes.insert(1, 0x91);
        let mut two = table.bytes.clone();
        two.extend([0; 6]);
        let both = [tensor(&[1.0]), tensor(&[2.0])].map(Attachment::Tensor).into();
        let wrong = [
            (
                lone(&tensor(&[1.0; 7])),
                "torch.FloatTensor of 7 came, and what it should fill is a torch.FloatTensor of 6",
            ),
            (lone(&Tensor::from_slice(&[1.0f64; 6]).unwrap()), "torch.DoubleTensor of 6 came"),
            (lone(&tensor(&[1.0; 6]).view(&[2, 3]).unwrap()), "torch.FloatTensor of 2x3 came"),
            (text(b"hello"), "a value without tensors came"),
            (table, "with 1 tensors in it came"),
            (Message { bytes: two, attachments: both, ..Message::default() }, "with 2 tensors in it came"),
            (lone(&tensor(&vec![1.0; 40_000])), "of 40000 came"),
        ];
        for (message, want) in wrong {
            let sender = sending(&a, message);
            let e = b.recv(Some(Target::Tensor(&target)), &mut out, &never()).unwrap_err();
            assert_eq!(e.code(), Code::Mismatch, "{link}");
            assert!(e.what().contains(want), "{link}: {e}");
            sender.join().unwrap().unwrap();
        }
        a.send(&mut lone(&tensor(&[3.0; 6])), &never()).unwrap();
        b.recv(Some(Target::Tensor(&target)), &mut out, &never()).unwrap();
        assert_eq!(target.to_vec::<f32>().unwrap(), [3.0; 6], "{link}");
    }
}

#[test]
fn what_the_peer_does_not_take_is_refused_and_the_message_stays() {
    let takes = Limits { message: 50, tensor_bytes: 1000, tensors: 2 };
    for (link, a, b) in every_with(Policy { takes, peer_takes: takes, ..Policy::default() }) {
        let mut long = text(&[1; 51]);
        assert_eq!(a.send(&mut long, &never()).unwrap_err().code(), Code::Limit, "{link}");
        assert_eq!(long.bytes, [1; 51], "{link}");
        let mut function = Message { bytes: b"f".to_vec(), functions: true, ..Message::default() };
        assert_eq!(a.send(&mut function, &never()).unwrap_err().code(), Code::Unsupported, "{link}");
        assert_eq!(a.send(&mut lone(&tensor(&[0.0; 251])), &never()).unwrap_err().code(), Code::Limit, "{link}");
        // What is shown counts, too.
        let one = tensor(&[1.0]);
        let mut message = text(&[0x10; 30]);
        message.attachments = [one.clone(), one.expand(&[300]).unwrap()].map(Attachment::Tensor).into();
        assert_eq!(a.send(&mut message, &never()).unwrap_err().code(), Code::Limit, "{link}");
        let parcel = Arc::new(Parcel::new(message).unwrap());
        assert_eq!(a.try_send(&parcel, &mut None).unwrap_err().code(), Code::Limit, "{link}");
        assert_eq!(a.send_parcel(&parcel, &mut None, &never()).unwrap_err().code(), Code::Limit, "{link}");
        a.send(&mut text(b"next"), &never()).unwrap();
        assert_eq!(receive(&*b).unwrap().bytes, b"next", "{link}");
    }
    for (link, a, b) in every_with(Policy { functions: true, ..Policy::default() }) {
        a.send(&mut Message { bytes: b"f".to_vec(), functions: true, ..Message::default() }, &never()).unwrap();
        assert!(receive(&*b).unwrap().functions, "{link}");
    }
}

#[test]
fn a_link_takes_some_megabytes_unread_and_then_waits() {
    for (link, a, b) in every() {
        let (mut sent, mut small) = (0u32, text(&[5; 1000]));
        let e = loop {
            small.bytes.resize(1000, 5);
            match a.send(&mut small, &Wait::until(Deadline::after(0.002))) {
                Ok(()) => sent += 1,
                Err(e) => break e,
            }
        };
        assert_eq!(e.code(), Code::Timeout, "{link}: {e}");
        assert!(sent >= if link == "memory" { 4 << 10 } else { 10 }, "{link}: {sent}");
        if !a.is_open() {
            continue; // a byte of it went
        }
        for _ in 0..sent {
            assert_eq!(receive(&*b).unwrap().bytes, [5; 1000], "{link}");
        }
        a.send(&mut text(b"last"), &never()).unwrap();
        assert_eq!(receive(&*b).unwrap().bytes, b"last", "{link}");
    }
}

#[test]
fn two_that_send_to_each_other_at_once_both_finish() {
    for (link, a, b) in every() {
        thread::scope(|s| {
            for (end, fill) in [(&a, 1), (&b, 2)] {
                s.spawn(move || {
                    for _ in 0..3 {
                        end.send(&mut large(fill), &never()).unwrap();
                        assert_eq!(receive(&**end).unwrap().bytes, large(3 - fill).bytes, "{link}");
                    }
                });
            }
        });
    }
}

#[test]
fn what_found_no_room_goes_when_there_is_some() {
    for (link, a, b) in every() {
        a.send(&mut text(b"first"), &never()).unwrap();
        let (parcel, mut ticket) = (Arc::new(Parcel::new(large(1)).unwrap()), None);
        assert_eq!(a.try_send(&parcel, &mut ticket).unwrap(), Sending::Blocked, "{link}");
        let receiver = thread::spawn({
            let b = b.clone();
            move || [receive(&*b), receive(&*b), receive(&*b)].map(|m| m.unwrap().bytes)
        });
        let room = a.room_fd().unwrap();
        while a.try_send(&parcel, &mut ticket).unwrap() != Sending::Sent {
            assert!(poll_fd(room, Interest::Read, &never()).unwrap());
        }
        assert_eq!(a.try_send(&parcel, &mut ticket).unwrap(), Sending::Sent, "{link}");
        a.send_parcel(&parcel, &mut None, &never()).unwrap();
        assert_eq!(receiver.join().unwrap(), [b"first".to_vec(), large(1).bytes, large(1).bytes], "{link}");
    }
}

#[test]
fn close_wakes_both_directions_in_other_threads() {
    for (link, a, _b) in every() {
        // So that the send waits, over memory too.
        a.send(&mut text(b"unread"), &never()).unwrap();
        thread::scope(|s| {
            let receiver = s.spawn(|| receive(&*a).unwrap_err().code());
            let sender = s.spawn(|| a.send(&mut large(0), &never()).unwrap_err().code());
            thread::sleep(Duration::from_millis(5));
            a.close();
            a.close();
            assert_eq!((receiver.join().unwrap(), sender.join().unwrap()), (Code::Closed, Code::Closed), "{link}");
        });
        assert_eq!(receive(&*a).unwrap_err().code(), Code::Closed, "{link}");
        assert_eq!(a.send(&mut text(b""), &never()).unwrap_err().code(), Code::Closed, "{link}");
        assert!(!a.is_open() && a.is_ready() && a.ending().is_none(), "{link}");
    }
}

#[test]
fn what_was_sent_before_a_close_is_still_received() {
    for (link, a, b) in every() {
        for i in 0..5u8 {
            a.send(&mut text(&[i]), &never()).unwrap();
        }
        drop(a);
        for i in 0..5u8 {
            assert!(!b.has_gone() && b.is_open(), "{link}");
            assert_eq!(receive(&*b).unwrap().bytes, [i], "{link}");
        }
        assert!(b.has_gone(), "{link}");
        for _ in 0..2 {
            let e = receive(&*b).unwrap_err();
            assert_eq!((e.code(), e.what()), (Code::Closed, "the peer closed the connection"), "{link}");
        }
        assert!(!b.is_open() && b.ending().is_some(), "{link}");
        assert_eq!(b.send(&mut text(b"x"), &never()).unwrap_err().code(), Code::Closed, "{link}");
    }
}

#[test]
fn a_peer_that_goes_ends_a_send_that_waits_and_a_receive() {
    for (link, a, b) in every() {
        a.send(&mut text(b"unread"), &never()).unwrap();
        let (sender, receiver) = (sending(&a, large(1)), {
            let a = a.clone();
            thread::spawn(move || receive(&*a).map(drop))
        });
        thread::sleep(Duration::from_millis(5));
        drop(b);
        assert_eq!(sender.join().unwrap().unwrap_err().code(), Code::Closed, "{link}");
        assert_eq!(receiver.join().unwrap().unwrap_err().code(), Code::Closed, "{link}");
    }
}

#[test]
fn an_end_for_a_reason_is_remembered_here_and_a_close_there() {
    for (link, a, b) in every() {
        a.end(err!(Protocol, "nonsense came"));
        let ending = a.ending().unwrap();
        assert_eq!((ending.code(), ending.what()), (Code::Protocol, "nonsense came"), "{link}");
        let e = receive(&*a).unwrap_err();
        assert_eq!((e.code(), e.what()), (Code::Closed, "nonsense came"), "{link}");
        assert_eq!(receive(&*b).unwrap_err().code(), Code::Closed, "{link}");
    }
}

#[test]
fn messages_of_many_threads_stay_whole() {
    for (link, a, b) in every() {
        let got = AtomicUsize::new(0);
        thread::scope(|s| {
            for i in 0..3u8 {
                let a = &a;
                s.spawn(move || (0..200).for_each(|n| a.send(&mut text(&vec![i; n * 37]), &never()).unwrap()));
            }
            for _ in 0..2 {
                s.spawn(|| {
                    let mut out = Message::default();
                    while got.load(Ordering::SeqCst) < 600 {
                        if b.recv_before(None, &mut out, &Wait::until(Deadline::after(0.05))).unwrap() {
                            assert!(out.bytes.iter().all(|x| *x == out.bytes[0]), "{link}");
                            got.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert_eq!(got.into_inner(), 600, "{link}");
    }
}

struct Cancellable(Cancel);

impl Interrupt for Cancellable {
    fn on_signal(&self) -> Result<()> {
        Err(err!(Raised, "a signal"))
    }
    fn cancel(&self) -> Option<&Cancel> {
        Some(&self.0)
    }
}

#[test]
fn a_cancel_ends_a_receive_and_keeps_the_connection() {
    for (link, a, b) in every() {
        let who = Cancellable(Cancel::new());
        thread::scope(|s| {
            let t = s.spawn(|| {
                let wait = Wait { deadline: Deadline::NEVER, interrupt: &who };
                b.recv(None, &mut Message::default(), &wait).unwrap_err().code()
            });
            thread::sleep(Duration::from_millis(5));
            who.0.fire();
            assert_eq!(t.join().unwrap(), Code::Cancelled, "{link}");
        });
        a.send(&mut text(b"on"), &never()).unwrap();
        assert_eq!(receive(&*b).unwrap().bytes, b"on", "{link}");
    }
}

#[test]
fn the_descriptor_is_readable_while_a_message_can_be_had() {
    for (link, a, b) in every() {
        let fd = b.fd().unwrap();
        let readable = || poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap();
        assert!(!readable(), "{link}");
        (0..3).for_each(|i| a.send(&mut text(&[i]), &never()).unwrap());
        for i in 0..3 {
            assert!(readable(), "{link}");
            assert_eq!(receive(&*b).unwrap().bytes, [i], "{link}");
            // Over a socket all three were read at once: it is empty.
            assert_eq!(b.is_ready(), i < 2, "{link}");
        }
        assert!(!readable(), "{link}");
        drop(a);
        assert!(readable(), "{link}");
        assert!(receive(&*b).is_err(), "{link}");
        assert!(readable(), "{link}");
    }
}

#[test]
fn a_forked_child_cannot_use_it_and_does_not_end_it() {
    for (link, a, b) in every() {
        // SAFETY: the child makes no use of other threads' state and leaves by _exit.
        match unsafe { libc::fork() } {
            0 => {
                let state = |r: Result<Message>| r.is_err_and(|e| e.code() == Code::State);
                let ok = state(receive(&*a)) && state(a.send(&mut text(b"x"), &never()).map(|()| text(b"")));
                drop((a, b));
                // SAFETY: ends the child here.
                unsafe { libc::_exit(i32::from(!ok)) }
            }
            pid => {
                let mut status = 0;
                // SAFETY: `status` is a valid place.
                while unsafe { libc::waitpid(pid, &mut status, 0) } < 0 {}
                assert_eq!(status, 0, "{link}");
            }
        }
        a.send(&mut text(b"still here"), &never()).unwrap();
        assert_eq!(receive(&*b).unwrap().bytes, b"still here", "{link}");
    }
}

#[test]
fn memory_of_a_small_message_is_reused() {
    for (link, a, b) in every() {
        let (mut sent, mut out) = (text(&[1; 64]), Message::default());
        let mut seen = std::collections::HashSet::new();
        for _ in 0..20 {
            sent.bytes.resize(64, 1);
            a.send(&mut sent, &never()).unwrap();
            b.recv(None, &mut out, &never()).unwrap();
            seen.insert(out.bytes.as_ptr() as usize);
        }
        assert!(seen.len() <= 2, "{link}: {seen:?}");
    }
}

/// What a receiver can tell of the tensors of a message: sizes, strides, where each begins, and the first one that it
/// shares its storage with.
fn shape(message: &Message) -> Vec<(Vec<usize>, Vec<isize>, usize, usize)> {
    let tensors = || {
        message.attachments.iter().map(|a| match a {
            Attachment::Tensor(t) => t,
            other => panic!("{other:?}"),
        })
    };
    let ids: Vec<_> = tensors().map(|t| t.storage().map(Storage::id)).collect();
    let first = |t: &Tensor| ids.iter().position(|id| *id == t.storage().map(Storage::id)).unwrap();
    tensors().map(|t| (t.sizes().to_vec(), t.strides().to_vec(), t.offset(), first(t))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn views_of_one_memory_arrive_alike_over_every_link(
        views in prop::collection::vec(
            (0usize..20, prop::collection::vec((1usize..5, 0isize..7), 1..3)), 1..5
        )
    ) {
        let base = tensor(&(0..100).map(|i| i as f32).collect::<Vec<_>>());
        let storage = base.storage().unwrap();
        let attachments: Vec<_> = views.iter().map(|(offset, dims)| {
            let (sizes, strides): (Vec<_>, Vec<_>) = dims.iter().copied().unzip();
            Tensor::from_storage(storage, *offset, &sizes, Some(&strides)).unwrap()
        }).collect();
        let message = || Message {
            bytes: vec![0x10; 6 * views.len()],
            attachments: attachments.iter().cloned().map(Attachment::Tensor).collect(),
            ..Message::default()
        };
        let mut seen = Vec::new();
        for (_, a, b) in every() {
            a.send(&mut message(), &never()).unwrap();
            let got = receive(&*b).unwrap();
            prop_assert_eq!(content(&got), content(&message()));
            seen.push(shape(&got));
        }
        prop_assert!(seen.iter().all(|one| *one == seen[0]), "{:?}", seen);
    }
}
