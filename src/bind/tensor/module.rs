//! The table `torch`: constructors, functions, names of types.
//!
//! Stands on: args, class, construct, context.

use std::ffi::c_int;
use std::time::Instant;

use mlua_sys as ffi;

use super::class::{Family, class_name, push_metatable, push_storage};
use super::context::Context;
use super::{construct, storage_at};
use crate::bind::codec::class;
use crate::bind::vm::{Kind, Lua, Method, Pushed};
use crate::error::Result;
use crate::lua_fn;
use crate::sys::SetOnce;
use crate::tensor::DType;

pub(super) const FUNCTIONS: &[Method] = &[
    ("type", lua_fn!("torch.type", type_of)),
    ("typename", lua_fn!("torch.typename", typename)),
    ("isTensor", lua_fn!("torch.isTensor", is_tensor)),
    ("isStorage", lua_fn!("torch.isStorage", is_storage)),
    ("getmetatable", lua_fn!("torch.getmetatable", get_metatable)),
    ("setdefaulttensortype", lua_fn!("torch.setdefaulttensortype", set_default)),
    ("getdefaulttensortype", lua_fn!("torch.getdefaulttensortype", get_default)),
    ("_clock", lua_fn!("torch.tic", clock)),
    ("_register", lua_fn!("torch.class", class::register)),
];

/// What a class's constructor can do: `__call`, and fields that are the metatable's.
struct Constructor {
    name: &'static str,
    call: ffi::lua_CFunction,
    index: ffi::lua_CFunction,
    newindex: ffi::lua_CFunction,
}

/// One constructor for each type, `0` standing for the default type.
macro_rules! constructors {
    ($($dtype:ident = $code:expr,)*) => {
        const CONSTRUCTORS: &[Constructor] = &[$(
            Constructor {
                name: concat!(stringify!($dtype), "Tensor"),
                call: lua_fn!(concat!("torch.", stringify!($dtype), "Tensor"), new_tensor::<{ $code }>),
                index: lua_fn!(concat!("torch.", stringify!($dtype), "Tensor"), field::<{ $code }, true>),
                newindex: lua_fn!(concat!("torch.", stringify!($dtype), "Tensor"), set_field::<{ $code }, true>),
            },
            Constructor {
                name: concat!(stringify!($dtype), "Storage"),
                call: lua_fn!(concat!("torch.", stringify!($dtype), "Storage"), new_storage::<{ $code }>),
                index: lua_fn!(concat!("torch.", stringify!($dtype), "Storage"), field::<{ $code }, false>),
                newindex: lua_fn!(concat!("torch.", stringify!($dtype), "Storage"), set_field::<{ $code }, false>),
            },
        )*];
    };
}

constructors! {
    Byte = 1,
    Char = 2,
    Short = 3,
    Int = 4,
    Long = 5,
    Float = 6,
    Double = 7,
    Half = 8,
    BFloat16 = 9,
}

/// `torch.Tensor` and `torch.Storage`: of the default type.
const DEFAULTS: &[Constructor] = &[
    Constructor {
        name: "Tensor",
        call: lua_fn!("torch.Tensor", new_tensor::<0>),
        index: lua_fn!("torch.Tensor", field::<0, true>),
        newindex: lua_fn!("torch.Tensor", set_field::<0, true>),
    },
    Constructor {
        name: "Storage",
        call: lua_fn!("torch.Storage", new_storage::<0>),
        index: lua_fn!("torch.Storage", field::<0, false>),
        newindex: lua_fn!("torch.Storage", set_field::<0, false>),
    },
];

/// The type that code `CODE` means in this state.
fn dtype<const CODE: u8>(lua: Lua<'_>) -> DType {
    DType::from_code(CODE).unwrap_or_else(|| Context::of(lua).default_type.get())
}

/// Takes the constructor's own table from before the arguments. Lua code can call `__call` by hand, without it.
fn drop_self(lua: Lua<'_>) -> Result<()> {
    if lua.top() == 0 {
        return Err(lua.expected(1, "table"));
    }
    lua.drop_self();
    Ok(())
}

fn new_tensor<const CODE: u8>(lua: Lua<'_>) -> Result<Pushed> {
    drop_self(lua)?;
    lua.give(construct::tensor(lua, 1, dtype::<CODE>(lua))?)
}

fn new_storage<const CODE: u8>(lua: Lua<'_>) -> Result<Pushed> {
    drop_self(lua)?;
    push_storage(lua, construct::storage(lua, 1, dtype::<CODE>(lua))?)?;
    Ok(1)
}

fn family(tensor: bool) -> Family {
    if tensor { Family::Tensor } else { Family::Storage }
}

