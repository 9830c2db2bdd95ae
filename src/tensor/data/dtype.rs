//! The types that elements can have: as a value ([`DType`]), as a Rust type ([`Element`]), and the one way from the
//! first to the second ([`dispatch!`](crate::dispatch)). [`dtypes!`](crate::dtypes) is the table of them.
//!
//! Imports its sibling `number`.

use std::fmt;

use half::{bf16, f16};

use super::number::{Number, Scalar};
use crate::err;
use crate::error::Result;

/// The table of all types, which is what lists them: the name, and that of the conversion to it; the number on the
/// wire; the Rust type, and that of C; the type that elements are computed in. `dtypes!([m] given)` calls the macro `m`
/// with what is given and, behind it, the table.
#[macro_export]
macro_rules! dtypes {
    ([$($then:tt)*] $($given:tt)*) => {
        $($then)*! { $($given)*
            /// `u8`
            Byte "byte" = 1, u8, "uint8_t" => Long;
            /// `i8`
            Char "char" = 2, i8, "int8_t" => Long;
            /// `i16`
            Short "short" = 3, i16, "int16_t" => Long;
            /// `i32`
            Int "int" = 4, i32, "int32_t" => Long;
            /// `i64`
            Long "long" = 5, i64, "int64_t" => Long;
            /// `f32`
            Float "float" = 6, f32, "float" => Float;
            /// `f64`
            Double "double" = 7, f64, "double" => Double;
            /// IEEE 754 half precision; computed in `f32`
            Half "half" = 8, ::half::f16, "uint16_t" => Float;
            /// The upper half of an `f32`; computed in `f32`
            BFloat16 "bfloat16" = 9, ::half::bf16, "uint16_t" => Float;
        }
    };
}

