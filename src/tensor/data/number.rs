//! What elements are computed in: `i64`, `f32` or `f64`, the arithmetic that these share, and a number from outside.
//!
//! Imports its sibling `dtype`: each is the compute type of the other's trait.

use std::fmt;

use super::dtype::Element;

/// A number that goes in or out: Lua's two kinds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// A float.
    Float(f64),
    /// An integer, exact.
    Int(i64),
}

impl Scalar {
    /// The number as a float (integers past 2^53 are rounded).
    pub fn to_f64(self) -> f64 {
        match self {
            Scalar::Float(v) => v,
            Scalar::Int(v) => v as f64,
        }
    }

    /// The number as an integer (fractions are cut off, what is too large becomes the nearest end).
    pub fn to_i64(self) -> i64 {
        match self {
            Scalar::Float(v) => v as i64,
            Scalar::Int(v) => v,
        }
    }
}

impl From<f64> for Scalar {
    fn from(v: f64) -> Scalar {
        Scalar::Float(v)
    }
}

impl From<i64> for Scalar {
    fn from(v: i64) -> Scalar {
        Scalar::Int(v)
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Float(v) => v.fmt(f),
            Scalar::Int(v) => v.fmt(f),
        }
    }
}

/// Arithmetic on a compute type, which is an element type too. None of it panics: integers wrap, and a division by an
/// integer zero gives 0 (callers refuse it beforehand with an error).
pub trait Number: Element<Compute = Self> {
    /// Whether there are fractions.
    const FLOAT: bool;
    /// The smallest number, −∞ for floats.
    const LEAST: Self;
    /// The largest number, ∞ for floats.
    const MOST: Self;
    /// What a sum adds up in: `f64` for floats, `i64` for integers.
    type Wide: Number;
    /// As a float.
    fn to_f64(self) -> f64;
    /// As an integer, as Rust's `as`.
    fn to_i64(self) -> i64;
    /// From a float, as Rust's `as`.
    fn from_f64(v: f64) -> Self;
    /// From an integer, as Rust's `as`.
    fn from_i64(v: i64) -> Self;
    /// `self + b`
    fn add(self, b: Self) -> Self;
    /// `self - b`
    fn sub(self, b: Self) -> Self;
    /// `self * b`
    fn mul(self, b: Self) -> Self;
    /// `self / b`, cut off for integers
    fn div(self, b: Self) -> Self;
    /// The remainder with the sign of `b`, as Lua's `%`
    fn modulo(self, b: Self) -> Self;
    /// The remainder with the sign of `self`, as C's `fmod`
    fn fmod(self, b: Self) -> Self;
    /// The larger; NaN if either is
    #[inline(always)]
    fn larger(self, b: Self) -> Self {
        if self.is_nan() || self > b { self } else { b }
    }
    /// The smaller; NaN if either is
    #[inline(always)]
    fn smaller(self, b: Self) -> Self {
        if self.is_nan() || self < b { self } else { b }
    }
    /// `-self`
    fn neg(self) -> Self;
    /// `|self|`
    fn abs(self) -> Self;
    /// The square root
    fn sqrt(self) -> Self;
    /// A number whose order is the order of these: NaN last, −0 equal to 0.
    fn key(self) -> u64;
    /// `self ^ b`
    fn pow(self, b: Self) -> Self;
    /// A function of floats; integers go through `f64` and are cut off.
    fn through(self, single: fn(f32) -> f32, double: fn(f64) -> f64) -> Self;
    /// Not a number.
    #[inline(always)]
    #[allow(clippy::eq_op)]
    fn is_nan(self) -> bool {
        self != self
    }
}

