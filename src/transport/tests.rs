//! doc/stream.md, sentence by sentence, over socketpairs.
#![allow(clippy::unwrap_used)]

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::frame::{Descriptor, Header, Kind};
use super::secure::{Handshake, Keys, Role, Secret};
use super::{Connection, Policy, Stream, Target};
use crate::err;
use crate::error::{Code, Result};
use crate::sys::Fd;
use crate::sys::socket::{self, Address, Empty, Moved, Region};
use crate::tensor::{DType, Storage, Tensor};
use crate::wait::{Cancel, Deadline, Interest, Interrupt, Wait, poll_fd};
use crate::wire::{Attachment, Message, ext};

const LONE: &[u8] = &[0x10, 0xd6, 2, 0, 0, 0, 0];

fn never() -> Wait<'static> {
    Wait::until(Deadline::NEVER)
}

fn soon() -> Wait<'static> {
    Wait::until(Deadline::after(0.01))
}

fn keys() -> (Keys, Keys) {
    let secret = Secret::new(b"s");
    let mut i = Handshake::new(Role::Initiator, &secret, b"").unwrap();
    let mut r = Handshake::new(Role::Responder, &secret, b"").unwrap();
    r.read(&i.write(b"").unwrap()).unwrap();
    i.read(&r.write(b"").unwrap()).unwrap();
    (i.finish().unwrap(), r.finish().unwrap())
}

fn stream(fd: Fd, policy: Policy, keys: Option<Keys>) -> Arc<Stream> {
    let nowhere = Address::Unix(Default::default());
    Arc::new(Stream::new(fd, &nowhere, "the peer".into(), policy, keys).unwrap())
}

fn pair_with(policy: Policy, sealed: bool) -> (Arc<Stream>, Arc<Stream>) {
    let (a, b) = socket::pair().unwrap();
    let (ka, kb) = if sealed { Some(keys()).unzip() } else { (None, None) };
    (stream(a, policy, ka), stream(b, policy, kb))
}

fn pair() -> (Arc<Stream>, Arc<Stream>) {
    pair_with(Policy::default(), false)
}

fn text(bytes: &[u8]) -> Message {
    Message { bytes: bytes.to_vec(), ..Message::default() }
}

fn tensor(values: &[f32]) -> Tensor {
    Tensor::from_slice(values).unwrap()
}

fn lone(t: &Tensor) -> Message {
    Message { bytes: LONE.to_vec(), attachments: vec![Attachment::Tensor(t.clone())], ..Message::default() }
}

fn receive(c: &Stream) -> Result<Message> {
    let mut out = Message::default();
    c.recv(None, &mut out, &never())?;
    Ok(out)
}

fn content(m: &Message) -> (Vec<u8>, Vec<Vec<u8>>) {
    let data = m.attachments.iter().map(|a| match a {
        Attachment::Tensor(t) => t.contiguous().unwrap().bytes().unwrap().to_vec(),
        Attachment::Storage(s) => s.span().unwrap().to_vec(),
        other => panic!("{other:?}"),
    });
    (m.bytes.clone(), data.collect())
}

/// One end of a socketpair as bytes.
struct Raw(Fd);

impl Raw {
    fn write(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            // SAFETY: a slice.
            match unsafe { socket::send(self.0.as_raw_fd(), &[Region::of(bytes)]) } {
                Ok(Moved::Bytes(n)) => bytes = &bytes[n..],
                Ok(_) => assert!(poll_fd(self.0.as_raw_fd(), Interest::Write, &never()).unwrap()),
                Err(_) => return false,
            }
        }
        true
    }

    fn read(&self, most: usize) -> Option<Vec<u8>> {
        let mut buf = vec![0; most];
        loop {
            // SAFETY: a buffer of the stated length.
            match unsafe { socket::receive(self.0.as_raw_fd(), &[Region::new(buf.as_mut_ptr(), most)], Empty::Return) }
            {
                Ok(Moved::Bytes(n)) => {
                    buf.truncate(n);
                    return Some(buf);
                }
                Ok(Moved::Blocked) => assert!(poll_fd(self.0.as_raw_fd(), Interest::Read, &never()).unwrap()),
                _ => return None,
            }
        }
    }
}

