//! Products of vectors and matrices, of any strides.
//!
//! Matrices of floats go to the crate `matrixmultiply`, which picks the processor's vector instructions at run time;
//! 16-bit floats go there by way of `f32`. Products with a vector read their matrix once and have a loop of their own.
//! Integers wrap.
//!
//! Results are written to `self`, which has the right sizes already and may overlap the operands.
//!
//! Imports its siblings `op`, `arithmetic` and `shape`.

mod lines;

use lines::{ROWS, Wide, add_line, dot_line, dot_rows};

use super::op::Binary;
use crate::dispatch;
use crate::err;
use crate::error::Result;
use crate::sys::with_block;
use crate::tensor::data::dtype::{DType, Element, convert, from_scalar, to_scalar};
use crate::tensor::data::layout::describe;
use crate::tensor::data::memory::room;
use crate::tensor::data::number::{Number, Scalar};
use crate::tensor::data::view::{Operand, Tensor};

/// A matrix in memory: its first element, rows, columns, and how far apart those lie, in elements.
#[derive(Clone, Copy)]
struct Matrix<T> {
    at: *mut T,
    rows: usize,
    columns: usize,
    down: isize,
    along: isize,
}

impl<T> Matrix<T> {
    /// The caller keeps `operand`, which holds the memory, alive.
    fn of(operand: &Operand<'_>) -> Matrix<T> {
        let (sizes, strides) = (operand.layout.sizes(), operand.layout.strides());
        let (rows, columns) = (sizes[0], sizes.get(1).copied().unwrap_or(1));
        let along = strides.get(1).copied().unwrap_or(1);
        Matrix { at: operand.first.cast(), rows, columns, down: strides[0], along }
    }
}

/// Floats that `matrixmultiply` knows.
trait Gemm: Element {
    /// `c = alpha a b + beta c`
    ///
    /// # Safety
    /// All elements of the three lie in memory that is held, and those of `c` in places of their own.
    unsafe fn gemm(alpha: f64, a: Matrix<Self>, b: Matrix<Self>, beta: f64, c: Matrix<Self>);
}

macro_rules! gemm {
    ($($t:ty => $gemm:path),*) => { $(
        impl Gemm for $t {
            unsafe fn gemm(alpha: f64, a: Matrix<$t>, b: Matrix<$t>, beta: f64, c: Matrix<$t>) {
                // SAFETY: the caller's promise, passed on.
                unsafe {
                    $gemm(
                        a.rows, a.columns, b.columns, alpha as $t, a.at, a.down, a.along, b.at, b.down, b.along,
                        beta as $t, c.at, c.down, c.along,
                    )
                }
            }
        }
    )* };
}
gemm!(f32 => matrixmultiply::sgemm, f64 => matrixmultiply::dgemm);

/// `c = alpha a b + beta c` for floats.
fn multiply_floats<T: Gemm>(c: &Tensor, beta: Scalar, alpha: Scalar, a: &Tensor, b: &Tensor) -> Result<()> {
    let (ao, bo, co) = (a.operand()?, b.operand()?, c.operand()?);
    let (ma, mb, mc) = (Matrix::of(&ao), Matrix::of(&bo), Matrix::of(&co));
    // `matrixmultiply` copies blocks of both operands, at most 64 x 256 and 256 x 1024 elements each padded to its
    // kernel's tiles; there is room for twice that.
    let packed = ma.columns.min(512) * (ma.rows.min(128) + mb.columns.min(2048) + 128) * size_of::<T>();
    with_block(packed + 256, || {
        // SAFETY: the operands hold their memory; `c` is contiguous and shares no element with the others (see
        // `addmm`).
        unsafe { T::gemm(alpha.to_f64(), ma, mb, beta.to_f64(), mc) }
    })
}

