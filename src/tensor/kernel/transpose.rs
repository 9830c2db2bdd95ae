//! Copies between layouts whose fastest dimensions differ, such as of a transposed matrix.
//!
//! Element by element, such a copy touches a cache line of one side for each element, and comes back to it when it is
//! long gone. Here it goes by square tiles as wide as a cache line: a tile's lines are read whole into a buffer, and
//! written whole from it.
//!
//! Imports its sibling `walk`.

use super::walk::walk;
use crate::error::Result;
use crate::tensor::data::dtype::by_size;
use crate::tensor::data::overlap::repeats;
use crate::tensor::data::view::Tensor;

/// Elements on a side of a tile: as many as a cache line has bytes for, 32 at most.
const fn side<W>() -> usize {
    let line = 64 / size_of::<W>();
    if line < 32 { line } else { 32 }
}

/// Room for a tile of any elements.
type Tile<W> = [W; 32 * 32];

/// The dimensions whose elements lie closest together in `d` and in `a`, if they are two, and long enough for tiles.
pub(super) fn crossed(d: &Tensor, a: &Tensor) -> Option<(usize, usize)> {
    // Of several elements for one place the last in row-major order stays, which tiles do not keep.
    if !d.same_size(a) || repeats(d.layout()) {
        return None;
    }
    let fastest = |t: &Tensor| (0..t.ndim()).filter(|&i| t.sizes()[i] > 1).min_by_key(|&i| t.strides()[i]);
    let (x, y) = (fastest(d)?, fastest(a)?);
    let long = |i: usize| d.sizes()[i] >= 8;
    // Less than that stays in the cache.
    let large = d.numel() >= 4096;
    (large && x != y && long(x) && long(y) && d.strides()[x] > 0 && a.strides()[y] > 0).then_some((x, y))
}

/// `d = a`, of one type and the same sizes, in tiles over the dimensions that [`crossed`] found.
pub(in crate::tensor) fn copy(d: &Tensor, a: &Tensor, (x, y): (usize, usize)) -> Result<()> {
    let first = |t: &Tensor| t.layout().narrow(x, 0, 1)?.narrow(y, 0, 1);
    let (first_d, first_a) = (first(d)?, first(a)?);
    let (whole_d, whole_a) = (d.operand()?, a.operand()?);
    let sizes = [d.sizes()[x], d.sizes()[y]];
    let strides = |t: &Tensor| [t.strides()[x], t.strides()[y]];
    by_size!(d.dtype(), W => {
        let mut tile: Tile<W> = [W::default(); 32 * 32];
        walk([&whole_d.restricted(&first_d), &whole_a.restricted(&first_a)], &mut |[p, q], [sp, sq], n| {
            for i in 0..n as isize {
                let (p, q) = (p.cast::<W>().wrapping_offset(i * sp), q.cast::<W>().wrapping_offset(i * sq));
                // SAFETY: the planes of `x` and `y` that begin at these elements are parts of the tensors, which the
                // operands hold; they are of one type, whose elements have the size of `W`.
                unsafe { copy_plane::<W>([p, q], [strides(d), strides(a)], sizes, &mut tile) }
            }
        });
    });
    Ok(())
}

/// Copies a plane of `sizes` elements from the second pointer to the first; strides are along x and y.
///
/// # Safety
/// All elements of both planes lie in memory that is held.
unsafe fn copy_plane<W: Copy>(p: [*mut W; 2], [d, a]: [[isize; 2]; 2], [nx, ny]: [usize; 2], tile: &mut Tile<W>) {
    let side = const { side::<W>() };
    for y in (0..ny).step_by(side) {
        for x in (0..nx).step_by(side) {
            let (wide, high) = (side.min(nx - x), side.min(ny - y));
            let at = |i: usize, s: [isize; 2]| p[i].wrapping_offset(x as isize * s[0] + y as isize * s[1]);
            let (to, from) = (at(0, d), at(1, a));
            if a[1] == 1 && high == side {
                for i in 0..wide {
                    // SAFETY: (x + i, y) and the elements after it along y, as many as a side has, are in the plane; a
                    // tile has room for as many lines.
                    unsafe {
                        let line = from.offset(i as isize * a[0]);
                        std::ptr::copy_nonoverlapping(line, tile.as_mut_ptr().add(i * side), side);
                    }
                }
            } else {
                for (i, line) in tile.chunks_exact_mut(side).enumerate().take(wide) {
                    for (j, element) in line.iter_mut().enumerate().take(high) {
                        // SAFETY: (x + i, y + j) is an element of the plane.
                        *element = unsafe { *from.offset(i as isize * a[0] + j as isize * a[1]) };
                    }
                }
            }
            for j in 0..high {
                for i in 0..wide {
                    // SAFETY: as above.
                    unsafe { *to.offset(i as isize * d[0] + j as isize * d[1]) = tile[i * side + j] }
                }
            }
        }
    }
}
