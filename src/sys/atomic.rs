//! The atomics of what is model-checked: those of the standard library. The models (tests/models) compile the same
//! sources with atomics of their own in this place.

pub use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
