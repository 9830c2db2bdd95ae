//! Tensors and storages as Lua sees them: userdata with one Rust type each, and a metatable for each element type.
//!
//! The metatables lie in the Lua registry under the names that Torch gives them, `registry['torch.FloatTensor'] = mt`
//! and `registry[mt] = 'torch.FloatTensor'`, made when the first value of the class is pushed: a state that uses no
//! tensor has none.
//!
//! Stands on: [`super::METHODS`] and its kin, the lists of what the siblings bind.

use std::cell::{Ref, RefMut};
use std::ffi::{c_char, c_int};

use mlua_sys as ffi;

use crate::bind::vm::{Charge, Class, ClassInfo, Kind, Lua, Method, Pushed, VARIANTS};
use crate::error::Result;
use crate::tensor::{DType, Storage, Tensor};
use crate::wire::Attachment;

/// What all tensors are to the binding; the class of one is by its element type.
pub static TENSOR: ClassInfo = ClassInfo::of::<Tensor>("torch.Tensor", &[], &[]);
/// What all storages are to the binding.
pub static STORAGE: ClassInfo = ClassInfo::of::<Storage>("torch.Storage", &[], &[]);

impl Class for Tensor {
    fn info() -> &'static ClassInfo {
        &TENSOR
    }

    fn attach(&self) -> Option<Attachment> {
        Some(Attachment::Tensor(self.clone()))
    }

    fn charge(&self) -> Charge {
        charge(self.storage())
    }
}

impl Class for Storage {
    fn info() -> &'static ClassInfo {
        &STORAGE
    }

    fn attach(&self) -> Option<Attachment> {
        Some(Attachment::Storage(self.clone()))
    }

    fn charge(&self) -> Charge {
        charge(Some(self))
    }
}

// The State keeps a number for the metatable of each.
const _: () = assert!(2 * DType::ALL.len() <= VARIANTS);

/// Tensor or storage: what the two kinds of classes have different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `torch.*Tensor`
    Tensor,
    /// `torch.*Storage`
    Storage,
}

impl Family {
    /// The class of this family for elements of `dtype`.
    pub fn class(self, dtype: DType) -> &'static str {
        match self {
            Family::Tensor => dtype.tensor_class(),
            Family::Storage => dtype.storage_class(),
        }
    }

    fn info(self) -> &'static ClassInfo {
        match self {
            Family::Tensor => &TENSOR,
            Family::Storage => &STORAGE,
        }
    }

    fn methods(self) -> &'static [&'static [Method]] {
        match self {
            Family::Tensor => super::METHODS,
            Family::Storage => super::STORAGE_METHODS,
        }
    }

    fn metamethods(self) -> &'static [&'static [Method]] {
        match self {
            Family::Tensor => super::METAMETHODS,
            Family::Storage => super::STORAGE_METAMETHODS,
        }
    }

    fn slot(self, dtype: DType) -> usize {
        let family = if self == Family::Tensor { 0 } else { DType::ALL.len() };
        family + usize::from(dtype.code()) - 1
    }
}

/// What a handle on `storage` stands for.
fn charge(storage: Option<&Storage>) -> Charge {
    storage.map_or(Charge::Own(0), |s| Charge::Storage { id: s.id(), bytes: s.kept_bytes() })
}

/// Pushes a tensor.
pub fn push(lua: Lua<'_>, tensor: Tensor) -> Result<()> {
    let dtype = tensor.dtype();
    let charge = tensor.charge();
    lua.push_object_as(tensor, &TENSOR, charge, |lua| push_metatable(lua, Family::Tensor, dtype))
}

/// Pushes a storage.
pub fn push_storage(lua: Lua<'_>, storage: Storage) -> Result<()> {
    let dtype = storage.dtype();
    let charge = storage.charge();
    lua.push_object_as(storage, &STORAGE, charge, |lua| push_metatable(lua, Family::Storage, dtype))
}

/// The tensor in slot `i`, if there is one: another view of the same elements.
pub fn tensor_at(lua: Lua<'_>, i: c_int) -> Option<Tensor> {
    if !lua.is_object::<Tensor>(i) {
        return None;
    }
    lua.object::<Tensor>(i).ok().map(|t| t.clone())
}

/// The storage in slot `i`, if there is one.
pub fn storage_at(lua: Lua<'_>, i: c_int) -> Option<Storage> {
    if !lua.is_object::<Storage>(i) {
        return None;
    }
    lua.object::<Storage>(i).ok().map(|s| s.clone())
}

