//! One of the pipes that a child writes to, and what has come out of it and waits to be read.

use std::io::ErrorKind;
use std::sync::Arc;

use crate::err;
use crate::error::{Error, Result};
use crate::sys::{Fd, find_byte, read_some, try_extend};

/// How much to read of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Up to the next newline, or the end.
    Line {
        /// With its newline.
        whole: bool,
    },
    /// Everything, to the end.
    All,
    /// What is there, of that at most so many bytes; waits only where nothing is.
    UpTo(usize),
}

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It was read.
    Read,
    /// The end: there is nothing any more.
    End,
    /// Not enough of it has come yet.
    NotYet,
}

/// How much of an output is kept, unless it is told otherwise, while calls wait for something else and nobody reads it.
pub const KEPT: usize = 64 << 20;

/// What a pipe holds unless it was told otherwise, and so the most that one read of it gives.
const CHUNK: usize = 64 << 10;

/// The most that one read is asked for: pipes hold no more.
const MOST: usize = 1 << 20;

/// An output of a child.
#[derive(Debug)]
pub(super) struct Output {
    /// `None` where the child has no such pipe, and after its end. A thread that polls holds it too, so that it is not
    /// another one meanwhile.
    fd: Option<Arc<Fd>>,
    piped: bool,
    /// What has come; from `start` on it was not given out.
    buffer: Vec<u8>,
    start: usize,
    /// Up to here the buffer holds no newline.
    scanned: usize,
    /// Bytes that were dropped behind what was given out last.
    skipped: usize,
    /// How much is kept while nobody reads.
    keep: usize,
    /// More came than that.
    lost: bool,
}

impl Output {
    /// What comes out of `fd`, a pipe, if there is one. It may block: others that it is handed to need it as pipes are.
    /// Up to `keep` bytes of it are kept while nobody reads.
    pub fn new(fd: Option<Fd>, keep: usize) -> Output {
        Output {
            piped: fd.is_some(),
            fd: fd.map(Arc::new),
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            skipped: 0,
            keep,
            lost: false,
        }
    }

    /// How much memory it takes.
    pub fn weight(&self) -> usize {
        self.buffer.capacity()
    }

    /// The pipe, until its end.
    pub fn fd(&self) -> Option<&Arc<Fd>> {
        self.fd.as_ref()
    }

    /// Whether the child writes to a pipe of ours, or did.
    pub fn piped(&self) -> bool {
        self.piped
    }

    /// Whether a read of one line, or of a few bytes, would not wait.
    pub fn readable(&self) -> bool {
        self.start < self.buffer.len() || self.fd.is_none()
    }

    /// Takes `amount` into `into`, which is empty. `ready`: a poll has said that a read of the pipe will not wait; one
    /// is made then, at most, if it is needed.
    pub fn take(&mut self, amount: Amount, into: &mut Vec<u8>, mut ready: bool) -> Result<Found> {
        self.skipped = 0;
        loop {
            if self.lost {
                let most = self.keep;
                return Err(err!(
                    Limit,
                    "more than {most} bytes came while other calls waited and nobody read them, and were dropped; read \
                     them in time, or start the process with keep = BYTES"
                ));
            }
            let there = &self.buffer[self.start..];
            match amount {
                Amount::UpTo(n) if !there.is_empty() => {
                    self.give(there.len().min(n), 0, into)?;
                    return Ok(Found::Read);
                }
                Amount::UpTo(n) if ready && self.fd.is_some() => {
                    // Straight to where it is wanted.
                    return self.read(into, n.min(MOST));
                }
                Amount::Line { whole } => {
                    if let Some(at) = find_byte(&there[self.scanned..], b'\n') {
                        let length = self.scanned + at;
                        self.give(length + usize::from(whole), usize::from(!whole), into)?;
                        return Ok(Found::Read);
                    }
                    self.scanned = there.len();
                }
                Amount::UpTo(_) | Amount::All => {}
            }
            if self.fd.is_none() {
                let rest = self.buffer.len() - self.start;
                if rest == 0 {
                    return Ok(Found::End);
                }
                self.give(rest, 0, into)?;
                return Ok(Found::Read);
            }
            if !std::mem::take(&mut ready) {
                return Ok(Found::NotYet);
            }
            self.more()?;
        }
    }

    /// Moves the next `length` bytes to `into`, and drops the `skip` that follow.
    fn give(&mut self, length: usize, skip: usize, into: &mut Vec<u8>) -> Result<()> {
        if self.start == 0 && self.buffer.len() == length + skip && length > into.capacity() {
            self.buffer.truncate(length);
            *into = std::mem::take(&mut self.buffer);
        } else {
            try_extend(into, &self.buffer[self.start..self.start + length])?;
            self.start += length + skip;
        }
        (self.scanned, self.skipped) = (0, skip);
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        Ok(())
    }

    /// Takes back what [`Output::take`] gave last: it is the next to be read.
    pub fn put_back(&mut self, mut bytes: Vec<u8>) {
        let length = bytes.len() + self.skipped;
        if self.start >= length && self.buffer[self.start - length..].starts_with(&bytes) {
            // It lies there still.
            self.start -= length;
        } else {
            let newline = &b"\n"[..self.skipped];
            let whole =
                try_extend(&mut bytes, newline).and_then(|()| try_extend(&mut bytes, &self.buffer[self.start..]));
            // Where there is no memory to have it in front of what others have read meanwhile.
            self.lost |= whole.is_err();
            (self.buffer, self.start) = (bytes, 0);
        }
        self.scanned = 0;
    }

