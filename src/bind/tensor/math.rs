//! Arithmetic: `[res,] src, …` in the forms of [`Form`], and the operators.
//!
//! Stands on: args, class.

use super::args::{Form, Target, result};
use super::class::tensor_at;
use crate::bind::vm::{Kind, Lua, Method, Pushed};
use crate::err;
use crate::error::Result;
use crate::lua_fn;
use crate::tensor::{Binary, Compare, DType, Scalar, Tensor, Unary};

super::bound! { METHODS, FUNCTIONS:
    "abs" => unary::<{ Unary::Abs as usize }>,
    "neg" => unary::<{ Unary::Neg as usize }>,
    "sign" => unary::<{ Unary::Sign as usize }>,
    "cinv" => unary::<{ Unary::Cinv as usize }>,
    "sqrt" => unary::<{ Unary::Sqrt as usize }>,
    "rsqrt" => unary::<{ Unary::Rsqrt as usize }>,
    "exp" => unary::<{ Unary::Exp as usize }>,
    "expm1" => unary::<{ Unary::Expm1 as usize }>,
    "log" => unary::<{ Unary::Log as usize }>,
    "log1p" => unary::<{ Unary::Log1p as usize }>,
    "sin" => unary::<{ Unary::Sin as usize }>,
    "cos" => unary::<{ Unary::Cos as usize }>,
    "tan" => unary::<{ Unary::Tan as usize }>,
    "asin" => unary::<{ Unary::Asin as usize }>,
    "acos" => unary::<{ Unary::Acos as usize }>,
    "atan" => unary::<{ Unary::Atan as usize }>,
    "sinh" => unary::<{ Unary::Sinh as usize }>,
    "cosh" => unary::<{ Unary::Cosh as usize }>,
    "tanh" => unary::<{ Unary::Tanh as usize }>,
    "sigmoid" => unary::<{ Unary::Sigmoid as usize }>,
    "floor" => unary::<{ Unary::Floor as usize }>,
    "ceil" => unary::<{ Unary::Ceil as usize }>,
    "round" => unary::<{ Unary::Round as usize }>,
    "trunc" => unary::<{ Unary::Trunc as usize }>,
    "frac" => unary::<{ Unary::Frac as usize }>,
    "add" => add,
    "csub" => csub,
    "mul" => by_number::<{ Binary::Mul as usize }>,
    "div" => by_number::<{ Binary::Div as usize }>,
    "fmod" => by_number::<{ Binary::Fmod as usize }>,
    "remainder" => by_number::<{ Binary::Remainder as usize }>,
    "mod" => by_number::<{ Binary::Fmod as usize }>,
    "cmul" => by_tensor::<{ Binary::Mul as usize }>,
    "cdiv" => by_tensor::<{ Binary::Div as usize }>,
    "cpow" => by_tensor::<{ Binary::Pow as usize }>,
    "cfmod" => by_tensor::<{ Binary::Fmod as usize }>,
    "cremainder" => by_tensor::<{ Binary::Remainder as usize }>,
    "cmod" => by_tensor::<{ Binary::Fmod as usize }>,
    "cmax" => by_either::<{ Binary::Max as usize }>,
    "cmin" => by_either::<{ Binary::Min as usize }>,
    "pow" => pow,
    "addcmul" => addcmul,
    "addcdiv" => addcdiv,
    "clamp" => clamp,
    "eq" => compare::<{ Compare::Eq as usize }>,
    "ne" => compare::<{ Compare::Ne as usize }>,
    "lt" => compare::<{ Compare::Lt as usize }>,
    "le" => compare::<{ Compare::Le as usize }>,
    "gt" => compare::<{ Compare::Gt as usize }>,
    "ge" => compare::<{ Compare::Ge as usize }>,
}

pub(super) const METAMETHODS: &[Method] = &[
    ("__add", lua_fn!("tensor + tensor", plus)),
    ("__sub", lua_fn!("tensor - tensor", minus)),
    ("__mul", lua_fn!("tensor * tensor", times)),
    ("__div", lua_fn!("tensor / tensor", operator::<{ Binary::Div as usize }>)),
    ("__pow", lua_fn!("tensor ^ tensor", operator::<{ Binary::Pow as usize }>)),
    ("__mod", lua_fn!("tensor % tensor", operator::<{ Binary::Remainder as usize }>)),
    ("__unm", lua_fn!("-tensor", negative)),
];

