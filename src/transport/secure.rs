//! Encryption: Noise with a pre-shared key (`NNpsk0`, 25519, ChaCha20-Poly1305, BLAKE2s), then records under one counter per
//! direction. What the hello says inside the handshake is peer's; this file knows only bytes.

use std::fmt;
use std::sync::Arc;

use blake2::{Blake2s256, Digest};
use snow::{Builder, HandshakeState, StatelessTransportState};
use zeroize::Zeroizing;

use crate::err;
use crate::error::Result;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
/// The longest record, without its two bytes of length: what Noise allows.
pub(super) const MAX_RECORD: usize = 65_535;
const TAG: usize = 16;
const LENGTH: usize = 2;
/// Plain bytes of a full record.
pub(super) const MAX_PLAIN: usize = MAX_RECORD - TAG;

/// What both ends know: the hash of the user's secret.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// From the bytes that the user gave.
    pub fn new(secret: &[u8]) -> Secret {
        let mut hash = Zeroizing::new([0; 32]);
        let digest = Blake2s256::new().chain_update(b"libipc pre-shared key 1\0").chain_update(secret);
        digest.finalize_into((&mut *hash).into());
        Secret(hash)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Which end of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Speaks first: the client.
    Initiator,
    /// Answers: the server.
    Responder,
}

/// A handshake of two messages, each with a payload that only the holders of the secret can read or make.
#[derive(Debug)]
pub struct Handshake(Box<HandshakeState>);

fn unexpected(e: snow::Error) -> crate::error::Error {
    err!(Io, "encryption: {e}")
}

impl Handshake {
    /// One end of a handshake; both bind it to the same `prologue`, which was said in the clear before.
    pub fn new(role: Role, secret: &Secret, prologue: &[u8]) -> Result<Handshake> {
        let pattern = PATTERN.parse().map_err(unexpected)?;
        let builder = Builder::new(pattern).psk(0, &secret.0).and_then(|b| b.prologue(prologue)).map_err(unexpected)?;
        let state = match role {
            Role::Initiator => builder.build_initiator(),
            Role::Responder => builder.build_responder(),
        };
        Ok(Handshake(Box::new(state.map_err(unexpected)?)))
    }

    /// The next message, with `payload` inside.
    pub fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; payload.len() + 128];
        let n = self.0.write_message(payload, &mut out).map_err(unexpected)?;
        out.truncate(n);
        Ok(out)
    }

    /// The payload of the other end's message; `[auth]` when it does not know the secret.
    pub fn read(&mut self, message: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; message.len()];
        let n = self.0.read_message(message, &mut out).map_err(|_| err!(Auth, "the secrets of the two ends differ"))?;
        out.truncate(n);
        Ok(out)
    }

    /// After both messages: the keys of the connection.
    pub fn finish(self) -> Result<Keys> {
        let state = self.0.into_stateless_transport_mode().map_err(unexpected)?;
        Ok(Keys { state: Arc::new(state), sent: 0, received: 0 })
    }
}

/// The keys of a connection, and how many records each direction has used.
#[derive(Clone)]
pub struct Keys {
    state: Arc<StatelessTransportState>,
    sent: u64,
    received: u64,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl Keys {
    /// Encrypts one short message of the hello.
    pub fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; plain.len() + TAG];
        let n = self.state.write_message(self.sent, plain, &mut out).map_err(unexpected)?;
        self.sent += 1;
        out.truncate(n);
        Ok(out)
    }

    /// Decrypts one short message of the hello.
    pub fn open(&mut self, message: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; message.len()];
        let n = self.state.read_message(self.received, message, &mut out);
        let n = n.map_err(|_| err!(Auth, "the other end does not have the keys of this connection"))?;
        self.received += 1;
        out.truncate(n);
        Ok(out)
    }

    /// The two directions of the stream that follows.
    pub(super) fn split(self) -> (Sealer, Opener) {
        let sealer = Sealer { state: self.state.clone(), nonce: self.sent, record: Vec::new(), plain: Vec::new() };
        let opener = Opener { state: self.state, nonce: self.received, buffer: Vec::new(), start: 0, end: 0 };
        (sealer, opener)
    }
}

/// Makes records of plain bytes.
pub(super) struct Sealer {
    state: Arc<StatelessTransportState>,
    nonce: u64,
    record: Vec<u8>,
    /// Where the plain bytes of the next record are put together.
    pub plain: Vec<u8>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.nonce)
    }
}

impl Sealer {
    /// Makes the record of what is in `plain`.
    pub fn seal(&mut self) -> Result<()> {
        self.record.resize(LENGTH + self.plain.len() + TAG, 0);
        let (length, body) = self.record.split_at_mut(LENGTH);
        let n = self.state.write_message(self.nonce, &self.plain, body).map_err(unexpected)?;
        // At most MAX_RECORD, since `plain` has at most MAX_PLAIN.
        length.copy_from_slice(&(n as u16).to_le_bytes());
        self.nonce += 1;
        Ok(())
    }

