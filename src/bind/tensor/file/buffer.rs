//! What lies between a file and who reads or writes it in small pieces: as in the standard library, but where there is
//! no memory for it that is an error.

use std::io::{BufRead, Read, Result, Write};

/// Bytes of a buffer.
const SIZE: usize = 1 << 16;

/// A file that is read, or written, through a buffer. What was written must be flushed.
pub(super) struct Buffered<F> {
    file: F,
    bytes: Vec<u8>,
    /// Of a file that is read: where the bytes begin that were not read yet.
    start: usize,
}

impl<F> Buffered<F> {
    pub fn new(file: F) -> Result<Buffered<F>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(SIZE)?;
        Ok(Buffered { file, bytes, start: 0 })
    }

    /// The file itself.
    pub fn into_inner(self) -> F {
        self.file
    }
}

impl<F: Read> Read for Buffered<F> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if self.start == self.bytes.len() && out.len() >= SIZE {
            return self.file.read(out);
        }
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

impl<F: Read> BufRead for Buffered<F> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        if self.start == self.bytes.len() {
            self.start = 0;
            self.bytes.resize(SIZE, 0);
            let read = loop {
                match self.file.read(&mut self.bytes) {
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            self.bytes.truncate(*read.as_ref().unwrap_or(&0));
            read?;
        }
        Ok(&self.bytes[self.start..])
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
    }
}

impl<F: Write> Write for Buffered<F> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.bytes.len() + bytes.len() > SIZE {
            self.flush()?;
        }
        if bytes.len() >= SIZE {
            return self.file.write(bytes);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_all(&self.bytes)?;
        self.bytes.clear();
        self.file.flush()
    }
}

/// Bytes in memory that grow as they are written.
#[derive(Default)]
pub(super) struct Growing(pub Vec<u8>);

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.try_reserve(bytes.len())?;
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
