//! Sums, products, extremes, norms and their kin: of a whole tensor, and along a dimension.
//!
//! Along a dimension the result keeps that dimension, with size 1.
//!
//! Imports its sibling `arithmetic`.

use crate::dispatch;
use crate::err;
use crate::error::Result;
use crate::tensor::data::dtype::{DType, convert, to_scalar};
use crate::tensor::data::number::{Number, Scalar};
use crate::tensor::data::view::Tensor;
use crate::tensor::kernel::fold::{Reduction, each_line, reduce, reduce_dim, reduced_sizes};
use crate::tensor::kernel::reductions::{ArgExtreme, Extreme, Moments, Norm, Prod, Squares, Sum, Truth, Wide};

/// Folds along a dimension to a tensor of the same type, through `finish`.
fn along<C: Number, R: Reduction<C>>(t: &Tensor, dim: usize, r: R, finish: impl Fn(R::Acc) -> C) -> Result<Tensor> {
    let out = Tensor::with_sizes(t.dtype(), &reduced_sizes(t, dim)?)?;
    reduce_dim::<C, R>(t, dim, &out, None, &r, |acc| (finish(acc), 0))?;
    Ok(out)
}

fn places<C: Number, const MAX: bool>(t: &Tensor, dim: usize) -> Result<(Tensor, Tensor)> {
    let sizes = reduced_sizes(t, dim)?;
    let (values, places) = (Tensor::with_sizes(t.dtype(), &sizes)?, Tensor::with_sizes(DType::Long, &sizes)?);
    let finish = |(v, at): (C, usize)| (v, ArgExtreme::<MAX>::found(at) as i64 + 1);
    reduce_dim::<C, _>(t, dim, &values, Some(&places), &ArgExtreme::<MAX>, finish)?;
    Ok((values, places))
}

fn cumulate<C: Number>(t: &Tensor, dim: usize, start: i64, f: fn(Wide<C>, Wide<C>) -> Wide<C>) -> Result<Tensor> {
    t.layout().check_dim(dim)?;
    let out = t.clone_data()?;
    each_line::<C>(&out, dim, &mut |line| {
        let mut acc = Wide::<C>::from_i64(start);
        for v in line {
            acc = f(acc, convert(*v));
            *v = convert(acc);
        }
    })?;
    Ok(out)
}

fn variance((n, _, m2): (f64, f64, f64), biased: bool) -> f64 {
    m2 / if biased { n } else { n - 1.0 }
}

impl Tensor {
    /// Refuses a tensor that has nothing to take the extreme or mean of.
    fn some(&self) -> Result<()> {
        if self.numel() > 0 { Ok(()) } else { Err(err!(Argument, "expected a tensor with elements, got an empty one")) }
    }

    /// The sum of all elements, 0 for none.
    pub fn sum(&self) -> Result<Scalar> {
        dispatch!(self.dtype(), compute C => Ok(to_scalar(reduce::<C, _>(self, &Sum)?)))
    }

    /// Sums along a dimension.
    pub fn sum_dim(&self, dim: usize) -> Result<Tensor> {
        dispatch!(self.dtype(), compute C => along::<C, _>(self, dim, Sum, convert))
    }

    /// The product of all elements, 1 for none.
    pub fn prod(&self) -> Result<Scalar> {
        dispatch!(self.dtype(), compute C => Ok(to_scalar(reduce::<C, _>(self, &Prod)?)))
    }

    /// Products along a dimension.
    pub fn prod_dim(&self, dim: usize) -> Result<Tensor> {
        dispatch!(self.dtype(), compute C => along::<C, _>(self, dim, Prod, convert))
    }

    /// The mean of all elements.
    pub fn mean(&self) -> Result<f64> {
        self.some()?;
        Ok(self.sum()?.to_f64() / self.numel() as f64)
    }

