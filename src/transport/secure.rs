//! Encryption: Noise with a pre-shared key (`NNpsk0`, 25519, ChaCha20-Poly1305, BLAKE2s), then records under one
//! counter per direction. What the hello says inside the handshake is peer's; this file knows only bytes.

use std::fmt;

use blake2::{Blake2s256, Digest};
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use snow::{Builder, HandshakeState};
use zeroize::{Zeroize, Zeroizing};

use crate::err;
use crate::error::Result;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
/// The longest record, without its two bytes of length: what Noise allows.
const MAX_RECORD: usize = 65_535;
const TAG: usize = 16;
const LENGTH: usize = 2;
/// What each buffer of a connection that is idle may hold: there are three of them.
pub(super) const IDLE: usize = 8 << 10;
/// How much is read at once.
const MOST_READ: usize = 2 * MAX_RECORD;
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
    pub fn finish(mut self) -> Result<Keys> {
        if !self.0.is_handshake_finished() {
            return Err(err!(Protocol, "encryption: the handshake is not over"));
        }
        let initiator = self.0.is_initiator();
        let (from_initiator, from_responder) = self.0.dangerously_get_raw_split();
        let (from_initiator, from_responder) = (Key::new(from_initiator), Key::new(from_responder));
        let (sends, receives) =
            if initiator { (from_initiator, from_responder) } else { (from_responder, from_initiator) };
        Ok(Keys { sends, receives, sent: 0, received: 0 })
    }
}

/// The key of one direction. It is overwritten when it is dropped.
#[derive(Clone)]
struct Key(Zeroizing<[u8; 32]>);

impl Key {
    fn new(mut bytes: [u8; 32]) -> Key {
        let key = Key(Zeroizing::new(bytes));
        bytes.zeroize();
        key
    }

    /// The cipher, which overwrites its copy of the key, too.
    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.0).into())
    }
}

/// Noise's nonce for ChaCha20-Poly1305: four zero bytes, then the counter.
fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// The keys of a connection, and how many records each direction has used.
#[derive(Clone)]
pub struct Keys {
    sends: Key,
    receives: Key,
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
        let mut out = plain.to_vec();
        let tag = self.sends.cipher().encrypt_in_place_detached(&nonce(self.sent).into(), b"", &mut out);
        out.extend(tag.map_err(|_| err!(Io, "encryption: a message that is too long"))?);
        self.sent += 1;
        Ok(out)
    }

    /// Decrypts one short message of the hello.
    pub fn open(&mut self, message: &[u8]) -> Result<Vec<u8>> {
        let wrong = || err!(Auth, "the other end does not have the keys of this connection");
        let (cipher, tag) = message.split_last_chunk::<TAG>().ok_or_else(wrong)?;
        let mut out = cipher.to_vec();
        let opened =
            self.receives.cipher().decrypt_in_place_detached(&nonce(self.received).into(), b"", &mut out, tag.into());
        opened.map_err(|_| wrong())?;
        self.received += 1;
        Ok(out)
    }

    /// The two directions of the stream that follows.
    pub(super) fn split(self) -> (Sealer, Opener) {
        let sealer = Sealer { cipher: self.sends.cipher(), nonce: self.sent, record: Vec::new() };
        let opener =
            Opener { cipher: self.receives.cipher(), nonce: self.received, buffer: Vec::new(), start: 0, end: 0 };
        (sealer, opener)
    }
}

/// Makes records of plain bytes, in the place where they lie.
pub(super) struct Sealer {
    cipher: ChaCha20Poly1305,
    nonce: u64,
    /// Room for the length, then what is to be sealed.
    record: Vec<u8>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.nonce)
    }
}

impl Sealer {
    /// Makes room for the record of `bytes` to come, as far as one record takes them.
    pub fn make_room(&mut self, bytes: usize) -> Result<()> {
        self.record.clear();
        self.record.try_reserve(LENGTH + bytes.min(MAX_PLAIN) + TAG)?;
        Ok(())
    }

    /// Begins a record: up to [`MAX_PLAIN`] bytes are to be appended.
    pub fn begin(&mut self) -> &mut Vec<u8> {
        self.record.clear();
        self.record.extend([0; LENGTH]);
        &mut self.record
    }

