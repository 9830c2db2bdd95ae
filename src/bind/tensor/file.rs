//! `torch.save`, `torch.load` and their kin on strings: the walk between Lua values and the records of a `.t7` file.
//!
//! Functions are bytecode: they are written and read only when asked for, by `{ functions = true }` as the last
//! argument.
//!
//! This file is what Lua calls; `save` walks the values, `load` the records.

mod buffer;
mod load;
mod save;

use std::ffi::c_int;
use std::fs::File;
use std::io::Read;

use self::buffer::{Buffered, Growing};
use self::load::read;
use self::save::write;
use crate::bind::vm::{Kind, Lua, Method, Pushed};
use crate::error::{Code, Error, Result, words};
use crate::lua_fn;
use crate::sys::Replacement;
use crate::tensor::t7::Form;
use crate::text;

pub(super) const FUNCTIONS: &[Method] = &[
    ("save", lua_fn!("torch.save", save)),
    ("load", lua_fn!("torch.load", load)),
    ("serialize", lua_fn!("torch.serialize", serialize)),
    ("deserialize", lua_fn!("torch.deserialize", deserialize)),
];

/// How deep tables may be nested.
const MAX_DEPTH: usize = 1000;

/// The path in slot `i`. One that no system takes is refused here, so that paths in errors are short.
pub(super) fn path_at(lua: Lua<'_>, i: c_int) -> Result<&str> {
    let path = lua.str(i)?;
    if path.len() < libc::PATH_MAX as usize {
        return Ok(path);
    }
    Err(lua.bad_value(i, format_args!("a path of {} bytes is too long", path.len())))
}

/// `torch.save(path, value, [form = 'binary'], [options])`: the file is the old one until the new one is whole.
fn save(lua: Lua<'_>) -> Result<Pushed> {
    let path = path_at(lua, 1)?;
    let (form, functions) = form_and_options(lua, 3)?;
    let file = Replacement::create(path.as_ref()).map_err(|e| Error::io("", &text!("open {path}"), &e))?;
    let failed = |e| Error::io("", &text!("write {path}"), &e);
    if file.in_place() {
        // A value that is refused must be so before the first byte.
        write(lua, 2, std::io::sink(), form, functions)?;
    }
    let whole = write(lua, 2, Buffered::new(file).map_err(failed)?, form, functions).map_err(|e| of_file(path, e))?;
    whole.into_inner().commit().map_err(failed)?;
    Ok(0)
}

/// `torch.load(path, [form = 'binary'], [options])`
fn load(lua: Lua<'_>) -> Result<Pushed> {
    let path = path_at(lua, 1)?;
    let (form, functions) = form_and_options(lua, 2)?;
    let failed = |e| Error::io("", &text!("open {path}"), &e);
    let mut file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_file() {
        read(lua, Buffered::new(file).map_err(failed)?, about.len(), form, functions).map_err(|e| of_file(path, e))
    } else {
        // A pipe has no length to hold announced sizes against, until all of it is here.
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| Error::io("", &text!("read {path}"), &e))?;
        read(lua, &bytes[..], bytes.len() as u64, form, functions).map_err(|e| of_file(path, e))
    }
}

/// An error that tells of the file, with the file's name; others tell of a value.
fn of_file(path: &str, e: Error) -> Error {
    match e.code() {
        Code::Io | Code::Protocol => Error::new(e.code(), "", words(format_args!("{path}: {}", e.what()))),
        _ => e,
    }
}

/// `torch.serialize(value, [form = 'binary'], [options])` → string
fn serialize(lua: Lua<'_>) -> Result<Pushed> {
    if lua.top() == 0 {
        return Err(lua.expected(1, "value"));
    }
    let (form, functions) = form_and_options(lua, 2)?;
    let bytes = write(lua, 1, Growing::default(), form, functions)?;
    lua.push_bytes(&bytes.0)?;
    Ok(1)
}

/// `torch.deserialize(string, [form = 'binary'], [options])`
fn deserialize(lua: Lua<'_>) -> Result<Pushed> {
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
