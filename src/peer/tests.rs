//! Servers and clients over real sockets, friendly and hostile.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::error::{Code, Error};
use crate::sys::socket::Address;
use crate::tensor::Tensor;
use crate::transport::{Connection, Secret};
use crate::wait::{Deadline, Interest, Wait, poll_fd};
use crate::wire::{Attachment, Message};

fn never() -> Wait<'static> {
    // A watchdog, far past what any of this takes.
    Wait::until(Deadline::after(60.0))
}

fn within(seconds: f64) -> Wait<'static> {
    Wait::until(Deadline::after(seconds))
}

fn local() -> Place {
    Place::new("127.0.0.1", 0).unwrap()
}

fn serve(options: Options) -> (Server, Place) {
    let server = Server::listen(&local(), options, &never()).unwrap();
    let place = Place::new("127.0.0.1", server.address().port()).unwrap();
    (server, place)
}

/// A place where nobody listens, and which the system gives to nobody else while the socket lives: that one has the port
/// and does not listen. Servers may take it all the same, since they set SO_REUSEADDR.
fn reserved() -> (socket2::Socket, Place) {
    let holder = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    holder.set_reuse_address(true).unwrap();
    holder.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = holder.local_addr().unwrap().as_socket().unwrap().port();
    (holder, Place::new("127.0.0.1", port).unwrap())
}

/// Waits until the other end's system has all that was sent.
#[cfg(target_os = "linux")]
fn delivered(c: &Arc<dyn Connection>) {
    let mut left = 1;
    while left > 0 {
        thread::sleep(Duration::from_millis(1));
        // SAFETY: writes one number.
        assert_eq!(unsafe { libc::ioctl(c.socket().unwrap(), libc::TIOCOUTQ, &raw mut left) }, 0);
    }
}

#[cfg(not(target_os = "linux"))]
fn delivered(_: &Arc<dyn Connection>) {
    thread::sleep(Duration::from_millis(50));
}

fn connect(place: &Place) -> Arc<dyn Connection> {
    dial(place, &Options::default(), &never()).unwrap()
}

fn text(s: &str) -> Message {
    Message { bytes: s.as_bytes().to_vec(), ..Message::default() }
}

fn send(c: &Arc<dyn Connection>, s: &str) {
    c.send(&text(s), &never()).unwrap();
}

fn hear(c: &Arc<dyn Connection>) -> Result<String, Error> {
    let mut out = Message::default();
    c.recv(None, &mut out, &never())?;
    Ok(String::from_utf8(out.bytes).unwrap())
}

fn any(server: &Server, tag: Option<&[u8]>) -> (String, Arc<Client>) {
    let mut out = Message::default();
    let client = server.recv_any(tag, &mut out, &never()).unwrap().unwrap();
    (String::from_utf8(out.bytes).unwrap(), client)
}

fn secret(s: &str) -> Options {
    Options { secret: Some(Secret::new(s.as_bytes())), ..Options::default() }
}

#[test]
fn clients_come_in_by_order_of_arrival_until_n_are_in_never_more() {
    let (server, place) = serve(Options::default());
    let clients: Vec<_> = (0..4)
        .map(|i| {
            let c = connect(&place);
            send(&c, &i.to_string());
            c
        })
        .collect();
    for n in [0, 2, 2, 3] {
        server.admit(n, &never()).unwrap();
        let list = server.clients(None, false).unwrap();
        assert_eq!(list.len(), n);
    }
    for (i, c) in server.clients(None, false).unwrap().iter().enumerate() {
        assert_eq!(hear(c.connection()).unwrap(), i.to_string());
    }
    assert_eq!(server.admit(5, &within(0.01)).unwrap_err().code(), Code::Timeout);
    assert_eq!(server.count(), 4);
    drop(clients);
}

#[test]
fn clients_are_visited_by_id_then_arrival_and_by_tag() {
    let (server, place) = serve(Options::default());
    let _clients: Vec<_> = (0..4).map(|_| connect(&place)).collect();
    server.admit(4, &never()).unwrap();
    let list = server.clients(None, false).unwrap();
    for (c, (id, tag)) in list.iter().zip([(3, "a"), (1, "b"), (3, "b"), (-2, "b")]) {
        c.set_id(id);
        c.set_tag(Some(tag.as_bytes().into()));
    }
    let order = |tag: Option<&[u8]>, invert| -> Vec<usize> {
        let place = |c: &Arc<Client>| list.iter().position(|l| Arc::ptr_eq(l, c)).unwrap();
        server.clients(tag, invert).unwrap().iter().map(place).collect()
    };
    assert_eq!(order(None, false), [3, 1, 0, 2]);
    assert_eq!(order(None, true), [0, 2, 1, 3]);
    assert_eq!(order(Some(b"b"), false), [3, 1, 2]);
    assert_eq!(order(Some(b"c"), false), [0usize; 0]);
}

