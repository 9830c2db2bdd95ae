//! The socket that two ends met on, as one of them sees it: what it says about who can be at the other end.

use std::net::{IpAddr, SocketAddr};

use crate::error::{Error, Result};
use crate::sys::Fd;
use crate::sys::socket::{self, Address};
use crate::transport::Role;

/// Bytes of the addresses of both ends in a proof.
const BOTH: usize = 2 * (16 + 2);

/// Both ends of a connected socket.
#[derive(Clone, Debug)]
pub(in crate::peer) struct Ends {
    /// The address of this end.
    pub own: Address,
    /// The address of the other end.
    pub peer: Address,
    /// The user at the other end of a Unix socket, from the system.
    pub peer_user: Option<u32>,
    /// The network of this host that the socket belongs to, where the system says.
    pub network: Option<u64>,
}

impl Ends {
    /// The ends of a connected socket, with the addresses that the system gives them.
    pub fn of(fd: &Fd, own: Address, peer: Address) -> Result<Ends> {
        let peer_user = match own {
            Address::Unix(_) => Some(socket::peer_uid(fd).map_err(|e| Error::io("", "SO_PEERCRED", &e))?),
            Address::Tcp(_) => None,
        };
        Ok(Ends { own, peer, peer_user, network: socket::network(fd) })
    }

    /// Whether only a process of this host can be at the other end: both addresses are loopback, or they are the same.
    /// A forwarder may be that process.
    pub fn is_same_host(&self) -> bool {
        match (&self.own, &self.peer) {
            (Address::Tcp(own), Address::Tcp(peer)) => {
                let (own, peer) = (own.ip().to_canonical(), peer.ip().to_canonical());
                own == peer || own.is_loopback() && peer.is_loopback()
            }
            _ => true,
        }
    }

    /// On a Unix socket: whether this user is at the other end, or one that can do all that this user can.
    pub fn is_same_user(&self) -> bool {
        self.peer_user.is_some_and(|user| user == socket::uid() || user == 0)
    }

    /// On a Unix socket: whether the system vouches for the users of the two ends, which both ends answer alike.
    pub fn is_proved_by_system(&self) -> bool {
        self.is_same_user() || self.peer_user.is_some() && socket::uid() == 0
    }

    /// The addresses and ports of both ends as this one, which is `role`, sees them: the client's, then the server's.
    pub fn addresses(&self, role: Role) -> [u8; BOTH] {
        let (client, server) = match role {
            Role::Initiator => (&self.own, &self.peer),
            Role::Responder => (&self.peer, &self.own),
        };
        let mut out = [0; BOTH];
        for (half, address) in out.chunks_exact_mut(BOTH / 2).zip([client, server]) {
            if let Address::Tcp(address) = address {
                half.copy_from_slice(&in_bytes(address));
            }
        }
        out
    }

    /// For people: the same.
    pub fn name(&self, role: Role) -> String {
        let canonical = |address: &Address| match address {
            Address::Tcp(a) => SocketAddr::new(a.ip().to_canonical(), a.port()).to_string(),
            unix => unix.to_string(),
        };
        match role {
            Role::Initiator => format!("{} to {}", canonical(&self.own), canonical(&self.peer)),
            Role::Responder => format!("{} to {}", canonical(&self.peer), canonical(&self.own)),
        }
    }
}

/// The address in its IPv6 form (IPv4 mapped), then the port, most significant byte first.
fn in_bytes(address: &SocketAddr) -> [u8; BOTH / 2] {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut out = [0; BOTH / 2];
    out[..16].copy_from_slice(&ip.octets());
    out[16..].copy_from_slice(&address.port().to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tcp(own: &str, peer: &str) -> Ends {
        let address = |text: &str| Address::Tcp(text.parse().unwrap());
        Ends { own: address(own), peer: address(peer), peer_user: None, network: None }
    }

    #[test]
    fn the_same_host_is_loopback_at_both_ends_or_one_address() {
        for (own, peer) in [
            ("127.0.0.1:1", "127.0.0.1:2"),
            ("127.0.0.1:1", "127.0.0.9:2"),
            ("[::1]:1", "[::1]:2"),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:2"),
            ("192.0.2.1:1", "192.0.2.1:2"),
            ("[::ffff:192.0.2.1]:1", "192.0.2.1:2"),
        ] {
            assert!(tcp(own, peer).is_same_host(), "{own} {peer}");
        }
        for (own, peer) in
            [("192.0.2.1:1", "192.0.2.2:1"), ("127.0.0.1:1", "192.0.2.2:1"), ("192.0.2.1:1", "127.0.0.1:1")]
        {
            assert!(!tcp(own, peer).is_same_host(), "{own} {peer}");
        }
    }

    #[test]
    fn both_ends_see_the_same_addresses_unless_something_is_in_between() {
        let client = tcp("127.0.0.1:1000", "127.0.0.1:2000");
        let server = tcp("[::ffff:127.0.0.1]:2000", "[::ffff:127.0.0.1]:1000");
        assert_eq!(client.addresses(Role::Initiator), server.addresses(Role::Responder));
        assert_eq!(client.name(Role::Initiator), server.name(Role::Responder));
        let bytes = client.addresses(Role::Initiator);
        assert_eq!(bytes[10..18], [255, 255, 127, 0, 0, 1, 3, 232]);
        for other in [tcp("127.0.0.1:1000", "127.0.0.1:2001"), tcp("127.0.0.1:1001", "127.0.0.1:2000")] {
            assert_ne!(bytes, other.addresses(Role::Initiator));
        }
        assert_ne!(bytes, client.addresses(Role::Responder));
    }
}
