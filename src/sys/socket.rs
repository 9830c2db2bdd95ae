//! Stream sockets: addresses, listening, connecting; `moving` has the four system calls that move bytes, `ending` those
//! that end a connection.
//!
//! Every socket made here is close-on-exec and in the table of descriptors. No call on it blocks, but for a receive
//! that is allowed to. Imports its sibling `fd`.

mod ending;
mod moving;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::fd::{Fd, opening};
use crate::error::{Code, Error, Result};

pub use self::ending::{discard, is_at_end, shutdown, stop_sending, unconfirmed};
pub use self::moving::{Empty, Moved, Region, let_block, receive, send};

/// Where a stream socket is bound or connected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A Unix socket; an empty path for an end that has no name.
    Unix(PathBuf),
}

impl Address {
    /// Whether only this host can be at the other end.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Tcp(a) => match a.ip() {
                IpAddr::V4(ip) => ip.is_loopback(),
                IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
            },
            Address::Unix(_) => true,
        }
    }

    /// The port; 0 for a Unix socket.
    pub fn port(&self) -> u16 {
        match self {
            Address::Tcp(a) => a.port(),
            Address::Unix(_) => 0,
        }
    }

    fn to_os(&self) -> io::Result<(Domain, SockAddr)> {
        match self {
            Address::Tcp(a) => Ok((Domain::for_address(*a), SockAddr::from(*a))),
            Address::Unix(p) => Ok((Domain::UNIX, SockAddr::unix(p)?)),
        }
    }

    fn from_os(address: &SockAddr) -> Address {
        match address.as_socket() {
            Some(a) => Address::Tcp(a),
            None => Address::Unix(address.as_pathname().map(Path::to_path_buf).unwrap_or_default()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(a) => write!(f, "{a}"),
            Address::Unix(p) if p.as_os_str().is_empty() => f.write_str("unix:"),
            Address::Unix(p) => write!(f, "unix:{}", p.display()),
        }
    }
}

fn own(socket: Socket) -> Fd {
    Fd::own(socket.into_raw_fd())
}

fn new_socket(domain: Domain) -> io::Result<Socket> {
    // socket2 asks for close-on-exec by itself.
    #[cfg(target_os = "linux")]
    let socket = Socket::new(domain, Type::from(libc::SOCK_STREAM | libc::SOCK_NONBLOCK), None)?;
    #[cfg(not(target_os = "linux"))]
    let socket = Socket::new(domain, Type::STREAM, None)?;
    #[cfg(not(target_os = "linux"))]
    socket.set_nonblocking(true)?;
    #[cfg(target_vendor = "apple")]
    socket.set_nosigpipe(true)?;
    Ok(socket)
}

/// How much a Unix socket is asked to take unread. The system gives no more than its own limit (net.core.wmem_max); TCP
/// sees to it itself.
const ROOM: usize = 4 << 20;

/// What every connection gets. TCP: no delay for small messages, and a look every minute whether the peer still lives.
fn tune(socket: SockRef<'_>, address: &Address) {
    // A socket whose peer has gone already may refuse these; the next read says so better.
    match address {
        Address::Tcp(_) => {
            let _ = socket.set_tcp_nodelay(true);
            let minute = std::time::Duration::from_secs(60);
            let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(minute).with_interval(minute / 4));
        }
        Address::Unix(_) => {
            let _ = socket.set_send_buffer_size(ROOM);
        }
    }
}

