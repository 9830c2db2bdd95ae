//! A whole message in one piece of memory, tensors and all, for files and for whatever else carries bytes: the bytes of
//! the message alone, or, when tensors belong to it, a frame as connections send it (doc/wire.md). Imports its siblings
//! `describe`, `descriptor`, `frame` and `place`.

use std::borrow::Cow;

use super::describe::Sharing;
use super::descriptor::Descriptor;
use super::frame::{HEADER, Header, KIND_MESSAGE};
use super::place::{Place, attachments};
use crate::err;
use crate::error::Result;
use crate::sys::{check_memory, try_push};
use crate::tensor::Span;
use crate::wire::{Attachment, Message, path_to};

/// Data of tensors lies in memory as the form wants it. Nothing we run on is otherwise.
const LITTLE: bool = cfg!(target_endian = "little");

/// The message in bytes. Tensors are copied as they are now; what has no form in bytes is `[unsupported]`, with its
/// path.
pub fn serialize(message: &Message) -> Result<Cow<'_, [u8]>> {
    if message.attachments.is_empty() {
        return Ok(Cow::Borrowed(&message.bytes));
    }
    for (i, attachment) in message.attachments.iter().enumerate() {
        let has_form = matches!(attachment, Attachment::Tensor(_) | Attachment::Storage(_)) && LITTLE;
        if !has_form {
            let path = path_to(&message.bytes, i as u32);
            return Err(err!(Unsupported, "{path}: {} has no form in bytes", attachment.kind()));
        }
    }
    let mut descriptors = Vec::new();
    let spans = Sharing::of(message)?.describe(message, 0, &mut descriptors)?;
    let data = spans.iter().map(Span::len);
    let total = data.fold(HEADER + message.bytes.len() + descriptors.len(), usize::saturating_add);
    let mut out = Vec::new();
    out.try_reserve_exact(total).map_err(|_| err!(Limit, "not enough memory for a message of {total} bytes"))?;
    let header = Header { functions: message.functions, descriptors: descriptors.len(), bytes: message.bytes.len() };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(&message.bytes);
    out.extend_from_slice(&descriptors);
    for span in &spans {
        let from = out.len();
        out.resize(from + span.len(), 0);
        span.read(0, &mut out[from..]);
    }
    Ok(Cow::Owned(out))
}

/// The message that [`serialize`] made bytes of. They may come from anywhere: whatever they are, the answer is a
/// message or an error, and no more memory is taken than they hold themselves, a few words for each tensor aside.
pub fn deserialize(bytes: &[u8]) -> Result<Message> {
    if bytes.first() != Some(&KIND_MESSAGE) {
        return Ok(Message { bytes: copy(bytes)?, ..Message::default() });
    }
    let cut = || err!(Protocol, "the bytes end in the middle of a message");
    let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or_else(cut)?;
    let header = Header::decode(header, u64::MAX)?;
    let (values, rest) = rest.split_at_checked(header.bytes).ok_or_else(cut)?;
    let (descriptors, mut data) = rest.split_at_checked(header.descriptors).ok_or_else(cut)?;
    let described = Descriptor::decode_all(descriptors, header.bytes, usize::MAX)?;
    let wanted = described.iter().fold(0usize, |sum, d| sum.saturating_add(d.data()));
    if wanted != data.len() {
        return Err(err!(Protocol, "{} bytes of data follow, where the tensors take {wanted}", data.len()));
    }
    let mut message = Message { bytes: copy(values)?, functions: header.functions, ..Message::default() };
    let mut places = Vec::new();
    for d in &described {
        let place = Place::new(d, &places)?;
        let (mine, others) = data.split_at_checked(place.span.len()).ok_or_else(cut)?;
        place.span.write(0, mine);
        data = others;
        check_memory()?;
        try_push(&mut places, place)?;
    }
    message.attachments.try_reserve_exact(places.len())?;
    message.attachments.extend(attachments(&described, places.drain(..)));
    Ok(message)
}

