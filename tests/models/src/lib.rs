//! The sources of the library that are model-checked, on top of a `sys` that is loom's. See doc/testing.md.

// Most of each file is not part of a model.
#![allow(dead_code)]

#[path = "../../../src/error.rs"]
pub mod error;
pub mod sys;
/// What a message may carry; models attach objects only.
pub mod tensor {
    /// Stands for a tensor.
    #[derive(Debug)]
    pub struct Tensor;
    /// Stands for a storage.
    #[derive(Debug)]
    pub struct Storage;

    impl Tensor {
        /// None: models weigh nothing.
        pub fn storage(&self) -> Option<&Storage> {
            None
        }
    }

    impl Storage {
        /// None.
        pub fn bytes(&self) -> usize {
            0
        }
    }
}
pub mod sync;
pub mod wait;
pub mod wire;
