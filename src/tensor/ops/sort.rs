//! Sorting along a dimension.
//!
//! What is sorted are integers that order as the elements do, each with its place, so that no two are equal and equal
//! elements keep their order. For elements of at most 32 bits the two share a word: long lines of those are dealt out
//! by their digits.

use half::{bf16, f16};
use smallvec::SmallVec;

use crate::dispatch;
use crate::error::Result;
use crate::tensor::data::dtype::{DType, Element};
use crate::tensor::data::memory::room;
use crate::tensor::data::number::Number;
use crate::tensor::data::view::Tensor;
use crate::tensor::kernel::walk::walk;

/// Lines up to this length are sorted by comparing.
const SHORT: usize = 256;

/// Elements of at most 32 bits.
trait Short: Element {
    /// An integer whose order is that of the elements: NaN last, −0 equal to 0.
    fn short_key(self) -> u32;
    /// The element whose key this is, if there is only one.
    fn from_short_key(key: u32) -> Option<Self>;
}

macro_rules! short_integers {
    ($($t:ty),*) => { $(
        impl Short for $t {
            #[inline(always)]
            fn short_key(self) -> u32 { self as i32 as u32 ^ 1 << 31 }
            #[inline(always)]
            fn from_short_key(key: u32) -> Option<$t> { Some((key ^ 1 << 31) as $t) }
        }
    )* };
}
short_integers!(u8, i8, i16, i32);

macro_rules! short_floats {
    ($($t:ty: $bits:ty),*) => { $(
        impl Short for $t {
            #[inline(always)]
            fn short_key(self) -> u32 {
                const SIGN: $bits = 1 << (<$bits>::BITS - 1);
                let bits = self.to_bits();
                // Patterns of negative numbers order backwards.
                let key = if bits & SIGN == 0 { bits | SIGN } else if bits == SIGN { SIGN } else { !bits };
                u32::from(if self.is_nan() { <$bits>::MAX } else { key })
            }
            #[inline(always)]
            fn from_short_key(key: u32) -> Option<$t> {
                const SIGN: $bits = 1 << (<$bits>::BITS - 1);
                let key = key as $bits;
                let bits = if key & SIGN != 0 { key ^ SIGN } else { !key };
                // Two zeros share a key, and all NaNs.
                (key != SIGN && key != <$bits>::MAX).then(|| <$t>::from_bits(bits))
            }
        }
    )* };
}
short_floats!(f32: u32, f16: u16, bf16: u16);

/// A line of what is sorted and those of its results, the elements of each a stride apart.
struct Line<T> {
    at: *const T,
    step: isize,
    values: *mut T,
    values_step: isize,
    places: *mut i64,
    places_step: isize,
}

impl<T: Element> Line<T> {
    /// Element `k`.
    ///
    /// # Safety
    /// There is one, in memory that is held.
    #[inline(always)]
    unsafe fn get(&self, k: usize) -> T {
        // SAFETY: the caller's promise.
        unsafe { *self.at.offset(k as isize * self.step) }
    }

    /// Makes `value`, which was element `place`, the `k`-th of the results.
    ///
    /// # Safety
    /// The results have one, in memory that is held.
    #[inline(always)]
    unsafe fn put(&self, k: usize, value: T, place: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            *self.values.offset(k as isize * self.values_step) = value;
            *self.places.offset(k as isize * self.places_step) = place as i64 + 1;
        }
    }
}

/// Calls `run` for every line of `t` along `dim` with those of the results, which have the same sizes and lie in memory
/// of their own.
fn each_line<T: Element>(
    t: &Tensor,
    [values, places]: [&Tensor; 2],
    dim: usize,
    run: &mut dyn FnMut(Line<T>),
) -> Result<()> {
    assert!(t.dtype() == T::DTYPE && values.dtype() == T::DTYPE && places.dtype() == DType::Long);
    assert!(t.same_size(values) && t.same_size(places));
    let firsts =
        [values.layout().narrow(dim, 0, 1)?, places.layout().narrow(dim, 0, 1)?, t.layout().narrow(dim, 0, 1)?];
    let [v, p, a] = [values.operand()?, places.operand()?, t.operand()?];
    let [step, values_step, places_step] = [t, values, places].map(|t| t.strides()[dim]);
    walk(
        [&v.restricted(&firsts[0]), &p.restricted(&firsts[1]), &a.restricted(&firsts[2])],
        &mut |[v, p, a], [sv, sp, sa], n| {
            let (v, p, a) = (v.cast::<T>(), p.cast::<i64>(), a.cast::<T>());
            for i in 0..n as isize {
                let (at, values, places) =
                    (a.wrapping_offset(i * sa), v.wrapping_offset(i * sv), p.wrapping_offset(i * sp));
                run(Line { at, step, values, values_step, places, places_step });
            }
        },
    );
    Ok(())
}

