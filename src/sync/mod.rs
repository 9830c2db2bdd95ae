//! What threads of one process share: work queues, channels, tables, locks, barriers, atomic numbers, and the names
//! they are found by; the threads themselves; and a report of it all.
//!
//! Every one but a group of threads is an [`Object`](crate::wire::Object): thread routes pass it by reference. Who
//! calls is told by the [`Owner`](crate::wait::Owner) of the Lua state, never by the operating system's thread.

mod atomic;
mod barrier;
mod batch;
mod channel;
mod fifo;
mod future;
mod mutex;
mod names;
mod pool;
mod process;
mod report;
mod table;
mod timer;
mod unfetched;
mod worker;
mod workqueue;

pub use atomic::{Atomic, Number};
pub use barrier::Barrier;
pub use batch::{Batch, Next, Numbered};
pub use channel::{Channel, ChannelHandle, Status};
pub use fifo::Limits;
pub use future::{Future, Outcome, Stage, Task};
pub use mutex::{Mutex, MutexHandle};
pub use names::Names;
pub use pool::{Order, Pool, TaskSource, Terms};
pub use process::{Amount, Command, Environment, KEPT, Pipe, Process, Stdio};
pub use report::{ObjectState, Report};
pub use table::{Cursor, Key, KeyRef, Short, Table, Value};
pub use timer::Timer;
pub use unfetched::Unfetched;
pub use worker::{Failure, NextEnd, ThreadGroup, WorkerContext, after_cancel, another_thread_ends_process};
pub use workqueue::{WorkQueue, WorkQueueHandle};
