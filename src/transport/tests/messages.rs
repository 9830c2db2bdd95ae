//! One message over a socket: how it goes, what is refused, what a time-out leaves.

use super::*;

#[test]
fn a_small_message_costs_one_system_call_each_way() {
    let (a, b) = pair();
    for _ in 0..10 {
        a.send(&mut text(b"hello"), &never()).unwrap();
        assert_eq!(receive(&*b).unwrap().bytes, b"hello");
    }
    assert_eq!((a.stats().tx.calls, a.stats().tx.system_calls, a.stats().tx.bytes), (10, 10, 210));
    assert_eq!((b.stats().rx.calls, b.stats().rx.system_calls, b.stats().rx.bytes), (10, 10, 210));
    // Many that lie there are read at once.
    (0..10).for_each(|_| a.send(&mut text(b"hello"), &never()).unwrap());
    (0..10).for_each(|_| assert_eq!(receive(&*b).unwrap().bytes, b"hello"));
    assert_eq!(b.stats().rx.system_calls, 11);
}

#[test]
fn a_time_out_keeps_the_partial_message_and_its_tensor() {
    let (raw, b) = raw_pair(Policy::default());
    let (a, tap) = socket::pair().unwrap();
    let t = tensor(&[1.0; 1000]);
    stream(a, Policy::default(), None).send(&mut lone(&t), &never()).unwrap(); // and closes
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
fn what_shares_memory_arrives_sharing_it_and_travels_once() {
    for sealed in [false, true] {
        let (a, b) = pair_with(Policy::default(), sealed);
        let t = tensor(&(0..50_000).map(|i| i as f32).collect::<Vec<_>>()).view(&[100, 500]).unwrap();
        let attachments = [t.clone(), t.transpose(0, 1).unwrap(), t.narrow(0, 10, 20).unwrap(), tensor(&[1.0; 3])];
        let mut message = text(&[0x10; 100]);
        message.attachments = attachments.into_iter().map(Attachment::Tensor).collect();
        let sender = thread::spawn({
            let a = a.clone();
            move || a.send(&mut message, &never())
        });
        let got = receive(&*b).unwrap();
        sender.join().unwrap().unwrap();
        let views: Vec<_> = got
            .attachments
            .iter()
            .map(|a| match a {
                Attachment::Tensor(t) => t,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(a.stats().tx.bytes < 202_000 && b.stats().rx.bytes < 202_000, "{:?}", a.stats());
        views[0].fill(2.0).unwrap();
        assert_eq!(views[1].sizes(), [500, 100]);
        assert!(views[1].to_vec::<f32>().unwrap().iter().all(|&x| x == 2.0));
        assert!(views[2].to_vec::<f32>().unwrap().iter().all(|&x| x == 2.0));
        assert_eq!(views[3].to_vec::<f32>().unwrap(), [1.0; 3]);
    }
}

#[test]
fn what_tensors_show_counts_as_much_as_their_data() {
    let takes = Limits { tensor_bytes: 1000, ..Limits::default() };
    let one = tensor(&[1.0]);
    let many = one.expand(&[300]).unwrap();
    let mut message = text(&[0x10; 100]);
    message.attachments = vec![Attachment::Tensor(one), Attachment::Tensor(many)];
    let (a, b) = pair_with(Policy { takes, peer_takes: takes, ..Policy::default() }, false);
    assert_eq!(a.send(&mut message, &never()).unwrap_err().code(), Code::Limit);
    // From one that does not hold to it.
    let (c, raw) = socket::pair().unwrap();
    let raw = Raw(raw);
    stream(c, Policy::default(), None).send(&mut message, &never()).unwrap();
    let all: Vec<u8> = std::iter::from_fn(|| raw.read(1 << 16)).flatten().collect();
    let (raw, d) = raw_pair(Policy { takes, ..Policy::default() });
    raw.write(&all);
    assert_eq!(receive(&*d).unwrap_err().code(), Code::Limit);
    assert!(!d.is_open());
    message.attachments.truncate(1);
    a.send(&mut message, &never()).unwrap();
    receive(&*b).unwrap();
}

#[test]
fn announced_sizes_past_the_limits_take_no_memory() {
    for (bytes, descriptors) in [(1u64 << 62, 0u32), (u64::MAX, 0), (101, 0), (0, u32::MAX)] {
        let (raw, b) = raw_pair(Policy { takes: Limits { message: 100, ..Limits::default() }, ..Policy::default() });
        let mut header = Header { functions: false, descriptors: 0, bytes: 0 }.encode();
        header[4..8].copy_from_slice(&descriptors.to_le_bytes());
        header[8..].copy_from_slice(&bytes.to_le_bytes());
        raw.write(&header);
        assert_eq!(receive(&*b).unwrap_err().code(), Code::Limit);
        assert!(!b.is_open());
        assert_eq!(raw.read(1), None);
    }
    // A tensor of 2^62 bytes is within what can be said, but not within any memory.
    let (raw, b) = raw_pair(Policy::default());
    raw.write(&Header { functions: false, descriptors: 12, bytes: 7 }.encode());
    raw.write(LONE);
    raw.write(&[1, 1, 1, 0]);
    raw.write(&(1u64 << 62).to_le_bytes());
    assert_eq!(receive(&*b).unwrap_err().code(), Code::Limit);
}

#[test]
fn no_more_tensors_are_announced_than_named() {
    let mut descriptors = Vec::new();
    (0..1000).for_each(|_| Descriptor::new(Kind::Tensor, DType::Float, &[]).encode(0, &mut descriptors).unwrap());
    let (raw, b) = raw_pair(Policy::default());
    raw.write(&Header { functions: false, descriptors: descriptors.len(), bytes: 100 }.encode());
    raw.write(&[0x10; 100]);
    raw.write(&descriptors);
    let e = receive(&*b).unwrap_err();
    assert_eq!(e.code(), Code::Protocol);
    assert!(e.what().contains("more tensors"), "{e}");
}

#[test]
fn functions_travel_only_where_both_ends_ask() {
    let mut message = Message { bytes: b"f".to_vec(), functions: true, ..Message::default() };
    let (a, _b) = pair();
    assert_eq!(a.send(&mut message, &never()).unwrap_err().code(), Code::Unsupported);
    let (raw, b) = raw_pair(Policy::default());
    raw.write(&Header { functions: true, descriptors: 0, bytes: 1 }.encode());
    raw.write(b"f");
    raw.write(&Header { functions: false, descriptors: 0, bytes: 1 }.encode());
    raw.write(b"g");
    assert_eq!(receive(&*b).unwrap_err().code(), Code::Unsupported);
    assert_eq!(receive(&*b).unwrap().bytes, b"g");
    let (a, b) = pair_with(Policy { functions: true, ..Policy::default() }, false);
    a.send(&mut message, &never()).unwrap();
    assert!(receive(&*b).unwrap().functions);
}

#[test]
fn a_send_that_has_begun_and_runs_out_of_time_closes_the_connection() {
    for sealed in [false, true] {
        let (a, b) = pair_with(Policy::default(), sealed);
        let mut big = text(&vec![1; 10 << 20]);
        let e = a.send(&mut big, &soon()).unwrap_err();
        assert_eq!(e.code(), Code::Timeout);
        assert!(e.what().contains("closed the connection"), "{e}");
        assert!(!a.is_open());
        assert_eq!(a.send(&mut text(b"x"), &never()).unwrap_err().code(), Code::Closed);
        assert_eq!(receive(&*b).unwrap_err().code(), Code::Closed);
    }
}

#[test]
fn a_send_that_has_not_begun_changes_nothing() {
    for sealed in [false, true] {
        let (a, b) = pair_with(Policy::default(), sealed);
        // Fill the socket to the brim with whole messages.
        let (mut small, mut sent) = (text(&[5; 100]), 0);
        let e = loop {
            match a.send(&mut small, &Wait::until(Deadline::after(0.001))) {
                Ok(()) => sent += 1,
                Err(e) => break e,
            }
        };
        assert_eq!(e.code(), Code::Timeout);
        if !a.is_open() {
            continue; // a byte of it went
        }
        for _ in 0..sent {
            assert_eq!(receive(&*b).unwrap().bytes, [5; 100]);
        }
        a.send(&mut text(b"last"), &never()).unwrap();
        assert_eq!(receive(&*b).unwrap().bytes, b"last");
    }
}

#[test]
fn the_descriptor_that_is_made_in_the_midst_of_a_receive_tells_of_what_that_read_ahead() {
    for _ in 0..2000 {
        let (a, b) = pair();
        (0..3u8).for_each(|n| a.send(&mut text(&[n]), &never()).unwrap());
        let here = AtomicUsize::new(0);
        let both = || {
            here.fetch_add(1, Ordering::SeqCst);
            while here.load(Ordering::SeqCst) < 2 {
                thread::yield_now();
            }
        };
        let fd = thread::scope(|s| {
            s.spawn(|| {
                both();
                receive(&*b).unwrap();
            });
            both();
            b.fd().unwrap()
        });
        assert!(poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap());
    }
}
