//! The operations that go element by element, by their Torch names.
//!
//! Every operation is a variant of an enum, so that a binding can offer all of them from a list, and one more is a line
//! here and an arm in `ops`.

/// An enum of operations with the names Torch has for them.
macro_rules! operations {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $torch:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
        impl $name {
            /// Every operation.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];
            /// Torch's name of the operation.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $torch,)* }
            }
        }
    };
}

operations! {
    /// Functions of one element. Integers go through `f64` where a function has fractions, and are cut off.
    Unary {
        /// `|x|`
        Abs = "abs",
        /// `-x`
        Neg = "neg",
        /// −1, 0 or 1
        Sign = "sign",
        /// `1 / x`
        Cinv = "cinv",
        /// Square root
        Sqrt = "sqrt",
        /// `1 / sqrt(x)`
        Rsqrt = "rsqrt",
        /// e to the x
        Exp = "exp",
        /// e to the x, less 1
        Expm1 = "expm1",
        /// Natural logarithm
        Log = "log",
        /// Natural logarithm of 1 + x
        Log1p = "log1p",
        /// Sine
        Sin = "sin",
        /// Cosine
        Cos = "cos",
        /// Tangent
        Tan = "tan",
        /// Inverse sine
        Asin = "asin",
        /// Inverse cosine
        Acos = "acos",
        /// Inverse tangent
        Atan = "atan",
        /// Hyperbolic sine
        Sinh = "sinh",
        /// Hyperbolic cosine
        Cosh = "cosh",
        /// Hyperbolic tangent
        Tanh = "tanh",
        /// `1 / (1 + exp(-x))`
        Sigmoid = "sigmoid",
        /// Down to an integer
        Floor = "floor",
        /// Up to an integer
        Ceil = "ceil",
        /// To the nearest integer, halves away from zero
        Round = "round",
        /// Towards zero to an integer
        Trunc = "trunc",
        /// What `trunc` cuts off
        Frac = "frac",
    }
}

operations! {
    /// Functions of two elements, or of an element and a number. The names are those of the form with two tensors.
    Binary {
        /// `a + b`
        Add = "cadd",
        /// `a - b`
        Sub = "csub",
        /// `a * b`
        Mul = "cmul",
        /// `a / b`, cut off for integers; an integer 0 as divisor is an error
        Div = "cdiv",
        /// `a ^ b`
        Pow = "cpow",
        /// The remainder with the sign of `a`, as C's `fmod`
        Fmod = "cfmod",
        /// The remainder with the sign of `b`, as Lua's `%`
        Remainder = "cremainder",
        /// The larger
        Max = "cmax",
        /// The smaller
        Min = "cmin",
    }
}

operations! {
    /// Comparisons; the result is a ByteTensor of 0 and 1, or of the operands' own type.
    Compare {
        /// `a == b`
        Eq = "eq",
        /// `a ~= b`
        Ne = "ne",
        /// `a < b`
        Lt = "lt",
        /// `a <= b`
        Le = "le",
        /// `a > b`
        Gt = "gt",
        /// `a >= b`
        Ge = "ge",
    }
}
