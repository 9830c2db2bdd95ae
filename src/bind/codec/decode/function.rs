//! Functions that arrive: as bytecode with upvalues, or by name; and modules, by name. The other way is `function`
//! beside `decode`, whose list of names this shares.
//!
//! Every function here that takes a raw state runs inside `Lua::protect`: Lua may raise, and the frame must then hold
//! nothing to drop.

use std::ffi::{c_char, c_int};

use mlua_sys as ffi;

use super::DecodeWalk;
use crate::bind::codec::place::{self, Words};
#[cfg(not(feature = "lua51"))]
use crate::bind::codec::upvalue_join;
use crate::bind::codec::{Go, Stop, VM, function, string_at, vm_name};
use crate::bind::vm::raised;
use crate::err;
use crate::error::{Lossy, Name};
use crate::sys::try_push;
use crate::text;
use crate::wire::{Token, ext};

/// So many bytes of what Lua says of a call that a message asked for are told on.
const MOST_TEXT: usize = 4 << 10;

/// Names of modules that are longer are none.
const LONGEST_NAME: usize = 1000;

impl DecodeWalk<'_> {
    /// Pushes a function: bytecode and upvalues.
    pub(super) unsafe fn function(&mut self, l: *mut ffi::lua_State) -> Go {
        // SAFETY: as the module says.
        unsafe {
            if !self.route.functions {
                return Err(self.fail(err!(
                    Unsupported,
                    "a Lua function arrived, which was not asked for (functions = true): bytecode is code"
                )));
            }
            let Token::Integer(vm) = self.token()? else { return Err(self.malformed("function")) };
            if vm != VM {
                let (theirs, ours) = (vm_name(vm), vm_name(VM));
                return Err(self.fail(err!(Unsupported, "a function compiled by {theirs} arrived, but this is {ours}")));
            }
            let Token::Binary(code) = self.token()? else { return Err(self.malformed("function")) };
            let p = code.as_ptr() as *const c_char;
            let loaded = ffi::luaL_loadbufferx(l, p, code.len(), c"=bytecode".as_ptr(), c"b".as_ptr());
            if loaded != ffi::LUA_OK {
                return Err(self.failed(l, loaded, "a function arrived that this Lua does not load"));
            }
            let slot = ffi::lua_gettop(l);
            let number = self.count;
            self.remember(l);
            let Token::Array(upvalues) = self.token()? else { return Err(self.malformed("function")) };
            for n in 1..=upvalues as c_int {
                self.upvalue(l, slot, number, n)?;
            }
            Ok(())
        }
    }

    /// Ends the walk after a call that the message asked for failed with what lies on top: that is the message's fault,
    /// but for what would have come to any call here, which is raised as it is: no memory, Ctrl-C, a cancel.
    unsafe fn failed(&mut self, l: *mut ffi::lua_State, status: c_int, what: &str) -> Stop {
        // SAFETY: as the module says.
        let text = unsafe { string_at(l, -1) };
        let from_outside = |text: &[u8]| text.ends_with(b"interrupted!") || text.starts_with(b"libipc [cancelled]");
        let of_the_call = status == ffi::LUA_ERRRUN || status == ffi::LUA_ERRSYNTAX;
        if !self.route.peer || !of_the_call || from_outside(text) {
            return self.fail(raised());
        }
        let text = &text[..text.len().min(MOST_TEXT)];
        self.fail(err!(Unsupported, "{what}: {}", Lossy(text)))
    }

    /// Sets upvalue `n` of function `number` in `slot`.
    unsafe fn upvalue(&mut self, l: *mut ffi::lua_State, slot: c_int, number: u32, n: c_int) -> Go {
        // SAFETY: as the module says.
        unsafe {
            let here = self.bytes.clone();
            if let Token::Extension(ext::CELL, length) = self.token()? {
                let cell = self.numbered(length)? as usize;
                let Some(&(other, m)) = self.cells.get(cell) else { return Err(self.malformed("shared upvalue")) };
                return self.join(l, slot, n, other, m);
            }
            self.bytes = here;
            if let Err(e) = try_push(&mut self.cells, (number, n)) {
                return Err(self.fail(e));
            }
            self.value(l)?;
            // Replaced even if it is `_ENV`, which loading has set: the sender's order counts.
            if ffi::lua_setupvalue(l, slot, n).is_null() {
                return Err(self.malformed("function"));
            }
            Ok(())
        }
    }

    /// Makes upvalue `n` of the function in `slot` the same variable as upvalue `m` of function `other`.
    #[cfg_attr(feature = "lua51", allow(unused_variables))]
    unsafe fn join(&mut self, l: *mut ffi::lua_State, slot: c_int, n: c_int, other: u32, m: c_int) -> Go {
        #[cfg(not(feature = "lua51"))]
        // SAFETY: both functions are Lua functions made here, and their upvalues are checked to exist.
        unsafe {
            ffi::lua_rawgeti(l, self.objects, (other + 1) as _);
            let there = ffi::lua_gettop(l);
            for (function, index) in [(slot, n), (there, m)] {
                if ffi::lua_getupvalue(l, function, index).is_null() {
                    return Err(self.malformed("shared upvalue"));
                }
            }
            upvalue_join(l, slot, n, there, m);
            ffi::lua_settop(l, there - 1);
            Ok(())
        }
        #[cfg(feature = "lua51")]
        Err(self.fail(err!(Unsupported, "closures that share an upvalue arrived, which Lua 5.1 cannot make")))
    }

    /// Pushes a module or a function of it.
    pub(super) unsafe fn name(&mut self, l: *mut ffi::lua_State) -> Go {
        // SAFETY: as the module says.
        unsafe {
            let Token::String(module) = self.token()? else { return Err(self.malformed("name")) };
            let field = match self.token()? {
                Token::String(field) => Some(field),
                Token::Nil => None,
                _ => return Err(self.malformed("name")),
            };
            if !self.route.functions {
                let module = Name(module);
                let what = match field {
                    Some(field) => text!("function {module}.{}", Name(field)),
                    None => text!("module '{module}'"),
                };
                return Err(self.fail(err!(
                    Unsupported,
                    "{what} arrived by name, which was not asked for (functions = true): a name stands for code"
                )));
            }
            self.module(l, module)?;
            let Some(field) = field else { return Ok(()) };
            if ffi::lua_type(l, -1) == ffi::LUA_TTABLE {
                ffi::lua_pushlstring(l, field.as_ptr() as *const c_char, field.len());
                ffi::lua_rawget(l, -2);
                ffi::lua_replace(l, -2);
            }
            if ffi::lua_type(l, -1) != ffi::LUA_TFUNCTION {
                let (module, field) = (Name(module), Name(field));
                return Err(self.fail(err!(
                    Unsupported,
                    "function {module}.{field} arrived by name, but this Lua has none of that name"
                )));
            }
            Ok(())
        }
    }

    /// Pushes a module: what is loaded as it is, `_G` among it; anything else is required.
    unsafe fn module(&mut self, l: *mut ffi::lua_State, name: &[u8]) -> Go {
        if name.len() > LONGEST_NAME {
            // It would stand many times in Lua's words of where it looked.
            return Err(self.fail(err!(
                Unsupported,
                "module '{}' arrived by name, which is too long for one",
                Name(name)
            )));
        }
        // SAFETY: as the module says.
        unsafe {
            function::push_loaded(l);
            ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
            ffi::lua_pushvalue(l, -1);
            ffi::lua_rawget(l, -3);
            if ffi::lua_type(l, -1) == ffi::LUA_TNIL {
                ffi::lua_getglobal(l, c"require".as_ptr());
                ffi::lua_pushvalue(l, -3);
                let status = ffi::lua_pcall(l, 1, 1, 0);
                if status != ffi::LUA_OK {
                    return Err(self.failed(l, status, "a module arrived by name that this Lua does not load"));
                }
                ffi::lua_replace(l, -2);
            }
            // Fields are read raw. A module that is made at its first use is made now.
            if ffi::luaL_getmetafield(l, -1, c"__fill".as_ptr()) != 0 {
                ffi::lua_pushvalue(l, -2);
                ffi::lua_call(l, 1, 0);
            }
            ffi::lua_replace(l, -3);
            ffi::lua_settop(l, -2);
            Ok(())
        }
    }

    /// Pushes the metatable, class or module at a place.
    pub(super) unsafe fn place(&mut self, l: *mut ffi::lua_State) -> Go {
        // SAFETY: as the module says.
        unsafe {
            let words = Words(self.bytes.clone());
            let Token::String(module) = self.token()? else { return Err(self.malformed("place")) };
            if !self.route.functions {
                return Err(self.fail(err!(
                    Unsupported,
                    "{words} arrived by name, which was not asked for (functions = true): a name stands for code"
                )));
            }
            self.module(l, module)?;
            let there = place::follow(l, &mut self.bytes).map_err(|e| self.fail(e))?;
            if !there || ffi::lua_type(l, -1) != ffi::LUA_TTABLE {
                return Err(self.fail(err!(
                    Unsupported,
                    "{words}, the class or module of a value, arrived by name, but this Lua has no table there: define \
                     it in a module, or in the init of this thread, or name it with ipc.register"
                )));
            }
            Ok(())
        }
    }
}
