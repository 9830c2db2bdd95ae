//! `ipc.__meeting` and `ipc.__meeting_find`: what lua/ipc/LocalhostTree.lua stands on; not for users.

use crate::bind::vm::{Class, ClassInfo, Lua, Method, Pushed};
use crate::err;
use crate::error::Result;
use crate::lua_fn;
use crate::peer::meeting::{Meeting, Place};

/// The functions of the module.
pub(in crate::bind) const FUNCTIONS: &[Method] =
    &[("__meeting", lua_fn!("LocalhostTree", claim)), ("__meeting_find", lua_fn!("LocalhostTree", find))];

/// `libipc.meeting`: not for users, so outside `ipc.`
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<MeetingHandle>("libipc.meeting", METHODS, &[]);

const METHODS: &[Method] =
    &[("publish", lua_fn!("meeting:publish", publish)), ("close", lua_fn!("meeting:close", close))];

/// A root's meeting file, until it is closed.
struct MeetingHandle(Option<Meeting>);

impl Class for MeetingHandle {
    fn info() -> &'static ClassInfo {
        &INFO
    }

    fn describe(&self) -> String {
        format!("libipc.meeting: {}", if self.0.is_some() { "open" } else { "closed" })
    }
}

fn place(lua: Lua<'_>) -> Result<Place> {
    let parent = lua.integer_in(1, 0..=i64::from(i32::MAX))?;
    Place::new(parent as u32, lua.bytes(2)?)
}

/// `__meeting(ppid, key, text)`: takes the place and publishes `text` there.
fn claim(lua: Lua<'_>) -> Result<Pushed> {
    let meeting = Meeting::claim(place(lua)?, lua.str(3)?)?;
    lua.push_object(MeetingHandle(Some(meeting)))?;
    Ok(1)
}

/// `__meeting_find(ppid, key, known, [timeout])` → what a live root published that is not `known`; nil in time-out.
fn find(lua: Lua<'_>) -> Result<Pushed> {
    let place = place(lua)?;
    let known = lua.optional(3, Lua::str)?;
    let deadline = lua.timeout(4, None)?;
    match place.wait(known, &lua.wait(deadline))? {
        Some(text) => lua.push_string(&text)?,
        None => lua.push_nil(),
    }
    Ok(1)
}

fn publish(lua: Lua<'_>) -> Result<Pushed> {
    let mut held = lua.object_mut::<MeetingHandle>(1)?;
    let meeting = held.0.as_mut().ok_or_else(|| err!(State, "the meeting is closed"))?;
    meeting.publish(lua.str(2)?)?;
    Ok(0)
}

fn close(lua: Lua<'_>) -> Result<Pushed> {
    lua.object_mut::<MeetingHandle>(1)?.0 = None;
    Ok(0)
}
