//! Rust values as Lua userdata: classes, their metatables, and the way back from a stack slot to the value.
//!
//! A class is a type that implements [`Class`]; its `static` [`ClassInfo`] is its identity. The first word of every
//! userdata of ours is the address of that static, so that a check costs no look-up and a metatable swapped by
//! `debug.setmetatable` deceives nobody.
//!
//! ```ignore
//! static INFO: ClassInfo = ClassInfo::of::<Counter>("ipc.counter", METHODS, METAMETHODS);
//! const METHODS: &[Method] = &[("add", lua_fn!("counter:add", add))];
//! impl Class for Counter { fn info() -> &'static ClassInfo { &INFO } … }
//! ```

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mlua_sys as ffi;

use crate::bind::vm::account::{Charge, Charged};
use crate::bind::vm::call::{Count, Pushed, c_function, enter};
use crate::bind::vm::lua::Lua;
use crate::bind::vm::state::State;
use crate::err;
use crate::error::Result;
use crate::sys::is_torn;
use crate::text;
use crate::wait::{Source, Way};
use crate::wire::{Attachment, Object, identity, remember};

/// A name and a function made by [`lua_fn!`](crate::lua_fn).
pub type Method = (&'static str, ffi::lua_CFunction);

/// How an object is waited for.
pub type Waitable = Box<dyn Source>;

/// A Rust type that Lua sees as a userdata.
pub trait Class: Sized + 'static {
    /// The class's identity: a `static`, so that its address is its own.
    fn info() -> &'static ClassInfo;

    /// What `tostring` says: `ipc.channel: open, 3 items`.
    fn describe(&self) -> String {
        Self::info().name.to_string()
    }

    /// What crosses to another thread; `None` when it cannot.
    fn attach(&self) -> Option<Attachment> {
        None
    }

    /// How its objects are waited for, for reading or for writing: what `ipc.select`, `obj:fd()` and schedulers use.
    /// `None` where they cannot be; an error (`[closed]`, say) is what a call on it would raise, and counts as ready.
    fn source(&self, way: Way) -> Result<Option<Waitable>> {
        let _ = way;
        Ok(None)
    }

    /// Whether the call that [`source`](Self::source) is for would go on now, without a system call: a look at many of
    /// them makes nothing for each. `None` where that takes the source.
    fn ready(&self, way: Way) -> Option<bool> {
        let _ = way;
        None
    }

    /// The object that this is a handle of, for `ipc.report`. What crosses to other threads is known by that.
    fn object(&self) -> Option<Arc<dyn Object>> {
        match self.attach() {
            Some(Attachment::Object(object)) => Some(object),
            _ => None,
        }
    }

    /// The memory that a handle stands for.
    fn charge(&self) -> Charge {
        Charge::Own(self.object().map_or(0, |object| object.weight()))
    }

    /// The object on the other side of a crossing, in the state that received it.
    fn adopt(lua: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        let _ = (lua, object);
        None
    }
}

/// A class as the binding sees it: name, methods, and how to treat its values without knowing their type.
#[derive(Debug)]
pub struct ClassInfo {
    /// `ipc.channel`, `torch.FloatTensor`: what `ipc.type` answers.
    pub name: &'static str,
    /// Found through `__index`.
    pub methods: &'static [Method],
    /// Set in the metatable itself; `__gc`, `__tostring` and `__index` have defaults.
    pub metamethods: &'static [Method],
    pub(in crate::bind) gc: ffi::lua_CFunction,
    pub(in crate::bind) tostring: ffi::lua_CFunction,
    pub(in crate::bind) attach: unsafe fn(*const c_void) -> Option<Attachment>,
    source: unsafe fn(*const c_void, Way) -> Result<Option<Waitable>>,
    ready: unsafe fn(*const c_void, Way) -> Option<bool>,
    pub(in crate::bind) object: unsafe fn(*const c_void) -> Option<Arc<dyn Object>>,
    pub(in crate::bind) adopt: fn(Lua<'_>, Arc<dyn Object>) -> Result<bool>,
}

impl ClassInfo {
    /// The description of class `T`.
    pub const fn of<T: Class>(
        name: &'static str,
        methods: &'static [Method],
        metamethods: &'static [Method],
    ) -> ClassInfo {
        ClassInfo {
            name,
            methods,
            metamethods,
            gc: gc::<T>,
            tostring: c_function(tostring::<T>),
            attach: attach::<T>,
            source: source_of::<T>,
            ready: ready_of::<T>,
            object: object::<T>,
            adopt: adopt::<T>,
        }
    }
}

/// What a userdata of ours holds.
#[repr(C)]
struct Block<T> {
    info: &'static ClassInfo,
    /// When `ipc.select` returned it last, by way: what has waited longest goes first. 0: never.
    served: [Cell<u32>; 2],
    /// What the state's account has of it.
    charged: Cell<Charged>,
    /// `None` once finalized: Lua code can call `__gc` by hand and go on using the object.
    value: RefCell<Option<T>>,
}

/// Lua aligns userdata to 8 bytes on every Lua there is.
const ALIGNMENT: usize = 8;

/// The block in slot `index`, if it is a userdata of class `T`.
#[inline]
fn block<'a, T: Class>(lua: Lua<'a>, index: c_int) -> Option<&'a Block<T>> {
    const { assert!(align_of::<Block<T>>() <= ALIGNMENT, "box what needs a wider alignment") };
    // SAFETY: only push_object writes the address of T's info into a userdata, with a whole Block<T> behind it; the
    // slot keeps the userdata alive while the call runs.
    unsafe {
        let at = raw_block(lua.raw(), index, size_of::<Block<T>>())?;
        std::ptr::eq(at.read(), T::info()).then(|| &*at.cast())
    }
}

