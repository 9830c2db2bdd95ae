//! What the files above hand to those that all stand on, when the module is opened: these name none of them.

use std::ffi::c_int;

use mlua_sys as ffi;

use crate::bind::vm::lua::Lua;
use crate::bind::vm::object::{ClassInfo, class_at};
use crate::error::Result;
use crate::tensor::{Storage, Tensor};

/// The whole library, as one Lua state has it.
#[derive(Debug)]
pub struct Library {
    /// What a new Lua state is opened with.
    pub open: ffi::lua_CFunction,
    /// Every class whose objects Lua can hold.
    pub classes: &'static [&'static ClassInfo],
    /// The name of the class in a slot, for the classes that share a Rust type.
    pub variant: fn(Lua<'_>, c_int) -> Option<&'static str>,
    /// Pushes a tensor that has arrived.
    pub push_tensor: fn(Lua<'_>, Tensor) -> Result<()>,
    /// Pushes a storage that has arrived.
    pub push_storage: fn(Lua<'_>, Storage) -> Result<()>,
    /// Called when a call raises `[cancelled]`.
    pub cancelled: fn(Lua<'_>),
}

impl Lua<'_> {
    /// The class of the object in slot `i`, if it is one of ours.
    pub fn class_info(self, i: c_int) -> Option<&'static ClassInfo> {
        class_at(self, i, self.state().library.classes)
    }

    /// The name of the class of the object in slot `i`, if it is one of ours.
    pub fn class_name(self, i: c_int) -> Option<&'static str> {
        (self.state().library.variant)(self, i).or_else(|| Some(self.class_info(i)?.name))
    }
}
