//! Functions of many numbers at a time, in the processor's vectors: by the crate `rten-vecmath`, which picks the
//! instructions at run time.
//!
//! Exact to two units in the last place. Other functions are called per element.
//!
//! Imports its sibling `op`.

use rten_simd::SimdUnaryOp;
use rten_vecmath::{Exp, Tanh};

use super::op::Unary;

/// The operation as a function that replaces all numbers of a slice, if there is one.
pub(in crate::tensor) fn many(op: Unary) -> Option<fn(&mut [f32])> {
    match op {
        Unary::Exp => Some(|numbers| Exp {}.map_mut(numbers)),
        Unary::Tanh => Some(|numbers| Tanh {}.map_mut(numbers)),
        Unary::Sigmoid => Some(sigmoid),
        _ => None,
    }
}

fn sigmoid(numbers: &mut [f32]) {
    numbers.iter_mut().for_each(|x| *x = -*x);
    Exp {}.map_mut(numbers);
    numbers.iter_mut().for_each(|x| *x = 1.0 / (1.0 + *x));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// How many floats lie between two, 0 for two NaNs.
    fn apart(a: f32, b: f32) -> u32 {
        let order =
            |x: f32| if x.to_bits() >> 31 == 0 { i64::from(x.to_bits()) } else { -i64::from(x.abs().to_bits()) };
        if a.is_nan() && b.is_nan() { 0 } else { order(a).abs_diff(order(b)).try_into().unwrap() }
    }

    /// As the C library has it.
    type Exact = fn(f64) -> f64;

    #[test]
    fn functions_of_many_numbers_are_exact_to_two_units_in_the_last_place() {
        let exact: [(Unary, Exact); 3] =
            [(Unary::Exp, f64::exp), (Unary::Tanh, f64::tanh), (Unary::Sigmoid, |x| 1.0 / (1.0 + (-x).exp()))];
        // Every sign and exponent, NaNs and infinities among them; an odd count, to end in the middle of a vector.
        let inputs: Vec<f32> = (0..u32::MAX).step_by(49_999).map(f32::from_bits).collect();
        for (op, exact) in exact {
            let mut outputs = inputs.clone();
            many(op).unwrap()(&mut outputs);
            for (x, y) in inputs.iter().zip(outputs) {
                let want = exact(f64::from(*x)) as f32;
                // A sigmoid below the least normal number comes from an exponential that is already infinite.
                let tiny = op == Unary::Sigmoid && want < f32::MIN_POSITIVE && y < f32::MIN_POSITIVE;
                let bound = if op == Unary::Sigmoid { 4 } else { 2 };
                assert!(tiny || apart(y, want) <= bound, "{op:?}({x}) gave {y} for {want}");
            }
        }
    }
}
