//! What two ends say to each other before the first message (doc/wire.md, "The hello"): who and what each is, proof
//! that both belong to one user or have one secret, and the reason where one does not let the other in.
//!
//! Bytes in, bytes out: `dial` and `acceptor` move them. `client` and `server` are its two halves, `ends` what a socket
//! says of who can be at its other end, `bytes` how fixed numbers of bytes are written, `packet` what frames all of it.
//! Imports its siblings `choose`, `cookie` and `options`.

mod bytes;
mod client;
mod ends;
mod packet;
mod server;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::bytes::{Bytes, Listed};
use super::choose::{Chosen, Near, offers};
use super::cookie;
use super::options::Options;
use crate::err;
use crate::error::Result;
use crate::sys::SetOnce;
use crate::sys::socket;
use crate::tensor::DType;
use crate::transport::{Keys, Limits, Policy};

pub(super) use self::client::Calling;
pub(super) use self::ends::Ends;
pub(super) use self::packet::{Incoming, No, Packet};
pub(super) use self::server::Answering;

/// What the handshake with a secret is bound to.
const PROLOGUE: [u8; 7] = *b"LIBIPC\x02";
/// The bytes of tensors that are taken from a peer that has proved nothing, unless the user says otherwise.
const UNPROVED_TENSOR_BYTES: u64 = 1 << 30;

/// What an end is and can. Fields that a later version adds are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The library's version.
    pub version: String,
    /// Drawn once in a process: two ends with the same one may be in one process.
    pub process: Bytes<16>,
    /// This boot of this host.
    pub boot: String,
    /// The network of this host that its socket belongs to, where the system says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<u64>,
    pub pid: u32,
    pub uid: u32,
    pub little_endian: bool,
    /// The codes of the element types that it knows.
    pub dtypes: Vec<u8>,
    /// Its CUDA devices.
    #[serde(default)]
    pub devices: Listed<16, 64>,
    /// Links that it could use besides this socket, best first.
    #[serde(default)]
    pub offers: Vec<String>,
    pub functions: bool,
    /// Whether to encrypt where there is a secret, if the user said so.
    pub encrypt: Option<bool>,
    /// Whether it takes nobody without proof.
    pub demands: bool,
    pub max_message: u64,
    /// What the user said, if anything: the bytes of tensors that it takes in a message.
    pub max_tensor_bytes: Option<u64>,
    pub max_tensors: u32,
    /// Drawn for each connection.
    pub nonce: Bytes<16>,
    /// Client: the cookies that it can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookies: Option<Listed<16, { cookie::MOST }>>,
    /// Server: the one of them that both prove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Bytes<16>>,
    /// Server, with a cookie: between which addresses the connection goes, as it sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// Server: the name of the Unix socket where a faster link begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// Server: what to show there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Bytes<16>>,
}

/// What a client says last.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Choice {
    /// The link that it has chosen among those that both offered; nil: this socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<String>,
}

/// What both can agree on, whatever the link.
#[derive(Debug)]
struct Terms {
    policy: Policy,
    near: Near,
    proof: Proof,
    /// Whether a socket is encrypted, where there are keys.
    encrypts: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Agreed {
    pub policy: Policy,
    pub keys: Option<Keys>,
    pub near: Near,
    pub proof: Proof,
    pub chosen: Chosen,
}

impl Terms {
    /// The end that asks for more protection gets it.
    fn new(mine: &Options, other: &Hello, proof: Proof) -> Result<Terms> {
        let tensor_bytes = tensor_bytes(mine.max_tensor_bytes, proof);
        let takes = Limits { message: mine.max_message, tensor_bytes, tensors: Limits::TENSORS };
        let plain = Some(false);
        Ok(Terms {
            policy: Policy {
                takes,
                peer_takes: other.limits(proof),
                peer_dtypes: other.dtypes.iter().filter(|code| **code < 64).fold(0, |mask, code| mask | 1 << code),
                functions: mine.functions && other.functions,
            },
            near: Hello::near(other)?,
            proof,
            encrypts: mine.encrypt != plain || other.encrypt != plain,
        })
    }

    /// Over the link that was chosen.
    fn over(self, chosen: Chosen, keys: Option<Keys>) -> Agreed {
        let Terms { policy, near, proof, encrypts } = self;
        Agreed { policy, keys: keys.filter(|_| encrypts && chosen.is_socket()), near, proof, chosen }
    }
}

/// How the two ends know each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Not at all: both said `insecure`.
    None,
    /// Both have a cookie of the user.
    Cookie,
    /// The system vouches for the user.
    System,
    /// Both know the secret.
    Secret,
}

fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| err!(Io, "the system's random numbers: {e}"))?;
    Ok(bytes)
}

fn process() -> Result<[u8; 16]> {
    // A forked child is another process.
    static DRAWN: SetOnce<[u8; 16]> = SetOnce::new();
    let mut bytes = match DRAWN.get() {
        Some(drawn) => *drawn,
        None => {
            let new = random()?;
            *DRAWN.get_or_init(|| new)
        }
    };
    for (byte, pid) in bytes.iter_mut().zip(std::process::id().to_le_bytes()) {
        *byte ^= pid;
    }
    Ok(bytes)
}

fn boot() -> &'static str {
    static READ: SetOnce<String> = SetOnce::new();
    READ.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().chars().take(64).collect()
    })
}