    /// The record.
    pub fn record(&self) -> &[u8] {
        &self.record
    }

    /// The record never left, so its number may be used again.
    pub fn take_back(&mut self) {
        self.nonce -= 1;
    }
}

/// Takes records apart.
pub(super) struct Opener {
    state: Arc<StatelessTransportState>,
    nonce: u64,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener({}, {} bytes)", self.nonce, self.end - self.start)
    }
}

impl Opener {
    /// Decrypts the next record into `plain`, which has room for the longest; `None` when it is not whole yet.
    pub fn open(&mut self, plain: &mut [u8]) -> Result<Option<usize>> {
        let have = &self.buffer[self.start..self.end];
        let Some((length, rest)) = have.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let len = usize::from(u16::from_le_bytes(*length));
        if len <= TAG {
            return Err(err!(Protocol, "an encrypted record of {len} bytes, which is too short"));
        }
        let Some(record) = rest.get(..len) else { return Ok(None) };
        let n = self.state.read_message(self.nonce, record, plain);
        let n = n.map_err(|_| err!(Auth, "an encrypted record is not what the other end sent"))?;
        self.nonce += 1;
        self.start += LENGTH + len;
        Ok(Some(n))
    }

    /// Whether a whole record lies here, not yet taken apart.
    pub fn has_record(&self) -> bool {
        let have = &self.buffer[self.start..self.end];
        have.split_first_chunk::<LENGTH>().is_some_and(|(n, rest)| rest.len() >= usize::from(u16::from_le_bytes(*n)))
    }

    /// Whether a part of a record has come.
    pub fn is_partial(&self) -> bool {
        self.start < self.end
    }

    /// Where to read to: at least the rest of the record that has begun.
    pub fn space(&mut self) -> (*mut u8, usize) {
        self.buffer.resize(2 * MAX_RECORD, 0);
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = &mut self.buffer[self.end..];
        (room.as_mut_ptr(), room.len())
    }

    /// `n` bytes were read to where `space` pointed.
    pub fn written(&mut self, n: usize) {
        self.end += n;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;

    pub(crate) fn keys(a: &str, b: &str) -> Result<(Keys, Keys)> {
        let mut i = Handshake::new(Role::Initiator, &Secret::new(a.as_bytes()), b"p")?;
        let mut r = Handshake::new(Role::Responder, &Secret::new(b.as_bytes()), b"p")?;
        let one = i.write(b"hello")?;
        assert_eq!(r.read(&one)?, b"hello");
        let two = r.write(b"you")?;
        assert_eq!(i.read(&two)?, b"you");
        Ok((i.finish()?, r.finish()?))
    }

    #[test]
    fn records_come_back_whatever_the_pieces() {
        let (a, b) = keys("s", "s").unwrap();
        let (mut seal, _) = a.split();
        let (_, mut open) = b.split();
        let mut wire = Vec::new();
        let texts: Vec<Vec<u8>> = [1, 500, MAX_PLAIN, 3].iter().map(|&n| vec![n as u8; n]).collect();
        for t in &texts {
            seal.plain.clone_from(t);
            seal.seal().unwrap();
            seal.take_back();
            seal.seal().unwrap();
            wire.extend_from_slice(seal.record());
        }
        let mut out = Vec::new();
        for piece in wire.chunks(777) {
            let (start, room) = open.space();
            assert!(room >= piece.len());
            // SAFETY: `room` bytes from `start` on are the opener's.
            unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), start, piece.len()) };
            open.written(piece.len());
            let mut plain = vec![0; MAX_RECORD];
            while let Some(n) = open.open(&mut plain).unwrap() {
                out.push(plain[..n].to_vec());
            }
        }
        assert_eq!(out, texts);
        assert!(!open.is_partial());
    }

    #[test]
    fn another_secret_is_an_auth_error() {
        assert_eq!(keys("s", "t").unwrap_err().code(), Code::Auth);
    }

    #[test]
    fn a_changed_record_is_refused() {
        let (a, b) = keys("s", "s").unwrap();
        let (mut seal, _) = a.split();
        let (_, mut open) = b.split();
        seal.plain = b"text".to_vec();
        seal.seal().unwrap();
        let mut record = seal.record().to_vec();
        record[5] ^= 1;
        let (start, _) = open.space();
        // SAFETY: the opener's memory has room for a record.
        unsafe { std::ptr::copy_nonoverlapping(record.as_ptr(), start, record.len()) };
        open.written(record.len());
        assert_eq!(open.open(&mut vec![0; MAX_RECORD]).unwrap_err().code(), Code::Auth);
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new(b"hush")), "Secret(..)");
    }
}
