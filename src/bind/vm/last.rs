//! A string as the last result of a bound function, without `lua_pcall`.
//!
//! To push a string may raise: memory can run out. Below [`catch_unwind`](crate::bind::vm::call) that takes a
//! `lua_pcall`, which costs as much as the string. But in the frame above nothing needs dropping, so from there Lua may
//! raise. A body that ends with a string therefore leaves it here, with what holds its bytes, and
//! [`enter`](crate::bind::vm::call::enter) pushes it.

use std::any::Any;
use std::cell::Cell;
use std::ffi::c_char;
use std::sync::Arc;

use mlua_sys as ffi;

use crate::wire::Message;

/// Who keeps the bytes alive while they are pushed: the collector may run meanwhile, and finalizers in it.
pub(in crate::bind) enum Holder {
    /// A message of the State, which wants it back.
    Message(Box<Message>),
    /// Something that others hold as well. It is kept, never looked at.
    Shared(#[allow(dead_code)] Arc<dyn Any + Send + Sync>),
}

/// The place where a body leaves its last result.
#[derive(Default)]
pub(in crate::bind) struct Last {
    /// Set between the end of a body and the push.
    due: Cell<bool>,
    /// The string, while it is being pushed.
    bytes: Cell<Option<(*const u8, usize)>>,
    holder: Cell<Option<Holder>>,
}

impl Last {
    /// Whether a string can be left here. The place is taken while a push runs finalizers, which may call other bodies,
    /// and for good after one that ran out of memory.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.bytes.get().is_none()
    }

    /// As [`Last::is_free`], for a string of `length` bytes that nobody has but its holder: where Lua has no memory for
    /// a longer one, it would be lost. Those are pushed where an error can be caught, at a cost that is small beside
    /// the copy.
    #[inline]
    pub fn takes(&self, length: usize) -> bool {
        length <= 4 << 10 && self.is_free()
    }

    /// Whether the body that has just ended left something.
    pub fn is_due(&self) -> bool {
        self.due.get()
    }

    /// Leaves `bytes`, which `holder` keeps where they are. The place must be free, and the body end with this.
    #[inline]
    pub fn leave(&self, bytes: *const [u8], holder: Holder) {
        debug_assert!(self.is_free());
        self.bytes.set(Some((bytes.cast(), bytes.len())));
        self.holder.set(Some(holder));
        self.due.set(true);
    }

    /// Pushes what the body that has just ended left, if it did.
    ///
    /// # Safety
    /// Nothing in the callers' frames needs dropping: Lua may raise. There is a free slot.
    #[inline]
    pub unsafe fn push(&self, l: *mut ffi::lua_State, give_back: impl FnOnce(Box<Message>)) {
        if !self.due.replace(false) {
            return;
        }
        if let Some((p, n)) = self.bytes.get() {
            // SAFETY: `holder` keeps the bytes, whatever runs meanwhile: the place is taken until they are pushed.
            unsafe { push_string(l, p, n) };
        }
        self.bytes.set(None);
        if let Some(Holder::Message(message)) = self.holder.take() {
            give_back(message);
        }
    }

    /// Lets go of what a push that failed left behind.
    pub fn close(&self) {
        self.holder.take();
    }
}

/// Pushes `n` bytes at `p`; without the detour of mlua-sys on 5.1 and LuaJIT, which asks for the string back to return
/// its address.
///
/// # Safety
/// As the module says: Lua may raise. The bytes are there, and so is a free slot.
#[inline]
pub(in crate::bind) unsafe fn push_string(l: *mut ffi::lua_State, p: *const u8, n: usize) {
    #[cfg(not(any(feature = "luajit", feature = "lua51")))]
    use ffi::lua_pushlstring as push;
    #[cfg(any(feature = "luajit", feature = "lua51"))]
    use ffi::lua_pushlstring_ as push;
    // SAFETY: as promised.
    unsafe {
        push(l, p as *const c_char, n);
    }
}