    /// Means along a dimension; cut off for integers.
    pub fn mean_dim(&self, dim: usize) -> Result<Tensor> {
        self.layout().check_dim(dim)?;
        let n = self.sizes()[dim] as f64;
        dispatch!(self.dtype(), compute C => along::<C, _>(self, dim, Sum, |s: Wide<C>| C::from_f64(s.to_f64() / n)))
    }

    /// The largest element.
    pub fn max(&self) -> Result<Scalar> {
        self.some()?;
        dispatch!(self.dtype(), compute C => Ok(to_scalar(reduce::<C, _>(self, &Extreme::<true>)?)))
    }

    /// The smallest element.
    pub fn min(&self) -> Result<Scalar> {
        self.some()?;
        dispatch!(self.dtype(), compute C => Ok(to_scalar(reduce::<C, _>(self, &Extreme::<false>)?)))
    }

    /// The largest elements along a dimension and their places in it, from 1, as a LongTensor.
    pub fn max_dim(&self, dim: usize) -> Result<(Tensor, Tensor)> {
        dispatch!(self.dtype(), compute C => places::<C, true>(self, dim))
    }

    /// The smallest elements along a dimension and their places in it, from 1, as a LongTensor.
    pub fn min_dim(&self, dim: usize) -> Result<(Tensor, Tensor)> {
        dispatch!(self.dtype(), compute C => places::<C, false>(self, dim))
    }

    /// The variance of all elements: divided by n − 1, or by n when `biased`.
    pub fn var(&self, biased: bool) -> Result<f64> {
        self.some()?;
        dispatch!(self.dtype(), compute C => Ok(variance(reduce::<C, _>(self, &Moments)?, biased)))
    }

    /// Variances along a dimension.
    pub fn var_dim(&self, dim: usize, biased: bool) -> Result<Tensor> {
        dispatch!(self.dtype(), compute C => along::<C, _>(self, dim, Moments, |m| C::from_f64(variance(m, biased))))
    }

    /// The standard deviation of all elements: divided by n − 1, or by n when `biased`.
    pub fn std(&self, biased: bool) -> Result<f64> {
        Ok(self.var(biased)?.sqrt())
    }

    /// Standard deviations along a dimension.
    pub fn std_dim(&self, dim: usize, biased: bool) -> Result<Tensor> {
        dispatch!(
            self.dtype(),
            compute C => along::<C, _>(self, dim, Moments, |m| C::from_f64(variance(m, biased).sqrt()))
        )
    }

    /// The p-norm of all elements; 0 counts those that are not zero, ∞ takes the largest.
    pub fn norm(&self, p: f64) -> Result<f64> {
        if p == 2.0 {
            return dispatch!(self.dtype(), compute C => Ok(reduce::<C, _>(self, &Squares)?.sqrt()));
        }
        let r = Norm(p);
        dispatch!(self.dtype(), compute C => Ok(r.finish(reduce::<C, _>(self, &r)?)))
    }

    /// p-norms along a dimension.
    pub fn norm_dim(&self, p: f64, dim: usize) -> Result<Tensor> {
        if p == 2.0 {
            return dispatch!(
                self.dtype(),
                compute C => along::<C, _>(self, dim, Squares, |sum| C::from_f64(sum.sqrt()))
            );
        }
        dispatch!(self.dtype(), compute C => along::<C, _>(self, dim, Norm(p), |acc| C::from_f64(Norm(p).finish(acc))))
    }

    /// The p-norm of `self - other`. Integers are subtracted as doubles: their own differences wrap.
    pub fn dist(&self, other: &Tensor, p: f64) -> Result<f64> {
        if !self.dtype().is_float() && other.dtype() == self.dtype() {
            return self.to_dtype(DType::Double)?.dist(&other.to_dtype(DType::Double)?, p);
        }
        let difference = self.clone_data()?;
        difference.add_scaled(&difference, -1, other)?;
        difference.norm(p)
    }

