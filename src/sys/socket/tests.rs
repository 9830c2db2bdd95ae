#![allow(clippy::unwrap_used)]
use super::*;

fn wait_for(fd: &Fd, events: i16) {
    let mut fds = [libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }];
    crate::sys::poll(&mut fds, Some(std::time::Duration::from_secs(10))).unwrap();
}

#[test]
fn bytes_cross_a_tcp_connection_in_order() {
    for ip in ["127.0.0.1", "::1"] {
        let Ok(listener) = listen(&Address::Tcp(SocketAddr::new(ip.parse().unwrap(), 0))) else { continue };
        let at = local_address(&listener).unwrap();
        assert!(at.is_local() && at.port() > 0);
        let client = connect(&at).unwrap();
        wait_for(&listener, libc::POLLIN);
        let (server, from) = accept(&listener).unwrap().unwrap();
        wait_for(&client, libc::POLLOUT);
        take_error(&client).unwrap();
        assert_eq!(local_address(&client).unwrap(), from);
        // SAFETY: both regions are slices of static bytes.
        let sent = unsafe { send(client.as_raw_fd(), &[Region::of(b"ab"), Region::of(b"cd")], false) };
        assert_eq!(sent.unwrap(), Moved::Bytes(4));
        wait_for(&server, libc::POLLIN);
        let mut buf = [0u8; 8];
        // SAFETY: a buffer of the stated length.
        let got = unsafe { receive(server.as_raw_fd(), &[Region::new(buf.as_mut_ptr(), 8)], Empty::Return) };
        assert_eq!((got.unwrap(), &buf[..4]), (Moved::Bytes(4), &b"abcd"[..]));
        drop(client);
        wait_for(&server, libc::POLLIN);
        // SAFETY: as above.
        let end = unsafe { receive(server.as_raw_fd(), &[Region::new(buf.as_mut_ptr(), 8)], Empty::Return) };
        assert_eq!(end.unwrap(), Moved::End);
    }
}

/// Any port of an address where no other test takes the one that is left; of several of those the `n`-th.
fn own_address(n: u8) -> Address {
    let host = if cfg!(target_os = "linux") { [127, 0, 77, n] } else { [127, 0, 0, 1] };
    Address::Tcp((host, 0).into())
}

#[test]
fn a_port_in_use_is_an_error_that_says_so_and_a_left_one_is_free_again() {
    let first = listen(&own_address(1)).unwrap();
    let at = local_address(&first).unwrap();
    let e = listen(&at).unwrap_err().to_string();
    assert!(e.contains("this process listens there itself"), "{e}");
    let client = connect(&at).unwrap();
    wait_for(&first, libc::POLLIN);
    let (server, _) = accept(&first).unwrap().unwrap();
    drop(server);
    drop(first);
    listen(&at).unwrap();
    drop(client);
}

#[test]
fn a_unix_socket_is_the_users_own() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("ipc-socket-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let at = Address::Unix(path.clone());
    let listener = listen(&at).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let client = connect(&at).unwrap();
    let (server, _) = accept(&listener).unwrap().unwrap();
    assert_eq!(peer_uid(&server).unwrap(), uid());
    assert_eq!(peer_uid(&client).unwrap(), uid());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_dead_port_refuses() {
    let listener = listen(&own_address(2)).unwrap();
    let at = local_address(&listener).unwrap();
    drop(listener);
    let e = match connect(&at) {
        Ok(fd) => {
            wait_for(&fd, libc::POLLOUT);
            take_error(&fd).unwrap_err()
        }
        Err(e) => e,
    };
    assert_eq!(e.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn addresses_read_as_people_write_them() {
    assert_eq!(literal("[::1]"), Some("::1".parse().unwrap()));
    assert_eq!(literal("*"), Some("0.0.0.0".parse().unwrap()));
    assert_eq!(literal("example"), None);
    assert_eq!(Address::Unix("/a b".into()).to_string(), "unix:/a b");
    assert!(!Address::Tcp("10.0.0.1:1".parse().unwrap()).is_local());
}

#[test]
fn a_listener_that_was_shut_down_has_nobody_waiting() {
    let path = std::env::temp_dir().join(format!("ipc-shut-{}", std::process::id()));
    for at in [Address::Tcp("127.0.0.1:0".parse().unwrap()), Address::Unix(path.clone())] {
        let listener = listen(&at).unwrap();
        shutdown(listener.as_raw_fd());
        assert!(accept(&listener).unwrap().is_none());
    }
    std::fs::remove_file(path).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn what_the_peer_has_not_taken_is_counted_and_what_it_sends_can_be_dropped() {
    let listener = listen(&Address::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let here = connect(&local_address(&listener).unwrap()).unwrap();
    wait_for(&listener, libc::POLLIN);
    let (there, _) = accept(&listener).unwrap().unwrap();
    wait_for(&here, libc::POLLOUT);
    let bytes = vec![0u8; 1 << 20];
    // SAFETY: a slice.
    while unsafe { send(here.as_raw_fd(), &[Region::of(&bytes)], false) }.unwrap() != Moved::Blocked {}
    stop_sending(here.as_raw_fd());
    assert!(unconfirmed(here.as_raw_fd()) > 0);
    assert_eq!(discard(here.as_raw_fd()), Some(false));
    // SAFETY: a slice.
    unsafe { send(there.as_raw_fd(), &[Region::of(b"late")], false) }.unwrap();
    wait_for(&here, libc::POLLIN);
    assert_eq!(discard(here.as_raw_fd()), Some(true));
    assert!(!is_at_end(here.as_raw_fd()));
    while discard(there.as_raw_fd()).is_some() {
        wait_for(&there, libc::POLLIN);
    }
    drop(there);
    wait_for(&here, libc::POLLIN);
    assert_eq!((unconfirmed(here.as_raw_fd()), discard(here.as_raw_fd())), (0, None));
}
