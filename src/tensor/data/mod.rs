//! What a tensor is: element types, numbers, layouts, memory, storages, views.
//!
//! ```text
//! element(s)      single elements, by place
//! stretch         which of many views share memory
//! overlap         whether views meet in memory
//! view            Tensor: sizes, strides, offset over a storage
//! storage         Storage: elements in a row, shared between threads
//! memory          Span and the kinds of memory
//! dtype, number   element types; arithmetic on one element
//! layout          checked arithmetic of shapes
//! ```

pub(super) mod dtype;
pub(super) mod element;
pub(super) mod elements;
pub(super) mod layout;
pub(super) mod memory;
pub(super) mod number;
pub(super) mod overlap;
pub(super) mod storage;
pub(super) mod stretch;
pub(super) mod view;
