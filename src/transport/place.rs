//! Where the data of a message's tensors goes, and whether a message is what the caller wants to receive into. Imports
//! its sibling `descriptor`.

use super::Target;
use super::descriptor::{Descriptor, Kind, Within};
use crate::err;
use crate::error::Result;
use crate::tensor::{Span, Storage, Tensor};
use crate::wire::{Attachment, Message};

/// Where the data of one attachment goes.
#[derive(Debug)]
pub(super) struct Place {
    /// What the message will hold.
    pub attachment: Attachment,
    /// Where its bytes are received.
    pub span: Span,
    /// The received tensor, where it is not the attachment itself.
    pub through: Option<Tensor>,
}

impl Place {
    /// New memory for what `d` describes, or its view of one of the memories among `before`, the places of the
    /// descriptors before it.
    pub fn new(d: &Descriptor, before: &[Place]) -> Result<Place> {
        if let Some(within) = &d.within {
            return Place::within(d, within, before);
        }
        match d.kind {
            Kind::Tensor => {
                let tensor = Tensor::with_sizes(d.dtype, &d.sizes)?;
                let span = span_of(&tensor)?;
                Ok(Place { attachment: Attachment::Tensor(tensor), span, through: None })
            }
            Kind::Storage | Kind::Memory => {
                let storage = Storage::new(d.dtype, d.sizes[0])?;
                let span = storage.span()?;
                Ok(Place { attachment: Attachment::Storage(storage), span, through: None })
            }
        }
    }

    fn within(d: &Descriptor, within: &Within, before: &[Place]) -> Result<Place> {
        let Some(Place { attachment: Attachment::Storage(memory), span, .. }) = before.get(within.memory) else {
            return Err(err!(Protocol, "a {} does not lie in the memory that it is said to be in", d.name()));
        };
        let attachment = match d.kind {
            Kind::Tensor => Attachment::Tensor(Tensor::in_stretch(memory, within.offset, &d.sizes, &within.strides)?),
            // What is all of it is that storage itself, which can be resized.
            _ if within.offset == 0 && d.sizes[0] == memory.len() => Attachment::Storage(memory.clone()),
            _ => Attachment::Storage(memory.view(within.offset, d.sizes[0])?),
        };
        let span = span.part(0, 0).ok_or_else(|| err!(State, "memory without a beginning"))?;
        Ok(Place { attachment, span, through: None })
    }

    /// The memory of `target`, which fits; through a tensor of its own where the elements lie apart.
    pub fn of(target: Target<'_>) -> Result<Place> {
        match target {
            Target::Tensor(t) if t.is_contiguous() => {
                Ok(Place { attachment: Attachment::Tensor(t.clone()), span: span_of(t)?, through: None })
            }
            Target::Tensor(t) => {
                let through = Tensor::with_sizes(t.dtype(), t.sizes())?;
                let span = span_of(&through)?;
                Ok(Place { attachment: Attachment::Tensor(t.clone()), span, through: Some(through) })
            }
            Target::Storage(s) => {
                Ok(Place { attachment: Attachment::Storage(s.clone()), span: s.span()?, through: None })
            }
        }
    }
}

fn span_of(tensor: &Tensor) -> Result<Span> {
    tensor.bytes().ok_or_else(|| err!(State, "the tensor reaches past the end of its storage, which was made smaller"))
}

/// The attachments of a message whose descriptors have these places: what they lie in is none itself.
pub(super) fn attachments(
    described: &[Descriptor],
    places: impl IntoIterator<Item = Place>,
) -> impl Iterator<Item = Attachment> {
    let both = described.iter().zip(places);
    both.filter(|(d, _)| d.is_attachment()).map(|(_, place)| place.attachment)
}

pub(super) fn attachment(target: Target<'_>) -> Attachment {
    match target {
        Target::Tensor(t) => Attachment::Tensor(t.clone()),
        Target::Storage(s) => Attachment::Storage(s.clone()),
    }
}

