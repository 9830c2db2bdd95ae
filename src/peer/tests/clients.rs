//! A server and those whom it has let in.

use super::*;
use crate::peer::Tag;

#[test]
fn clients_come_in_by_order_of_arrival_until_n_are_in_never_more() {
    for connect in EACH_LINK {
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
}

#[test]
fn clients_are_visited_by_id_then_arrival_and_by_tag() {
    for connect in EACH_LINK {
        let (server, place) = serve(Options::default());
        let _clients: Vec<_> = (0..4).map(|_| connect(&place)).collect();
        server.admit(4, &never()).unwrap();
        let list = server.clients(None, false).unwrap();
        for (c, (id, tag)) in list.iter().zip([(3, "a"), (1, "b"), (3, "b"), (-2, "b")]) {
            c.set_id(id);
            c.set_tag(Some(Tag::new(tag.as_bytes()).unwrap()));
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
}

#[test]
fn a_broadcast_reaches_all_of_the_tag_and_passes_over_the_gone() {
    for connect in EACH_LINK {
        let (server, place) = serve(Options::default());
        let clients: Vec<_> = (0..3).map(|_| connect(&place)).collect();
        server.admit(3, &never()).unwrap();
        server.clients(None, false).unwrap()[1].set_tag(Some(Tag::new(b"x").unwrap()));
        assert_eq!(broadcast(&server, text("one"), Some(b"x"), &never()).unwrap(), 1);
        assert_eq!(hear(&clients[1]).unwrap(), "one");
        let t = Tensor::from_slice(&[1i32, 2, 3, 4]).unwrap().view(&[2, 2]).unwrap().transpose(0, 1).unwrap();
        let message = Message {
            bytes: vec![0x10, 0xd6, 2, 0, 0, 0, 0],
            attachments: vec![Attachment::Tensor(t)],
            ..Message::default()
        };
        assert_eq!(broadcast(&server, message, None, &never()).unwrap(), 3);
        for c in &clients {
            let mut out = Message::default();
            c.recv(None, &mut out, &never()).unwrap();
            let [Attachment::Tensor(t)] = &out.attachments[..] else { panic!() };
            assert_eq!(t.to_vec::<i32>().unwrap(), [1, 3, 2, 4]);
        }
        clients[0].close();
        let big = "x".repeat(1 << 20);
        let clients = &clients;
        thread::scope(|s| {
            for c in &clients[1..] {
                s.spawn(move || (0..4).for_each(|_| assert_eq!(hear(c).unwrap().len(), 1 << 20)));
            }
            // The first send to a peer that is gone may still be taken by the system.
            let took: Vec<_> = (0..4).map(|_| broadcast(&server, text(&big), None, &never()).unwrap()).collect();
            assert!(took.iter().all(|n| *n == 2 || *n == 3) && took[3] == 2, "{took:?}");
        });
        assert_eq!(gone(&server, None).0.serial(), server.clients(None, false).unwrap()[0].serial() - 1);
    }
}

#[test]
fn a_client_that_takes_nothing_keeps_no_other_waiting_and_is_closed_when_time_is_over() {
    // Over memory the first message of any size is taken at once.
    for options in [over_tcp(), Options { transport: TransportChoice::Tcp, ..secret("s") }] {
        let (server, place) = serve(options.clone());
        let clients: Vec<_> = (0..4).map(|_| dial(&place, &options, &never()).unwrap()).collect();
        server.admit(4, &never()).unwrap();
        let list = server.clients(None, false).unwrap();
        let big = "x".repeat(32 << 20);
        thread::scope(|s| {
            let sends = s.spawn(|| broadcast(&server, text(&big), None, &within(3.0)).unwrap_err());
            // All but the second, which the others come after.
            for i in [0, 2, 3] {
                assert_eq!(hear(&clients[i]).unwrap().len(), 32 << 20);
            }
            let e = sends.join().unwrap();
            assert_eq!(e.code(), Code::Timeout);
            assert!(e.what().starts_with("1 of 4 clients did not") && e.what().contains("3 did"), "{e}");
        });
        assert!(!list[1].connection().is_open());
        assert!(Arc::ptr_eq(&gone(&server, None).0, &list[1]));
        assert_eq!(broadcast(&server, text("next"), None, &never()).unwrap(), 3);
        assert_eq!(hear(&clients[3]).unwrap(), "next");
    }
}

#[test]
fn who_does_not_accept_a_message_is_passed_over_and_an_error_only_where_nobody_does() {
    for connect in EACH_LINK {
        let (server, place) = serve(Options::default());
        let small = dial(&place, &Options { max_message: 10, ..Options::default() }, &never()).unwrap();
        server.admit(1, &never()).unwrap();
        let e = broadcast(&server, text("more than ten bytes"), None, &never()).unwrap_err();
        assert_eq!(e.code(), Code::Limit);
        let other = connect(&place);
        server.admit(2, &never()).unwrap();
        assert_eq!(broadcast(&server, text("more than ten bytes"), None, &never()).unwrap(), 1);
        assert_eq!(broadcast(&server, text("few"), None, &never()).unwrap(), 2);
        assert_eq!(hear(&small).unwrap(), "few");
        assert_eq!(hear(&other).unwrap(), "more than ten bytes");
    }
}

#[test]
fn broadcasts_and_sends_of_many_threads_at_once_keep_messages_whole() {
    for connect in EACH_LINK {
        let (server, place) = serve(Options::default());
        let clients: Vec<_> = (0..2).map(|_| connect(&place)).collect();
        server.admit(2, &never()).unwrap();
        let list = server.clients(None, false).unwrap();
        let (clients, list, server) = (&clients, &list, &server);
        thread::scope(|s| {
            for name in ["a", "b"] {
                let message = name.repeat(3 << 20);
                s.spawn(move || {
                    (0..5).for_each(|_| assert_eq!(broadcast(server, text(&message), None, &never()).unwrap(), 2))
                });
            }
            s.spawn(move || {
                (0..10).for_each(|i| list[i % 2].connection().send(&mut text(&"c".repeat(1 << 20)), &never()).unwrap())
            });
            for c in clients {
                s.spawn(move || {
                    let mut counts = [0; 3];
                    for _ in 0..15 {
                        let got = hear(c).unwrap();
                        let first = got.as_bytes()[0];
                        assert!(got.bytes().all(|b| b == first));
                        counts[usize::from(first - b'a')] += 1;
                    }
                    assert_eq!(counts, [5; 3]);
                });
            }
        });
    }
}

#[test]
fn recv_any_is_fair_admits_who_comes_and_forgets_who_goes() {
    for connect in EACH_LINK {
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
            assert!(server.recv_any(None, false, &mut out, &within(0.05)).unwrap().is_none());
        }
        assert_eq!(server.count(), 2);
        let late = connect(&place);
        send(&late, "late");
        assert_eq!(any(&server, None).0, "late");
        assert_eq!(server.count(), 3);
    }
}

#[test]
fn recv_any_of_a_tag_leaves_the_others_messages_and_does_not_spin_on_them() {
    for connect in EACH_LINK {
        let (server, place) = serve(Options::default());
        let clients: Vec<_> = (0..2).map(|_| connect(&place)).collect();
        server.admit(2, &never()).unwrap();
        let list = server.clients(None, false).unwrap();
        list[0].set_tag(Some(Tag::new(b"a").unwrap()));
        list[1].set_tag(Some(Tag::new(b"b").unwrap()));
        send(&clients[0], "a1");
        send(&clients[0], "a2");
        delivered(&clients[0]);
        let mut out = Message::default();
        let before = cpu_time();
        assert!(server.recv_any(Some(b"b"), false, &mut out, &within(0.3)).unwrap().is_none());
        assert!(cpu_time() - before < 0.2);
        send(&clients[1], "b1");
        assert_eq!(any(&server, Some(b"b")).0, "b1");
        assert_eq!(any(&server, Some(b"a")).0, "a1");
        assert_eq!(any(&server, None).0, "a2");
    }
}

#[test]
fn recv_any_and_the_descriptor_find_what_a_receive_of_one_client_left_in_the_read_ahead() {
    for connect in EACH_LINK {
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
}

fn cpu_time() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

#[test]
fn more_clients_than_select_could_watch() {
    for connect in EACH_LINK {
        let (server, place) = serve(Options::default());
        let clients: Vec<_> = (0..1200).map(|_| connect(&place)).collect();
        server.admit(1200, &never()).unwrap();
        clients.iter().for_each(|c| send(c, "m"));
        let mut seen = std::collections::HashSet::new();
        while seen.len() < 1200 {
            seen.insert(Arc::as_ptr(&any(&server, None).1) as usize);
        }
    }
}

#[test]
fn statistics_count_the_gone_as_well() {
    for connect in EACH_LINK {
        let (server, place) = serve(Options::default());
        let (a, b) = (connect(&place), connect(&place));
        send(&a, "12345");
        send(&b, "12345");
        any(&server, None);
        any(&server, None);
        drop(a);
        assert!(server.recv_any(None, false, &mut Message::default(), &within(0.05)).unwrap().is_none());
        let stats = server.stats().unwrap();
        assert_eq!((stats.rx.calls, stats.rx.bytes), (2, 42));
        assert_eq!(stats.transports, [(b.stats().transport, 1)]);
    }
}

#[test]
fn who_has_gone_is_told_once_to_those_of_the_tag_and_not_when_closed_here() {
    for connect in EACH_LINK {
        let (server, place) = serve(Options::default());
        let clients: Vec<_> = (0..4).map(|_| connect(&place)).collect();
        server.admit(4, &never()).unwrap();
        let list = server.clients(None, false).unwrap();
        list[1].set_tag(Some(Tag::new(b"b").unwrap()));
        list[3].connection().close();
        send(&clients[0], "last");
        clients[0].close();
        clients[1].close();
        // What it sent comes first; another call than that one may notice.
        assert_eq!(any(&server, None).0, "last");
        let (client, reason) = gone(&server, Some(b"b"));
        assert!(Arc::ptr_eq(&client, &list[1]) && reason.code() == Code::Closed, "{reason}");
        let (client, reason) = gone(&server, None);
        assert!(Arc::ptr_eq(&client, &list[0]) && reason.what().contains(client.connection().peer()), "{reason}");
        let mut out = Message::default();
        assert!(server.recv_any(None, true, &mut out, &within(0.05)).unwrap().is_none());
        list[2].connection().end(err!(Protocol, "nonsense"));
        assert_eq!(gone(&server, None).1.what(), "nonsense");
        assert_eq!(server.stats().unwrap().rejected, 1);
        assert!(server.recv_any(None, true, &mut out, &within(0.05)).unwrap().is_none());
    }
}

#[test]
fn a_call_that_waits_for_the_gone_is_told_no_matter_who_notices() {
    for connect in EACH_LINK {
        let (server, place) = serve(Options::default());
        for round in 0..100 {
            let client = connect(&place);
            server.admit(1, &never()).unwrap();
            thread::scope(|s| {
                let handle = server.clients(None, false).unwrap().remove(0);
                let told = s.spawn(|| gone(&server, None).0);
                // Another that waits for messages only, and one that looks at the clients, may be first.
                let other =
                    s.spawn(|| server.recv_any(None, false, &mut Message::default(), &within(0.02)).unwrap().is_none());
                if round % 2 == 0 {
                    drop(client);
                    let _ = server.clients(None, false);
                } else {
                    handle.connection().end(err!(Protocol, "nonsense"));
                }
                assert!(Arc::ptr_eq(&told.join().unwrap(), &handle));
                assert!(other.join().unwrap());
            });
        }
    }
}

#[test]
fn threads_in_one_recv_any_miss_nothing_whatever_else_they_are_at() {
    for connect in EACH_LINK {
        let (server, place) = serve(Options::default());
        let client = connect(&place);
        server.admit(1, &never()).unwrap();
        let got = AtomicUsize::new(0);
        const ALL: usize = 5000;
        thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    let mut out = Message::default();
                    while got.load(Ordering::SeqCst) < ALL {
                        if matches!(server.recv_any(None, false, &mut out, &within(10.0)), Ok(Some(_))) {
                            got.fetch_add(1, Ordering::SeqCst);
                        } else {
                            assert_eq!(got.load(Ordering::SeqCst), ALL);
                        }
                    }
                    // The others may wait for a message that does not come.
                    server.close();
                });
            }
            for n in 0..ALL {
                send(&client, "m");
                // So that many come while one is just leaving.
                while n % 7 == 0 && got.load(Ordering::SeqCst) < n {
                    thread::yield_now();
                }
            }
        });
    }
}

#[test]
fn a_client_closed_here_whose_socket_stays_open_no_longer_wakes_the_server() {
    let (server, place) = serve(Options::default());
    let client = connect_over_tcp(&place);
    server.admit(1, &never()).unwrap();
    let handle = server.clients(None, false).unwrap().remove(0);
    let much = "much".repeat(3 << 18);
    send(handle.connection(), &much);
    handle.connection().close();
    // The close itself is told of, until a look finds nothing.
    assert!(server.recv_any(None, false, &mut Message::default(), &within(0.01)).unwrap().is_none());
    for _ in 0..10 {
        send(&client, "late");
        assert!(!poll_fd(server.fd().unwrap(), Interest::Read, &within(0.01)).unwrap());
    }
    assert_eq!(server.count(), 0);
    assert!(hear(&client).unwrap() == much);
    assert_eq!(hear(&client).unwrap_err().code(), Code::Closed);
}
