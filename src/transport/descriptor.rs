//! What stands on the wire for each attachment of a message (doc/wire.md, "Frames"). Imports its sibling `frame`.

use super::frame::MAX_DESCRIPTORS;
use crate::err;
use crate::error::{Error, Result};
use crate::sys::{check_memory, try_push};
use crate::tensor::{DType, Layout, Sizes, Strides, fits_stretch};
use crate::wire::ext;

/// Dimensions that a tensor may have.
pub(super) const MAX_DIMS: usize = 64;

/// What a descriptor is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A tensor.
    Tensor,
    /// A storage.
    Storage,
    /// Memory that several tensors and storages lie in: no attachment itself.
    Memory,
}

/// Where an attachment lies in a memory that it shares with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Within {
    /// The number of the memory among the descriptors, from 0.
    pub memory: usize,
    /// Its first element there.
    pub offset: usize,
    /// How far apart its elements lie there, in each dimension; of a storage [1].
    pub strides: Strides,
}

/// What stands on the wire for an attachment, or for a memory that several share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub kind: Kind,
    pub dtype: DType,
    pub sizes: Sizes,
    /// `None`: its data is its own.
    pub within: Option<Within>,
}

/// On the wire: a tensor or storage that lies in a memory, as told from one with data of its own.
const WITHIN: u8 = 3;

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Tensor => 1,
            Kind::Storage => 2,
            Kind::Memory => 3,
        }
    }
}

impl Descriptor {
    /// Of `sizes`, with data of its own.
    pub fn new(kind: Kind, dtype: DType, sizes: &[usize]) -> Descriptor {
        Descriptor { kind, dtype, sizes: sizes.into(), within: None }
    }

    /// Whether an attachment is described.
    pub fn is_attachment(&self) -> bool {
        self.kind != Kind::Memory
    }

    /// Bytes of data that follow for it; `decode` saw to it that this does not overflow.
    pub fn data(&self) -> usize {
        if self.within.is_some() { 0 } else { self.shown() }
    }

    /// Bytes of its elements, wherever they lie; as above.
    pub fn shown(&self) -> usize {
        if self.sizes.is_empty() || self.sizes.contains(&0) {
            return 0;
        }
        self.sizes.iter().product::<usize>() * self.dtype.size()
    }

    /// For people: `torch.FloatTensor of 2x3`.
    pub fn name(&self) -> String {
        let class = match self.kind {
            Kind::Tensor => self.dtype.tensor_class(),
            Kind::Storage | Kind::Memory => self.dtype.storage_class(),
        };
        let sizes: Vec<_> = self.sizes.iter().map(usize::to_string).collect();
        format!("{class} of {}", if sizes.is_empty() { "no elements".into() } else { sizes.join("x") })
    }

