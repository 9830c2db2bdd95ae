//! Processes and the system: `spawn`, and what it gives; `flock`, a lock on a file; `system`: clock, pid, fork, exit.

pub mod file;
pub mod flock;
pub mod spawn;
pub mod system;
