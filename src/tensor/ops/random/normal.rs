//! Normal numbers, many at a time: Box and Muller's method in the processor's vectors, by the crate `wide`.
//!
//! The numbers do not depend on the processor, nor on how many are drawn at a time.

use std::f64::consts::TAU;

use wide::f64x4;

use super::Generator;
use crate::dispatch;
use crate::error::Result;
use crate::tensor::Tensor;
use crate::tensor::data::dtype::{Element, number};
use crate::tensor::data::number::Scalar;
use crate::tensor::kernel::vector::vectorised;
use crate::tensor::kernel::walk::walk_in_order;

/// Pairs of numbers that are made at a time.
const LANES: usize = 4;
/// Numbers made between two rounds of writing.
const CHUNK: usize = 512;

vectorised! {
    /// Turns pairs of uniform numbers of [0, 1) into pairs of normal ones: an angle in turns, and what the radius comes
    /// from.
    ///
    /// # Safety
    /// None is needed.
    unsafe fn pairs<>(numbers: &mut [[f64; 2 * LANES]]) -> () {
        for n in numbers {
            let turn = f64x4::from([n[0], n[2], n[4], n[6]]);
            let height = f64x4::from([n[1], n[3], n[5], n[7]]);
            let radius = (f64x4::splat(-2.0) * (f64x4::splat(1.0) - height).ln()).sqrt();
            let (sine, cosine) = (f64x4::splat(TAU) * turn).sin_cos();
            let (x, y) = ((radius * cosine).to_array(), (radius * sine).to_array());
            for i in 0..LANES {
                (n[2 * i], n[2 * i + 1]) = (x[i], y[i]);
            }
        }
    }
}

impl Generator {
    /// Fills `out` with normal numbers of mean 0 and deviation 1.
    pub(super) fn normals(&mut self, out: &mut [f64]) {
        let mut done = 0;
        if let (Some(first), Some(kept)) = (out.first_mut(), self.kept) {
            *first = kept;
            self.kept = None;
            done = 1;
        }
        let mut made = [[0.0; 2 * LANES]; CHUNK / (2 * LANES)];
        while done < out.len() {
            let left = out.len() - done;
            // Words for whole pairs only, whose second number may be one too many.
            let n = left.next_multiple_of(2).min(CHUNK);
            for i in 0..n {
                made[i / (2 * LANES)][i % (2 * LANES)] = self.unit();
            }
            // SAFETY: `pairs` needs no promise.
            unsafe { pairs(&mut made[..n.div_ceil(2 * LANES)]) }
            let numbers = made.as_flattened();
            let taken = n.min(left);
            out[done..done + taken].copy_from_slice(&numbers[..taken]);
            if taken < n {
                self.kept = Some(numbers[taken]);
            }
            done += taken;
        }
    }

    /// Fills `tensor` with normal numbers, in row-major order.
    pub(super) fn fill_normal(&mut self, tensor: &Tensor, mean: f64, deviation: f64) -> Result<()> {
        if tensor.numel() == 0 {
            return Ok(());
        }
        let mut numbers = [0.0; CHUNK];
        dispatch!(tensor.dtype(), T => walk_in_order([&tensor.operand()?], &mut |[p], [s], n| {
            for start in (0..n).step_by(CHUNK) {
                let numbers = &mut numbers[..CHUNK.min(n - start)];
                self.normals(numbers);
                for (i, v) in numbers.iter().enumerate() {
                    let v = <T as Element>::store(number(Scalar::Float(v * deviation + mean)));
                    // SAFETY: element start + i of a run that `walk_in_order` hands out; the operand is held.
                    unsafe { *p.cast::<T>().offset((start + i) as isize * s) = v }
                }
            }
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DType, Distribution};

    #[test]
    fn numbers_do_not_depend_on_how_many_are_drawn_at_a_time() {
        let mut whole = [0.0; 1500];
        Generator::new(11).normals(&mut whole);
        let mut g = Generator::new(11);
        let mut parts = Vec::new();
        for n in [1, 2, 3, 0, 5, 8, 13, 511, 512, 445] {
            let mut part = vec![0.0; n];
            g.normals(&mut part);
            parts.extend(part);
        }
        assert_eq!(whole[..], parts[..]);
        let mut g = Generator::new(11);
        let normal = Distribution::Normal { mean: 0.0, deviation: 1.0 };
        assert!(whole.iter().all(|&v| g.draw(normal) == v));
    }

    #[test]
    fn numbers_are_those_of_the_formula() {
        let mut made = [0.0; 10_000];
        Generator::new(5).normals(&mut made);
        let mut g = Generator::new(5);
        for pair in made.chunks(2) {
            let (turn, height) = (g.unit(), g.unit());
            let radius = (-2.0 * (1.0 - height).ln()).sqrt();
            for (v, want) in pair.iter().zip([radius * (TAU * turn).cos(), radius * (TAU * turn).sin()]) {
                assert!((v - want).abs() <= 1e-15 * (1.0 + radius), "{v} for {want}");
            }
        }
    }

    #[test]
    fn tensors_of_every_type_and_stride_are_filled_in_row_major_order() {
        for dtype in DType::ALL {
            let across = Tensor::with_sizes(dtype, &[40, 30]).and_then(|t| t.t());
            let along = Tensor::with_sizes(dtype, &[30, 40]);
            let (Ok(across), Ok(along)) = (across, along) else { panic!("no tensors") };
            for t in [&across, &along] {
                assert!(Generator::new(3).fill_normal(t, 50.0, 10.0).is_ok());
            }
            assert_eq!(across.to_vec::<f64>().ok(), along.to_vec::<f64>().ok());
            let mean = along.mean().unwrap_or(0.0);
            assert!((48.5..51.5).contains(&mean), "{dtype}: {mean}");
        }
    }
}
