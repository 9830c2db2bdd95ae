//! `ipc.report`: what is alive, and who waits for what.

use mlua_sys as ffi;

use crate::bind::vm::{Kind, Lua, Method, Pushed};
use crate::error::Result;
use crate::lua_fn;
use crate::sync::Report;
use crate::sys::try_format;

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[("report", lua_fn!("ipc.report", report))];

/// Where the metatable of a report keeps its text.
const TEXT: &str = "text";

/// `ipc.report()` → `{process=, objects={{id=, class=, state=}, …}, threads={{name=, id=, waiting=, object=, since=},
/// …}, tensor_bytes=}`, which `tostring` makes readable.
fn report(lua: Lua<'_>) -> Result<Pushed> {
    let report = Report::now()?;
    lua.new_table(0, 4)?;
    lua.push_integer(report.process.into());
    lua.raw_set_field(-2, "process")?;
    lua.push_integer(i64::try_from(report.tensor_bytes).unwrap_or(i64::MAX));
    lua.raw_set_field(-2, "tensor_bytes")?;
    lua.new_table(report.objects.len().try_into().unwrap_or(0), 0)?;
    for (n, object) in (1..).zip(&report.objects) {
        lua.new_table(0, 3)?;
        lua.push_integer(object.number.cast_signed());
        lua.raw_set_field(-2, "id")?;
        lua.push_string(object.class)?;
        lua.raw_set_field(-2, "class")?;
        lua.push_string(&object.state)?;
        lua.raw_set_field(-2, "state")?;
        lua.raw_set_index(-2, n)?;
    }
    lua.raw_set_field(-2, "objects")?;
    lua.new_table(report.threads.len().try_into().unwrap_or(0), 0)?;
    for (n, thread) in (1..).zip(&report.threads) {
        lua.new_table(0, 6)?;
        lua.push_string(&thread.name)?;
        lua.raw_set_field(-2, "name")?;
        lua.push_integer(thread.id.cast_signed());
        lua.raw_set_field(-2, "id")?;
        if let Some(waits) = thread.waits {
            lua.push_string(waits.purpose.place)?;
            lua.raw_set_field(-2, "waiting")?;
            lua.push_number(waits.since as f64 / 1e9);
            lua.raw_set_field(-2, "since")?;
        }
        if thread.background {
            lua.push_boolean(true);
            lua.raw_set_field(-2, "background")?;
        }
        if let Some(object) = report.awaited(thread) {
            lua.push_integer(object.number.cast_signed());
            lua.raw_set_field(-2, "object")?;
        }
        lua.raw_set_index(-2, n)?;
    }
    lua.raw_set_field(-2, "threads")?;
    lua.new_table(0, 2)?;
    lua.push_string(&try_format(format_args!("{report}"))?)?;
    lua.raw_set_field(-2, TEXT)?;
    lua.push_function(lua_fn!("tostring", text))?;
    lua.raw_set_field(-2, "__tostring")?;
    lua.set_metatable(-2);
    Ok(1)
}

/// `tostring` of a report.
fn text(lua: Lua<'_>) -> Result<Pushed> {
    lua.check(1, Kind::Table)?;
    // SAFETY: reads the metatable of a table.
    let has = unsafe { ffi::lua_getmetatable(lua.raw(), 1) != 0 };
    if has && lua.raw_get_field(-1, TEXT)? == Kind::String {
        return Ok(1);
    }
    Err(lua.expected(1, "report"))
}
