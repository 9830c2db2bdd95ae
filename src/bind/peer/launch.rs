//! `ipc.tree`, which lua/ipc/launch.lua is; and what bin/ipcrun stands on (`__signals`, `__poll`, `__end_with`) and
//! trees (`__tell`), not for users.

use std::ffi::c_int;

use crate::bind::vm::{Class, ClassInfo, Kind, Lua, Method, Pushed};
use crate::err;
use crate::error::{Lossy, Result};
use crate::lua_fn;
use crate::sys::{self, SignalWatch, signal_name, signal_number, try_push};
use crate::wait::{Interest, Watch, poll_many};

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[
    ("tree", lua_fn!("ipc.tree", tree)),
    ("__signals", lua_fn!("ipcrun", signals)),
    ("__poll", lua_fn!("ipcrun", poll)),
    ("__end_with", lua_fn!("ipcrun", end_with)),
    ("__tell", lua_fn!("ipc.tree", tell)),
];

/// `libipc.signals`: not for users, so outside `ipc.`
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<SignalWatch>("libipc.signals", METHODS, &[]);

const METHODS: &[Method] = &[("fd", lua_fn!("signals:fd", fd)), ("next", lua_fn!("signals:next", next))];

impl Class for SignalWatch {
    fn info() -> &'static ClassInfo {
        &INFO
    }
}

/// `ipc.tree([opts])`: `require 'ipc.launch'.tree(opts)`, loaded when it is first called.
fn tree(lua: Lua<'_>) -> Result<Pushed> {
    let given = lua.top();
    lua.require("ipc.launch")?;
    lua.get_field(given + 1, "tree")?;
    lua.insert(1);
    lua.pop(1);
    lua.call(given, 1)?;
    Ok(1)
}

/// `__signals(names)`: those signals are read from now on, in place of what they did.
fn signals(lua: Lua<'_>) -> Result<Pushed> {
    lua.check(1, Kind::Table)?;
    let mut numbers = Vec::new();
    for n in 1..=lua.raw_len(1) as i64 {
        lua.raw_get_index(1, n);
        let number = |name: &str| {
            signal_number(name).ok_or_else(|| lua.bad_value(1, format_args!("there is no signal '{name}'")))
        };
        numbers.push(lua.with_str(-1, number).unwrap_or_else(|| number(""))?);
        lua.pop(1);
    }
    lua.push_object(SignalWatch::new(&numbers)?)?;
    Ok(1)
}

fn fd(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_integer(lua.object::<SignalWatch>(1)?.fd()?.into());
    Ok(1)
}

/// The name of a signal that has come, or nil.
fn next(lua: Lua<'_>) -> Result<Pushed> {
    let signal = lua.object::<SignalWatch>(1)?.next()?;
    match signal {
        Some(n) => lua.push_string(&signal_name(n))?,
        None => lua.push_nil(),
    }
    Ok(1)
}

/// `__poll(fds, [timeout])` → a list of booleans: which of the descriptors have something to read, or their end.
fn poll(lua: Lua<'_>) -> Result<Pushed> {
    lua.check(1, Kind::Table)?;
    let deadline = lua.timeout(2, None)?;
    let mut watches = Vec::new();
    for n in 1..=lua.raw_len(1) as i64 {
        lua.raw_get_index(1, n);
        let fd = lua.to_integer(-1).and_then(|fd| c_int::try_from(fd).ok()).filter(|fd| *fd >= 0);
        let got = lua.describe(-1);
        let fd = fd.ok_or_else(|| err!(Argument, "item {n}: expected a descriptor, got {got}"))?;
        try_push(&mut watches, Watch::new(fd, Interest::Read))?;
        lua.pop(1);
    }
    poll_many(&mut watches, &lua.wait(deadline))?;
    lua.new_table(watches.len() as c_int, 0)?;
    for (n, watch) in watches.iter().enumerate() {
        lua.push_boolean(watch.ready);
        lua.raw_set_index(-2, n as i64 + 1)?;
    }
    Ok(1)
}

/// `__tell(text)`: a line on stderr, without waiting, unless `IPC_LOG=off`.
fn tell(lua: Lua<'_>) -> Result<Pushed> {
    sys::notice(format_args!("{}", Lossy(lua.bytes(1)?)));
    Ok(0)
}

/// `__end_with(pid)`: this process ends when its parent, `pid`, does; false if that is its parent no more.
fn end_with(lua: Lua<'_>) -> Result<Pushed> {
    let parent = lua.integer_in(1, 0..=i32::MAX.into())? as i32;
    lua.push_boolean(sys::end_with(parent));
    Ok(1)
}
