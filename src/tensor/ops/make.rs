//! Tensors made from nothing but numbers.

use crate::err;
use crate::error::Result;
use crate::sys::try_collect;
use crate::tensor::data::dtype::DType;
use crate::tensor::data::layout::MAX_ELEMENTS;
use crate::tensor::data::number::Scalar;
use crate::tensor::data::view::Tensor;

impl Tensor {
    /// Zeros.
    pub fn zeros(dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        Tensor::with_sizes(dtype, sizes)
    }

    /// Ones.
    pub fn ones(dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        let t = Tensor::with_sizes(dtype, sizes)?;
        t.fill(1)?;
        Ok(t)
    }

    /// `from`, `from + step`, … up to and with `to`.
    pub fn range(dtype: DType, from: f64, to: f64, step: f64) -> Result<Tensor> {
        if !(from.is_finite() && to.is_finite() && step.is_finite()) || step == 0.0 || (to - from) / step < 0.0 {
            return Err(err!(
                Argument,
                "expected a range of finite numbers whose step leads from {from} to {to}, got {step}"
            ));
        }
        let n = ((to - from) / step + 1.0).floor();
        if n > MAX_ELEMENTS as f64 {
            return Err(err!(Limit, "a range from {from} to {to} in steps of {step} has {n} elements"));
        }
        sequence(dtype, n as usize, |i| from + i as f64 * step)
    }

    /// `n` numbers at equal distances, the first `from` and the last `to`.
    pub fn linspace(dtype: DType, from: f64, to: f64, n: usize) -> Result<Tensor> {
        if n == 0 || (n == 1 && from != to) {
            return Err(err!(Argument, "expected at least 2 numbers from {from} to {to}, got {n}"));
        }
        let last = (n - 1).max(1) as f64;
        sequence(dtype, n, |i| if i + 1 == n { to } else { from + (to - from) * i as f64 / last })
    }

    /// A matrix with ones on its diagonal.
    pub fn eye(dtype: DType, rows: usize, columns: usize) -> Result<Tensor> {
        let t = Tensor::with_sizes(dtype, &[rows, columns])?;
        let n = rows.min(columns);
        if let (true, Some(s)) = (n > 0, t.storage()) {
            Tensor::from_storage(s, 0, &[n], Some(&[columns as isize + 1]))?.fill(1)?;
        }
        Ok(t)
    }

    /// The tensors one after the other along a dimension; those without elements are left out. One dimension more than
    /// they have stacks them.
    pub fn cat(tensors: &[&Tensor], dim: usize) -> Result<Tensor> {
        let some: Vec<&Tensor> = try_collect(tensors.iter().copied().filter(|t| t.numel() > 0))?;
        let Some(first) = some.first() else {
            return match tensors.first() {
                Some(t) => Ok(Tensor::new(t.dtype())),
                None => Err(err!(Argument, "expected at least one tensor to concatenate")),
            };
        };
        let ndim = some.iter().map(|t| t.ndim()).max().unwrap_or(0).max(dim.saturating_add(1));
        if ndim > first.ndim() + 1 {
            first.layout().check_dim(dim)?;
        }
        let padded = |t: &Tensor| (0..ndim).map(|d| t.sizes().get(d).copied().unwrap_or(1)).collect::<Vec<_>>();
        let mut sizes = padded(first);
        sizes[dim] = 0;
        for t in &some {
            let own = padded(t);
            if t.dtype() != first.dtype() || (0..ndim).any(|d| d != dim && own[d] != sizes[d]) {
                return Err(err!(Argument, "{first:?} and {t:?} cannot be concatenated along dimension {}", dim + 1));
            }
            sizes[dim] = sizes[dim].saturating_add(own[dim]);
        }
        let out = Tensor::with_sizes(first.dtype(), &sizes)?;
        let mut at = 0;
        for t in some {
            let len = t.sizes().get(dim).copied().unwrap_or(1);
            out.narrow(dim, at, len)?.copy_from(t)?;
            at += len;
        }
        Ok(out)
    }
}

/// `n` numbers computed from their places.
fn sequence(dtype: DType, n: usize, f: impl Fn(usize) -> f64) -> Result<Tensor> {
    let t = Tensor::with_sizes(dtype, &[n])?;
    if let Some(s) = t.storage() {
        (0..n).try_for_each(|i| s.put(i, Scalar::Float(f(i))))?;
    }
    Ok(t)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_range_includes_its_end() {
        let v = |a, b, s| Tensor::range(DType::Double, a, b, s).unwrap().to_vec::<f64>().unwrap();
        assert_eq!(v(1.0, 4.0, 1.0), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(v(1.0, 2.2, 0.5), [1.0, 1.5, 2.0]);
        assert_eq!(v(3.0, 1.0, -1.0), [3.0, 2.0, 1.0]);
        assert_eq!(v(2.0, 2.0, 1.0), [2.0]);
        for (a, b, s) in [(1.0, 2.0, 0.0), (1.0, 2.0, -1.0), (f64::NAN, 1.0, 1.0), (0.0, f64::INFINITY, 1.0)] {
            assert_eq!(Tensor::range(DType::Float, a, b, s).unwrap_err().code(), Code::Argument);
        }
        assert_eq!(Tensor::range(DType::Float, 0.0, 1e300, 1.0).unwrap_err().code(), Code::Limit);
    }

    #[test]
    fn linspace_ends_exactly() {
        let t = Tensor::linspace(DType::Double, 0.0, 0.3, 4).unwrap().to_vec::<f64>().unwrap();
        assert_eq!((t[0], t[3], t.len()), (0.0, 0.3, 4));
        assert!(Tensor::linspace(DType::Double, 0.0, 1.0, 0).is_err());
        assert!(Tensor::linspace(DType::Double, 0.0, 1.0, 1 << 62).is_err());
    }

    #[test]
    fn eye_has_ones_on_its_diagonal() {
        let t = Tensor::eye(DType::Int, 2, 3).unwrap();
        assert_eq!(t.to_vec::<i32>().unwrap(), [1, 0, 0, 0, 1, 0]);
        assert_eq!(Tensor::eye(DType::Int, 3, 2).unwrap().to_vec::<i32>().unwrap(), [1, 0, 0, 1, 0, 0]);
        assert!(Tensor::eye(DType::Int, 1 << 40, 1 << 40).is_err());
    }

    #[test]
    fn tensors_are_joined_along_any_dimension() {
        let a = Tensor::from_slice(&[1i32, 2]).unwrap();
        let b = Tensor::from_slice(&[3i32, 4]).unwrap();
        assert_eq!(Tensor::cat(&[&a, &Tensor::new(DType::Int), &b], 0).unwrap().to_vec::<i32>().unwrap(), [1, 2, 3, 4]);
        let wide = Tensor::cat(&[&a, &b], 1).unwrap();
        assert_eq!((wide.sizes(), wide.to_vec::<i32>().unwrap()), (&[2, 2][..], vec![1, 3, 2, 4]));
        assert!(Tensor::cat(&[&a, &wide], 1).is_ok());
        assert!(Tensor::cat(&[&a, &b], 2).is_err() && Tensor::cat(&[], 0).is_err());
        assert!(Tensor::cat(&[&a, &b], usize::MAX).is_err());
        assert!(Tensor::cat(&[&a, &Tensor::ones(DType::Float, &[2]).unwrap()], 0).is_err());
    }
}
