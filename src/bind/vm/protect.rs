//! What Lua may refuse, since it allocates or runs Lua code: all of it under `lua_pcall`. Imports its sibling `lua`,
//! whose handle this goes on with.

use std::ffi::{c_char, c_int, c_void};

use mlua_sys as ffi;

use crate::bind::vm::depth::too_deep;
use crate::bind::vm::lua::{Kind, Lua, no_room, raised};
use crate::error::{Code, Error, Result, words};

impl<'a> Lua<'a> {
    /// Runs `job` as a C function under `lua_pcall`: it finds the topmost `args` values of the stack as its slots 1…,
    /// and the `results` topmost of its own come back.
    ///
    /// `job` may call anything of the C API. It must hold nothing that needs dropping across a call that may raise, and
    /// not panic.
    ///
    /// Where calls are nested too deeply for the C stack, it raises instead.
    #[inline]
    pub fn protect<F>(self, args: c_int, results: c_int, job: F) -> Result<()>
    where
        F: FnMut(*mut ffi::lua_State) -> c_int,
    {
        let Some(_level) = self.state().depth.descend() else { return Err(self.too_deep(args)) };
        self.protect_at_any_depth(args, results, job)
    }

    /// As [`Lua::protect`], for a job that ends soon and calls nothing of the user's.
    #[inline]
    fn protect_at_any_depth<F>(self, args: c_int, results: c_int, job: F) -> Result<()>
    where
        F: FnMut(*mut ffi::lua_State) -> c_int,
    {
        unsafe fn call<F: FnMut(*mut ffi::lua_State) -> c_int>(job: *mut c_void, l: *mut ffi::lua_State) -> c_int {
            // SAFETY: `job` points at the F in protect's frame, which waits for us.
            unsafe { (*(job as *mut F))(l) }
        }
        let mut job = job;
        let slot = &self.state().job;
        // Between this and the job a hook or a finalizer may run, and come by here with a job of its own: it puts ours
        // back.
        let before = slot.replace(Some((call::<F>, (&raw mut job).cast())));
        // SAFETY: the function and its arguments are on the stack; pcall catches whatever is raised.
        let status = unsafe {
            ffi::lua_rawgeti(self.raw(), ffi::LUA_REGISTRYINDEX, self.state().protected.get() as _);
            if args > 0 {
                ffi::lua_insert(self.raw(), -1 - args);
            }
            ffi::lua_pcall(self.raw(), args, results, 0)
        };
        slot.set(before);
        if status == ffi::LUA_OK { Ok(()) } else { Err(raised()) }
    }

    /// Calls the function below the topmost `args` values; its results replace them.
    pub fn call(self, args: c_int, results: c_int) -> Result<()> {
        let Some(_level) = self.state().depth.descend() else { return Err(self.too_deep(args + 1)) };
        // SAFETY: the function and its arguments are on the stack; pcall catches whatever is raised.
        unsafe { if ffi::lua_pcall(self.raw(), args, results, 0) == ffi::LUA_OK { Ok(()) } else { Err(raised()) } }
    }

    /// As [`Lua::call`], with the function in slot `handler` making the error value of what was raised.
    pub fn call_traced(self, args: c_int, results: c_int, handler: c_int) -> Result<()> {
        let Some(_level) = self.state().depth.descend() else { return Err(self.too_deep(args + 1)) };
        // SAFETY: as in `call`; slot `handler` holds a function.
        unsafe {
            if ffi::lua_pcall(self.raw(), args, results, handler) == ffi::LUA_OK { Ok(()) } else { Err(raised()) }
        }
    }

    /// Runs `job` as [`Lua::protect`] does, with what slot `i` holds as its slot 1; pushes one result, or the error.
    pub fn protect_with<F>(self, i: c_int, job: F) -> Result<()>
    where
        F: FnMut(*mut ffi::lua_State) -> c_int,
    {
        self.push_value(i);
        self.protect(1, 1, job)
    }

    /// Makes room for `n` more slots. There need be none free: the results of a call may have filled the stack.
    #[cfg(not(any(feature = "lua51", feature = "luajit")))]
    pub fn reserve(self, n: c_int) -> Result<()> {
        let Some(room) = with_spare(n) else { return Err(no_room(n)) };
        // SAFETY: raises nothing; out of memory it returns 0.
        if unsafe { ffi::lua_checkstack(self.raw(), room) } != 0 { Ok(()) } else { Err(no_room(n)) }
    }

    /// Makes room for `n` more slots. There need be none free but those that Lua keeps for itself.
    #[cfg(any(feature = "lua51", feature = "luajit"))]
    pub fn reserve(self, n: c_int) -> Result<()> {
        let Some(room) = with_spare(n) else { return Err(no_room(n)) };
        // It may raise when it is out of memory.
        let mut enough = 0;
        // SAFETY: in protect everything may be called. The stack that grows is the one all C functions of the state
        // share.
        self.protect(0, 0, |l| unsafe {
            enough = ffi::lua_checkstack(l, room);
            0
        })?;
        // SAFETY: as above; the room was made, so this raises nothing.
        if enough != 0 && unsafe { ffi::lua_checkstack(self.raw(), n) } != 0 { Ok(()) } else { Err(no_room(n)) }
    }

