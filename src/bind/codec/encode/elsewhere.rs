//! Tables that travel by the place where they are found: modules, classes, and metatables without a name.
//!
//! A table with a function in it may be a module or a class, which is only known when the function is met, or when
//! something else in it cannot travel. What was written of the table until then is taken back.
//!
//! Every function here that takes a raw state runs inside `Lua::protect`: Lua may raise, and the frame must then hold
//! nothing to drop.

use std::ffi::c_int;

use mlua_sys as ffi;

use super::{EncodeWalk, Failure, string_at, too_long};
use crate::bind::codec::place::{self, Filter, Reach};
use crate::bind::codec::{Go, Stop};
use crate::err;
use crate::sys::try_push;
use crate::wire::ext;

/// How far a walk was at the beginning of a table.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    position: usize,
    attachments: usize,
    objects: u32,
    cells: u32,
    depth: usize,
    /// The top of the Lua stack.
    pub(super) top: c_int,
}

impl EncodeWalk<'_> {
    /// Where the walk is; the table's own number is given already.
    #[inline]
    pub(super) fn mark(&self, top: c_int) -> Mark {
        Mark {
            position: self.out.position(),
            attachments: self.attachments.len(),
            objects: self.objects.count(),
            cells: self.cells.count(),
            depth: self.depth,
            top,
        }
    }

    /// Takes back what was written since.
    fn go_back(&mut self, mark: Mark) {
        self.out.take_back(mark.position);
        self.attachments.truncate(mark.attachments);
        self.objects.keep(mark.objects);
        self.cells.keep(mark.cells);
        self.places.retain(|number| *number < mark.objects);
        self.depth = mark.depth;
        self.path.clear();
    }

    /// Whether tables with the metatable in slot `i` travel without it.
    pub(super) unsafe fn drops(&self, l: *mut ffi::lua_State, i: c_int) -> bool {
        // SAFETY: as the module says.
        unsafe { place::is_dropped(l, self.lua.state(), i) }
    }

    /// Pushes the place of the table in slot `t`, if it has one within `reach`.
    unsafe fn push_place(&mut self, l: *mut ffi::lua_State, t: c_int, reach: Reach) -> std::result::Result<bool, Stop> {
        let state = self.lua.state();
        // SAFETY: as the module says. Bytecode is written between two uses of its buffer, not during one.
        unsafe { place::push(l, state, t, reach, &mut self.code) }.map_err(|e| self.fail(e))
    }

    /// Pushes the place of the table in slot `t` if it is a module, or a class: what has an `__index`.
    unsafe fn push_place_of_code(&mut self, l: *mut ffi::lua_State, t: c_int) -> std::result::Result<bool, Stop> {
        // SAFETY: as the module says.
        unsafe {
            let modules = match self.modules {
                Some(modules) => modules,
                None => *self.modules.insert(Filter::of_loaded(l)),
            };
            if modules.may_have(ffi::lua_topointer(l, t).addr()) && self.push_place(l, t, Reach::Modules)? {
                return Ok(true);
            }
            ffi::lua_pushlstring(l, c"__index".as_ptr(), 7);
            ffi::lua_rawget(l, t);
            let is_class = ffi::lua_type(l, -1) != ffi::LUA_TNIL;
            ffi::lua_settop(l, -2);
            Ok(is_class && self.push_place(l, t, Reach::All)?)
        }
    }

    /// There is a function in the table in slot `t`: stops the walk, with the place on top, if it is a module or a
    /// class.
    #[cold]
    pub(super) unsafe fn stop_at_place(&mut self, l: *mut ffi::lua_State, t: c_int) -> Go {
        if self.bare {
            return Err(Stop);
        }
        // SAFETY: as the module says.
        if !self.route.peer && unsafe { self.push_place_of_code(l, t)? } {
            self.has_place = true;
            return Err(Stop);
        }
        Ok(())
    }

    /// The walk through the table in slot `t` has stopped: goes on if it has a place, which may lie on top.
    #[cold]
    pub(super) unsafe fn elsewhere(&mut self, l: *mut ffi::lua_State, t: c_int, mark: Mark) -> Go {
        // SAFETY: as the module says.
        unsafe {
            if !std::mem::take(&mut self.has_place) {
                // Something in it cannot travel.
                if self.bare || self.route.peer || !matches!(self.failure, Some(Failure::Ours(_))) {
                    return Err(Stop);
                }
                ffi::lua_settop(l, mark.top);
                if !self.push_place_of_code(l, t)? {
                    return Err(Stop);
                }
                self.failure = None;
            }
            self.go_back(mark);
            self.write_place(l, mark.objects - 1)?;
            ffi::lua_settop(l, mark.top);
            Ok(())
        }
    }

    /// Writes the place on top, which is object `number`, and pops it.
    unsafe fn write_place(&mut self, l: *mut ffi::lua_State, number: u32) -> Go {
        // SAFETY: as the module says.
        unsafe {
            self.has_names = true;
            let place = string_at(l, -1);
            // It has a prelude of its own.
            if !self.out.extension(ext::FOUND, place.get(1..).unwrap_or_default()) {
                return Err(self.refused(too_long));
            }
            ffi::lua_settop(l, -2);
            try_push(&mut self.places, number).map_err(|e| self.fail(e))
        }
    }

    /// The table in slot `t`, whose metatable, in slot `metatable` and on top, has no name.
    #[inline(never)]
    pub(super) unsafe fn nameless(&mut self, l: *mut ffi::lua_State, t: c_int, metatable: c_int) -> Go {
        // SAFETY: as the module says.
        unsafe {
            let number = self.objects.count() - 1;
            if !self.route.peer {
                if self.push_place_of_code(l, t)? || place::push_known(l, self.lua.state(), t) {
                    self.write_place(l, number)?;
                    ffi::lua_settop(l, metatable - 1);
                    return Ok(());
                }
                let before = self.objects.find(ffi::lua_topointer(l, metatable).addr());
                if before.is_some_and(|number| self.places.contains(&number)) {
                    // In place of its place, which is in the message already.
                    ffi::lua_pushnil(l);
                    return self.instance(l, t, metatable);
                }
                if self.push_place(l, metatable, Reach::All)? {
                    return self.instance(l, t, metatable);
                }
                if self.push_place(l, t, Reach::All)? {
                    self.write_place(l, number)?;
                    ffi::lua_settop(l, metatable - 1);
                    return Ok(());
                }
            }
            match place::drops_all() {
                Ok(true) => {
                    // Looked for once: from now on it is known to have none.
                    place::set_dropped(l, self.lua.state(), metatable, true);
                    ffi::lua_settop(l, metatable - 1);
                    self.plain(l, t)
                }
                Ok(false) if self.route.peer => Err(self.fail(err!(
                    Unsupported,
                    "a table with a metatable that has no name cannot travel here: give it one with ipc.register(name, \
                     metatable), or let it travel without by ipc.register(false, metatable) (IPC_METATABLES=drop: all \
                     such)"
                ))),
                Ok(false) => Err(self.fail(err!(
                    Unsupported,
                    "a table with a metatable that has no name and is in no loaded module cannot travel: give it a \
                     name with ipc.register(name, metatable), or let it travel without by ipc.register(false, \
                     metatable) (IPC_METATABLES=drop: all such)"
                ))),
                Err(e) => Err(self.fail(e)),
            }
        }
    }

    /// The table in slot `t`, whose metatable is in slot `metatable` and has the place on top.
    unsafe fn instance(&mut self, l: *mut ffi::lua_State, t: c_int, metatable: c_int) -> Go {
        // SAFETY: as the module says.
        unsafe {
            self.enter(l)?;
            let class = self.out.open_ext(ext::OF_FOUND);
            self.fields(l, t, metatable + 1, true)?;
            let before = match self.objects.number(ffi::lua_topointer(l, metatable).addr()) {
                Ok(before) => before,
                Err(e) => return Err(self.fail(e.into())),
            };
            match before {
                Some(number) if self.places.contains(&number) => {
                    self.out.flag(ext::HAS_REFS);
                    self.out.numbered(ext::REF, number);
                }
                before => {
                    // It may have been written as a table like any other: here it is another object.
                    if before.is_some() {
                        self.objects.skip();
                    }
                    self.write_place(l, self.objects.count() - 1)?;
                }
            }
            if !self.out.close_ext(class) {
                return Err(self.refused(too_long));
            }
            self.leave();
            ffi::lua_settop(l, metatable - 1);
            Ok(())
        }
    }
}