fn copy(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let n = bytes.len();
    out.try_reserve_exact(n).map_err(|_| err!(Limit, "not enough memory for a message of {n} bytes"))?;
    out.extend_from_slice(bytes);
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;
    use crate::tensor::{DType, Storage, Tensor};
    use crate::wire::{Encoder, Object, ext};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// A list of all `attachments`.
    fn holding(attachments: Vec<Attachment>) -> Message {
        let mut message = Message::default();
        let mut out = Encoder::new(&mut message.bytes);
        let list = out.open_table();
        (0..attachments.len() as u32).for_each(|n| out.numbered(ext::ATTACHMENT, n));
        out.close_array(list, attachments.len() as u32);
        message.attachments = attachments;
        message
    }

    fn some() -> Message {
        let grid = Tensor::range(DType::Float, 1.0, 6.0, 1.0).unwrap().view(&[2, 3]).unwrap().transpose(0, 1).unwrap();
        let storage = Storage::from_slice(&[1i64, -2]).unwrap();
        let empty = Tensor::new(DType::Half);
        holding(vec![Attachment::Tensor(grid), Attachment::Storage(storage), Attachment::Tensor(empty)])
    }

    #[test]
    fn tensors_come_back_contiguous() {
        let back = deserialize(&serialize(&some()).unwrap()).unwrap();
        assert_eq!(back.bytes, some().bytes);
        let [Attachment::Tensor(grid), Attachment::Storage(storage), Attachment::Tensor(empty)] = &back.attachments[..]
        else {
            panic!("{back:?}")
        };
        assert_eq!((grid.sizes(), grid.is_contiguous()), (&[3, 2][..], true));
        assert_eq!(grid.to_vec::<f32>().unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!((storage.dtype(), storage.len(), empty.dtype(), empty.numel()), (DType::Long, 2, DType::Half, 0));
    }

    #[test]
    fn what_shares_memory_comes_back_sharing_it_and_takes_it_once() {
        let t = Tensor::range(DType::Float, 0.0, 9_999.0, 1.0).unwrap().view(&[100, 100]).unwrap();
        let storage = t.storage().unwrap().clone();
        let attachments = || {
            vec![
                Attachment::Tensor(t.clone()),
                Attachment::Tensor(t.select(1, 3).unwrap()),
                Attachment::Storage(storage.clone()),
                Attachment::Storage(storage.view(50, 10).unwrap()),
                Attachment::Tensor(Tensor::new(DType::Float)),
            ]
        };
        let bytes = serialize(&holding(attachments())).unwrap().into_owned();
        assert!(bytes.len() < 40_400, "{}", bytes.len());
        let back = deserialize(&bytes).unwrap();
        let [
            Attachment::Tensor(whole),
            Attachment::Tensor(column),
            Attachment::Storage(all),
            Attachment::Storage(part),
            Attachment::Tensor(none),
        ] = &back.attachments[..]
        else {
            panic!("{back:?}")
        };
        assert_eq!((column.sizes(), column.strides(), none.numel()), (&[100][..], &[100][..], 0));
        assert!(whole.storage().unwrap().same(all) && part.len() == 10);
        column.fill(-1.0).unwrap();
        part.put(2, 7).unwrap();
        let get = |i| all.get(i).unwrap().to_f64();
        assert_eq!((get(3), get(9_903), get(52), get(53)), (-1.0, -1.0, 7.0, 53.0));
        assert_eq!(whole.to_vec::<f32>().unwrap()[103], -1.0);
    }

    #[test]
    fn a_message_without_tensors_is_its_bytes() {
        let mut message = holding(Vec::new());
        assert_eq!(&*serialize(&message).unwrap(), &message.bytes[..]);
        assert_eq!(deserialize(&message.bytes).unwrap().bytes, message.bytes);
        #[derive(Debug)]
        struct Thing;
        impl Object for Thing {
            fn class(&self) -> &'static str {
                "ipc.thing"
            }
        }
        message = holding(vec![Attachment::Object(Arc::new(Thing))]);
        let e = serialize(&message).unwrap_err();
        assert_eq!((e.code(), e.what()), (Code::Unsupported, "value[1]: ipc.thing has no form in bytes"));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let message = some();
        let whole = serialize(&message).unwrap();
        for n in 1..whole.len() {
            assert_eq!(deserialize(&whole[..n]).unwrap_err().code(), Code::Protocol, "{n} of {}", whole.len());
        }
    }

    #[test]
    fn tensors_that_the_data_does_not_hold_are_refused_before_memory_is_taken() {
        let mut bytes = serialize(&some()).unwrap().into_owned();
        let at = HEADER + some().bytes.len() + 4;
        bytes[at..at + 8].copy_from_slice(&(1u64 << 50).to_le_bytes());
        assert_eq!(deserialize(&bytes).unwrap_err().code(), Code::Protocol);
    }

    /// Some that share, so that descriptors of all kinds occur.
    fn sharing() -> Message {
        let t = Tensor::range(DType::Short, 1.0, 12.0, 1.0).unwrap().view(&[3, 4]).unwrap();
        let storage = t.storage().unwrap().view(2, 3).unwrap();
        holding(vec![
            Attachment::Tensor(t.select(1, 1).unwrap()),
            Attachment::Tensor(t),
            Attachment::Storage(storage),
            Attachment::Tensor(Tensor::range(DType::Byte, 1.0, 3.0, 1.0).unwrap()),
        ])
    }

    /// Other bytes for some places.
    fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    }

    proptest! {
        #[test]
        fn changed_bytes_of_what_shares_are_a_message_or_an_error(changes in changes()) {
            let mut bytes = serialize(&sharing()).unwrap().into_owned();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(message) = deserialize(&bytes) {
                for attachment in &message.attachments {
                    // Whatever they are, all of their elements are there.
                    if let Attachment::Tensor(t) = attachment && t.numel() < 1000 {
                        t.contiguous().unwrap();
                    }
                }
            }
        }

        #[test]
        fn changed_bytes_are_a_message_or_an_error(changes in changes()) {
            let mut bytes = serialize(&some()).unwrap().into_owned();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = deserialize(&bytes);
        }
    }
}
