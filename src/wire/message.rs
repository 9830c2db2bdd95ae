//! A message: plain bytes, and beside them what is not plain data. Imports its siblings `queue` and `deferred_drop`,
//! for what objects hold.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::{Handles, Queue};
use crate::tensor::{Storage, Tensor};

/// A value on its way: MessagePack bytes (doc/wire.md) and the attachments that they refer to by number.
///
/// One message serves every route. Thread routes move attachments as they are; peer routes hand tensors to a lane and
/// refuse the rest. Dropping a message releases what is attached.
#[derive(Debug, Default)]
pub struct Message {
    /// The plain data.
    pub bytes: Vec<u8>,
    /// What the bytes refer to, in order of first appearance.
    pub attachments: Vec<Attachment>,
    /// Whether the bytes hold functions, in bytecode or by name, which peer routes refuse unless both ends asked for
    /// them.
    pub functions: bool,
    /// To a peer: another one follows at once, so that the system may wait for that and send both together.
    pub more: bool,
    /// To a peer: its tensors, all of them in shared memory, go by reference.
    pub share: bool,
}

impl Message {
    /// How many bytes of memory it keeps, those of attached tensors too.
    pub fn weight(&self) -> usize {
        let attached = |a: &Attachment| match a {
            Attachment::Tensor(t) => t.storage().map_or(0, Storage::bytes),
            Attachment::Storage(s) => s.bytes(),
            Attachment::Object(_) | Attachment::Foreign(_) => 0,
        };
        self.bytes.capacity() + self.attachments.iter().map(attached).sum::<usize>()
    }

    /// Whether it can be read as if nobody had: no reference of another library's was taken out of it.
    pub fn is_whole(&self) -> bool {
        !self.attachments.iter().any(|attached| matches!(attached, Attachment::Foreign(Foreign { release: None, .. })))
    }

    /// Empties the message and keeps its memory for the next one.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.attachments.clear();
        self.functions = false;
        self.more = false;
        self.share = false;
    }
}

/// One thing that travels beside the bytes.
#[derive(Debug)]
pub enum Attachment {
    /// A tensor: by reference on thread routes, by value on peer routes.
    Tensor(Tensor),
    /// A storage, likewise.
    Storage(Storage),
    /// One of our own objects (a queue, a mutex, …): thread routes only.
    Object(Arc<dyn Object>),
    /// A userdata of another library that lends itself by pointer: thread routes only.
    Foreign(Foreign),
}

impl Attachment {
    /// What it is, for errors: `a tensor`, `ipc.workqueue`.
    pub fn kind(&self) -> String {
        match self {
            Attachment::Tensor(_) => "a tensor".into(),
            Attachment::Storage(_) => "a storage".into(),
            Attachment::Object(o) => o.class().into(),
            Attachment::Foreign(f) => format!("userdata {}", f.class),
        }
    }
}

/// An object of ours that threads share: what crosses is the `Arc`.
pub trait Object: Any + Send + Sync + fmt::Debug {
    /// The class it has in Lua, `ipc.workqueue`: the receiver looks its methods up by this name.
    fn class(&self) -> &'static str;

    /// Its state in words, for `ipc.report`: `open, 3 items`. Asked by any thread at any time, also in the child of a
    /// fork, so it takes no lock that is held for longer than moments, nor one of the standard library.
    fn state(&self) -> String {
        String::new()
    }

    /// How many bytes of memory it holds, about: a garbage collector that sees only a handle of it wants to know. What
    /// is attached to its messages by reference is not its own.
    fn weight(&self) -> usize {
        0
    }

    /// For an object that messages wait in: what [`drop_deferred`](super::drop_deferred) has to know of it.
    fn inside(&self) -> Option<Inside<'_>> {
        None
    }
}

/// An object that messages wait in may lie in its own messages, or two in each other's.
#[derive(Clone, Copy, Debug)]
pub struct Inside<'a> {
    /// How many Lua states hold the object.
    pub handles: &'a Handles,
    /// Where its messages wait.
    pub queues: [Option<&'a Queue>; 2],
}

impl<'a> Inside<'a> {
    /// Its queues.
    pub(super) fn queues(self) -> impl Iterator<Item = &'a Queue> {
        self.queues.into_iter().flatten()
    }
}

/// The object as a `T`, if that is what it is.
pub fn downcast<T: Object>(object: Arc<dyn Object>) -> Option<Arc<T>> {
    let object: Arc<dyn Any + Send + Sync> = object;
    object.downcast().ok()
}

/// A retained pointer to another library's object, given back through `release` when it is not taken.
pub struct Foreign {
    /// The name under which both Lua states registered the metatable.
    pub class: Arc<str>,
    /// The pointer that the userdata holds.
    pub pointer: usize,
    /// Gives an unread pointer back to those that can release it (a list of its class, emptied by the next state that
    /// has it); none where the reference belongs to somebody else now.
    pub release: Option<fn(&Arc<str>, usize)>,
}

impl Foreign {
    /// Takes the pointer out: the reference now belongs to the caller.
    pub fn take(mut self) -> usize {
        self.release = None;
        self.pointer
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            release(&self.class, self.pointer);
        }
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Foreign({}, {:#x})", self.class, self.pointer)
    }
}