/// The userdata in slot `index`, if it has `size` or more bytes: its first word is the address of a ClassInfo, if it is
/// one of ours.
///
/// # Safety
/// Called with a live state; `size` is one word at least.
#[inline]
unsafe fn raw_block(l: *mut ffi::lua_State, index: c_int, size: usize) -> Option<*const *const ClassInfo> {
    // SAFETY: a userdata is looked at, nothing raises. A light one is a pointer to anything, and has no length.
    unsafe {
        let at = ffi::lua_touserdata(l, index) as *const *const ClassInfo;
        (!at.is_null() && ffi::lua_rawlen(l, index) >= size && at.is_aligned()).then_some(at)
    }
}

/// The class of the userdata in slot `index`, if it is one of `classes`.
pub fn class_at(lua: Lua<'_>, index: c_int, classes: &[&'static ClassInfo]) -> Option<&'static ClassInfo> {
    // SAFETY: a word at least lies behind the pointer, at its alignment.
    let word = unsafe { raw_block(lua.raw(), index, size_of::<usize>())?.read() };
    classes.iter().find(|info| std::ptr::eq(**info, word)).copied()
}

/// What the object of class `info` in slot `index` sends to another thread.
pub(in crate::bind) fn attachment_at(lua: Lua<'_>, index: c_int, info: &'static ClassInfo) -> Option<Attachment> {
    // SAFETY: class_at found `info` in the block's first word, so `attach` is the one of its type.
    unsafe { (info.attach)(ffi::lua_touserdata(lua.raw(), index)) }
}

/// How the object of class `info` in slot `index` is waited for.
pub(in crate::bind) fn source_at(
    lua: Lua<'_>,
    index: c_int,
    info: &'static ClassInfo,
    way: Way,
) -> Result<Option<Waitable>> {
    // SAFETY: class_at found `info` in the block's first word, so `source` is the one of its type.
    unsafe { (info.source)(ffi::lua_touserdata(lua.raw(), index), way) }
}

/// Whether the object of class `info` in slot `index` is ready, where it can tell by itself.
#[inline]
pub(in crate::bind) fn ready_at(lua: Lua<'_>, index: c_int, info: &'static ClassInfo, way: Way) -> Option<bool> {
    // SAFETY: class_at found `info` in the block's first word, so `ready` is the one of its type.
    unsafe { (info.ready)(ffi::lua_touserdata(lua.raw(), index), way) }
}

/// When the object of one of our classes in slot `index` was served last.
pub(in crate::bind) fn served_at<'a>(lua: Lua<'a>, index: c_int, way: Way) -> &'a Cell<u32> {
    // SAFETY: class_at has found a class of ours in the block's first word; in every block the same fields come first,
    // and the slot keeps the userdata alive while the call runs.
    let block = unsafe { &*(ffi::lua_touserdata(lua.raw(), index) as *const Block<()>) };
    &block.served[way as usize]
}