    /// Replaces the key on top by the next key and its value, or pops it and says false; the table is in slot `i`. Lua
    /// code that has run since the last key, be it a finalizer, may have changed the table: that is Lua's error.
    pub fn next(self, i: c_int) -> Result<bool> {
        self.push_value(i);
        self.insert(-2);
        // SAFETY: in protect everything may be called; slot 1 is the table, 2 the key. At the end the results are nil.
        self.protect(2, 2, |l| unsafe { if ffi::lua_next(l, 1) != 0 { 2 } else { 0 } })?;
        if self.kind(-2) != Kind::Nil {
            return Ok(true);
        }
        self.pop(2);
        Ok(false)
    }

    /// Pushes a string.
    pub fn push_bytes(self, bytes: &[u8]) -> Result<()> {
        // SAFETY: in protect everything may be called.
        self.protect(0, 1, |l| unsafe {
            ffi::lua_pushlstring(l, bytes.as_ptr() as *const c_char, bytes.len());
            1
        })
    }

    /// Pushes a string.
    pub fn push_string(self, s: &str) -> Result<()> {
        self.push_bytes(s.as_bytes())
    }

    /// Pushes a bound function (made by `lua_fn!`), with the State as its upvalue.
    pub fn push_function(self, f: ffi::lua_CFunction) -> Result<()> {
        // SAFETY: in protect everything may be called; its own first upvalue is the State.
        self.protect(0, 1, |l| unsafe {
            ffi::lua_pushvalue(l, ffi::lua_upvalueindex(1));
            ffi::lua_pushcclosure(l, f, 1);
            1
        })
    }

    /// As [`Lua::push_function`], with the topmost `count` values as its upvalues from 2 on, in place of them.
    pub fn push_closure(self, f: ffi::lua_CFunction, count: c_int) -> Result<()> {
        // SAFETY: in protect everything may be called; its own first upvalue is the State.
        self.protect(count, 1, |l| unsafe {
            ffi::lua_pushvalue(l, ffi::lua_upvalueindex(1));
            ffi::lua_insert(l, 1);
            ffi::lua_pushcclosure(l, f, count + 1);
            1
        })
    }

    /// Pushes what a method gives to a `for` loop: `step`, which begins with [`Lua::given`]; the method's slots 1 and 2
    /// are kept for it.
    pub fn push_iterator(self, step: ffi::lua_CFunction) -> Result<()> {
        self.set_top(2);
        self.push_closure(step, 2)
    }

    /// In a step of such a loop: what the method was given, in place of what the loop passes.
    pub fn given(self) {
        self.set_top(0);
        self.push_value(ffi::lua_upvalueindex(2));
        self.push_value(ffi::lua_upvalueindex(3));
    }

    /// Pushes a new table with room for `array` items and `hash` fields.
    pub fn new_table(self, array: c_int, hash: c_int) -> Result<()> {
        // SAFETY: in protect everything may be called.
        self.protect(0, 1, |l| unsafe {
            ffi::lua_createtable(l, array, hash);
            1
        })
    }

    /// Pushes a new userdata of `size` bytes.
    pub fn new_userdata(self, size: usize) -> Result<()> {
        // SAFETY: in protect everything may be called.
        self.protect(0, 1, |l| unsafe {
            ffi::lua_newuserdata(l, size);
            1
        })
    }

    /// Pushes `t[name]` of the table in slot `i`, metamethods aside.
    pub fn raw_get_field(self, i: c_int, name: &str) -> Result<Kind> {
        self.push_value(i);
        // SAFETY: in protect everything may be called; slot 1 is the table.
        self.protect(1, 1, |l| unsafe {
            ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
            ffi::lua_rawget(l, 1);
            1
        })?;
        Ok(self.kind(-1))
    }

    /// Pushes `v[name]` of the value in slot `i`, as Lua code would get it.
    pub fn get_field(self, i: c_int, name: &str) -> Result<Kind> {
        self.push_value(i);
        // SAFETY: in protect everything may be called; slot 1 is the value.
        self.protect(1, 1, |l| unsafe {
            ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
            ffi::lua_gettable(l, 1);
            1
        })?;
        Ok(self.kind(-1))
    }

    /// `t[name] = ` the value on top, which is popped; metamethods aside.
    pub fn raw_set_field(self, i: c_int, name: &str) -> Result<()> {
        let table = self.abs(i);
        self.push_value(table);
        // SAFETY: in protect everything may be called; slot 1 is the value, 2 the table.
        self.protect(2, 0, |l| unsafe {
            ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
            ffi::lua_pushvalue(l, 1);
            ffi::lua_rawset(l, 2);
            0
        })
    }

    /// `t[n] = ` the value on top, which is popped; metamethods aside.
    pub fn raw_set_index(self, i: c_int, n: i64) -> Result<()> {
        let table = self.abs(i);
        self.push_value(table);
        // SAFETY: in protect everything may be called; slot 1 is the value, 2 the table.
        self.protect(2, 0, |l| unsafe {
            ffi::lua_pushvalue(l, 1);
            ffi::lua_rawseti(l, 2, n as _);
            0
        })
    }

