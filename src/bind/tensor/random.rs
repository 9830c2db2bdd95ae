//! Random numbers: `torch.manualSeed`, numbers, tensors of them, and filling a tensor in place.
//!
//! Stands on: args, class, construct, context.

use std::ffi::c_int;

use super::args::{Target, result};
use super::class::tensor_at;
use super::construct::{default_type, target_and_sizes};
use super::context::Context;
use crate::bind::vm::{Lua, Method, Pushed};
use crate::err;
use crate::error::Result;
use crate::lua_fn;
use crate::tensor::{Distribution, Generator, Tensor};

super::bound! { METHODS, FUNCTIONS:
    "rand" => rand,
    "randn" => randn,
    "randperm" => randperm,
    "random" => random,
    "uniform" => uniform,
    "normal" => normal,
    "logNormal" => log_normal,
    "exponential" => exponential,
    "cauchy" => cauchy,
    "geometric" => geometric,
    "bernoulli" => bernoulli,
}

pub(super) const GENERATOR: &[Method] = &[
    ("manualSeed", lua_fn!("torch.manualSeed", manual_seed)),
    ("seed", lua_fn!("torch.seed", seed)),
    ("initialSeed", lua_fn!("torch.initialSeed", initial_seed)),
];

const UNIT: Distribution = Distribution::Uniform { from: 0.0, to: 1.0 };
const STANDARD: Distribution = Distribution::Normal { mean: 0.0, deviation: 1.0 };

/// `torch.manualSeed(n)`: from here on the same numbers on every run.
fn manual_seed(lua: Lua<'_>) -> Result<Pushed> {
    let seed = lua.integer(1)?;
    *Context::of(lua).generator.borrow_mut() = Generator::new(seed as u64);
    Ok(0)
}

/// `torch.seed()`: other numbers every time; returns the seed.
fn seed(lua: Lua<'_>) -> Result<Pushed> {
    *Context::of(lua).generator.borrow_mut() = Generator::from_system();
    initial_seed(lua)
}

fn initial_seed(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_number(Context::of(lua).generator.borrow().seed() as f64);
    Ok(1)
}

/// A new tensor, or the one given first resized, filled with numbers of a distribution.
fn made(lua: Lua<'_>, distribution: Distribution) -> Result<Pushed> {
    let (target, dtype, sizes) = target_and_sizes(lua)?;
    let tensor = result(lua, target, dtype, &sizes)?;
    Context::of(lua).generator.borrow_mut().fill(&tensor, distribution)?;
    Ok(1)
}

/// `torch.rand([res,] sizes…)`: uniform in [0, 1).
fn rand(lua: Lua<'_>) -> Result<Pushed> {
    made(lua, UNIT)
}

/// `torch.randn([res,] sizes…)`: normal, mean 0 and deviation 1.
fn randn(lua: Lua<'_>) -> Result<Pushed> {
    made(lua, STANDARD)
}

/// `torch.randperm([res,] n)`: 1 to n in a random order.
fn randperm(lua: Lua<'_>) -> Result<Pushed> {
    let (target, dtype, i) = match tensor_at(lua, 1) {
        Some(t) => (Target::Slot(1), t.dtype(), 2),
        None => (Target::New, default_type(lua), 1),
    };
    let n = lua.integer_in(i, 0..=1 << 40)? as usize;
    // The tensor first: where there is no memory for it, none is asked for the order.
    let tensor = result(lua, target, dtype, &[n])?;
    let order = Context::of(lua).generator.borrow_mut().permutation(n)?;
    tensor.copy_from(&Tensor::from_slice(&order)?)?;
    Ok(1)
}

/// Without a tensor a number of the distribution, with one the tensor filled. `read` gets the slot of the first
/// parameter.
fn drawn<'a>(lua: Lua<'a>, read: impl Fn(Lua<'a>, c_int) -> Result<Distribution>) -> Result<Pushed> {
    let context = Context::of(lua);
    match tensor_at(lua, 1) {
        Some(tensor) => {
            let distribution = read(lua, 2)?;
            context.generator.borrow_mut().fill(&tensor, distribution)?;
            lua.push_value(1);
        }
        None => {
            let distribution = read(lua, 1)?;
            lua.push_number(context.generator.borrow_mut().draw(distribution));
        }
    }
    Ok(1)
}

/// The number in slot `i`, or a default.
fn number_or(lua: Lua<'_>, i: c_int, default: f64) -> Result<f64> {
    Ok(lua.optional(i, Lua::number)?.unwrap_or(default))
}

