//! Products of vectors and matrices: `dot`, `mv`, `mm`, `ger`, and the forms that add to a start.
//!
//! Stands on: args, class.

use super::args::{Target, result};
use crate::bind::vm::{Kind, Lua, Pushed};
use crate::err;
use crate::error::Result;
use crate::tensor::{Scalar, Tensor, describe};

super::bound! { METHODS, FUNCTIONS:
    "dot" => dot,
    "mv" => mv,
    "mm" => mm,
    "bmm" => bmm,
    "ger" => ger,
    "addmv" => addmv,
    "addmm" => addmm,
    "addr" => addr,
    "baddbmm" => baddbmm,
}

/// `self = beta * start + alpha * a b`, as the core has each product.
type Product = fn(&Tensor, Scalar, &Tensor, Scalar, &Tensor, &Tensor) -> Result<()>;

/// The size of a product of two tensors: that of `a` but for the last dimension, then that of `b` but for the first.
fn product_size(a: &Tensor, b: &Tensor) -> Result<Vec<usize>> {
    if a.ndim() == 0 || b.ndim() == 0 {
        return Err(err!(Argument, "sizes {} and {} cannot be multiplied", describe(a.sizes()), describe(b.sizes())));
    }
    Ok([&a.sizes()[..a.ndim() - 1], &b.sizes()[1..]].concat())
}

fn outer_size(a: &Tensor, b: &Tensor) -> Result<Vec<usize>> {
    Ok(a.sizes().iter().chain(b.sizes()).copied().collect())
}

/// A batch of products: `n × rows × columns`.
fn batch_size(a: &Tensor, b: &Tensor) -> Result<Vec<usize>> {
    match (a.sizes(), b.sizes()) {
        (&[n, rows, k], &[m, l, columns]) if n == m && k == l => Ok(vec![n, rows, columns]),
        _ => Err(err!(
            Argument,
            "expected two batches of matrices that fit, got sizes {} and {}",
            describe(a.sizes()),
            describe(b.sizes())
        )),
    }
}

fn batched(r: &Tensor, beta: Scalar, start: &Tensor, alpha: Scalar, a: &Tensor, b: &Tensor) -> Result<()> {
    if start.sizes() != r.sizes() && beta.to_f64() != 0.0 {
        return Err(err!(
            Argument,
            "expected a start of the result's size {}, got {}",
            describe(r.sizes()),
            describe(start.sizes())
        ));
    }
    // Apart, should the result overlap a factor: a matrix that is written may be one that is still to be read.
    let out = Tensor::with_sizes(r.dtype(), r.sizes())?;
    for i in 0..r.sizes()[0] {
        let start = if beta.to_f64() == 0.0 { out.select(0, i)? } else { start.select(0, i)? };
        out.select(0, i)?.addmm(beta, &start, alpha, &a.select(0, i)?, &b.select(0, i)?)?;
    }
    r.copy_from(&out)
}

/// `[res,] a, b`: the product alone. A method's `self` is the result.
fn product(lua: Lua<'_>, size: fn(&Tensor, &Tensor) -> Result<Vec<usize>>, compute: Product) -> Result<Pushed> {
    let (target, i) = if lua.top() > 2 { (Target::Slot(1), 2) } else { (Target::New, 1) };
    let (a, b) = (lua.tensor(i)?, lua.tensor(i + 1)?);
    into(lua, target, &a, &b, size, compute)
}

fn into(
    lua: Lua<'_>,
    target: Target,
    a: &Tensor,
    b: &Tensor,
    size: fn(&Tensor, &Tensor) -> Result<Vec<usize>>,
    compute: Product,
) -> Result<Pushed> {
    let out = result(lua, target, a.dtype(), &size(a, b)?)?;
    compute(&out, Scalar::Int(0), &out, Scalar::Int(1), a, b)?;
    Ok(1)
}

