//! Memory of the Rust side: the system's allocator, with a reserve for small requests that the system refuses.
//!
//! Rust ends the process where memory runs out in code that cannot fail, and much of that is small: a reference-counted
//! handle, an entry of a list, the text of an error. Requests whose size Lua code, a peer or a file decides are made
//! with `try_reserve`, and come back as `[limit]`. The others are at most [`LARGEST`] bytes; for them there is a
//! [reserve](reserve), so that the call at hand comes to its end. That it was needed is noted: the next call from Lua
//! asks [`memory_is_short`] and raises before it does anything.
//!
//! How much one call can take from the reserve is bounded: a loop over what the caller gave asks [`check_memory`] in
//! each round, or makes room for all of it before.

mod allocator;
mod bytes;
mod fallible;
mod huge;
mod reserve;
mod room;
mod shared;
#[cfg(test)]
mod tests;

pub use allocator::{
    Allocator, check_memory, keep_freed_memory, memory_is_short, prepare_memory, settle_shortage, with_block,
};
pub use bytes::SharedBytes;
pub use fallible::{Text, try_bytes, try_collect, try_extend, try_format, try_push, try_text};
pub use huge::ask_for_huge_pages;
pub use reserve::LARGEST;
pub use room::{has_address_space, leaves_room};
pub use shared::SharedBlock;