/// `c = alpha a b + beta c` for the other types, row by row.
fn multiply<T: Element>(c: &Tensor, beta: Scalar, alpha: Scalar, a: &Tensor, b: &Tensor) -> Result<()> {
    let (beta, alpha) = (from_scalar::<T>(beta), from_scalar::<T>(alpha));
    let (ao, bo, co) = (a.operand()?, b.operand()?, c.operand()?);
    let (a, b, c) = (Matrix::<T>::of(&ao), Matrix::<T>::of(&bo), Matrix::<T>::of(&co));
    for i in 0..a.rows as isize {
        for j in 0..b.columns as isize {
            let mut sum = T::Compute::default();
            for k in 0..a.columns as isize {
                // SAFETY: (i, k) and (k, j) are elements of the operands.
                let (x, y) =
                    unsafe { (*a.at.offset(i * a.down + k * a.along), *b.at.offset(k * b.down + j * b.along)) };
                sum = sum.add(x.load().mul(y.load()));
            }
            // SAFETY: (i, j) is an element of c.
            unsafe {
                let at = c.at.offset(i * c.down + j * c.along);
                *at = T::store(beta.mul((*at).load()).add(alpha.mul(sum)));
            }
        }
    }
    Ok(())
}

/// The product of two contiguous tensors of equally many elements.
fn dot<T: Element>(a: &Tensor, b: &Tensor) -> Result<Scalar> {
    if a.numel() == 0 {
        return Ok(to_scalar(T::Compute::default()));
    }
    let (ao, bo) = (a.operand()?, b.operand()?);
    // SAFETY: the operands hold all their elements, which are contiguous.
    let sum = unsafe { dot_line::<T>(a.numel(), ao.first.cast(), 1, bo.first.cast(), 1) };
    Ok(to_scalar(sum))
}

/// `y = alpha a x + beta y`
fn multiply_vector<T: Element>(y: &Tensor, beta: Scalar, alpha: Scalar, a: &Tensor, x: &Tensor) -> Result<()> {
    let (beta, alpha) = (from_scalar::<T>(beta), from_scalar::<T>(alpha));
    let (ao, xo, yo) = (a.operand()?, x.operand()?, y.operand()?);
    let (a, x, y) = (Matrix::<T>::of(&ao), Matrix::<T>::of(&xo), Matrix::<T>::of(&yo));
    if a.down.abs() < a.along.abs() {
        // The columns lie together: y gathers them one after the other.
        let mut sums: Vec<Wide<T>> = room(a.rows)?;
        sums.resize(a.rows, Wide::<T>::default());
        for j in 0..a.columns as isize {
            // SAFETY: j is an element of x.
            let v: Wide<T> = convert(unsafe { *x.at.offset(j * x.down) }.load());
            // SAFETY: column j of a, with an element for each sum.
            unsafe { add_line::<T>(&mut sums, a.at.offset(j * a.along), a.down, v) }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            // SAFETY: i is an element of y.
            unsafe {
                let at = y.at.offset(i as isize * y.down);
                *at = T::store(beta.mul((*at).load()).add(alpha.mul(convert(sum))));
            }
        }
        return Ok(());
    }
    let put = |i: usize, sum: Wide<T>| {
        // SAFETY: i is an element of y.
        unsafe {
            let at = y.at.offset(i as isize * y.down);
            *at = T::store(beta.mul((*at).load()).add(alpha.mul(convert(sum))));
        }
    };
    let mut done = 0;
    if a.along == 1 && x.down == 1 {
        // As many lanes as fill two of AVX2's registers for a row.
        let rows = if size_of::<T::Compute>() == 4 { dot_rows::<T, 16> } else { dot_rows::<T, 8> };
        while done + ROWS <= a.rows {
            // SAFETY: rows of a and all of x, equally long, without gaps.
            let sums = unsafe { rows(a.columns, a.at.offset(done as isize * a.down), a.down, x.at) };
            sums.into_iter().enumerate().for_each(|(row, sum)| put(done + row, sum));
            done += ROWS;
        }
    }
    for i in done..a.rows {
        // SAFETY: row i of a and all of x, equally long.
        put(i, unsafe { dot_line(a.columns, a.at.offset(i as isize * a.down), a.along, x.at, x.down) });
    }
    Ok(())
}

