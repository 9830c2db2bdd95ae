//! Closing, cancelling and forking; many threads, and the descriptor.

use super::*;

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
fn the_descriptor_that_is_made_in_the_midst_of_a_receive_tells_of_what_that_read_ahead() {
    for _ in 0..2000 {
        let (a, b) = pair();
        (0..3u8).for_each(|n| a.send(&text(&[n]), &never()).unwrap());
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
                receive(&b).unwrap();
            });
            both();
            b.fd().unwrap()
        });
        assert!(poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap());
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
