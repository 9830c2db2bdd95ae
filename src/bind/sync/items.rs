//! What is written into a queue or a channel: each argument of a method is an item of its own.

use std::slice;

use crate::bind::codec::Route;
use crate::bind::vm::{Class, Lua, Options};
use crate::error::Result;
use crate::sync::Limits;
use crate::wire::Message;

/// The options that a queue and a channel share.
pub(super) fn limits(options: Options<'_>) -> Result<Limits> {
    Ok(Limits {
        capacity: options.integer("capacity", 1)?.map(i64::cast_unsigned),
        timeout: options.timeout("timeout", None)?,
    })
}

/// Makes an item of each argument after `self`, a `C`, and hands all of them to `send` at once.
pub(in crate::bind) fn send<C: Class, T>(
    lua: Lua<'_>,
    route: Route,
    send: impl FnOnce(&mut [Message]) -> Result<T>,
) -> Result<T> {
    if lua.top() == 2 {
        // A message that did not go as it should is not kept: it may be long, or hold things.
        let mut message = lua.state().take_message();
        lua.encode(2, &mut message, route)?;
        let bytes = message.bytes.len();
        let sent = send(slice::from_mut(&mut *message))?;
        lua.wrote::<C>(1, bytes);
        lua.state().keep_message(message);
        return Ok(sent);
    }
    let mut items = Vec::new();
    let mut bytes = 0;
    items.try_reserve_exact(usize::try_from(lua.top() - 1).unwrap_or_default())?;
    for slot in 2..=lua.top() {
        let mut message = Message::default();
        lua.encode(slot, &mut message, route)?;
        bytes += message.bytes.len();
        items.push(message);
    }
    let sent = send(&mut items)?;
    lua.wrote::<C>(1, bytes);
    Ok(sent)
}
