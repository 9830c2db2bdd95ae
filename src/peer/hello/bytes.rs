//! Byte arrays of a fixed length as MessagePack's bin, alone and in a list; serde takes them for arrays of numbers.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `N` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::peer) struct Bytes<const N: usize>(pub [u8; N]);

impl<const N: usize> Serialize for Bytes<N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Bytes<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_bytes(Exactly)
    }
}

struct Exactly<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for Exactly<N> {
    type Value = Bytes<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes<N>, E> {
        bytes.try_into().map(Bytes).map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

/// A list of at most `MOST` of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::peer) struct Listed<const N: usize, const MOST: usize>(pub Vec<[u8; N]>);

impl<const N: usize, const MOST: usize> Serialize for Listed<N, MOST> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(|bytes| Bytes(*bytes)))
    }
}

impl<'de, const N: usize, const MOST: usize> Deserialize<'de> for Listed<N, MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(AtMost)
    }
}

struct AtMost<const N: usize, const MOST: usize>;

impl<'de, const N: usize, const MOST: usize> Visitor<'de> for AtMost<N, MOST> {
    type Value = Listed<N, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MOST} times {N} bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Bytes(bytes)) = items.next_element()? {
            if list.len() == MOST {
                return Err(A::Error::invalid_length(MOST + 1, &self));
            }
            list.push(bytes);
        }
        Ok(Listed(list))
    }
}
