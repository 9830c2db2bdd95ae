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

pub mod account;
pub mod args;
pub mod call;
#[cfg(feature = "luajit")]
pub mod cdata;
pub mod depth;
pub mod fd;
pub mod host;
pub mod last;
pub mod library;
pub mod load;
pub mod lua;
pub mod maker;
pub mod non_blocking;
pub mod object;
pub mod protect;
pub mod reference;
pub mod state;
pub mod traceback;
