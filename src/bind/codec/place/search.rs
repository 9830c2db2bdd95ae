//! The search for a place, through all loaded modules.
//!
//! Everything here runs inside `Lua::protect`, as in `encode`. The best place so far lies on the Lua stack, as names.

use std::ffi::{CStr, c_int};

use mlua_sys as ffi;

use super::ROOM;
use crate::bind::codec::function::push_loaded;
use crate::bind::codec::string_at;
use crate::bind::vm::{State, no_room};
use crate::error::{Error, Result};
use crate::wire::Encoder;

/// How far a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bind::codec) enum Reach {
    /// Loaded modules themselves.
    Modules,
    /// All places.
    All,
}

/// The best place so far of the value in slot `target`. The names of module and fields lie in the slots after `base`.
struct Search {
    l: *mut ffi::lua_State,
    target: c_int,
    /// Of `package.loaded`.
    loaded: c_int,
    base: c_int,
    steps: c_int,
    upvalue: c_int,
    found: bool,
}

impl Search {
    /// The place whose names are in slots `names`, of which there are `steps` and the module's, is one: is it the first
    /// by name?
    unsafe fn candidate(&mut self, names: [c_int; 3], steps: c_int, upvalue: c_int) {
        // SAFETY: as the module says; all slots are there and hold strings.
        unsafe {
            let used = 1 + steps as usize;
            if self.found {
                let name = |slot| string_at(self.l, slot);
                let new = names[..used].iter().map(|slot| name(*slot));
                let old = (1..=used as c_int).map(|n| name(self.base + n));
                if new.cmp(old).then(upvalue.cmp(&self.upvalue)).is_ge() {
                    return;
                }
            }
            self.found = true;
            (self.steps, self.upvalue) = (steps, upvalue);
            for (n, slot) in (1..).zip(&names[..used]) {
                ffi::lua_pushvalue(self.l, *slot);
                ffi::lua_replace(self.l, self.base + n);
            }
        }
    }

    /// Calls `look` with the slots of each string key and its value in the table in slot `t`.
    unsafe fn each(&mut self, t: c_int, mut look: impl FnMut(&mut Search, c_int, c_int)) {
        // SAFETY: as the module says; `look` leaves the stack as it was.
        unsafe {
            let key = ffi::lua_gettop(self.l) + 1;
            ffi::lua_pushnil(self.l);
            while ffi::lua_next(self.l, t) != 0 {
                if ffi::lua_type(self.l, key) == ffi::LUA_TSTRING {
                    look(self, key, key + 1);
                }
                ffi::lua_settop(self.l, key);
            }
        }
    }

    unsafe fn is_target(&self, slot: c_int) -> bool {
        // SAFETY: as the module says.
        unsafe { ffi::lua_rawequal(self.l, slot, self.target) != 0 }
    }

    /// Looks at places of one kind, in the globals or in all other modules.
    unsafe fn look(&mut self, kind: HolderKind, globals: bool) {
        // SAFETY: as the module says.
        unsafe {
            self.each(self.loaded, |search, module, value| {
                if (string_at(search.l, module) == b"_G") != globals {
                    return;
                }
                match kind {
                    HolderKind::Module if search.is_target(value) => search.candidate([module, 0, 0], 0, 0),
                    HolderKind::Module => {}
                    HolderKind::Upvalue if ffi::lua_type(search.l, value) == ffi::LUA_TFUNCTION => {
                        search.upvalues(value, [module, 0, 0], 0);
                    }
                    _ if ffi::lua_type(search.l, value) == ffi::LUA_TTABLE => search.fields(kind, module, value),
                    _ => {}
                }
            });
        }
    }

    /// Looks at the fields of the module in slot `t`, which is called as slot `module` says.
    unsafe fn fields(&mut self, kind: HolderKind, module: c_int, t: c_int) {
        // SAFETY: as the module says.
        unsafe {
            self.each(t, |search, key, value| match (kind, ffi::lua_type(search.l, value)) {
                (HolderKind::Field, _) if search.is_target(value) => search.candidate([module, key, 0], 1, 0),
                (HolderKind::Nested, ffi::LUA_TTABLE) if !search.is_everything(value) => {
                    search.each(value, |search, nested, value| {
                        if search.is_target(value) {
                            search.candidate([module, key, nested], 2, 0);
                        }
                    });
                }
                (HolderKind::Upvalue, ffi::LUA_TFUNCTION) => search.upvalues(value, [module, key, 0], 1),
                _ => {}
            });
        }
    }

