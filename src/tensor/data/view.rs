//! A tensor: a view of a storage with sizes, strides and an offset of its own.
//!
//! Imports its siblings `dtype`, `layout`, `memory` and `storage`.

use std::fmt;

use super::dtype::DType;
use super::layout::{self, Layout};
use super::memory::Span;
use super::storage::Storage;
use crate::err;
use crate::error::Result;

/// A view of a storage. A clone views the same elements, and what it does to its own sizes the other does not see.
///
/// Elements are shared and may be changed through `&Tensor`, by any thread at any time; only changing what the view
/// itself looks at takes `&mut`. Dimensions are counted from 0 here and from 1 in messages, as users count them.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    storage: Option<Storage>,
    layout: Layout,
}

impl Tensor {
    /// A tensor without elements, and as yet without a storage.
    pub fn new(dtype: DType) -> Tensor {
        Tensor { dtype, storage: None, layout: Layout::empty() }
    }

    /// Zeros of these sizes, in a storage of their own. A size of 0 gives a tensor without elements.
    pub fn with_sizes(dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        Tensor::made(dtype, sizes, Storage::new)
    }

    /// As [`with_sizes`](Self::with_sizes), in memory that processes [share](super::Memory::shared).
    pub fn shared(dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        let layout = Layout::contiguous(sizes)?;
        let elements = if layout.numel() == 0 { 0 } else { layout.end() };
        Ok(Tensor { dtype, storage: Some(Storage::shared(dtype, elements)?), layout })
    }

    /// As [`with_sizes`](Self::with_sizes), of whatever lies there.
    ///
    /// # Safety
    /// All elements are written before any is read: before the tensor is anybody else's.
    pub(in crate::tensor) unsafe fn unwritten(dtype: DType, sizes: &[usize]) -> Result<Tensor> {
        // SAFETY: the caller's promise.
        Tensor::made(dtype, sizes, |dtype, len| unsafe { Storage::unwritten(dtype, len) })
    }

    fn made(dtype: DType, sizes: &[usize], make: impl FnOnce(DType, usize) -> Result<Storage>) -> Result<Tensor> {
        let layout = Layout::contiguous(sizes)?;
        let storage = if layout.numel() == 0 { None } else { Some(make(dtype, layout.end())?) };
        Ok(Tensor { dtype, storage, layout })
    }

    /// A view of `storage` from `offset` on; without strides its elements lie one after the other. As in Torch7 the
    /// storage grows when it is too small, and a negative stride stands for the contiguous one.
    pub fn from_storage(
        storage: &Storage,
        offset: usize,
        sizes: &[usize],
        strides: Option<&[isize]>,
    ) -> Result<Tensor> {
        let layout = Layout::new(offset, sizes, strides)?;
        if layout.numel() != 0 {
            storage.reserve(layout.end())?;
        }
        Ok(Tensor { dtype: storage.dtype(), storage: Some(storage.clone()), layout })
    }

    /// A one-dimensional view of all of `storage`.
    pub fn of_storage(storage: &Storage) -> Result<Tensor> {
        // Nothing is asked of the storage, which another thread may make smaller just now.
        let layout = Layout::contiguous(&[storage.len()])?;
        Ok(Tensor { dtype: storage.dtype(), storage: Some(storage.clone()), layout })
    }