/// Listens at `address` (port 0: any free one). An address that a program before used is taken again at once.
pub fn listen(address: &Address) -> Result<Fd> {
    let made = opening(|| -> io::Result<Fd> {
        let (domain, os) = address.to_os()?;
        let socket = new_socket(domain)?;
        if matches!(address, Address::Tcp(_)) {
            socket.set_reuse_address(true)?;
        }
        if matches!(address, Address::Tcp(SocketAddr::V6(_))) {
            // "::" serves IPv4 as well, where the system lets it.
            let _ = socket.set_only_v6(false);
        }
        // The same user only.
        #[cfg(target_os = "linux")]
        if matches!(address, Address::Unix(_)) {
            // The file that bind() makes has the mode of the socket: there is no moment at which others could enter,
            // and no second look-up of the path, which might find something else. SAFETY: touches no memory.
            if unsafe { libc::fchmod(socket.as_raw_fd(), 0o600) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        socket.bind(&os)?;
        #[cfg(not(target_os = "linux"))]
        if let Address::Unix(path) = address {
            // Nobody can connect before listen().
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        }
        // The system cuts this to its own limit (net.core.somaxconn).
        socket.listen(65_535)?;
        Ok(own(socket))
    });
    made.map_err(|e| {
        let hint = match e.kind() {
            ErrorKind::AddrInUse if is_ours(address) => {
                "; this process listens there itself: close that first, or take another port, or 0 for any free one"
            }
            ErrorKind::AddrInUse if matches!(address, Address::Unix(path) if !is_socket(path)) => {
                "; what lies there is no socket: remove it, or take another path"
            }
            ErrorKind::AddrInUse if matches!(address, Address::Unix(_)) => {
                "; another program listens there: take another path"
            }
            ErrorKind::AddrInUse => "; another program listens there: take another port, or 0 for any free one",
            ErrorKind::PermissionDenied => "; ports below 1024 and this folder need other rights",
            ErrorKind::AddrNotAvailable => "; this host has no such address",
            _ => "",
        };
        Error::new(Code::Io, "", format!("listening at {address}: {e}{hint}")).caused_by(&e)
    })
}

/// Whether a socket lies at `path` itself.
fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// Whether a socket of this process, no matter what made it, listens at the port of `address`, or at its path.
fn is_ours(address: &Address) -> bool {
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else { return false };
    descriptors.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok()).any(|fd| {
        // SAFETY: it was open a moment ago, and if it is another now, that is asked; nothing is read, written or
        // closed.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        let socket = SockRef::from(&socket);
        if !socket.is_listener().unwrap_or(false) {
            return false;
        }
        match (socket.local_addr().map(|own| Address::from_os(&own)), address) {
            (Ok(Address::Tcp(own)), Address::Tcp(asked)) => own.port() == asked.port(),
            (Ok(own), asked) => own == *asked,
            (Err(_), _) => false,
        }
    })
}

/// Takes the next connection; `None` when nobody waits.
pub fn accept(listener: &Fd) -> Result<Option<(Fd, Address)>> {
    let raw = listener.check()?;
    opening(|| {
        // SAFETY: the descriptor stays open while `listener` is borrowed.
        let borrowed = unsafe { BorrowedFd::borrow_raw(raw) };
        match SockRef::from(&borrowed).accept() {
            Ok((socket, peer)) => {
                let address = Address::from_os(&peer);
                // Whatever it inherits: every call on it says itself whether it may block.
                tune(SockRef::from(&socket), &address);
                Ok(Some((own(socket), address)))
            }
            Err(e) => match e.kind() {
                // The connection ended before we took it, or there was none.
                ErrorKind::WouldBlock | ErrorKind::ConnectionAborted | ErrorKind::Interrupted => Ok(None),
                // The listener was shut down: there never will be one.
                ErrorKind::InvalidInput => Ok(None),
                _ => Err(Error::io("", "accept", &e)),
            },
        }
    })
}

/// Starts to connect; the socket is writable when [`take_error`] has the outcome.
pub fn connect(address: &Address) -> io::Result<Fd> {
    opening(|| {
        let (domain, os) = address.to_os()?;
        let socket = new_socket(domain)?;
        tune(SockRef::from(&socket), address);
        match socket.connect(&os) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) || e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        Ok(own(socket))
    })
}

/// As [`connect`], to a Unix socket whose queue is full: waits in the system's line for a place in it, for up to
/// `most`. [`ErrorKind::WouldBlock`] where none came, or a signal did.
pub fn connect_in_line(address: &Address, most: Duration) -> io::Result<Fd> {
    let (domain, os) = address.to_os()?;
    let fd = opening(|| new_socket(domain).map(own))?;
    with(fd.as_raw_fd(), |socket| {
        socket.set_write_timeout(Some(most))?;
        socket.set_nonblocking(false)?;
        let connected = socket.connect(&os);
        socket.set_nonblocking(true)?;
        socket.set_write_timeout(None)?;
        connected
    })
    .map_err(|e| if e.kind() == ErrorKind::Interrupted { ErrorKind::WouldBlock.into() } else { e })?;
    Ok(fd)
}

