//! Torch's own file form, `.t7`: the records that `torch.save` writes, binary and ASCII, as Torch7 on 64 bits has them.
//!
//! This is the part without Lua: plain records, tensors and storages. Whoever reads or writes values walks them itself and keeps
//! what an index stands for; storages are kept here, so that tensors that share one go on sharing it.
//!
//! ```text
//! object   = 0                                          nil
//!          | 1 double | 2 string | 5 int                number, string, boolean
//!          | 3 index [int pairs, (object object)*]      table; the brackets only at an index's first appearance
//!          | 4 index [string "V 1", string class, …]    torch object: a tensor, a storage, else an object (a table of fields)
//!          | 8 index [string bytecode, object upvalues] function
//! string   = int length, bytes
//! tensor   = int n, n long sizes, n long strides, long offset from 1, object storage
//! storage  = long length, elements
//! ```
//!
//! `int` has 4 bytes, `long` and `double` 8, in the machine's order, which is little-endian. In the ASCII form every record is
//! written as text and ends in a newline, elements of an array are separated by spaces, and bytes (those of strings and of Byte
//! and Char storages) stand as they are.
//!
//! What is read is not trusted: every length is held against what is left of the file before memory is taken for it.
//!
//! Stands on: dtype, layout, storage, view.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, Write};

use super::dtype::{DType, Element};
use super::number::Scalar;
use super::storage::Storage;
use super::view::Tensor;
use crate::dispatch;
use crate::err;
use crate::error::{Error, Result};

const NIL: i32 = 0;
const NUMBER: i32 = 1;
const STRING: i32 = 2;
const TABLE: i32 = 3;
const TORCH: i32 = 4;
const BOOLEAN: i32 = 5;
const FUNCTION: i32 = 8;
/// Forms of functions that older versions wrote.
const OLD_FUNCTIONS: [i32; 2] = [6, 7];

/// More dimensions than this are no tensor of anyone's.
const MAX_DIMENSIONS: usize = 4096;

/// The two forms of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Numbers as they lie in memory.
    Binary,
    /// Numbers as text.
    Ascii,
}

impl Form {
    /// The form that Torch calls by this name.
    pub fn parse(name: &str) -> Result<Form> {
        match name {
            "binary" | "b64" => Ok(Form::Binary),
            "ascii" => Ok(Form::Ascii),
            _ => Err(err!(Argument, "expected 'binary' or 'ascii' as the form of a file, got '{name}'")),
        }
    }
}

/// What stands at the beginning of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// nil
    Nil,
    /// a number
    Number(f64),
    /// true or false
    Boolean(bool),
    /// bytes
    String(Vec<u8>),
    /// An object that stood at this index before.
    Again(i32),
    /// A new table: its index, and how many keys and values follow.
    Table(i32, usize),
    /// A new torch object: its index and class; what follows is up to the class.
    Object(i32, String),
    /// A new function: its index and bytecode; its upvalues follow as an object.
    Function(i32, Vec<u8>),
}

fn damaged(what: impl fmt::Display) -> Error {
    err!(Protocol, "the file is damaged or no .t7: {what}")
}

/// Reads records.
pub struct Reader<R> {
    from: R,
    /// Bytes that the file has beyond what was read.
    left: u64,
    form: Form,
    /// Every index that was met, with the storage that it stands for if it is one.
    seen: HashMap<i32, Option<Storage>>,
}

