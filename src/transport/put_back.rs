//! Messages that were received and that their receiver gave back, since it had no memory for what is in them: the next
//! receive gets them.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Target;
use super::place::deliver;
use crate::error::Result;
use crate::sys::Lock;
use crate::wire::Message;

/// What was given back, the next to be received last.
#[derive(Debug, Default)]
pub(super) struct PutBack {
    messages: Lock<Vec<Message>>,
    any: AtomicBool,
}

impl PutBack {
    /// Keeps `message`.
    pub fn put(&self, message: Message) {
        let mut messages = self.messages.lock();
        // A few words, which the allocator's reserve has where the system has none.
        messages.push(message);
        self.any.store(true, Ordering::SeqCst);
    }

    /// Whether there is one.
    #[inline]
    pub fn any(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    /// Receives the next one into `out`, and its data into `into`; false where there is none.
    #[inline]
    pub fn receive(&self, into: Option<Target<'_>>, out: &mut Message) -> Result<bool> {
        if self.any() { self.take(into, out) } else { Ok(false) }
    }

    #[cold]
    fn take(&self, into: Option<Target<'_>>, out: &mut Message) -> Result<bool> {
        let mut messages = self.messages.lock();
        let message = messages.pop();
        self.any.store(!messages.is_empty(), Ordering::SeqCst);
        drop(messages);
        let Some(message) = message else { return Ok(false) };
        *out = message;
        into.map_or(Ok(true), |target| deliver(out, target).map(|()| true))
    }
}