/// What tells the object behind the handle in slot `index` from others; 0 where there is none.
pub(super) fn identity_at(lua: Lua<'_>, index: c_int) -> usize {
    let Some(info) = lua.class_info(index) else { return 0 };
    // SAFETY: class_at found `info` in the block's first word, so `object` is the one of its type.
    unsafe { (info.object)(ffi::lua_touserdata(lua.raw(), index)) }.as_ref().map_or(0, identity)
}

impl<'a> Lua<'a> {
    /// Pushes a new userdata that holds `value`.
    pub fn push_object<T: Class>(self, value: T) -> Result<()> {
        let mut weight = 0;
        if let Some(object) = value.object() {
            remember(&object)?;
            weight = object.weight();
        }
        self.push_object_as(value, T::info(), Charge::Own(weight), |lua| lua.push_metatable(T::info()))
    }

    /// As [`Lua::push_object`], charged with `charge`, under the metatable that `metatable` pushes: for types with a
    /// metatable for each variant.
    pub fn push_object_as<T: Class>(
        self,
        value: T,
        info: &'static ClassInfo,
        charge: Charge,
        metatable: impl FnOnce(Lua<'a>) -> Result<()>,
    ) -> Result<()> {
        metatable(self)?;
        self.new_userdata(size_of::<Block<T>>())?;
        // SAFETY: the new userdata has room for a Block<T> at Lua's alignment; neither pushing nor setting a metatable
        // on it allocates. The stack is: metatable, userdata.
        unsafe {
            let l = self.raw();
            let at = ffi::lua_touserdata(l, -1) as *mut Block<T>;
            let charged = Cell::new(self.state().account.enter(charge));
            at.write(Block { info, served: Default::default(), charged, value: RefCell::new(Some(value)) });
            ffi::lua_insert(l, -2);
            ffi::lua_setmetatable(l, -2);
        }
        Ok(())
    }

    /// The `T` in slot `index`.
    ///
    /// Clone the handle out before calling back into Lua: a finalizer called by hand finds it borrowed and gives up.
    pub fn object<T: Class>(self, index: c_int) -> Result<Ref<'a, T>> {
        let Some(block) = block::<T>(self, index) else {
            return Err(self.expected(index, T::info().name));
        };
        let held = block.value.try_borrow().map_err(|_| err!(State, "{} is in use", T::info().name))?;
        Ref::filter_map(held, Option::as_ref).map_err(|_| err!(State, "{} was finalized", T::info().name))
    }

    /// As [`Lua::object`], without words for why there is none.
    #[inline(always)]
    pub fn peek<T: Class>(self, index: c_int) -> Option<Ref<'a, T>> {
        let held = block::<T>(self, index)?.value.try_borrow().ok()?;
        Ref::filter_map(held, Option::as_ref).ok()
    }

    /// As [`Lua::object`], to change it.
    pub fn object_mut<T: Class>(self, index: c_int) -> Result<RefMut<'a, T>> {
        let Some(block) = block::<T>(self, index) else {
            return Err(self.expected(index, T::info().name));
        };
        let held = block.value.try_borrow_mut().map_err(|_| err!(State, "{} is in use", T::info().name))?;
        RefMut::filter_map(held, Option::as_mut).map_err(|_| err!(State, "{} was finalized", T::info().name))
    }

    /// The object in slot `index`, a `T`, may hold more or less than it did: its charge is made anew.
    #[cold]
    pub fn recharge<T: Class>(self, index: c_int) {
        let Some(block) = block::<T>(self, index) else { return };
        let charge = match block.value.try_borrow() {
            Ok(value) => value.as_ref().map_or(Charge::Own(0), T::charge),
            Err(_) => return,
        };
        let account = &self.state().account;
        account.leave(block.charged.take());
        block.charged.set(account.enter(charge));
    }

    /// `bytes` were written to the object in slot `index`, a `T`.
    #[inline(always)]
    pub fn wrote<T: Class>(self, index: c_int, bytes: usize) {
        if self.state().account.wrote(bytes) {
            self.recharge::<T>(index);
        }
    }

    /// Whether slot `index` holds a `T`.
    pub fn is_object<T: Class>(self, index: c_int) -> bool {
        block::<T>(self, index).is_some()
    }

    /// Pushes the metatable of `info`, made at first use.
    pub fn push_metatable(self, info: &'static ClassInfo) -> Result<()> {
        let known = self.state().metatables.borrow().iter().find(|(i, _)| std::ptr::eq(*i, info)).map(|(_, r)| *r);
        if let Some(reference) = known {
            self.push_reference(reference);
            return Ok(());
        }
        self.new_table(0, 8)?;
        self.new_table(0, info.methods.len() as c_int)?;
        for (name, function) in info.methods {
            self.push_function(*function)?;
            self.raw_set_field(-2, name)?;
        }
        self.raw_set_field(-2, "__index")?;
        self.push_string(info.name)?;
        self.raw_set_field(-2, "__name")?;
        for (name, function) in [("__gc", info.gc), ("__tostring", info.tostring)] {
            self.push_function(function)?;
            self.raw_set_field(-2, name)?;
        }
        for (name, function) in info.metamethods {
            self.push_function(*function)?;
            self.raw_set_field(-2, name)?;
        }
        self.push_value(-1);
        let reference = self.reference()?;
        self.state().metatables.borrow_mut().push((info, reference));
        Ok(())
    }
}