impl<R> fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({:?}, {} bytes left)", self.form, self.left)
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads from something of `length` bytes.
    pub fn new(from: R, length: u64, form: Form) -> Reader<R> {
        Reader { from, left: length, form, seen: HashMap::new() }
    }

    /// The bytes that are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    fn exact(&mut self, out: &mut [u8]) -> Result<()> {
        if out.len() as u64 > self.left {
            return Err(damaged(format_args!("{} bytes are missing at its end", out.len() as u64 - self.left)));
        }
        self.from.read_exact(out).map_err(|e| Error::io("", "read", &e))?;
        self.left -= out.len() as u64;
        Ok(())
    }

    /// `n` bytes; memory grows as they come.
    fn bytes(&mut self, n: usize) -> Result<Vec<u8>> {
        if n as u64 > self.left {
            return Err(damaged(format_args!("{n} bytes are announced, {} are left", self.left)));
        }
        let mut out = vec![0; n];
        self.exact(&mut out)?;
        if self.form == Form::Ascii && n > 0 {
            self.newline()?;
        }
        Ok(out)
    }

    /// Skips the newline that ends a record.
    fn newline(&mut self) -> Result<()> {
        match self.peek()? {
            Some(b'\n') => {
                self.from.consume(1);
                self.left -= 1;
                Ok(())
            }
            None => Ok(()),
            Some(_) => Err(damaged("a record does not end in a newline")),
        }
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        if self.left == 0 {
            return Ok(None);
        }
        Ok(self.from.fill_buf().map_err(|e| Error::io("", "read", &e))?.first().copied())
    }

    /// The next word of an ASCII file, and the character after it, which is skipped.
    fn word(&mut self) -> Result<String> {
        let mut word = String::new();
        while let Some(c) = self.peek()? {
            self.from.consume(1);
            self.left -= 1;
            if !c.is_ascii_whitespace() {
                word.push(c as char);
            } else if !word.is_empty() {
                break;
            }
            if word.len() > 64 {
                return Err(damaged(format_args!("'{word}…' is no number")));
            }
        }
        if word.is_empty() { Err(damaged("it ends where a number should stand")) } else { Ok(word) }
    }

    fn parsed<T: std::str::FromStr>(&mut self) -> Result<T> {
        let word = self.word()?;
        word.parse().map_err(|_| damaged(format_args!("'{word}' is no number of its kind")))
    }

    fn int(&mut self) -> Result<i32> {
        match self.form {
            Form::Ascii => self.parsed(),
            Form::Binary => {
                let mut b = [0; 4];
                self.exact(&mut b)?;
                Ok(i32::from_le_bytes(b))
            }
        }
    }

    fn long(&mut self) -> Result<i64> {
        match self.form {
            Form::Ascii => self.parsed(),
            Form::Binary => {
                let mut b = [0; 8];
                self.exact(&mut b)?;
                Ok(i64::from_le_bytes(b))
            }
        }
    }

    fn double(&mut self) -> Result<f64> {
        match self.form {
            Form::Ascii => self.parsed_float(),
            Form::Binary => {
                let mut b = [0; 8];
                self.exact(&mut b)?;
                Ok(f64::from_le_bytes(b))
            }
        }
    }

    /// A float as C prints it, `-nan` included.
    fn parsed_float(&mut self) -> Result<f64> {
        let word = self.word()?;
        let known = word.parse().ok().or_else(|| word.ends_with("nan").then_some(f64::NAN));
        known.ok_or_else(|| damaged(format_args!("'{word}' is no number")))
    }

    fn string(&mut self) -> Result<Vec<u8>> {
        let n = self.int()?;
        let n = usize::try_from(n).map_err(|_| damaged(format_args!("a string has {n} bytes")))?;
        self.bytes(n)
    }

    /// An index, and whether it is its first appearance.
    fn index(&mut self) -> Result<(i32, bool)> {
        let index = self.int()?;
        let new = !self.seen.contains_key(&index);
        if new {
            self.seen.insert(index, None);
        }
        Ok((index, new))
    }

    /// The beginning of the next object.
    pub fn record(&mut self) -> Result<Record> {
        match self.int()? {
            NIL => Ok(Record::Nil),
            NUMBER => self.double().map(Record::Number),
            STRING => self.string().map(Record::String),
            BOOLEAN => Ok(Record::Boolean(self.int()? != 0)),
            TABLE => {
                let (index, new) = self.index()?;
                if !new {
                    return Ok(Record::Again(index));
                }
                let pairs = self.int()?;
                // A pair has two type codes at least.
                let least = if self.form == Form::Binary { 8 } else { 2 };
                let fits = u64::try_from(pairs).is_ok_and(|n| n <= self.left / least);
                if !fits {
                    return Err(damaged(format_args!("a table of {pairs} entries, {} bytes are left", self.left)));
                }
                Ok(Record::Table(index, pairs as usize))
            }
            TORCH => {
                let (index, new) = self.index()?;
                if !new {
                    return Ok(Record::Again(index));
                }
                // Before there were versions the class stood in their place.
                let first = self.string()?;
                let class = if first.starts_with(b"V ") { self.string()? } else { first };
                match String::from_utf8(class) {
                    Ok(class) if !class.is_empty() => Ok(Record::Object(index, class)),
                    _ => Err(damaged("the name of a class is none")),
                }
            }
            FUNCTION => {
                let (index, new) = self.index()?;
                if !new {
                    return Ok(Record::Again(index));
                }
                Ok(Record::Function(index, self.string()?))
            }
            code if OLD_FUNCTIONS.contains(&code) => Err(err!(
                Unsupported,
                "the file holds a function in the form of an old Torch; save it anew with Torch7"
            )),
            code => Err(damaged(format_args!("no object has type {code}"))),
        }
    }

    /// The storage that an index stands for, if it is one.
    pub fn storage_again(&self, index: i32) -> Option<Storage> {
        self.seen.get(&index).cloned().flatten()
    }

    /// What follows the class of a storage; it is known under its index from then on.
    pub fn storage(&mut self, dtype: DType, index: i32) -> Result<Storage> {
        let n = self.long()?;
        // An element of text is a digit and what separates it.
        let least = if self.form == Form::Ascii && dtype.size() > 1 { 2 } else { dtype.size() as u64 };
        let fits = u64::try_from(n).is_ok_and(|n| n <= self.left.saturating_add(1) / least);
        if !fits {
            return Err(damaged(format_args!(
                "a {} of {n} elements, {} bytes are left",
                dtype.storage_class(),
                self.left
            )));
        }
        let storage = Storage::new(dtype, n as usize)?;
        self.elements(&storage)?;
        self.seen.insert(index, Some(storage.clone()));
        Ok(storage)
    }

    fn elements(&mut self, storage: &Storage) -> Result<()> {
        if storage.is_empty() {
            return Ok(());
        }
        let text = self.form == Form::Ascii && storage.dtype().size() > 1;
        if text {
            for at in 0..storage.len() {
                let value = if storage.dtype().is_float() {
                    Scalar::Float(self.parsed_float()?)
                } else {
                    Scalar::Int(self.parsed()?)
                };
                storage.put(at, value)?;
            }
            return Ok(());
        }
        // Straight from the file's buffer to the storage's memory.
        let span = storage.span()?;
        let mut at = 0;
        while at < span.len() {
            let some = self.from.fill_buf().map_err(|e| Error::io("", "read", &e))?;
            let n = some.len().min(span.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
            if n == 0 {
                return Err(damaged(format_args!("{} bytes of a storage are missing", span.len() - at)));
            }
            span.write(at, &some[..n]);
            self.from.consume(n);
            self.left -= n as u64;
            at += n;
        }
        if self.form == Form::Ascii { self.newline() } else { Ok(()) }
    }

    /// What follows the class of a tensor.
    pub fn tensor(&mut self, dtype: DType) -> Result<Tensor> {
        let n = self.int()?;
        let n = usize::try_from(n).ok().filter(|&n| n <= MAX_DIMENSIONS);
        let n = n.ok_or_else(|| damaged("a tensor has a number of dimensions that none has"))?;
        let sizes = (0..n).map(|_| self.long()).collect::<Result<Vec<i64>>>()?;
        let strides = (0..n).map(|_| self.long()).collect::<Result<Vec<i64>>>()?;
        let offset = self.long()?;
        let storage = match self.record()? {
            Record::Nil => None,
            Record::Again(index) => Some(
                self.storage_again(index)
                    .ok_or_else(|| damaged(format_args!("object {index} is no storage but a tensor needs it to be")))?,
            ),
            Record::Object(index, class) if class == dtype.storage_class() => Some(self.storage(dtype, index)?),
            other => return Err(damaged(format_args!("a {} over {other:?}", dtype.tensor_class()))),
        };
        let storage = match storage {
            None if sizes.is_empty() || sizes.contains(&0) => return Ok(Tensor::new(dtype)),
            None => return Err(damaged("a tensor with elements has no storage")),
            Some(s) if s.dtype() != dtype => {
                return Err(damaged(format_args!("a {} over a {}", dtype.tensor_class(), s.dtype().storage_class())));
            }
            Some(s) => s,
        };
        let bad = || damaged(format_args!("a tensor of sizes {sizes:?}, strides {strides:?}, offset {offset}"));
        let shape = sizes.iter().map(|&n| usize::try_from(n)).collect::<std::result::Result<Vec<_>, _>>();
        let shape = shape.map_err(|_| bad())?;
        let offset = usize::try_from(offset.wrapping_sub(1)).map_err(|_| bad())?;
        if strides.iter().any(|&s| s < 0) {
            return Err(bad());
        }
        let strides: Vec<isize> = strides.iter().map(|&s| s as isize).collect();
        let layout = super::layout::Layout::new(offset, &shape, Some(&strides)).map_err(|_| bad())?;
        // A view never makes its storage grow here: the file has all of it or is damaged.
        if layout.numel() > 0 && layout.end() > storage.len() {
            return Err(damaged(format_args!(
                "a tensor reaches to element {} of a storage of {}",
                layout.end(),
                storage.len()
            )));
        }
        Tensor::from_storage(&storage, offset, &shape, Some(&strides)).map_err(|_| bad())
    }
}