/// Sorts every line of elements of any size by comparing.
fn sort_wide<T: Element>(t: &Tensor, results: [&Tensor; 2], dim: usize, descending: bool) -> Result<()> {
    let n = t.sizes()[dim];
    let mut keys: Vec<(u64, usize)> = room(n)?;
    each_line::<T>(t, results, dim, &mut |line| {
        keys.clear();
        keys.extend((0..n).map(|k| {
            // SAFETY: element k < n of a line that is held.
            let key = unsafe { line.get(k) }.load().key();
            (if descending { !key } else { key }, k)
        }));
        keys.sort_unstable();
        for (k, &(_, place)) in keys.iter().enumerate() {
            // SAFETY: k and place are below n.
            unsafe { line.put(k, line.get(place), place) }
        }
    })
}

/// Sorts every line of elements of at most 32 bits; `n` of them are fewer than 2^32.
fn sort_short<T: Short>(t: &Tensor, results: [&Tensor; 2], dim: usize, descending: bool) -> Result<()> {
    let n = t.sizes()[dim];
    let turned = if descending { u32::MAX } else { 0 };
    let mut keys: Vec<u64> = room(n)?;
    if n <= SHORT {
        return each_line::<T>(t, results, dim, &mut |line| {
            keys.clear();
            // SAFETY: element k < n of a line that is held.
            keys.extend((0..n).map(|k| pair(unsafe { line.get(k) }.short_key() ^ turned, k)));
            keys.sort_unstable();
            for (k, &pair) in keys.iter().enumerate() {
                // SAFETY: k and the place in the pair are below n.
                unsafe { finish(&line, k, pair, turned) }
            }
        });
    }
    // The line's own values, and results that do not lie one after the other.
    let mut values: Vec<T> = room(n)?;
    let apart = results.iter().any(|r| r.strides()[dim] != 1);
    let mut places: Vec<i64> = room(if apart { n } else { 0 })?;
    each_line::<T>(t, results, dim, &mut |line| {
        let together = Line {
            values: if apart { values.as_mut_ptr() } else { line.values },
            values_step: 1,
            places: if apart { places.as_mut_ptr() } else { line.places },
            places_step: 1,
            ..line
        };
        // SAFETY: n elements of a line that is held, and room for n of each of the others.
        unsafe { sort_by_digits(&together, n, turned, keys.as_mut_ptr()) }
        if apart {
            for k in 0..n {
                // SAFETY: k < n; the sort has written all of both.
                unsafe { line.put(k, *together.values.add(k), *together.places.add(k) as usize - 1) }
            }
        }
    })
}

/// A key and its place in a word.
#[inline(always)]
fn pair(key: u32, place: usize) -> u64 {
    u64::from(key) << 32 | place as u64
}

/// Makes the element of a pair the `k`-th of the results.
///
/// # Safety
/// As [`Line::put`], and of [`Line::get`] for the place in the pair.
#[inline(always)]
unsafe fn finish<T: Short>(line: &Line<T>, k: usize, pair: u64, turned: u32) {
    let place = pair as u32 as usize;
    // SAFETY: the caller's promise.
    unsafe { line.put(k, T::from_short_key((pair >> 32) as u32 ^ turned).unwrap_or_else(|| line.get(place)), place) }
}

/// How many values a digit has.
const RADIX: usize = 256;

/// The digit of a key that pass `p` looks at.
#[inline(always)]
fn digit(key: u32, p: usize) -> usize {
    (key >> (8 * p)) as usize % RADIX
}