fn raw_pair(policy: Policy) -> (Raw, Arc<Stream>) {
    let (a, b) = socket::pair().unwrap();
    (Raw(a), stream(b, policy, None))
}

/// Two streams with a middleman who passes bytes on in pieces of the given sizes, and cuts the line after `cut` bytes.
fn through(pieces: Vec<usize>, cut: Option<usize>, sealed: bool) -> (Arc<Stream>, Arc<Stream>, thread::JoinHandle<()>) {
    let (a, ra) = socket::pair().unwrap();
    let (rb, b) = socket::pair().unwrap();
    let (ka, kb) = if sealed { Some(keys()).unzip() } else { (None, None) };
    let (a, b) = (stream(a, Policy::default(), ka), stream(b, Policy::default(), kb));
    let middle = thread::spawn(move || {
        let (from, to) = (Raw(ra), Raw(rb));
        let mut left = cut.unwrap_or(usize::MAX);
        for size in pieces.iter().cycle() {
            let Some(mut got) = from.read((*size).max(1)) else { return };
            got.truncate(left);
            left -= got.len();
            if !to.write(&got) || left == 0 {
                return;
            }
            if *size < 8 {
                thread::yield_now();
            }
        }
    });
    (a, b, middle)
}

#[derive(Clone, Debug)]
enum Part {
    Tensor(u8, Vec<usize>, bool),
    Storage(u8, usize),
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let tensor =
        (1u8..=9, prop::collection::vec(1usize..9, 0..4), any::<bool>()).prop_map(|(d, s, t)| Part::Tensor(d, s, t));
    let storage = (1u8..=9, 0usize..5000).prop_map(|(d, n)| Part::Storage(d, n));
    prop::collection::vec(prop_oneof![3 => tensor, 1 => storage], 0..4)
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let bytes = prop_oneof![4 => 0usize..40, 2 => 3000usize..6000, 1 => 60_000usize..140_000];
    prop::collection::vec((bytes, any::<u8>(), parts()), 1..6)
        .prop_map(|list| list.into_iter().map(|(n, fill, parts)| build(n, fill, &parts)).collect())
}

