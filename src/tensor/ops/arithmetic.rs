//! Element-wise arithmetic: `r = f(a)` and `r = f(a, b)`.
//!
//! Operands of an operation have one element type and equally many elements; `r` may be one of them. The result is
//! written in place: resize it first if it should have their sizes. Numbers are converted to the type that elements are
//! computed in.
//!
//! Imports its siblings `many` and `op`.

use super::many::many;
use super::op::{Binary, Compare, Unary};
use crate::dispatch;
use crate::err;
use crate::error::Result;
use crate::tensor::data::dtype::{DType, number};
use crate::tensor::data::number::{Number, Scalar};
use crate::tensor::data::view::Tensor;
use crate::tensor::kernel::fold::{Reduction, reduce};
use crate::tensor::kernel::map;

/// A function of floats, in both widths.
type Floats = (fn(f32) -> f32, fn(f64) -> f64);

/// Both widths of a function written once.
macro_rules! both {
    ($x:ident => $f:expr) => {
        (|$x: f32| $f, |$x: f64| $f)
    };
}

/// The functions that are called per element: one loop serves them all, the call costs little beside the function.
fn function(op: Unary) -> Floats {
    match op {
        Unary::Abs => both!(x => x.abs()),
        Unary::Neg => both!(x => -x),
        Unary::Sign => both!(x => if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { 0.0 }),
        Unary::Cinv => both!(x => 1.0 / x),
        Unary::Sqrt => both!(x => x.sqrt()),
        Unary::Rsqrt => both!(x => 1.0 / x.sqrt()),
        Unary::Exp => both!(x => x.exp()),
        Unary::Expm1 => both!(x => x.exp_m1()),
        Unary::Log => both!(x => x.ln()),
        Unary::Log1p => both!(x => x.ln_1p()),
        Unary::Sin => both!(x => x.sin()),
        Unary::Cos => both!(x => x.cos()),
        Unary::Tan => both!(x => x.tan()),
        Unary::Asin => both!(x => x.asin()),
        Unary::Acos => both!(x => x.acos()),
        Unary::Atan => both!(x => x.atan()),
        Unary::Sinh => both!(x => x.sinh()),
        Unary::Cosh => both!(x => x.cosh()),
        Unary::Tanh => both!(x => x.tanh()),
        Unary::Sigmoid => both!(x => 1.0 / (1.0 + (-x).exp())),
        Unary::Floor => both!(x => x.floor()),
        Unary::Ceil => both!(x => x.ceil()),
        Unary::Round => both!(x => x.round()),
        Unary::Trunc => both!(x => x.trunc()),
        Unary::Frac => both!(x => x - x.trunc()),
    }
}

fn unary<C: Number>(op: Unary, r: &Tensor, a: &Tensor) -> Result<()> {
    if let (DType::Float, Some(f)) = (C::DTYPE, many(op)) {
        return map::map_many(r, a, f);
    }
    match op {
        // What vector instructions do, or integers without fractions, has a loop of its own.
        Unary::Abs => map::map(r, a, C::abs),
        Unary::Neg => map::map(r, a, C::neg),
        Unary::Sqrt => map::map(r, a, C::sqrt),
        Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc if !C::FLOAT => map::copy(r, a),
        _ => {
            let (single, double) = function(op);
            map::map(r, a, |v: C| v.through(single, double))
        }
    }
}

/// The operation as a function that loops call.
fn pointer<C: Number>(op: Binary) -> fn(C, C) -> C {
    match op {
        Binary::Add => C::add,
        Binary::Sub => C::sub,
        Binary::Mul => C::mul,
        Binary::Div => C::div,
        Binary::Pow => C::pow,
        Binary::Fmod => C::fmod,
        Binary::Remainder => C::modulo,
        Binary::Max => C::larger,
        Binary::Min => C::smaller,
    }
}

/// `r = f(a, b)`: what vector instructions do has a loop of its own.
fn binary<C: Number>(op: Binary, r: &Tensor, a: &Tensor, b: &Tensor) -> Result<()> {
    map::check(b, r.dtype())?;
    refuse_zeros::<C>(op, b)?;
    match op {
        Binary::Add => map::zip(r, a, b, C::add),
        Binary::Sub => map::zip(r, a, b, C::sub),
        Binary::Mul => map::zip(r, a, b, C::mul),
        Binary::Div => map::zip(r, a, b, C::div),
        Binary::Max => map::zip(r, a, b, C::larger),
        Binary::Min => map::zip(r, a, b, C::smaller),
        Binary::Pow | Binary::Fmod | Binary::Remainder => map::zip(r, a, b, pointer::<C>(op)),
    }
}

