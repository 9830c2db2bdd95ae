//! Which of many views share memory, so that this memory can travel once and the views arrive sharing it.
//!
//! Views that have an element in common, directly or by way of others, share a stretch: all elements from the first of
//! any of them to the last. A view that meets no other is alone, also where its elements interlock with those of
//! others, as the columns of a matrix do; so is one that repeats its elements very often ([`MOST_REPEATED`]).
//!
//! Imports its siblings `dtype`, `layout`, `memory`, `overlap`, `storage` and `view`.

use std::ops::Range;

use super::dtype::DType;
use super::layout::{Layout, Strides};
use super::memory::{Span, more_room, room};
use super::overlap::meet;
use super::storage::Storage;
use super::view::{Operand, Tensor};
use crate::err;
use crate::error::Result;

/// A view of more elements than its own memory has, since it repeats them, shares it up to this number: a few bytes
/// would otherwise be as large as anything to who copies it.
pub const MOST_REPEATED: usize = 1 << 20;

/// So many pairs are looked at among views whose ranges overlap; where there are more, all of those count as meeting.
const MOST_PAIRS: usize = 1 << 18;

/// Memory that several views lie in.
#[derive(Debug)]
pub struct Stretch {
    /// The type of its elements.
    pub dtype: DType,
    /// The elements, one after the other.
    pub span: Span,
}

/// Where a view lies in a [`Stretch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which stretch, from 0.
    pub stretch: usize,
    /// Its first element there.
    pub offset: usize,
    /// How far apart its elements lie there.
    pub strides: Strides,
}

/// What many views share.
#[derive(Debug, Default)]
pub struct Stretches {
    /// In the order in which the views first need them.
    pub stretches: Vec<Stretch>,
    /// For each view its place, or `None` if it is alone.
    pub shares: Vec<Option<Share>>,
}

/// A view with elements: where they lie, and as which of the list.
struct Member<'a> {
    index: usize,
    operand: Operand<'a>,
    dtype: DType,
    /// The addresses of the first byte, and of the one after the last.
    start: usize,
    end: usize,
    /// Another member of its group, nearer to that which stands for it.
    group: usize,
}

impl<'a> Member<'a> {
    fn new(index: usize, view: &'a Tensor) -> Result<Member<'a>> {
        let operand = view.operand()?;
        let start = operand.first as usize;
        let end = start + (operand.layout.end() - operand.layout.offset()) * operand.item;
        Ok(Member { index, operand, dtype: view.dtype(), start, end, group: 0 })
    }

    /// Whether one stretch can hold both, and has to.
    fn belongs_with(&self, other: &Member<'_>) -> bool {
        self.dtype == other.dtype
            && self.operand.memory().is_of(other.operand.memory())
            && self.start.abs_diff(other.start).is_multiple_of(self.operand.item)
            && meet(&self.operand, &other.operand)
    }

    /// Whether both look at the same elements in the same way.
    fn is_same(&self, other: &Member<'_>) -> bool {
        let (a, b) = (self.operand.layout, other.operand.layout);
        self.start == other.start && a.sizes() == b.sizes() && a.strides() == b.strides()
    }
}

impl Stretches {
    /// What `views` share. `[state]` for one that reaches past its storage, which was made smaller; a `[limit]` error
    /// when there is no memory to find out.
    pub fn of(views: &[Tensor]) -> Result<Stretches> {
        let mut found = Stretches::default();
        more_room(&mut found.shares, views.len())?;
        found.shares.resize(views.len(), None);
        let mut members = room(views.len())?;
        for (index, view) in views.iter().enumerate() {
            if view.numel() == 0 {
                continue;
            }
            let member = Member::new(index, view)?;
            if view.numel() <= MOST_REPEATED.max((member.end - member.start) / member.operand.item) {
                members.push(member);
            }
        }
        members.sort_unstable_by_key(|m| (m.start, m.index));
        let mut pairs = 0;
        let mut rest = &mut members[..];
        while let Some(n) = overlapping(rest) {
            let (cluster, others) = rest.split_at_mut(n);
            if n > 1 {
                group(cluster, &mut pairs);
                found.take(cluster, views)?;
            }
            rest = others;
        }
        found.sort()?;
        Ok(found)
    }

