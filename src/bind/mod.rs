//! Lua on one side, the core on the other; the only place that knows mlua-sys.
//!
//! The binding talks to Lua through its C API (the crate mlua-sys), behind the safe handle [`vm::Lua`]. A bound
//! function converts its arguments, calls one core function and converts back. How to add one:
//!
//! 1. Write `fn name(lua: Lua<'_>) -> Result<Pushed>`: arguments are in slots 1…, results are pushed, their
//!    number returned.
//! 2. Add `("name", lua_fn!("place:name", name))` to the methods of its class ([`vm::Class`]) or to `module`'s
//!    table.
//! 3. Annotate it in `lua/library/ipc.lua` and specify it in `spec/`.

pub mod codec;
pub mod module;
pub mod peer;
pub mod process;
pub mod sync;
pub mod tensor;
pub mod threads;
pub mod vm;
pub mod wait;