impl Hello {
    fn of(options: &Options, ends: &Ends) -> Result<Hello> {
        Ok(Hello {
            version: env!("CARGO_PKG_VERSION").into(),
            process: Bytes(process()?),
            boot: boot().into(),
            network: ends.network,
            pid: std::process::id(),
            uid: socket::uid(),
            little_endian: cfg!(target_endian = "little"),
            dtypes: DType::ALL.iter().map(|dtype| dtype.code()).collect(),
            devices: Listed::default(),
            offers: offers(options),
            functions: options.functions,
            encrypt: options.encrypt,
            demands: options.secret.is_some() || !options.insecure,
            max_message: options.max_message,
            max_tensor_bytes: options.max_tensor_bytes,
            max_tensors: Limits::TENSORS,
            nonce: Bytes(random()?),
            cookies: None,
            cookie: None,
            seen: None,
            socket: None,
            token: None,
        })
    }

    /// Where the one who says `other` is, seen from here.
    fn near(other: &Hello) -> Result<Near> {
        if other.process.0 == process()? {
            return Ok(Near::Process);
        }
        let same_host = !other.boot.is_empty() && other.boot == boot();
        Ok(if same_host { Near::Host(other.pid) } else { Near::Elsewhere })
    }

    /// Refuses an end that has the cookie, which a user may have on several hosts and in several containers of one, and
    /// is not where a connection between these addresses can begin: something forwards it, with the very same addresses
    /// on both sides. The proofs are over what both say here, so that it cannot be changed on the way.
    fn check_place(&self, ends: &Ends) -> Result<()> {
        let on_another_host = !self.boot.is_empty() && !boot().is_empty() && self.boot != boot();
        let in_another_network = self.network.zip(ends.network).is_some_and(|(theirs, own)| theirs != own);
        let place = match (on_another_host, in_another_network) {
            (false, false) => return Ok(()),
            (true, _) => "the two ends run on two hosts, or in a container that hides which",
            (false, true) => "the two ends are in two networks of this host (containers)",
        };
        Err(err!(
            Refused,
            "the addresses are those of one host, but {place}: something in between forwards the connection. Connect \
             to the server itself, or {REMEDY}"
        ))
    }

    fn encode(&self) -> Result<Vec<u8>> {
        encode(self)
    }

    /// Reads a hello, and what follows it.
    fn decode(from: &[u8]) -> Result<(Hello, &[u8])> {
        let (hello, rest): (Hello, _) = decode(from)?;
        if hello.little_endian != cfg!(target_endian = "little") {
            return Err(err!(Mismatch, "the two ends have different byte orders, which libipc does not translate"));
        }
        Ok((hello, rest))
    }

    /// As [`Hello::decode`], where nothing may follow.
    fn decode_alone(from: &[u8]) -> Result<Hello> {
        match Hello::decode(from)? {
            (hello, []) => Ok(hello),
            (_, rest) => Err(err!(Protocol, "{} bytes follow the other end's hello", rest.len())),
        }
    }

    /// What the peer that says this takes in a message.
    fn limits(&self, proof: Proof) -> Limits {
        Limits {
            message: self.max_message,
            tensor_bytes: tensor_bytes(self.max_tensor_bytes, proof),
            tensors: self.max_tensors,
        }
    }
}

/// The bytes of tensors that an end takes whose user `said` so many, or nothing.
fn tensor_bytes(said: Option<u64>, proof: Proof) -> u64 {
    said.unwrap_or(if proof == Proof::None { UNPROVED_TENSOR_BYTES } else { u64::MAX })
}

fn encode(what: &impl Serialize) -> Result<Vec<u8>> {
    rmp_serde::to_vec_named(what).map_err(|e| err!(Protocol, "the hello: {e}"))
}

/// Reads one map, and what follows it.
fn decode<T: DeserializeOwned>(from: &[u8]) -> Result<(T, &[u8])> {
    // An array with the fields in their order would do for serde as well.
    if !matches!(from.first(), Some(0x80..=0x8f | 0xde | 0xdf)) {
        return Err(err!(Protocol, "the other end's hello makes no sense: it is no map"));
    }
    let mut rest = from;
    let value = T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest));
    let value = value.map_err(|e| err!(Protocol, "the other end's hello makes no sense: {e}"))?;
    Ok((value, rest))
}

/// What the proofs of a cookie are over: label, hello, welcome, addresses, and what else there is.
const SERVER: &[u8] = b"libipc server 2\0";
const CLIENT: &[u8] = b"libipc client 2\0";

/// What may be done where no proof is to be had.
const REMEDY: &str = "give both ends the same secret (secret = or IPC_SECRET)";

/// For the fuzzer: reads arbitrary bytes as either end would.
#[cfg(feature = "fuzzing")]
pub fn fuzz_hello(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<{ packet::HEAD }>() else { return };
    let Ok(mut packet) = Packet::begin(head) else { return };
    let n = packet.body_mut().len().min(rest.len());
    packet.body_mut()[..n].copy_from_slice(&rest[..n]);
    let plain = Options::default();
    let trusting = Options { insecure: true, ..Options::default() };
    let sealed = Options { secret: Some(crate::transport::Secret::new(b"s")), ..Options::default() };
    let at = || socket::Address::Tcp(([127, 0, 0, 1], 9).into());
    let ends = Ends { own: at(), peer: at(), peer_user: None, network: None };
    for options in [&plain, &trusting, &sealed] {
        if let Ok((_, answering)) = Answering::begin(&packet, options, &ends) {
            let _ = answering.confirmed(&packet);
        }
        if let Ok((calling, _)) = Calling::begin(options, &ends) {
            let _ = calling.answered(&packet);
        }
    }
}

#[cfg(test)]
mod tests;
