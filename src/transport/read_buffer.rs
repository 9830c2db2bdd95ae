//! The read-ahead of a stream: what came with something that was asked for.

use crate::err;
use crate::error::Result;

/// What is read at once where the amount to come is not known.
const AHEAD: usize = 32 << 10;

/// Bytes that were read and not used yet. Its memory is taken at the first read and not touched before it is filled.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn bytes(&self) -> &[u8] {
        if self.is_empty() {
            return &[];
        }
        // SAFETY: start..end lies in the buffer and was written (`written`).
        unsafe { std::slice::from_raw_parts(self.buffer.as_ptr().add(self.start), self.len()) }
    }

    /// Room after what is there: at least a record's worth when it is empty.
    pub fn space(&mut self) -> Result<(*mut u8, usize)> {
        if self.buffer.capacity() == 0 {
            self.buffer.try_reserve_exact(AHEAD)?;
        }
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            // Only less than a header is ever kept: a short move.
            let (at, len) = (self.start, self.len());
            let base = self.buffer.as_mut_ptr();
            // SAFETY: both stretches lie in the buffer; `copy` allows them to overlap.
            unsafe { std::ptr::copy(base.add(at), base, len) };
            (self.start, self.end) = (0, len);
        }
        // SAFETY: `end` is at most the capacity.
        Ok((unsafe { self.buffer.as_mut_ptr().add(self.end) }, self.buffer.capacity() - self.end))
    }

    /// As [`ReadBuffer::space`], `n` bytes that are zero or were written before.
    pub fn room_for(&mut self, n: usize) -> Result<&mut [u8]> {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            // Only less than a header is ever kept.
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
        let need = self.end + n;
        if self.buffer.len() < need {
            self.buffer
                .try_reserve_exact(need - self.buffer.len())
                .map_err(|_| err!(Limit, "there is no memory for a record"))?;
            self.buffer.resize(need, 0);
        }
        Ok(&mut self.buffer[self.end..need])
    }

    /// Lets go of its memory when it is empty and that is more than `most`.
    pub fn rest(&mut self, most: usize) {
        if self.is_empty() && self.buffer.capacity() > most {
            *self = ReadBuffer::default();
        }
    }

    /// # Safety
    /// `n` bytes were written to where `space` or `room_for` pointed.
    pub unsafe fn written(&mut self, n: usize) {
        self.end += n;
    }

    /// Fills `out`, which is no longer than what is there.
    pub fn take(&mut self, out: &mut [u8]) {
        out.copy_from_slice(&self.bytes()[..out.len()]);
        self.start += out.len();
    }

    /// Moves up to `len` bytes to `to`.
    ///
    /// # Safety
    /// `to` is valid for writes of `len` bytes and not in this buffer.
    pub unsafe fn take_to(&mut self, to: *mut u8, len: usize) -> usize {
        let n = len.min(self.len());
        // SAFETY: `n` bytes are there, and the caller vouches for the place.
        unsafe { std::ptr::copy_nonoverlapping(self.bytes().as_ptr(), to, n) };
        self.start += n;
        n
    }

    pub fn skip(&mut self, most: usize) -> usize {
        let n = most.min(self.len());
        self.start += n;
        n
    }
}
