//! The writing half of `.t7`. Imports its parent `t7`, which describes the form.

use std::collections::HashMap;
use std::fmt;
use std::io::Write;

use super::{BOOLEAN, FUNCTION, Form, NIL, NUMBER, STRING, TABLE, TORCH};
use crate::dispatch;
use crate::err;
use crate::error::{Error, Result};
use crate::sys::try_push;
use crate::tensor::data::dtype::{DType, Element};
use crate::tensor::data::number::Scalar;
use crate::tensor::data::storage::Storage;
use crate::tensor::data::view::Tensor;

/// What identifies an object of a file while it is written.
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
            self.written.try_reserve(1)?;
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
        try_push(&mut self.kept, storage.clone())?;
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
        let mut piece = Vec::new();
        let len = span.len().min(1 << 16);
        piece.try_reserve_exact(len)?;
        piece.resize(len, 0);
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