/// `n` bytes, or as many as it takes to name the parts.
fn build(n: usize, fill: u8, parts: &[Part]) -> Message {
    let n = n.max(parts.len() * ext::NAMED_ATTACHMENT);
    let bytes = (0..n).map(|i| fill.wrapping_add(i as u8)).collect();
    let mut message = Message { bytes, ..Message::default() };
    for part in parts {
        message.attachments.push(match part {
            Part::Tensor(code, sizes, transposed) => {
                let t = Tensor::with_sizes(DType::from_code(*code).unwrap(), sizes).unwrap();
                let span = t.bytes().unwrap();
                span.write(0, &(0..span.len()).map(|i| fill.wrapping_mul(i as u8)).collect::<Vec<_>>());
                Attachment::Tensor(if *transposed && t.ndim() > 1 { t.transpose(0, 1).unwrap() } else { t })
            }
            Part::Storage(code, n) => {
                let s = Storage::new(DType::from_code(*code).unwrap(), *n).unwrap();
                let span = s.span().unwrap();
                span.write(0, &(0..span.len()).map(|i| fill ^ i as u8).collect::<Vec<_>>());
                Attachment::Storage(s)
            }
        });
    }
    message
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn messages_cross_whole_and_in_order_whatever_the_pieces(
        list in messages(), pieces in prop::collection::vec(prop_oneof![1usize..4, 10usize..90_000], 1..5), sealed: bool, try_only: bool,
    ) {
        let (a, b, middle) = through(pieces, None, sealed);
        let want: Vec<_> = list.iter().map(content).collect();
        let sender = thread::spawn(move || list.iter().try_for_each(|m| a.send(m, &never())));
        let mut out = Message::default();
        for want in &want {
            if try_only {
                while !b.try_recv(&mut out).unwrap() {
                    thread::yield_now();
                }
            } else {
                // Short waits on the way: the partial message is kept.
                while !b.recv_before(None, &mut out, &Wait::until(Deadline::after(1e-4))).unwrap() {}
            }
            prop_assert_eq!(&content(&out), want);
        }
        sender.join().unwrap().unwrap();
        prop_assert_eq!(b.recv(None, &mut out, &never()).unwrap_err().code(), Code::Closed);
        middle.join().unwrap();
    }

    #[test]
    fn a_peer_that_dies_anywhere_is_closed_after_the_whole_messages(
        list in messages(), pieces in prop::collection::vec(10usize..90_000, 1..5), at in 0.0f64..1.0, sealed: bool,
    ) {
        let total: usize = list.iter().map(|m| 16 + m.bytes.len() + content(m).1.iter().map(Vec::len).sum::<usize>()).sum();
        let (a, b, middle) = through(pieces, Some((total as f64 * at) as usize + 1), sealed);
        let want: Vec<_> = list.iter().map(content).collect();
        // The line may be cut after everything went, too.
        let sender = thread::spawn(move || list.iter().try_for_each(|m| a.send(m, &never())).map_err(|e| e.code()));
        let mut n = 0;
        let e = loop {
            match receive(&b) {
                Ok(m) => {
                    prop_assert_eq!(&content(&m), &want[n]);
                    n += 1;
                }
                Err(e) => break e,
            }
        };
        prop_assert_eq!(e.code(), Code::Closed);
        prop_assert!(e.what().contains("the peer"), "{}", e);
        prop_assert_eq!(receive(&b).unwrap_err().code(), Code::Closed);
        prop_assert_eq!(b.send(&text(b"x"), &never()).unwrap_err().code(), Code::Closed);
        prop_assert!(matches!(sender.join().unwrap(), Ok(()) | Err(Code::Closed)));
        middle.join().unwrap();
    }

    #[test]
    fn garbage_ends_the_connection_and_nothing_else(bytes in prop::collection::vec(any::<u8>(), 0..400), valid_start: bool) {
        let (raw, b) = raw_pair(Policy { max_message: 1000, ..Policy::default() });
        if valid_start {
            raw.write(&Header { functions: false, descriptors: 40, bytes: 12 }.encode());
        }
        raw.write(&bytes);
        drop(raw);
        for _ in 0..30 {
            if let Err(e) = receive(&b) {
                prop_assert!(matches!(e.code(), Code::Closed | Code::Protocol | Code::Limit | Code::Unsupported), "{e}");
            }
        }
        prop_assert!(receive(&b).is_err());
    }
}

#[test]
fn a_small_message_costs_one_system_call_each_way() {
    let (a, b) = pair();
    for _ in 0..10 {
        a.send(&text(b"hello"), &never()).unwrap();
        assert_eq!(receive(&b).unwrap().bytes, b"hello");
    }
    assert_eq!((a.stats().tx.calls, a.stats().tx.system_calls, a.stats().tx.bytes), (10, 10, 210));
    assert_eq!((b.stats().rx.calls, b.stats().rx.system_calls, b.stats().rx.bytes), (10, 10, 210));
    // Many that lie there are read at once.
    (0..10).for_each(|_| a.send(&text(b"hello"), &never()).unwrap());
    (0..10).for_each(|_| assert_eq!(receive(&b).unwrap().bytes, b"hello"));
    assert_eq!(b.stats().rx.system_calls, 11);
}

#[test]
fn a_time_out_keeps_the_partial_message_and_its_tensor() {
    let (raw, b) = raw_pair(Policy::default());
    let (a, tap) = socket::pair().unwrap();
    let t = tensor(&[1.0; 1000]);
    stream(a, Policy::default(), None).send(&lone(&t), &never()).unwrap(); // and closes
    // 16 bytes of header, 7 of message, 12 of descriptor, 4,000 of data.
    let tap = Raw(tap);
    let all: Vec<u8> = std::iter::from_fn(|| tap.read(1 << 16)).flatten().collect();
    assert_eq!(all.len(), 4035);
    let (head, rest) = all.split_at(2000);
    raw.write(head);
    let into = tensor(&[0.0; 1000]);
    let mut out = Message::default();
    assert!(!b.recv_before(Some(Target::Tensor(&into)), &mut out, &soon()).unwrap());
    assert!(!b.try_recv(&mut out).unwrap());
    assert_eq!(b.recv(None, &mut out, &soon()).unwrap_err().code(), Code::Timeout);
    raw.write(rest);
    // Another tensor now: both are filled.
    let other = tensor(&[0.0; 1000]);
    b.recv(Some(Target::Tensor(&other)), &mut out, &never()).unwrap();
    assert_eq!(into.to_vec::<f32>().unwrap(), [1.0; 1000]);
    assert_eq!(other.to_vec::<f32>().unwrap(), [1.0; 1000]);
}

