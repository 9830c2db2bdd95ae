//! What two ends say to each other before the first message (doc/security.md): who and what each is, proof of the secret
//! where there is one, and the reason where one does not want the other.
//!
//! Bytes in, bytes out: `dial` and `greet` move them. Imports its sibling `options`.

use serde::{Deserialize, Serialize};

use super::options::Options;
use crate::err;
use crate::error::{Code, Error, Result};
use crate::sys::SetOnce;
use crate::sys::socket::{self, Address};
use crate::transport::{Handshake, Keys, Policy, Role};

/// Starts every packet of the hello; the last byte is the version of the protocol.
const MAGIC: [u8; 7] = *b"LIBIPC\x01";
/// Magic, kind, length of the body.
pub(super) const HEAD: usize = MAGIC.len() + 1 + 4;
/// The longest body.
const LONGEST: usize = 8 << 10;

/// What kind of packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Client: who I am. In the clear.
    Hello = 1,
    /// Client: the same, inside the first message of the Noise handshake.
    SealedHello = 2,
    /// Server: who I am; you are in.
    Welcome = 3,
    /// Server: the same, inside the second message of the Noise handshake.
    SealedWelcome = 4,
    /// Server: you are not in, and why.
    Refusal = 5,
    /// Client: proof that I could read the sealed welcome, so that a recorded hello is worth nothing.
    Confirm = 6,
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub kind: Kind,
    pub body: Vec<u8>,
}

impl Packet {
    pub fn encode(kind: Kind, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + body.len());
        out.extend(MAGIC);
        out.push(kind as u8);
        out.extend((body.len() as u32).to_le_bytes());
        out.extend(body);
        out
    }

    /// The kind and the length of the body that follows.
    pub fn head(from: &[u8; HEAD]) -> Result<(Kind, usize)> {
        let (magic, rest) = from.split_at(MAGIC.len());
        if magic[..6] != MAGIC[..6] {
            return Err(err!(Protocol, "what answered is not libipc (it said {:02x?})", from));
        }
        if magic != MAGIC {
            return Err(err!(
                Protocol,
                "the other end speaks version {} of the protocol and this one version {}: use the same libipc at both ends",
                magic[6],
                MAGIC[6]
            ));
        }
        let kind = match rest[0] {
            1 => Kind::Hello,
            2 => Kind::SealedHello,
            3 => Kind::Welcome,
            4 => Kind::SealedWelcome,
            5 => Kind::Refusal,
            6 => Kind::Confirm,
            n => return Err(err!(Protocol, "a hello of unknown kind {n}")),
        };
        let len = u32::from_le_bytes([rest[1], rest[2], rest[3], rest[4]]) as usize;
        if len > LONGEST {
            return Err(err!(Protocol, "a hello of {len} bytes, at most {LONGEST} are taken"));
        }
        Ok((kind, len))
    }
}

/// What an end is and can. Fields that a later version adds are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The library's version.
    pub version: String,
    /// Drawn once in a process: two ends with the same one are in one process.
    pub process: [u8; 16],
    /// This boot of this host.
    pub boot: String,
    pub pid: u32,
    pub uid: u32,
    pub little_endian: bool,
    /// Links that it could use besides this one.
    pub capabilities: Vec<String>,
    pub functions: bool,
    pub encrypt: bool,
    pub max_message: u64,
    /// Drawn for each connection.
    pub nonce: [u8; 16],
}

#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    code: String,
    what: String,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Agreed {
    pub policy: Policy,
    pub keys: Option<Keys>,
    pub near: Near,
}

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
    fn of(options: &Options) -> Result<Hello> {
        Ok(Hello {
            version: env!("CARGO_PKG_VERSION").into(),
            process: process()?,
            boot: boot().into(),
            pid: std::process::id(),
            uid: socket::uid(),
            little_endian: cfg!(target_endian = "little"),
            capabilities: Vec::new(),
            functions: options.functions,
            encrypt: options.encrypt,
            max_message: options.max_message,
            nonce: random()?,
        })
    }

    /// Where the one who says `other` is, seen from here.
    fn near(other: &Hello) -> Result<Near> {
        if other.process == process()? {
            return Ok(Near::Process);
        }
        let same_host = !other.boot.is_empty() && other.boot == boot();
        Ok(if same_host { Near::Host(other.pid) } else { Near::Elsewhere })
    }

    fn encode(&self) -> Result<Vec<u8>> {
        rmp_serde::to_vec_named(self).map_err(|e| err!(Protocol, "the hello: {e}"))
    }

    fn decode(from: &[u8]) -> Result<Hello> {
        let hello: Hello =
            rmp_serde::from_slice(from).map_err(|e| err!(Protocol, "the other end's hello makes no sense: {e}"))?;
        if hello.little_endian != cfg!(target_endian = "little") {
            return Err(err!(Mismatch, "the two ends have different byte orders, which libipc does not translate"));
        }
        Ok(hello)
    }
}

/// What both can agree on. Whoever wants more protection gets it.
fn agree(mine: &Options, other: &Hello, keys: Option<Keys>) -> Result<Agreed> {
    Ok(Agreed {
        policy: Policy {
            max_message: mine.max_message,
            peer_max_message: other.max_message,
            functions: mine.functions && other.functions,
        },
        keys: keys.filter(|_| mine.encrypt || other.encrypt),
        near: Hello::near(other)?,
    })
}

/// The client's half.
#[derive(Debug)]
pub(super) struct Calling<'a> {
    options: &'a Options,
    handshake: Option<Handshake>,
}