impl Number for i64 {
    const FLOAT: bool = false;
    const LEAST: i64 = i64::MIN;
    const MOST: i64 = i64::MAX;
    type Wide = i64;
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self as f64
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        self
    }
    #[inline(always)]
    fn from_f64(v: f64) -> i64 {
        v as i64
    }
    #[inline(always)]
    fn from_i64(v: i64) -> i64 {
        v
    }
    #[inline(always)]
    fn add(self, b: i64) -> i64 {
        self.wrapping_add(b)
    }
    #[inline(always)]
    fn sub(self, b: i64) -> i64 {
        self.wrapping_sub(b)
    }
    #[inline(always)]
    fn mul(self, b: i64) -> i64 {
        self.wrapping_mul(b)
    }
    #[inline(always)]
    fn div(self, b: i64) -> i64 {
        if b == 0 { 0 } else { self.wrapping_div(b) }
    }
    #[inline(always)]
    fn fmod(self, b: i64) -> i64 {
        if b == 0 { 0 } else { self.wrapping_rem(b) }
    }
    #[inline(always)]
    fn modulo(self, b: i64) -> i64 {
        let r = self.fmod(b);
        // The remainder follows the divisor's sign: -1 % 3 is 2.
        if r != 0 && ((r < 0) != (b < 0)) { r + b } else { r }
    }
    #[inline(always)]
    fn neg(self) -> i64 {
        self.wrapping_neg()
    }
    #[inline(always)]
    fn abs(self) -> i64 {
        self.wrapping_abs()
    }
    #[inline(always)]
    fn sqrt(self) -> i64 {
        (self as f64).sqrt() as i64
    }
    #[inline(always)]
    fn key(self) -> u64 {
        self as u64 ^ 1 << 63
    }
    #[inline(always)]
    fn pow(self, b: i64) -> i64 {
        match u32::try_from(b) {
            Ok(b) => self.wrapping_pow(b),
            Err(_) => (self as f64).powf(b as f64) as i64,
        }
    }
    #[inline(always)]
    fn through(self, _: fn(f32) -> f32, double: fn(f64) -> f64) -> i64 {
        double(self as f64) as i64
    }
}

macro_rules! floats {
    ($($t:ty: $single:ident, $double:ident => $f:expr;)*) => { $(
        #[allow(clippy::eq_op)]
        impl Number for $t {
            const FLOAT: bool = true;
            const LEAST: $t = <$t>::NEG_INFINITY;
            const MOST: $t = <$t>::INFINITY;
            type Wide = f64;
            #[inline(always)]
            fn to_f64(self) -> f64 { self as f64 }
            #[inline(always)]
            fn to_i64(self) -> i64 { self as i64 }
            #[inline(always)]
            fn from_f64(v: f64) -> $t { v as $t }
            #[inline(always)]
            fn from_i64(v: i64) -> $t { v as $t }
            #[inline(always)]
            fn add(self, b: $t) -> $t { self + b }
            #[inline(always)]
            fn sub(self, b: $t) -> $t { self - b }
            #[inline(always)]
            fn mul(self, b: $t) -> $t { self * b }
            #[inline(always)]
            fn div(self, b: $t) -> $t { self / b }
            #[inline(always)]
            fn modulo(self, b: $t) -> $t { self - b * (self / b).floor() }
            #[inline(always)]
            fn fmod(self, b: $t) -> $t { self % b }
            #[inline(always)]
            fn neg(self) -> $t { -self }
            #[inline(always)]
            fn abs(self) -> $t { <$t>::abs(self) }
            #[inline(always)]
            fn sqrt(self) -> $t { <$t>::sqrt(self) }
            #[inline(always)]
            fn key(self) -> u64 {
                if self != self {
                    return u64::MAX;
                }
                // Adding 0 turns -0 into 0. Patterns of negative numbers order backwards.
                let bits = (self as f64 + 0.0).to_bits();
                if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
            }
            #[inline(always)]
            fn pow(self, b: $t) -> $t { self.powf(b) }
            #[inline(always)]
            fn through(self, $single: fn(f32) -> f32, $double: fn(f64) -> f64) -> $t { $f(self) }
        }
    )* };
}
floats! {
    f32: single, _double => single;
    f64: _single, double => double;
}
