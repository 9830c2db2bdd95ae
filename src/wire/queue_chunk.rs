//! The memory of a queue: chunks that the writer fills and the reader empties, with no allocation per message.
//!
//! A message lies in a chunk as a header of 8 bytes, its attachments if it has any (the `Vec` itself, moved in), and
//! its bytes, copied; of a long message the `Vec` of bytes itself is moved in. Messages never straddle chunks: a header
//! `END` says that the next one begins the next chunk. Emptied chunks go back to the writer through a slot for one.
//!
//! One thread writes and one reads at a time (the queue's two locks see to that); they meet only in the count of
//! written messages, whose release and acquire make everything before it visible.
//!
//! Imports its siblings `copy` and `message`.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::{size_of, take};
use std::ptr;

use super::copy::copy;
use super::{Attachment, Message};
use crate::sys::atomic::{AtomicPtr, Ordering};

/// From here on the bytes are moved, not copied.
const LONG: usize = 8 << 10;
/// Chunks double from the first size to the last while the reader falls behind.
const FIRST: usize = 1 << 10;
const LAST: usize = 256 << 10;

/// In the header, above 32 bits of length.
const ATTACHED: u64 = 1 << 32;
const MOVED: u64 = 1 << 33;
const FUNCTIONS: u64 = 1 << 34;
const END: u64 = 1 << 35;

const WORD: usize = size_of::<u64>();
const VEC: usize = size_of::<Vec<u8>>();
const _: () = assert!(VEC.is_multiple_of(WORD) && VEC == size_of::<Vec<Attachment>>());

/// The head of a chunk; `size` bytes of messages follow it.
#[repr(C, align(16))]
pub(super) struct Chunk {
    next: AtomicPtr<Chunk>,
    size: usize,
}

impl Chunk {
    fn layout(size: usize) -> Layout {
        // A size is at most twice what the messages of one call take, or `LAST`: far from what a layout cannot hold.
        Layout::from_size_align(size_of::<Chunk>() + size, align_of::<Chunk>()).expect("chunk sizes are small")
    }

    /// A chunk for `size` bytes of messages, if there is memory for it.
    fn new(size: usize) -> Option<*mut Chunk> {
        let layout = Chunk::layout(size);
        // SAFETY: the layout is not empty.
        let chunk = unsafe { alloc(layout) }.cast::<Chunk>();
        if chunk.is_null() {
            return None;
        }
        // SAFETY: fresh memory with room and alignment for the head.
        unsafe { chunk.write(Chunk { next: AtomicPtr::new(ptr::null_mut()), size }) };
        Some(chunk)
    }

    /// # Safety
    /// `chunk` came from [`Chunk::new`] and nobody uses it any more.
    unsafe fn free(chunk: *mut Chunk) {
        // SAFETY: allocated with this layout, by the caller's word.
        unsafe { dealloc(chunk.cast(), Chunk::layout((*chunk).size)) };
    }
}

/// A place in the chain of chunks: the writer's, or the reader's.
#[derive(Debug)]
pub(super) struct Cursor {
    chunk: *mut Chunk,
    at: usize,
}

// SAFETY: a cursor lies behind its queue's lock, and what it points to holds only messages, which are `Send`.
unsafe impl Send for Cursor {}

/// The writer's and the reader's place in a new chain.
pub(super) fn chain() -> (Cursor, Cursor) {
    // The first one is small, so the allocator's reserve has it where the system has not.
    let chunk = Chunk::new(FIRST).unwrap_or_else(|| handle_alloc_error(Chunk::layout(FIRST)));
    (Cursor { chunk, at: 0 }, Cursor { chunk, at: 0 })
}

/// How much of a chunk `message` takes.
#[inline]
fn room_for(message: &Message) -> usize {
    let len = message.bytes.len();
    let body = if len >= LONG { VEC } else { len.next_multiple_of(WORD) };
    WORD + if message.attachments.is_empty() { 0 } else { VEC } + body
}