/// `t:sqrt([src])` and its kin.
fn unary<const OP: usize>(lua: Lua<'_>) -> Result<Pushed> {
    let form = Form::read(lua, 0)?;
    form.result(lua, form.src.dtype())?.unary(Unary::ALL[OP], &form.src)?;
    Ok(1)
}

/// The result of `op(src, number)`.
fn with_number(lua: Lua<'_>, form: &Form, op: Binary, value: Scalar) -> Result<Pushed> {
    form.result(lua, form.src.dtype())?.binary_scalar(op, &form.src, value)?;
    Ok(1)
}

/// The result of `op(src, tensor)`.
fn with_tensor(lua: Lua<'_>, form: &Form, op: Binary, other: &Tensor) -> Result<Pushed> {
    form.result(lua, form.src.dtype())?.binary(op, &form.src, other)?;
    Ok(1)
}

/// `[res,] src, number`
fn by_number<const OP: usize>(lua: Lua<'_>) -> Result<Pushed> {
    let form = Form::read(lua, 1)?;
    with_number(lua, &form, Binary::ALL[OP], lua.scalar(form.rest)?)
}

/// `[res,] src, tensor`
fn by_tensor<const OP: usize>(lua: Lua<'_>) -> Result<Pushed> {
    let form = Form::read(lua, 1)?;
    with_tensor(lua, &form, Binary::ALL[OP], &lua.tensor(form.rest)?)
}

/// `[res,] src, number | tensor`
fn by_either<const OP: usize>(lua: Lua<'_>) -> Result<Pushed> {
    let form = Form::read(lua, 1)?;
    match lua.to_scalar(form.rest) {
        Some(value) => with_number(lua, &form, Binary::ALL[OP], value),
        None => with_tensor(lua, &form, Binary::ALL[OP], &lua.tensor(form.rest)?),
    }
}

/// `[res,] src, number | [number,] tensor`: the number multiplies the tensor.
fn sum(lua: Lua<'_>, sign: i64) -> Result<Pushed> {
    let top = lua.top();
    let scaled = top > 1 && lua.is_tensor(top) && lua.kind(top - 1) == Kind::Number;
    let form = Form::read(lua, if scaled { 2 } else { 1 })?;
    let signed = |value: Scalar| match value {
        _ if sign > 0 => value,
        Scalar::Int(n) => Scalar::Int(n.wrapping_neg()),
        Scalar::Float(n) => Scalar::Float(-n),
    };
    if scaled {
        let (value, other) = (lua.scalar(form.rest)?, lua.tensor(form.rest + 1)?);
        form.result(lua, form.src.dtype())?.add_scaled(&form.src, signed(value), &other)?;
        return Ok(1);
    }
    let op = if sign > 0 { Binary::Add } else { Binary::Sub };
    match lua.to_scalar(form.rest) {
        Some(value) => with_number(lua, &form, op, value),
        None => with_tensor(lua, &form, op, &lua.tensor(form.rest)?),
    }
}

/// `t:add([src,] number)`, `t:add([src,] [number,] tensor)`
fn add(lua: Lua<'_>) -> Result<Pushed> {
    sum(lua, 1)
}

/// `t:csub(…)`: as `add`, subtracting.
fn csub(lua: Lua<'_>) -> Result<Pushed> {
    sum(lua, -1)
}

/// `t:pow([src,] number)`, `torch.pow([res,] number, tensor)`
fn pow(lua: Lua<'_>) -> Result<Pushed> {
    let top = lua.top();
    if top >= 2 && lua.is_tensor(top) && lua.kind(top - 1) == Kind::Number {
        let (base, exponent) = (lua.scalar(top - 1)?, lua.tensor(top)?);
        let target = if top > 2 { Target::Slot(1) } else { Target::New };
        result(lua, target, exponent.dtype(), exponent.sizes())?.scalar_binary(Binary::Pow, base, &exponent)?;
        return Ok(1);
    }
    by_number::<{ Binary::Pow as usize }>(lua)
}

/// The arguments of `[res,] src, [number,] tensor, tensor`.
fn fused(lua: Lua<'_>) -> Result<(Form, Scalar, Tensor, Tensor)> {
    let top = lua.top();
    let scaled = top >= 3 && lua.kind(top - 2) == Kind::Number;
    let form = Form::read(lua, if scaled { 3 } else { 2 })?;
    let value = if scaled { lua.scalar(form.rest)? } else { Scalar::Int(1) };
    Ok((form, value, lua.tensor(top - 1)?, lua.tensor(top)?))
}

