//! What threads share: channels, work queues, shared tables, locks, barriers, counters, marshals. `items` is what goes
//! into queues and channels.

pub mod atomic;
pub mod channel;
pub mod items;
pub mod marshal;
pub mod mutex;
pub mod sharedtable;
pub mod workqueue;
