//! The inner loops.
//!
//! ```text
//! copy            copies and conversions
//! fold            reducing elements to fewer; reductions: which ones there are
//! map             element by element, for three types and two instruction sets
//! convert         conversion of the other types
//! transpose       copies that swap the order of dimensions, in tiles
//! walk            strided operands in runs
//! vector          compiling a loop for more than one instruction set
//! ```

pub(super) mod convert;
pub(super) mod copy;
pub(super) mod fold;
pub(super) mod map;
pub(super) mod reductions;
pub(super) mod transpose;
pub(super) mod vector;
pub(super) mod walk;