#[test]
fn a_broadcast_reaches_all_of_the_tag_and_names_the_gone_once() {
    let (server, place) = serve(Options::default());
    let clients: Vec<_> = (0..3).map(|_| connect(&place)).collect();
    server.admit(3, &never()).unwrap();
    server.clients(None, false).unwrap()[1].set_tag(Some(b"x"[..].into()));
    assert_eq!(server.broadcast(&text("one"), Some(b"x"), &never()).unwrap(), 1);
    assert_eq!(hear(&clients[1]).unwrap(), "one");
    let t = Tensor::from_slice(&[1i32, 2, 3, 4]).unwrap().view(&[2, 2]).unwrap().transpose(0, 1).unwrap();
    let message = Message {
        bytes: vec![0x10, 0xd6, 2, 0, 0, 0, 0],
        attachments: vec![Attachment::Tensor(t)],
        ..Message::default()
    };
    assert_eq!(server.broadcast(&message, None, &never()).unwrap(), 3);
    for c in &clients {
        let mut out = Message::default();
        c.recv(None, &mut out, &never()).unwrap();
        let [Attachment::Tensor(t)] = &out.attachments[..] else { panic!() };
        assert_eq!(t.to_vec::<i32>().unwrap(), [1, 3, 2, 4]);
    }
    clients[0].close();
    let big = text(&"x".repeat(1 << 20));
    // The first send to a peer that is gone may still be taken by the system.
    let clients = &clients;
    thread::scope(|s| {
        for c in &clients[1..] {
            s.spawn(move || (0..4).for_each(|_| assert_eq!(hear(c).unwrap().len(), 1 << 20)));
        }
        let failed = (0..4).filter(|_| server.broadcast(&big, None, &never()).is_err()).count();
        assert_eq!(failed, 1);
    });
}

#[test]
fn recv_any_is_fair_admits_who_comes_and_forgets_who_goes() {
    let (server, place) = serve(Options::default());
    let mut clients: Vec<_> = (0..3).map(|_| connect(&place)).collect();
    for c in &clients {
        (0..50).for_each(|_| send(c, "m"));
    }
    server.admit(3, &never()).unwrap();
    clients.iter().for_each(delivered);
    let mut counts = [0i32; 4];
    for _ in 0..150 {
        let (_, client) = any(&server, None);
        let at = server.clients(None, false).unwrap().iter().position(|c| Arc::ptr_eq(c, &client)).unwrap();
        counts[at] += 1;
        let most = *counts[..3].iter().max().unwrap();
        assert!(counts[..3].iter().all(|n| most - n <= 2), "{counts:?}");
    }
    clients.remove(1).close();
    let mut out = Message::default();
    while server.count() > 2 {
        assert!(server.recv_any(None, &mut out, &within(0.05)).unwrap().is_none());
    }
    assert_eq!(server.count(), 2);
    let late = connect(&place);
    send(&late, "late");
    assert_eq!(any(&server, None).0, "late");
    assert_eq!(server.count(), 3);
}

#[test]
fn recv_any_of_a_tag_leaves_the_others_messages_and_does_not_spin_on_them() {
    let (server, place) = serve(Options::default());
    let clients: Vec<_> = (0..2).map(|_| connect(&place)).collect();
    server.admit(2, &never()).unwrap();
    let list = server.clients(None, false).unwrap();
    list[0].set_tag(Some(b"a"[..].into()));
    list[1].set_tag(Some(b"b"[..].into()));
    send(&clients[0], "a1");
    send(&clients[0], "a2");
    delivered(&clients[0]);
    let mut out = Message::default();
    let before = cpu_time();
    assert!(server.recv_any(Some(b"b"), &mut out, &within(0.3)).unwrap().is_none());
    assert!(cpu_time() - before < 0.2);
    send(&clients[1], "b1");
    assert_eq!(any(&server, Some(b"b")).0, "b1");
    assert_eq!(any(&server, Some(b"a")).0, "a1");
    assert_eq!(any(&server, None).0, "a2");
}

#[test]
fn recv_any_and_the_descriptor_find_what_a_receive_of_one_client_left_in_the_read_ahead() {
    let (server, place) = serve(Options::default());
    let client = connect(&place);
    server.admit(1, &within(60.0)).unwrap();
    let handle = server.clients(None, false).unwrap().remove(0);
    let fd = server.fd().unwrap();
    let readable = || poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap();
    for round in 0..3 {
        for text in ["a", "b", "c"] {
            send(&client, text);
        }
        delivered(&client);
        assert_eq!(hear(handle.connection()).unwrap(), "a");
        assert!(server.is_ready() && readable(), "round {round}");
        assert_eq!(any(&server, None).0, "b");
        assert!(server.is_ready() && readable(), "round {round}");
        assert_eq!(hear(handle.connection()).unwrap(), "c");
        assert!(!server.is_ready() && !readable(), "round {round}");
    }
}

