//! Metatables by name: which table or userdata belongs to which class, in this Lua state and across states.
//!
//! A class is registered as Torch's `luaT` does it: `registry[name] = metatable` and `registry[metatable] = name`;
//! `torch.class` and `ipc.register` both end here. A metatable may instead answer `metatablename()` itself. Userdata of
//! other libraries that also answer `retain()` are lent by pointer between threads of a process.

use std::collections::HashMap;
use std::ffi::{c_char, c_int};
use std::sync::Arc;

use mlua_sys as ffi;

use super::{set_dropped, string_at};
use crate::bind::vm::{Kind, Lua, Method, Pushed};
use crate::err;
use crate::error::{Name, Result};
use crate::lua_fn;
use crate::sys::{Lock, SetOnce};
use crate::text;
use crate::wire::Foreign;

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[("register", lua_fn!("ipc.register", register))];

/// `ipc.register(name, metatable, [{peers = true}])`: tables with that metatable travel, and arrive with whatever
/// metatable the receiver registered under the name; with `peers` also where it has finalizers. `false` for a name:
/// they travel without it. Returns the metatable.
pub(in crate::bind) fn register(lua: Lua<'_>) -> Result<Pushed> {
    let name = match lua.kind(1) {
        Kind::Boolean if !lua.truth(1) => None,
        _ => match lua.bytes(1)? {
            b"" => return Err(lua.bad_value(1, "expected a name, got ''")),
            name => Some(name),
        },
    };
    lua.check(2, Kind::Table)?;
    let options = lua.options(3, &["peers"])?;
    let peers = options.boolean("peers")?;
    let Some(name) = name else {
        if options.given() {
            return Err(lua.bad_value(3, "there are no options for a metatable that stays behind"));
        }
        drop_metatable(lua, true)?;
        return Ok(1);
    };
    let mut taken = false;
    lua.push_value(1);
    lua.push_value(2);
    // SAFETY: in protect everything may be called; slots 1 and 2 are the name and the metatable.
    lua.protect(2, 0, |l| unsafe {
        ffi::lua_pushvalue(l, 1);
        ffi::lua_rawget(l, ffi::LUA_REGISTRYINDEX);
        taken = ffi::lua_type(l, -1) != ffi::LUA_TNIL && ffi::lua_rawequal(l, -1, 2) == 0;
        if !taken {
            ffi::lua_pushvalue(l, 1);
            ffi::lua_pushvalue(l, 2);
            ffi::lua_rawset(l, ffi::LUA_REGISTRYINDEX);
            ffi::lua_pushvalue(l, 2);
            ffi::lua_pushvalue(l, 1);
            ffi::lua_rawset(l, ffi::LUA_REGISTRYINDEX);
        }
        0
    })?;
    if taken {
        let name = Name(name);
        return Err(lua.bad_value(1, format_args!("the name '{name}' is registered for something else")));
    }
    drop_metatable(lua, false)?;
    lua.pop(1);
    if let Some(peers) = peers {
        lua.anchored(FOR_PEERS, |lua| lua.new_table(0, 0))?;
        lua.push_value(2);
        lua.push_boolean(peers);
        lua.raw_set(-3)?;
    }
    lua.push_value(2);
    Ok(1)
}

/// Has tables with the metatable in slot 2 travel without it, or with it again; pushes it.
fn drop_metatable(lua: Lua<'_>, dropped: bool) -> Result<()> {
    // SAFETY: in protect everything may be called; slot 1 is the metatable.
    lua.protect_with(2, |l| unsafe {
        set_dropped(l, lua.state(), 1, dropped);
        1
    })
}

/// The anchor of a table of metatables: true for those that peers may put on tables whatever they have.
const FOR_PEERS: &str = "classes for peers";

// What follows runs inside `Lua::protect`: Lua may raise, and no frame holds anything to drop across a call that may.

