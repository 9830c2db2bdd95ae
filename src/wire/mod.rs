//! The form of a message: MessagePack bytes plus attachments, and the queue that holds messages.

mod copy;
mod decoder;
mod deferred_drop;
mod encoder;
pub mod ext;
#[cfg(test)]
mod form_tests;
mod ledger;
mod live;
mod message;
mod path;
mod queue;
mod queue_chunk;

pub use decoder::{Common, Decoder, Token};
pub use deferred_drop::{Handles, drop_deferred, leave, prepare_thread};
pub use encoder::{Encoder, Mark};
pub use ledger::{Entry, Ledger};
pub use live::{each_live, identity, remember};
pub use message::{Attachment, Foreign, Inside, Message, Object, downcast};
pub use path::{Parts, field_path, path_to};
pub use queue::{Push, Queue};
