//! Torch's own file form, `.t7`: the records that `torch.save` writes, binary and ASCII, as Torch7 on 64 bits has them.
//!
//! This is the part without Lua: plain records, tensors and storages. The code that reads or writes values walks them
//! itself and keeps what an index stands for; storages are kept here, so that tensors that share one go on sharing it.
//!
//! ```text
//! object   = 0                                          nil
//!          | 1 double | 2 string | 5 int                number, string, boolean
//!          | 3 index [int pairs, (object object)*]      table; the brackets only at an index's first appearance
//!          | 4 index [string "V 1", string class, …]    torch object: tensor, storage, or a table of fields
//!          | 8 index [string bytecode, object upvalues] function
//! string   = int length, bytes
//! tensor   = int n, n long sizes, n long strides, long offset from 1, object storage
//! storage  = long length, elements
//! ```
//!
//! `int` has 4 bytes, `long` and `double` 8, in the machine's order, which is little-endian. In the ASCII form every
//! record is written as text and ends in a newline, elements of an array are separated by spaces, and bytes (those of
//! strings and of Byte and Char storages) stand as they are.
//!
//! What is read is not trusted: every length is held against what is left of the file before memory is taken for it.

mod write;

use std::collections::HashMap;
use std::fmt;
use std::io::BufRead;

use crate::err;
use crate::error::{Error, Result};
use crate::tensor::data::dtype::DType;
use crate::tensor::data::number::Scalar;
use crate::tensor::data::storage::Storage;
use crate::tensor::data::view::Tensor;

pub use write::{Identity, Writer};

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

    /// The next `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        self.exact(&mut out)?;
        Ok(out)
    }

    /// `n` bytes; memory grows as they come.
    fn bytes(&mut self, n: usize) -> Result<Vec<u8>> {
        if n as u64 > self.left {
            return Err(damaged(format_args!("{n} bytes are announced, {} are left", self.left)));
        }
        // A file may announce more than it holds: it may be sparse.
        let mut out = Vec::new();
        out.try_reserve_exact(n)?;
        out.resize(n, 0);
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
            Form::Binary => self.array().map(i32::from_le_bytes),
        }
    }

    fn long(&mut self) -> Result<i64> {
        match self.form {
            Form::Ascii => self.parsed(),
            Form::Binary => self.array().map(i64::from_le_bytes),
        }
    }

    fn double(&mut self) -> Result<f64> {
        match self.form {
            Form::Ascii => self.parsed_float(),
            Form::Binary => self.array().map(f64::from_le_bytes),
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
            self.seen.try_reserve(1)?;
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
            code => {
                let start = code.to_le_bytes();
                let hint = if start[0].is_ascii_digit() && start[1] == b'\n' {
                    "; in the form 'ascii' it may be one"
                } else {
                    ""
                };
                Err(damaged(format_args!("no object has type {code}{hint}")))
            }
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
        let layout = crate::tensor::data::layout::Layout::new(offset, &shape, Some(&strides)).map_err(|_| bad())?;
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

#[cfg(test)]
mod tests;
