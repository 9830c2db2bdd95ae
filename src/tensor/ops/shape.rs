//! Views of views: narrow, select, transpose, view, expand and their kin. None of them copies an element.
//!
//! The arithmetic is on [`Layout`]s; a tensor's method takes the layout and keeps the storage. Dimensions and positions
//! count from 0, messages from 1.

use crate::err;
use crate::error::Result;
use crate::tensor::data::layout::{self, Layout, Sizes, Strides};
use crate::tensor::data::view::Tensor;

/// The position, from 0, that a user's `index` means in a dimension of `size`: from 1 on, or from −1 on back from the
/// end.
pub fn position(index: i64, size: usize, dim: usize) -> Result<usize> {
    let n = size as i64;
    match index {
        i if (1..=n).contains(&i) => Ok(i as usize - 1),
        i if (-n..=-1).contains(&i) => Ok((n + i) as usize),
        _ => Err(err!(Argument, "index {index} is out of range: dimension {} has {size} elements", dim + 1)),
    }
}

/// The dimension, from 0, that a user's `dim` means: from 1 on, or from −1 on back from the last.
pub fn dimension(dim: i64, ndim: usize) -> Result<usize> {
    let n = ndim as i64;
    match dim {
        d if (1..=n).contains(&d) => Ok(d as usize - 1),
        d if (-n..=-1).contains(&d) => Ok((n + d) as usize),
        _ => Err(err!(Argument, "dimension {dim} is out of range: the tensor has {ndim} dimensions")),
    }
}

impl Layout {
    /// Refuses a dimension that is not there.
    pub fn check_dim(&self, dim: usize) -> Result<()> {
        if dim < self.ndim() {
            return Ok(());
        }
        Err(err!(
            Argument,
            "dimension {} is out of range: the tensor has {} dimensions (size {})",
            dim.saturating_add(1),
            self.ndim(),
            layout::describe(self.sizes())
        ))
    }

    fn parts(&self) -> (Sizes, Strides) {
        (Sizes::from_slice(self.sizes()), Strides::from_slice(self.strides()))
    }

