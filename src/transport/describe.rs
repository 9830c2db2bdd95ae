//! What stands on the wire for the attachments of a message, and where their data lies; or a copy of them, for one who
//! needs no wire. Imports its siblings `descriptor` and `place`.

use std::ops::Range;

use smallvec::SmallVec;

use super::descriptor::{Descriptor, Kind, Within};
use super::place::{Place, attachments};
use crate::err;
use crate::error::{Error, Result};
use crate::sys::{check_memory, try_push};
use crate::tensor::{DType, Share, Span, Stretches, Tensor, any_overlap};
use crate::wire::{Attachment, Message};

/// The pieces of data of a message, in order.
pub(super) type Spans = SmallVec<[Span; 2]>;

/// Which attachments of a message share memory, as of now.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// What each attachment views; none of these where there are not two that could share.
    views: Vec<Tensor>,
    found: Stretches,
}

impl Sharing {
    /// Of `message`.
    pub fn of(message: &Message) -> Result<Sharing> {
        if message.attachments.len() < 2 || !may_share(&message.attachments)? {
            return Ok(Sharing::default());
        }
        let mut views = Vec::new();
        views.try_reserve_exact(message.attachments.len())?;
        for attachment in &message.attachments {
            check_memory()?;
            let view = match attachment {
                Attachment::Tensor(t) => t.clone(),
                Attachment::Storage(s) => Tensor::of_storage(s)?,
                Attachment::Object(_) | Attachment::Foreign(_) => Tensor::new(DType::Byte),
            };
            try_push(&mut views, view)?;
        }
        let found = Stretches::of(&views)?;
        Ok(Sharing { views, found })
    }

    /// Bytes of data that go for `message`, and of the elements that its attachments show: each of both may be the
    /// larger one.
    pub fn bytes(&self, message: &Message) -> (u64, u64) {
        let mut data = self.found.stretches.iter().fold(0u64, |sum, s| sum.saturating_add(s.span.len() as u64));
        let mut shown = 0u64;
        for (i, attachment) in message.attachments.iter().enumerate() {
            let bytes = match attachment {
                Attachment::Tensor(t) => (t.numel() * t.dtype().size()) as u64,
                Attachment::Storage(s) => s.bytes() as u64,
                Attachment::Object(_) | Attachment::Foreign(_) => 0,
            };
            shown = shown.saturating_add(bytes);
            if self.share(i).is_none() {
                data = data.saturating_add(bytes);
            }
        }
        (data, shown)
    }

    fn share(&self, i: usize) -> Option<&Share> {
        self.found.shares.get(i)?.as_ref()
    }

    /// Appends the descriptors of `message` and returns its data, made contiguous where it is not. `from` is where the
    /// descriptors begin in `out`.
    pub fn describe(&self, message: &Message, from: usize, out: &mut Vec<u8>) -> Result<Spans> {
        let mut spans = Spans::new();
        // Room for all at once: the list is as long as the message says.
        spans.try_reserve(self.count(message)).map_err(|_| Error::no_memory())?;
        self.each(message, |descriptor, data| {
            descriptor.encode(from, out)?;
            spans.extend(data.map(|data| data.span));
            Ok(())
        })?;
        Ok(spans)
    }

    /// The attachments of `message` in memory of their own, as one gets them who receives it over a socket.
    pub fn copied(&self, message: &Message) -> Result<Vec<Attachment>> {
        let (mut described, mut places) = (Vec::new(), Vec::new());
        described.try_reserve_exact(self.count(message))?;
        places.try_reserve_exact(self.count(message))?;
        self.each(message, |descriptor, data| {
            places.push(match data {
                Some(Data { made: Some(tensor), span }) => {
                    Place { attachment: Attachment::Tensor(tensor), span, through: None }
                }
                data => {
                    let place = Place::new(&descriptor, &places)?;
                    if let Some(data) = data {
                        place.span.copy_from(&data.span);
                    }
                    place
                }
            });
            described.push(descriptor);
            Ok(())
        })?;
        let mut all = Vec::new();
        all.try_reserve_exact(message.attachments.len())?;
        all.extend(attachments(&described, places));
        Ok(all)
    }

