//! A message that its receiver gives back is the next to be received, over every kind of link.

use super::*;

fn is_readable(end: &End) -> bool {
    poll_fd(end.fd().unwrap(), Interest::Read, &soon()).unwrap()
}

#[test]
fn it_comes_again_ahead_of_those_behind_it() {
    for (link, a, b) in every() {
        let t = tensor(&[1.0, 2.0, 3.0]);
        assert!(!is_readable(&b), "{link}");
        let heard = Arc::new(AtomicUsize::new(0));
        let its = heard.clone();
        b.on_arrival(Box::new(move || _ = its.fetch_add(1, Ordering::SeqCst)));
        for mut message in [text(b"one"), lone(&t), text(b"three")] {
            a.send(&mut message, &never()).unwrap();
        }
        for expected in [text(b"one"), lone(&t), text(b"three")] {
            let mut got = receive(&*b).unwrap();
            for _ in 0..3 {
                assert_eq!(content(&got), content(&expected), "{link}");
                let before = heard.load(Ordering::SeqCst);
                b.put_back(got);
                assert!(b.is_ready() && is_readable(&b) && !b.has_gone(), "{link}");
                assert!(heard.load(Ordering::SeqCst) > before, "{link}: those who watch many hear of it");
                got = receive(&*b).unwrap();
            }
        }
        assert!(!b.is_ready() && !is_readable(&b), "{link}");
        assert!(!b.try_recv(&mut Message::default()).unwrap(), "{link}");
    }
}

#[test]
fn those_who_watch_many_hear_of_what_lies_behind_it() {
    for (link, a, b) in every() {
        for i in 0..3u8 {
            a.send(&mut text(&[i]), &never()).unwrap();
        }
        let got = receive(&*b).unwrap();
        b.put_back(got);
        let heard = Arc::new(AtomicUsize::new(0));
        let its = heard.clone();
        b.on_arrival(Box::new(move || _ = its.fetch_add(1, Ordering::SeqCst)));
        for i in 0..3u8 {
            assert_eq!(receive(&*b).unwrap().bytes, [i]);
            let again = heard.swap(0, Ordering::SeqCst) > 0;
            assert!(again || i == 2, "{link}: after {i}");
        }
    }
}

#[test]
fn several_come_again_the_last_given_back_first() {
    for (link, a, b) in every() {
        for i in 0..5u8 {
            a.send(&mut text(&[i]), &never()).unwrap();
        }
        let got: Vec<_> = (0..3).map(|_| receive(&*b).unwrap()).collect();
        got.into_iter().rev().for_each(|message| b.put_back(message));
        let mut out = Message::default();
        for i in 0..5u8 {
            let found = if i % 2 == 0 { b.try_recv(&mut out) } else { b.recv_before(None, &mut out, &never()) };
            assert!(found.unwrap() && out.bytes == [i], "{link}");
        }
    }
}

#[test]
fn its_tensor_goes_into_the_next_receives_own_if_it_fits() {
    for (link, a, b) in every() {
        let (t, into) = (tensor(&[1.0, 2.0]), tensor(&[0.0, 0.0]));
        a.send(&mut lone(&t), &never()).unwrap();
        b.put_back(receive(&*b).unwrap());
        let mut out = Message::default();
        b.recv(Some(Target::Tensor(&into)), &mut out, &never()).unwrap();
        assert_eq!(into.to_vec::<f32>().unwrap(), [1.0, 2.0], "{link}");
        a.send(&mut lone(&t), &never()).unwrap();
        a.send(&mut text(b"next"), &never()).unwrap();
        b.put_back(receive(&*b).unwrap());
        let small = tensor(&[0.0]);
        let refused = b.recv(Some(Target::Tensor(&small)), &mut out, &never()).unwrap_err();
        assert_eq!(refused.code(), Code::Mismatch, "{link}");
        assert_eq!(receive(&*b).unwrap().bytes, b"next", "{link}: and the connection stays in step");
    }
}

#[test]
fn it_outlives_the_peer_and_not_a_close_here() {
    for (link, a, b) in every() {
        a.send(&mut text(b"last"), &never()).unwrap();
        a.close();
        let got = receive(&*b).unwrap();
        b.put_back(got);
        assert!(!b.has_gone(), "{link}");
        assert_eq!(receive(&*b).unwrap().bytes, b"last", "{link}");
        assert_eq!(receive(&*b).unwrap_err().code(), Code::Closed, "{link}");
        b.put_back(text(b"late"));
        b.close();
        assert_eq!(receive(&*b).unwrap_err().code(), Code::Closed, "{link}");
        assert_eq!(b.try_recv(&mut Message::default()).unwrap_err().code(), Code::Closed, "{link}");
    }
}
