//! Between Lua and Rust: what every binding stands on. It knows no type of ours: [`library::Library`] is handed to it.
//!
//! ```text
//! lua, protect    the C API: what cannot fail, and the rest under `lua_pcall`
//! call            how a bound function is entered, and how it fails
//! args, object    arguments; Rust values as userdata
//! state           what is kept for a Lua state; account, depth, last, reference: parts of it
//! load, library   what a Lua state gets first; what is handed over then
//! fd              `obj:fd()`; non_blocking: the try of a call that would sleep
//! host            which Lua this is; cdata: LuaJIT's boxed integers
//! traceback       of errors in threads; maker: tables that are called to make something
//! ```

mod account;
mod args;
mod call;
#[cfg(feature = "luajit")]
pub(super) mod cdata;
pub(super) mod depth;
mod fd;
pub(super) mod host;
mod last;
mod library;
mod load;
mod lua;
mod maker;
mod non_blocking;
mod object;
mod protect;
mod reference;
mod state;
pub(super) mod traceback;

pub(super) use account::{Charge, collect};
pub(super) use args::Options;
pub(super) use call::{Body, Count, Pushed, at_once, c_function, count, enter, may_repeat};
pub(super) use fd::{FD, WAITABLE, WAYS, refusal};
pub(super) use last::{Holder, push_string};
pub(super) use library::Library;
pub(super) use load::push_bound;
pub(super) use lua::{Kind, Lua, no_room, raised};
pub(super) use maker::add_maker;
pub(super) use non_blocking::{descriptors, try_call};
pub(super) use object::{Class, ClassInfo, Method, attachment_at, ready_at, served_at, source_at};
pub(super) use state::{State, VARIANTS};