impl<'a> Calling<'a> {
    /// Begins: what to send first.
    pub fn begin(options: &'a Options) -> Result<(Calling<'a>, Vec<u8>)> {
        let hello = Hello::of(options)?.encode()?;
        let Some(secret) = &options.secret else {
            return Ok((Calling { options, handshake: None }, Packet::encode(Kind::Hello, &hello)));
        };
        let mut handshake = Handshake::new(Role::Initiator, secret, &MAGIC)?;
        let packet = Packet::encode(Kind::SealedHello, &handshake.write(&hello)?);
        Ok((Calling { options, handshake: Some(handshake) }, packet))
    }

    /// The server's answer: what was agreed, and what to send last.
    pub fn answered(self, packet: &Packet) -> Result<(Agreed, Option<Vec<u8>>)> {
        match (packet.kind, self.handshake) {
            (Kind::Refusal, _) => Err(refused(&packet.body)),
            (Kind::Welcome, None) => Ok((agree(self.options, &Hello::decode(&packet.body)?, None)?, None)),
            (Kind::SealedWelcome, Some(mut handshake)) => {
                let hello = Hello::decode(&handshake.read(&packet.body)?)?;
                let mut keys = handshake.finish()?;
                let confirm = Packet::encode(Kind::Confirm, &keys.seal(b"")?);
                Ok((agree(self.options, &hello, Some(keys))?, Some(confirm)))
            }
            (Kind::Welcome, Some(_)) => Err(err!(Auth, "the server answered without proof that it knows the secret")),
            (kind, _) => Err(err!(Protocol, "the server answered with {kind:?}")),
        }
    }
}

fn refused(body: &[u8]) -> Error {
    let Ok(refusal) = rmp_serde::from_slice::<Refusal>(body) else {
        return err!(Protocol, "the server refused, for a reason that makes no sense");
    };
    let code = match refusal.code.as_str() {
        "auth" => Code::Auth,
        "mismatch" => Code::Mismatch,
        "protocol" => Code::Protocol,
        _ => Code::Refused,
    };
    let what: String = refusal.what.chars().filter(|c| !c.is_control()).take(600).collect();
    Error::new(code, "", format!("the server refused: {what}"))
}

/// The server's half, for one stranger.
#[derive(Debug)]
pub(super) enum Heard {
    /// Send this, and the stranger is in.
    In(Vec<u8>, Agreed),
    /// Send this; the stranger is in when its [`confirmation`](Heard::confirmed) is right.
    Confirm(Vec<u8>, Agreed, Keys),
    /// Send this if it is anything, and close.
    Out(Vec<u8>, Error),
}

impl Heard {
    /// What to make of a stranger's first packet, who comes from `from`.
    pub fn first(packet: &Packet, options: &Options, from: &Address) -> Heard {
        match answer(packet, options, from) {
            Ok(heard) => heard,
            Err(e) => {
                let refusal = Refusal { code: e.code().name().into(), what: e.what().into() };
                let body = rmp_serde::to_vec_named(&refusal).unwrap_or_default();
                Heard::Out(Packet::encode(Kind::Refusal, &body), e)
            }
        }
    }

    /// Whether the stranger has proved that it holds the keys; then the agreement is in force.
    pub fn confirmed(packet: &Packet, mut agreed: Agreed, mut keys: Keys) -> Result<Agreed> {
        if packet.kind != Kind::Confirm {
            return Err(err!(Protocol, "a client confirmed with {:?}", packet.kind));
        }
        keys.open(&packet.body)?;
        // With the count of what has been received.
        agreed.keys = agreed.keys.map(|_| keys);
        Ok(agreed)
    }
}

fn answer(packet: &Packet, options: &Options, from: &Address) -> Result<Heard> {
    match (packet.kind, &options.secret) {
        (Kind::Hello, None) => {
            let hello = Hello::decode(&packet.body)?;
            if !from.is_local() && !options.insecure {
                return Err(err!(
                    Auth,
                    "this server has no secret, so it takes clients of its own host only; give both ends the same secret \
                     (secret = or IPC_SECRET), or, on a network that you trust, the server insecure = true (IPC_INSECURE=1)"
                ));
            }
            let welcome = Packet::encode(Kind::Welcome, &Hello::of(options)?.encode()?);
            Ok(Heard::In(welcome, agree(options, &hello, None)?))
        }
        (Kind::SealedHello, Some(secret)) => {
            let mut handshake = Handshake::new(Role::Responder, secret, &MAGIC)?;
            let hello = Hello::decode(&handshake.read(&packet.body)?)?;
            let welcome = handshake.write(&Hello::of(options)?.encode()?)?;
            let keys = handshake.finish()?;
            let agreed = agree(options, &hello, Some(keys.clone()))?;
            Ok(Heard::Confirm(Packet::encode(Kind::SealedWelcome, &welcome), agreed, keys))
        }
        (Kind::Hello, Some(_)) => {
            Err(err!(Auth, "this server wants a secret and the client gave none (secret = or IPC_SECRET)"))
        }
        (Kind::SealedHello, None) => {
            Err(err!(Auth, "the client has a secret and this server has none: give both ends the same, or neither"))
        }
        (kind, _) => Err(err!(Protocol, "a client began with {kind:?}")),
    }
}

/// For the fuzzer: reads arbitrary bytes as either end would.
#[cfg(feature = "fuzzing")]
pub fn fuzz_hello(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return };
    let Ok((kind, len)) = Packet::head(head) else { return };
    let packet = Packet { kind, body: rest[..len.min(rest.len())].to_vec() };
    let plain = Options::default();
    let sealed = Options { secret: Some(crate::transport::Secret::new(b"s")), ..Options::default() };
    for options in [&plain, &sealed] {
        let _ = Heard::first(&packet, options, &Address::Unix(Default::default()));
        if let Ok((calling, _)) = Calling::begin(options) {
            let _ = calling.answered(&packet);
        }
    }
}

#[cfg(test)]
mod tests;