/// Pushes the method `name` of the metatable on top: a field of its own, or of its `__index` table. False (and nothing
/// pushed) without.
unsafe fn push_method(l: *mut ffi::lua_State, name: &std::ffi::CStr) -> bool {
    // SAFETY: as said above; raw reads only.
    unsafe {
        let top = ffi::lua_gettop(l);
        let rawget = |name: &std::ffi::CStr| {
            ffi::lua_pushlstring(l, name.as_ptr(), name.count_bytes());
            ffi::lua_rawget(l, -2);
            ffi::lua_type(l, -1)
        };
        if rawget(name) == ffi::LUA_TFUNCTION {
            return true;
        }
        ffi::lua_settop(l, top);
        if rawget(c"__index") == ffi::LUA_TTABLE && rawget(name) == ffi::LUA_TFUNCTION {
            ffi::lua_replace(l, top + 1);
            ffi::lua_settop(l, top + 1);
            return true;
        }
        ffi::lua_settop(l, top);
        false
    }
}

/// Pushes the name of the class of the value in slot `i`, which has a metatable; false (and nothing pushed) without
/// one.
pub(super) unsafe fn push_name(l: *mut ffi::lua_State, i: c_int) -> bool {
    // SAFETY: as said above.
    unsafe {
        let top = ffi::lua_gettop(l);
        if ffi::lua_getmetatable(l, i) == 0 {
            return false;
        }
        ffi::lua_pushvalue(l, top + 1);
        ffi::lua_rawget(l, ffi::LUA_REGISTRYINDEX);
        if ffi::lua_type(l, -1) == ffi::LUA_TSTRING {
            ffi::lua_pushvalue(l, -1);
            ffi::lua_rawget(l, ffi::LUA_REGISTRYINDEX);
            if ffi::lua_rawequal(l, -1, top + 1) != 0 {
                ffi::lua_settop(l, top + 2);
                ffi::lua_replace(l, top + 1);
                return true;
            }
        }
        ffi::lua_settop(l, top + 1);
        if push_method(l, c"metatablename") {
            ffi::lua_pushvalue(l, i);
            ffi::lua_call(l, 1, 1);
            if ffi::lua_type(l, -1) == ffi::LUA_TSTRING {
                ffi::lua_replace(l, top + 1);
                ffi::lua_settop(l, top + 1);
                return true;
            }
        }
        ffi::lua_settop(l, top);
        false
    }
}

/// Pushes the method `retain` and the class's name of the userdata in slot `i`, if it lends itself; false (and nothing
/// pushed) if not.
pub(super) unsafe fn push_lender(l: *mut ffi::lua_State, i: c_int) -> bool {
    // SAFETY: as said above.
    unsafe {
        let top = ffi::lua_gettop(l);
        if (ffi::lua_rawlen(l, i) as usize) < size_of::<usize>() || ffi::lua_getmetatable(l, i) == 0 {
            return false;
        }
        if push_method(l, c"metatablename")
            && {
                ffi::lua_settop(l, top + 1);
                push_method(l, c"retain")
            }
            && push_name(l, i)
        {
            ffi::lua_remove(l, top + 1);
            return true;
        }
        ffi::lua_settop(l, top);
        false
    }
}

/// Pushes the metatable that this state has under `name`; false (and nothing pushed) if it has none.
pub(in crate::bind) unsafe fn push_metatable(l: *mut ffi::lua_State, name: &[u8]) -> bool {
    // SAFETY: as said above.
    unsafe {
        let top = ffi::lua_gettop(l);
        ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
        ffi::lua_pushvalue(l, -1);
        ffi::lua_rawget(l, ffi::LUA_REGISTRYINDEX);
        if ffi::lua_type(l, -1) == ffi::LUA_TTABLE {
            // The registry holds other tables too (files, loaded modules): only what was registered as a class counts.
            ffi::lua_pushvalue(l, -1);
            ffi::lua_rawget(l, ffi::LUA_REGISTRYINDEX);
            let registered = ffi::lua_rawequal(l, -1, top + 1) != 0;
            ffi::lua_settop(l, top + 2);
            if registered || push_method(l, c"metatablename") {
                ffi::lua_settop(l, top + 2);
                ffi::lua_replace(l, top + 1);
                return true;
            }
        }
        ffi::lua_settop(l, top);
        false
    }
}