/// `r = f(a, y)`, likewise.
fn binary_scalar<C: Number>(op: Binary, r: &Tensor, a: &Tensor, b: Scalar) -> Result<()> {
    let y = number::<C>(b);
    if op.divides() && !C::FLOAT && y == C::default() {
        return Err(err!(Argument, "division by zero: {b} is 0 as an element of a {}", r.dtype().tensor_class()));
    }
    match op {
        Binary::Add => map::map(r, a, |x: C| x.add(y)),
        Binary::Sub => map::map(r, a, |x: C| x.sub(y)),
        Binary::Mul => map::map(r, a, |x: C| x.mul(y)),
        Binary::Div => map::map(r, a, |x: C| x.div(y)),
        Binary::Max => map::map(r, a, |x: C| x.larger(y)),
        Binary::Min => map::map(r, a, |x: C| x.smaller(y)),
        Binary::Pow if y == C::from_i64(2) => map::zip(r, a, a, C::mul),
        Binary::Pow | Binary::Fmod | Binary::Remainder => apply::<C>(op, r, a, y, false),
    }
}

/// `r = f(a, y)`, or `f(y, a)` when `swapped`, by a call per element.
fn apply<C: Number>(op: Binary, r: &Tensor, a: &Tensor, y: C, swapped: bool) -> Result<()> {
    let f = pointer::<C>(op);
    map::map(r, a, |x: C| if swapped { f(y, x) } else { f(x, y) })
}

/// Whether there is a zero among the elements.
struct AnyZero;

impl<C: Number> Reduction<C> for AnyZero {
    type Acc = bool;
    fn start(&self) -> bool {
        false
    }
    #[inline(always)]
    fn step(&self, acc: bool, v: C, _: usize) -> bool {
        acc | (v == C::default())
    }
    fn join(&self, a: bool, b: bool) -> bool {
        a | b
    }
}

impl Binary {
    fn divides(self) -> bool {
        matches!(self, Binary::Div | Binary::Fmod | Binary::Remainder)
    }
}

/// Integers have no quotient by zero. (A zero that another thread writes after this look gives 0.)
fn refuse_zeros<C: Number>(op: Binary, b: &Tensor) -> Result<()> {
    if op.divides() && !C::FLOAT && reduce::<C, _>(b, &AnyZero)? {
        return Err(err!(Argument, "division by zero: a {} has an element that is 0", b.dtype().tensor_class()));
    }
    Ok(())
}

impl Tensor {
    /// `self = op(a)`.
    pub fn unary(&self, op: Unary, a: &Tensor) -> Result<()> {
        dispatch!(self.dtype(), compute C => unary::<C>(op, self, a))
    }

    /// `self = op(a, b)`.
    pub fn binary(&self, op: Binary, a: &Tensor, b: &Tensor) -> Result<()> {
        dispatch!(self.dtype(), compute C => binary::<C>(op, self, a, b))
    }

    /// `self = op(a, b)` with a number on the right.
    pub fn binary_scalar(&self, op: Binary, a: &Tensor, b: impl Into<Scalar>) -> Result<()> {
        let b = b.into();
        dispatch!(self.dtype(), compute C => binary_scalar::<C>(op, self, a, b))
    }

    /// `self = op(a, b)` with a number on the left.
    pub fn scalar_binary(&self, op: Binary, a: impl Into<Scalar>, b: &Tensor) -> Result<()> {
        let a = a.into();
        map::check(b, self.dtype())?;
        dispatch!(self.dtype(), compute C => {
            refuse_zeros::<C>(op, b)?;
            apply::<C>(op, self, b, number::<C>(a), true)
        })
    }

    /// `self = a + v * b`.
    pub fn add_scaled(&self, a: &Tensor, v: impl Into<Scalar>, b: &Tensor) -> Result<()> {
        let v = v.into();
        dispatch!(self.dtype(), compute C => {
            let v = number::<C>(v);
            map::zip(self, a, b, |x: C, y: C| x.add(v.mul(y)))
        })
    }

    /// `self = a + v * b * c`.
    pub fn addcmul(&self, a: &Tensor, v: impl Into<Scalar>, b: &Tensor, c: &Tensor) -> Result<()> {
        let v = v.into();
        dispatch!(self.dtype(), compute C => {
            let v = number::<C>(v);
            map::zip3(self, [a, b, c], |x: C, y: C, z: C| x.add(v.mul(y).mul(z)))
        })
    }