    /// Elements `start .. start + len` of a dimension.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Layout> {
        self.check_dim(dim)?;
        let size = self.sizes()[dim];
        if len == 0 || start.checked_add(len).is_none_or(|end| end > size) {
            return Err(err!(
                Argument,
                "{len} elements from {} on are out of range: dimension {} has {size} elements (size {})",
                start.saturating_add(1),
                dim + 1,
                layout::describe(self.sizes())
            ));
        }
        let (mut sizes, strides) = self.parts();
        sizes[dim] = len;
        Ok(Layout::with(self.offset() + start * strides[dim] as usize, sizes, strides))
    }

    /// The slice at one position of a dimension, which goes away.
    pub fn select(&self, dim: usize, at: usize) -> Result<Layout> {
        if self.ndim() == 1 {
            return Err(err!(Argument, "expected a tensor of two or more dimensions to select from, got size {}", {
                layout::describe(self.sizes())
            }));
        }
        let one = self.narrow(dim, at, 1)?;
        let (mut sizes, mut strides) = one.parts();
        sizes.remove(dim);
        strides.remove(dim);
        Ok(Layout::with(one.offset(), sizes, strides))
    }

    /// Two dimensions swapped.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Layout> {
        self.check_dim(a)?;
        self.check_dim(b)?;
        let (mut sizes, mut strides) = self.parts();
        sizes.swap(a, b);
        strides.swap(a, b);
        Ok(Layout::with(self.offset(), sizes, strides))
    }

    /// Diagonal `k` of a matrix: 0 the main one, above it positive, below negative.
    pub fn diagonal(&self, k: i64) -> Result<Layout> {
        let (&[rows, columns], &[down, along]) = (self.sizes(), self.strides()) else {
            return Err(err!(Argument, "expected a matrix, got a tensor of size {}", layout::describe(self.sizes())));
        };
        let away = usize::try_from(k.unsigned_abs()).unwrap_or(usize::MAX);
        let (row, column) = if k < 0 { (away, 0) } else { (0, away) };
        if row >= rows || column >= columns {
            return Err(err!(Argument, "a {rows}x{columns} matrix has no diagonal {k}"));
        }
        let n = (rows - row).min(columns - column);
        let offset = self.offset() + row * down as usize + column * along as usize;
        Ok(Layout::with(offset, Sizes::from_slice(&[n]), Strides::from_slice(&[down + along])))
    }

    /// The same elements in other sizes; one of them may be −1, it becomes what is left. Contiguous layouts only.
    pub fn view(&self, sizes: &[i64]) -> Result<Layout> {
        if !self.is_contiguous() {
            return Err(err!(
                Argument,
                "expected a contiguous tensor to view in other sizes, got size {} with strides {:?}; use contiguous() \
                 or reshape",
                layout::describe(self.sizes()),
                self.strides()
            ));
        }
        let sizes = infer(sizes, self.numel(), self.sizes())?;
        Layout::new(self.offset(), &sizes, None)
    }

    /// Dimensions of size 1 repeated to `sizes`, without copying; more dimensions may be put in front.
    pub fn expand(&self, sizes: &[usize]) -> Result<Layout> {
        let refuse = || {
            err!(
                Argument,
                "size {} cannot be expanded to {}: only dimensions of size 1 can be repeated",
                layout::describe(self.sizes()),
                layout::describe(sizes)
            )
        };
        let front = sizes.len().checked_sub(self.ndim()).ok_or_else(refuse)?;
        if self.ndim() == 0 || layout::count(sizes)? == 0 {
            return Err(refuse());
        }
        let mut strides = Strides::from_elem(0, sizes.len());
        for (d, (&n, &s)) in self.sizes().iter().zip(self.strides()).enumerate() {
            if n == sizes[front + d] {
                strides[front + d] = s;
            } else if n != 1 {
                return Err(refuse());
            }
        }
        Ok(Layout::with(self.offset(), Sizes::from_slice(sizes), strides))
    }

    /// Without dimensions of size 1; with nothing but those, one is left.
    pub fn squeeze(&self) -> Layout {
        let (mut sizes, mut strides) = (Sizes::new(), Strides::new());
        for (&n, &s) in self.sizes().iter().zip(self.strides()) {
            if n != 1 {
                sizes.push(n);
                strides.push(s);
            }
        }
        if sizes.is_empty() && self.ndim() > 0 {
            sizes.push(1);
            strides.push(1);
        }
        Layout::with(self.offset(), sizes, strides)
    }

    /// Without this dimension, if its size is 1 and it is not the only one.
    pub fn squeeze_dim(&self, dim: usize) -> Result<Layout> {
        self.check_dim(dim)?;
        if self.sizes()[dim] != 1 || self.ndim() == 1 { Ok(self.clone()) } else { self.select(dim, 0) }
    }

    /// With a dimension of size 1 put in before `dim`.
    pub fn unsqueeze(&self, dim: usize) -> Result<Layout> {
        if dim != self.ndim() || dim == 0 {
            self.check_dim(dim)?;
        }
        let (mut sizes, mut strides) = self.parts();
        let stride = if dim < sizes.len() { sizes[dim] as isize * strides[dim] } else { 1 };
        sizes.insert(dim, 1);
        strides.insert(dim, stride);
        Ok(Layout::with(self.offset(), sizes, strides))
    }

    /// Windows of `size` elements along a dimension, `step` apart, as one more dimension at the end.
    pub fn unfold(&self, dim: usize, size: usize, step: usize) -> Result<Layout> {
        self.check_dim(dim)?;
        let n = self.sizes()[dim];
        if size == 0 || size > n || step == 0 {
            return Err(err!(
                Argument,
                "expected a window of 1 to {n} elements and a step of at least 1 along dimension {}, got {size} and \
                 {step}",
                dim + 1
            ));
        }
        let (mut sizes, mut strides) = self.parts();
        let stride = strides[dim];
        sizes.push(size);
        strides.push(stride);
        sizes[dim] = (n - size) / step + 1;
        // A single window needs no stride; a far one might not fit the number.
        strides[dim] = if sizes[dim] == 1 { stride } else { step as isize * stride };
        layout::count(&sizes)?;
        Ok(Layout::with(self.offset(), sizes, strides))
    }
}