impl Cursor {
    fn here(&self) -> *mut u8 {
        // SAFETY: `at` never exceeds the size of the chunk, whose bytes follow its head in the same allocation.
        unsafe { self.chunk.cast::<u8>().add(size_of::<Chunk>() + self.at) }
    }

    /// Sees to it that all of `messages` fit into the writer's chunk, which may be a new one; false where there is no
    /// memory for that, and nothing has changed.
    ///
    /// # Safety
    /// This is the writer's cursor of the chain whose emptied chunks come to `spare`, and only the caller writes.
    pub(super) unsafe fn make_room(&mut self, messages: &[Message], spare: &Spare) -> bool {
        let need = match messages {
            [one] => room_for(one),
            all => all.iter().map(room_for).sum(),
        };
        // SAFETY: the writer's chunk is alive: the reader stays in it until the writer has left.
        let size = unsafe { (*self.chunk).size };
        // Room is always kept for the header that says END.
        if self.at + need + WORD <= size {
            return true;
        }
        let next = spare.take(need + WORD).or_else(|| {
            let double = (size * 2).min(LAST);
            Chunk::new(double.max((need + WORD).next_power_of_two()))
        });
        let Some(next) = next else { return false };
        // SAFETY: both chunks are alive, and there is room for a header here; the reader sees both writes after the
        // message that follows is published.
        unsafe {
            (*self.chunk).next.store(next, Ordering::Relaxed);
            self.here().cast::<u64>().write(END);
        }
        *self = Cursor { chunk: next, at: 0 };
        true
    }

    /// Moves `message` in at the writer's place, and leaves it empty. It is not published yet.
    ///
    /// # Safety
    /// This is the writer's cursor, only the caller writes, and [`Cursor::make_room`] has made room for this message.
    pub(super) unsafe fn put(&mut self, message: &mut Message) {
        let len = message.bytes.len();
        let (attached, moved) = (!message.attachments.is_empty(), len >= LONG);
        let need = room_for(message);
        let header = if moved { MOVED } else { len as u64 }
            | if attached { ATTACHED } else { 0 }
            | if message.functions { FUNCTIONS } else { 0 };
        // SAFETY: `need` bytes are free from here on; `at` is a multiple of 8, as the chunk's data is aligned to 16.
        unsafe {
            let mut to = self.here();
            to.cast::<u64>().write(header);
            to = to.add(WORD);
            if attached {
                to.cast::<Vec<Attachment>>().write(take(&mut message.attachments));
                to = to.add(VEC);
            }
            if moved {
                to.cast::<Vec<u8>>().write(take(&mut message.bytes));
            } else {
                copy(message.bytes.as_ptr(), to, len);
            }
        }
        self.at += need;
        message.clear();
    }

    /// Moves the message at the reader's place out into `out`, which is empty.
    ///
    /// # Safety
    /// This is the reader's cursor of the chain, only the caller reads, and a published message is left.
    pub(super) unsafe fn take(&mut self, out: &mut Message, spare: &Spare) {
        // SAFETY: a header lies at the reader's place: of the next message, or END.
        let mut header = unsafe { self.here().cast::<u64>().read() };
        if header & END != 0 {
            // SAFETY: the chunk is alive until the reader gives it away below. After END there is a next one, since a
            // message is left.
            let next = unsafe { (*self.chunk).next.load(Ordering::Relaxed) };
            spare.give(std::mem::replace(&mut self.chunk, next));
            self.at = 0;
            // SAFETY: the writer enters a chunk only to put a message there.
            header = unsafe { self.here().cast::<u64>().read() };
        }
        let len = (header & u64::from(u32::MAX)) as usize;
        // SAFETY: `put` wrote this layout, and each `Vec` is read out once, as the cursor moves past it.
        unsafe {
            let mut from = self.here().add(WORD);
            if header & ATTACHED != 0 {
                out.attachments = from.cast::<Vec<Attachment>>().read();
                from = from.add(VEC);
            }
            if header & MOVED != 0 {
                out.bytes = from.cast::<Vec<u8>>().read();
                from = from.add(VEC);
            } else {
                if len <= out.bytes.capacity() {
                    copy(from, out.bytes.as_mut_ptr(), len);
                    out.bytes.set_len(len);
                } else {
                    out.bytes.extend_from_slice(std::slice::from_raw_parts(from, len));
                }
                from = from.add(len.next_multiple_of(WORD));
            }
            out.functions = header & FUNCTIONS != 0;
            self.at += from.offset_from_unsigned(self.here());
        }
    }