/// Evaluates an expression with `$T` standing for the Rust type of the elements: `dispatch!(dtype, T => sum::<T>(t))`.
/// Whatever is generic over [`Element`](crate::tensor::Element) is reached through it.
///
/// With `compute $C` it stands for what they are computed in: `i64`, `f32` or `f64`.
#[macro_export]
macro_rules! dispatch {
    ($dtype:expr, compute $C:ident => $body:expr) => {
        match $crate::tensor::DType::compute($dtype) {
            $crate::tensor::DType::Float => $crate::dispatch!(@ f32, $C, $body),
            $crate::tensor::DType::Double => $crate::dispatch!(@ f64, $C, $body),
            _ => $crate::dispatch!(@ i64, $C, $body),
        }
    };
    ($dtype:expr, $T:ident => $body:expr) => {
        $crate::dtypes!([$crate::dispatch] @all $dtype, $T, $body;)
    };
    (@all $dtype:expr, $T:ident, $body:expr;
        $($(#[$doc:meta])* $name:ident $lower:literal = $code:literal, $rust:ty, $c:literal => $compute:ident;)*) => {
        match $dtype {
            $($crate::tensor::DType::$name => $crate::dispatch!(@ $rust, $T, $body),)*
        }
    };
    (@ $concrete:ty, $T:ident, $body:expr) => {{
        type $T = $concrete;
        $body
    }};
}

macro_rules! declare {
    ($($(#[$doc:meta])* $name:ident $lower:literal = $code:literal, $rust:ty, $c:literal => $compute:ident;)*) => {
        /// The type of a tensor's elements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DType {
            $($(#[$doc])* $name = $code,)*
        }

        impl DType {
            /// Every type, in the order of their codes.
            pub const ALL: [DType; [$($code),*].len()] = [$(DType::$name),*];

            /// Bytes an element takes.
            pub const fn size(self) -> usize {
                match self { $(DType::$name => size_of::<$rust>(),)* }
            }

            /// Torch's name of the type: `Float`.
            pub const fn name(self) -> &'static str {
                match self { $(DType::$name => stringify!($name),)* }
            }

            /// The class of a tensor of this type: `torch.FloatTensor`.
            pub const fn tensor_class(self) -> &'static str {
                match self { $(DType::$name => concat!("torch.", stringify!($name), "Tensor"),)* }
            }

            /// The class of a storage of this type: `torch.FloatStorage`.
            pub const fn storage_class(self) -> &'static str {
                match self { $(DType::$name => concat!("torch.", stringify!($name), "Storage"),)* }
            }

            /// The type of C that an element is to LuaJIT's FFI: `float`.
            pub const fn c_type(self) -> &'static str {
                match self { $(DType::$name => $c,)* }
            }

            /// The type that elements are computed in: Long for integers, Float for floats up to 32 bits, Double.
            pub const fn compute(self) -> DType {
                match self { $(DType::$name => DType::$compute,)* }
            }
        }
    };
}
dtypes!([declare]);

/// Evaluates an expression with `$W` standing for an unsigned integer of the size of `$dtype`'s elements: for loops
/// that move elements, and need not know what they are.
macro_rules! by_size {
    ($dtype:expr, $W:ident => $body:expr) => {
        match $dtype.size() {
            1 => by_size!(@ u8, $W, $body),
            2 => by_size!(@ u16, $W, $body),
            4 => by_size!(@ u32, $W, $body),
            _ => by_size!(@ u64, $W, $body),
        }
    };
    (@ $concrete:ty, $W:ident, $body:expr) => {{
        type $W = $concrete;
        $body
    }};
}
pub(in crate::tensor) use by_size;

impl DType {
    /// The number that stands for the type on the wire. It never changes.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The type whose [`code`](Self::code) this is.
    pub fn from_code(code: u8) -> Option<DType> {
        DType::ALL.get(usize::from(code).wrapping_sub(1)).copied()
    }

    /// The type of a name in any of its forms: `Float`, `float`, `torch.FloatTensor`, `torch.FloatStorage`.
    pub fn parse(name: &str) -> Result<DType> {
        let short = name.strip_prefix("torch.").unwrap_or(name);
        let short = short.strip_suffix("Tensor").or_else(|| short.strip_suffix("Storage")).unwrap_or(short);
        DType::ALL.into_iter().find(|d| d.name().eq_ignore_ascii_case(short)).ok_or_else(|| {
            let names = DType::ALL.map(DType::name).join(" ");
            err!(Argument, "expected a tensor type ({names}), got '{name}'")
        })
    }

    /// Whether elements have a fraction.
    pub const fn is_float(self) -> bool {
        !matches!(self.compute(), DType::Long)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type that elements can have.
///
/// # Safety
/// Every bit pattern of `size_of::<Self>()` bytes is a valid value, and `DTYPE.size()` is that size: memory that a peer
/// or another thread wrote is read as elements.
pub unsafe trait Element: Copy + Default + PartialEq + PartialOrd + fmt::Debug + Send + Sync + 'static {
    /// This type as a value.
    const DTYPE: DType;
    /// What arithmetic on elements is done in: `i64` for integers, `f64` for itself, `f32` for the other floats.
    /// Integers wrap when they are stored, which gives the same as wrapping at each step.
    type Compute: Number;
    /// Ready to compute with.
    fn load(self) -> Self::Compute;
    /// Back to an element: floats rounded to nearest, integers wrapped.
    fn store(value: Self::Compute) -> Self;
}

macro_rules! plain {
    ($($t:ty = $dtype:ident in $compute:ty),*) => { $(
        // SAFETY: a primitive number has no invalid bit pattern.
        unsafe impl Element for $t {
            const DTYPE: DType = DType::$dtype;
            type Compute = $compute;
            #[inline(always)]
            fn load(self) -> $compute { self as $compute }
            #[inline(always)]
            fn store(value: $compute) -> $t { value as $t }
        }
    )* };
}
plain!(u8 = Byte in i64, i8 = Char in i64, i16 = Short in i64, i32 = Int in i64, i64 = Long in i64);
plain!(f32 = Float in f32, f64 = Double in f64);

// SAFETY: f16 is a u16 inside; every pattern is a number or a NaN.
unsafe impl Element for f16 {
    const DTYPE: DType = DType::Half;
    type Compute = f32;
    #[inline(always)]
    fn load(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn store(value: f32) -> f16 {
        f16::from_f32(value)
    }
}

// SAFETY: bf16 is a u16 inside; every pattern is a number or a NaN.
unsafe impl Element for bf16 {
    const DTYPE: DType = DType::BFloat16;
    type Compute = f32;
    #[inline(always)]
    fn load(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    /// Rounds half to even as `bf16::from_f32` does, in a form without branches that vectorises.
    #[inline(always)]
    fn store(value: f32) -> bf16 {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        bf16::from_bits(if value.is_nan() { bits >> 16 | 0x40 } else { rounded } as u16)
    }
}

/// An element of one type as an element of another. Integers wrap. Floats to integers: cut off to an `i64` as Rust's
/// `as` does it (NaN gives 0, what is too large the nearest end), which then wraps, so that -1 as a Byte is 255 whether
/// it came as a float or as an integer.
#[inline(always)]
pub fn cast<S: Element, D: Element>(s: S) -> D {
    D::store(convert(s.load()))
}

/// A number of one compute type as one of another.
#[inline(always)]
pub fn convert<S: Number, D: Number>(s: S) -> D {
    if S::FLOAT { D::from_f64(s.to_f64()) } else { D::from_i64(s.to_i64()) }
}

/// A number from outside as one to compute with.
#[inline(always)]
pub fn number<C: Number>(s: Scalar) -> C {
    match s {
        Scalar::Float(v) => C::from_f64(v),
        Scalar::Int(v) => C::from_i64(v),
    }
}

/// A number from outside as an element's compute type.
#[inline(always)]
pub fn from_scalar<T: Element>(s: Scalar) -> T::Compute {
    number(s)
}

/// An element as a number for outside.
#[inline(always)]
pub fn to_scalar<C: Number>(v: C) -> Scalar {
    if C::FLOAT { Scalar::Float(v.to_f64()) } else { Scalar::Int(v.to_i64()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn codes_and_names_lead_back_to_the_type() {
        for d in DType::ALL {
            assert_eq!(DType::from_code(d.code()), Some(d));
            for name in [d.name(), d.tensor_class(), d.storage_class()] {
                assert_eq!(DType::parse(name).unwrap(), d);
            }
            assert_eq!(dispatch!(d, T => (T::DTYPE, size_of::<T>())), (d, d.size()));
        }
        assert_eq!(DType::from_code(0), None);
        assert_eq!(DType::from_code(10), None);
        assert!(DType::parse("Complex").is_err());
    }

    #[test]
    fn casts_cut_off_and_wrap() {
        assert_eq!(cast::<f64, u8>(300.7), 44);
        assert_eq!(cast::<f64, u8>(-1.0), 255);
        assert_eq!(cast::<f64, i64>(1e300), i64::MAX);
        assert_eq!(cast::<f32, i32>(-1.9), -1);
        assert_eq!(cast::<f64, i64>(f64::NAN), 0);
        assert_eq!(cast::<i64, u8>(257), 1);
        assert_eq!(cast::<i64, f64>(-3), -3.0);
        assert_eq!(cast::<f64, f16>(1e9), f16::INFINITY);
        for bits in (0..u32::MAX).step_by(9973).map(f32::from_bits) {
            let (ours, theirs) = (<bf16 as Element>::store(bits), bf16::from_f32(bits));
            assert!(ours == theirs || (ours.is_nan() && theirs.is_nan()), "{bits}");
        }
        assert_eq!(cast::<bf16, i16>(bf16::from_f32(2.5)), 2);
    }
}
