//! How a client comes in, who does not, and how it all ends.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::peer::acceptor::Acceptor;
use crate::sys::socket;

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
            b"LIBIPC\x02\x01\xff\xff\xff\xff",
            b"LIBIPC\x02\x01\x10\0\0\0aaaaaaaaaaaaaaaa",
            b"LIBIPC\x01\x02\x08\0\0\0aaaaaaaa",
            b"LIBIPC\x02\x06\0\0\0\0",
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
        assert!(told.starts_with(b"LIBIPC\x02\x05"), "{told:?}");
    }
}

#[test]
fn garbage_after_the_hello_ends_that_client_alone() {
    let (server, place) = serve(Options::default());
    let good = connect_over_tcp(&place);
    let bad = connect_over_tcp(&place);
    // Under the connection's feet.
    let fd = bad.socket().unwrap().unwrap().fd();
    // SAFETY: sixteen valid bytes to an open descriptor.
    assert_eq!(unsafe { libc::send(fd, [0xffu8; 16].as_ptr().cast(), 16, 0) }, 16);
    server.admit(2, &never()).unwrap();
    delivered(&bad);
    send(&good, "fine");
    assert_eq!(any(&server, None).0, "fine");
    assert_eq!(hear(&bad).unwrap_err().code(), Code::Closed);
    let mut out = Message::default();
    assert!(server.recv_any(None, false, &mut out, &within(0.01)).unwrap().is_none());
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
    let nowhere = ServerAddress::new(b"no-such-host.invalid", 1).unwrap();
    let e = dial(&nowhere, &Options::default(), &never()).unwrap_err();
    assert!(e.what().contains("no-such-host.invalid") && e.what().contains("resolve"), "{e}");
    // Somebody who takes the connection and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = ServerAddress::new(b"127.0.0.1", silent.local_addr().unwrap().port()).unwrap();
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
        let Ok(server) = Server::listen(&ServerAddress::new(host.as_bytes(), 0).unwrap(), Options::default(), &never())
        else {
            continue;
        };
        let c = connect(&ServerAddress::new(host.as_bytes(), server.address().port()).unwrap());
        send(&c, host);
        assert_eq!(any(&server, None).0, host);
    }
}

#[test]
fn a_unix_socket_serves_and_a_left_file_gives_way() {
    let path = std::env::temp_dir().join(format!("ipc-peer-{}", std::process::id()));
    let place = ServerAddress::new(format!("unix:{}", path.display()).as_bytes(), 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    for options in [Options::default(), secret("s")] {
        let options = Options { transport: TransportChoice::Unix, ..options };
        let server = Server::listen(&place, options.clone(), &never()).unwrap();
        assert!(Server::listen(&place, options.clone(), &never()).unwrap_err().what().contains("this process listens"));
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
        let receives = s.spawn(|| server.recv_any(None, false, &mut Message::default(), &never()).unwrap_err().code());
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
fn those_that_leave_before_they_are_admitted_make_room_for_others() {
    let listener = socket::listen(&Address::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
    let place = ServerAddress::new(b"127.0.0.1", socket::local_address(&listener).unwrap().port()).unwrap();
    let acceptor = Acceptor::of(listener, Options { insecure: true, ..Options::default() }, 2).unwrap();
    // One has left a message, which is still to be had.
    let left = connect(&place);
    send(&left, "left");
    drop(left);
    for _ in 0..3 {
        drop(connect(&place));
    }
    let stays = connect(&place);
    let mut got = Message::default();
    let first = acceptor.wait(&never(), || false).unwrap().unwrap();
    first.recv(None, &mut got, &never()).unwrap();
    assert!(!got.bytes.is_empty());
    drop(stays);
    acceptor.close();
}

#[test]
fn of_too_many_that_say_nothing_chance_picks_who_goes_and_others_come_in() {
    const SILENT: usize = 1100;
    crate::sys::socket::raise_descriptor_limit();
    if crate::sys::socket::descriptor_limit() < 4 * SILENT {
        return;
    }
    let (server, place) = serve(Options::default());
    let at = server.address().to_string();
    let silent: Vec<_> = (0..SILENT).map(|_| TcpStream::connect(&at).unwrap()).collect();
    let c = connect(&place);
    server.admit(1, &never()).unwrap();
    send(&c, "in");
    assert_eq!(any(&server, None).0, "in");
    // As many as are too many are gone, and they are not the ones that came first.
    let gone = || -> Vec<usize> {
        let is_gone = |s: &TcpStream| {
            s.set_nonblocking(true).unwrap();
            matches!((&mut &*s).read(&mut [0]), Ok(0))
        };
        silent.iter().enumerate().filter(|(_, s)| is_gone(s)).map(|(n, _)| n).collect()
    };
    let bound = Deadline::after(5.0);
    while gone().len() < SILENT - 1024 && !bound.expired() {
        thread::sleep(Duration::from_millis(5));
    }
    let gone = gone();
    assert!(gone.len() >= SILENT - 1024, "{} gone", gone.len());
    assert!(gone.iter().any(|n| *n > 2 * (SILENT - 1024)), "{gone:?}");
}

#[test]
fn who_connects_is_heard_while_others_come_and_go_without_a_pause() {
    let path = std::env::temp_dir().join(format!("ipc-peer-flood-{}", std::process::id()));
    let place = ServerAddress::new(format!("unix:{}", path.display()).as_bytes(), 0).unwrap();
    let server = Server::listen(&place, Options::default(), &never()).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            // Each waits in the system's line, so that the queue is never empty.
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    drop(std::os::unix::net::UnixStream::connect(&path));
                }
            });
        }
        let got: Vec<_> = (0..10).map(|_| dial(&place, &Options::default(), &never())).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(got.iter().all(|one| one.is_ok()), "{:?}", got.iter().find_map(|one| one.as_ref().err()));
    });
    drop(server);
}
