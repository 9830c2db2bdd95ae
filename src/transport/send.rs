//! The sending half of a stream (doc/stream.md): what is to go out, and going on after a part of it went. Imports its
//! siblings `frame` and `secure`.

use std::os::fd::RawFd;

use smallvec::SmallVec;

use super::frame::{Descriptor, Header, Kind};
use super::secure::{MAX_PLAIN, Sealer};
use crate::err;
use crate::error::{Error, Result};
use crate::sys::socket::{self, Moved, Region};
use crate::sys::{check_memory, try_extend};
use crate::tensor::Span;
use crate::wire::{Attachment, Message};

/// Message bytes up to here are copied behind their header, so that one plain `send` takes both.
const SMALL: usize = 4 << 10;
/// Regions that one system call gets: far below IOV_MAX.
const REGIONS: usize = 64;

/// What is to go out: header, message bytes, descriptors, and the tensors' data.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    regions: SmallVec<[Region; 4]>,
    /// The first region that has not gone out whole.
    at: usize,
    /// Whether a byte has gone.
    pub moved: bool,
    pub bytes: u64,
    pub system_calls: u64,
    /// What keeps the regions valid.
    _message: &'a Message,
    _spans: SmallVec<[Span; 2]>,
}

/// The reused memory of the sending direction.
#[derive(Debug, Default)]
pub(super) struct Sender {
    scratch: Vec<u8>,
    pub sealer: Option<Sealer>,
}

impl Sender {
    /// Lays out `message`; every refusal comes from here, before a byte has moved.
    ///
    /// The result points into this sender's scratch memory, which stays as it is until the next call of `lay_out`.
    pub fn lay_out<'a>(&mut self, message: &'a Message) -> Result<Outgoing<'a>> {
        let mut spans: SmallVec<[Span; 2]> = SmallVec::new();
        self.scratch.clear();
        self.scratch.resize(super::frame::HEADER, 0);
        let inline = message.bytes.len() <= SMALL;
        if inline {
            try_extend(&mut self.scratch, &message.bytes)?;
        }
        let head = self.scratch.len();
        // Room for all at once: the lists are as long as the message says.
        let count = message.attachments.len();
        spans.try_reserve(count).map_err(|_| Error::no_memory())?;
        for attachment in &message.attachments {
            check_memory()?;
            spans.push(describe(attachment, head, &mut self.scratch)?);
        }
        let header =
            Header { functions: message.functions, descriptors: self.scratch.len() - head, bytes: message.bytes.len() };
        self.scratch[..super::frame::HEADER].copy_from_slice(&header.encode());
        let mut regions: SmallVec<[Region; 4]> = SmallVec::new();
        regions.try_reserve(count + 3).map_err(|_| Error::no_memory())?;
        if inline {
            regions.push(Region::of(&self.scratch));
        } else {
            regions.push(Region::of(&self.scratch[..head]));
            regions.push(Region::of(&message.bytes));
            regions.push(Region::of(&self.scratch[head..]));
        }
        regions.extend(spans.iter().map(|s| Region::new(s.as_ptr(), s.len())));
        regions.retain(|r| !r.is_empty());
        Ok(Outgoing { regions, at: 0, moved: false, bytes: 0, system_calls: 0, _message: message, _spans: spans })
    }

    /// Sends on as far as the socket takes it; true when all is gone.
    pub fn push(&mut self, fd: RawFd, out: &mut Outgoing<'_>) -> std::io::Result<bool> {
        while out.at < out.regions.len() {
            let end = out.regions.len().min(out.at + REGIONS);
            out.system_calls += 1;
            // SAFETY: the regions lie in the scratch memory, the message and the spans, which `out` keeps or (scratch) nobody
            // has changed since `lay_out`.
            match unsafe { socket::send(fd, &out.regions[out.at..end])? } {
                Moved::Bytes(n) => out.advance(n),
                Moved::Blocked | Moved::End => return Ok(false),
            }
        }
        Ok(true)
    }
}

impl Outgoing<'_> {
    /// How many stretches of memory there are.
    pub fn regions(&self) -> u64 {
        self.regions.len() as u64
    }

    /// How many bytes have not gone yet.
    pub fn left(&self) -> usize {
        self.regions[self.at..].iter().map(|r| r.len()).fold(0, usize::saturating_add)
    }

    fn advance(&mut self, mut n: usize) {
        self.moved |= n > 0;
        self.bytes += n as u64;
        while let Some(region) = self.regions.get_mut(self.at) {
            if n < region.len() {
                *region = region.skip(n);
                return;
            }
            n -= region.len();
            self.at += 1;
        }
    }

    /// Appends the next bytes to `plain`, up to a full record; false when there are none.
    pub fn gather(&mut self, plain: &mut Vec<u8>) -> bool {
        let before = plain.len();
        while let Some(region) = self.regions.get(self.at) {
            let n = region.len().min(MAX_PLAIN - (plain.len() - before));
            if n == 0 {
                break;
            }
            // `Sealer::make_room` has made it: nothing is allocated here.
            plain.reserve(n);
            // SAFETY: the region is valid (see `push`), and the vector has room for `n` more bytes, which are then written.
            // A tensor that another thread writes meanwhile gives some of the old bytes and some of the new.
            unsafe {
                std::ptr::copy_nonoverlapping(region.start(), plain.as_mut_ptr().add(plain.len()), n);
                plain.set_len(plain.len() + n);
            }
            self.skip(n);
        }
        plain.len() > before
    }

    fn skip(&mut self, n: usize) {
        let (moved, bytes) = (self.moved, self.bytes);
        self.advance(n);
        // Only gathered so far: what has gone is for the one who sends the record to say.
        (self.moved, self.bytes) = (moved, bytes);
    }
}

/// Appends the descriptor of an attachment and returns its data, made contiguous if it is not. `from` is where the
/// descriptors begin in `out`.
pub(super) fn describe(attachment: &Attachment, from: usize, out: &mut Vec<u8>) -> Result<Span> {
    match attachment {
        Attachment::Tensor(t) => {
            Descriptor::encode(Kind::Tensor, t.dtype(), t.sizes(), from, out)?;
            let bytes = if t.is_contiguous() { t.bytes() } else { t.contiguous()?.bytes() };
            bytes.ok_or_else(|| err!(State, "a tensor reaches past the end of its storage, which was made smaller"))
        }
        Attachment::Storage(s) => {
            let span = s.span()?;
            // By the span's length: another thread may resize the storage meanwhile.
            Descriptor::encode(Kind::Storage, s.dtype(), &[span.len() / s.dtype().size()], from, out)?;
            Ok(span)
        }
        Attachment::Object(o) => Err(err!(Unsupported, "an {} cannot go to another process", o.class())),
        Attachment::Foreign(f) => Err(err!(Unsupported, "a {} cannot go to another process", f.class)),
    }
}