fn expect_dims(what: &str, t: &Tensor, ndim: usize) -> Result<()> {
    if t.ndim() == ndim {
        return Ok(());
    }
    let kind = if ndim == 1 { "a vector" } else { "a matrix" };
    Err(err!(Argument, "expected {kind} as the {what}, got a tensor of size {}", describe(t.sizes())))
}

fn expect_type(t: &Tensor, dtype: DType) -> Result<()> {
    if t.dtype() == dtype {
        return Ok(());
    }
    Err(err!(Argument, "expected a {}, got a {}; convert it first", dtype.tensor_class(), t.dtype().tensor_class()))
}

fn misfit(a: &Tensor, b: &Tensor) -> crate::error::Error {
    err!(Argument, "sizes {} and {} cannot be multiplied", describe(a.sizes()), describe(b.sizes()))
}

impl Tensor {
    /// Calls `compute` with a contiguous tensor that holds `beta * start` and shares no element with the operands,
    /// which then is, or is copied to, this one. A `beta` of 0 forgets `start`, NaNs included.
    fn accumulate(
        &self,
        beta: Scalar,
        start: &Tensor,
        operands: [&Tensor; 2],
        compute: impl FnOnce(&Tensor, Scalar) -> Result<()>,
    ) -> Result<()> {
        for t in [start, operands[0], operands[1]] {
            expect_type(t, self.dtype())?;
        }
        if start.sizes() != self.sizes() && beta.to_f64() != 0.0 {
            return Err(err!(
                Argument,
                "expected a start of the result's size {}, got {}",
                describe(self.sizes()),
                describe(start.sizes())
            ));
        }
        let own = self.is_contiguous() && !self.meets(operands[0])? && !self.meets(operands[1])?;
        let out = if own { self.clone() } else { Tensor::with_sizes(self.dtype(), self.sizes())? };
        if beta.to_f64() == 0.0 {
            out.zero()?;
        } else {
            out.copy_from(start)?;
        }
        compute(&out, beta)?;
        if own { Ok(()) } else { self.copy_from(&out) }
    }

    /// The sum of the products of the elements of two tensors of equally many.
    pub fn dot(&self, other: &Tensor) -> Result<Scalar> {
        expect_type(other, self.dtype())?;
        if self.numel() != other.numel() {
            return Err(misfit(self, other));
        }
        let (a, b) = (self.contiguous()?, other.contiguous()?);
        dispatch!(self.dtype(), T => dot::<T>(&a, &b))
    }

    /// `self = beta * start + alpha * a x` for a matrix and a vector.
    pub fn addmv(&self, beta: Scalar, start: &Tensor, alpha: Scalar, a: &Tensor, x: &Tensor) -> Result<()> {
        expect_dims("first factor", a, 2)?;
        expect_dims("second factor", x, 1)?;
        if a.sizes()[1] != x.sizes()[0] || self.sizes() != [a.sizes()[0]] {
            return Err(misfit(a, x));
        }
        self.accumulate(
            beta,
            start,
            [a, x],
            |out, beta| dispatch!(self.dtype(), T => multiply_vector::<T>(out, beta, alpha, a, x)),
        )
    }

    /// `self = beta * start + alpha * a b` for matrices.
    pub fn addmm(&self, beta: Scalar, start: &Tensor, alpha: Scalar, a: &Tensor, b: &Tensor) -> Result<()> {
        expect_dims("first factor", a, 2)?;
        expect_dims("second factor", b, 2)?;
        if a.sizes()[1] != b.sizes()[0] || self.sizes() != [a.sizes()[0], b.sizes()[1]] {
            return Err(misfit(a, b));
        }
        self.accumulate(beta, start, [a, b], |out, beta| match self.dtype() {
            DType::Float => multiply_floats::<f32>(out, beta, alpha, a, b),
            DType::Double => multiply_floats::<f64>(out, beta, alpha, a, b),
            DType::Half | DType::BFloat16 => {
                let wide = out.to_dtype(DType::Float)?;
                let (a, b) = (a.to_dtype(DType::Float)?, b.to_dtype(DType::Float)?);
                multiply_floats::<f32>(&wide, beta, alpha, &a, &b)?;
                out.copy_from(&wide)
            }
            dtype => dispatch!(dtype, T => multiply::<T>(out, beta, alpha, a, b)),
        })
    }

