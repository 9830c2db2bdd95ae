//! Tensors: element types, layouts, storages, views and what is computed on them. No I/O to peers.
//!
//! This file puts the layer together; its files import each other where their first lines say so, from the ground up:
//!
//! ```text
//! mode               most frequent elements
//! ops, reduce, sort  element-wise arithmetic; sums and their kin; sorting
//! make               ranges, diagonals, concatenation
//! t7, read           Torch's own files; files of plain elements
//! linalg             products of vectors and matrices
//! mask, gather       elements picked by masks, and by tensors of indices
//! format             tensors as text
//! random             random numbers, as Torch7 draws them
//! element(s), shape  single elements; views of views
//! many               functions of many numbers at a time
//! op, reductions     which operations there are, by name; which reductions
//! copy               copies and conversions
//! reduction          reducing elements to fewer
//! kernel, staging    the inner loops, for three types and two instruction sets; conversion of the other types
//! transpose          copies that swap the order of dimensions, in tiles
//! vector             compiling a loop for more than one instruction set
//! walk               strided operands in runs
//! overlap            whether views meet in memory
//! view               Tensor: sizes, strides, offset over a storage
//! storage            Storage: elements in a row, shared between threads
//! memory             Span and the kinds of memory
//! dtype, number      element types; arithmetic on one element
//! layout             checked arithmetic of shapes
//! ```

mod copy;
mod dtype;
mod element;
mod elements;
mod format;
mod gather;
mod kernel;
mod layout;
mod linalg;
mod make;
mod many;
mod mask;
mod memory;
mod mode;
mod number;
mod op;
mod ops;
mod overlap;
mod random;
mod read;
mod reduce;
mod reduction;
mod reductions;
mod shape;
mod sort;
mod staging;
mod storage;
pub mod t7;
mod transpose;
mod vector;
mod view;
mod walk;

#[cfg(test)]
mod property;

pub use dtype::{DType, Element, cast};
pub use elements::Places;
pub use format::{format_storage, format_tensor};
pub use layout::{Layout, MAX_ELEMENTS, describe};
pub use memory::{ALIGN, Memory, Span, live_bytes};
pub use number::{Number, Scalar};
pub use op::{Binary, Compare, Unary};
pub use random::{Distribution, Generator};
pub use shape::{dimension, position};
pub use storage::Storage;
pub use view::Tensor;
