//! Saving: the walk of Lua values to the records of a file.
//!
//! Stands on the folder's class.

use std::ffi::c_int;
use std::io::Write;

use mlua_sys as ffi;

use super::{MAX_DEPTH, push_helper};
use crate::bind::tensor::class::{storage_at, tensor_at};
use crate::bind::vm::{Kind, Lua};
use crate::err;
use crate::error::{Code, Error, Lossy, Result, words};
use crate::tensor::t7::{Form, Identity, Writer};
use crate::text;
use crate::wire::Parts;

const DUMP: &str = "local dump, upvalue = string.dump, debug.getupvalue
return function(f)
  local list = {}
  while true do
    local name, value = upvalue(f, #list + 1)
    if not name then return dump(f), list end
    if name == '_ENV' then value = nil end
    list[#list + 1] = { name = name, value = value }
  end
end";

/// The walk of Lua values to a writer.
struct Saver<'a, W> {
    lua: Lua<'a>,
    to: Writer<W>,
    functions: bool,
    /// The slot of a table of values that live as long as the walk: an address is an identity only while its value is.
    keep: c_int,
    /// The keys from a refused value up to the root.
    path: Vec<String>,
}

/// Writes the value of slot `i`.
pub(super) fn write<W: Write>(lua: Lua<'_>, i: c_int, to: W, form: Form, functions: bool) -> Result<W> {
    lua.new_table(0, 0)?;
    let mut saver = Saver { lua, to: Writer::new(to, form), functions, keep: lua.top(), path: Vec::new() };
    lua.push_value(i);
    match saver.value(0) {
        Ok(()) => saver.to.finish(),
        Err(e) if e.code() == Code::Raised || saver.path.is_empty() => Err(e),
        Err(e) => Err(Error::new(e.code(), "", words(format_args!("value{}: {}", Parts(&saver.path), e.what())))),
    }
}

impl<W: Write> Saver<'_, W> {
    fn address(&self) -> usize {
        // SAFETY: reads the address of the value on top.
        unsafe { ffi::lua_topointer(self.lua.raw(), -1) as usize }
    }

    /// Writes the value on top and pops it.
    fn value(&mut self, depth: usize) -> Result<()> {
        let lua = self.lua;
        match lua.kind(-1) {
            Kind::Nil | Kind::None => self.to.nil()?,
            Kind::Boolean => self.to.boolean(lua.truth(-1))?,
            Kind::Number => self.number()?,
            Kind::String => lua.with_bytes(-1, |s| self.to.string(s)).transpose()?.unwrap_or_default(),
            Kind::Table => {
                if depth >= MAX_DEPTH {
                    return Err(err!(Limit, "tables nested more than {MAX_DEPTH} deep"));
                }
                self.table(depth)?;
            }
            Kind::Function => self.function(depth)?,
            _ => self.userdata()?,
        }
        lua.pop(1);
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        let lua = self.lua;
        let value = lua.to_number(-1).unwrap_or_default();
        if let Some(n) = lua.to_integer(-1)
            && n.unsigned_abs() > 1 << 53
            && value as i128 != i128::from(n)
        {
            return Err(err!(Unsupported, "the integer {n} is past 2^53: a .t7 file has only floats for numbers"));
        }
        self.to.number(value)
    }

    fn table(&mut self, depth: usize) -> Result<()> {
        let lua = self.lua;
        lua.reserve(10)?;
        let address = self.address();
        if let Some(class) = class_on_top(lua) {
            if !self.to.object(Identity::Value(address), &class)? {
                return Ok(());
            }
            // Torch writes the fields as a table of their own; no other value has an odd address.
            return self.fields(address | 1, depth);
        }
        self.fields(address, depth)
    }

    /// Writes keys and values of the table on top.
    fn fields(&mut self, identity: usize, depth: usize) -> Result<()> {
        let lua = self.lua;
        let table = lua.top();
        let mut pairs = 0;
        lua.push_nil();
        while lua.next(table)? {
            lua.pop(1);
            pairs += 1;
        }
        if !self.to.table(Identity::Value(identity), pairs)? {
            return Ok(());
        }
        lua.push_nil();
        while lua.next(table)? {
            lua.push_value(-2);
            let written = self.value(depth + 1).and_then(|()| {
                lua.push_value(-1);
                self.value(depth + 1)
            });
            if let Err(e) = written {
                lua.set_top(table + 1);
                // Where there is no memory for a part, the path is shorter.
                if self.path.try_reserve(1).is_ok() {
                    self.path.push(key_text(lua));
                }
                return Err(e);
            }
            lua.pop(1);
        }
        Ok(())
    }

    fn function(&mut self, depth: usize) -> Result<()> {
        let lua = self.lua;
        if !self.functions {
            return Err(err!(
                Unsupported,
                "a function is not saved unless asked for: pass {{ functions = true }} last"
            ));
        }
        if depth >= MAX_DEPTH {
            return Err(err!(Limit, "functions nested more than {MAX_DEPTH} deep"));
        }
        lua.reserve(10)?;
        let address = self.address();
        push_helper(lua, "torch.dump", DUMP)?;
        lua.push_value(-2);
        lua.call(1, 2)?;
        let first = lua.with_bytes(-2, |code| self.to.function(Identity::Value(address), code)).transpose()?;
        if first == Some(true) {
            lua.push_value(-1);
            let at = lua.raw_len(self.keep) as i64 + 1;
            lua.raw_set_index(self.keep, at)?;
            lua.push_value(-1);
            self.value(depth + 1)?;
        }
        lua.pop(2);
        Ok(())
    }

    fn userdata(&mut self) -> Result<()> {
        let lua = self.lua;
        if let Some(tensor) = tensor_at(lua, -1) {
            return self.to.tensor(Identity::Value(self.address()), &tensor);
        }
        match storage_at(lua, -1) {
            Some(storage) => self.to.storage(&storage),
            None => Err(err!(Unsupported, "{} cannot be saved", lua.describe(-1))),
        }
    }
}

/// The class of the table on top, if its metatable is registered under a name.
fn class_on_top(lua: Lua<'_>) -> Option<String> {
    // SAFETY: raw reads raise nothing; what is pushed is taken off again.
    unsafe {
        let l = lua.raw();
        let top = ffi::lua_gettop(l);
        if ffi::lua_getmetatable(l, top) == 0 {
            return None;
        }
        ffi::lua_pushvalue(l, -1);
        ffi::lua_rawget(l, ffi::LUA_REGISTRYINDEX);
        let name = lua.with_str(-1, str::to_owned);
        if name.is_some() {
            ffi::lua_rawget(l, ffi::LUA_REGISTRYINDEX);
        }
        let known = name.is_some() && ffi::lua_rawequal(l, -1, -2) != 0;
        ffi::lua_settop(l, top);
        name.filter(|_| known)
    }
}

/// The key below the value on top, as Lua code would write it.
fn key_text(lua: Lua<'_>) -> String {
    match lua.kind(-1) {
        Kind::String => {
            lua.with_bytes(-1, |key| words(format_args!(".{}", Lossy(key))).into_owned()).unwrap_or_default()
        }
        Kind::Number => text!("[{}]", lua.to_number(-1).unwrap_or_default()),
        kind => text!("[{}]", kind.name()),
    }
}
