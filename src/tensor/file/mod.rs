//! Tensors in files: Torch's own (`t7`), and files of plain elements (`read`).

pub(super) mod read;
pub mod t7;
