//! Writing a message's bytes: MessagePack straight into a buffer, table headers patched in afterwards.
//!
//! Imports its sibling `copy`.

use rmp::encode as mp;

use super::copy::copy;
use super::ext;

/// Appends values to a buffer. What is longer than 32 bits can say returns `false`. Where there is no memory nothing
/// more is written: ask [`Encoder::out_of_memory`] at the end.
///
/// A table's header is written before its length is known: [`Encoder::open_table`] leaves room for 32 bits, and one of
/// the `close_…` calls fills it in. So one walk over a table is enough.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    /// There was no memory for something, and what was written is of no use.
    failed: bool,
}

/// Where a table or an extension began.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize);

const ARRAY32: u8 = 0xdd;
const MAP32: u8 = 0xdf;
const EXT32: u8 = 0xc9;
/// A buffer that grows has room for so many bytes afterwards: a small table, from the first on.
const LEAST: usize = 56;
/// `EXT32`, the length, the code.
const EXT_HEADER: usize = 6;

impl<'a> Encoder<'a> {
    /// Starts a message at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.push(ext::VERSION);
        Encoder { out, start, failed: false }
    }

    /// Whether something is missing, for want of memory.
    #[inline]
    #[must_use]
    pub fn out_of_memory(&self) -> bool {
        self.failed
    }

    /// Whether `n` more bytes have room; nothing has once memory has run out.
    #[inline(always)]
    fn room(&mut self, n: usize) -> bool {
        self.out.capacity() - self.out.len() >= n || self.grow(n)
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, n: usize) -> bool {
        if !self.failed && self.out.try_reserve(n.max(LEAST)).is_ok() {
            return true;
        }
        self.failed = true;
        false
    }

    /// Sets flags in the prelude.
    pub fn flag(&mut self, flags: u8) {
        self.out[self.start] |= flags;
    }

    /// The flags set so far.
    pub fn flags(&self) -> u8 {
        self.out[self.start] & !ext::VERSION_MASK
    }

    /// nil
    pub fn nil(&mut self) {
        if self.room(1) {
            self.out.push(0xc0);
        }
    }

    /// true or false
    pub fn boolean(&mut self, b: bool) {
        if self.room(1) {
            self.out.push(0xc2 | b as u8);
        }
    }

    /// An integer, in the shortest form.
    #[inline]
    pub fn integer(&mut self, n: i64) {
        if (0..128).contains(&n) {
            if self.room(1) {
                self.out.push(n as u8);
            }
        } else if self.room(9) {
            // Writing to a Vec does not fail.
            let _ = mp::write_sint(self.out, n);
        }
    }

    /// A float, always in 64 bits.
    #[inline]
    pub fn float(&mut self, n: f64) {
        let mut item = [0xcb; 9];
        item[1..].copy_from_slice(&n.to_bits().to_be_bytes());
        self.append(&item);
    }

    /// A number of a Lua that has floats only: an integer where it is one exactly, so that it arrives as one elsewhere.
    #[inline(always)]
    pub fn number(&mut self, n: f64) {
        let i = n as i64;
        // -0.0 and the integers past 2^53, where neighbours fall together, stay floats.
        if i as f64 == n && i.unsigned_abs() <= ext::MAX_EXACT as u64 && (i != 0 || n.is_sign_positive()) {
            self.integer(i);
        } else {
            self.float(n);
        }
    }

    /// A byte string; false when it is too long or there is no memory for it.
    #[inline]
    #[must_use]
    pub fn string(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() >= 32 {
            return self.long_string(bytes);
        }
        // Most strings are names of a few letters: one question for room for the whole.
        if !self.room(32) {
            return false;
        }
        // SAFETY: there is room for 32 bytes past the end, of which 1 + `bytes.len()` are written.
        unsafe {
            let end = self.out.as_mut_ptr().add(self.out.len());
            end.write(0xa0 | bytes.len() as u8);
            copy(bytes.as_ptr(), end.add(1), bytes.len());
            self.out.set_len(self.out.len() + 1 + bytes.len());
        }
        true
    }

    #[inline(never)]
    fn long_string(&mut self, bytes: &[u8]) -> bool {
        let Ok(n) = u32::try_from(bytes.len()) else { return false };
        if !self.room(bytes.len() + 5) {
            return false;
        }
        match n.to_be_bytes() {
            [0, 0, 0, a] => self.out.extend_from_slice(&[0xd9, a]),
            [0, 0, a, b] => self.out.extend_from_slice(&[0xda, a, b]),
            [a, b, c, d] => self.out.extend_from_slice(&[0xdb, a, b, c, d]),
        }
        self.out.extend_from_slice(bytes);
        true
    }

    /// Binary data; false when it is too long or there is no memory for it.
    #[must_use]
    pub fn binary(&mut self, bytes: &[u8]) -> bool {
        let Ok(n) = u32::try_from(bytes.len()) else { return false };
        if !self.room(bytes.len() + 5) {
            return false;
        }
        let _ = mp::write_bin_len(self.out, n);
        self.out.extend_from_slice(bytes);
        true
    }

    /// An extension that holds one number: [`ext::REF`], [`ext::ATTACHMENT`], [`ext::CELL`].
    pub fn numbered(&mut self, code: i8, n: u32) {
        let [a, b, c, d] = n.to_be_bytes();
        self.append(&[0xd6, code as u8, a, b, c, d]);
    }

    /// A boxed integer: [`ext::INT64`] or [`ext::UINT64`], as 64 bits.
    pub fn boxed(&mut self, code: i8, bits: u64) {
        let mut item = [0xd7, code as u8, 0, 0, 0, 0, 0, 0, 0, 0];
        item[2..].copy_from_slice(&bits.to_be_bytes());
        self.append(&item);
    }

    /// Begins a table, as an array.
    #[inline]
    pub fn open_table(&mut self) -> Mark {
        let mark = Mark(self.out.len());
        self.append(&[ARRAY32, 0, 0, 0, 0]);
        mark
    }

    /// Ends a table that is an array of `items`.
    #[inline]
    pub fn close_array(&mut self, table: Mark, items: u32) {
        self.patch(table.0 + 1, items);
    }

    /// The table turns out to have no array part: what follows are keys and values.
    pub fn begin_map(&mut self, table: Mark) {
        if !self.failed {
            self.out[table.0] = MAP32;
        }
    }

    /// Ends a table that is a map of `pairs`.
    pub fn close_map(&mut self, table: Mark, pairs: u32) {
        self.patch(table.0 + 1, pairs);
    }

    /// The table turns out to have other keys after its `items`: what follows are keys and values. Returns the marks of
    /// the whole and of the map.
    pub fn begin_mixed(&mut self, table: Mark, items: u32) -> (Mark, Mark) {
        self.close_array(table, items);
        // Room for the extension's header is made only now: most tables are of one kind.
        if self.room(EXT_HEADER) {
            self.out.splice(table.0..table.0, [EXT32, 0, 0, 0, 0, ext::MIXED as u8]);
        }
        let map = Mark(self.out.len());
        self.append(&[MAP32, 0, 0, 0, 0]);
        (table, map)
    }

    /// Ends a table of both kinds; false when it is too long.
    #[must_use]
    pub fn close_mixed(&mut self, (whole, map): (Mark, Mark), pairs: u32) -> bool {
        self.close_map(map, pairs);
        self.close_ext(whole)
    }

    /// Where the next value begins.
    #[inline]
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Takes back all that was written from `position` on, where a value began.
    pub fn take_back(&mut self, position: usize) {
        self.out.truncate(position);
    }

    /// An extension whose payload is there already; false when it is too long or there is no memory for it.
    #[must_use]
    pub fn extension(&mut self, code: i8, payload: &[u8]) -> bool {
        let Ok(n) = u32::try_from(payload.len()) else { return false };
        if !self.room(payload.len() + EXT_HEADER) {
            return false;
        }
        let [a, b, c, d] = n.to_be_bytes();
        self.out.extend_from_slice(&[EXT32, a, b, c, d, code as u8]);
        self.out.extend_from_slice(payload);
        true
    }

    /// Begins an extension with values inside.
    pub fn open_ext(&mut self, code: i8) -> Mark {
        let mark = Mark(self.out.len());
        self.append(&[EXT32, 0, 0, 0, 0, code as u8]);
        mark
    }

    /// Ends an extension; false when it is too long.
    #[must_use]
    pub fn close_ext(&mut self, mark: Mark) -> bool {
        if self.failed {
            return false;
        }
        match u32::try_from(self.out.len() - mark.0 - EXT_HEADER) {
            Ok(n) => {
                self.patch(mark.0 + 1, n);
                true
            }
            Err(_) => false,
        }
    }

    #[inline(always)]
    fn append(&mut self, bytes: &[u8]) {
        if self.room(bytes.len()) {
            self.out.extend_from_slice(bytes);
        }
    }

    fn patch(&mut self, at: usize, n: u32) {
        if self.failed {
            return;
        }
        self.out[at..at + 4].copy_from_slice(&n.to_be_bytes());
    }
}