    /// `self = a + v * b / c`.
    pub fn addcdiv(&self, a: &Tensor, v: impl Into<Scalar>, b: &Tensor, c: &Tensor) -> Result<()> {
        let v = v.into();
        map::check(c, self.dtype())?;
        dispatch!(self.dtype(), compute C => {
            refuse_zeros::<C>(Binary::Div, c)?;
            let v = number::<C>(v);
            map::zip3(self, [a, b, c], |x: C, y: C, z: C| x.add(v.mul(y).div(z)))
        })
    }

    /// `self = a`, with what is below `low` or above `high` put there.
    pub fn clamp(&self, a: &Tensor, low: impl Into<Scalar>, high: impl Into<Scalar>) -> Result<()> {
        let (low, high) = (low.into(), high.into());
        dispatch!(self.dtype(), compute C => {
            let (low, high) = (number::<C>(low), number::<C>(high));
            map::map(self, a, |x: C| {
                if x < low {
                    low
                } else if x > high {
                    high
                } else {
                    x
                }
            })
        })
    }

    /// `self = a op b` as 0 and 1; `self` is a ByteTensor or of their type.
    pub fn compare(&self, op: Compare, a: &Tensor, b: &Tensor) -> Result<()> {
        let f = Wanted::of(op);
        dispatch!(a.dtype(), compute C => {
            into_bytes(self, a, |r| map::test2(r, a, b, |x: C, y: C| f.holds(x, y)))
        })
    }

    /// `self = a op b` as 0 and 1 with a number on the right.
    pub fn compare_scalar(&self, op: Compare, a: &Tensor, b: impl Into<Scalar>) -> Result<()> {
        let (f, b) = (Wanted::of(op), b.into());
        dispatch!(a.dtype(), compute C => {
            let y = number::<C>(b);
            into_bytes(self, a, |r| map::test(r, a, |x: C| f.holds(x, y)))
        })
    }
}

/// Which outcomes of a comparison make it true: one loop for all six, without branches.
#[derive(Clone, Copy)]
struct Wanted {
    less: bool,
    equal: bool,
    greater: bool,
    /// Turns the answer round: `~=` holds where `==` does not, NaN included.
    not: bool,
}

impl Wanted {
    fn of(op: Compare) -> Wanted {
        let none = Wanted { less: false, equal: false, greater: false, not: false };
        match op {
            Compare::Eq => Wanted { equal: true, ..none },
            Compare::Ne => Wanted { equal: true, not: true, ..none },
            Compare::Lt => Wanted { less: true, ..none },
            Compare::Le => Wanted { less: true, equal: true, ..none },
            Compare::Gt => Wanted { greater: true, ..none },
            Compare::Ge => Wanted { greater: true, equal: true, ..none },
        }
    }

    #[inline(always)]
    fn holds<C: PartialOrd>(self, x: C, y: C) -> u8 {
        u8::from(((x < y) & self.less | (x == y) & self.equal | (x > y) & self.greater) ^ self.not)
    }
}

