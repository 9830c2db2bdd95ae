//! Threads that run Lua: `map`, `pool` with its futures and batches, the Lua states that both make (`worker`), and how
//! the code in them is ended (`cancel`).

pub mod batch;
pub mod cancel;
pub mod future;
pub mod map;
pub mod pool;
pub mod worker;
