//! Servers and clients over real sockets, friendly and hostile.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::*;
use crate::err;
use crate::error::{Code, Error};
use crate::sys::socket::Address;
use crate::tensor::Tensor;
use crate::transport::{Connection, Secret};
use crate::wait::{Deadline, Interest, Wait, poll_fd};
use crate::wire::{Attachment, Message};

mod clients;
mod connecting;

fn never() -> Wait<'static> {
    // A watchdog, far past what any of this takes.
    Wait::until(Deadline::after(60.0))
}

fn within(seconds: f64) -> Wait<'static> {
    Wait::until(Deadline::after(seconds))
}

fn local() -> ServerAddress {
    ServerAddress::new(b"127.0.0.1", 0).unwrap()
}

fn serve(options: Options) -> (Arc<Server>, ServerAddress) {
    let server = Server::listen(&local(), options, &never()).unwrap();
    let place = ServerAddress::new(b"127.0.0.1", server.address().port()).unwrap();
    (server, place)
}

/// A place where nobody listens, and which the system gives to nobody else while the socket lives: that one has the
/// port and does not listen. Servers may take it all the same, since they set SO_REUSEADDR.
fn reserved() -> (socket2::Socket, ServerAddress) {
    let holder = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    holder.set_reuse_address(true).unwrap();
    holder.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = holder.local_addr().unwrap().as_socket().unwrap().port();
    (holder, ServerAddress::new(b"127.0.0.1", port).unwrap())
}

/// Waits until the other end's system has all that was sent.
#[cfg(target_os = "linux")]
fn delivered(c: &Arc<dyn Connection>) {
    // In memory it is there at once.
    let Some(socket) = c.socket().unwrap() else { return };
    let mut left = 1;
    while left > 0 {
        thread::sleep(Duration::from_millis(1));
        // SAFETY: writes one number.
        assert_eq!(unsafe { libc::ioctl(socket.fd(), libc::TIOCOUTQ, &raw mut left) }, 0);
    }
}

#[cfg(not(target_os = "linux"))]
fn delivered(_: &Arc<dyn Connection>) {
    thread::sleep(Duration::from_millis(50));
}

fn connect(place: &ServerAddress) -> Arc<dyn Connection> {
    dial(place, &Options::default(), &never()).unwrap()
}

/// With a server in the same process, too.
fn over_tcp() -> Options {
    Options { transport: TransportChoice::Tcp, ..Options::default() }
}

fn connect_over_tcp(place: &ServerAddress) -> Arc<dyn Connection> {
    dial(place, &over_tcp(), &never()).unwrap()
}

type Connect = fn(&ServerAddress) -> Arc<dyn Connection>;

/// Over each kind of link that a server in the same process can have with its client.
const EACH_LINK: [Connect; 2] = [connect, connect_over_tcp];

fn text(s: &str) -> Message {
    Message { bytes: s.as_bytes().to_vec(), ..Message::default() }
}

fn send(c: &Arc<dyn Connection>, s: &str) {
    c.send(&mut text(s), &never()).unwrap();
}

fn hear(c: &Arc<dyn Connection>) -> Result<String, Error> {
    let mut out = Message::default();
    c.recv(None, &mut out, &never())?;
    Ok(String::from_utf8(out.bytes).unwrap())
}

fn any(server: &Server, tag: Option<&[u8]>) -> (String, Arc<Client>) {
    let mut out = Message::default();
    match server.recv_any(tag, false, &mut out, &never()).unwrap().unwrap() {
        Arrival::Message(client) => (String::from_utf8(out.bytes).unwrap(), client),
        Arrival::Gone(client, _) => panic!("{client:?} has gone, which nobody asked for"),
    }
}

fn broadcast(server: &Server, message: Message, tag: Option<&[u8]>, wait: &Wait) -> Result<usize, Error> {
    server.broadcast(message, tag)?.drive(wait)
}

/// The client that has gone, and why.
fn gone(server: &Server, tag: Option<&[u8]>) -> (Arc<Client>, Error) {
    match server.recv_any(tag, true, &mut Message::default(), &never()).unwrap().unwrap() {
        Arrival::Gone(client, reason) => (client, reason),
        Arrival::Message(client) => panic!("a message of {client:?}"),
    }
}

fn secret(s: &str) -> Options {
    Options { secret: Some(Secret::new(s.as_bytes())), ..Options::default() }
}