/// The field for which the metatable on top may not go onto a table that a peer sent; `None` if it may. A finalizer
/// runs by itself, on whatever fields the peer chose; methods of what lends its pointer expect a userdata.
///
/// Any `__gc` but nil counts: Lua notes down an object as one to be finalized by that alone, and calls what is there
/// later.
pub(super) unsafe fn forbidden_to_peers(lua: Lua<'_>, l: *mut ffi::lua_State) -> Option<&'static str> {
    // SAFETY: as said above; raw reads only. The borrow ends before Lua is called.
    unsafe {
        let top = ffi::lua_gettop(l);
        let mut found = None;
        for field in [c"__gc", c"__close"] {
            ffi::lua_pushlstring(l, field.as_ptr(), field.count_bytes());
            ffi::lua_rawget(l, top);
            if ffi::lua_type(l, -1) != ffi::LUA_TNIL {
                found = found.or(field.to_str().ok());
            }
            ffi::lua_settop(l, top);
        }
        if found.is_none() && push_method(l, c"metatablename") {
            ffi::lua_settop(l, top);
            if push_method(l, c"retain") {
                ffi::lua_settop(l, top);
                found = Some("retain");
            }
        }
        let registered = lua.state().anchors.borrow().get(FOR_PEERS).copied();
        if let (Some(_), Some(reference)) = (found, registered) {
            ffi::lua_rawgeti(l, ffi::LUA_REGISTRYINDEX, reference as _);
            ffi::lua_pushvalue(l, top);
            ffi::lua_rawget(l, -2);
            if ffi::lua_toboolean(l, -1) != 0 {
                found = None;
            }
            ffi::lua_settop(l, top);
        }
        found
    }
}

/// Pushes a userdata of class `name` that owns one reference to `pointer`; false (and nothing pushed) if the class is
/// unknown here.
pub(super) unsafe fn push_foreign(l: *mut ffi::lua_State, name: &[u8], pointer: usize) -> bool {
    // SAFETY: as said above; the new userdata has room for the pointer.
    unsafe {
        if !push_metatable(l, name) {
            return false;
        }
        let at = ffi::lua_newuserdata(l, size_of::<usize>()) as *mut usize;
        at.write(pointer);
        ffi::lua_insert(l, -2);
        ffi::lua_setmetatable(l, -2);
        true
    }
}

/// Pushes a userdata with a reference of its own to what `lent` holds; false (and nothing pushed) if the class is
/// unknown here.
pub(super) unsafe fn push_retained(l: *mut ffi::lua_State, lent: &Foreign) -> bool {
    // SAFETY: as said above.
    unsafe {
        if !push_foreign(l, lent.class.as_bytes(), lent.pointer) {
            return false;
        }
        let slot = ffi::lua_gettop(l);
        ffi::lua_getmetatable(l, slot);
        // The sender had the method, so this state's class of that name has it; without it the object would be released
        // once too often.
        if !push_method(l, c"retain") {
            ffi::lua_pushnil(l);
            ffi::lua_setmetatable(l, slot);
            ffi::lua_settop(l, slot - 1);
            return false;
        }
        ffi::lua_pushvalue(l, slot);
        ffi::lua_call(l, 1, 0);
        ffi::lua_settop(l, slot);
        true
    }
}

/// Pointers that were lent and never read, by class: the next state that has the class takes them and lets its
/// collector give them back.
fn unread() -> &'static Lock<HashMap<Arc<str>, Vec<usize>>> {
    static UNREAD: SetOnce<Lock<HashMap<Arc<str>, Vec<usize>>>> = SetOnce::new();
    UNREAD.get_or_init(Lock::default)
}