/// The class of the tensor or storage in slot `i`: `torch.FloatTensor`.
pub fn class_name(lua: Lua<'_>, i: c_int) -> Option<&'static str> {
    if lua.kind(i) != Kind::Userdata {
        None
    } else if lua.is_object::<Tensor>(i) {
        Some(lua.object::<Tensor>(i).map_or(TENSOR.name, |t| t.dtype().tensor_class()))
    } else if lua.is_object::<Storage>(i) {
        Some(lua.object::<Storage>(i).map_or(STORAGE.name, |s| s.dtype().storage_class()))
    } else {
        None
    }
}

impl<'a> Lua<'a> {
    /// The tensor in slot `i`: another view of the same elements.
    pub fn tensor(self, i: c_int) -> Result<Tensor> {
        self.object::<Tensor>(i).map(|t| t.clone())
    }

    /// The tensor in slot `i` itself, to look at.
    pub fn tensor_ref(self, i: c_int) -> Result<Ref<'a, Tensor>> {
        self.object::<Tensor>(i)
    }

    /// The tensor in slot `i` itself, to change what it views.
    pub fn tensor_mut(self, i: c_int) -> Result<RefMut<'a, Tensor>> {
        self.object_mut::<Tensor>(i)
    }

    /// The storage in slot `i`.
    pub fn storage(self, i: c_int) -> Result<Storage> {
        self.object::<Storage>(i).map(|s| s.clone())
    }

    /// Pushes a tensor and says that it is the one result.
    pub fn give(self, tensor: Tensor) -> Result<Pushed> {
        push(self, tensor)?;
        Ok(1)
    }
}

/// Pushes the metatable of a class, made at its first use in this Lua state.
pub fn push_metatable(lua: Lua<'_>, family: Family, dtype: DType) -> Result<()> {
    let known = &lua.state().variants[family.slot(dtype)];
    if known.get() != 0 {
        lua.push_reference(known.get());
        return Ok(());
    }
    let class = family.class(dtype);
    lua.new_table(0, 200)?;
    // The functions are made once and shared by the classes of the family.
    push_functions(lua, family)?;
    // SAFETY: in protect everything may be called; slot 1 is the metatable, 2 the functions.
    lua.protect(2, 1, |l| unsafe {
        ffi::lua_pushnil(l);
        while ffi::lua_next(l, 2) != 0 {
            ffi::lua_pushvalue(l, -2);
            ffi::lua_insert(l, -2);
            ffi::lua_rawset(l, 1);
        }
        for name in [&b"__name"[..], b"__typename"] {
            ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
            ffi::lua_pushlstring(l, class.as_ptr() as *const c_char, class.len());
            ffi::lua_rawset(l, 1);
        }
        // A real torch7 that was loaded before us keeps its names.
        ffi::lua_pushlstring(l, class.as_ptr() as *const c_char, class.len());
        ffi::lua_rawget(l, ffi::LUA_REGISTRYINDEX);
        if ffi::lua_type(l, -1) == ffi::LUA_TNIL {
            ffi::lua_pushlstring(l, class.as_ptr() as *const c_char, class.len());
            ffi::lua_pushvalue(l, 1);
            ffi::lua_rawset(l, ffi::LUA_REGISTRYINDEX);
        }
        ffi::lua_pushvalue(l, 1);
        ffi::lua_pushlstring(l, class.as_ptr() as *const c_char, class.len());
        ffi::lua_rawset(l, ffi::LUA_REGISTRYINDEX);
        ffi::lua_settop(l, 1);
        1
    })?;
    lua.push_value(-1);
    known.set(lua.reference()?);
    Ok(())
}

/// Pushes a table of all methods and metamethods of a family.
fn push_functions(lua: Lua<'_>, family: Family) -> Result<()> {
    let name = if family == Family::Tensor { "torch.Tensor" } else { "torch.Storage" };
    lua.anchored(name, |lua| {
        lua.new_table(0, 200)?;
        for (name, function) in family.methods().iter().chain(family.metamethods()).copied().flatten() {
            lua.push_function(*function)?;
            lua.raw_set_field(-2, name)?;
        }
        lua.push_function(family.info().gc)?;
        lua.raw_set_field(-2, "__gc")
    })
}
