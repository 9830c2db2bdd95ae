//! What a TCP connection sent before it was closed arrives, whatever the end that closes has left unread.

use super::*;
use crate::sys::WatchSet;
use crate::wait::Watch;
use crate::wait::poll_many;

/// More than a peer's system takes unread, and less than the sender's keeps.
const MUCH: usize = 3 << 20;

fn tcp(sealed: bool) -> (Arc<Stream>, Arc<Stream>) {
    let listener = socket::listen(&Address::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
    let at = socket::local_address(&listener).unwrap();
    let client = socket::connect(&at).unwrap();
    poll_fd(listener.as_raw_fd(), Interest::Read, &never()).unwrap();
    let (server, _) = socket::accept(&listener).unwrap().unwrap();
    poll_fd(client.as_raw_fd(), Interest::Write, &never()).unwrap();
    let (a, b) = if sealed { Some(keys()).unzip() } else { (None, None) };
    let stream = |fd, keys| Arc::new(Stream::new(fd, &at, "the peer".into(), Policy::default(), keys).unwrap());
    (stream(client, a), stream(server, b))
}

fn much() -> Message {
    text(&(0..MUCH).map(|i| i as u8).collect::<Vec<_>>())
}

/// All of `much`, and then the end.
fn is_whole(c: &Stream) {
    assert!(receive(c).unwrap().bytes == much().bytes);
    assert_eq!(receive(c).unwrap_err().code(), Code::Closed);
}

#[test]
fn what_was_sent_arrives_though_something_is_unread() {
    for sealed in [false, true] {
        let (a, b) = tcp(sealed);
        b.send(&mut text(b"unread"), &never()).unwrap();
        a.send(&mut much(), &never()).unwrap();
        a.close();
        assert_eq!(receive(&*a).unwrap_err().code(), Code::Closed);
        assert_eq!(a.send(&mut text(b"more"), &never()).unwrap_err().code(), Code::Closed);
        is_whole(&b);
        // One that nobody holds any more is closed.
        let (a, b) = tcp(sealed);
        b.send(&mut text(b"unread"), &never()).unwrap();
        a.send(&mut much(), &never()).unwrap();
        drop(a);
        is_whole(&b);
    }
}

#[test]
fn what_was_sent_arrives_though_the_peer_goes_on_sending() {
    let (a, b) = tcp(false);
    a.send(&mut much(), &never()).unwrap();
    a.close();
    // More than a system takes for one that does not read. A send that waits for room receives, and may find the end.
    let sent = (0..20).take_while(|_| b.send(&mut text(&vec![0; 1 << 20]), &never()).is_ok()).count();
    assert!(sent > 0);
    is_whole(&b);
}

#[test]
fn what_was_sent_before_a_message_that_is_cut_off_arrives() {
    let (a, b) = tcp(false);
    b.send(&mut text(b"unread"), &never()).unwrap();
    a.send(&mut text(b"whole"), &never()).unwrap();
    let e = a.send(&mut text(&vec![1; 64 << 20]), &soon()).unwrap_err();
    assert_eq!(e.code(), Code::Timeout);
    assert!(!a.is_open());
    assert_eq!(receive(&*b).unwrap().bytes, b"whole");
    let e = receive(&*b).unwrap_err();
    assert!(e.code() == Code::Closed && e.to_string().contains("middle of a message"), "{e}");
}

#[test]
fn a_close_wakes_those_who_wait_to_receive_and_to_send() {
    for _ in 0..20 {
        let (a, b) = tcp(false);
        a.send(&mut much(), &never()).unwrap();
        let waits = Arc::new(AtomicUsize::new(0));
        thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    waits.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(receive(&*a).unwrap_err().code(), Code::Closed);
                });
            }
            s.spawn(|| {
                waits.fetch_add(1, Ordering::SeqCst);
                assert!(a.send(&mut text(&vec![1; 64 << 20]), &never()).is_err());
            });
            while waits.load(Ordering::SeqCst) < 3 {}
            thread::sleep(Duration::from_millis(15));
            a.close();
        });
        assert!(receive(&*b).unwrap().bytes == much().bytes);
        assert_eq!(receive(&*b).unwrap_err().code(), Code::Closed);
    }
}

#[test]
fn a_socket_that_stays_open_leaves_the_set_that_watched_it() {
    let (a, b) = tcp(false);
    let set = Arc::new(WatchSet::new().unwrap());
    set.add(a.socket().unwrap().unwrap().fd(), 7).unwrap();
    a.watched_by(Arc::downgrade(&set));
    a.send(&mut much(), &never()).unwrap();
    let inside = a.socket().unwrap();
    a.close();
    b.send(&mut text(b"late"), &never()).unwrap();
    let mut one = [Watch::new(set.fd().unwrap(), Interest::Read)];
    assert_eq!(poll_many(&mut one, &never()).unwrap(), 1, "a call is inside");
    drop(inside);
    for _ in 0..10 {
        b.send(&mut text(b"late"), &never()).unwrap();
        assert_eq!(poll_many(&mut one, &soon()).unwrap(), 0);
    }
    is_whole(&b);
}

#[test]
fn a_descriptor_to_wait_with_tells_of_the_close_at_once() {
    let (a, b) = tcp(false);
    let fd = a.fd().unwrap();
    a.send(&mut much(), &never()).unwrap();
    assert!(!poll_fd(fd, Interest::Read, &soon()).unwrap());
    a.close();
    assert!(poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap());
    is_whole(&b);
}

#[cfg(target_os = "linux")]
#[test]
fn the_child_of_a_fork_neither_keeps_nor_ends_such_a_socket() {
    let (a, b) = tcp(false);
    b.send(&mut text(b"unread"), &never()).unwrap();
    a.send(&mut much(), &never()).unwrap();
    let raw = a.socket().unwrap().unwrap().fd();
    a.close();
    assert_eq!(crate::sys::fork_for_tests(|| !crate::sys::is_open(raw)), 0);
    is_whole(&b);
}
