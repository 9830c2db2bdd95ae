//! Tensors in memory that processes share: `ipc.sharedTensor`, `t:share()`, `t:isShared()`.
//!
//! Stands on: args, class.

use super::args::Sizes;
use super::class::push;
use crate::bind::vm::{Lua, Method, Pushed};
use crate::error::Result;
use crate::lua_fn;
use crate::tensor::Tensor;

/// What the module `ipc` has of this.
pub const IPC_FUNCTIONS: &[Method] = &[("sharedTensor", lua_fn!("ipc.sharedTensor", shared_tensor))];

pub(super) const FUNCTIONS: &[Method] = &[("sharedTensor", lua_fn!("torch.sharedTensor", shared_tensor))];

pub(super) const METHODS: &[Method] =
    &[("share", lua_fn!("tensor:share", share)), ("isShared", lua_fn!("tensor:isShared", is_shared))];

/// `ipc.sharedTensor(type, sizes…)`: zeros; the type is `'Float'` or `'torch.FloatTensor'`.
fn shared_tensor(lua: Lua<'_>) -> Result<Pushed> {
    let dtype = lua.dtype(1)?;
    let sizes = if lua.is_nil(2) { Sizes::new() } else { lua.sizes(2)? };
    push(lua, Tensor::shared(dtype, &sizes)?)?;
    Ok(1)
}

/// `t:share()` → t, whose whole storage is in shared memory then.
fn share(lua: Lua<'_>) -> Result<Pushed> {
    lua.tensor_mut(1)?.storage_or_new()?.share()?;
    lua.set_top(1);
    Ok(1)
}

/// `t:isShared()`
fn is_shared(lua: Lua<'_>) -> Result<Pushed> {
    let shared = lua.tensor_ref(1)?.storage().is_some_and(|storage| storage.is_shared());
    lua.push_boolean(shared);
    Ok(1)
}