fn cpu_time() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

#[test]
fn more_clients_than_select_could_watch() {
    let (server, place) = serve(Options::default());
    let clients: Vec<_> = (0..1200).map(|_| connect(&place)).collect();
    server.admit(1200, &never()).unwrap();
    clients.iter().for_each(|c| send(c, "m"));
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 1200 {
        seen.insert(Arc::as_ptr(&any(&server, None).1) as usize);
    }
}

#[test]
fn a_wrong_secret_is_auth_at_the_client_and_the_server_goes_on() {
    let (server, place) = serve(secret("right"));
    for options in [secret("wrong"), Options::default()] {
        let e = dial(&place, &options, &never()).unwrap_err();
        assert_eq!(e.code(), Code::Auth);
        assert!(e.what().contains("secret"), "{e}");
    }
    let c = dial(&place, &secret("right"), &never()).unwrap();
    server.admit(1, &never()).unwrap();
    send(&c, "in");
    assert_eq!(any(&server, None).0, "in");
    let e = server.admit(2, &within(0.01)).unwrap_err();
    assert!(e.what().contains("2 sent away") && e.what().contains("secret"), "{e}");
}

#[test]
fn strangers_slow_or_hostile_hold_up_nobody() {
    for options in [Options::default(), secret("s")] {
        let (server, place) = serve(options.clone());
        let at = server.address().to_string();
        let garbage: [&[u8]; 6] = [
            b"GET / HTTP/1.0\r\n\r\n",
            b"LIBIPC\x01\x01\xff\xff\xff\xff",
            b"LIBIPC\x01\x01\x10\0\0\0aaaaaaaaaaaaaaaa",
            b"LIBIPC\x01\x02\x08\0\0\0aaaaaaaa",
            b"LIBIPC\x01\x06\0\0\0\0",
            &[0xff; 5000],
        ];
        let mut strangers = Vec::new();
        for bytes in garbage.iter().cycle().take(60) {
            let mut s = TcpStream::connect(&at).unwrap();
            let _ = s.write_all(bytes);
            strangers.push(s);
        }
        for _ in 0..30 {
            let mut slow = TcpStream::connect(&at).unwrap();
            slow.write_all(b"LIB").unwrap();
            strangers.push(slow);
        }
        let c = dial(&place, &options, &never()).unwrap();
        server.admit(1, &never()).unwrap();
        send(&c, "first");
        assert_eq!(any(&server, None).0, "first");
        // Those that said nonsense are sent off; a refused one is told why.
        let mut told = Vec::new();
        let _ = strangers[2].read_to_end(&mut told);
        assert!(told.starts_with(b"LIBIPC\x01\x05"), "{told:?}");
    }
}

#[test]
fn garbage_after_the_hello_ends_that_client_alone() {
    let (server, place) = serve(Options::default());
    let good = connect(&place);
    let bad = connect(&place);
    // Under the connection's feet.
    let fd = bad.socket().unwrap();
    // SAFETY: sixteen valid bytes to an open descriptor.
    assert_eq!(unsafe { libc::send(fd, [0xffu8; 16].as_ptr().cast(), 16, 0) }, 16);
    server.admit(2, &never()).unwrap();
    delivered(&bad);
    send(&good, "fine");
    assert_eq!(any(&server, None).0, "fine");
    assert_eq!(hear(&bad).unwrap_err().code(), Code::Closed);
    let mut out = Message::default();
    assert!(server.recv_any(None, &mut out, &within(0.01)).unwrap().is_none());
    assert_eq!(server.count(), 1);
}

#[test]
fn a_client_waits_for_a_server_that_starts_later() {
    let (_holder, place) = reserved();
    let address = place.clone();
    let client = thread::spawn(move || dial(&address, &Options::default(), &never()).map(|c| send(&c, "hi")));
    thread::sleep(Duration::from_millis(30));
    let server = Server::listen(&place, Options::default(), &never()).unwrap();
    client.join().unwrap().unwrap();
    assert_eq!(any(&server, None).0, "hi");
}