pub(super) fn same(given: &Attachment, target: Target<'_>) -> bool {
    match (given, target) {
        (Attachment::Tensor(a), Target::Tensor(b)) => a.same_view(b),
        (Attachment::Storage(a), Target::Storage(b)) => a.same(b),
        _ => false,
    }
}

pub(super) fn view(attachment: &Attachment) -> Result<Tensor> {
    match attachment {
        Attachment::Tensor(t) => Ok(t.clone()),
        Attachment::Storage(s) => Tensor::of_storage(s),
        _ => Err(err!(State, "not a tensor")),
    }
}

pub(super) fn copy(to: &Attachment, from: &Tensor) -> Result<()> {
    view(to)?.copy_from(from)
}

/// Whether the message is one tensor (or storage) that fits `target`; the error names both.
pub(super) fn fits(bytes: &[u8], described: &[Descriptor], target: Target<'_>) -> Result<()> {
    let only = if let [only] = described { Some(only) } else { None };
    fits_only(bytes, only, described.iter().filter(|d| d.is_attachment()).count(), target)
}

/// As [`fits`], of a message with `count` attachments: where that is one, `only` describes it.
fn fits_only(bytes: &[u8], only: Option<&Descriptor>, count: usize, target: Target<'_>) -> Result<()> {
    let wanted = match target {
        Target::Tensor(t) => Descriptor::new(Kind::Tensor, t.dtype(), t.sizes()),
        Target::Storage(s) => Descriptor::new(Kind::Storage, s.dtype(), &[s.len()]),
    };
    match only {
        Some(only) if is_lone(bytes) => {
            if *only == wanted {
                Ok(())
            } else {
                Err(err!(Mismatch, "a {} came, and what it should fill is a {}", only.name(), wanted.name()))
            }
        }
        _ => {
            let what = match count {
                0 => "a value without tensors".to_string(),
                n => format!("a table or other value with {n} tensors in it"),
            };
            Err(err!(Mismatch, "{what} came, and what it should fill is a {}", wanted.name()))
        }
    }
}

/// Has the data of a message that has arrived, which is to be one tensor or storage that fits, go to `target`.
pub(super) fn deliver(out: &mut Message, target: Target<'_>) -> Result<()> {
    let count = out.attachments.len();
    let only = if count == 1 { describe(&out.attachments[0]) } else { None };
    fits_only(&out.bytes, only.as_ref(), count, target)?;
    let target = attachment(target);
    copy(&target, &view(&out.attachments[0])?)?;
    out.attachments[0] = target;
    Ok(())
}

/// The descriptor of an attachment that has arrived.
fn describe(attachment: &Attachment) -> Option<Descriptor> {
    match attachment {
        Attachment::Tensor(t) => Some(Descriptor::new(Kind::Tensor, t.dtype(), t.sizes())),
        Attachment::Storage(s) => Some(Descriptor::new(Kind::Storage, s.dtype(), &[s.len()])),
        Attachment::Object(_) | Attachment::Foreign(_) => None,
    }
}

/// Whether the bytes are a reference to an attachment and nothing else (doc/wire.md, "Values"): a message that is its
/// tensor.
fn is_lone(bytes: &[u8]) -> bool {
    const ATTACHMENT: u8 = 2;
    const SEVERAL: u8 = 1 << 2;
    let Some((prelude, value)) = bytes.split_first() else { return false };
    // Whatever form of an extension of four bytes its writer has chosen.
    let reference = match value {
        [0xd6, rest @ ..] | [0xc7, 4, rest @ ..] | [0xc8, 0, 4, rest @ ..] | [0xc9, 0, 0, 0, 4, rest @ ..] => rest,
        _ => return false,
    };
    prelude & SEVERAL == 0 && matches!(reference, [ATTACHMENT, _, _, _, _])
}
