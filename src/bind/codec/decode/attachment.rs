//! Attachments that arrive: tensors, storages, objects of ours and userdata of other libraries.
//!
//! Every function here that takes a raw state runs inside `Lua::protect`: Lua may raise, and the frame must then hold
//! nothing to drop.

use std::ffi::c_char;
use std::sync::Arc;

use mlua_sys as ffi;

use super::{Attachments, DecodeWalk};
use crate::bind::codec::Go;
use crate::bind::codec::class;
use crate::bind::vm::Lua;
use crate::err;
use crate::error::Result;
use crate::sys::check_memory;
use crate::wire::{Attachment, Object};

impl DecodeWalk<'_> {
    /// Pushes attachment `number`.
    pub(super) unsafe fn attachment(&mut self, l: *mut ffi::lua_State, number: u32) -> Go {
        let lua = self.lua;
        let library = lua.state().library;
        let i = number as usize;
        let pushed = match &mut self.attachments {
            Attachments::Moved(list) => match list.get_mut(i) {
                None => None,
                Some(Attachment::Tensor(t)) => Some((library.push_tensor)(lua, t.clone())),
                Some(Attachment::Storage(s)) => Some((library.push_storage)(lua, s.clone())),
                Some(Attachment::Object(o)) => Some(adopt(lua, o.clone())),
                Some(Attachment::Foreign(f)) if f.release.is_none() => {
                    Some(Err(err!(State, "userdata {} was read before", f.class)))
                }
                Some(Attachment::Foreign(f)) => {
                    // The reference passes over to the new userdata: the drop of the message must not give it back.
                    // SAFETY: as the module says.
                    let owned = unsafe { class::push_foreign(l, f.class.as_bytes(), f.pointer) };
                    if owned {
                        f.release = None;
                        // SAFETY: as the module says.
                        unsafe {
                            ffi::lua_pushlstring(l, f.class.as_ptr() as *const c_char, f.class.len());
                            class::reclaim(l, ffi::lua_gettop(l));
                            ffi::lua_settop(l, -2);
                        }
                    }
                    Some(if owned { Ok(()) } else { Err(class::unknown(f.class.as_bytes())) })
                }
            },
            Attachments::Shared(list) => match list.get(i) {
                None => None,
                Some(Attachment::Tensor(t)) => Some((library.push_tensor)(lua, t.clone())),
                Some(Attachment::Storage(s)) => Some((library.push_storage)(lua, s.clone())),
                Some(Attachment::Object(o)) => Some(adopt(lua, o.clone())),
                // SAFETY: as the module says.
                Some(Attachment::Foreign(f)) => Some(match unsafe { class::push_retained(l, f) } {
                    true => Ok(()),
                    false => Err(class::unknown(f.class.as_bytes())),
                }),
            },
        };
        match pushed {
            // Each has made something small: a message of many must not live on the allocator's reserve.
            Some(Ok(())) => check_memory().map_err(|e| self.fail(e)),
            Some(Err(e)) => Err(self.fail(e)),
            None => Err(self.fail(err!(Protocol, "attachment {number} is missing"))),
        }
    }
}

/// Pushes an object of ours.
fn adopt(lua: Lua<'_>, object: Arc<dyn Object>) -> Result<()> {
    let class = object.class();
    for info in lua.state().library.classes {
        if info.name == class && (info.adopt)(lua, object.clone())? {
            return Ok(());
        }
    }
    Err(err!(Unsupported, "{class} cannot arrive here"))
}
