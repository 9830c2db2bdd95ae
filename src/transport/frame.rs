//! The form of a frame (doc/wire.md, "Frames"): the header, as pure functions between
//! bytes and what they say.

use crate::err;
use crate::error::Result;

/// Bytes of a header.
pub(super) const HEADER: usize = 16;
/// Bytes of descriptors that a message may have.
pub(super) const MAX_DESCRIPTORS: usize = 16 << 20;

/// The first byte of a frame.
pub(super) const KIND_MESSAGE: u8 = 1;
const FLAG_FUNCTIONS: u8 = 1;

/// The first bytes of every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether the bytes hold bytecode.
    pub functions: bool,
    /// Bytes of descriptors.
    pub descriptors: usize,
    /// Message bytes.
    pub bytes: usize,
}

impl Header {
    /// As it travels.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0] = KIND_MESSAGE;
        out[1] = if self.functions { FLAG_FUNCTIONS } else { 0 };
        // At most MAX_DESCRIPTORS, which was checked where the descriptors were made.
        out[4..8].copy_from_slice(&(self.descriptors as u32).to_le_bytes());
        out[8..].copy_from_slice(&(self.bytes as u64).to_le_bytes());
        out
    }

    /// Reads a header and holds it against the limits, before any memory is taken.
    pub fn decode(from: &[u8; HEADER], max_message: u64) -> Result<Header> {
        let [kind, flags, z0, z1, d0, d1, d2, d3, n @ ..] = *from;
        if kind != KIND_MESSAGE || flags & !FLAG_FUNCTIONS != 0 || z0 != 0 || z1 != 0 {
            return Err(err!(Protocol, "what came is no frame (it starts with {:02x?})", &from[..4]));
        }
        let descriptors = u32::from_le_bytes([d0, d1, d2, d3]) as usize;
        if descriptors > MAX_DESCRIPTORS {
            return Err(err!(
                Limit,
                "{descriptors} bytes of tensor descriptors announced, at most {MAX_DESCRIPTORS} are taken"
            ));
        }
        let n = u64::from_le_bytes(n);
        match usize::try_from(n) {
            Ok(bytes) if n <= max_message => Ok(Header { functions: flags & FLAG_FUNCTIONS != 0, descriptors, bytes }),
            _ => Err(err!(Limit, "a message of {n} bytes announced, at most {max_message} are taken (max_message =)")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_comes_back(functions: bool, descriptors in 0..=MAX_DESCRIPTORS, bytes in 0..=1usize << 40) {
            let header = Header { functions, descriptors, bytes };
            prop_assert_eq!(Header::decode(&header.encode(), 1 << 40).unwrap(), header);
        }

        #[test]
        fn any_sixteen_bytes_are_a_header_within_limits_or_an_error(from: [u8; HEADER], max in 0u64..1 << 40) {
            if let Ok(header) = Header::decode(&from, max) {
                prop_assert!(header.bytes as u64 <= max && header.descriptors <= MAX_DESCRIPTORS);
                prop_assert_eq!(header.encode(), from);
            }
        }
    }

    #[test]
    fn a_size_past_the_limit_is_refused() {
        for n in [1025u64, 1 << 62, u64::MAX] {
            let mut from = Header { functions: false, descriptors: 0, bytes: 0 }.encode();
            from[8..].copy_from_slice(&n.to_le_bytes());
            assert_eq!(Header::decode(&from, 1024).unwrap_err().code(), Code::Limit);
        }
    }
}
