//! The try of a call that would sleep: it says instead what it would have slept on, and is made again later.
//!
//! A bound function that may sleep takes part as a second function, made with [`try_fn!`](crate::try_fn): `scheduler`
//! puts it in the first one's place. Such a method waits through [`Lua::wait`], before it changes anything; or through
//! [`Lua::on_own_thread`], or keeps what it did in the state of the [`NonBlockingCall`].

use std::cell::RefCell;
use std::ffi::c_int;
use std::rc::Rc;

use crate::bind::vm::call::{Body, Pushed};
use crate::bind::vm::lua::{Lua, raised};
use crate::bind::vm::object::{Class, ClassInfo};
use crate::err;
use crate::error::{Code, Result};
use crate::wait::{FdPool, Interest, NonBlockingCall};

/// Makes a function that tries the body of another: `try_fn!("workqueue:read", read)`. It is given the token of the
/// call's first try, or nil, before the arguments, and gives true and the results; or false, the token, a descriptor,
/// what to poll it for, and for how long.
#[macro_export]
macro_rules! try_fn {
    ($place:expr, $body:path) => {{
        fn try_call(lua: $crate::bind::vm::Lua<'_>) -> $crate::error::Result<$crate::bind::vm::Pushed> {
            $crate::bind::vm::try_call(lua, $body)
        }
        $crate::lua_fn!($place, try_call)
    }};
}

/// What a call keeps between its tries.
struct Token(Rc<NonBlockingCall>);

static TOKEN: ClassInfo = ClassInfo::of::<Token>("ipc.scheduler.token", &[], &[]);

impl Class for Token {
    fn info() -> &'static ClassInfo {
        &TOKEN
    }
}

/// See [`try_fn!`](crate::try_fn).
pub(in crate::bind) fn try_call(lua: Lua<'_>, body: Body) -> Result<Pushed> {
    let non_blocking = if lua.is_nil(1) {
        Rc::new(NonBlockingCall::new(descriptors(lua).borrow().clone()))
    } else {
        lua.object::<Token>(1)?.0.clone()
    };
    lua.remove(1);
    non_blocking.begin();
    let trying = lua.trying(&non_blocking);
    let result = body(trying);
    if result.as_ref().err().is_none_or(|e| e.code() != Code::WouldBlock) {
        non_blocking.end();
    }
    match result {
        Ok(count) => {
            // A string that is the last result is pushed at the very end.
            let pushed = count - Pushed::from(lua.state().last.is_due());
            lua.reserve(1)?;
            lua.push_boolean(true);
            lua.insert(lua.top() - pushed as c_int);
            Ok(count + 1)
        }
        Err(e) if e.code() == Code::WouldBlock => {
            let Some(blocker) = non_blocking.lasting_blocker() else {
                return Err(err!(State, "a try that waits for nothing"));
            };
            lua.set_top(0);
            lua.push_boolean(false);
            lua.push_object(Token(non_blocking))?;
            lua.push_integer(blocker.fd.into());
            lua.push_string(if blocker.interest == Interest::Write { "write" } else { "read" })?;
            match blocker.until.remaining() {
                Some(left) => lua.push_number(left.as_secs_f64()),
                None => lua.push_nil(),
            }
            Ok(5)
        }
        // Told as the caller's, one function further away.
        Err(e) if e.code() != Code::Raised => {
            trying.push_error(e);
            Err(raised())
        }
        Err(e) => Err(e),
    }
}

/// Where the calls of this state have the descriptors from that they hand to the scheduler.
pub(in crate::bind) fn descriptors(lua: Lua<'_>) -> Rc<RefCell<Rc<FdPool>>> {
    lua.state().extra(Rc::default)
}