    /// Appends it; the block of descriptors begins at `from` in `out`.
    pub fn encode(&self, from: usize, out: &mut Vec<u8>) -> Result<()> {
        let Descriptor { kind, dtype, sizes, within } = self;
        if sizes.len() > MAX_DIMS {
            return Err(err!(Limit, "a tensor of {} dimensions cannot be sent, at most {MAX_DIMS}", sizes.len()));
        }
        out.try_reserve(20 + 2 * sizes.len() * size_of::<u64>())?;
        let code = if within.is_some() { kind.code() + WITHIN } else { kind.code() };
        out.extend([code, dtype.code()]);
        out.extend((sizes.len() as u16).to_le_bytes());
        let mut number = |n: usize| out.extend((n as u64).to_le_bytes());
        sizes.iter().for_each(|&size| number(size));
        if let Some(Within { memory, offset, strides }) = within {
            number(*memory);
            number(*offset);
            if *kind == Kind::Tensor {
                // Never negative.
                strides.iter().for_each(|&stride| number(stride as usize));
            }
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
        let mut list: Vec<Descriptor> = Vec::new();
        let (mut attachments, mut unused) = (0, None);
        while !from.is_empty() {
            // Each takes a little: many must not live on the allocator's reserve.
            check_memory()?;
            let next = Descriptor::decode(&mut from)?;
            if next.is_attachment() {
                if (attachments + 1) * ext::NAMED_ATTACHMENT > message {
                    return Err(err!(Protocol, "a message announces more tensors than it has room to name"));
                }
                if attachments == most {
                    return Err(err!(
                        Limit,
                        "more than {most} tensors announced in a message, which is as many as are taken"
                    ));
                }
                attachments += 1;
            }
            next.check_place(&list)?;
            // So there are no more memories than attachments.
            if let Some(memory) = unused
                && next.within.as_ref().is_none_or(|within| within.memory != memory)
            {
                return Err(err!(Protocol, "a memory is announced that the next tensor does not lie in"));
            }
            unused = (!next.is_attachment()).then_some(list.len());
            try_push(&mut list, next)?;
        }
        match unused {
            None => Ok(list),
            Some(_) => Err(err!(Protocol, "a memory is announced that no tensor lies in")),
        }
    }

    /// Refuses what does not lie in a memory that came `before`.
    fn check_place(&self, before: &[Descriptor]) -> Result<()> {
        let Some(Within { memory, offset, strides }) = &self.within else { return Ok(()) };
        let layout = Layout::new(*offset, &self.sizes, Some(strides));
        let fits = |memory: &&Descriptor| {
            memory.kind == Kind::Memory
                && memory.dtype == self.dtype
                && layout.as_ref().is_ok_and(|layout| fits_stretch(layout, memory.sizes[0]))
        };
        match before.get(*memory).filter(fits) {
            Some(_) => Ok(()),
            None => Err(err!(Protocol, "a {} does not lie in the memory that it is said to be in", self.name())),
        }
    }

    /// Takes the next descriptor off the front of `from`.
    pub fn decode(from: &mut &[u8]) -> Result<Descriptor> {
        let bad = |what: &str| err!(Protocol, "a tensor descriptor {what}");
        let (&[code, dtype, d0, d1], rest) = from.split_first_chunk().ok_or_else(|| bad("is cut off"))?;
        let (kind, is_within) = match code {
            1 => (Kind::Tensor, false),
            2 => (Kind::Storage, false),
            3 => (Kind::Memory, false),
            4 => (Kind::Tensor, true),
            5 => (Kind::Storage, true),
            _ => return Err(bad(&format!("is of unknown kind {code}"))),
        };
        let dtype = DType::from_code(dtype).ok_or_else(|| bad(&format!("has the unknown element type {dtype}")))?;
        let dims = usize::from(u16::from_le_bytes([d0, d1]));
        if dims > MAX_DIMS || (kind != Kind::Tensor && dims != 1) {
            return Err(bad(&format!("has {dims} dimensions")));
        }
        let mut rest = rest;
        let mut number = || {
            let (bytes, after) = rest.split_first_chunk().ok_or_else(|| bad("is cut off"))?;
            rest = after;
            usize::try_from(u64::from_le_bytes(*bytes)).map_err(|_| bad("overflows"))
        };
        // The product of those that are not 0, which may stand before or after a 0.
        let (mut data, most) = (dtype.size(), isize::MAX as usize);
        // At most MAX_DIMS.
        let mut sizes = Sizes::new();
        sizes.try_reserve(dims).map_err(|_| Error::no_memory())?;
        for _ in 0..dims {
            let size = number()?;
            data = data.saturating_mul(size.max(1));
            if size > most {
                return Err(bad("overflows"));
            }
            sizes.push(size);
        }
        if data > most && !sizes.contains(&0) {
            return Err(bad("overflows"));
        }
        let within = if is_within {
            let (memory, offset) = (number()?, number()?);
            let mut strides = Strides::new();
            strides.try_reserve(dims).map_err(|_| Error::no_memory())?;
            for _ in 0..dims {
                let stride = if kind == Kind::Tensor { number()? } else { 1 };
                strides.push(isize::try_from(stride).map_err(|_| bad("overflows"))?);
            }
            Some(Within { memory, offset, strides })
        } else {
            None
        };
        *from = rest;
        Ok(Descriptor { kind, dtype, sizes, within })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;
    use proptest::prelude::*;

    fn descriptor() -> impl Strategy<Value = Descriptor> {
        let sizes = prop::collection::vec(0usize..1000, 0..5);
        let within = prop::option::of((0usize..8, 0usize..1000, prop::collection::vec(0isize..1000, 5)));
        (0u8..3, 1u8..=9, sizes, within).prop_map(|(kind, code, mut sizes, within)| {
            let kind = [Kind::Tensor, Kind::Storage, Kind::Memory][usize::from(kind)];
            if kind != Kind::Tensor {
                sizes = vec![sizes.first().copied().unwrap_or(0)];
            }
            let within = within.filter(|_| kind != Kind::Memory).map(|(memory, offset, strides)| {
                let strides = if kind == Kind::Tensor { &strides[..sizes.len()] } else { &[1] };
                Within { memory, offset, strides: strides.into() }
            });
            Descriptor { within, ..Descriptor::new(kind, DType::from_code(code).unwrap(), &sizes) }
        })
    }

    proptest! {
        #[test]
        fn descriptors_come_back(list in prop::collection::vec(descriptor(), 0..8)) {
            let mut bytes = Vec::new();
            list.iter().for_each(|d| d.encode(0, &mut bytes).unwrap());
            let mut rest = &bytes[..];
            let mut got = Vec::new();
            while !rest.is_empty() {
                got.push(Descriptor::decode(&mut rest).unwrap());
            }
            prop_assert_eq!(got, list);
        }

        #[test]
        fn descriptors_of_a_message_lie_in_memories_before_them(list in prop::collection::vec(descriptor(), 0..8)) {
            let mut bytes = Vec::new();
            list.iter().for_each(|d| d.encode(0, &mut bytes).unwrap());
            if let Ok(all) = Descriptor::decode_all(&bytes, 1000, 8) {
                for within in all.iter().filter_map(|d| d.within.as_ref()) {
                    prop_assert_eq!(all[within.memory].kind, Kind::Memory);
                }
            }
        }

        #[test]
        fn any_bytes_are_descriptors_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut rest = &bytes[..];
            while let Ok(d) = Descriptor::decode(&mut rest) {
                prop_assert!(d.shown() <= i64::MAX as usize);
                prop_assert!(d.sizes.len() <= MAX_DIMS);
            }
        }
    }

    #[test]
    fn a_memory_is_there_for_the_tensor_after_it() {
        let memory = Descriptor::new(Kind::Memory, DType::Float, &[10]);
        let view = |memory, offset, sizes: &[usize], strides: &[isize]| Descriptor {
            within: Some(Within { memory, offset, strides: strides.into() }),
            ..Descriptor::new(Kind::Tensor, DType::Float, sizes)
        };
        let decoded = |list: &[&Descriptor]| {
            let mut bytes = Vec::new();
            list.iter().for_each(|d| d.encode(0, &mut bytes).unwrap());
            Descriptor::decode_all(&bytes, 100, 100)
        };
        let fits = view(0, 1, &[3, 3], &[3, 1]);
        let storage = Descriptor {
            within: Some(Within { memory: 0, offset: 5, strides: [1][..].into() }),
            ..Descriptor::new(Kind::Storage, DType::Float, &[5])
        };
        assert_eq!(decoded(&[&memory, &fits, &storage]).unwrap(), [memory.clone(), fits.clone(), storage.clone()]);
        let other = Descriptor { dtype: DType::Int, ..memory.clone() };
        let alone = Descriptor::new(Kind::Tensor, DType::Float, &[1]);
        for list in [
            &[&memory][..],
            &[&memory, &alone],
            &[&memory, &memory, &view(1, 0, &[1], &[1])],
            &[&fits],
            &[&alone, &fits],
            &[&other, &fits],
            &[&memory, &view(0, 2, &[3, 3], &[3, 1])],
            &[&memory, &view(0, 0, &[], &[])],
            &[&memory, &view(0, 0, &[(1 << 20) + 1], &[0])],
            &[&memory, &view(0, 0, &[4], &[isize::MAX])],
            &[&memory, &view(0, usize::MAX, &[4], &[1])],
        ] {
            assert_eq!(decoded(list).unwrap_err().code(), Code::Protocol, "{list:?}");
        }
        assert_eq!(Descriptor::decode_all(&[3; 300], 1000, 1000).unwrap_err().code(), Code::Protocol);
    }

    #[test]
    fn sizes_whose_product_overflows_are_refused() {
        for sizes in [&[1usize << 62, 4][..], &[1 << 31, 1 << 31, 4], &[usize::MAX]] {
            let mut bytes = Vec::new();
            Descriptor::new(Kind::Tensor, DType::Double, sizes).encode(0, &mut bytes).unwrap();
            assert_eq!(Descriptor::decode(&mut &bytes[..]).unwrap_err().code(), Code::Protocol);
        }
    }
}
