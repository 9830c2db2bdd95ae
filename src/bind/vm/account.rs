//! The memory behind a Lua state's handles, and the collections that it calls for.
//!
//! To Lua a tensor of 4 MB is a userdata of some hundred bytes, so Lua's own pace would let garbage fill the machine.
//! Each state therefore counts the bytes behind its handles, of what it made and of what it received; a handle that is
//! finalized takes its bytes off again. When as much has been added since the last collection as there was then (or as
//! Lua's own heap was, or [`LEAST`]), the next call from Lua begins with a full collection. Steps would not do: on 5.4
//! one may be a whole collection, and in generational mode steps end no cycle.
//!
//! What is counted:
//! - a tensor or a storage: the bytes of its storage, once in a state, however many views there are;
//! - an object of ours: [`Object::weight`](crate::wire::Object::weight), as it was when the handle was made, and again
//!   when this state has written to it;
//! - results that threads leave for this state: see [`Ledger`].
//!
//! A collection never begins inside of the codec's walk, nor inside of another one. On 5.2 and later it leaves alone a
//! collector that was stopped, or that runs a finalizer; 5.1 and LuaJIT do not tell.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use hashbrown::HashTable;
use mlua_sys as ffi;

use crate::bind::vm::lua::Lua;
use crate::sys::is_torn;
use crate::wire::Ledger;

/// So much may be added before the first collection.
const LEAST: usize = 32 << 20;

/// How much more may be added before another try, where a collection is not allowed.
const LATER: usize = 1 << 20;

/// Storages up to this size are counted with each handle, views too: to look them up costs more than they do.
const SMALL: usize = 1 << 10;

/// After so many bytes written to an object its weight is asked for anew.
const WRITTEN: usize = 64 << 10;
/// One item of so many bytes is reason enough.
const LONG: usize = 4 << 10;

/// How often a collection is begun again whose finalizers raise errors: on 5.1 and LuaJIT each one ends it.
const TRIES: usize = 20;

/// What one handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// So many bytes of its own.
    Own(usize),
    /// A storage that other handles may share.
    Storage {
        /// Which one.
        id: usize,
        /// Its size in bytes.
        bytes: usize,
    },
}

/// What a handle remembers of its charge, in one word: nothing, bytes, or the storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charged(usize);

impl Charged {
    fn own(bytes: usize) -> Charged {
        Charged(if bytes == 0 { 0 } else { bytes << 1 | 1 })
    }

    /// Storages lie at even addresses.
    fn storage(id: usize) -> Charged {
        Charged(id)
    }
}

/// A storage that handles of this state share.
#[derive(Debug)]
struct SharedStorage {
    id: usize,
    handles: usize,
    bytes: usize,
}

