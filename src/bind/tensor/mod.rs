//! Tensors in Lua: the module that `require 'ipc.torch'` gives, with Torch7's names and meanings.
//!
//! This file puts the folder together. A method is a function `fn(Lua) -> Result<Pushed>` in the file of its theme and
//! a line in that file's `bound!` list, which makes both `t:name(…)` and `torch.name(t, …)` of it; annotate it in
//! `lua/library/torch.lua`.
//!
//! ```text
//! search             how `require 'torch'` finds these
//! module             the table `torch`, its constructors
//! class              userdata and metatables; push, tensor_at
//! args, construct    arguments; where a result goes; the forms of constructors
//! index              t[k], t[k] = v
//! shape convert …    the methods, by theme
//! context            what a Lua state keeps: default type, generator
//! ```

/// `bound! { METHODS, FUNCTIONS: "name" => body, … }`: the two forms of each body, distinguished by the colon in their
/// place.
macro_rules! bound {
    ($methods:ident, $functions:ident: $($name:literal => $body:path,)*) => {
        pub(super) const $methods: &[$crate::bind::vm::Method] =
            &[$(($name, $crate::lua_fn!(concat!("tensor:", $name), $body)),)*];
        pub(super) const $functions: &[$crate::bind::vm::Method] =
            &[$(($name, $crate::lua_fn!(concat!("torch.", $name), $body)),)*];
    };
}
use bound;

mod args;
mod class;
mod construct;
mod context;
mod convert;
mod file;
mod gather;
mod index;
mod linalg;
mod make;
mod math;
mod module;
mod print;
mod random;
mod reduce;
mod search;
mod shape;
mod shared;
mod storage;

use crate::bind::vm::Method;

pub use class::{STORAGE, TENSOR, class_name, push, push_storage, storage_at, tensor_at};
pub use construct::storage as new_storage;
pub use convert::{pointer, storage_as};
pub use module::{open, open_later};
pub use search::install;
pub use shared::IPC_FUNCTIONS;

/// The methods of tensors.
const METHODS: &[&[Method]] = &[
    construct::METHODS,
    shape::METHODS,
    shared::METHODS,
    convert::METHODS,
    convert::CONVERSIONS,
    convert::TYPE,
    make::METHODS,
    math::METHODS,
    reduce::METHODS,
    linalg::METHODS,
    gather::METHODS,
    random::METHODS,
];
/// What tensors' metatables have besides.
const METAMETHODS: &[&[Method]] = &[index::METAMETHODS, math::METAMETHODS, print::METAMETHODS];
/// The methods of storages.
const STORAGE_METHODS: &[&[Method]] = &[storage::METHODS, storage::CONVERSIONS];
/// What storages' metatables have besides.
const STORAGE_METAMETHODS: &[&[Method]] =
    &[index::STORAGE_METAMETHODS, storage::METAMETHODS, print::STORAGE_METAMETHODS];
/// The functions of the module.
const FUNCTIONS: &[&[Method]] = &[
    shape::FUNCTIONS,
    shared::FUNCTIONS,
    convert::FUNCTIONS,
    convert::CONVERSION_FUNCTIONS,
    make::FUNCTIONS,
    math::FUNCTIONS,
    reduce::FUNCTIONS,
    linalg::FUNCTIONS,
    gather::FUNCTIONS,
    random::FUNCTIONS,
    random::GENERATOR,
    file::FUNCTIONS,
    module::FUNCTIONS,
];
