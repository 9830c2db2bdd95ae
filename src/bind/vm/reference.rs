//! Values that the registry keeps for us, by number.
//!
//! The numbers are not those of `luaL_ref`, which live in the registry's array. Where the registry cannot grow for want
//! of memory, LuaJIT and Lua 5.1 may have made its array longer already, and hide the elements that are to move there
//! until it next grows: what we keep would be nil. Negative numbers stay in the hash, which such a failure leaves as it
//! was.

use std::cell::{Cell, RefCell};
use std::ffi::c_int;

use mlua_sys as ffi;

use crate::bind::vm::lua::Lua;
use crate::error::Result;

/// The first number, far from those that others may use; the rest are above it.
const FIRST: c_int = -0x6970_6300;

/// The numbers that one Lua state has given out.
pub(in crate::bind) struct References {
    next: Cell<c_int>,
    /// Numbers that were given back.
    free: RefCell<Vec<c_int>>,
}

impl Default for References {
    fn default() -> Self {
        References { next: Cell::new(FIRST), free: RefCell::default() }
    }
}

impl References {
    /// Pops the value on top and gives it a number.
    ///
    /// # Safety
    /// There is a value on top of `l`. Raises where memory runs out: nothing in the callers' frames needs dropping.
    pub(in crate::bind) unsafe fn add(&self, l: *mut ffi::lua_State) -> c_int {
        let free = self.free.borrow().last().copied();
        let number = free.unwrap_or(self.next.get());
        // SAFETY: as promised; no borrow lasts until here.
        unsafe { ffi::lua_rawseti(l, ffi::LUA_REGISTRYINDEX, number as _) };
        // Only now: a number that could not be used is not lost.
        match free {
            Some(_) => drop(self.free.borrow_mut().pop()),
            None => self.next.set(number + 1),
        }
        number
    }
}

impl Lua<'_> {
    /// Pops the value on top and gives it a number, for [`push_reference`](Self::push_reference).
    pub fn reference(self) -> Result<c_int> {
        let mut number = ffi::LUA_NOREF;
        // SAFETY: in protect everything may be called; slot 1 is the value.
        self.protect(1, 0, |l| unsafe {
            number = self.state().references.add(l);
            0
        })?;
        Ok(number)
    }

    /// Pushes the value that has the number.
    #[inline]
    pub fn push_reference(self, number: c_int) {
        // SAFETY: a raw read of the registry.
        unsafe {
            ffi::lua_rawgeti(self.raw(), ffi::LUA_REGISTRYINDEX, number as _);
        }
    }

    /// Gives a number back; nobody uses it any more.
    pub fn unreference(self, number: c_int) {
        self.push_nil();
        // SAFETY: to put nil where something is takes no memory and raises nothing.
        unsafe { ffi::lua_rawseti(self.raw(), ffi::LUA_REGISTRYINDEX, number as _) };
        self.state().references.free.borrow_mut().push(number);
    }
}