/// `[res,] [beta,] start, [alpha,] a, b`: for methods `start` is `self` when none is given.
fn added(lua: Lua<'_>, size: fn(&Tensor, &Tensor) -> Result<Vec<usize>>, compute: Product) -> Result<Pushed> {
    let mut numbers = Vec::new();
    let mut tensors = Vec::new();
    for i in 1..=lua.top() {
        if lua.kind(i) == Kind::Number {
            // How many tensors came before it says which factor it is.
            numbers.push((tensors.len(), lua.scalar(i)?));
        } else {
            lua.tensor(i)?;
            tensors.push(i);
        }
    }
    let method = lua.place().contains(':');
    let (target, start, a, b) = match (&tensors[..], method) {
        (&[start, a, b], true) => (Target::Slot(1), start, a, b),
        (&[start, a, b], false) => (Target::New, start, a, b),
        (&[_, start, a, b], _) => (Target::Slot(1), start, a, b),
        _ => {
            return Err(err!(
                Argument,
                "expected [beta,] start, [alpha,] and two factors, got {} tensors",
                tensors.len()
            ));
        }
    };
    let before_start = tensors.iter().position(|&i| i == start).unwrap_or(0);
    let (mut beta, mut alpha) = (Scalar::Int(1), Scalar::Int(1));
    let leading = numbers.len() == 2;
    for (n, (before, value)) in numbers.into_iter().enumerate() {
        // `m:addmm(beta, alpha, a, b)`: both stand between `self`, which is the start, and the factors.
        if (leading && n == 0) || before == before_start {
            beta = value;
        } else if before == before_start + 1 {
            alpha = value;
        } else {
            return Err(err!(Argument, "expected numbers before the start and before the factors only"));
        }
    }
    let (start, a, b) = (lua.tensor(start)?, lua.tensor(a)?, lua.tensor(b)?);
    let size = size(&a, &b)?;
    if start.sizes() != size {
        return Err(err!(Argument, "expected a start of size {}, got {}", describe(&size), describe(start.sizes())));
    }
    let out = result(lua, target, start.dtype(), &size)?;
    compute(&out, beta, &start, alpha, &a, &b)?;
    Ok(1)
}

/// `a:dot(b)`
fn dot(lua: Lua<'_>) -> Result<Pushed> {
    let sum = lua.tensor(1)?.dot(&*lua.tensor_ref(2)?)?;
    lua.push_scalar(sum);
    Ok(1)
}

/// `torch.mv([res,] matrix, vector)`
fn mv(lua: Lua<'_>) -> Result<Pushed> {
    product(lua, product_size, Tensor::addmv)
}

/// `torch.mm([res,] matrix, matrix)`
fn mm(lua: Lua<'_>) -> Result<Pushed> {
    product(lua, product_size, Tensor::addmm)
}

/// `torch.bmm([res,] matrices, matrices)`
fn bmm(lua: Lua<'_>) -> Result<Pushed> {
    product(lua, batch_size, batched)
}

/// `torch.ger([res,] vector, vector)`: the outer product.
fn ger(lua: Lua<'_>) -> Result<Pushed> {
    product(lua, outer_size, Tensor::addr)
}

/// `t:addmv([beta,] [start,] [alpha,] matrix, vector)`
fn addmv(lua: Lua<'_>) -> Result<Pushed> {
    added(lua, product_size, Tensor::addmv)
}

/// `t:addmm([beta,] [start,] [alpha,] matrix, matrix)`
fn addmm(lua: Lua<'_>) -> Result<Pushed> {
    added(lua, product_size, Tensor::addmm)
}

/// `t:addr([beta,] [start,] [alpha,] vector, vector)`
fn addr(lua: Lua<'_>) -> Result<Pushed> {
    added(lua, outer_size, Tensor::addr)
}

/// `t:baddbmm([beta,] [start,] [alpha,] matrices, matrices)`
fn baddbmm(lua: Lua<'_>) -> Result<Pushed> {
    added(lua, batch_size, batched)
}

/// `matrix * vector`
pub(super) fn mv_new(lua: Lua<'_>, a: &Tensor, b: &Tensor) -> Result<Pushed> {
    into(lua, Target::New, a, b, product_size, Tensor::addmv)
}

/// `matrix * matrix`
pub(super) fn mm_new(lua: Lua<'_>, a: &Tensor, b: &Tensor) -> Result<Pushed> {
    into(lua, Target::New, a, b, product_size, Tensor::addmm)
}