    /// Whether every element is non-zero (true for none).
    pub fn all(&self) -> Result<bool> {
        dispatch!(self.dtype(), compute C => Ok(reduce::<C, _>(self, &Truth)?.0))
    }

    /// Whether any element is non-zero.
    pub fn any(&self) -> Result<bool> {
        dispatch!(self.dtype(), compute C => Ok(reduce::<C, _>(self, &Truth)?.1))
    }

    /// Running sums along a dimension.
    pub fn cumsum(&self, dim: usize) -> Result<Tensor> {
        dispatch!(self.dtype(), compute C => cumulate::<C>(self, dim, 0, Number::add))
    }

    /// Running products along a dimension.
    pub fn cumprod(&self, dim: usize) -> Result<Tensor> {
        dispatch!(self.dtype(), compute C => cumulate::<C>(self, dim, 1, Number::mul))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;

    #[test]
    fn floats_are_summed_in_double_and_integers_in_long() {
        let t = Tensor::from_slice(&[1e8f32, 1.0, -1e8, 1.0]).unwrap();
        assert_eq!(t.sum().unwrap(), Scalar::Float(2.0));
        let b = Tensor::from_slice(&[200u8; 100]).unwrap();
        assert_eq!(b.sum().unwrap(), Scalar::Int(20_000));
        assert_eq!(Tensor::from_slice(&[i64::MAX, 1]).unwrap().sum().unwrap(), Scalar::Int(i64::MIN));
    }

    #[test]
    fn an_extreme_is_nan_when_there_is_one() {
        let t = Tensor::from_slice(&[1.0f64, f64::NAN, 3.0]).unwrap();
        assert!(t.max().unwrap().to_f64().is_nan() && t.min().unwrap().to_f64().is_nan());
        assert_eq!(t.max_dim(0).unwrap().1.get(&[0]).unwrap(), Scalar::Int(2));
        let least = Tensor::from_slice(&[f64::NEG_INFINITY; 3]).unwrap();
        assert_eq!(least.max_dim(0).unwrap().1.get(&[0]).unwrap(), Scalar::Int(1));
        let late = Tensor::from_slice(&[f64::NEG_INFINITY, f64::NAN, f64::NAN]).unwrap();
        assert_eq!(late.max_dim(0).unwrap().1.get(&[0]).unwrap(), Scalar::Int(2));
        assert_eq!(late.min_dim(0).unwrap().1.get(&[0]).unwrap(), Scalar::Int(2));
        let long = Tensor::ones(DType::Half, &[2000]).unwrap();
        long.put(&[1500], 2).unwrap();
        assert_eq!(long.max_dim(0).unwrap().1.get(&[0]).unwrap(), Scalar::Int(1501));
    }

    #[test]
    fn nothing_has_a_sum_but_no_extreme() {
        let t = Tensor::new(DType::Float);
        assert_eq!(t.sum().unwrap(), Scalar::Float(0.0));
        assert_eq!((t.all().unwrap(), t.any().unwrap()), (true, false));
        for r in [t.max().map(|_| ()), t.mean().map(|_| ()), t.sum_dim(0).map(|_| ()), t.cumsum(0).map(|_| ())] {
            assert_eq!(r.unwrap_err().code(), Code::Argument);
        }
    }

    #[test]
    fn a_dimension_that_is_not_there_is_named() {
        let t = Tensor::ones(DType::Float, &[2, 3]).unwrap();
        let e = t.sum_dim(2).unwrap_err();
        assert_eq!(e.what(), "dimension 3 is out of range: the tensor has 2 dimensions (size 2x3)");
        assert!(t.max_dim(usize::MAX).is_err() && t.norm_dim(2.0, 5).is_err());
    }

    #[test]
    fn a_line_of_one_has_no_unbiased_variance() {
        let t = Tensor::ones(DType::Float, &[1]).unwrap();
        assert!(t.var(false).unwrap().is_nan());
        assert_eq!(t.std(true).unwrap(), 0.0);
    }
}
