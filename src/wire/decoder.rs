//! Reading a message's bytes: one token at a time, every length checked against what is there.

use super::ext;
use crate::err;
use crate::error::Result;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// nil
    Nil,
    /// true or false
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// An integer past `i64`.
    Unsigned(u64),
    /// A float.
    Float(f64),
    /// A byte string.
    String(&'a [u8]),
    /// Binary data.
    Binary(&'a [u8]),
    /// An array of so many items, which follow.
    Array(u32),
    /// A map of so many pairs, which follow.
    Map(u32),
    /// An extension of so many bytes, which follow: read them with the decoder's next calls, or skip them.
    Extension(i8, u32),
}

/// The tokens that most messages are made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Common<'a> {
    /// An integer from 0 to 127.
    Small(u8),
    /// A float.
    Float(f64),
    /// A byte string of fewer than 32 bytes.
    String(&'a [u8]),
}

/// Reads tokens from bytes that nobody vouches for.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    flags: u8,
}

#[cold]
fn truncated() -> crate::error::Error {
    err!(Protocol, "a message ends in the middle of a value")
}

impl<'a> Decoder<'a> {
    /// Starts on a whole message.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        match bytes.first() {
            None => Err(truncated()),
            Some(b) if b & ext::VERSION_MASK != ext::VERSION => {
                Err(err!(Protocol, "a message begins with byte {b:#04x}, which is not version 1 of the form"))
            }
            Some(b) if b & !(ext::VERSION_MASK | ext::FLAGS) != 0 => {
                Err(err!(Protocol, "a message begins with byte {b:#04x}, which has a flag that is not known"))
            }
            Some(b) => Ok(Decoder { bytes, at: 1, flags: b & !ext::VERSION_MASK }),
        }
    }

    /// The prelude's flags.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Every byte must have been read.
    pub fn finish(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            n => Err(err!(Protocol, "{n} bytes follow the end of a message")),
        }
    }

    #[inline]
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if self.remaining() < n {
            return Err(truncated());
        }
        let taken = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(taken)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut item = [0; N];
        item.copy_from_slice(self.take(N)?);
        Ok(item)
    }

    #[inline]
    fn length(&mut self, width: u8) -> Result<u32> {
        Ok(match width {
            1 => self.fixed::<1>()?[0].into(),
            2 => u16::from_be_bytes(self.fixed()?).into(),
            _ => u32::from_be_bytes(self.fixed()?),
        })
    }

    /// An extension of `n` bytes must lie there whole.
    fn extension(&mut self, n: u32) -> Result<Token<'a>> {
        let code = self.fixed::<1>()?[0] as i8;
        if self.remaining() < n as usize {
            return Err(truncated());
        }
        Ok(Token::Extension(code, n))
    }

    /// The next token if it is one of the most frequent: a small integer, a float, a short string. It costs a few
    /// instructions where [`Decoder::token`] costs a call, and takes nothing when it is another one.
    #[inline(always)]
    pub fn common(&mut self) -> Option<Common<'a>> {
        if let Some(s) = self.short_string() {
            return Some(Common::String(s));
        }
        let (first, rest) = self.bytes.get(self.at..)?.split_first()?;
        let (common, length) = match first {
            0x00..=0x7f => (Common::Small(*first), 0),
            0xcb => (Common::Float(f64::from_be_bytes(*rest.first_chunk()?)), 8),
            _ => return None,
        };
        self.at += 1 + length;
        Some(common)
    }

    /// The next token if it is a string of fewer than 32 bytes, as [`Decoder::common`]: what most keys are.
    #[inline(always)]
    pub fn short_string(&mut self) -> Option<&'a [u8]> {
        let (first, rest) = self.bytes.get(self.at..)?.split_first()?;
        if first & 0xe0 != 0xa0 {
            return None;
        }
        let string = rest.get(..(first & 0x1f) as usize)?;
        self.at += 1 + string.len();
        Some(string)
    }

    /// The string that is all that is left, if that is what it is.
    #[inline]
    pub fn last_string(&self) -> Option<&'a [u8]> {
        let (first, rest) = self.bytes.get(self.at..)?.split_first()?;
        let (length, string) = match first {
            0xa0..=0xbf => ((first & 0x1f) as usize, rest),
            0xd9 => (rest.first().copied()? as usize, &rest[1..]),
            0xda => (u16::from_be_bytes(*rest.first_chunk()?) as usize, &rest[2..]),
            0xdb => (u32::from_be_bytes(*rest.first_chunk()?) as usize, &rest[4..]),
            _ => return None,
        };
        (string.len() == length).then_some(string)
    }

    /// The next token. Items of arrays and maps take a byte each at least, so a count past what is left is refused
    /// here.
    pub fn token(&mut self) -> Result<Token<'a>> {
        let first = self.fixed::<1>()?[0];
        let token = match first {
            0x00..=0x7f => Token::Integer(first.into()),
            0xa0..=0xbf => Token::String(self.take((first & 0x1f) as usize)?),
            0xcb => Token::Float(f64::from_be_bytes(self.fixed()?)),
            0xdd => Token::Array(self.length(4)?),
            0xdf => Token::Map(self.length(4)?),
            0x80..=0x8f => Token::Map((first & 0x0f).into()),
            0x90..=0x9f => Token::Array((first & 0x0f).into()),
            0xe0..=0xff => Token::Integer((first as i8).into()),
            0xc0 => Token::Nil,
            0xc2 | 0xc3 => Token::Boolean(first == 0xc3),
            0xc4..=0xc6 => {
                let n = self.length(1 << (first - 0xc4))?;
                Token::Binary(self.take(n as usize)?)
            }
            0xc7..=0xc9 => {
                let n = self.length(1 << (first - 0xc7))?;
                self.extension(n)?
            }
            0xca => Token::Float(f32::from_be_bytes(self.fixed()?).into()),
            0xcc => Token::Integer(self.fixed::<1>()?[0].into()),
            0xcd => Token::Integer(u16::from_be_bytes(self.fixed()?).into()),
            0xce => Token::Integer(u32::from_be_bytes(self.fixed()?).into()),
            0xcf => {
                let n = u64::from_be_bytes(self.fixed()?);
                i64::try_from(n).map_or(Token::Unsigned(n), Token::Integer)
            }
            0xd0 => Token::Integer((self.fixed::<1>()?[0] as i8).into()),
            0xd1 => Token::Integer(i16::from_be_bytes(self.fixed()?).into()),
            0xd2 => Token::Integer(i32::from_be_bytes(self.fixed()?).into()),
            0xd3 => Token::Integer(i64::from_be_bytes(self.fixed()?)),
            0xd4..=0xd8 => self.extension(1 << (first - 0xd4))?,
            0xd9..=0xdb => {
                let n = self.length(1 << (first - 0xd9))?;
                Token::String(self.take(n as usize)?)
            }
            0xdc => Token::Array(self.length(2)?),
            0xde => Token::Map(self.length(2)?),
            _ => return Err(err!(Protocol, "byte {first:#04x} begins no value")),
        };
        self.check_count(token)
    }

    #[inline]
    fn check_count(&self, token: Token<'a>) -> Result<Token<'a>> {
        let least = match token {
            Token::Array(n) => n as u64,
            Token::Map(n) => 2 * n as u64,
            _ => return Ok(token),
        };
        if least > self.remaining() as u64 { Err(truncated()) } else { Ok(token) }
    }

    /// The bytes of an extension that [`Decoder::token`] announced, or the first part of them.
    pub fn payload(&mut self, n: u32) -> Result<&'a [u8]> {
        self.take(n as usize)
    }

    /// The number in an extension of `n` bytes, which must be 4.
    pub fn numbered(&mut self, n: u32) -> Result<u32> {
        if n != 4 {
            return Err(err!(Protocol, "an extension of {n} bytes where 4 belong"));
        }
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    /// The 64 bits in an extension of `n` bytes, which must be 8.
    pub fn boxed(&mut self, n: u32) -> Result<u64> {
        if n != 8 {
            return Err(err!(Protocol, "an extension of {n} bytes where 8 belong"));
        }
        Ok(u64::from_be_bytes(self.fixed()?))
    }
}