/// `torch.FloatTensor.name`: a field of the class's metatable.
fn field<const CODE: u8, const TENSOR: bool>(lua: Lua<'_>) -> Result<Pushed> {
    push_metatable(lua, family(TENSOR), dtype::<CODE>(lua))?;
    lua.push_value(2);
    // SAFETY: a raw read of the table below the key raises nothing.
    unsafe { ffi::lua_rawget(lua.raw(), -2) };
    Ok(1)
}

/// `function torch.FloatTensor.name(self) … end`: a method more for the class.
fn set_field<const CODE: u8, const TENSOR: bool>(lua: Lua<'_>) -> Result<Pushed> {
    lua.bytes(2)?;
    lua.set_top(3);
    push_metatable(lua, family(TENSOR), dtype::<CODE>(lua))?;
    lua.push_value(2);
    lua.push_value(3);
    lua.raw_set(4)?;
    Ok(0)
}

/// Pushes the module's table, made at the first call in this Lua state.
pub fn open(lua: Lua<'_>) -> Result<Pushed> {
    table(lua, 400)?;
    fill(lua)?;
    Ok(1)
}

/// Pushes the module's table, which fills itself when it is first used: a thread whose parent had loaded tensors starts
/// without the time that this takes.
pub fn open_later(lua: Lua<'_>) -> Result<()> {
    table(lua, 0)
}

/// What the module's table has before it is filled. `__fill` is for those who read it raw.
const UNFILLED: &[Method] = &[
    ("__index", lua_fn!("torch.…", fill_and_get)),
    ("__newindex", lua_fn!("torch.… = ", fill_and_set)),
    ("__pairs", lua_fn!("pairs(torch)", fill_and_list)),
    ("__fill", lua_fn!("require 'torch'", fill_given)),
];

/// Pushes the module's table; it may yet have to be filled.
fn table(lua: Lua<'_>, capacity: c_int) -> Result<()> {
    lua.anchored("torch", |lua| {
        lua.new_table(0, capacity)?;
        lua.push_boolean(true);
        lua.raw_set_field(-2, "_ipc")?;
        lua.new_table(0, UNFILLED.len() as c_int + 1)?;
        for (name, function) in UNFILLED {
            lua.push_function(*function)?;
            lua.raw_set_field(-2, name)?;
        }
        lua.push_boolean(false);
        lua.raw_set_field(-2, "__metatable")?;
        // SAFETY: sets a metatable on the new table below it; neither allocates.
        unsafe { ffi::lua_setmetatable(lua.raw(), -2) };
        Ok(())
    })
}

/// Fills the module's table, on top, if that was not done yet. Its metatable goes first, which the functions of
/// torch.lua would meet, and comes back if there is no memory for the rest.
fn fill(lua: Lua<'_>) -> Result<()> {
    let torch = lua.abs(-1);
    lua.anchored("torch is filled", |lua| {
        // SAFETY: reads and sets a metatable of a table; neither allocates.
        unsafe {
            if ffi::lua_getmetatable(lua.raw(), torch) == 0 {
                lua.push_nil();
            }
            lua.push_nil();
            ffi::lua_setmetatable(lua.raw(), torch);
        }
        let unfilled = lua.top();
        let filled = fill_all(lua, torch);
        if filled.is_err() {
            lua.push_value(unfilled);
            // SAFETY: as above.
            unsafe { ffi::lua_setmetatable(lua.raw(), torch) };
            return filled;
        }
        lua.push_boolean(true);
        Ok(())
    })?;
    lua.set_top(torch);
    Ok(())
}

/// Puts everything into the module's table, in slot `torch`.
fn fill_all(lua: Lua<'_>, torch: c_int) -> Result<()> {
    const TIMER: &std::ffi::CStr = c"torch.Timer";
    let mut timer = false;
    // SAFETY: in protect everything may be called.
    lua.protect(0, 0, |l| unsafe {
        ffi::lua_getfield(l, ffi::LUA_REGISTRYINDEX, TIMER.as_ptr());
        timer = ffi::lua_type(l, -1) != ffi::LUA_TNIL;
        0
    })?;
    let fields = || {
        for (name, function) in super::FUNCTIONS.iter().copied().flatten() {
            lua.push_function(*function)?;
            lua.raw_set_field(torch, name)?;
        }
        for class in CONSTRUCTORS.iter().chain(DEFAULTS) {
            lua.new_table(0, 0)?;
            lua.new_table(0, 4)?;
            for (name, function) in [("__call", class.call), ("__index", class.index), ("__newindex", class.newindex)] {
                lua.push_function(function)?;
                lua.raw_set_field(-2, name)?;
            }
            // SAFETY: sets a metatable on the new table below it; neither allocates.
            unsafe { ffi::lua_setmetatable(lua.raw(), -2) };
            lua.raw_set_field(torch, class.name)?;
        }
        lua.load("ipc.torch", include_str!("torch.lua"))?;
        lua.push_value(torch);
        lua.call(1, 0)
    };
    let filled = fields();
    if filled.is_err() && !timer {
        // It ran out of memory on the way. The class that torch.lua may have registered is made anew by the next try.
        // SAFETY: in protect everything may be called.
        let forgot = lua.protect(0, 0, |l| unsafe {
            ffi::lua_pushnil(l);
            ffi::lua_setfield(l, ffi::LUA_REGISTRYINDEX, TIMER.as_ptr());
            0
        });
        if forgot.is_err() {
            lua.pop(1);
        }
    }
    filled
}