#[test]
fn a_tensor_goes_straight_into_another_of_any_strides() {
    let (a, b) = pair();
    let sent = Tensor::from_slice(&[1i64, 2, 3, 4, 5, 6]).unwrap().view(&[2, 3]).unwrap();
    let mut out = Message::default();
    for target in [
        Tensor::with_sizes(DType::Long, &[2, 3]).unwrap(),
        Tensor::with_sizes(DType::Long, &[3, 2]).unwrap().transpose(0, 1).unwrap(),
    ] {
        for message in [sent.clone(), sent.transpose(0, 1).unwrap().contiguous().unwrap().transpose(0, 1).unwrap()] {
            target.zero().unwrap();
            a.send(&lone(&message), &never()).unwrap();
            b.recv(Some(Target::Tensor(&target)), &mut out, &never()).unwrap();
            assert_eq!(target.to_vec::<i64>().unwrap(), [1, 2, 3, 4, 5, 6]);
            assert!(matches!(&out.attachments[..], [Attachment::Tensor(t)] if t.same_view(&target)));
        }
    }
    let storage = Storage::from_slice(&[7u8; 100_000]).unwrap();
    let message =
        Message { bytes: LONE.to_vec(), attachments: vec![Attachment::Storage(storage.clone())], ..Message::default() };
    let target = Storage::new(DType::Byte, 100_000).unwrap();
    let sender = thread::spawn(move || a.send(&message, &never()));
    b.recv(Some(Target::Storage(&target)), &mut out, &never()).unwrap();
    sender.join().unwrap().unwrap();
    assert_eq!(target.span().unwrap().to_vec(), storage.span().unwrap().to_vec());
}

#[test]
fn what_does_not_fit_names_both_and_the_stream_stays_in_step() {
    let (a, b) = pair();
    let target = tensor(&[0.0; 6]);
    let mut out = Message::default();
    let mut table = lone(&tensor(&[1.0; 6]));
    table.bytes.insert(1, 0x91);
    let wrong = [
        (lone(&tensor(&[1.0; 7])), "torch.FloatTensor of 7 came, and what it should fill is a torch.FloatTensor of 6"),
        (lone(&Tensor::from_slice(&[1.0f64; 6]).unwrap()), "torch.DoubleTensor of 6 came"),
        (lone(&tensor(&[1.0; 6]).view(&[2, 3]).unwrap()), "torch.FloatTensor of 2x3 came"),
        (text(b"hello"), "a value without tensors came"),
        (table, "with 1 tensors in it came"),
        (lone(&tensor(&vec![1.0; 40_000])), "of 40000 came"),
    ];
    for (message, want) in wrong {
        let a = a.clone();
        let sender = thread::spawn(move || a.send(&message, &never()));
        let e = b.recv(Some(Target::Tensor(&target)), &mut out, &never()).unwrap_err();
        assert_eq!(e.code(), Code::Mismatch);
        assert!(e.what().contains(want), "{e}");
        sender.join().unwrap().unwrap();
    }
    a.send(&lone(&tensor(&[3.0; 6])), &never()).unwrap();
    b.recv(Some(Target::Tensor(&target)), &mut out, &never()).unwrap();
    assert_eq!(target.to_vec::<f32>().unwrap(), [3.0; 6]);
}