/// A retained pointer on its way to another state.
pub(super) fn lend(class: &[u8], pointer: usize) -> Foreign {
    fn give_back(class: &Arc<str>, pointer: usize) {
        // Without memory for the list the reference is never given back: the one thing that can be done here.
        let mut unread = unread().lock();
        let list = unread.entry(class.clone()).or_default();
        if list.try_reserve(1).is_ok() {
            list.push(pointer);
        }
    }
    Foreign { class: String::from_utf8_lossy(class).into(), pointer, release: Some(give_back) }
}

/// Takes the unread pointers of the class whose name is in slot `i` over into this state, as garbage.
pub(super) unsafe fn reclaim(l: *mut ffi::lua_State, i: c_int) {
    // SAFETY: as said above; the pointer taken from the list is held by nothing that needs dropping.
    unsafe {
        while let Some(pointer) = pop_unread(string_at(l, i)) {
            if !push_foreign(l, string_at(l, i), pointer) {
                drop(lend(string_at(l, i), pointer));
                break;
            }
            ffi::lua_settop(l, -2);
        }
    }
}

/// One unread pointer of class `name`.
fn pop_unread(name: &[u8]) -> Option<usize> {
    let name = std::str::from_utf8(name).ok()?;
    unread().lock().get_mut(name)?.pop()
}

/// What a userdata of another library calls itself, for errors.
pub(super) unsafe fn userdata_name(l: *mut ffi::lua_State, i: c_int) -> String {
    // SAFETY: raw reads of a metatable; as said above.
    unsafe {
        let top = ffi::lua_gettop(l);
        let mut name = Vec::new();
        if ffi::lua_checkstack(l, 5) != 0 && ffi::lua_getmetatable(l, i) != 0 {
            let metatable = ffi::lua_gettop(l);
            ffi::lua_pushvalue(l, metatable);
            ffi::lua_rawget(l, ffi::LUA_REGISTRYINDEX);
            name = string_at(l, -1).to_vec();
            if name.is_empty() {
                ffi::lua_pushstring(l, c"__name".as_ptr());
                ffi::lua_rawget(l, metatable);
                name = string_at(l, -1).to_vec();
            }
            // Where Lua itself keeps no name in it: luaL_newmetatable has the registry name it.
            if name.is_empty() {
                ffi::lua_pushnil(l);
                while ffi::lua_next(l, ffi::LUA_REGISTRYINDEX) != 0 {
                    if ffi::lua_rawequal(l, -1, metatable) != 0 && ffi::lua_type(l, -2) == ffi::LUA_TSTRING {
                        name = string_at(l, -2).to_vec();
                        break;
                    }
                    ffi::lua_settop(l, -2);
                }
            }
        }
        ffi::lua_settop(l, top);
        if name.is_empty() { "userdata".into() } else { text!("userdata {}", Name(&name)) }
    }
}

/// The error for a class that the receiver does not know.
pub(super) fn unknown(name: &[u8]) -> crate::error::Error {
    err!(
        Unsupported,
        "a value of class '{}' arrived, but this Lua has no class of that name: load its module here first, or \
         register it with ipc.register",
        Name(name)
    )
}

/// As [`not_for_peers`], for a class without a name.
pub(super) fn nameless_not_for_peers(field: &str) -> crate::error::Error {
    err!(
        Unsupported,
        "a value arrived from another process with a metatable of a module here that has {field}, which would run on \
         fields that the sender chose: if it is made for that, register it with ipc.register(name, metatable, {{peers \
         = true}})"
    )
}

/// The error for a class of which no table comes from a peer, since it has `field`.
pub(super) fn not_for_peers(name: &[u8], field: &str) -> crate::error::Error {
    let name = Name(name);
    err!(
        Unsupported,
        "a value of class '{name}' arrived from another process, but its metatable here has {field}, which would run \
         on fields that the sender chose: if it is made for that, register it with ipc.register('{name}', metatable, \
         {{peers = true}})"
    )
}