    /// Makes a stretch of each group of more than one.
    fn take(&mut self, cluster: &[Member<'_>], views: &[Tensor]) -> Result<()> {
        let mut heads: Vec<(usize, usize)> = room(cluster.len())?;
        heads.extend((0..cluster.len()).map(|i| (head(cluster, i), i)));
        heads.sort_unstable();
        for group in heads.chunk_by(|a, b| a.0 == b.0) {
            let [(_, first), more @ ..] = group else { continue };
            let (first, more) = (&cluster[*first], || more.iter().map(|(_, i)| &cluster[*i]));
            if more().next().is_none() {
                continue;
            }
            let stretch = self.stretches.len();
            more_room(&mut self.stretches, 1)?;
            // The same view again and again: what lies between its elements is nobody's.
            if more().all(|other| first.is_same(other)) {
                let packed = views[first.index].contiguous()?;
                let span = packed.bytes().ok_or_else(|| err!(State, "a tensor's storage was made smaller"))?;
                self.stretches.push(Stretch { dtype: first.dtype, span });
                let share = Share { stretch, offset: 0, strides: packed.strides().into() };
                for member in more().chain([first]) {
                    self.shares[member.index] = Some(share.clone());
                }
                continue;
            }
            let end = more().map(|member| member.end).fold(first.end, usize::max);
            let span = first.operand.memory().reaching(first.start, end - first.start);
            let span = span.ok_or_else(|| err!(State, "views of one memory reach past it"))?;
            self.stretches.push(Stretch { dtype: first.dtype, span });
            for member in more().chain([first]) {
                let offset = (member.start - first.start) / member.operand.item;
                self.shares[member.index] =
                    Some(Share { stretch, offset, strides: member.operand.layout.strides().into() });
            }
        }
        Ok(())
    }

    /// Numbers the stretches in the order of the views that need them.
    fn sort(&mut self) -> Result<()> {
        let mut numbers: Vec<Option<usize>> = room(self.stretches.len())?;
        numbers.resize(self.stretches.len(), None);
        let mut next = 0;
        for share in self.shares.iter_mut().flatten() {
            let number = *numbers[share.stretch].get_or_insert_with(|| {
                next += 1;
                next - 1
            });
            share.stretch = number;
        }
        let mut sorted = room(self.stretches.len())?;
        sorted.extend(numbers.into_iter().zip(self.stretches.drain(..)));
        sorted.sort_unstable_by_key(|(number, _)| *number);
        self.stretches.extend(sorted.into_iter().map(|(_, stretch)| stretch));
        Ok(())
    }
}

/// How many of `sorted`, from the first on, lie in ranges that overlap; `None` if there are none.
fn overlapping(sorted: &[Member<'_>]) -> Option<usize> {
    let mut end = sorted.first()?.end;
    let n = sorted.iter().take_while(|member| {
        let overlaps = member.start < end;
        end = end.max(member.end);
        overlaps
    });
    Some(n.count())
}

/// Joins those of `cluster` that meet; all of them once `pairs` are too many.
fn group(cluster: &mut [Member<'_>], pairs: &mut usize) {
    (0..cluster.len()).for_each(|i| cluster[i].group = i);
    for i in 0..cluster.len() {
        for j in i + 1..cluster.len() {
            if cluster[j].start >= cluster[i].end {
                break;
            }
            *pairs += 1;
            if *pairs > MOST_PAIRS {
                let same = |m: &Member<'_>| {
                    m.dtype == cluster[0].dtype && m.operand.memory().is_of(cluster[0].operand.memory())
                };
                if cluster.iter().all(same) {
                    cluster.iter_mut().for_each(|member| member.group = 0);
                }
                return;
            }
            let (a, b) = (find(cluster, i), find(cluster, j));
            if a != b && cluster[i].belongs_with(&cluster[j]) {
                cluster[a.max(b)].group = a.min(b);
            }
        }
    }
}

/// As [`head`], and shortens the way there.
fn find(cluster: &mut [Member<'_>], i: usize) -> usize {
    let found = head(cluster, i);
    cluster[i].group = found;
    found
}

/// The member that stands for the group of member `i`: its first.
fn head(cluster: &[Member<'_>], mut i: usize) -> usize {
    while cluster[i].group != i {
        i = cluster[i].group;
    }
    i
}

/// Whether any two of the ranges, which are sorted for it, have an address in common. Those that are empty begin at 0.
pub fn any_overlap(ranges: &mut [Range<usize>]) -> bool {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.windows(2).any(|two| two[1].start < two[0].end)
}

impl Storage {
    /// Where its elements lie in memory just now; 0..0 if there are none.
    pub fn addresses(&self) -> Range<usize> {
        let memory = self.held();
        let start = if memory.size() == 0 { 0 } else { memory.host().as_ptr() as usize };
        start..start + memory.size()
    }
}

/// Whether `layout` can be a share of a stretch of `len` elements.
pub fn fits(layout: &Layout, len: usize) -> bool {
    (1..=MOST_REPEATED.max(len)).contains(&layout.numel()) && layout.end() <= len
}

impl Tensor {
    /// From where to where its elements lie in memory just now, if its storage still has them; 0..0 if there are none.
    pub fn addresses(&self) -> Range<usize> {
        let (Some(storage), 1..) = (self.storage(), self.numel()) else { return 0..0 };
        let (start, item) = (storage.held().host().as_ptr() as usize, self.dtype().size());
        start + self.offset() * item..start + self.layout().end() * item
    }

    /// The view that a [`Share`] of these `sizes` is, of a stretch that arrived as `storage`; an error where it reaches
    /// past that.
    pub fn in_stretch(storage: &Storage, offset: usize, sizes: &[usize], strides: &[isize]) -> Result<Tensor> {
        let layout = Layout::new(offset, sizes, Some(strides))?;
        if !fits(&layout, storage.len()) {
            return Err(err!(Protocol, "a tensor that reaches past the memory that it shares"));
        }
        Tensor::from_storage(storage, offset, sizes, Some(strides))
    }
}

#[cfg(test)]
mod tests;
