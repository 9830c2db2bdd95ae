//! `ipc.channel`: items from any number of writers to any number of readers, until it is closed.

use std::sync::Arc;

use crate::bind::codec::Route;
use crate::bind::sync::items;
use crate::bind::vm::{Class, ClassInfo, FD, Kind, Lua, Method, Pushed, add_maker};
use crate::err;
use crate::error::Result;
use crate::lua_fn;
use crate::sync::{Channel, ChannelHandle, Limits, Status};
use crate::text;
use crate::try_fn;
use crate::wait::{Deadline, Source, Way, source};
use crate::wire::{Attachment, Object, downcast};

/// The class `ipc.channel`.
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<ChannelHandle>("ipc.channel", METHODS, METAMETHODS);

const METHODS: &[Method] = &[
    ("write", lua_fn!("channel:write", write)),
    ("writeup", lua_fn!("channel:writeup", writeup)),
    ("trywrite", lua_fn!("channel:trywrite", trywrite)),
    ("read", lua_fn!("channel:read", read)),
    ("tryread", lua_fn!("channel:tryread", tryread)),
    ("items", lua_fn!("channel:items", items)),
    ("num_items", lua_fn!("channel:num_items", num_items)),
    FD,
    ("close", lua_fn!("channel:close", close)),
    ("closed", lua_fn!("channel:closed", closed)),
    ("drained", lua_fn!("channel:drained", drained)),
];

/// What yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING: &[Method] = &[
    ("write", try_fn!("channel:write", write)),
    ("writeup", try_fn!("channel:writeup", writeup)),
    ("read", try_fn!("channel:read", read)),
    ("tryread", try_fn!("channel:tryread", tryread)),
];

const METAMETHODS: &[Method] = &[("__len", lua_fn!("channel:__len", num_items))];

impl Class for ChannelHandle {
    fn info() -> &'static ClassInfo {
        &INFO
    }

    fn describe(&self) -> String {
        text!("{}", self.channel())
    }

    fn attach(&self) -> Option<Attachment> {
        Some(Attachment::Object(self.channel().clone()))
    }

    fn source(&self, way: Way) -> Result<Option<Box<dyn Source>>> {
        let channel = self.channel().clone();
        Ok(Some(match way {
            Way::Read => source(channel, |c| Some(c.readable()), |c| c.read_fd()),
            Way::Write => source(channel, |c| Some(c.writable()), |c| c.write_fd()),
        }))
    }

    fn ready(&self, way: Way) -> Option<bool> {
        let channel = self.channel();
        Some(if way == Way::Read { channel.readable() } else { channel.writable() })
    }

    fn adopt(_: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        downcast(object).map(ChannelHandle::new)
    }
}

/// A status as Lua sees it: `ipc.channel.OPEN` and its kin.
fn number(status: Status) -> i64 {
    status as i64
}

/// Puts `ipc.channel` into the module's table on top: a table of the statuses that is called to make a channel.
pub(in crate::bind) fn install(lua: Lua<'_>) -> Result<()> {
    lua.new_table(0, 3)?;
    for (name, status) in [("OPEN", Status::Open), ("CLOSED", Status::Closed), ("DRAINED", Status::Drained)] {
        lua.push_integer(number(status));
        lua.raw_set_field(-2, name)?;
    }
    add_maker(lua, "channel", lua_fn!("ipc.channel", channel))
}

/// `ipc.channel([{capacity=, timeout=}])`
fn channel(lua: Lua<'_>) -> Result<Pushed> {
    // What is called is no argument.
    lua.set_top(2);
    lua.drop_self();
    let mut limits = Limits::default();
    if !lua.is_nil(1) {
        lua.check(1, Kind::Table)?;
        limits = items::limits(lua.options(1, &["capacity", "timeout"])?)?;
    }
    lua.push_object(ChannelHandle::new(Arc::new(Channel::new(limits))))?;
    Ok(1)
}

fn put(lua: Lua<'_>, route: Route) -> Result<Pushed> {
    let handle = lua.object::<ChannelHandle>(1)?;
    let channel = handle.channel();
    let status = items::send::<ChannelHandle, _>(lua, route, |items| {
        channel.write(items, &lua.wait(Deadline::within(channel.timeout())))
    })?;
    lua.push_integer(number(status));
    Ok(1)
}

