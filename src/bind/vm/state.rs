//! What libipc keeps for each Lua state: one userdata, the first upvalue of every bound function.
//!
//! It lives as long as the Lua state: the registry holds it. When the Lua state closes it lets go of what it held, but
//! stays readable, since finalizers of other objects may still call in after it.

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::sync::Arc;

use mlua_sys as ffi;

use crate::bind::vm::account::Account;
use crate::bind::vm::depth::Depth;
use crate::bind::vm::last::Last;
use crate::bind::vm::library::Library;
use crate::bind::vm::object::ClassInfo;
use crate::bind::vm::reference::References;
use crate::sync::Key;
use crate::sys::is_torn;
use crate::wait::{Cancel, Owner};
use crate::wire::Message;

/// A function to run under `lua_pcall` and its argument.
pub type Job = (unsafe fn(*mut c_void, *mut ffi::lua_State) -> c_int, *mut c_void);

/// Things that run when the Lua state closes, newest first.
type AtClose = Box<dyn FnOnce()>;

/// Everything libipc knows about one Lua state.
pub struct State {
    /// What is loaded.
    pub(in crate::bind) library: &'static Library,
    /// Who this state is to queues and locks.
    owner: Owner,
    /// The main thread (coroutine) of the Lua state; null where it is not known.
    pub(in crate::bind) main: Cell<*mut ffi::lua_State>,
    /// Runs [`State::job`] when it is called: its number in the registry, as with the next ones.
    pub(in crate::bind) protected: Cell<c_int>,
    /// An empty Lua function: calling it runs the interpreter's pending hooks.
    pub(in crate::bind) empty: Cell<c_int>,
    /// The globals. On 5.1 and LuaJIT each coroutine may have others, which its code is to stay in.
    pub(in crate::bind) globals: Cell<c_int>,
    /// The error value that a handler has seen last, if it was no string; only the states of workers keep it.
    pub(in crate::bind) raised: Cell<c_int>,
    /// Whether there is one.
    pub(in crate::bind) has_raised: Cell<bool>,
    /// A table, with weak keys, of the places where metatables, classes and modules were found, or false for metatables
    /// that tables travel without; made at first need.
    pub(in crate::bind) places: Cell<c_int>,
    /// Whether there is, or was, a false among the places.
    pub(in crate::bind) drops_metatables: Cell<bool>,
    /// What [`State::protected`] runs next.
    pub(in crate::bind) job: Cell<Option<Job>>,
    /// How far down the C stack calls into Lua may go.
    pub(in crate::bind) depth: Depth,
    /// How many arguments of the running call are in their slots still; -1 once it has moved them.
    pub(in crate::bind) arguments: Cell<c_int>,
    /// Metatables that exist already, by class.
    pub(in crate::bind) metatables: RefCell<Vec<(&'static ClassInfo, c_int)>>,
    /// Those of the variants of classes, which have one each; 0 until the first value of it is pushed.
    pub(in crate::bind) variants: [Cell<c_int>; VARIANTS],
    /// The memory behind the handles of this state.
    pub(in crate::bind) account: Account,
    /// The numbers of what the registry keeps for us.
    pub(in crate::bind) references: References,
    /// Those of what is made once, by name.
    pub(in crate::bind) anchors: RefCell<HashMap<&'static str, c_int>>,
    /// A message whose memory is used again and again.
    message: Cell<Option<Box<Message>>>,
    /// The string that a bound function ends with.
    pub(in crate::bind) last: Last,
    /// The keys of shared tables whose updates run in this state, by the table's address.
    pub(in crate::bind) updating: RefCell<Vec<(usize, Key)>>,
    /// Cancels the calls of this state, if it belongs to a worker.
    cancel: RefCell<Option<Arc<Cancel>>>,
    /// The same while the worker's code runs, for every call to look at; else null.
    ends: Cell<*const Cancel>,
    /// What other modules of the binding keep for this state.
    extras: RefCell<HashMap<TypeId, Box<dyn Any>>>,
    at_close: RefCell<Vec<AtClose>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

/// How many variants of classes there are at most: of tensors and storages one each, by what their elements are.
pub const VARIANTS: usize = 64;

/// A reused message past this size gives its memory back.
const KEEP_BYTES: usize = 1 << 20;

impl State {
    pub(in crate::bind) fn new(library: &'static Library) -> Self {
        State {
            library,
            owner: Owner::new(),
            main: Cell::new(std::ptr::null_mut()),
            protected: Cell::new(ffi::LUA_NOREF),
            empty: Cell::new(ffi::LUA_NOREF),
            globals: Cell::new(ffi::LUA_NOREF),
            raised: Cell::new(ffi::LUA_NOREF),
            has_raised: Cell::new(false),
            places: Cell::new(ffi::LUA_NOREF),
            drops_metatables: Cell::new(false),
            job: Cell::new(None),
            depth: Depth::default(),
            arguments: Cell::new(-1),
            metatables: RefCell::default(),
            variants: [const { Cell::new(0) }; VARIANTS],
            account: Account::default(),
            references: References::default(),
            anchors: RefCell::default(),
            message: Cell::new(None),
            last: Last::default(),
            updating: RefCell::default(),
            cancel: RefCell::default(),
            ends: Cell::new(std::ptr::null()),
            extras: RefCell::default(),
            at_close: RefCell::default(),
        }
    }

    /// The token of this state: what it owns and holds goes by it.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// An empty message with memory to write into; give it back with [`State::keep_message`].
    ///
    /// It is taken, not borrowed: finalizers and metamethods may call in again in mid-walk.
    pub fn take_message(&self) -> Box<Message> {
        self.message.take().unwrap_or_default()
    }

    /// Gives a message back, for the next call.
    pub fn keep_message(&self, mut message: Box<Message>) {
        message.clear();
        if message.bytes.capacity() <= KEEP_BYTES {
            self.message.set(Some(message));
        }
    }

    /// The token that cancels the calls of this state.
    pub fn cancel(&self) -> Option<Arc<Cancel>> {
        self.cancel.borrow().clone()
    }

    /// The same token, for the length of a call: it stays until the state closes.
    pub(super) fn cancel_ptr(&self) -> Option<*const Cancel> {
        self.cancel.borrow().as_ref().map(Arc::as_ptr)
    }

    /// What has cancelled the code that runs in this state.
    #[inline]
    pub(in crate::bind) fn cancelled(&self) -> Option<&Cancel> {
        // SAFETY: null, or what this State holds until it closes.
        unsafe { self.ends.get().as_ref() }.filter(|cancel| cancel.fired())
    }

    /// Whether the cancel also ends calls that do not wait: from now on, or no longer.
    pub(in crate::bind) fn end_all_calls(&self, all: bool) {
        self.ends.set(self.cancel_ptr().filter(|_| all).unwrap_or(std::ptr::null()));
    }

    /// Makes this the state of a worker that `cancel` ends.
    pub fn set_cancel(&self, cancel: Arc<Cancel>) {
        *self.cancel.borrow_mut() = Some(cancel);
    }

    /// The one `T` of this state, made at the first call.
    ///
    /// `T` is handed out as a clone: make it an `Rc` or an `Arc` of what it is.
    pub fn extra<T: Clone + 'static>(&self, make: impl FnOnce() -> T) -> T {
        if let Some(found) = self.extras.borrow().get(&TypeId::of::<T>()).and_then(|x| x.downcast_ref::<T>()) {
            return found.clone();
        }
        let made = make();
        self.extras.borrow_mut().insert(TypeId::of::<T>(), Box::new(made.clone()));
        made
    }

    /// Runs `callback` when this Lua state closes: for what the state owns outside Lua (locks, queues).
    pub fn at_close(&self, callback: impl FnOnce() + 'static) {
        self.at_close.borrow_mut().push(Box::new(callback));
    }

    /// Lets go of everything; called by the finalizer. The state stays usable, as one that holds nothing.
    pub(in crate::bind) fn close(&self) {
        if is_torn() {
            // What these lead to may be half changed; all of it goes with the process.
            return;
        }
        loop {
            // One at a time, the borrow ended: one may add another.
            let next = self.at_close.borrow_mut().pop();
            match next {
                Some(callback) => callback(),
                None => break,
            }
        }
        self.account.close();
        drop(self.message.take());
        self.last.close();
        drop(self.at_close.take());
        drop(self.extras.take());
        // Lua frees the memory of the State without dropping it: nothing of ours may be left in it.
        drop(self.metatables.take());
        drop(self.updating.take());
        drop(self.anchors.take());
        self.ends.set(std::ptr::null());
        drop(self.cancel.take());
    }
}
