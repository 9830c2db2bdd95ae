//! libipc: parallel computing for Lua.
//!
//! The layers, from the ground up; a file imports only from layers below its own (`tests/layering.rs` holds it to
//! that):
//!
//! ```text
//! bind            Lua on one side, the core on the other; the only place that knows mlua-sys
//! collective      all-reduce and its kin over a group of peers
//! peer            who talks to whom: server, client, handshake, choice of link
//! lane            how a tensor's bytes get across
//! transport       how bytes get across: TCP, Unix; encryption
//! sync            what threads share: queues, locks, barriers (beside the four above; neither wing knows the other)
//! wire            the form of a message: MessagePack bytes plus attachments; queues of messages
//! wait            deadlines, parking, descriptors, interruption
//! tensor          dtype, layout, storage, kernels, files; no I/O to peers
//! sys             the operating system: nearly all `unsafe` lives here
//! error           one error with code, place and cause
//! ```
//!
//! Without a Lua feature the crate is the core alone: `cargo test --no-default-features`.

pub mod error;
pub mod sys;
pub mod tensor;
pub mod wait;
pub mod wire;

pub mod sync;

pub mod lane;
pub mod peer;
pub mod transport;

#[cfg(feature = "bind")]
pub mod bind;