/// `c:write(...)` → the status: OPEN if the items were written.
fn write(lua: Lua<'_>) -> Result<Pushed> {
    put(lua, Route::THREAD)
}

/// `c:writeup(...)`: functions take their upvalues along.
fn writeup(lua: Lua<'_>) -> Result<Pushed> {
    put(lua, Route::THREAD_UPVALUES)
}

/// `c:trywrite(...)` → true, or false and the status: OPEN where there is no room.
fn trywrite(lua: Lua<'_>) -> Result<Pushed> {
    let handle = lua.object::<ChannelHandle>(1)?;
    let channel = handle.channel();
    let (written, status) = items::send::<ChannelHandle, _>(lua, Route::THREAD, |items| channel.write_now(items))?;
    lua.push_boolean(written);
    if written {
        return Ok(1);
    }
    lua.push_integer(number(status));
    Ok(2)
}

/// Makes the next item the last result, if one comes before `deadline`, after what `first` pushes; says whether, and
/// the status.
fn get(lua: Lua<'_>, channel: &Channel, deadline: Deadline, first: impl FnOnce(Status)) -> Result<(bool, Status)> {
    let mut message = lua.state().take_message();
    let (found, status) = channel.read(&mut message, &lua.wait(deadline))?;
    if found {
        first(status);
        lua.decode_last(message, Route::THREAD_UPVALUES, |item| channel.put_back(item))?;
    } else {
        lua.state().keep_message(message);
    }
    Ok((found, status))
}

/// `c:read([timeout])` → the status and the item; the status alone where none came.
fn read(lua: Lua<'_>) -> Result<Pushed> {
    let handle = lua.object::<ChannelHandle>(1)?;
    let channel = handle.channel();
    let deadline = lua.timeout(2, channel.timeout())?;
    let (found, status) = get(lua, channel, deadline, |status| lua.push_integer(number(status)))?;
    if found {
        return Ok(2);
    }
    lua.push_integer(number(status));
    Ok(1)
}

/// `c:tryread([timeout])` → true and the item, or false and the status.
fn tryread(lua: Lua<'_>) -> Result<Pushed> {
    let deadline = lua.timeout(2, Some(0.0))?;
    let handle = lua.object::<ChannelHandle>(1)?;
    let channel = handle.channel();
    let (found, status) = get(lua, channel, deadline, |_| lua.push_boolean(true))?;
    if !found {
        lua.push_boolean(false);
        lua.push_integer(number(status));
    }
    Ok(2)
}

/// `for item in c:items([timeout]) do`: every item until the channel is drained, or none comes in time.
fn items(lua: Lua<'_>) -> Result<Pushed> {
    lua.object::<ChannelHandle>(1)?;
    lua.timeout(2, None)?;
    lua.push_iterator(lua_fn!("channel:items", next))?;
    Ok(1)
}

fn next(lua: Lua<'_>) -> Result<Pushed> {
    lua.given();
    let handle = lua.object::<ChannelHandle>(1)?;
    let channel = handle.channel();
    let deadline = lua.timeout(2, channel.timeout())?;
    lua.set_top(0);
    let (found, _) = get(lua, channel, deadline, |_| ())?;
    if !found {
        lua.push_nil();
    } else if lua.top() > 0 && lua.is_nil(1) {
        return Err(err!(
            State,
            "an item is nil, which a for loop takes for its end; read such items with channel:read or tryread"
        ));
    }
    Ok(1)
}

/// `c:num_items()`, `#c`: how many items wait to be read.
fn num_items(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_integer(lua.object::<ChannelHandle>(1)?.channel().len().cast_signed());
    Ok(1)
}

/// `c:close()`: it takes no more items.
fn close(lua: Lua<'_>) -> Result<Pushed> {
    lua.object::<ChannelHandle>(1)?.channel().close();
    Ok(0)
}

/// `c:closed()` → whether it takes no more items.
fn closed(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_boolean(lua.object::<ChannelHandle>(1)?.channel().status() != Status::Open);
    Ok(1)
}

/// `c:drained()` → whether it takes no more items and all were read.
fn drained(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_boolean(lua.object::<ChannelHandle>(1)?.channel().status() == Status::Drained);
    Ok(1)
}