#[test]
fn announced_sizes_past_the_limits_take_no_memory() {
    for (bytes, descriptors) in [(1u64 << 62, 0u32), (u64::MAX, 0), (101, 0), (0, u32::MAX)] {
        let (raw, b) = raw_pair(Policy { max_message: 100, ..Policy::default() });
        let mut header = Header { functions: false, descriptors: 0, bytes: 0 }.encode();
        header[4..8].copy_from_slice(&descriptors.to_le_bytes());
        header[8..].copy_from_slice(&bytes.to_le_bytes());
        raw.write(&header);
        assert_eq!(receive(&b).unwrap_err().code(), Code::Limit);
        assert!(!b.is_open());
        assert_eq!(raw.read(1), None);
    }
    // A tensor of 2^62 bytes is within what can be said, but not within any memory.
    let (raw, b) = raw_pair(Policy::default());
    raw.write(&Header { functions: false, descriptors: 12, bytes: 7 }.encode());
    raw.write(LONE);
    raw.write(&[1, 1, 1, 0]);
    raw.write(&(1u64 << 62).to_le_bytes());
    assert_eq!(receive(&b).unwrap_err().code(), Code::Limit);
}

#[test]
fn no_more_tensors_are_announced_than_named() {
    let mut descriptors = Vec::new();
    (0..1000).for_each(|_| Descriptor::encode(Kind::Tensor, DType::Float, &[], 0, &mut descriptors).unwrap());
    let (raw, b) = raw_pair(Policy::default());
    raw.write(&Header { functions: false, descriptors: descriptors.len(), bytes: 100 }.encode());
    raw.write(&[0x10; 100]);
    raw.write(&descriptors);
    let e = receive(&b).unwrap_err();
    assert_eq!(e.code(), Code::Protocol);
    assert!(e.what().contains("more tensors"), "{e}");
}

#[test]
fn functions_travel_only_where_both_ends_ask() {
    let message = Message { bytes: b"f".to_vec(), functions: true, ..Message::default() };
    let (a, _b) = pair();
    assert_eq!(a.send(&message, &never()).unwrap_err().code(), Code::Unsupported);
    let (raw, b) = raw_pair(Policy::default());
    raw.write(&Header { functions: true, descriptors: 0, bytes: 1 }.encode());
    raw.write(b"f");
    raw.write(&Header { functions: false, descriptors: 0, bytes: 1 }.encode());
    raw.write(b"g");
    assert_eq!(receive(&b).unwrap_err().code(), Code::Unsupported);
    assert_eq!(receive(&b).unwrap().bytes, b"g");
    let (a, b) = pair_with(Policy { functions: true, ..Policy::default() }, false);
    a.send(&message, &never()).unwrap();
    assert!(receive(&b).unwrap().functions);
}

#[test]
fn a_send_that_has_begun_and_runs_out_of_time_closes_the_connection() {
    for sealed in [false, true] {
        let (a, b) = pair_with(Policy::default(), sealed);
        let big = text(&vec![1; 10 << 20]);
        let e = a.send(&big, &soon()).unwrap_err();
        assert_eq!(e.code(), Code::Timeout);
        assert!(e.what().contains("closed the connection"), "{e}");
        assert!(!a.is_open());
        assert_eq!(a.send(&text(b"x"), &never()).unwrap_err().code(), Code::Closed);
        assert_eq!(receive(&b).unwrap_err().code(), Code::Closed);
    }
}

#[test]
fn a_send_that_has_not_begun_changes_nothing() {
    for sealed in [false, true] {
        let (a, b) = pair_with(Policy::default(), sealed);
        // Fill the socket to the brim with whole messages.
        let (small, mut sent) = (text(&[5; 100]), 0);
        let e = loop {
            match a.send(&small, &Wait::until(Deadline::after(0.001))) {
                Ok(()) => sent += 1,
                Err(e) => break e,
            }
        };
        assert_eq!(e.code(), Code::Timeout);
        if !a.is_open() {
            continue; // a byte of it went
        }
        for _ in 0..sent {
            assert_eq!(receive(&b).unwrap().bytes, [5; 100]);
        }
        a.send(&text(b"last"), &never()).unwrap();
        assert_eq!(receive(&b).unwrap().bytes, b"last");
    }
}

