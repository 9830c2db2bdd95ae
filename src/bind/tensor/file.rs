//! `torch.save`, `torch.load` and their kin on strings: the walk between Lua values and the records of a `.t7` file.
//!
//! Functions are bytecode: they are written and read only when asked for, by `{ functions = true }` as the last argument.
//!
//! Stands on: args, class.

use std::ffi::c_int;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};

use mlua::ffi;

use super::class::{push, push_storage, storage_at, tensor_at};
use crate::bind::lua::{Kind, Lua};
use crate::bind::object::Method;
use crate::err;
use crate::error::{Code, Error, Result};
use crate::lua_fn;
use crate::tensor::DType;
use crate::tensor::t7::{Form, Identity, Reader, Record, Writer};

pub(super) const FUNCTIONS: &[Method] = &[
    ("save", lua_fn!("torch.save", save)),
    ("load", lua_fn!("torch.load", load)),
    ("serialize", lua_fn!("torch.serialize", serialize)),
    ("deserialize", lua_fn!("torch.deserialize", deserialize)),
];

/// How deep tables may be nested.
const MAX_DEPTH: usize = 1000;
/// Bytes between the file and us.
const BUFFER: usize = 1 << 16;

/// `torch.save(path, value, [form = 'binary'], [options])`
fn save(lua: Lua<'_>) -> Result<c_int> {
    let path = lua.str(1)?.to_owned();
    let (form, functions) = form_and_options(lua, 3)?;
    let file = File::create(&path).map_err(|e| Error::io("", &format!("open {path}"), &e))?;
    let to = BufWriter::with_capacity(BUFFER, file);
    write(lua, 2, to, form, functions)?;
    Ok(0)
}

/// `torch.load(path, [form = 'binary'], [options])`
fn load(lua: Lua<'_>) -> Result<c_int> {
    let path = lua.str(1)?.to_owned();
    let (form, functions) = form_and_options(lua, 2)?;
    let failed = |e| Error::io("", &format!("open {path}"), &e);
    let mut file = File::open(&path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_file() {
        read(lua, BufReader::with_capacity(BUFFER, file), about.len(), form, functions)
    } else {
        // A pipe has no length to hold announced sizes against, until all of it is here.
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| Error::io("", &format!("read {path}"), &e))?;
        read(lua, &bytes[..], bytes.len() as u64, form, functions)
    }
}

/// `torch.serialize(value, [form = 'binary'], [options])` → string
fn serialize(lua: Lua<'_>) -> Result<c_int> {
    if lua.top() == 0 {
        return Err(lua.expected(1, "value"));
    }
    let (form, functions) = form_and_options(lua, 2)?;
    let bytes = write(lua, 1, Vec::new(), form, functions)?;
    lua.push_bytes(&bytes)?;
    Ok(1)
}

/// `torch.deserialize(string, [form = 'binary'], [options])`
fn deserialize(lua: Lua<'_>) -> Result<c_int> {
    let bytes = lua.bytes(1)?;
    let (form, functions) = form_and_options(lua, 2)?;
    read(lua, bytes, bytes.len() as u64, form, functions)
}

/// `[form], [options]` from slot `i` on; Torch's own flag in their place is let pass.
fn form_and_options(lua: Lua<'_>, i: c_int) -> Result<(Form, bool)> {
    let mut form = Form::Binary;
    let mut i = i;
    if matches!(lua.kind(i), Kind::String | Kind::Nil | Kind::None) {
        if lua.kind(i) == Kind::String {
            form = Form::parse(lua.str(i)?).map_err(|e| lua.bad_value(i, e.what()))?;
        }
        i += 1;
    }
    if lua.kind(i) == Kind::Boolean {
        i += 1;
    }
    let functions = lua.options(i, &["functions"])?.boolean("functions")?.unwrap_or(false);
    Ok((form, functions))
}

/// Pushes a function of Lua's, made once: what of functions only the debug library can do.
fn push_helper(lua: Lua<'_>, name: &'static str, source: &str) -> Result<()> {
    lua.anchored(name, |lua| {
        lua.load("ipc.torch", source)?;
        lua.call(0, 1)
    })
}