/// What an object of a file is told apart by while it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A value of the walker's, by its address.
    Value(usize),
    /// A storage, by its id.
    Storage(usize),
}

/// Writes records.
pub struct Writer<W> {
    to: W,
    form: Form,
    written: HashMap<Identity, i32>,
    /// The storages that were written: an id is one's own only while it lives.
    kept: Vec<Storage>,
}

impl<W> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({:?}, {} objects)", self.form, self.written.len())
    }
}

impl<W: Write> Writer<W> {
    /// Writes to `to`, which had better be buffered.
    pub fn new(to: W, form: Form) -> Writer<W> {
        Writer { to, form, written: HashMap::new(), kept: Vec::new() }
    }

    /// Gives back what was written to, flushed.
    pub fn finish(mut self) -> Result<W> {
        self.to.flush().map_err(|e| Error::io("", "write", &e))?;
        Ok(self.to)
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes).map_err(|e| Error::io("", "write", &e))
    }

    fn text(&mut self, what: impl fmt::Display) -> Result<()> {
        self.to.write_fmt(format_args!("{what}\n")).map_err(|e| Error::io("", "write", &e))
    }

    fn int(&mut self, v: i32) -> Result<()> {
        if self.form == Form::Ascii { self.text(v) } else { self.raw(&v.to_le_bytes()) }
    }

    fn longs(&mut self, values: impl ExactSizeIterator<Item = i64>) -> Result<()> {
        if values.len() == 0 {
            return Ok(());
        }
        if self.form == Form::Ascii {
            return self.text(values.map(|v| v.to_string()).collect::<Vec<_>>().join(" "));
        }
        values.into_iter().try_for_each(|v| self.raw(&v.to_le_bytes()))
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let n = i32::try_from(bytes.len())
            .map_err(|_| err!(Limit, "a string of {} bytes: a .t7 file has room for 2147483647", bytes.len()))?;
        self.int(n)?;
        self.raw(bytes)?;
        if self.form == Form::Ascii && n > 0 { self.raw(b"\n") } else { Ok(()) }
    }

    /// nil
    pub fn nil(&mut self) -> Result<()> {
        self.int(NIL)
    }

    /// A number.
    pub fn number(&mut self, v: f64) -> Result<()> {
        self.int(NUMBER)?;
        if self.form == Form::Ascii { self.text(shortest(v)) } else { self.raw(&v.to_le_bytes()) }
    }

    /// true or false
    pub fn boolean(&mut self, v: bool) -> Result<()> {
        self.int(BOOLEAN)?;
        self.int(i32::from(v))
    }

    /// Bytes.
    pub fn string(&mut self, bytes: &[u8]) -> Result<()> {
        self.int(STRING)?;
        self.bytes(bytes)
    }

    /// A type and an index; whether it is the first appearance, after which the object's contents follow.
    fn index(&mut self, code: i32, identity: Identity) -> Result<bool> {
        let next =
            i32::try_from(self.written.len() + 1).map_err(|_| err!(Limit, "more objects than a .t7 file counts"))?;
        self.int(code)?;
        let known = self.written.get(&identity).copied();
        self.int(known.unwrap_or(next))?;
        if known.is_none() {
            self.written.insert(identity, next);
        }
        Ok(known.is_none())
    }

    /// A table. If this says true, `pairs` keys and values must follow.
    pub fn table(&mut self, identity: Identity, pairs: usize) -> Result<bool> {
        let new = self.index(TABLE, identity)?;
        if new {
            self.int(i32::try_from(pairs).map_err(|_| err!(Limit, "a table of {pairs} entries"))?)?;
        }
        Ok(new)
    }

    /// A torch object. If this says true, what its class writes must follow.
    pub fn object(&mut self, identity: Identity, class: &str) -> Result<bool> {
        let new = self.index(TORCH, identity)?;
        if new {
            self.bytes(b"V 1")?;
            self.bytes(class.as_bytes())?;
        }
        Ok(new)
    }

    /// A function. If this says true, its upvalues must follow as a table.
    pub fn function(&mut self, identity: Identity, bytecode: &[u8]) -> Result<bool> {
        let new = self.index(FUNCTION, identity)?;
        if new {
            self.bytes(bytecode)?;
        }
        Ok(new)
    }

    /// A tensor, with its storage if that was not written before.
    pub fn tensor(&mut self, identity: Identity, tensor: &Tensor) -> Result<()> {
        if !self.object(identity, tensor.dtype().tensor_class())? {
            return Ok(());
        }
        self.int(i32::try_from(tensor.ndim()).map_err(|_| err!(Limit, "a tensor of {} dimensions", tensor.ndim()))?)?;
        self.longs(tensor.sizes().iter().map(|&n| n as i64))?;
        self.longs(tensor.strides().iter().map(|&n| n as i64))?;
        self.longs(std::iter::once(tensor.offset() as i64 + 1))?;
        match tensor.storage() {
            Some(storage) => self.storage(storage),
            None => self.nil(),
        }
    }

    /// A storage.
    pub fn storage(&mut self, storage: &Storage) -> Result<()> {
        if !self.object(Identity::Storage(storage.id()), storage.dtype().storage_class())? {
            return Ok(());
        }
        self.kept.push(storage.clone());
        let span = storage.span()?;
        let n = span.len() / storage.dtype().size();
        self.longs(std::iter::once(n as i64))?;
        if n == 0 {
            return Ok(());
        }
        if self.form == Form::Ascii && storage.dtype().size() > 1 {
            dispatch!(storage.dtype(), T => self.numbers::<T>(storage, n))?;
            return self.raw(b"\n");
        }
        // By pieces: the memory may be written by others meanwhile, so the system gets a copy.
        let mut piece = vec![0; span.len().min(1 << 16)];
        let mut at = 0;
        while at < span.len() {
            let len = piece.len().min(span.len() - at);
            span.read(at, &mut piece[..len]);
            self.raw(&piece[..len])?;
            at += len;
        }
        if self.form == Form::Ascii { self.raw(b"\n") } else { Ok(()) }
    }

    fn numbers<T: Element>(&mut self, storage: &Storage, n: usize) -> Result<()> {
        for at in 0..n {
            if at > 0 {
                self.raw(b" ")?;
            }
            let text = match storage.get(at)? {
                Scalar::Int(v) => v.to_string(),
                // The shortest digits that lead back to the same element.
                Scalar::Float(v) if T::DTYPE == DType::Float => shortest(v as f32),
                Scalar::Float(v) => shortest(v),
            };
            self.raw(text.as_bytes())?;
        }
        Ok(())
    }
}