/// `__gc`: drops the value. Touches no Lua but the slot and its upvalue, the State, since it may run while the state
/// closes.
unsafe extern "C-unwind" fn gc<T: Class>(l: *mut ffi::lua_State) -> c_int {
    // SAFETY: the same checks as in `block`, without a State (which may be finalized already).
    unsafe {
        if let Some(at) = raw_block(l, 1, size_of::<Block<T>>())
            && std::ptr::eq(at.read(), T::info())
        {
            let block = &*at.cast::<Block<T>>();
            let state = ffi::lua_touserdata(l, ffi::lua_upvalueindex(1)) as *const State;
            // A panic in a destructor has nowhere to go: the value is lost, the program lives.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                if let Ok(mut held) = block.value.try_borrow_mut() {
                    let value = held.take();
                    drop(held);
                    if is_torn() {
                        // What it leads to may be half changed.
                        return std::mem::forget(value);
                    }
                    drop(value);
                    // SAFETY: the code that pushes this function gives it the State, which is there as long as the Lua
                    // state.
                    if let Some(state) = state.as_ref() {
                        state.account.leave(block.charged.take());
                    }
                }
            }));
        }
    }
    0
}

/// `__tostring`.
unsafe extern "C-unwind" fn tostring<T: Class>(l: *mut ffi::lua_State) -> Count {
    fn body<T: Class>(lua: Lua<'_>) -> Result<Pushed> {
        let text = match lua.object::<T>(1) {
            Ok(value) => value.describe(),
            Err(_) => text!("{}: finalized", T::info().name),
        };
        lua.push_string(&text)?;
        Ok(1)
    }
    // SAFETY: push_metatable made this function with the State as upvalue 1.
    unsafe { enter::<false>(l, "tostring", body::<T>) }
}

unsafe fn attach<T: Class>(at: *const c_void) -> Option<Attachment> {
    // SAFETY: the caller found T's info in the block's first word.
    let block = unsafe { &*(at as *const Block<T>) };
    block.value.try_borrow().ok()?.as_ref()?.attach()
}

unsafe fn source_of<T: Class>(at: *const c_void, way: Way) -> Result<Option<Waitable>> {
    // SAFETY: the caller found T's info in the block's first word.
    let block = unsafe { &*(at as *const Block<T>) };
    let held = block.value.try_borrow().map_err(|_| err!(State, "{} is in use", T::info().name))?;
    held.as_ref().ok_or_else(|| err!(State, "{} was finalized", T::info().name))?.source(way)
}

unsafe fn ready_of<T: Class>(at: *const c_void, way: Way) -> Option<bool> {
    // SAFETY: the caller found T's info in the block's first word.
    let block = unsafe { &*(at as *const Block<T>) };
    block.value.try_borrow().ok()?.as_ref()?.ready(way)
}

unsafe fn object<T: Class>(at: *const c_void) -> Option<Arc<dyn Object>> {
    // SAFETY: the caller found T's info in the block's first word.
    let block = unsafe { &*(at as *const Block<T>) };
    block.value.try_borrow().ok()?.as_ref()?.object()
}

fn adopt<T: Class>(lua: Lua<'_>, object: Arc<dyn Object>) -> Result<bool> {
    match T::adopt(lua, object) {
        Some(value) => lua.push_object(value).map(|()| true),
        None => Ok(false),
    }
}