fn with<T>(fd: RawFd, f: impl FnOnce(SockRef<'_>) -> T) -> T {
    // SAFETY: callers hold the descriptor open through the call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    f(SockRef::from(&borrowed))
}

/// The pending error of a socket, which this clears: the outcome of a connect.
pub fn take_error(fd: &Fd) -> io::Result<()> {
    match with(fd.as_raw_fd(), |s| s.take_error())? {
        None => Ok(()),
        Some(e) => Err(e),
    }
}

/// Where a socket is bound.
pub fn local_address(fd: &Fd) -> Result<Address> {
    with(fd.check()?, |s| s.local_addr()).map(|a| Address::from_os(&a)).map_err(|e| Error::io("", "getsockname", &e))
}

/// Where a socket is connected to.
pub fn peer_address(fd: &Fd) -> io::Result<Address> {
    with(fd.as_raw_fd(), |s| s.peer_addr()).map(|a| Address::from_os(&a))
}

/// Two connected Unix sockets.
pub fn pair() -> Result<(Fd, Fd)> {
    opening(|| {
        let (a, b) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
        a.set_nonblocking(true)?;
        b.set_nonblocking(true)?;
        Ok((own(a), own(b)))
    })
    .map_err(|e: io::Error| Error::io("", "socketpair", &e))
}

/// The user at the other end of a Unix socket.
pub fn peer_uid(fd: &Fd) -> io::Result<u32> {
    #[cfg(target_os = "linux")]
    {
        let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut len = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: `cred` has room for `len` bytes, which is what SO_PEERCRED writes.
        let rc = unsafe {
            let out = (&raw mut cred).cast();
            libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, out, &mut len)
        };
        if rc == 0 { Ok(cred.uid) } else { Err(io::Error::last_os_error()) }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let (mut uid, mut gid) = (0, 0);
        // SAFETY: both are valid places for the result.
        let rc = unsafe { libc::getpeereid(fd.as_raw_fd(), &mut uid, &mut gid) };
        if rc == 0 { Ok(uid) } else { Err(io::Error::last_os_error()) }
    }
}

/// The network of this host that a socket belongs to (a namespace), by a number that is its own until the host boots
/// again; `None` where the system does not say.
pub fn network(fd: &Fd) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        /// Since Linux 5.14.
        const SO_NETNS_COOKIE: libc::c_int = 71;
        let mut cookie = 0u64;
        let mut len = size_of::<u64>() as libc::socklen_t;
        // SAFETY: `cookie` has room for `len` bytes, which is what the option writes.
        let rc = unsafe {
            let out = (&raw mut cookie).cast();
            libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, out, &mut len)
        };
        (rc == 0 && len as usize == size_of::<u64>()).then_some(cookie)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = fd;
        None
    }
}

/// This process's user.
pub fn uid() -> u32 {
    // SAFETY: touches no memory and cannot fail.
    unsafe { libc::geteuid() }
}

/// Lets this process open as many descriptors as the system allows it (raises the soft limit to the hard one): a server
/// of thousands of clients needs them.
pub fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result, then a valid new value. A refusal leaves the old limit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// How many descriptors this process may have open.
pub fn descriptor_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return 1024;
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// The addresses that `host` and `port` mean: an IP address, `*` (every address), or a name, which asks the system's
/// resolver and may take long.
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Some(ip) = literal(host) {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    std::net::ToSocketAddrs::to_socket_addrs(&(host, port)).map(Iterator::collect)
}

/// `host` as an IP address, if it is one; the brackets of `[::1]` may be there, and `*` is every address.
pub fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match bare {
        "*" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        "::" => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => bare.parse().ok(),
    }
}

#[cfg(test)]
mod tests;