/// Has `write` write 0 and 1 as bytes, or by way of bytes as elements of the operands' type.
fn into_bytes(r: &Tensor, a: &Tensor, write: impl Fn(&Tensor) -> Result<()>) -> Result<()> {
    if r.dtype() == DType::Byte {
        return write(r);
    }
    if r.dtype() != a.dtype() {
        return Err(err!(
            Argument,
            "expected a torch.ByteTensor or a {} for the result, got a {}",
            a.dtype().tensor_class(),
            r.dtype().tensor_class()
        ));
    }
    let bytes = Tensor::with_sizes(DType::Byte, a.sizes())?;
    write(&bytes)?;
    r.copy_from(&bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;

    fn ints(v: &[i32]) -> Tensor {
        Tensor::from_slice(v).unwrap()
    }

    #[test]
    fn an_integer_division_by_zero_is_an_error() {
        let (a, b) = (ints(&[1, 2]), ints(&[1, 0]));
        for op in [Binary::Div, Binary::Fmod, Binary::Remainder] {
            assert_eq!(a.binary(op, &a, &b).unwrap_err().code(), Code::Argument);
            assert_eq!(a.binary_scalar(op, &a, 0.5).unwrap_err().code(), Code::Argument);
            assert_eq!(a.scalar_binary(op, 3, &b).unwrap_err().code(), Code::Argument);
        }
        assert!(a.addcdiv(&a, 1, &a, &b).is_err());
        assert_eq!(a.to_vec::<i32>().unwrap(), [1, 2]);
        let f = Tensor::ones(DType::Float, &[1]).unwrap();
        f.binary_scalar(Binary::Div, &f, 0).unwrap();
        assert_eq!(f.to_vec::<f32>().unwrap(), [f32::INFINITY]);
    }

    #[test]
    fn integers_wrap_and_never_panic() {
        let t = ints(&[i32::MIN, i32::MAX]);
        t.binary_scalar(Binary::Div, &t, -1).unwrap();
        assert_eq!(t.to_vec::<i32>().unwrap(), [i32::MIN, -i32::MAX]);
        t.binary(Binary::Mul, &t, &t).unwrap();
        t.unary(Unary::Neg, &ints(&[i32::MIN, 0])).unwrap();
        t.unary(Unary::Abs, &t).unwrap();
        assert_eq!(t.to_vec::<i32>().unwrap(), [i32::MIN, 0]);
        t.binary_scalar(Binary::Remainder, &ints(&[i32::MIN, -1]), 3).unwrap();
        assert_eq!(t.to_vec::<i32>().unwrap(), [1, 2]);
        t.binary_scalar(Binary::Fmod, &ints(&[-7, 7]), 3).unwrap();
        assert_eq!(t.to_vec::<i32>().unwrap(), [-1, 1]);
        t.binary_scalar(Binary::Remainder, &ints(&[i32::MIN, -1]), -1).unwrap();
    }

    #[test]
    fn operands_of_other_types_or_counts_are_named() {
        let (a, d) = (ints(&[1, 2]), Tensor::ones(DType::Double, &[2]).unwrap());
        let e = a.binary(Binary::Add, &a, &d).unwrap_err();
        assert!(e.what().starts_with("expected a torch.IntTensor, got a torch.DoubleTensor"), "{e}");
        assert_eq!(a.binary(Binary::Add, &a, &ints(&[1])).unwrap_err().code(), Code::Argument);
        assert!(d.compare(Compare::Eq, &a, &a).is_err());
    }

    #[test]
    fn fused_forms_compute_what_they_say() {
        let (a, b, c) = (ints(&[1, 2]), ints(&[6, 8]), ints(&[3, 2]));
        let r = ints(&[0, 0]);
        r.addcmul(&a, 2, &b, &c).unwrap();
        assert_eq!(r.to_vec::<i32>().unwrap(), [37, 34]);
        r.addcdiv(&a, 2, &b, &c).unwrap();
        assert_eq!(r.to_vec::<i32>().unwrap(), [5, 10]);
        r.clamp(&r, 6, 7).unwrap();
        assert_eq!(r.to_vec::<i32>().unwrap(), [6, 7]);
        r.add_scaled(&a, -1, &b).unwrap();
        assert_eq!(r.to_vec::<i32>().unwrap(), [-5, -6]);
    }

    #[test]
    fn a_nan_stays_a_nan() {
        let t = Tensor::from_slice(&[f32::NAN, 1.0]).unwrap();
        let r = t.clone_data().unwrap();
        r.binary_scalar(Binary::Max, &t, 2).unwrap();
        assert!(r.to_vec::<f32>().unwrap()[0].is_nan());
        r.compare(Compare::Eq, &t, &t).unwrap();
        assert_eq!(r.to_vec::<f32>().unwrap(), [0.0, 1.0]);
        r.clamp(&t, 0, 0.5).unwrap();
        assert!(r.to_vec::<f32>().unwrap()[0].is_nan());
    }

    #[test]
    fn overlapping_views_stay_in_their_memory() {
        let all = Tensor::from_slice(&(0..100i64).collect::<Vec<_>>()).unwrap();
        let (low, high) = (all.narrow(0, 0, 99).unwrap(), all.narrow(0, 1, 99).unwrap());
        high.binary(Binary::Add, &high, &low).unwrap();
        low.binary(Binary::Add, &high, &low).unwrap();
        let back = all.view(&[10, 10]).unwrap();
        back.binary(Binary::Sub, &back, &back.t().unwrap()).unwrap();
    }

    #[test]
    fn long_integers_are_added_exactly() {
        let t = Tensor::from_slice(&[1i64 << 60]).unwrap();
        t.add_scaled(&t, (1i64 << 53) + 1, &Tensor::ones(DType::Long, &[1]).unwrap()).unwrap();
        assert_eq!(t.to_vec::<i64>().unwrap(), [(1i64 << 60) + (1 << 53) + 1]);
    }
}
