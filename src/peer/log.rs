//! What `IPC_LOG` has told on stderr: with `info` over which link each pair of peers talks, and why not over a faster
//! one; with `debug` also what attempts to connect met, and who was sent away. Imports its
//! siblings `choose` and `hello`.
//!
//! It is for those who operate a program. The program itself has the errors of its calls, and `netStats()`.

use std::fmt;

use super::choose::Near;
use super::hello::{Agreed, Proof};
use crate::error::{Error, OneLine};
use crate::sys::socket::Address;
use crate::sys::{SetOnce, env_var, tell};

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Off,
    Info,
    Debug,
}

impl Level {
    fn parse(asked: &str) -> Option<Level> {
        match asked {
            "" | "off" => Some(Level::Off),
            "info" => Some(Level::Info),
            "debug" => Some(Level::Debug),
            _ => None,
        }
    }

    /// What the environment asks for, read once.
    fn get() -> Level {
        static LEVEL: SetOnce<Level> = SetOnce::new();
        if let Some(level) = LEVEL.get() {
            return *level;
        }
        let asked = env_var("IPC_LOG").unwrap_or_default();
        let asked = asked.to_string_lossy();
        let level = Level::parse(&asked);
        let first = LEVEL.set(level.unwrap_or(Level::Off)).is_ok();
        if first && level.is_none() {
            write(format_args!("IPC_LOG is 'info', 'debug' or 'off', not '{asked}': nothing is logged"));
        }
        level.unwrap_or(Level::Off)
    }
}

/// Tells what came of a hello, at either end. `end` says which with whom, `link` is the socket's other end.
pub(super) fn linked(end: fmt::Arguments<'_>, link: &Address, agreed: &Agreed) {
    if Level::get() >= Level::Info {
        write(format_args!("{end}: {}", sentence(link, agreed)));
    }
}

/// Tells that an admitted client was ended for what it sent.
pub(super) fn rejected(peer: &str, reason: &Error) {
    if Level::get() >= Level::Info {
        write(format_args!("server ended client {peer}: [{}] {}", reason.code(), OneLine(reason.what())));
    }
}

/// Tells what only someone who looks for a fault wants to know.
pub(super) fn debug(what: fmt::Arguments<'_>) {
    if Level::get() == Level::Debug {
        write(what);
    }
}

/// Over which link, how it is protected, and why it is not a faster one.
fn sentence(link: &Address, agreed: &Agreed) -> String {
    let is_socket = agreed.chosen.is_socket();
    let over = match link {
        _ if !is_socket => "memory",
        Address::Tcp(_) => "tcp",
        Address::Unix(_) => "unix socket",
    };
    let encryption = match (&agreed.keys, is_socket) {
        (Some(_), _) => "encrypted",
        (None, true) => "not encrypted",
        (None, false) => "needs no encryption",
    };
    let proof = match agreed.proof {
        Proof::Secret => "authenticated by a secret",
        Proof::Cookie => "authenticated by a cookie",
        Proof::System => "authenticated by the system",
        Proof::None => "not authenticated",
    };
    let place = match agreed.near {
        Near::Process => "this process",
        Near::Host(pid) => &*format!("process {pid} of this host"),
        Near::Elsewhere => "another host",
    };
    format!("{over} to {place}, {proof}, {encryption}; {}", agreed.chosen.why)
}

/// One line, by one system call, so that those of many processes do not mix. The background thread never waits for
/// those who read it.
fn write(what: fmt::Arguments<'_>) {
    tell(&format!("libipc {}: {what}", std::process::id()));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::peer::choose::{Offered, choose};
    use crate::peer::options::Options;
    use crate::transport::Policy;

    #[test]
    fn the_levels_have_names_and_others_are_told() {
        assert_eq!(
            ["", "off", "info", "debug"].map(Level::parse),
            [Some(Level::Off), Some(Level::Off), Some(Level::Info), Some(Level::Debug)]
        );
        assert_eq!(["INFO", "1", "trace"].map(Level::parse), [None, None, None]);
    }

    fn agreed(proof: Proof, near: Near, link: Option<&str>) -> Agreed {
        let options = Options::default();
        let offered = Offered::new(&options, near, &["memory".into()]).unwrap();
        let chosen = match link {
            None => offered.chosen(None),
            Some(_) => choose(&options, near, &offered.links(), offered.token().as_ref()).map(|(chosen, _)| chosen),
        };
        Agreed { policy: Policy::default(), keys: None, near, proof, chosen: chosen.unwrap() }
    }

    #[test]
    fn a_sentence_says_link_protection_and_reason() {
        let tcp = Address::Tcp("127.0.0.1:9".parse().unwrap());
        let unix = Address::Unix("/tmp/s".into());
        assert_eq!(
            sentence(&tcp, &agreed(Proof::Cookie, Near::Process, Some("memory"))),
            "memory to this process, authenticated by a cookie, needs no encryption; nothing is faster"
        );
        assert_eq!(
            sentence(&tcp, &agreed(Proof::None, Near::Process, None)),
            "tcp to this process, not authenticated, not encrypted; not in memory: the other end does not want it"
        );
        assert_eq!(
            sentence(&unix, &agreed(Proof::System, Near::Host(7), None)),
            "unix socket to process 7 of this host, authenticated by the system, not encrypted; not in memory: it is \
             another process; in shared memory this version cannot"
        );
        assert_eq!(
            sentence(&tcp, &agreed(Proof::Secret, Near::Elsewhere, None)),
            "tcp to another host, authenticated by a secret, not encrypted; nothing faster reaches it"
        );
    }
}