/// Replaces the one −1 among `sizes` so that they hold `numel` elements.
fn infer(sizes: &[i64], numel: usize, from: &[usize]) -> Result<Sizes> {
    let show = || sizes.iter().map(i64::to_string).collect::<Vec<_>>().join("x");
    if let Some(bad) = sizes.iter().find(|&&s| s < -1) {
        return Err(err!(Argument, "size {bad} is negative; -1 stands for what is left ({})", show()));
    }
    if sizes.iter().filter(|&&s| s == -1).count() > 1 {
        return Err(err!(Argument, "only one size may be -1, got {}", show()));
    }
    let known = sizes.iter().filter(|&&s| s != -1).try_fold(1usize, |n, &s| n.checked_mul(s as usize));
    let refuse = || err!(Argument, "{numel} elements (size {}) do not fit size {}", layout::describe(from), show());
    let known = known.ok_or_else(refuse)?;
    if sizes.contains(&-1) && (known == 0 || !numel.is_multiple_of(known)) {
        return Err(refuse());
    }
    let out: Sizes = sizes.iter().map(|&s| if s == -1 { numel / known } else { s as usize }).collect();
    if layout::count(&out)? == numel { Ok(out) } else { Err(refuse()) }
}

impl Tensor {
    /// Elements `start .. start + len` of dimension `dim`.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Tensor> {
        Ok(self.view_as(self.layout().narrow(dim, start, len)?))
    }

    /// The slice at position `at` of dimension `dim`, which goes away.
    pub fn select(&self, dim: usize, at: usize) -> Result<Tensor> {
        Ok(self.view_as(self.layout().select(dim, at)?))
    }

    /// From each leading dimension the range between two positions, both included, counted as users do: from 1, or from
    /// −1 back from the end.
    pub fn sub(&self, ranges: &[(i64, i64)]) -> Result<Tensor> {
        let mut layout = self.layout().clone();
        for (d, &(from, to)) in ranges.iter().enumerate() {
            layout.check_dim(d)?;
            let size = layout.sizes()[d];
            let (start, end) = (position(from, size, d)?, position(to, size, d)?);
            if end < start {
                return Err(err!(Argument, "range {from} to {to} of dimension {} ends before it starts", d + 1));
            }
            layout = layout.narrow(d, start, end - start + 1)?;
        }
        Ok(self.view_as(layout))
    }

    /// Dimensions `a` and `b` swapped.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Tensor> {
        Ok(self.view_as(self.layout().transpose(a, b)?))
    }

    /// A matrix with rows and columns swapped.
    pub fn t(&self) -> Result<Tensor> {
        if self.ndim() != 2 {
            return Err(err!(
                Argument,
                "expected a tensor of 2 dimensions, got {} (size {})",
                self.ndim(),
                layout::describe(self.sizes())
            ));
        }
        self.transpose(0, 1)
    }

    /// Diagonal `k` of a matrix: 0 the main one, above it positive, below negative.
    pub fn diagonal(&self, k: i64) -> Result<Tensor> {
        Ok(self.view_as(self.layout().diagonal(k)?))
    }

    /// The same elements seen in other sizes, one of which may be −1 (what is left). For contiguous tensors.
    pub fn view(&self, sizes: &[i64]) -> Result<Tensor> {
        Ok(self.view_as(self.layout().view(sizes)?))
    }

    /// A copy in other sizes, one of which may be −1 (what is left).
    pub fn reshape(&self, sizes: &[i64]) -> Result<Tensor> {
        let sizes = infer(sizes, self.numel(), self.sizes())?;
        let copy = Tensor::with_sizes(self.dtype(), &sizes)?;
        copy.copy_from(self)?;
        Ok(copy)
    }

    /// Dimensions of size 1 repeated to `sizes`, without copying.
    pub fn expand(&self, sizes: &[usize]) -> Result<Tensor> {
        Ok(self.view_as(self.layout().expand(sizes)?))
    }

    /// [`expand`](Self::expand) to the sizes of another tensor.
    pub fn expand_as(&self, other: &Tensor) -> Result<Tensor> {
        self.expand(other.sizes())
    }

    /// Without dimensions of size 1.
    pub fn squeeze(&self) -> Tensor {
        self.view_as(self.layout().squeeze())
    }

    /// Without dimension `dim` if its size is 1.
    pub fn squeeze_dim(&self, dim: usize) -> Result<Tensor> {
        Ok(self.view_as(self.layout().squeeze_dim(dim)?))
    }

    /// With a dimension of size 1 put in before `dim`.
    pub fn unsqueeze(&self, dim: usize) -> Result<Tensor> {
        Ok(self.view_as(self.layout().unsqueeze(dim)?))
    }

    /// Windows along dimension `dim` as one more dimension at the end.
    pub fn unfold(&self, dim: usize, size: usize, step: usize) -> Result<Tensor> {
        Ok(self.view_as(self.layout().unfold(dim, size, step)?))
    }
}

#[cfg(test)]
mod tests;
