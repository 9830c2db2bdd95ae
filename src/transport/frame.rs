//! The form of a frame (doc/wire.md, "Frames"): pure functions between bytes and headers, for both directions.

use crate::err;
use crate::error::Result;
use crate::sys::{check_memory, try_push};
use crate::tensor::DType;
use crate::wire::ext;

/// Bytes of a header.
pub(super) const HEADER: usize = 16;
/// Bytes of descriptors that a message may have.
pub(super) const MAX_DESCRIPTORS: usize = 16 << 20;
/// Dimensions that a tensor may have.
pub(super) const MAX_DIMS: usize = 64;

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

/// What an attachment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A tensor.
    Tensor,
    /// A storage.
    Storage,
}

/// What stands on the wire for an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub kind: Kind,
    pub dtype: DType,
    pub sizes: Vec<usize>,
}

impl Descriptor {
    /// Bytes of data that follow for it; `decode` saw to it that this does not overflow.
    pub fn data(&self) -> usize {
        if self.sizes.is_empty() { 0 } else { self.sizes.iter().product::<usize>() * self.dtype.size() }
    }

    /// For people: `torch.FloatTensor of 2x3`.
    pub fn name(&self) -> String {
        let class = match self.kind {
            Kind::Tensor => self.dtype.tensor_class(),
            Kind::Storage => self.dtype.storage_class(),
        };
        let sizes: Vec<_> = self.sizes.iter().map(usize::to_string).collect();
        format!("{class} of {}", if sizes.is_empty() { "no elements".into() } else { sizes.join("x") })
    }

    /// Appends a descriptor; the block of them begins at `from` in `out`.
    pub fn encode(kind: Kind, dtype: DType, sizes: &[usize], from: usize, out: &mut Vec<u8>) -> Result<()> {
        if sizes.len() > MAX_DIMS {
            return Err(err!(Limit, "a tensor of {} dimensions cannot be sent, at most {MAX_DIMS}", sizes.len()));
        }
        out.try_reserve(4 + sizes.len() * size_of::<u64>())?;
        out.extend([if kind == Kind::Tensor { 1 } else { 2 }, dtype.code()]);
        out.extend((sizes.len() as u16).to_le_bytes());
        for &size in sizes {
            out.extend((size as u64).to_le_bytes());
        }
        if out.len() - from > MAX_DESCRIPTORS {
            return Err(err!(
                Limit,
                "the message has too many tensors ({MAX_DESCRIPTORS} bytes describe as many as can be)"
            ));
        }
        Ok(())
    }

    /// All the descriptors of a message whose own bytes are so many. The message names each of its tensors, so a
    /// peer cannot make us keep more of them than it has sent bytes for, and no more than `most`.
    pub fn decode_all(mut from: &[u8], message: usize, most: usize) -> Result<Vec<Descriptor>> {
        let mut list = Vec::new();
        while !from.is_empty() {
            if (list.len() + 1) * ext::NAMED_ATTACHMENT > message {
                return Err(err!(Protocol, "a message announces more tensors than it has room to name"));
            }
            if list.len() == most {
                return Err(err!(
                    Limit,
                    "more than {most} tensors announced in a message, which is as many as are taken"
                ));
            }
            // Each takes a little: many must not live on the allocator's reserve.
            check_memory()?;
            try_push(&mut list, Descriptor::decode(&mut from)?)?;
        }
        Ok(list)
    }

    /// Takes the next descriptor off the front of `from`.
    pub fn decode(from: &mut &[u8]) -> Result<Descriptor> {
        let bad = |what: &str| err!(Protocol, "a tensor descriptor {what}");
        let (&[kind, dtype, d0, d1], rest) = from.split_first_chunk().ok_or_else(|| bad("is cut off"))?;
        let kind = match kind {
            1 => Kind::Tensor,
            2 => Kind::Storage,
            _ => return Err(bad(&format!("is of unknown kind {kind}"))),
        };
        let dtype = DType::from_code(dtype).ok_or_else(|| bad(&format!("has the unknown element type {dtype}")))?;
        let dims = usize::from(u16::from_le_bytes([d0, d1]));
        if dims > MAX_DIMS || (kind == Kind::Storage && dims != 1) {
            return Err(bad(&format!("has {dims} dimensions")));
        }
        let (sizes, rest) = rest.split_at_checked(8 * dims).ok_or_else(|| bad("is cut off"))?;
        let mut data = dtype.size() as u64;
        // At most MAX_DIMS.
        let mut out = Vec::new();
        out.try_reserve_exact(dims)?;
        for size in sizes.chunks_exact(8) {
            let size = size.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
            data = data.checked_mul(size).filter(|&n| n <= i64::MAX as u64).ok_or_else(|| bad("overflows"))?;
            out.push(usize::try_from(size).map_err(|_| bad("overflows"))?);
        }
        *from = rest;
        Ok(Descriptor { kind, dtype, sizes: out })
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

        #[test]
        fn descriptors_come_back(list in prop::collection::vec((any::<bool>(), 1u8..=9, prop::collection::vec(0usize..1000, 0..5)), 0..8)) {
            let mut bytes = Vec::new();
            let mut made = Vec::new();
            for (tensor, code, mut sizes) in list {
                let kind = if tensor { Kind::Tensor } else { Kind::Storage };
                if !tensor {
                    sizes = vec![sizes.first().copied().unwrap_or(0)];
                }
                let dtype = DType::from_code(code).unwrap();
                Descriptor::encode(kind, dtype, &sizes, 0, &mut bytes).unwrap();
                made.push(Descriptor { kind, dtype, sizes });
            }
            let mut rest = &bytes[..];
            let mut got = Vec::new();
            while !rest.is_empty() {
                got.push(Descriptor::decode(&mut rest).unwrap());
            }
            prop_assert_eq!(got, made);
        }

        #[test]
        fn any_bytes_are_descriptors_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut rest = &bytes[..];
            while let Ok(d) = Descriptor::decode(&mut rest) {
                prop_assert!(d.data() <= i64::MAX as usize);
                prop_assert!(d.sizes.len() <= MAX_DIMS);
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

    #[test]
    fn sizes_whose_product_overflows_are_refused() {
        for sizes in [&[1usize << 62, 4][..], &[1 << 31, 1 << 31, 4], &[usize::MAX]] {
            let mut bytes = Vec::new();
            Descriptor::encode(Kind::Tensor, DType::Double, sizes, 0, &mut bytes).unwrap();
            assert_eq!(Descriptor::decode(&mut &bytes[..]).unwrap_err().code(), Code::Protocol);
        }
    }
}
