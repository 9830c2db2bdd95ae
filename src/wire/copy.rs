//! Copying a message's bytes, most of which are few.

use std::ptr;

/// As [`ptr::copy_nonoverlapping`], but without a call for up to 16 bytes: it would take longer than they do.
///
/// # Safety
/// `len` bytes from `from` on can be read, as many from `to` on be written, and none is in both.
#[inline]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: as this function's own promise. What is read first and last may overlap; both are read before they are
    // written.
    unsafe {
        match len {
            8..=16 => {
                let first = from.cast::<u64>().read_unaligned();
                let last = from.add(len - 8).cast::<u64>().read_unaligned();
                to.cast::<u64>().write_unaligned(first);
                to.add(len - 8).cast::<u64>().write_unaligned(last);
            }
            4..8 => {
                let first = from.cast::<u32>().read_unaligned();
                let last = from.add(len - 4).cast::<u32>().read_unaligned();
                to.cast::<u32>().write_unaligned(first);
                to.add(len - 4).cast::<u32>().write_unaligned(last);
            }
            2..4 => {
                let first = from.cast::<u16>().read_unaligned();
                let last = from.add(len - 2).cast::<u16>().read_unaligned();
                to.cast::<u16>().write_unaligned(first);
                to.add(len - 2).cast::<u16>().write_unaligned(last);
            }
            1 => to.write(from.read()),
            _ => ptr::copy_nonoverlapping(from, to, len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::copy;

    #[test]
    fn every_length_is_copied_and_nothing_beside_it() {
        let from: Vec<u8> = (1..=64).collect();
        for len in 0..=40 {
            for offset in 0..8 {
                let mut to = [0u8; 64];
                // SAFETY: both have room for `offset + len` bytes.
                unsafe { copy(from.as_ptr().add(offset), to.as_mut_ptr().add(offset), len) };
                assert_eq!(to[offset..offset + len], from[offset..offset + len]);
                assert!(to[..offset].iter().chain(&to[offset + len..]).all(|b| *b == 0), "{len} bytes");
            }
        }
    }
}