    /// How many descriptors `message` has.
    fn count(&self, message: &Message) -> usize {
        message.attachments.len() + self.found.stretches.len()
    }

    /// Shows each descriptor of `message`, and its data where it has any of its own.
    fn each(&self, message: &Message, mut see: impl FnMut(Descriptor, Option<Data>) -> Result<()>) -> Result<()> {
        // The numbers of the stretches' descriptors: each comes right before the first that lies in it.
        let mut numbers: Vec<usize> = Vec::new();
        numbers.try_reserve_exact(self.found.stretches.len())?;
        let mut number = 0;
        for (i, attachment) in message.attachments.iter().enumerate() {
            check_memory()?;
            if let Some(share) = self.share(i) {
                if numbers.len() == share.stretch {
                    let stretch = &self.found.stretches[share.stretch];
                    let len = stretch.span.len() / stretch.dtype.size();
                    see(Descriptor::new(Kind::Memory, stretch.dtype, &[len]), Some(Data::of(stretch.span.clone())))?;
                    numbers.push(number);
                    number += 1;
                }
                let kind = if matches!(attachment, Attachment::Tensor(_)) { Kind::Tensor } else { Kind::Storage };
                let Share { offset, strides, .. } = share.clone();
                let within = Some(Within { memory: numbers[share.stretch], offset, strides });
                let view = &self.views[i];
                see(Descriptor { within, ..Descriptor::new(kind, view.dtype(), view.sizes()) }, None)?;
            } else {
                let (descriptor, data) = describe(attachment)?;
                see(descriptor, Some(data))?;
            }
            number += 1;
        }
        Ok(())
    }
}

/// The data of an attachment, or of memory that several share.
struct Data {
    span: Span,
    /// The tensor that was made for it, where the elements lay apart.
    made: Option<Tensor>,
}

impl Data {
    fn of(span: Span) -> Data {
        Data { span, made: None }
    }
}

/// Whether two of them may share memory, as told by a quick look.
fn may_share(attachments: &[Attachment]) -> Result<bool> {
    let mut ranges: SmallVec<[Range<usize>; 8]> = SmallVec::new();
    ranges.try_reserve(attachments.len()).map_err(|_| Error::no_memory())?;
    ranges.extend(attachments.iter().map(|attachment| match attachment {
        Attachment::Tensor(t) => t.addresses(),
        Attachment::Storage(s) => s.addresses(),
        Attachment::Object(_) | Attachment::Foreign(_) => 0..0,
    }));
    Ok(any_overlap(&mut ranges))
}

/// The descriptor of an attachment with data of its own, and that data.
fn describe(attachment: &Attachment) -> Result<(Descriptor, Data)> {
    match attachment {
        Attachment::Tensor(t) => {
            let made = if t.is_contiguous() { None } else { Some(t.contiguous()?) };
            let span =
                made.as_ref().unwrap_or(t).bytes().ok_or_else(|| {
                    err!(State, "a tensor reaches past the end of its storage, which was made smaller")
                })?;
            Ok((Descriptor::new(Kind::Tensor, t.dtype(), t.sizes()), Data { span, made }))
        }
        Attachment::Storage(s) => {
            let span = s.span()?;
            // By the span's length: another thread may resize the storage meanwhile.
            Ok((Descriptor::new(Kind::Storage, s.dtype(), &[span.len() / s.dtype().size()]), Data::of(span)))
        }
        Attachment::Object(o) => Err(err!(Unsupported, "an {} cannot go to another process", o.class())),
        Attachment::Foreign(f) => Err(err!(Unsupported, "a {} cannot go to another process", f.class)),
    }
}