    /// Another view of the same storage; the caller derived `layout` from this one's.
    pub(in crate::tensor) fn view_as(&self, layout: Layout) -> Tensor {
        Tensor { dtype: self.dtype, storage: self.storage.clone(), layout }
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The sizes of the dimensions; none when there are no elements.
    pub fn sizes(&self) -> &[usize] {
        self.layout.sizes()
    }

    /// How far apart neighbours in each dimension lie, in elements; never negative, 0 in an expanded dimension.
    pub fn strides(&self) -> &[isize] {
        self.layout.strides()
    }

    /// The position of the first element in the storage, from 0.
    pub fn offset(&self) -> usize {
        self.layout.offset()
    }

    /// Sizes, strides and offset together.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The storage; none when the tensor never had elements.
    pub fn storage(&self) -> Option<&Storage> {
        self.storage.as_ref()
    }

    /// The storage, made now if there is none.
    pub fn storage_or_new(&mut self) -> Result<&Storage> {
        if self.storage.is_none() {
            self.storage = Some(Storage::new(self.dtype, 0)?);
        }
        self.storage.as_ref().ok_or_else(|| err!(State, "a tensor without a storage"))
    }

    /// The number of dimensions.
    pub fn ndim(&self) -> usize {
        self.layout.ndim()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.layout.numel()
    }

    /// Whether the elements lie one after the other without gaps, in order.
    pub fn is_contiguous(&self) -> bool {
        self.layout.is_contiguous()
    }

    /// Whether both have the same sizes.
    pub fn same_size(&self, other: &Tensor) -> bool {
        self.sizes() == other.sizes()
    }

    /// Whether both look at the same elements in the same way.
    pub fn same_view(&self, other: &Tensor) -> bool {
        self.layout == other.layout
            && match (&self.storage, &other.storage) {
                (Some(a), Some(b)) => a.same(b),
                (None, None) => self.dtype == other.dtype,
                _ => false,
            }
    }

    /// Whether both look at the same elements of one storage in the same way. Without a storage there is none.
    pub fn is_set_to(&self, other: &Tensor) -> bool {
        self.storage.is_some() && self.same_view(other)
    }

    /// The bytes of the elements, one after the other; none if they do not lie so (see
    /// [`contiguous`](Self::contiguous)) or if the storage was made too small. A tensor without elements has none
    /// bytes: an empty span.
    pub fn bytes(&self) -> Option<Span> {
        if self.numel() == 0 {
            return Span::nothing();
        }
        if !self.is_contiguous() {
            return None;
        }
        let size = self.dtype.size();
        self.storage.as_ref()?.span().ok()?.part(self.offset() * size, self.numel() * size)
    }

    /// Points this tensor at what `other` views.
    pub fn set(&mut self, other: &Tensor) -> Result<()> {
        if self.dtype != other.dtype {
            return Err(err!(
                Argument,
                "expected a {}, got a {}",
                self.dtype.tensor_class(),
                other.dtype.tensor_class()
            ));
        }
        *self = other.clone();
        Ok(())
    }

    /// Gives the view these sizes; elements lie one after the other from the offset on. The storage stays the same one
    /// and grows when it is too small. As in Torch7 a tensor that already has these sizes keeps its strides.
    pub fn resize(&mut self, sizes: &[usize]) -> Result<()> {
        if self.sizes() == sizes {
            return Ok(());
        }
        let layout = Layout::new(self.offset(), sizes, None)?;
        self.resize_layout(layout)
    }

    /// [`resize`](Self::resize) with strides of the caller's.
    pub fn resize_strided(&mut self, sizes: &[usize], strides: &[isize]) -> Result<()> {
        let layout = Layout::new(self.offset(), sizes, Some(strides))?;
        self.resize_layout(layout)
    }

    /// Gives the view the sizes of another tensor, of any type.
    pub fn resize_as(&mut self, other: &Tensor) -> Result<()> {
        self.resize(other.sizes())
    }

    fn resize_layout(&mut self, layout: Layout) -> Result<()> {
        if layout.numel() != 0 {
            match &self.storage {
                Some(s) => s.reserve(layout.end())?,
                None => self.storage = Some(Storage::new(self.dtype, layout.end())?),
            }
        }
        self.layout = layout;
        Ok(())
    }

    /// Refuses a view that reaches past its storage, which was made smaller, and one of nothing.
    pub fn check_storage(&self) -> Result<()> {
        self.operand().map(drop)
    }

    /// What a kernel works on: the memory as it is now, held for as long as the kernel runs, with the view proved to
    /// lie inside it.
    pub(in crate::tensor) fn operand(&self) -> Result<Operand<'_>> {
        let Some(storage) = &self.storage else {
            return Err(err!(State, "a {} without a storage", self.dtype.tensor_class()));
        };
        let span = storage.span()?;
        let item = self.dtype.size();
        if self.numel() == 0 || self.layout.end() > span.len() / item {
            return Err(err!(
                State,
                "a {} of size {} reaches to element {} of its storage, which was resized to {}",
                self.dtype.tensor_class(),
                layout::describe(self.sizes()),
                self.layout.end(),
                span.len() / item
            ));
        }
        // SAFETY: the offset lies before `end`, which lies within the span.
        let first = unsafe { span.as_ptr().add(self.offset() * item) };
        Ok(Operand { span, first, item, layout: &self.layout })
    }
}

/// A view whose every element is proved to lie in memory that this holds.
pub(in crate::tensor) struct Operand<'a> {
    span: Span,
    /// The first element.
    pub first: *mut u8,
    /// Bytes of an element.
    pub item: usize,
    /// Where the elements lie from `first` on (the offset is already counted in).
    pub layout: &'a Layout,
}

impl Operand<'_> {
    /// All of the storage's memory.
    pub(super) fn memory(&self) -> &Span {
        &self.span
    }

    /// A part of this view that starts at the same element.
    pub fn restricted<'b>(&self, part: &'b Layout) -> Operand<'b> {
        debug_assert!(part.end() <= self.layout.end() && part.offset() == self.layout.offset());
        Operand { span: self.span.clone(), first: self.first, item: self.item, layout: part }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}({}, strides {:?}, offset {})",
            self.dtype.tensor_class(),
            layout::describe(self.sizes()),
            self.strides(),
            self.offset()
        )
    }
}
