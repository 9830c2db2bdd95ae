//! Over which link two ends talk that have met on a socket: the best that both can, and why it is no better one. The
//! only file that names the links. Imports its siblings `options` and `rendezvous`.

use super::options::{Options, TransportChoice};
use super::rendezvous::{Expected, Token, meet};
use crate::err;
use crate::error::Result;
use crate::sys::Fd;
use crate::sys::socket::Address;
use crate::transport::{Connection, InProcess, InProcessEnd, Keys, Policy, Stream};
use std::sync::Arc;

/// How a link in memory is called in the hello.
const MEMORY: &str = "memory";

/// How far away the other end is, by what it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Near {
    /// In this process.
    Process,
    /// On this host, in the process of this number.
    Host(u32),
    /// On another host, or in a container that hides which host it is on.
    Elsewhere,
}

/// What the two ends came to.
#[derive(Debug)]
pub(super) struct Chosen {
    link: Link,
    /// Why it is no better one.
    pub why: &'static str,
}

#[derive(Debug)]
enum Link {
    /// The socket that they met on.
    Socket,
    Memory(InProcessEnd),
}

/// The links besides the socket that an end with these options would use, best first.
pub(super) fn offers(options: &Options) -> Vec<String> {
    let memory =
        options.encrypt != Some(true) && matches!(options.transport, TransportChoice::Auto | TransportChoice::Memory);
    if memory { vec![MEMORY.into()] } else { Vec::new() }
}

fn has(offers: &[String], link: &str) -> bool {
    offers.iter().any(|offer| offer == link)
}

/// What a server offers to one client.
#[derive(Debug)]
pub(super) struct Offered {
    memory: Option<Expected>,
    why: &'static str,
}

impl Offered {
    /// To one that is `near` and offers `theirs`. Refused where the server may not use what is left.
    pub fn new(options: &Options, near: Near, theirs: &[String]) -> Result<Offered> {
        let both = near == Near::Process && has(&offers(options), MEMORY) && has(theirs, MEMORY);
        let memory = if both { Some(Expected::new()?) } else { None };
        let why = why_not(options, near);
        if memory.is_none() && options.transport == TransportChoice::Memory {
            return Err(err!(Unsupported, "the server talks over memory only (transport =): {why}"));
        }
        Ok(Offered { memory, why })
    }

    /// The names of what is offered.
    pub fn links(&self) -> Vec<String> {
        self.memory.iter().map(|_| MEMORY.into()).collect()
    }

    /// What the client has to find in this process.
    pub fn token(&self) -> Option<Token> {
        self.memory.as_ref().map(Expected::token)
    }

    /// The client chose `link`, or the socket.
    pub fn chosen(self, link: Option<&str>) -> Result<Chosen> {
        match (link, self.memory) {
            (None, _) => Ok(Chosen { link: Link::Socket, why: self.why }),
            (Some(MEMORY), Some(expected)) => match expected.end() {
                Some(end) => Ok(Chosen { link: Link::Memory(end), why: "nothing is faster" }),
                None => Err(err!(Protocol, "the client chose a link in memory, and is not in this process")),
            },
            (Some(_), _) => Err(err!(Protocol, "the client chose a link that was not offered")),
        }
    }
}

/// What a client chooses of the `links` that a server offers which is `near`, and the name of it.
pub(super) fn choose(
    options: &Options,
    near: Near,
    links: &[String],
    token: Option<&Token>,
) -> Result<(Chosen, Option<&'static str>)> {
    let possible = near == Near::Process && has(&offers(options), MEMORY) && has(links, MEMORY);
    if let Some(end) = token.filter(|_| possible).and_then(meet) {
        return Ok((Chosen { link: Link::Memory(end), why: "nothing is faster" }, Some(MEMORY)));
    }
    let why = why_not(options, near);
    if options.transport == TransportChoice::Memory {
        return Err(err!(Unsupported, "no link in memory, as transport = wants it: {why}"));
    }
    Ok((Chosen { link: Link::Socket, why }, None))
}

/// Why the link is the socket, as this end sees it.
fn why_not(options: &Options, near: Near) -> &'static str {
    match near {
        Near::Elsewhere => "nothing faster reaches it",
        Near::Host(_) => "not in memory: it is another process; in shared memory this version cannot",
        Near::Process if options.encrypt == Some(true) => "not in memory: encrypt = true keeps the socket",
        Near::Process if offers(options).is_empty() => "not in memory: transport = chose the socket",
        Near::Process => "not in memory: the other end does not want it",
    }
}

impl Chosen {
    /// Whether it is the socket.
    pub fn is_socket(&self) -> bool {
        matches!(self.link, Link::Socket)
    }

    /// The connection, of which the socket `fd` with `address` at its other end is what the two met on. `peer` names
    /// the other end.
    pub fn connection(
        self,
        fd: Fd,
        address: &Address,
        peer: String,
        policy: Policy,
        keys: Option<Keys>,
    ) -> Result<Arc<dyn Connection>> {
        Ok(match self.link {
            Link::Memory(end) => Arc::new(InProcess::new(end, peer, policy)),
            Link::Socket => Arc::new(Stream::new(fd, address, peer, policy, keys)?),
        })
    }
}