    /// `self = beta * start + alpha * x y'`, the outer product of two vectors.
    pub fn addr(&self, beta: Scalar, start: &Tensor, alpha: Scalar, x: &Tensor, y: &Tensor) -> Result<()> {
        expect_dims("first factor", x, 1)?;
        expect_dims("second factor", y, 1)?;
        if self.sizes() != [x.sizes()[0], y.sizes()[0]] {
            return Err(misfit(x, y));
        }
        self.accumulate(beta, start, [x, y], |out, beta| {
            if beta.to_f64() != 1.0 {
                out.binary_scalar(Binary::Mul, out, beta)?;
            }
            let (x, y) = (x.unsqueeze(1)?.expand(self.sizes())?, y.unsqueeze(0)?.expand(self.sizes())?);
            out.addcmul(out, alpha, &x, &y)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn matrix(dtype: DType, rows: i64, columns: i64, seed: i64) -> Tensor {
        let v: Vec<i64> = (0..rows * columns).map(|i| (i * 7 + seed * 5) % 11 - 5).collect();
        Tensor::from_slice(&v).unwrap().view(&[rows, columns]).unwrap().to_dtype(dtype).unwrap()
    }

    /// The same values with rows and columns swapped in memory.
    fn turned(t: &Tensor) -> Tensor {
        t.t().unwrap().clone_data().unwrap().t().unwrap()
    }

    fn plainly(a: &Tensor, b: &Tensor) -> Vec<f64> {
        let (n, k, m) = (a.sizes()[0], a.sizes()[1], b.sizes()[1]);
        let (a, b) = (a.to_vec::<f64>().unwrap(), b.to_vec::<f64>().unwrap());
        let element = |i: usize, j: usize| (0..k).map(|x| a[i * k + x] * b[x * m + j]).sum::<f64>();
        (0..n * m).map(|at| element(at / m, at % m)).collect()
    }

    const NONE: Scalar = Scalar::Int(0);
    const ONE: Scalar = Scalar::Int(1);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn products_are_those_of_the_plain_sums(
            n in 1i64..9, k in 1i64..9, m in 1i64..9, turn in 0u8..8, d in 1usize..9,
        ) {
            // Byte has no negative numbers: its products wrap.
            let dtype = DType::ALL[d];
            let (mut a, mut b) = (matrix(dtype, n, k, 1), matrix(dtype, k, m, 2));
            if turn & 1 == 1 { a = turned(&a) }
            if turn & 2 == 2 { b = turned(&b) }
            let mut r = Tensor::with_sizes(dtype, &[n as usize, m as usize]).unwrap();
            if turn & 4 == 4 { r = turned(&r) }
            let want: Vec<f64> = plainly(&a, &b);
            let narrow = dtype == DType::Char && want.iter().any(|v| v.abs() > 127.0);
            let rough = dtype == DType::BFloat16 && want.iter().any(|v| v.abs() > 256.0);
            prop_assume!(!narrow && !rough);
            r.addmm(NONE, &r, ONE, &a, &b).unwrap();
            prop_assert_eq!(r.to_vec::<f64>().unwrap(), want.clone());
            let column = b.select(1, 0);
            if let Ok(x) = column {
                let y = Tensor::with_sizes(dtype, &[n as usize]).unwrap();
                y.addmv(NONE, &y, ONE, &a, &x).unwrap();
                let first: Vec<f64> = want.iter().step_by(m as usize).copied().collect();
                prop_assert_eq!(y.to_vec::<f64>().unwrap(), first);
            }
        }
    }

    #[test]
    fn long_rows_are_multiplied_as_short_ones_are() {
        for dtype in [DType::Float, DType::Double, DType::Long, DType::Int] {
            // Past a block of lanes, with rows and columns left over.
            for (rows, columns) in [(4, 16), (6, 520), (7, 1027), (9, 5)] {
                let (a, b) = (matrix(dtype, rows, columns, 1), matrix(dtype, columns, 2, 2));
                let want: Vec<f64> = plainly(&a, &b).into_iter().step_by(2).collect();
                // A vector of neighbours, and one with gaps.
                let x = b.select(1, 0).unwrap();
                for x in [x.contiguous().unwrap(), x] {
                    let y = Tensor::with_sizes(dtype, &[rows as usize]).unwrap();
                    y.addmv(NONE, &y, ONE, &a, &x).unwrap();
                    assert_eq!(y.to_vec::<f64>().unwrap(), want, "{dtype} {rows}x{columns}");
                }
            }
        }
    }

    #[test]
    fn alpha_and_beta_scale_and_zero_forgets() {
        let (a, b) = (matrix(DType::Double, 2, 3, 1), matrix(DType::Double, 3, 2, 2));
        let start = Tensor::ones(DType::Double, &[2, 2]).unwrap();
        let r = start.clone_data().unwrap();
        r.addmm(Scalar::Float(0.5), &start, Scalar::Int(2), &a, &b).unwrap();
        let want: Vec<f64> = plainly(&a, &b).iter().map(|v| 0.5 + 2.0 * v).collect();
        assert_eq!(r.to_vec::<f64>().unwrap(), want);
        r.fill(f64::NAN).unwrap();
        r.addmm(NONE, &r, ONE, &a, &b).unwrap();
        assert_eq!(r.to_vec::<f64>().unwrap(), plainly(&a, &b));
    }

    #[test]
    fn a_result_may_be_its_own_factor() {
        let a = matrix(DType::Float, 3, 3, 4);
        let want = plainly(&a, &a);
        a.addmm(NONE, &a, ONE, &a, &a).unwrap();
        assert_eq!(a.to_vec::<f64>().unwrap(), want);
    }

    #[test]
    fn outer_and_inner_products() {
        let x = Tensor::from_slice(&[1i32, 2]).unwrap();
        let y = Tensor::from_slice(&[3i32, 4, 5]).unwrap();
        let r = Tensor::ones(DType::Int, &[2, 3]).unwrap();
        r.addr(Scalar::Int(2), &r, ONE, &x, &y).unwrap();
        assert_eq!(r.to_vec::<i32>().unwrap(), [5, 6, 7, 8, 10, 12]);
        assert_eq!(y.dot(&y).unwrap(), Scalar::Int(50));
        assert_eq!(Tensor::new(DType::Float).dot(&Tensor::new(DType::Float)).unwrap(), Scalar::Float(0.0));
        let long: Vec<f32> = (0..1003).map(|i| i as f32).collect();
        let t = Tensor::from_slice(&long).unwrap();
        assert_eq!(t.dot(&t).unwrap(), Scalar::Float((0..1003u64).map(|i| i * i).sum::<u64>() as f64));
    }

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let a = matrix(DType::Float, 2, 3, 1);
        let e = a.addmm(NONE, &a, ONE, &a, &a).unwrap_err();
        assert_eq!(e.what(), "sizes 2x3 and 2x3 cannot be multiplied");
        assert!(a.addmv(NONE, &a, ONE, &a, &a).is_err());
        let d = matrix(DType::Double, 3, 2, 1);
        let r = Tensor::with_sizes(DType::Float, &[2, 2]).unwrap();
        assert!(r.addmm(NONE, &r, ONE, &a, &d).unwrap_err().what().contains("DoubleTensor"));
        let empty = Tensor::new(DType::Float);
        assert!(r.addmm(NONE, &r, ONE, &empty, &empty).is_err() && r.dot(&a).is_err());
    }
}
