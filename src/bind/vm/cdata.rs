//! LuaJIT's boxed 64-bit integers.
//!
//! cdata has no C API, so a few lines of Lua, loaded once a state, read them and make them.

use std::ffi::c_int;

use crate::bind::vm::lua::Lua;
use crate::error::Result;

/// `read(x)` → 1 (int64), 2 (uint64) or 0, the high and low halves; `make(signed, high, low)` → cdata.
const SOURCE: &str = "
local ffi = require 'ffi'
local signed, unsigned = ffi.typeof 'int64_t', ffi.typeof 'uint64_t'
local function read(x)
  local kind = ffi.istype(signed, x) and 1 or ffi.istype(unsigned, x) and 2 or 0
  if kind == 0 then return 0, 0, 0 end
  local u = ffi.cast(unsigned, x)
  return kind, tonumber(u / 4294967296ULL), tonumber(u % 4294967296ULL)
end
local function make(is_signed, high, low)
  local u = unsigned(high) * 4294967296ULL + unsigned(low)
  if is_signed then return ffi.cast(signed, u) end
  return u
end
return read, make
";

fn push_helper(lua: Lua<'_>, name: &'static str, at: c_int) -> Result<()> {
    lua.anchored(name, |lua| {
        lua.load("libipc.cdata", SOURCE)?;
        lua.call(0, 2)?;
        // Both are on the stack; the wanted one, at `at`, stays.
        lua.push_value(at);
        lua.replace(-3);
        lua.pop(1);
        Ok(())
    })
}

/// The boxed integer in slot `i`: whether it is signed, and its bits; `None` for other cdata.
pub(in crate::bind) fn read(lua: Lua<'_>, i: c_int) -> Result<Option<(bool, u64)>> {
    push_helper(lua, "cdata.read", -2)?;
    lua.push_value(i);
    lua.call(1, 3)?;
    let part = |slot| lua.to_number(slot).unwrap_or_default() as u64;
    let (kind, bits) = (part(-3), (part(-2) << 32) | part(-1));
    lua.pop(3);
    Ok((kind != 0).then_some((kind == 1, bits)))
}

/// Pushes a boxed integer.
pub(in crate::bind) fn push(lua: Lua<'_>, signed: bool, bits: u64) -> Result<()> {
    push_helper(lua, "cdata.make", -1)?;
    lua.push_boolean(signed);
    lua.push_number((bits >> 32) as f64);
    lua.push_number((bits & 0xffff_ffff) as f64);
    lua.call(3, 1)
}