/// The number in slot `i`, which must be finite, or a default.
fn finite_or(lua: Lua<'_>, i: c_int, default: f64) -> Result<f64> {
    let n = number_or(lua, i, default)?;
    if n.is_finite() { Ok(n) } else { Err(lua.bad_value(i, format_args!("expected a finite number, got {n}"))) }
}

/// The number in slot `i`, which must be above 0, or a default.
fn positive_or(lua: Lua<'_>, i: c_int, default: f64) -> Result<f64> {
    let n = number_or(lua, i, default)?;
    if n > 0.0 { Ok(n) } else { Err(lua.bad_value(i, format_args!("expected a number above 0, got {n}"))) }
}

/// `torch.random([a,] [b])`, `t:random([a,] [b])`: integers of [a, b], of [1, b], or of all the type counts.
fn random(lua: Lua<'_>) -> Result<Pushed> {
    let context = Context::of(lua);
    let tensor = tensor_at(lua, 1);
    let first = if tensor.is_some() { 2 } else { 1 };
    let range = match (lua.optional(first, Lua::integer)?, lua.optional(first + 1, Lua::integer)?) {
        (None, None) => None,
        (Some(b), None) => Some((1, b)),
        (Some(a), Some(b)) => Some((a, b)),
        (None, Some(_)) => return Err(lua.expected(first, "integer")),
    };
    if let Some((a, b)) = range
        && a > b
    {
        return Err(err!(Argument, "expected a range, got {a} to {b}"));
    }
    let mut generator = context.generator.borrow_mut();
    match (tensor, range) {
        (Some(t), Some((from, to))) => generator.fill(&t, Distribution::Between { from, to })?,
        (Some(t), None) => generator.fill_range(&t)?,
        (None, Some((a, b))) => lua.push_integer(generator.between(a, b)),
        (None, None) => lua.push_integer(i64::from(generator.word())),
    }
    if first == 2 {
        lua.push_value(1);
    }
    Ok(1)
}

/// `torch.uniform([a,] [b])`, `t:uniform([a,] [b])`
fn uniform(lua: Lua<'_>) -> Result<Pushed> {
    drawn(lua, |lua, i| Ok(Distribution::Uniform { from: finite_or(lua, i, 0.0)?, to: finite_or(lua, i + 1, 1.0)? }))
}

/// `torch.normal([mean,] [deviation])`, `t:normal(…)`
fn normal(lua: Lua<'_>) -> Result<Pushed> {
    drawn(lua, |lua, i| {
        Ok(Distribution::Normal { mean: number_or(lua, i, 0.0)?, deviation: positive_or(lua, i + 1, 1.0)? })
    })
}

fn log_normal(lua: Lua<'_>) -> Result<Pushed> {
    drawn(lua, |lua, i| {
        Ok(Distribution::LogNormal { mean: number_or(lua, i, 1.0)?, deviation: positive_or(lua, i + 1, 2.0)? })
    })
}

fn exponential(lua: Lua<'_>) -> Result<Pushed> {
    drawn(lua, |lua, i| Ok(Distribution::Exponential { rate: positive_or(lua, i, 1.0)? }))
}

fn cauchy(lua: Lua<'_>) -> Result<Pushed> {
    drawn(lua, |lua, i| {
        Ok(Distribution::Cauchy { median: number_or(lua, i, 0.0)?, width: positive_or(lua, i + 1, 1.0)? })
    })
}

fn geometric(lua: Lua<'_>) -> Result<Pushed> {
    drawn(lua, |lua, i| {
        let p = number_or(lua, i, 0.5)?;
        if p > 0.0 && p < 1.0 {
            Ok(Distribution::Geometric { p })
        } else {
            Err(lua.bad_value(i, format_args!("expected a chance between 0 and 1, got {p}")))
        }
    })
}

/// `torch.bernoulli([p])`, `t:bernoulli([p])`, p a number or a tensor of them.
fn bernoulli(lua: Lua<'_>) -> Result<Pushed> {
    if let (Some(tensor), Some(p)) = (tensor_at(lua, 1), tensor_at(lua, 2)) {
        Context::of(lua).generator.borrow_mut().fill_bernoulli(&tensor, &p)?;
        lua.push_value(1);
        return Ok(1);
    }
    drawn(lua, |lua, i| {
        let p = number_or(lua, i, 0.5)?;
        if (0.0..=1.0).contains(&p) {
            Ok(Distribution::Bernoulli { p })
        } else {
            Err(lua.bad_value(i, format_args!("expected a chance from 0 to 1, got {p}")))
        }
    })
}