    /// Looks at the upvalues of the function in slot `f`, to which `names` lead.
    unsafe fn upvalues(&mut self, f: c_int, names: [c_int; 3], steps: c_int) {
        // SAFETY: as the module says.
        unsafe {
            if ffi::lua_iscfunction(self.l, f) != 0 {
                return;
            }
            for n in 1.. {
                if ffi::lua_getupvalue(self.l, f, n).is_null() {
                    break;
                }
                let found = self.is_target(ffi::lua_gettop(self.l));
                ffi::lua_settop(self.l, -2);
                if found {
                    self.candidate(names, steps, n);
                }
            }
        }
    }

    /// Whether the table in slot `i` is `package.loaded` or the globals, whose fields are modules themselves.
    unsafe fn is_everything(&self, i: c_int) -> bool {
        // SAFETY: as the module says; the slot of the globals follows that of `package.loaded`.
        unsafe { ffi::lua_rawequal(self.l, i, self.loaded) != 0 || ffi::lua_rawequal(self.l, i, self.loaded + 1) != 0 }
    }
}

/// Kinds of places, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HolderKind {
    Module,
    Field,
    Nested,
    Upvalue,
}

/// Looks for the value in slot `target`, and writes its place to `place`, as a message has it, after a prelude. False
/// without one.
pub(super) unsafe fn search(
    l: *mut ffi::lua_State,
    state: &State,
    target: c_int,
    reach: Reach,
    place: &mut Vec<u8>,
) -> Result<bool> {
    // SAFETY: as the module says.
    unsafe {
        let top = ffi::lua_gettop(l);
        if ffi::lua_checkstack(l, ROOM) == 0 {
            return Err(no_room(ROOM));
        }
        push_loaded(l);
        ffi::lua_rawgeti(l, ffi::LUA_REGISTRYINDEX, state.globals.get() as _);
        let loaded = top + 1;
        let base = loaded + 1;
        ffi::lua_settop(l, base + 3);
        let mut search = Search { l, target, loaded, base, steps: 0, upvalue: 0, found: false };
        if ffi::lua_type(l, loaded) == ffi::LUA_TTABLE {
            let kinds: &[HolderKind] = match reach {
                Reach::Modules => &[HolderKind::Module],
                Reach::All => &[HolderKind::Module, HolderKind::Field, HolderKind::Nested, HolderKind::Upvalue],
            };
            for (globals, kind) in
                [false, true].into_iter().flat_map(|globals| kinds.iter().map(move |k| (globals, *k)))
            {
                if !search.found {
                    search.look(kind, globals);
                }
            }
        }
        let found = search.found;
        let written = if found { write(&search, place) } else { Ok(()) };
        ffi::lua_settop(l, top);
        written.map(|()| found)
    }
}

/// Writes what was found. Nothing here raises: what goes to the stack is there already, or is an upvalue.
unsafe fn write(search: &Search, place: &mut Vec<u8>) -> Result<()> {
    // SAFETY: as the module says.
    unsafe {
        let (l, base) = (search.l, search.base);
        place.clear();
        let mut out = Encoder::new(place);
        let mut whole = out.string(string_at(l, base + 1));
        let steps = out.open_table();
        for n in 1..=search.steps {
            whole &= out.string(string_at(l, base + 1 + n));
        }
        let mut count = search.steps as u32;
        if search.upvalue > 0 {
            push_function_of(search);
            let name = ffi::lua_getupvalue(l, -1, search.upvalue);
            let name = if name.is_null() { b"" } else { CStr::from_ptr(name).to_bytes() };
            let step = out.open_table();
            out.integer(search.upvalue.into());
            whole &= out.string(name);
            out.close_array(step, 2);
            count += 1;
        }
        out.close_array(steps, count);
        if whole && !out.out_of_memory() { Ok(()) } else { Err(Error::no_memory()) }
    }
}

/// Pushes the function whose upvalue was found.
unsafe fn push_function_of(search: &Search) {
    // SAFETY: as the module says: raw reads of tables that were read before.
    unsafe {
        ffi::lua_pushvalue(search.l, search.base + 1);
        ffi::lua_rawget(search.l, search.loaded);
        if search.steps > 0 {
            ffi::lua_pushvalue(search.l, search.base + 2);
            ffi::lua_rawget(search.l, -2);
        }
    }
}