/// A float as C reads it, in the fewest digits that lead back to it.
fn shortest<T: fmt::Debug>(v: T) -> String {
    let text = format!("{v:?}").replace("NaN", "nan");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn reader(bytes: &[u8], form: Form) -> Reader<&[u8]> {
        Reader::new(bytes, bytes.len() as u64, form)
    }

    /// Reads everything in an object, as a walker would.
    fn walk(r: &mut Reader<&[u8]>, depth: usize) -> Result<()> {
        if depth > 50 {
            return Err(err!(Limit, "too deep"));
        }
        match r.record()? {
            Record::Table(_, pairs) => (0..2 * pairs).try_for_each(|_| walk(r, depth + 1)),
            Record::Function(..) => walk(r, depth + 1),
            Record::Object(index, class) => {
                let dtype = DType::ALL.into_iter().find(|d| d.tensor_class() == class || d.storage_class() == class);
                match dtype {
                    Some(d) if d.tensor_class() == class => r.tensor(d).map(|t| drop(t.clone_data())),
                    Some(d) => r.storage(d, index).map(drop),
                    None => walk(r, depth + 1),
                }
            }
            _ => Ok(()),
        }
    }

    /// `{ 'x', t, t:storage(), t:t(), true, nil key's sake 1.5 }`, t a tensor of each type.
    fn sample(form: Form) -> Vec<u8> {
        let mut w = Writer::new(Vec::new(), form);
        assert!(w.table(Identity::Value(1), 5 * DType::ALL.len()).unwrap());
        for (n, d) in DType::ALL.into_iter().enumerate() {
            let t = Tensor::from_slice(&[1i32, 2, 3, 4, 5, 6]).unwrap().view(&[2, 3]).unwrap().to_dtype(d).unwrap();
            for part in 0..5 {
                w.number((n * 10 + part) as f64 + 0.5).unwrap();
                match part {
                    0 => w.tensor(Identity::Value(100 + n), &t).unwrap(),
                    1 => w.storage(t.storage().unwrap()).unwrap(),
                    2 => w.tensor(Identity::Value(200 + n), &t.t().unwrap()).unwrap(),
                    3 => w.string(d.name().as_bytes()).unwrap(),
                    _ => assert!(!w.table(Identity::Value(1), 0).unwrap()),
                }
            }
        }
        w.finish().unwrap()
    }

    #[test]
    fn the_bytes_are_those_of_torch() {
        let t = Tensor::from_slice(&[1.0f32, 2.0]).unwrap();
        let mut w = Writer::new(Vec::new(), Form::Binary);
        w.tensor(Identity::Value(1), &t).unwrap();
        let mut want = Vec::new();
        let int = |v: i32| v.to_le_bytes();
        let long = |v: i64| v.to_le_bytes();
        want.extend([int(4), int(1), int(3)].concat());
        want.extend(b"V 1");
        want.extend(int(17));
        want.extend(b"torch.FloatTensor");
        want.extend(int(1));
        want.extend([long(2), long(1), long(1)].concat());
        want.extend([int(4), int(2), int(3)].concat());
        want.extend(b"V 1");
        want.extend(int(18));
        want.extend(b"torch.FloatStorage");
        want.extend(long(2));
        want.extend([1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat());
        assert_eq!(w.finish().unwrap(), want);
    }

    #[test]
    fn the_text_is_that_of_torch() {
        let t = Tensor::from_slice(&[1i64, -2, 3, 4]).unwrap().view(&[2, 2]).unwrap();
        let mut w = Writer::new(Vec::new(), Form::Ascii);
        assert!(w.table(Identity::Value(1), 2).unwrap());
        w.string(b"x").unwrap();
        w.tensor(Identity::Value(2), &t).unwrap();
        w.number(2.5).unwrap();
        w.boolean(true).unwrap();
        let want = "3\n1\n2\n2\n1\nx\n4\n2\n3\nV 1\n16\ntorch.LongTensor\n2\n2 2\n2 1\n1\n\
                    4\n3\n3\nV 1\n17\ntorch.LongStorage\n4\n1 -2 3 4\n1\n2.5\n5\n1\n";
        assert_eq!(String::from_utf8(w.finish().unwrap()).unwrap(), want);
    }

    #[test]
    fn what_is_written_is_read_and_shared_storages_stay_shared() {
        for form in [Form::Binary, Form::Ascii] {
            let bytes = sample(form);
            let mut r = reader(&bytes, form);
            assert!(matches!(r.record().unwrap(), Record::Table(1, 45)));
            for (n, d) in DType::ALL.into_iter().enumerate() {
                let mut keep = Vec::new();
                for part in 0..5 {
                    assert_eq!(r.record().unwrap(), Record::Number((n * 10 + part) as f64 + 0.5));
                    match r.record().unwrap() {
                        Record::Object(_, class) => {
                            assert_eq!(class, d.tensor_class());
                            keep.push(r.tensor(d).unwrap());
                        }
                        Record::Again(1) => assert_eq!(part, 4),
                        Record::Again(i) => assert!(r.storage_again(i).unwrap().same(keep[0].storage().unwrap())),
                        Record::String(s) => assert_eq!(s, d.name().as_bytes()),
                        other => panic!("{other:?}"),
                    }
                }
                assert!(keep[0].storage().unwrap().same(keep[1].storage().unwrap()));
                assert_eq!(keep[0].to_vec::<i32>().unwrap(), [1, 2, 3, 4, 5, 6]);
                assert_eq!(keep[1].to_vec::<i32>().unwrap(), [1, 4, 2, 5, 3, 6]);
            }
            assert_eq!(r.left(), 0);
        }
    }

    #[test]
    fn odd_numbers_survive_as_text() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e300, 5e-324, 0.1, f64::MAX];
        let mut w = Writer::new(Vec::new(), Form::Ascii);
        odd.iter().for_each(|&v| w.number(v).unwrap());
        w.storage(&Storage::from_slice(&odd).unwrap()).unwrap();
        w.storage(&Storage::from_slice(&[0.1f32, f32::MAX, f32::NAN]).unwrap()).unwrap();
        let bytes = w.finish().unwrap();
        let mut r = reader(&bytes, Form::Ascii);
        for v in odd {
            let Record::Number(got) = r.record().unwrap() else { panic!() };
            assert!(got.to_bits() == v.to_bits() || got.is_nan() && v.is_nan(), "{got} {v}");
        }
        for _ in 0..2 {
            walk(&mut r, 0).unwrap();
        }
    }

    #[test]
    fn announced_sizes_take_no_memory_before_the_data() {
        let int = |v: i32| v.to_le_bytes().to_vec();
        let long = |v: i64| v.to_le_bytes().to_vec();
        let head = [int(4), int(1), int(3), b"V 1".to_vec(), int(19), b"torch.DoubleStorage".to_vec()].concat();
        for n in [-1, 2, 1 << 40, i64::MAX] {
            let bytes = [head.clone(), long(n), vec![0; 8]].concat();
            assert!(walk(&mut reader(&bytes, Form::Binary), 0).is_err(), "{n}");
        }
        for bytes in
            [[int(2), int(i32::MAX)].concat(), [int(3), int(1), int(i32::MAX)].concat(), int(9), vec![1], vec![]]
        {
            assert!(walk(&mut reader(&bytes, Form::Binary), 0).is_err());
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for form in [Form::Binary, Form::Ascii] {
            let bytes = sample(form);
            // The newline at the end of the last record is no loss.
            for n in 0..bytes.len() - 1 {
                assert!(walk(&mut reader(&bytes[..n], form), 0).is_err() || form == Form::Ascii, "{n}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_mutation_does_harm(at in 0usize..3000, value: u8, ascii: bool, more in proptest::collection::vec((0usize..3000, any::<u8>()), 0..4)) {
            let form = if ascii { Form::Ascii } else { Form::Binary };
            let mut bytes = sample(form);
            let n = bytes.len();
            bytes[at % n] = value;
            for (at, value) in more {
                bytes[at % n] = value;
            }
            let _ = walk(&mut reader(&bytes, form), 0);
        }

        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(0u8..9, 0..200), ascii: bool) {
            let form = if ascii { Form::Ascii } else { Form::Binary };
            let _ = walk(&mut reader(&bytes, form), 0);
        }
    }
}