    /// Reads once into the buffer; a poll has said that it will not wait.
    fn more(&mut self) -> Result<Found> {
        if self.start >= CHUNK && self.start >= self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let found = self.read(&mut buffer, CHUNK);
        self.buffer = buffer;
        found
    }

    /// As a read by nobody: once more than is to be kept lies in the buffer, all of it is dropped, and what comes
    /// later.
    pub fn fill(&mut self) -> Result<Found> {
        let found = self.more();
        if self.lost || self.buffer.len() - self.start > self.keep {
            self.lost = true;
            self.buffer = Vec::new();
            (self.start, self.scanned) = (0, 0);
        }
        found
    }

    /// One read to the end of `into`.
    fn read(&mut self, into: &mut Vec<u8>, most: usize) -> Result<Found> {
        let Some(fd) = &self.fd else { return Ok(Found::End) };
        match read_some(fd.check()?, into, most) {
            Ok(0) => {
                self.fd = None;
                Ok(Found::End)
            }
            Ok(_) => Ok(Found::Read),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(Found::NotYet),
            Err(e) => Err(Error::io("", "read", &e)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::{pipe, write_some};
    use crate::wait::{Deadline, Interest, Wait, poll_fd};
    use proptest::prelude::*;
    use std::os::fd::AsRawFd;

    fn output() -> (Output, Fd) {
        let (read, write) = pipe().unwrap();
        (Output::new(Some(read), 5), write)
    }

    fn take(output: &mut Output, amount: Amount) -> (Found, String) {
        let mut into = Vec::new();
        let ready = |output: &Output| {
            let watch = output.fd().map(|fd| fd.as_raw_fd());
            watch.is_some_and(|fd| poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap())
        };
        let mut found = output.take(amount, &mut into, false).unwrap();
        while found == Found::NotYet && ready(output) {
            found = output.take(amount, &mut into, true).unwrap();
        }
        (found, String::from_utf8(into).unwrap())
    }

    const LINE: Amount = Amount::Line { whole: false };

    #[test]
    fn lines_come_one_by_one_and_the_last_without_its_newline() {
        let (mut output, write) = output();
        assert_eq!(take(&mut output, LINE), (Found::NotYet, String::new()));
        write_some(write.as_raw_fd(), b"one\n\ntwo\nthr").unwrap();
        assert_eq!(take(&mut output, LINE), (Found::Read, "one".into()));
        assert_eq!(take(&mut output, Amount::Line { whole: true }), (Found::Read, "\n".into()));
        assert_eq!(take(&mut output, LINE), (Found::Read, "two".into()));
        assert_eq!(take(&mut output, LINE), (Found::NotYet, String::new()));
        assert!(output.readable());
        write_some(write.as_raw_fd(), b"ee").unwrap();
        drop(write);
        assert_eq!(take(&mut output, LINE), (Found::Read, "three".into()));
        assert_eq!(take(&mut output, LINE), (Found::End, String::new()));
        assert_eq!(take(&mut output, Amount::All), (Found::End, String::new()));
    }

    #[test]
    fn all_of_nothing_is_the_end() {
        let (mut output, write) = output();
        drop(write);
        assert_eq!(take(&mut output, Amount::All), (Found::End, String::new()));
        assert_eq!(take(&mut output, Amount::All), (Found::End, String::new()));
    }

    #[test]
    fn what_is_too_much_is_dropped_and_told_of() {
        let (mut output, write) = output();
        write_some(write.as_raw_fd(), b"12345").unwrap();
        assert_eq!(output.fill().unwrap(), Found::Read);
        write_some(write.as_raw_fd(), b"6").unwrap();
        assert_eq!(output.fill().unwrap(), Found::Read);
        write_some(write.as_raw_fd(), b"7").unwrap();
        assert_eq!(output.fill().unwrap(), Found::Read);
        drop(write);
        assert_eq!(output.fill().unwrap(), Found::End);
        for amount in [LINE, Amount::All, Amount::UpTo(1)] {
            assert_eq!(output.take(amount, &mut Vec::new(), false).unwrap_err().code(), crate::error::Code::Limit);
        }
    }

    proptest! {
        #[test]
        fn however_it_is_written_and_read_every_byte_arrives_once(
            writes in prop::collection::vec("[a\n]{0,40}", 0..20),
            reads in prop::collection::vec(0usize..30, 1..20),
        ) {
            let (mut output, write) = output();
            let (mut got, mut reads, mut writes_left) = (String::new(), reads.into_iter().cycle(), writes.iter());
            let mut write = Some(write);
            loop {
                match writes_left.next() {
                    Some(text) => _ = write_some(write.as_ref().unwrap().as_raw_fd(), text.as_bytes()).unwrap(),
                    None => write = None,
                }
                let amount = match reads.next().unwrap() {
                    0 => Amount::Line { whole: true },
                    n => Amount::UpTo(n),
                };
                // What is put back comes again, with the newline that was dropped.
                let first = if reads.next().unwrap() % 2 == 0 { LINE } else { amount };
                if let (Found::Read, text) = take(&mut output, first) {
                    output.put_back(text.into_bytes());
                }
                match take(&mut output, amount) {
                    (Found::End, _) => break,
                    (_, text) => got += &text,
                }
            }
            prop_assert_eq!(got, writes.concat());
        }
    }
}