fn hash(id: usize) -> u64 {
    // Addresses: the low bits are the same for all, and the table looks at the highest and the lowest.
    (id as u64 >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The account of one Lua state.
#[derive(Debug)]
pub struct Account {
    held: Cell<usize>,
    limit: Cell<usize>,
    storages: RefCell<HashTable<SharedStorage>>,
    /// Bytes written to objects since a weight was last asked for.
    written: Cell<usize>,
    /// Walks of the codec that are under way.
    walks: Cell<usize>,
    collecting: Cell<bool>,
    /// The state has closed, or is about to.
    closed: Cell<bool>,
    /// Where others write down what they leave for this state: `keeper` holds it until the state closes.
    ledger: Cell<*const Ledger>,
    keeper: RefCell<Option<Arc<Ledger>>>,
}

/// The ledger of states that have closed.
static NOBODYS: Ledger = Ledger::new();

impl Default for Account {
    /// Of a state that holds nothing.
    fn default() -> Account {
        let ledger = Arc::new(Ledger::new());
        Account {
            held: Cell::new(0),
            limit: Cell::new(LEAST),
            storages: RefCell::default(),
            written: Cell::new(0),
            walks: Cell::new(0),
            collecting: Cell::new(false),
            closed: Cell::new(false),
            ledger: Cell::new(Arc::as_ptr(&ledger)),
            keeper: RefCell::new(Some(ledger)),
        }
    }
}

impl Account {
    /// Where other threads write down what they leave for this state.
    pub fn ledger(&self) -> Arc<Ledger> {
        self.keeper.borrow().clone().unwrap_or_default()
    }

    #[inline]
    fn total(&self) -> usize {
        // SAFETY: the keeper holds it, or it is the static one.
        self.held.get().saturating_add(unsafe { &*self.ledger.get() }.bytes())
    }

    /// Whether a collection is due.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.total() > self.limit.get()
    }

    fn add(&self, bytes: usize) {
        self.held.set(self.held.get().saturating_add(bytes));
    }

    fn take_off(&self, bytes: usize) {
        self.held.set(self.held.get().saturating_sub(bytes));
    }

    /// Counts a new handle.
    #[inline]
    pub fn enter(&self, charge: Charge) -> Charged {
        match charge {
            Charge::Own(bytes) => self.own(bytes),
            Charge::Storage { bytes, .. } if bytes <= SMALL => self.own(bytes),
            Charge::Storage { id, bytes } => self.shared(id, bytes),
        }
    }

    fn own(&self, bytes: usize) -> Charged {
        self.add(bytes);
        Charged::own(bytes)
    }

    fn shared(&self, id: usize, bytes: usize) -> Charged {
        let Ok(mut storages) = self.storages.try_borrow_mut() else { return Charged::default() };
        if let Some(known) = storages.find_mut(hash(id), |s| s.id == id) {
            known.handles += 1;
            // It may have been resized.
            let before = std::mem::replace(&mut known.bytes, bytes);
            drop(storages);
            self.take_off(before);
            self.add(bytes);
            return Charged::storage(id);
        }
        // Without memory for the entry it goes uncounted.
        if self.closed.get() || storages.try_reserve(1, |s| hash(s.id)).is_err() {
            return Charged::default();
        }
        storages.insert_unique(hash(id), SharedStorage { id, handles: 1, bytes }, |s| hash(s.id));
        drop(storages);
        self.add(bytes);
        Charged::storage(id)
    }

    /// A handle is gone.
    #[inline]
    pub fn leave(&self, charged: Charged) {
        match charged.0 {
            0 => {}
            own if own & 1 != 0 => self.take_off(own >> 1),
            id => self.leave_shared(id),
        }
    }

    fn leave_shared(&self, id: usize) {
        let Ok(mut storages) = self.storages.try_borrow_mut() else { return };
        let Ok(mut found) = storages.find_entry(hash(id), |s| s.id == id) else { return };
        found.get_mut().handles -= 1;
        if found.get().handles == 0 {
            let (gone, _) = found.remove();
            drop(storages);
            self.take_off(gone.bytes);
        }
    }

    /// `bytes` were written to an object; whether its weight is to be asked for anew.
    #[inline]
    pub fn wrote(&self, bytes: usize) -> bool {
        let written = self.written.get().saturating_add(bytes);
        let enough = bytes >= LONG || written >= WRITTEN;
        self.written.set(if enough { 0 } else { written });
        enough
    }

    /// While the answer lives, a walk of the codec is under way: nothing is collected.
    pub fn walk(&self) -> Walking<'_> {
        self.walks.set(self.walks.get() + 1);
        Walking(self)
    }

    /// Nothing is counted or collected any more.
    pub fn close(&self) {
        self.closed.set(true);
        self.limit.set(usize::MAX);
        self.ledger.set(&NOBODYS);
        drop(self.keeper.take());
        drop(self.storages.take());
    }

    /// What a new collection is due at, after one that left `heap` bytes to Lua.
    fn renew(&self, heap: usize) {
        let held = self.total();
        self.limit.set(held.saturating_add(LEAST.max(held).max(heap)));
    }

    fn postpone(&self) {
        self.limit.set(self.limit.get().max(self.total()).saturating_add(LATER));
    }
}

/// See [`Account::walk`].
#[derive(Debug)]
pub struct Walking<'a>(&'a Account);

impl Drop for Walking<'_> {
    fn drop(&mut self) {
        self.0.walks.set(self.0.walks.get() - 1);
    }
}

/// Collects garbage, if that is allowed here, and says whether it did.
#[cold]
pub fn collect(lua: Lua<'_>) -> bool {
    let account = &lua.state().account;
    if account.closed.get() || is_torn() {
        return false;
    }
    if account.collecting.get() || account.walks.get() > 0 || !is_running(lua) {
        account.postpone();
        return false;
    }
    account.collecting.set(true);
    let mut heap = 0;
    for _ in 0..TRIES {
        // SAFETY: in protect everything may be called, also what runs finalizers.
        let done = lua.protect(0, 0, |l| unsafe {
            ffi::lua_gc(l, ffi::LUA_GCCOLLECT, 0);
            heap = ffi::lua_gc(l, ffi::LUA_GCCOUNT, 0);
            0
        });
        if done.is_ok() {
            break;
        }
        // What a finalizer raises is not the error of this call.
        lua.pop(1);
    }
    account.collecting.set(false);
    account.renew(usize::try_from(heap).unwrap_or(0) << 10);
    true
}

/// Whether the collector may run: nobody has stopped it, and this is no finalizer.
#[cfg(not(any(feature = "lua51", feature = "luajit")))]
fn is_running(lua: Lua<'_>) -> bool {
    // SAFETY: asks, and raises nothing. In a finalizer the answer is 0, or -1 on 5.4 and 5.5.
    unsafe { ffi::lua_gc(lua.raw(), ffi::LUA_GCISRUNNING, 0) > 0 }
}

#[cfg(any(feature = "lua51", feature = "luajit"))]
fn is_running(_: Lua<'_>) -> bool {
    true
}

impl Lua<'_> {
    /// Collects garbage if that is due. For a thread's own loop, which no call from Lua enters; there are free slots.
    pub(in crate::bind) fn collect_if_due(self) {
        if self.state().account.is_due() {
            collect(self);
        }
    }
}
