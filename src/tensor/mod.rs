//! Tensors: element types, layouts, storages, views and what is computed on them. No I/O to peers.
//!
//! Its modules, from the ground up; each imports only from those below it (`tests/layering.rs` holds it to that):
//!
//! ```text
//! ops      arithmetic, reductions, sorting, linear algebra, picking, random numbers, shapes, text
//! file     Torch's files, and others
//! kernel   the inner loops (beside `file`: neither knows the other)
//! data     element types, layouts, memory, storages, views
//! ```

mod data;
mod file;
mod kernel;
mod ops;

#[cfg(test)]
mod property;

pub use data::dtype::{DType, Element, cast};
pub use data::elements::Places;
pub use data::layout::{Layout, MAX_ELEMENTS, Sizes, Strides, describe};
pub use data::memory::{ALIGN, Memory, Span, live_bytes};
pub use data::number::{Number, Scalar};
pub use data::storage::Storage;
pub use data::stretch::{Share, Stretch, Stretches, any_overlap, fits as fits_stretch};
pub use data::view::Tensor;
pub use file::t7;
pub use ops::format::{format_storage, format_tensor};
pub use ops::op::{Binary, Compare, Unary};
pub use ops::random::{Distribution, Generator};
pub use ops::shape::{dimension, position};