    /// Makes the record of what was appended.
    pub fn seal(&mut self) -> Result<()> {
        let plain = &mut self.record[LENGTH..];
        // At most MAX_RECORD, since there are at most MAX_PLAIN bytes.
        let len = (plain.len() + TAG) as u16;
        let tag = self.cipher.encrypt_in_place_detached(&nonce(self.nonce).into(), b"", plain);
        self.record.extend(tag.map_err(|_| err!(Io, "encryption: a record that is too long"))?);
        self.record[..LENGTH].copy_from_slice(&len.to_le_bytes());
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

    /// Lets go of what an idle connection should not hold.
    pub fn rest(&mut self) {
        if self.record.capacity() > IDLE {
            self.record = Vec::new();
        }
    }
}

/// Opens records.
pub(super) struct Opener {
    cipher: ChaCha20Poly1305,
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
    /// How many bytes the next record has once it is decrypted; `None` when it is not whole yet.
    pub fn next(&self) -> Result<Option<usize>> {
        let have = &self.buffer[self.start..self.end];
        let Some((length, rest)) = have.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let len = usize::from(u16::from_le_bytes(*length));
        if len <= TAG {
            return Err(err!(Protocol, "an encrypted record of {len} bytes, which is too short"));
        }
        Ok((rest.len() >= len).then_some(len - TAG))
    }

    /// Decrypts the next record, which is whole, into `plain`, which has room for it. Returns how many bytes it has.
    pub fn open(&mut self, plain: &mut [u8]) -> Result<usize> {
        let Some(len) = self.next()? else { return Err(err!(State, "no record lies here")) };
        let at = self.start + LENGTH;
        let plain = &mut plain[..len];
        plain.copy_from_slice(&self.buffer[at..at + len]);
        let tag = self.buffer[at + len..at + len + TAG].into();
        let opened = self.cipher.decrypt_in_place_detached(&nonce(self.nonce).into(), b"", plain, tag);
        opened.map_err(|_| err!(Auth, "an encrypted record is not what the other end sent"))?;
        self.nonce += 1;
        self.start = at + len + TAG;
        Ok(len)
    }

    /// Whether a whole record lies here, not yet opened.
    pub fn has_record(&self) -> bool {
        let have = &self.buffer[self.start..self.end];
        have.split_first_chunk::<LENGTH>().is_some_and(|(n, rest)| rest.len() >= usize::from(u16::from_le_bytes(*n)))
    }

    /// Whether a part of a record has come.
    pub fn is_partial(&self) -> bool {
        self.start < self.end
    }

    /// Where to read to. There is more room where the last read left none: memory is taken as bytes come.
    pub fn space(&mut self) -> Result<(*mut u8, usize)> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let len = self.buffer.len();
        if self.end == len && len < MOST_READ {
            let more = len.max(IDLE).min(MOST_READ - len);
            self.buffer.try_reserve_exact(more).map_err(|_| err!(Limit, "there is no memory for a record"))?;
            self.buffer.resize(len + more, 0);
        }
        let room = &mut self.buffer[self.end..];
        Ok((room.as_mut_ptr(), room.len()))
    }

    /// `n` bytes were read to where `space` pointed.
    pub fn written(&mut self, n: usize) {
        self.end += n;
    }

    /// Lets go of what an idle connection should not hold.
    pub fn rest(&mut self) {
        if self.start == self.end && self.buffer.len() > IDLE {
            self.buffer = Vec::new();
            (self.start, self.end) = (0, 0);
        }
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
            seal.begin().extend_from_slice(t);
            seal.seal().unwrap();
            seal.take_back();
            seal.begin().extend_from_slice(t);
            seal.seal().unwrap();
            wire.extend_from_slice(seal.record());
        }
        let mut out = Vec::new();
        let mut largest = 0;
        for mut piece in wire.chunks(777) {
            while !piece.is_empty() {
                let (start, room) = open.space().unwrap();
                let n = room.min(piece.len());
                // SAFETY: `room` bytes from `start` on are the opener's.
                unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), start, n) };
                open.written(n);
                piece = &piece[n..];
                largest = largest.max(open.buffer.len());
                while let Some(n) = open.next().unwrap() {
                    let mut plain = vec![0; n];
                    assert_eq!(open.open(&mut plain).unwrap(), n);
                    out.push(plain);
                }
            }
        }
        assert!(largest >= MAX_RECORD);
        open.rest();
        seal.rest();
        assert!(open.buffer.capacity() <= IDLE && seal.record.capacity() <= IDLE);
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
        seal.begin().extend_from_slice(b"text");
        seal.seal().unwrap();
        let mut record = seal.record().to_vec();
        record[5] ^= 1;
        let (start, _) = open.space().unwrap();
        // SAFETY: the opener's memory has room for a short record.
        unsafe { std::ptr::copy_nonoverlapping(record.as_ptr(), start, record.len()) };
        open.written(record.len());
        assert_eq!(open.open(&mut [0; 4]).unwrap_err().code(), Code::Auth);
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new(b"hush")), "Secret(..)");
    }
}
