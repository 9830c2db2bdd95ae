//! What a user may ask of a server or a client, and where that is.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::err;
use crate::error::{Lossy, Result};
use crate::sys::env_var;
use crate::transport::Secret;

/// How a link is to be; both ends have their own.
#[derive(Clone, Debug)]
pub struct Options {
    /// What both ends must know; then they authenticate each other.
    pub secret: Option<Secret>,
    /// Whether to encrypt where there is a secret: not only where both ends say no.
    pub encrypt: Option<bool>,
    /// Whether an end without a secret takes peers that prove nothing.
    pub insecure: bool,
    /// The longest message that is taken, in bytes, tensors' own not counted.
    pub max_message: u64,
    /// The bytes of tensors that are taken in a message. By default without a limit, or 1 GiB from a peer that proves
    /// nothing.
    pub max_tensor_bytes: Option<u64>,
    /// Whether functions may come and go, if the other end wants it too.
    pub functions: bool,
    /// How long to try to connect, in seconds.
    pub connect_timeout: f64,
    /// The link to use, where it is not left to the two ends.
    pub transport: TransportChoice,
}

/// Which links may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportChoice {
    /// The best that both ends can.
    #[default]
    Auto,
    /// Memory, between threads of one process; nothing else.
    Memory,
    /// The Unix socket of the address.
    Unix,
    /// TCP.
    Tcp,
}

impl TransportChoice {
    /// By its name in Lua and in `IPC_TRANSPORT`.
    pub fn named(name: &[u8]) -> Option<TransportChoice> {
        match name {
            b"auto" => Some(TransportChoice::Auto),
            b"memory" => Some(TransportChoice::Memory),
            b"unix" => Some(TransportChoice::Unix),
            b"tcp" => Some(TransportChoice::Tcp),
            _ => None,
        }
    }

    /// The names, for errors.
    pub const NAMES: &str = "'auto', 'memory', 'unix' or 'tcp'";
}

impl Default for Options {
    fn default() -> Self {
        Options {
            secret: None,
            encrypt: None,
            insecure: false,
            max_message: 1 << 30,
            max_tensor_bytes: None,
            functions: false,
            connect_timeout: 300.0,
            transport: TransportChoice::Auto,
        }
    }
}

impl Options {
    /// What cannot be: encryption without a secret to make keys of.
    pub fn check(&self) -> Result<()> {
        if self.encrypt == Some(true) && self.secret.is_none() {
            return Err(err!(
                Argument,
                "option 'encrypt': there is no secret to encrypt with; give both ends the same (secret = or IPC_SECRET)"
            ));
        }
        if self.encrypt == Some(true) && self.transport == TransportChoice::Memory {
            return Err(err!(
                Argument,
                "option 'encrypt': what goes through memory is not encrypted (transport = 'memory'); leave one of the \
                 two out"
            ));
        }
        Ok(())
    }

    /// What cannot be at `place`: a kind of socket that it is not of.
    pub fn check_place(&self, place: &ServerAddress) -> Result<()> {
        let (name, other) = match (self.transport, place) {
            (TransportChoice::Tcp, ServerAddress::Unix(_)) => ("tcp", "the path of a Unix socket"),
            (TransportChoice::Unix, ServerAddress::Host(..)) => ("unix", "no Unix socket ('unix:/path')"),
            _ => return Ok(()),
        };
        Err(err!(Unsupported, "transport = '{name}' (or IPC_TRANSPORT) cannot be had at {place}, which is {other}"))
    }

    /// The defaults, as the environment changes them: `IPC_SECRET`, `IPC_INSECURE=1`, `IPC_FUNCTIONS=1`,
    /// `IPC_TRANSPORT`.
    pub fn from_env() -> Result<Options> {
        use std::os::unix::ffi::OsStringExt;
        let set = |name: &str| env_var(name).is_some_and(|v| v == "1" || v == "true");
        let secret = env_var("IPC_SECRET").filter(|s| !s.is_empty());
        let secret = secret.map(|s| Zeroizing::new(s.into_vec()));
        let transport = env_var("IPC_TRANSPORT").filter(|s| !s.is_empty()).unwrap_or_else(|| "auto".into());
        let Some(transport) = TransportChoice::named(transport.as_bytes()) else {
            let (names, transport) = (TransportChoice::NAMES, Lossy(transport.as_bytes()));
            return Err(err!(Argument, "IPC_TRANSPORT: expected {names}, got '{transport}'"));
        };
        Ok(Options {
            secret: secret.map(|s| Secret::new(&s)),
            insecure: set("IPC_INSECURE"),
            functions: set("IPC_FUNCTIONS"),
            transport,
            ..Options::default()
        })
    }
}

/// A host and a port, or a path, as the user wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    /// An address or a name, and a port.
    Host(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

impl ServerAddress {
    /// `host` is an address, a name, or `unix:/path`.
    pub fn new(host: &[u8], port: u16) -> Result<ServerAddress> {
        if let Some(path) = host.strip_prefix(b"unix:") {
            return ServerAddress::unix(path);
        }
        let Ok(host) = std::str::from_utf8(host) else {
            return Err(err!(Argument, "expected a host, got '{}'", Lossy(host)));
        };
        if host.is_empty() || host.contains('\0') {
            return Err(err!(Argument, "expected a host, got '{host}'"));
        }
        // No name is longer than 255 bytes.
        if host.len() > 1024 {
            return Err(err!(Argument, "expected a host, got a string of {} bytes", host.len()));
        }
        Ok(ServerAddress::Host(host.to_owned(), port))
    }

    /// The path of a Unix socket: any bytes but NUL, at which the system would end it.
    fn unix(path: &[u8]) -> Result<ServerAddress> {
        match path {
            b"" => Err(err!(Argument, "'unix:' needs a path, as in 'unix:/tmp/my.socket'")),
            // What the system's address of a Unix socket has room for, with the NUL at its end, on Linux and macOS.
            path if path.len() > 103 => {
                let (path, length) = (Lossy(path), path.len());
                Err(err!(Argument, "the path of a Unix socket has at most 103 bytes, '{path}' has {length}"))
            }
            path if path.contains(&0) => Err(err!(
                Argument,
                "the path of a Unix socket holds a NUL, which no file's name can: '{}'",
                Lossy(path)
            )),
            path => Ok(ServerAddress::Unix(OsStr::from_bytes(path).into())),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Host(host, port) if host.contains(':') && !host.starts_with('[') => {
                write!(f, "[{host}]:{port}")
            }
            ServerAddress::Host(host, port) => write!(f, "{host}:{port}"),
            ServerAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