    /// Shows the attachments of the next `count` messages, which stay where they are, as long as `see` wants more.
    ///
    /// # Safety
    /// This is the reader's cursor, so many published messages are left, and nobody takes any meanwhile.
    pub(super) unsafe fn look(&self, count: u64, mut see: impl FnMut(&Attachment) -> bool) {
        let mut cursor = Cursor { ..*self };
        for _ in 0..count {
            // SAFETY: as in `take`, which reads the same layout.
            unsafe {
                let mut header = cursor.here().cast::<u64>().read();
                if header & END != 0 {
                    cursor = Cursor { chunk: (*cursor.chunk).next.load(Ordering::Relaxed), at: 0 };
                    header = cursor.here().cast::<u64>().read();
                }
                cursor.at += WORD;
                if header & ATTACHED != 0 {
                    if !(*cursor.here().cast::<Vec<Attachment>>()).iter().all(&mut see) {
                        return;
                    }
                    cursor.at += VEC;
                }
                let len = (header & u64::from(u32::MAX)) as usize;
                cursor.at += if header & MOVED != 0 { VEC } else { len.next_multiple_of(WORD) };
            }
        }
    }

    /// Frees the last chunk.
    ///
    /// # Safety
    /// This is the reader's cursor, no message is left, and neither cursor is used again.
    pub(super) unsafe fn free(&mut self) {
        // SAFETY: with every message taken, the reader stands in the writer's chunk, the only one of the chain.
        unsafe { Chunk::free(self.chunk) };
    }
}

/// The slot through which an emptied chunk goes back to the writer.
#[derive(Debug, Default)]
pub(super) struct Spare(AtomicPtr<Chunk>);

impl Spare {
    /// From the reader: keeps the larger of this chunk and the one that lies there.
    fn give(&self, chunk: *mut Chunk) {
        // SAFETY: what is given belongs to us now. One that many messages at once have had made is not worth its
        // memory.
        if unsafe { (*chunk).size } > 2 * LAST {
            // SAFETY: as above.
            return unsafe { Chunk::free(chunk) };
        }
        let old = self.0.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: what was in the slot, and what is given, belongs to us now; null is not followed.
        let (keep, free) =
            unsafe { if !old.is_null() && (*old).size > (*chunk).size { (old, chunk) } else { (chunk, old) } };
        if !free.is_null() {
            // SAFETY: as above.
            unsafe { Chunk::free(free) };
        }
        // The writer only ever takes, so the slot is still empty.
        self.0.store(keep, Ordering::Release);
    }

    /// For the writer: a chunk with room for `need` bytes, if one lies there.
    fn take(&self, need: usize) -> Option<*mut Chunk> {
        let chunk = self.0.swap(ptr::null_mut(), Ordering::AcqRel);
        if chunk.is_null() {
            return None;
        }
        // SAFETY: taken out of the slot, the chunk is ours.
        unsafe {
            if (*chunk).size >= need {
                return Some(chunk);
            }
            Chunk::free(chunk);
        }
        None
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let chunk = self.0.load(Ordering::Relaxed);
        if !chunk.is_null() {
            // SAFETY: what lies in the slot belongs to nobody else.
            unsafe { Chunk::free(chunk) };
        }
    }
}