/// `torch[k]`, at the first use.
fn fill_and_get(lua: Lua<'_>) -> Result<Pushed> {
    lua.set_top(2);
    open(lua)?;
    lua.push_value(2);
    // SAFETY: a raw read of the table below the key raises nothing.
    unsafe { ffi::lua_rawget(lua.raw(), -2) };
    Ok(1)
}

/// `torch[k] = v`, at the first use.
fn fill_and_set(lua: Lua<'_>) -> Result<Pushed> {
    lua.set_top(3);
    open(lua)?;
    lua.push_value(2);
    lua.push_value(3);
    lua.raw_set(4)?;
    Ok(0)
}

/// `pairs(torch)`, at the first use.
fn fill_and_list(lua: Lua<'_>) -> Result<Pushed> {
    lua.get_global("next")?;
    open(lua)?;
    lua.push_nil();
    Ok(3)
}

/// Fills the module's table: whatever is given, since that is where this function was found.
fn fill_given(lua: Lua<'_>) -> Result<Pushed> {
    open(lua)?;
    Ok(0)
}

/// The class name that the registry knows for the metatable of slot `i`: pushes it, or nil.
fn push_typename(lua: Lua<'_>, i: c_int) -> Result<()> {
    if let Some(name) = class_name(lua, i) {
        return lua.push_string(name);
    }
    if matches!(lua.kind(i), Kind::Table | Kind::Userdata) {
        // SAFETY: raw reads raise nothing.
        unsafe {
            let l = lua.raw();
            if ffi::lua_getmetatable(l, i) != 0 {
                ffi::lua_rawget(l, ffi::LUA_REGISTRYINDEX);
                if ffi::lua_type(l, -1) == ffi::LUA_TSTRING {
                    return Ok(());
                }
                ffi::lua_settop(l, -2);
            }
        }
    }
    lua.push_nil();
    Ok(())
}

/// `torch.typename(x)`: the name of a torch class, or nil.
fn typename(lua: Lua<'_>) -> Result<Pushed> {
    push_typename(lua, 1)?;
    Ok(1)
}

/// `torch.type(x)`: that, or `type(x)`.
fn type_of(lua: Lua<'_>) -> Result<Pushed> {
    push_typename(lua, 1)?;
    if lua.is_nil(-1) {
        let kind = if lua.kind(1) == Kind::None { Kind::Nil } else { lua.kind(1) };
        lua.push_string(kind.name())?;
    }
    Ok(1)
}

fn is_tensor(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_boolean(lua.is_tensor(1));
    Ok(1)
}

fn is_storage(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_boolean(storage_at(lua, 1).is_some());
    Ok(1)
}

/// `torch.getmetatable(name)`: the metatable of a class, or nil.
fn get_metatable(lua: Lua<'_>) -> Result<Pushed> {
    let name = lua.bytes(1)?;
    for dtype in DType::ALL {
        for family in [Family::Tensor, Family::Storage] {
            if family.class(dtype).as_bytes() == name {
                push_metatable(lua, family, dtype)?;
                return Ok(1);
            }
        }
    }
    lua.push_value(1);
    // SAFETY: a raw read of the registry raises nothing.
    unsafe { ffi::lua_rawget(lua.raw(), ffi::LUA_REGISTRYINDEX) };
    if lua.kind(-1) != Kind::Table {
        lua.push_nil();
    }
    Ok(1)
}

/// `torch.setdefaulttensortype('torch.FloatTensor')`: what `torch.Tensor` and the functions that make tensors make.
fn set_default(lua: Lua<'_>) -> Result<Pushed> {
    let dtype = lua.dtype(1)?;
    if !dtype.is_float() {
        return Err(lua.bad_value(1, format_args!("expected a type with fractions, got {}", dtype.tensor_class())));
    }
    Context::of(lua).default_type.set(dtype);
    Ok(0)
}

fn get_default(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_string(Context::of(lua).default_type.get().tensor_class())?;
    Ok(1)
}

/// Seconds since the first call in this process.
fn clock(lua: Lua<'_>) -> Result<Pushed> {
    static START: SetOnce<Instant> = SetOnce::new();
    lua.push_number(START.get_or_init(Instant::now).elapsed().as_secs_f64());
    Ok(1)
}