/// Sorts a line whose results lie one after the other by the four digits of its keys, the lowest first: each pass deals
/// the elements out to the stretches of the next digit's values, which were counted before. Digits that all have in
/// common are passed over.
///
/// The line is read once: others may write it meanwhile, and the counts must be those of what is dealt out. What lies
/// between two passes takes turns in `spare` and in the memory of the places, which is as large.
///
/// # Safety
/// There are `n` < 2^32 elements, `n` results and room for `n` in `spare`, all in memory that is held; nobody else
/// knows of the last two.
unsafe fn sort_by_digits<T: Short>(line: &Line<T>, n: usize, turned: u32, spare: *mut u64) {
    let mut counts = [[0u32; RADIX]; 4];
    let values = line.values;
    for k in 0..n {
        // SAFETY: k < n.
        let value = unsafe { line.get(k) };
        // SAFETY: k < n.
        unsafe { *values.add(k) = value };
        let key = value.short_key() ^ turned;
        for (p, counts) in counts.iter_mut().enumerate() {
            counts[digit(key, p)] += 1;
        }
    }
    let mut passes: SmallVec<[usize; 4]> = (0..4).filter(|&p| !counts[p].contains(&(n as u32))).collect();
    if let [p] = passes[..] {
        // The last pass writes where the first one reads: one that leaves the order as it is goes before it.
        passes.insert(0, (p + 1) % 4);
    }
    let [first, ref middle @ .., last] = passes[..] else {
        // SAFETY: k < n.
        return (0..n).for_each(|k| unsafe { line.put(k, *values.add(k), k) });
    };
    for counts in &mut counts {
        let mut start = 0;
        for count in counts {
            start += std::mem::replace(count, start);
        }
    }
    // The last pass writes the places, and so is to read `spare`.
    let places = line.places.cast::<u64>();
    let (mut from, mut to) = if middle.len().is_multiple_of(2) { (places, spare) } else { (spare, places) };
    let next = &mut counts[first];
    for k in 0..n {
        // SAFETY: k < n; what is dealt out as it was counted comes to lie below n.
        unsafe {
            let key = (*values.add(k)).short_key() ^ turned;
            *to.add(deal(next, digit(key, first))) = pair(key, k);
        }
    }
    for &p in middle {
        std::mem::swap(&mut from, &mut to);
        let next = &mut counts[p];
        for k in 0..n {
            // SAFETY: as above; the pass before has written n pairs.
            unsafe {
                let pair = *from.add(k);
                *to.add(deal(next, digit((pair >> 32) as u32, p))) = pair;
            }
        }
    }
    let next = &mut counts[last];
    for k in 0..n {
        // SAFETY: as above.
        unsafe {
            let pair = *spare.add(k);
            finish(line, deal(next, digit((pair >> 32) as u32, last)), pair, turned);
        }
    }
}

/// Where the next element with this digit goes.
#[inline(always)]
fn deal(next: &mut [u32; RADIX], digit: usize) -> usize {
    let at = next[digit];
    next[digit] = at + 1;
    at as usize
}

impl Tensor {
    /// The elements sorted along a dimension, and for each its place before, from 1, as a LongTensor. Equal elements
    /// keep their order; NaN counts as the largest.
    pub fn sort(&self, dim: usize, descending: bool) -> Result<(Tensor, Tensor)> {
        self.layout().check_dim(dim)?;
        // SAFETY: all lines of both are written, or they are dropped.
        let [values, places] =
            unsafe { [Tensor::unwritten(self.dtype(), self.sizes())?, Tensor::unwritten(DType::Long, self.sizes())?] };
        let few = u32::try_from(self.sizes()[dim]).is_ok();
        let lines = match self.dtype() {
            DType::Byte if few => sort_short::<u8>,
            DType::Char if few => sort_short::<i8>,
            DType::Short if few => sort_short::<i16>,
            DType::Int if few => sort_short::<i32>,
            DType::Float if few => sort_short::<f32>,
            DType::Half if few => sort_short::<f16>,
            DType::BFloat16 if few => sort_short::<bf16>,
            dtype => dispatch!(dtype, T => sort_wide::<T>),
        };
        lines(self, [&values, &places], dim, descending)?;
        Ok((values, places))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_sorted_with_their_former_places() {
        let t = Tensor::from_slice(&[3.0f32, 1.0, 2.0, 1.0, 5.0, 4.0]).unwrap().view(&[2, 3]).unwrap();
        let (v, i) = t.sort(1, false).unwrap();
        assert_eq!(v.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 1.0, 4.0, 5.0]);
        assert_eq!(i.to_vec::<i64>().unwrap(), [2, 3, 1, 1, 3, 2]);
        let (v, i) = t.t().unwrap().sort(1, true).unwrap();
        assert_eq!(v.to_vec::<f32>().unwrap(), [3.0, 1.0, 5.0, 1.0, 4.0, 2.0]);
        assert_eq!(i.to_vec::<i64>().unwrap(), [1, 2, 2, 1, 2, 1]);
        assert!(t.sort(2, false).is_err());
        assert!(Tensor::new(DType::Float).sort(0, false).is_err());
    }

