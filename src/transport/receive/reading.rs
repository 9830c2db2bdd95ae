//! Bytes for the receiver, from the socket by way of the read buffer, opened where they are sealed. Imports its
//! parent.

use std::os::fd::RawFd;

use super::super::SMALL_MESSAGE;
use super::{FIRST_STEP, Fault, Receiver};
use crate::err;
use crate::sys::monotonic_ns;
use crate::sys::socket::{self, Empty, Moved, Region};
use crate::wait::SHORT_NAP;

impl Receiver {
    /// Whether `buffer` has got `len` bytes.
    pub(super) fn fill_vec(
        &mut self,
        fd: RawFd,
        buffer: impl Fn(&mut Receiver) -> &mut Vec<u8>,
        len: usize,
    ) -> std::result::Result<bool, Fault> {
        loop {
            let vec = buffer(self);
            let have = vec.len();
            if have == len {
                return Ok(true);
            }
            if have == vec.capacity() {
                let step = (len - have).min(have.max(FIRST_STEP));
                vec.try_reserve_exact(step).map_err(|_| {
                    let none = err!(Limit, "not enough memory for a message of {len} bytes");
                    // One that is not large is no fault of its sender.
                    Fault::Memory(if len <= SMALL_MESSAGE { none.shortage() } else { none })
                })?;
            }
            let room = (vec.capacity() - have).min(len - have);
            // SAFETY: `have` is at most the capacity.
            let start = unsafe { vec.as_mut_ptr().add(have) };
            // SAFETY: `room` bytes from `start` on are the vector's spare capacity, which nothing else touches here.
            let n = unsafe { self.read(fd, start, room)? };
            if n == 0 {
                return Ok(false);
            }
            // SAFETY: the `n` bytes after `have` were just written.
            unsafe { buffer(self).set_len(have + n) };
        }
    }

    /// Reads up to `len` bytes to `start`, from what was read ahead or from the socket; 0 when that has none now.
    ///
    /// # Safety
    /// `start` is valid for writes of `len` > 0 bytes, and not part of the read buffer.
    pub(super) unsafe fn read(&mut self, fd: RawFd, start: *mut u8, len: usize) -> std::result::Result<usize, Fault> {
        if self.buffer.is_empty() {
            if self.opener.is_some() {
                if !self.fill_buffer(fd, 1)? {
                    return Ok(0);
                }
            } else {
                let (more, room) = self.buffer.space().map_err(Fault::Memory)?;
                self.counts.system_calls += 1;
                // SAFETY: the caller vouches for the first region, the second is the read buffer's own memory.
                let got =
                    unsafe { socket::receive(fd, &[Region::new(start, len), Region::new(more, room)], self.empty) };
                let n = self.received(got)?;
                // SAFETY: what did not fit into the first region was written to the second.
                unsafe { self.buffer.written(n.saturating_sub(len)) };
                return Ok(n.min(len));
            }
        }
        // SAFETY: the caller vouches for `len` bytes from `start` on.
        Ok(unsafe { self.buffer.take_to(start, len) })
    }

    /// Whether the read buffer holds at least `want` bytes (at most a record's), after reading what there is.
    pub(super) fn fill_buffer(&mut self, fd: RawFd, want: usize) -> std::result::Result<bool, Fault> {
        while self.buffer.len() < want {
            if self.opener.is_some() {
                if !self.open_record(fd)? {
                    return Ok(false);
                }
                continue;
            }
            let (start, room) = self.buffer.space().map_err(Fault::Memory)?;
            self.counts.system_calls += 1;
            // SAFETY: the read buffer's own memory.
            let got = unsafe { socket::receive(fd, &[Region::new(start, room)], self.empty) };
            let n = self.received(got)?;
            if n == 0 {
                return Ok(false);
            }
            // SAFETY: `n` bytes were just written there.
            unsafe { self.buffer.written(n) };
        }
        Ok(true)
    }

    fn open_record(&mut self, fd: RawFd) -> std::result::Result<bool, Fault> {
        loop {
            let Some(opener) = self.opener.as_mut() else { return Ok(false) };
            if let Some(n) = opener.next().map_err(Fault::Stream)? {
                let plain = self.buffer.room_for(n).map_err(Fault::Memory)?;
                let n = opener.open(plain).map_err(Fault::Stream)?;
                // SAFETY: `n` bytes of plain text were just written there.
                unsafe { self.buffer.written(n) };
                return Ok(true);
            }
            let (start, room) = opener.space().map_err(Fault::Memory)?;
            self.counts.system_calls += 1;
            // SAFETY: the opener's own memory.
            let got = unsafe { socket::receive(fd, &[Region::new(start, room)], self.empty) };
            let n = match got {
                Ok(Moved::Bytes(n)) => n,
                Ok(Moved::Blocked) => return Ok(false),
                other => {
                    let middle = opener.is_partial();
                    return match self.received(other) {
                        Err(Fault::End(_)) if middle => Err(Fault::End(true)),
                        Err(fault) => Err(fault),
                        Ok(_) => Ok(false),
                    };
                }
            };
            opener.written(n);
            self.came(n);
        }
    }

    /// `n` bytes came. A look that may wait does so for three naps at most, however little comes at a time: its caller
    /// has a clock to look at. What comes whole at the first call costs no look at ours.
    fn came(&mut self, n: usize) {
        self.counts.bytes += n as u64;
        if self.empty == Empty::Return {
            return;
        }
        self.calls += 1;
        if self.calls == 1 {
            return;
        }
        let now = monotonic_ns();
        if self.calls == 2 {
            self.since = now;
        } else if now.saturating_sub(self.since) >= SHORT_NAP.as_nanos() as u64 {
            self.empty = Empty::Return;
        }
    }

    fn received(&mut self, got: std::io::Result<Moved>) -> std::result::Result<usize, Fault> {
        match got {
            Ok(Moved::Bytes(n)) => {
                self.came(n);
                Ok(n)
            }
            Ok(Moved::Blocked) => Ok(0),
            Ok(Moved::End) => Err(Fault::End(self.is_partial())),
            // Reset, timed out by keep-alive, unreachable: the peer is gone.
            Err(e) => Err(Fault::Stream(err!(Closed, "{e}"))),
        }
    }
}
