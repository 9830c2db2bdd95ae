//! Loading: the walk of a file's records to Lua values.
//!
//! Stands on the folder's class.

use std::ffi::c_int;
use std::io::BufRead;

use mlua_sys as ffi;

use super::{MAX_DEPTH, push_helper};
use crate::bind::codec::class::push_metatable;
use crate::bind::tensor::class::{push, push_storage};
use crate::bind::vm::{Kind, Lua, Pushed};
use crate::err;
use crate::error::Result;
use crate::tensor::DType;
use crate::tensor::t7::{Form, Reader, Record};

const UNDUMP: &str = "local load = loadstring or load
return function(code) return assert(load(code, '=t7')) end";

const SET_UPVALUES: &str = "local set = debug.setupvalue
return function(f, list)
  for i, upvalue in ipairs(list) do
    if upvalue.name == '_ENV' then set(f, i, _G) else set(f, i, upvalue.value) end
  end
end";

/// The walk of a reader's records to Lua values.
struct Loader<'a, R> {
    lua: Lua<'a>,
    from: Reader<R>,
    functions: bool,
    /// The slot of a table of what each index stands for.
    seen: c_int,
}

/// Pushes the value that is read.
pub(super) fn read<R: BufRead>(lua: Lua<'_>, from: R, length: u64, form: Form, functions: bool) -> Result<Pushed> {
    lua.new_table(0, 0)?;
    let mut loader = Loader { lua, from: Reader::new(from, length, form), functions, seen: lua.top() };
    loader.value(0)?;
    Ok(1)
}

impl<R: BufRead> Loader<'_, R> {
    /// What is on top is what `index` stands for from now on.
    fn remember(&self, index: i32) -> Result<()> {
        self.lua.push_value(-1);
        self.lua.raw_set_index(self.seen, i64::from(index))
    }

    /// Pushes the next object.
    fn value(&mut self, depth: usize) -> Result<()> {
        let lua = self.lua;
        match self.from.record()? {
            Record::Nil => lua.push_nil(),
            Record::Boolean(v) => lua.push_boolean(v),
            Record::Number(v) => push_number(lua, v),
            Record::String(bytes) => lua.push_bytes(&bytes)?,
            Record::Again(index) => self.again(index)?,
            _ if depth >= MAX_DEPTH => {
                return Err(err!(Limit, "the file holds tables nested more than {MAX_DEPTH} deep"));
            }
            Record::Table(index, pairs) => self.table(index, pairs, depth)?,
            Record::Object(index, class) => self.object(index, &class, depth)?,
            Record::Function(index, code) => self.function(index, &code, depth)?,
        }
        Ok(())
    }

    fn again(&self, index: i32) -> Result<()> {
        let lua = self.lua;
        if lua.raw_get_index(self.seen, i64::from(index)) != Kind::Nil {
            return Ok(());
        }
        lua.pop(1);
        match self.from.storage_again(index) {
            Some(storage) => {
                push_storage(lua, storage)?;
                self.remember(index)
            }
            None => Err(err!(Protocol, "the file is damaged: object {index} is referred to but not there yet")),
        }
    }

    fn table(&mut self, index: i32, pairs: usize, depth: usize) -> Result<()> {
        let lua = self.lua;
        lua.reserve(10)?;
        lua.new_table(0, 0)?;
        self.remember(index)?;
        for _ in 0..pairs {
            self.value(depth + 1)?;
            let key = lua.to_number(-1);
            if lua.kind(-1) == Kind::Nil || key.is_some_and(f64::is_nan) {
                return Err(err!(Protocol, "the file is damaged: a table has a key that no table can have"));
            }
            self.value(depth + 1)?;
            lua.raw_set(-3)?;
        }
        Ok(())
    }

    fn object(&mut self, index: i32, class: &str, depth: usize) -> Result<()> {
        let lua = self.lua;
        for dtype in DType::ALL {
            if class == dtype.tensor_class() {
                push(lua, self.from.tensor(dtype)?)?;
                return self.remember(index);
            }
            if class == dtype.storage_class() {
                push_storage(lua, self.from.storage(dtype, index)?)?;
                return self.remember(index);
            }
        }
        lua.reserve(10)?;
        lua.new_table(0, 0)?;
        let mut known = false;
        // SAFETY: in protect everything may be called; slot 1 is the new table.
        lua.protect(1, 1, |l| unsafe {
            known = push_metatable(l, class.as_bytes());
            if known {
                ffi::lua_setmetatable(l, 1);
            }
            1
        })?;
        if !known {
            return Err(err!(
                Unsupported,
                "the file holds a {class}, which is no class here; require its module first"
            ));
        }
        self.remember(index)?;
        let object = lua.top();
        self.value(depth + 1)?;
        if lua.kind(-1) != Kind::Table {
            return Err(err!(Protocol, "the file is damaged: a {class} has no table of fields"));
        }
        lua.push_nil();
        while lua.next(-2)? {
            lua.push_value(-2);
            lua.push_value(-2);
            lua.raw_set(object)?;
            lua.pop(1);
        }
        lua.pop(1);
        Ok(())
    }

    fn function(&mut self, index: i32, code: &[u8], depth: usize) -> Result<()> {
        let lua = self.lua;
        if !self.functions {
            return Err(err!(
                Unsupported,
                "the file holds a function, which is code: pass {{ functions = true }} last if you trust it"
            ));
        }
        lua.reserve(10)?;
        push_helper(lua, "torch.undump", UNDUMP)?;
        lua.push_bytes(code)?;
        lua.call(1, 1)?;
        // Known before its upvalues are read: it may be one of them.
        self.remember(index)?;
        self.value(depth + 1)?;
        lua.check(-1, Kind::Table)?;
        push_helper(lua, "torch.setupvalues", SET_UPVALUES)?;
        lua.push_value(-3);
        lua.push_value(-3);
        lua.call(2, 0)?;
        lua.pop(1);
        Ok(())
    }
}

/// Pushes a number: an integer where the Lua has them and it is one.
fn push_number(lua: Lua<'_>, v: f64) {
    if v.fract() == 0.0 && v.abs() <= 9007199254740992.0 && !(v == 0.0 && v.is_sign_negative()) {
        lua.push_integer(v as i64);
    } else {
        lua.push_number(v);
    }
}
