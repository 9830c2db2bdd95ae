//! What is computed on tensors, by theme.
//!
//! ```text
//! arithmetic, reduce, sort   element by element; sums and their kin; sorting
//! mode                       most frequent elements
//! make                       ranges, diagonals, concatenation
//! linalg                     products of vectors and matrices
//! mask, gather               elements picked by masks, and by tensors of indices
//! format                     tensors as text
//! random                     random numbers, as Torch7 draws them
//! shape                      views of views
//! many                       functions of many numbers at a time
//! op                         which operations there are, by name
//! ```

pub(super) mod arithmetic;
pub(super) mod format;
pub(super) mod gather;
pub(super) mod linalg;
pub(super) mod make;
pub(super) mod many;
pub(super) mod mask;
pub(super) mod mode;
pub(super) mod op;
pub(super) mod random;
pub(super) mod reduce;
pub(super) mod shape;
pub(super) mod sort;
