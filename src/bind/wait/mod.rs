//! Waiting for whatever there is: `select`, timers and descriptors (`events`), the `scheduler` of coroutines, and the
//! `report` of who waits for what.

pub mod events;
pub mod report;
pub mod scheduler;
pub mod select;