    /// `t[k] = v` of the table in slot `i`, with `v` on top and `k` below it, both popped; metamethods aside.
    pub fn raw_set(self, i: c_int) -> Result<()> {
        let table = self.abs(i);
        self.push_value(table);
        // SAFETY: in protect everything may be called; slots 1 and 2 are key and value, 3 the table.
        self.protect(3, 0, |l| unsafe {
            ffi::lua_insert(l, 1);
            ffi::lua_rawset(l, 1);
            0
        })
    }

    /// Makes the table on top, which is popped, the metatable of the table in slot `i`; it has no `__gc`.
    pub fn set_metatable(self, i: c_int) {
        debug_assert_eq!((self.kind(i), self.kind(-1)), (Kind::Table, Kind::Table));
        // SAFETY: without a finalizer to note down this allocates nothing.
        unsafe {
            ffi::lua_setmetatable(self.raw(), i);
        }
    }

    /// Pushes global `name`.
    pub fn get_global(self, name: &str) -> Result<Kind> {
        // SAFETY: in protect everything may be called.
        self.protect(0, 1, |l| unsafe {
            ffi::lua_pushglobaltable(l);
            ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
            ffi::lua_gettable(l, -2);
            1
        })?;
        Ok(self.kind(-1))
    }

    /// Sets global `name` to the value on top, which is popped.
    pub fn set_global(self, name: &str) -> Result<()> {
        // SAFETY: in protect everything may be called; slot 1 is the value.
        self.protect(1, 0, |l| unsafe {
            ffi::lua_pushglobaltable(l);
            ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
            ffi::lua_pushvalue(l, 1);
            ffi::lua_settable(l, -3);
            0
        })
    }

    /// Pushes the value anchored in the registry under `name`, made (pushed) by `make` at the first call in this state.
    pub fn anchored(self, name: &'static str, make: impl FnOnce(Self) -> Result<()>) -> Result<()> {
        let known = self.state().anchors.borrow().get(name).copied();
        if let Some(reference) = known {
            self.push_reference(reference);
            return Ok(());
        }
        make(self)?;
        self.push_value(-1);
        let reference = self.reference()?;
        self.state().anchors.borrow_mut().insert(name, reference);
        Ok(())
    }

    /// Loads a chunk of Lua source, pushing its function.
    pub fn load(self, name: &str, source: &str) -> Result<()> {
        let mut status = ffi::LUA_OK;
        let title = format!("={name}\0");
        // SAFETY: in protect everything may be called; title ends in a NUL.
        self.protect(0, 1, |l| unsafe {
            let (s, n) = (source.as_ptr() as *const c_char, source.len());
            status = ffi::luaL_loadbufferx(l, s, n, title.as_ptr() as *const c_char, c"t".as_ptr());
            1
        })?;
        if status == ffi::LUA_OK { Ok(()) } else { Err(raised()) }
    }

    /// Pushes `require(name)`.
    pub fn require(self, name: &str) -> Result<()> {
        self.get_global("require")?;
        self.push_string(name)?;
        self.call(1, 1)
    }

    /// Pushes the text of an error, with `file:line:` before it where Lua knows one; out of memory, Lua's own words for
    /// that.
    pub(super) fn push_error(self, e: Error) {
        self.push_error_text(words(format_args!("{}", e.at(self.place()))).as_bytes());
    }

    /// Drops `count` values from the top and pushes the error for calls that are nested too deeply.
    #[cold]
    #[inline(never)]
    fn too_deep(self, count: c_int) -> Error {
        self.pop(count);
        self.push_error(too_deep());
        raised()
    }

    /// The error `libipc [code] PLACE: headTEXT`, whose text may be of any bytes.
    pub(in crate::bind) fn failure(self, code: Code, head: &str, text: &[u8]) -> Error {
        let head = words(format_args!("libipc [{code}] {}: {head}", self.place()));
        let text = if text.is_empty() { &b"not enough memory"[..] } else { text };
        self.push_error_parts(head.as_bytes(), text);
        raised()
    }

    fn push_error_text(self, text: &[u8]) {
        self.push_error_parts(text, b"");
    }

    /// Pushes `head` and `text` as one error.
    fn push_error_parts(self, head: &[u8], text: &[u8]) {
        // Between a try and who called is a function of ours, in Lua.
        let level = if self.is_non_blocking() { 3 } else { 2 };
        // SAFETY: in protect everything may be called. Level 0 is the protected function, 1 the bound one, 2 its
        // caller.
        let _ = self.protect_at_any_depth(0, 1, |l| unsafe {
            ffi::luaL_where(l, level);
            ffi::lua_pushlstring(l, head.as_ptr() as *const c_char, head.len());
            ffi::lua_pushlstring(l, text.as_ptr() as *const c_char, text.len());
            ffi::lua_concat(l, 3);
            1
        });
    }
}

/// `n` slots and some for the call itself; Lua takes a negative number for an easy wish.
fn with_spare(n: c_int) -> Option<c_int> {
    n.checked_add(10).filter(|_| n >= 0)
}
