//! How deep calls from us into Lua may be nested.
//!
//! A function of ours that calls a function of the user's, which calls ours, and so on, fills the C stack. PUC Lua
//! counts such calls (200 in one coroutine); LuaJIT checks its Lua stack alone, and 5.1 begins to count anew in each
//! coroutine. So every call into Lua ([`Lua::protect`](crate::bind::vm::lua::Lua::protect) and its kin) compares its
//! own address with the end of the thread's stack first: two loads and a comparison.

use std::cell::Cell;
use std::ffi::c_int;

use crate::err;
use crate::error::Error;
use crate::sys::{reach_stack, stack_bounds, stack_pointer};

/// So much of the stack is left for what a callback calls before it comes to us again: Lua's parser and compiler, C
/// functions of other libraries, the system's look-up of names. Of a smaller stack a quarter.
const RESERVE: usize = 256 << 10;

/// So much farther down calls may go before it is looked whether the stack reaches there.
const STEP: usize = 64 << 10;

/// The system may not let a stack grow to its very end.
const MARGIN: usize = 16 << 10;

/// On a stack that the system knows nothing of (some libraries give each coroutine one) calls are counted: these are
/// small.
const UNKNOWN_STACK_CALLS: c_int = 32;

/// The part of the C stack on which a Lua state may be called.
#[derive(Debug, Default)]
pub struct Depth {
    /// The lowest address as far as is known, and the bytes from there to the stack's end, of the thread that ran this
    /// state last; 0 before the first call.
    low: Cell<usize>,
    size: Cell<usize>,
    /// How many calls are under way on unknown stacks.
    counted: Cell<c_int>,
}

/// A call into Lua that is under way.
#[derive(Debug)]
pub struct Level<'a>(Option<&'a Cell<c_int>>);

impl Depth {
    /// Begins a call into Lua, if there is room for one.
    #[inline]
    pub fn descend(&self) -> Option<Level<'_>> {
        let here = stack_pointer();
        if here.wrapping_sub(self.low.get()) < self.size.get() { Some(Level(None)) } else { self.look(here) }
    }

    /// Whether a call into Lua would find room.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.descend().is_some()
    }

    /// This is the first call, or in another thread than the last one, or deeper than all before, or on an unknown
    /// stack, or too deep.
    #[cold]
    #[inline(never)]
    fn look(&self, here: usize) -> Option<Level<'_>> {
        if let Some(stack) = stack_bounds().filter(|stack| stack.contains(&here)) {
            let reserve = RESERVE.min(stack.len() / 4);
            let end = stack.start + reserve;
            // So far at a time, as a stack grows.
            let low = here.saturating_sub(STEP).max(end);
            if here < end || !reach_stack((low - reserve).max(stack.start + MARGIN)) {
                return None;
            }
            self.low.set(low);
            self.size.set(stack.end - low);
            return Some(Level(None));
        }
        let count = self.counted.get();
        if count >= UNKNOWN_STACK_CALLS {
            return None;
        }
        self.counted.set(count + 1);
        Some(Level(Some(&self.counted)))
    }
}

impl Drop for Level<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(counted) = self.0 {
            counted.set(counted.get() - 1);
        }
    }
}

/// The error for a call that finds no room.
pub fn too_deep() -> Error {
    err!(Limit, "calls from Lua to libipc and back are nested too deeply for the C stack of this thread")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often `f` can call itself.
    fn nested(depth: &Depth, times: u32) -> u32 {
        let mut frame = [0u8; 4096];
        std::hint::black_box(&mut frame);
        match depth.descend() {
            Some(_level) if times < 1_000_000 => {
                nested(depth, times + 1).max(std::hint::black_box(u32::from(frame[0])))
            }
            _ => times,
        }
    }

    #[test]
    fn calls_end_before_the_stack_does() {
        let depth = Depth::default();
        let levels = nested(&depth, 0);
        assert!((8..100_000).contains(&levels));
        assert_eq!(depth.counted.get(), 0);
        // It is about the stack, not about what went before.
        assert_eq!(nested(&depth, 0), levels);
    }

    #[test]
    fn calls_on_an_unknown_stack_are_counted() {
        let depth = Depth::default();
        let levels: Vec<_> = (0..UNKNOWN_STACK_CALLS).map(|_| depth.look(16)).collect();
        assert!(levels.iter().all(Option::is_some) && depth.look(16).is_none());
        drop(levels);
        assert!(depth.look(16).is_some());
    }
}