/// `t:addcmul([src,] [number,] a, b)`: src + number · a · b
fn addcmul(lua: Lua<'_>) -> Result<Pushed> {
    let (form, value, a, b) = fused(lua)?;
    form.result(lua, form.src.dtype())?.addcmul(&form.src, value, &a, &b)?;
    Ok(1)
}

/// `t:addcdiv([src,] [number,] a, b)`: src + number · a / b
fn addcdiv(lua: Lua<'_>) -> Result<Pushed> {
    let (form, value, a, b) = fused(lua)?;
    form.result(lua, form.src.dtype())?.addcdiv(&form.src, value, &a, &b)?;
    Ok(1)
}

/// `t:clamp([src,] low, high)`
fn clamp(lua: Lua<'_>) -> Result<Pushed> {
    let form = Form::read(lua, 2)?;
    let (low, high) = (lua.scalar(form.rest)?, lua.scalar(form.rest + 1)?);
    form.result(lua, form.src.dtype())?.clamp(&form.src, low, high)?;
    Ok(1)
}

/// `a:lt(number | tensor)`: a ByteTensor; with a tensor before it, that one, which may also be of `a`'s type.
fn compare<const OP: usize>(lua: Lua<'_>) -> Result<Pushed> {
    let op = Compare::ALL[OP];
    let target = if lua.top() > 2 { Target::Slot(1) } else { Target::New };
    let i = if lua.top() > 2 { 2 } else { 1 };
    let a = lua.tensor(i)?;
    let dtype = match target {
        Target::Slot(i) => lua.tensor_ref(i)?.dtype(),
        Target::New => DType::Byte,
    };
    match tensor_at(lua, i + 1) {
        Some(b) => result(lua, target, dtype, a.sizes())?.compare(op, &a, &b)?,
        None => {
            let value = lua.scalar(i + 1)?;
            result(lua, target, dtype, a.sizes())?.compare_scalar(op, &a, value)?;
        }
    }
    Ok(1)
}

/// A new tensor of `op(a, b)`, where one of the two operands may be a number.
fn combine(lua: Lua<'_>, op: Binary) -> Result<Pushed> {
    match (tensor_at(lua, 1), tensor_at(lua, 2)) {
        (Some(a), Some(b)) => result(lua, Target::New, a.dtype(), a.sizes())?.binary(op, &a, &b)?,
        (Some(a), None) => {
            let b = lua.scalar(2)?;
            result(lua, Target::New, a.dtype(), a.sizes())?.binary_scalar(op, &a, b)?;
        }
        (None, Some(b)) => {
            let a = lua.scalar(1)?;
            result(lua, Target::New, b.dtype(), b.sizes())?.scalar_binary(op, a, &b)?;
        }
        (None, None) => return Err(lua.expected(1, "torch.Tensor")),
    }
    Ok(1)
}

fn operator<const OP: usize>(lua: Lua<'_>) -> Result<Pushed> {
    combine(lua, Binary::ALL[OP])
}

fn plus(lua: Lua<'_>) -> Result<Pushed> {
    combine(lua, Binary::Add)
}

fn minus(lua: Lua<'_>) -> Result<Pushed> {
    combine(lua, Binary::Sub)
}

/// `a * b`: with a number each element, else the inner product, matrix · vector or matrix · matrix.
fn times(lua: Lua<'_>) -> Result<Pushed> {
    let (Some(a), Some(b)) = (tensor_at(lua, 1), tensor_at(lua, 2)) else {
        return combine(lua, Binary::Mul);
    };
    match (a.ndim(), b.ndim()) {
        (1, 1) => {
            lua.push_scalar(a.dot(&b)?);
            Ok(1)
        }
        (2, 1) => super::linalg::mv_new(lua, &a, &b),
        (2, 2) => super::linalg::mm_new(lua, &a, &b),
        (n, m) => Err(err!(Argument, "tensors of {n} and {m} dimensions have no product; cmul multiplies elements")),
    }
}

fn negative(lua: Lua<'_>) -> Result<Pushed> {
    let a = lua.tensor(1)?;
    result(lua, Target::New, a.dtype(), a.sizes())?.unary(Unary::Neg, &a)?;
    Ok(1)
}