    #[test]
    fn equal_elements_keep_their_order_and_nan_is_largest() {
        let t = Tensor::from_slice(&[f64::NAN, 1.0, f64::INFINITY, 1.0]).unwrap();
        let (v, i) = t.sort(0, false).unwrap();
        assert_eq!(i.to_vec::<i64>().unwrap(), [2, 4, 3, 1]);
        assert!(v.to_vec::<f64>().unwrap()[3].is_nan());
        assert_eq!(t.sort(0, true).unwrap().1.to_vec::<i64>().unwrap(), [1, 3, 2, 4]);
    }

    #[test]
    fn keys_order_as_elements_and_lead_back_to_them() {
        fn check<T: Short>(sorted: &[T]) {
            assert!(sorted.is_sorted_by(|a, b| a.short_key() < b.short_key()), "{sorted:?}");
            for v in sorted {
                assert!(T::from_short_key(v.short_key()).is_none_or(|back| back == *v), "{v:?}");
            }
        }
        check(&[0u8, 1, 127, 128, 255]);
        check(&[-128i8, -1, 0, 1, 127]);
        check(&[i16::MIN, -1, 0, i16::MAX]);
        check(&[i32::MIN, -1, 0, i32::MAX]);
        let floats = [f32::NEG_INFINITY, -1.5, -1e-4, 0.0, 1e-4, 1.5, f32::INFINITY, f32::NAN];
        check(&floats);
        check(&floats.map(f16::from_f32));
        check(&floats.map(bf16::from_f32));
        assert_eq!((0.0f32.short_key(), f32::NAN.short_key()), ((-0.0f32).short_key(), (-f32::NAN).short_key()));
        assert_eq!((f32::from_short_key(0.0f32.short_key()), f32::from_short_key(f32::NAN.short_key())), (None, None));
        for bits in 0..=u16::MAX {
            let v = f16::from_bits(bits);
            let back = f16::from_short_key(v.short_key());
            assert!(back.map_or(v.is_nan() || v == f16::ZERO, |back| back.to_bits() == bits));
        }
    }

    #[test]
    fn zeros_and_nans_of_long_lines_keep_their_signs_and_patterns() {
        // As many digits that differ as there may be, from none to four.
        let patterns: [&[u32]; 5] = [
            &[0x8000_0000, 0],
            &[0x8000_0000, 0, 1],
            &[0, 0x8000_0000, 0x7fc0_0001, 0xffc0_0002],
            &[0x8000_0000, 0, 0x3f80_0000, 0x3f81_0100, 0x7f80_0001],
            &[0, 0x8000_0000, 0x3f80_0001, 0xbf81_0100, 0x0102_0304, 0xffff_ffff],
        ];
        for patterns in patterns {
            for n in [200, 3000] {
                let line: Vec<f32> = (0..n).map(|i| f32::from_bits(patterns[i * 7 % patterns.len()])).collect();
                for strided in [false, true] {
                    let t = Tensor::from_slice(&line).unwrap();
                    let t = if strided { t.view(&[n as i64, 1]).unwrap().expand(&[n, 2]).unwrap() } else { t };
                    let (v, i) = t.sort(0, false).unwrap();
                    let (v, i) = (v.to_vec::<f32>().unwrap(), i.to_vec::<i64>().unwrap());
                    let mut order: Vec<usize> = (0..n).collect();
                    order.sort_by_key(|&k| line[k].short_key());
                    let width = if strided { 2 } else { 1 };
                    for (k, &place) in order.iter().enumerate() {
                        assert_eq!(v[k * width].to_bits(), line[place].to_bits());
                        assert_eq!(i[k * width], place as i64 + 1);
                    }
                }
            }
        }
    }
}
