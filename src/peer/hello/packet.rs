//! The packets of the hello: their head, how one is read in few calls, and the refusal, which every version can read.
//!
//! Imports from `hello` how maps are read.

use serde::{Deserialize, Serialize};

use super::decode;
use crate::err;
use crate::error::{Code, Error};
use crate::peer::cookie;

/// Starts every packet of the hello; the version of the protocol follows.
pub(super) const NAME: [u8; 6] = *b"LIBIPC";
/// The version that this library speaks.
const VERSION: u8 = 2;
/// Name, version, kind, length of the body.
pub(super) const HEAD: usize = NAME.len() + 1 + 1 + 4;
/// The longest body.
const LONGEST: usize = 8 << 10;
/// The most that is kept of what a stranger gives as its reason.
const LONGEST_REASON: usize = 2000;

/// What kind of packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::peer) enum Kind {
    /// Client: who I am. In the clear.
    Hello = 1,
    /// Client: the same, inside the first message of the Noise handshake.
    SealedHello = 2,
    /// Server: who I am, and with a cookie the proof that I have it.
    Welcome = 3,
    /// Server: who I am, inside the second message of the Noise handshake.
    SealedWelcome = 4,
    /// Either: I do not want you, and why. It has the same form in every version.
    Refusal = 5,
    /// Client: the link that I choose, and the proof that I have the cookie or the keys, so that a recorded hello is
    /// worth nothing.
    Confirm = 6,
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::peer) struct Packet {
    pub kind: Kind,
    /// The version of the one who sent it: another than ours in a refusal only.
    version: u8,
    /// The head and the body.
    pub raw: Vec<u8>,
}

impl Packet {
    pub fn new(kind: Kind, body: &[u8]) -> Packet {
        Packet::of_version(VERSION, kind, body)
    }

    pub fn of_version(version: u8, kind: Kind, body: &[u8]) -> Packet {
        let mut raw = Vec::with_capacity(HEAD + body.len());
        raw.extend(NAME);
        raw.extend([version, kind as u8]);
        raw.extend((body.len() as u32).to_le_bytes());
        raw.extend(body);
        Packet { kind, version, raw }
    }

    /// The packet that begins with `head`, with zeroes for its body.
    pub fn begin(head: &[u8; HEAD]) -> std::result::Result<Packet, No> {
        let (name, rest) = head.split_at(NAME.len());
        if name != NAME {
            return Err(No::silent(err!(Protocol, "what is at the other end is not libipc (it said {head:02x?})")));
        }
        let [version, kind, len @ ..] = rest else {
            return Err(No::silent(err!(Protocol, "a packet without a head")));
        };
        let len = len.iter().rev().fold(0, |n, &byte| n << 8 | usize::from(byte));
        let refusal = *kind == Kind::Refusal as u8;
        if *version != VERSION && !refusal {
            let why = err!(
                Protocol,
                "the other end speaks version {version} of the protocol and this one version {VERSION}: use the same \
                 libipc at both ends"
            );
            return Err(No::in_version(*version, why));
        }
        if len > LONGEST {
            return Err(err!(Protocol, "a hello of {len} bytes, at most {LONGEST} are taken").into());
        }
        let kind = match kind {
            1 => Kind::Hello,
            2 => Kind::SealedHello,
            3 => Kind::Welcome,
            4 => Kind::SealedWelcome,
            5 => Kind::Refusal,
            6 => Kind::Confirm,
            n => return Err(err!(Protocol, "a hello of unknown kind {n}").into()),
        };
        let mut raw = vec![0; HEAD + len];
        raw[..HEAD].copy_from_slice(head);
        Ok(Packet { kind, version: *version, raw })
    }

    pub fn body(&self) -> &[u8] {
        &self.raw[HEAD..]
    }

    /// Where the body is read to.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn body_mut(&mut self) -> &mut [u8] {
        &mut self.raw[HEAD..]
    }

    /// Without the proof at its end, and the proof.
    pub fn split_proof(&self) -> Option<(&[u8], &cookie::Proof)> {
        self.raw.split_last_chunk().filter(|(rest, _)| rest.len() >= HEAD)
    }
}

/// A packet that is being read, in as few calls as can be.
#[derive(Debug)]
pub(in crate::peer) struct Incoming {
    bytes: Vec<u8>,
    have: usize,
}

impl Incoming {
    /// One of whatever length. What follows it is not for its reader, so no more than the head is read before its
    /// length is known.
    pub fn new() -> Incoming {
        Incoming::of(HEAD)
    }

    /// One of at least `least` bytes, which may be read at once. One that is shorter is not valid, so that it does not
    /// matter that some of what follows it is read.
    pub fn of(least: usize) -> Incoming {
        Incoming { bytes: vec![0; least.max(HEAD)], have: 0 }
    }

    /// Where to read to; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.have..]
    }

    /// Whether some of it is there.
    pub fn is_begun(&self) -> bool {
        self.have > 0
    }

    /// Whether not even its head is there.
    pub fn is_short(&self) -> bool {
        self.have < HEAD
    }

    /// `n` bytes were read to [`Incoming::space`]; the packet when it is whole.
    pub fn came(&mut self, n: usize) -> std::result::Result<Option<Packet>, No> {
        self.have += n;
        let Some(head) = self.bytes[..self.have].first_chunk() else { return Ok(None) };
        let mut packet = Packet::begin(head)?;
        let whole = packet.raw.len();
        if self.have < whole {
            self.bytes.resize(whole, 0);
            return Ok(None);
        }
        packet.raw.copy_from_slice(&self.bytes[..whole]);
        Ok(Some(packet))
    }
}

/// That an end is not let in, or does not want to be.
#[derive(Debug)]
pub(in crate::peer) struct No {
    /// What to send to the other end, if anything, before closing.
    pub tell: Vec<u8>,
    /// Why.
    pub why: Error,
}

impl No {
    /// One of which the other end hears nothing.
    pub fn silent(why: Error) -> No {
        No { tell: Vec::new(), why }
    }

    /// One that an end of that version can read.
    fn in_version(version: u8, why: Error) -> No {
        let refusal = Refusal { code: why.code().name().into(), what: why.what().into() };
        let body = rmp_serde::to_vec_named(&refusal).unwrap_or_default();
        // Version 1 reads nothing else. A later one can be expected to know ours.
        let version = if version == 1 { 1 } else { VERSION };
        No { tell: Packet::of_version(version, Kind::Refusal, &body).raw, why }
    }
}

impl From<Error> for No {
    fn from(why: Error) -> No {
        No::in_version(VERSION, why)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    code: String,
    what: String,
}

/// The error of an end whose peer, the `who`, sent this refusal.
pub(super) fn refused(packet: &Packet, who: &str) -> Error {
    let Ok((refusal, _)) = decode::<Refusal>(packet.body()) else {
        return err!(
            Protocol,
            "the {who}, of version {} of the protocol, refused for a reason that makes no sense",
            packet.version
        );
    };
    let code = match refusal.code.as_str() {
        "auth" => Code::Auth,
        "mismatch" => Code::Mismatch,
        "protocol" => Code::Protocol,
        "unsupported" => Code::Unsupported,
        _ => Code::Refused,
    };
    Error::new(code, "", format!("the {who} refused: {}", said(&refusal.what, LONGEST_REASON)))
}

/// What a stranger said, fit to be printed.
pub(super) fn said(what: &str, most: usize) -> String {
    what.chars().filter(|c| !c.is_control()).take(most).collect()
}
