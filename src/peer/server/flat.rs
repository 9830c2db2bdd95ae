//! A message that goes to many.

use crate::error::Result;
use crate::sys::try_bytes;
use crate::wire::{Attachment, Message};

/// A message whose tensors lie contiguous, so that sending it to many copies nothing.
pub(super) enum Flat<'a> {
    As(&'a Message),
    Made(Message),
}

impl<'a> Flat<'a> {
    pub(super) fn of(message: &'a Message) -> Result<Flat<'a>> {
        let apart = |a: &Attachment| matches!(a, Attachment::Tensor(t) if !t.is_contiguous());
        let plain = |a: &Attachment| matches!(a, Attachment::Tensor(_) | Attachment::Storage(_));
        if !message.attachments.iter().any(apart) || !message.attachments.iter().all(plain) {
            return Ok(Flat::As(message));
        }
        let mut made =
            Message { bytes: try_bytes(&message.bytes)?, functions: message.functions, ..Message::default() };
        made.attachments.try_reserve_exact(message.attachments.len())?;
        for attachment in &message.attachments {
            made.attachments.push(match attachment {
                Attachment::Tensor(t) => Attachment::Tensor(t.contiguous()?),
                Attachment::Storage(s) => Attachment::Storage(s.clone()),
                _ => continue,
            });
        }
        Ok(Flat::Made(made))
    }

    pub(super) fn get(&self) -> &Message {
        match self {
            Flat::As(message) => message,
            Flat::Made(message) => message,
        }
    }
}