#[test]
fn a_dead_port_is_a_time_out_and_a_name_that_means_nothing_fails_at_once() {
    let (_holder, place) = reserved();
    let short = Options { connect_timeout: 0.05, ..Options::default() };
    let e = dial(&place, &short, &never()).unwrap_err();
    assert_eq!(e.code(), Code::Timeout);
    assert!(e.what().contains("nobody listens") && e.what().contains(&place.to_string()), "{e}");
    let nowhere = Place::new("no-such-host.invalid", 1).unwrap();
    let e = dial(&nowhere, &Options::default(), &never()).unwrap_err();
    assert!(e.what().contains("no-such-host.invalid") && e.what().contains("resolve"), "{e}");
    // Somebody who takes the connection and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new("127.0.0.1", silent.local_addr().unwrap().port()).unwrap();
    assert_eq!(dial(&place, &short, &never()).unwrap_err().code(), Code::Timeout);
    // Somebody else's server.
    let other =
        thread::spawn(move || silent.incoming().for_each(|s| drop(s.unwrap().write_all(b"220 mail ready, go on\r\n"))));
    assert_eq!(dial(&place, &Options::default(), &never()).unwrap_err().code(), Code::Protocol);
    drop(other);
}

#[test]
fn names_and_ipv6_work_where_the_host_has_them() {
    for host in ["localhost", "::1", "[::1]"] {
        let Ok(server) = Server::listen(&Place::new(host, 0).unwrap(), Options::default(), &never()) else { continue };
        let c = connect(&Place::new(host, server.address().port()).unwrap());
        send(&c, host);
        assert_eq!(any(&server, None).0, host);
    }
}

#[test]
fn a_unix_socket_serves_and_a_left_file_gives_way() {
    let path = std::env::temp_dir().join(format!("ipc-peer-{}", std::process::id()));
    let place = Place::new(&format!("unix:{}", path.display()), 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    for options in [Options::default(), secret("s")] {
        let server = Server::listen(&place, options.clone(), &never()).unwrap();
        assert!(Server::listen(&place, options.clone(), &never()).unwrap_err().what().contains("another program"));
        let c = dial(&place, &options, &never()).unwrap();
        send(&c, "hi");
        let (got, client) = any(&server, None);
        assert_eq!((got.as_str(), client.connection().stats().transport), ("hi", "unix"));
        assert_eq!(*server.address(), Address::Unix(path.clone()));
        drop(server);
        assert!(!path.exists());
    }
}

#[test]
fn close_frees_the_port_wakes_who_waits_and_closes_the_clients() {
    let (_holder, place) = reserved();
    let server = Server::listen(&place, Options::default(), &never()).unwrap();
    let c = connect(&place);
    server.admit(1, &never()).unwrap();
    thread::scope(|s| {
        let admits = s.spawn(|| server.admit(9, &never()).unwrap_err().code());
        let receives = s.spawn(|| server.recv_any(None, &mut Message::default(), &never()).unwrap_err().code());
        thread::sleep(Duration::from_millis(20));
        server.close();
        server.close();
        assert_eq!((admits.join().unwrap(), receives.join().unwrap()), (Code::Closed, Code::Closed));
    });
    assert_eq!(hear(&c).unwrap_err().code(), Code::Closed);
    assert_eq!(server.clients(None, false).unwrap_err().code(), Code::Closed);
    let again = Server::listen(&place, Options::default(), &never()).unwrap();
    assert_eq!(again.address(), server.address());
}

#[test]
fn a_forked_child_gets_state_errors_and_may_serve_afresh() {
    let (server, place) = serve(Options::default());
    let c = connect(&place);
    server.admit(1, &never()).unwrap();
    // SAFETY: the child uses what this library lets it use, and leaves by _exit.
    match unsafe { libc::fork() } {
        0 => {
            let ok = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                assert_eq!(server.clients(None, false).unwrap_err().code(), Code::State);
                assert_eq!(server.admit(1, &never()).unwrap_err().code(), Code::State);
                server.close();
                drop(server);
                let (own, at) = serve(Options::default());
                let c = connect(&at);
                send(&c, "child");
                assert_eq!(any(&own, None).0, "child");
            }));
            // SAFETY: ends the child here.
            unsafe { libc::_exit(i32::from(ok.is_err())) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: a valid place.
            while unsafe { libc::waitpid(pid, &mut status, 0) } < 0 {}
            assert_eq!(status, 0);
        }
    }
    send(&c, "parent");
    assert_eq!(any(&server, None).0, "parent");
    let another = connect(&place);
    send(&another, "new");
    assert_eq!(any(&server, None).0, "new");
}

#[test]
fn statistics_count_the_gone_as_well() {
    let (server, place) = serve(Options::default());
    let (a, b) = (connect(&place), connect(&place));
    send(&a, "12345");
    send(&b, "12345");
    any(&server, None);
    any(&server, None);
    drop(a);
    assert!(server.recv_any(None, &mut Message::default(), &within(0.05)).unwrap().is_none());
    let stats = server.stats().unwrap();
    assert_eq!((stats.rx.calls, stats.rx.bytes), (2, 42));
    assert_eq!(stats.transports, [("tcp", 1)]);
}
