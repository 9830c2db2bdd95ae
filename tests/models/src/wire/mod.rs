//! As src/wire, without the codec.

#[path = "../../../../src/wire/copy.rs"]
mod copy;
#[path = "../../../../src/wire/message.rs"]
mod message;
#[path = "../../../../src/wire/queue.rs"]
mod queue;
#[path = "../../../../src/wire/queue_chunk.rs"]
mod queue_chunk;

/// What waits in an object that waits in itself is no part of a model.
mod deferred_drop {
    pub(super) fn drop_deferred(attached: Vec<super::Attachment>) {
        drop(attached);
    }

    /// Stands for how many hold an object.
    #[derive(Debug)]
    pub struct Handles;
}

pub use deferred_drop::Handles;
pub use message::{Attachment, Foreign, Inside, Message, Object, downcast};
pub use queue::{Push, Queue};