const DUMP: &str = "local dump, upvalue = string.dump, debug.getupvalue
return function(f)
  local list = {}
  while true do
    local name, value = upvalue(f, #list + 1)
    if not name then return dump(f), list end
    list[#list + 1] = { name = name, value = name ~= '_ENV' and value or nil }
  end
end";

const UNDUMP: &str = "local load, set = loadstring or load, debug.setupvalue
return function(code, list)
  local f = assert(load(code, '=t7'))
  for i, upvalue in ipairs(list) do
    if upvalue.name == '_ENV' then set(f, i, _G) else set(f, i, upvalue.value) end
  end
  return f
end";

// ---- writing ----------------------------------------------------------------------------------------------------------

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
fn write<W: Write>(lua: Lua<'_>, i: c_int, to: W, form: Form, functions: bool) -> Result<W> {
    lua.new_table(0, 0)?;
    let mut saver = Saver { lua, to: Writer::new(to, form), functions, keep: lua.top(), path: Vec::new() };
    lua.push_value(i);
    match saver.value(0) {
        Ok(()) => saver.to.finish(),
        Err(e) if e.code() == Code::Raised || saver.path.is_empty() => Err(e),
        Err(e) => {
            let path: Vec<String> = saver.path.into_iter().rev().collect();
            Err(Error::new(e.code(), "", format!("value{}: {}", path.concat(), e.what())))
        }
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
            Kind::String => self.to.string(lua.to_bytes(-1).unwrap_or_default())?,
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
        while lua.next(table) {
            lua.pop(1);
            pairs += 1;
        }
        if !self.to.table(Identity::Value(identity), pairs)? {
            return Ok(());
        }
        lua.push_nil();
        while lua.next(table) {
            lua.push_value(-2);
            let written = self.value(depth + 1).and_then(|()| {
                lua.push_value(-1);
                self.value(depth + 1)
            });
            if let Err(e) = written {
                lua.set_top(table + 1);
                self.path.push(key_text(lua));
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
        let code = lua.bytes(-2)?;
        if self.to.function(Identity::Value(address), code)? {
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
        let name = lua.to_str(-1).map(str::to_owned);
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
        Kind::String => format!(".{}", String::from_utf8_lossy(lua.to_bytes(-1).unwrap_or_default())),
        Kind::Number => format!("[{}]", lua.to_number(-1).unwrap_or_default()),
        kind => format!("[{}]", kind.name()),
    }
}

// ---- reading ----------------------------------------------------------------------------------------------------------

/// The walk of a reader's records to Lua values.
struct Loader<'a, R> {
    lua: Lua<'a>,
    from: Reader<R>,
    functions: bool,
    /// The slot of a table of what each index stands for.
    seen: c_int,
}

/// Pushes the value that is read.
fn read<R: BufRead>(lua: Lua<'_>, from: R, length: u64, form: Form, functions: bool) -> Result<c_int> {
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
        lua.push_string(class)?;
        // SAFETY: a raw read of the registry raises nothing, and setting a metatable on the table below does not either.
        unsafe { ffi::lua_rawget(lua.raw(), ffi::LUA_REGISTRYINDEX) };
        if lua.kind(-1) != Kind::Table {
            return Err(err!(
                Unsupported,
                "the file holds a {class}, which is no class here; require its module first"
            ));
        }
        // SAFETY: as above.
        unsafe { ffi::lua_setmetatable(lua.raw(), -2) };
        self.remember(index)?;
        let object = lua.top();
        self.value(depth + 1)?;
        if lua.kind(-1) != Kind::Table {
            return Err(err!(Protocol, "the file is damaged: a {class} has no table of fields"));
        }
        lua.push_nil();
        while lua.next(-2) {
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
        self.value(depth + 1)?;
        lua.check(-1, Kind::Table)?;
        lua.call(2, 1)?;
        self.remember(index)
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
