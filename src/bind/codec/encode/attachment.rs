//! Attachments that leave: tensors, storages, objects of ours and userdata of other libraries; and LuaJIT's boxed
//! integers.
//!
//! Every function here that takes a raw state runs inside `Lua::protect`: Lua may raise, and the frame must then hold
//! nothing to drop.

use std::ffi::c_int;

use mlua_sys as ffi;

use super::{EncodeWalk, string_at};
use crate::bind::codec::Go;
use crate::bind::codec::class;
use crate::bind::vm::attachment_at;
use crate::err;
use crate::error::{Error, Name};
use crate::sys::check_memory;
use crate::wire::{Attachment, ext};

impl EncodeWalk<'_> {
    pub(super) unsafe fn userdata(&mut self, l: *mut ffi::lua_State, i: c_int) -> Go {
        // SAFETY: as the module says; the Lua handle serves the protected frame as well, since it names the same state.
        unsafe {
            if self.seen(l, i)? {
                return Ok(());
            }
            let lua = self.lua;
            let attachment = match lua.class_info(i) {
                Some(info) => match attachment_at(lua, i, info) {
                    Some(Attachment::Object(_)) if self.route.peer => {
                        return Err(self.fail(err!(Unsupported, "{} cannot leave its process", info.name)));
                    }
                    Some(attachment) => attachment,
                    None => {
                        return Err(self.fail(err!(
                            Unsupported,
                            "{} cannot travel: make it where it is used",
                            lua.describe(i)
                        )));
                    }
                },
                None => return self.foreign(l, i),
            };
            self.attach(attachment)
        }
    }

    fn attach(&mut self, attachment: Attachment) -> Go {
        // Handles are small: a call that attaches many must not live on the allocator's reserve.
        if let Err(e) = self.attachments.try_reserve(1).map_err(Error::from).and_then(|()| check_memory()) {
            return Err(self.fail(e));
        }
        self.out.numbered(ext::ATTACHMENT, self.attachments.len() as u32);
        self.attachments.push(attachment);
        Ok(())
    }

    /// A userdata of another library: by pointer, if it lends itself.
    unsafe fn foreign(&mut self, l: *mut ffi::lua_State, i: c_int) -> Go {
        // SAFETY: as the module says.
        unsafe {
            let top = ffi::lua_gettop(l);
            if !class::push_lender(l, i) {
                let name = class::userdata_name(l, i);
                return Err(self.fail(err!(
                    Unsupported,
                    "{name} cannot travel: send what it is made of (a name, a path, numbers) and make it there, or \
                     give its class the methods metatablename and retain"
                )));
            }
            if self.route.peer {
                let name = Name(string_at(l, -1));
                return Err(self.fail(err!(Unsupported, "userdata {name} cannot leave its process")));
            }
            // Stack: the method retain, the class's name. Nothing of Rust's is held while Lua code runs.
            ffi::lua_pushvalue(l, -2);
            ffi::lua_pushvalue(l, i);
            ffi::lua_call(l, 1, 0);
            class::reclaim(l, ffi::lua_gettop(l));
            let pointer = *(ffi::lua_touserdata(l, i) as *const usize);
            let lent = class::lend(string_at(l, -1), pointer);
            ffi::lua_settop(l, top);
            self.attach(Attachment::Foreign(lent))
        }
    }

    #[cfg(feature = "luajit")]
    pub(super) unsafe fn cdata(&mut self, l: *mut ffi::lua_State, i: c_int) -> Go {
        debug_assert!(std::ptr::eq(l, self.lua.raw()));
        match crate::bind::vm::cdata::read(self.lua, i) {
            Ok(Some((true, bits))) => self.out.boxed(ext::INT64, bits),
            Ok(Some((false, bits))) => self.out.boxed(ext::UINT64, bits),
            Ok(None) => return Err(self.fail(err!(Unsupported, "cdata other than int64_t and uint64_t cannot travel"))),
            Err(e) => return Err(self.fail_with(e)),
        }
        Ok(())
    }

    #[cfg(not(feature = "luajit"))]
    pub(super) unsafe fn cdata(&mut self, _: *mut ffi::lua_State, _: c_int) -> Go {
        Err(self.fail_with(err!(Unsupported, "a value of an unknown type cannot travel")))
    }
}