#[test]
fn close_wakes_both_directions_in_other_threads() {
    let (a, _b) = pair();
    thread::scope(|s| {
        let receiver = s.spawn(|| receive(&a).unwrap_err().code());
        let sender = s.spawn(|| a.send(&text(&vec![0; 50 << 20]), &never()).unwrap_err().code());
        thread::sleep(Duration::from_millis(5));
        a.close();
        a.close();
        assert_eq!(receiver.join().unwrap(), Code::Closed);
        assert_eq!(sender.join().unwrap(), Code::Closed);
    });
    assert_eq!(receive(&a).unwrap_err().code(), Code::Closed);
    assert_eq!(a.send(&text(b""), &never()).unwrap_err().code(), Code::Closed);
}

#[test]
fn what_was_sent_before_a_close_is_still_received() {
    let (a, b) = pair();
    (0..5).for_each(|i| a.send(&text(&[i]), &never()).unwrap());
    drop(a);
    for i in 0..5 {
        assert_eq!(receive(&b).unwrap().bytes, [i]);
    }
    assert_eq!(receive(&b).unwrap_err().code(), Code::Closed);
}

#[test]
fn messages_of_many_threads_stay_whole() {
    let (a, b) = pair();
    let got = AtomicUsize::new(0);
    thread::scope(|s| {
        for i in 0..3u8 {
            let a = &a;
            s.spawn(move || (0..200).for_each(|n| a.send(&text(&vec![i; n * 37]), &never()).unwrap()));
        }
        for _ in 0..2 {
            s.spawn(|| {
                let mut out = Message::default();
                while got.load(Ordering::SeqCst) < 600 {
                    if b.recv_before(None, &mut out, &Wait::until(Deadline::after(0.05))).unwrap() {
                        assert!(out.bytes.iter().all(|x| *x == out.bytes[0]));
                        got.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(got.into_inner(), 600);
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
    let (a, b) = pair();
    let who = Cancellable(Cancel::new());
    thread::scope(|s| {
        let t = s.spawn(|| {
            b.recv(None, &mut Message::default(), &Wait { deadline: Deadline::NEVER, interrupt: &who })
                .unwrap_err()
                .code()
        });
        thread::sleep(Duration::from_millis(5));
        who.0.fire();
        assert_eq!(t.join().unwrap(), Code::Cancelled);
    });
    a.send(&text(b"on"), &never()).unwrap();
    assert_eq!(receive(&b).unwrap().bytes, b"on");
}

#[test]
fn the_descriptor_is_readable_while_a_message_can_be_had() {
    for sealed in [false, true] {
        let (a, b) = pair_with(Policy::default(), sealed);
        let fd = b.fd().unwrap();
        let readable = || poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap();
        assert!(!readable());
        (0..3).for_each(|i| a.send(&text(&[i]), &never()).unwrap());
        for i in 0..3 {
            assert!(readable());
            assert_eq!(receive(&b).unwrap().bytes, [i]);
            // All three were read at once: the socket is empty.
            assert_eq!(b.is_ready(), i < 2);
        }
        assert!(!readable());
        drop(a);
        assert!(readable());
        assert!(receive(&b).is_err());
        assert!(readable());
    }
}

#[test]
fn a_forked_child_cannot_use_it_and_does_not_end_it() {
    let (a, b) = pair();
    // SAFETY: the child makes no use of other threads' state and leaves by _exit.
    match unsafe { libc::fork() } {
        0 => {
            let state = |r: Result<Message>| r.is_err_and(|e| e.code() == Code::State);
            let ok = state(receive(&a)) && state(a.send(&text(b"x"), &never()).map(|()| text(b"")));
            drop((a, b));
            // SAFETY: ends the child here.
            unsafe { libc::_exit(i32::from(!ok)) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: `status` is a valid place.
            while unsafe { libc::waitpid(pid, &mut status, 0) } < 0 {}
            assert_eq!(status, 0);
        }
    }
    a.send(&text(b"still here"), &never()).unwrap();
    assert_eq!(receive(&b).unwrap().bytes, b"still here");
}

#[test]
fn memory_of_a_small_message_is_reused() {
    let (a, b) = pair();
    let mut out = Message::default();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20 {
        a.send(&text(&[1; 64]), &never()).unwrap();
        b.recv(None, &mut out, &never()).unwrap();
        seen.insert(out.bytes.as_ptr() as usize);
    }
    assert!(seen.len() <= 2, "{seen:?}");
}
