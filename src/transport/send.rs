//! The sending half of a stream (doc/stream.md): what is to go out, and going on after a part of it went. Imports its
//! siblings `describe`, `frame` and `secure`.

use std::os::fd::RawFd;

use smallvec::SmallVec;

use super::describe::{Sharing, Spans};
use super::frame::Header;
use super::secure::{MAX_PLAIN, Sealer};
use crate::error::{Error, Result};
use crate::sys::socket::{self, Moved, Region};
use crate::sys::try_extend;
use crate::wire::Message;

/// Message bytes up to here are copied behind their header, so that one plain `send` takes both.
const SMALL: usize = 4 << 10;
/// Regions that one system call gets: far below IOV_MAX.
const REGIONS: usize = 64;

/// Where the pieces of a message lie, once its header and descriptors are written: see [`lay_out`].
#[derive(Debug)]
pub(super) struct Layout {
    /// Where the header ends in the scratch memory, and the message bytes behind it where those are few.
    head: usize,
    /// Whether the message bytes are in the scratch memory.
    inline: bool,
    spans: Spans,
}

/// Lays out `message`, whose attachments, if it has any, share as `sharing` says: header and descriptors go to
/// `scratch`. Every refusal comes from here, or from before, while no byte has moved.
pub(super) fn lay_out(message: &Message, sharing: Option<&Sharing>, scratch: &mut Vec<u8>) -> Result<Layout> {
    scratch.clear();
    scratch.resize(super::frame::HEADER, 0);
    let inline = message.bytes.len() <= SMALL;
    if inline {
        try_extend(scratch, &message.bytes)?;
    }
    let head = scratch.len();
    let spans = sharing.map_or(Ok(Spans::new()), |sharing| sharing.describe(message, head, scratch))?;
    let header = Header { functions: message.functions, descriptors: scratch.len() - head, bytes: message.bytes.len() };
    scratch[..super::frame::HEADER].copy_from_slice(&header.encode());
    Ok(Layout { head, inline, spans })
}

/// The pieces of a message that is laid out, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pieces<'a> {
    pub scratch: &'a [u8],
    pub message: &'a Message,
    pub layout: &'a Layout,
}

impl Pieces<'_> {
    /// How many there are, empty ones included.
    fn count(&self) -> usize {
        self.layout.spans.len() + if self.layout.inline { 1 } else { 3 }
    }

    /// How many hold anything.
    pub fn regions(&self) -> u64 {
        (0..self.count()).filter_map(|i| self.get(i)).filter(|piece| !piece.is_empty()).count() as u64
    }

    /// Piece `i`; `None` past the last.
    fn get(&self, i: usize) -> Option<Region> {
        let Layout { head, inline, spans } = self.layout;
        let before = if *inline { 1 } else { 3 };
        Some(match i {
            0 if *inline => Region::of(self.scratch),
            0 => Region::of(&self.scratch[..*head]),
            1 if !*inline => Region::of(&self.message.bytes),
            2 if !*inline => Region::of(&self.scratch[*head..]),
            _ => spans.get(i - before).map(|s| Region::new(s.as_ptr(), s.len()))?,
        })
    }
}

/// A message that is laid out once, to be sent over many connections: see
/// [`Connection::try_send`](super::Connection::try_send).
#[derive(Debug)]
pub struct Parcel {
    message: Message,
    scratch: Vec<u8>,
    layout: Layout,
    /// See [`Sharing::bytes`].
    bytes: (u64, u64),
}

impl Parcel {
    /// Lays `message` out: tensors that do not lie contiguous are copied, here and once. One whose tensors go by
    /// reference goes over no link that needs that.
    pub fn new(message: Message) -> Result<Parcel> {
        let mut scratch = Vec::new();
        if message.share && !message.attachments.is_empty() {
            let layout = lay_out(&Message::default(), None, &mut scratch)?;
            return Ok(Parcel { message, scratch, layout, bytes: (0, 0) });
        }
        let sharing = Sharing::of(&message)?;
        let bytes = sharing.bytes(&message);
        let layout = lay_out(&message, Some(&sharing), &mut scratch)?;
        Ok(Parcel { message, scratch, layout, bytes })
    }

    /// The message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// How large its tensors are: see [`Sharing::bytes`].
    pub(super) fn tensor_bytes(&self) -> (u64, u64) {
        self.bytes
    }

    /// The message, for its memory to be used again.
    pub fn into_message(self) -> Message {
        self.message
    }

    pub(super) fn pieces(&self) -> Pieces<'_> {
        Pieces { scratch: &self.scratch, message: &self.message, layout: &self.layout }
    }
}

/// How far a message has gone out.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The first piece that has not gone out whole, and how much of it has.
    at: usize,
    within: usize,
    /// How much has gone of a sealed record that is on its way.
    record: Option<usize>,
    /// Whether a byte has gone.
    pub moved: bool,
    pub bytes: u64,
    pub system_calls: u64,
}

/// Why nothing more goes out.
#[derive(Debug)]
pub(super) enum Failed {
    /// The socket takes nothing any more.
    Socket(std::io::Error),
    /// Something went wrong here.
    Here(Error),
}

/// The reused memory of the sending direction.
#[derive(Debug, Default)]
pub(super) struct Sender {
    pub scratch: Vec<u8>,
    pub sealer: Option<Sealer>,
}

/// Sends on as far as the socket takes it; true when all is gone.
pub(super) fn push(
    sealer: Option<&mut Sealer>,
    fd: RawFd,
    pieces: Pieces<'_>,
    progress: &mut Progress,
) -> std::result::Result<bool, Failed> {
    if let Some(sealer) = sealer {
        return push_sealed(sealer, fd, pieces, progress);
    }
    loop {
        let regions = progress.next(pieces);
        if regions.is_empty() {
            return Ok(true);
        }
        progress.system_calls += 1;
        // SAFETY: the regions lie in what `pieces` borrows, which nobody changes meanwhile; tensors' spans keep their
        // memory.
        match unsafe { socket::send(fd, &regions, pieces.message.more) }.map_err(Failed::Socket)? {
            Moved::Bytes(n) => {
                progress.moved |= n > 0;
                progress.bytes += n as u64;
                progress.advance(pieces, n);
            }
            Moved::Blocked | Moved::End => return Ok(false),
        }
    }
}

fn push_sealed(
    sealer: &mut Sealer,
    fd: RawFd,
    pieces: Pieces<'_>,
    progress: &mut Progress,
) -> std::result::Result<bool, Failed> {
    // Before the first byte moves: after it, a failure would end the connection.
    if !progress.moved && progress.record.is_none() {
        sealer.make_room(progress.left(pieces)).map_err(Failed::Here)?;
    }
    loop {
        let mut gone = match progress.record {
            Some(gone) => gone,
            None => {
                if !progress.gather(pieces, sealer.begin()) {
                    sealer.rest();
                    return Ok(true);
                }
                sealer.seal().map_err(Failed::Here)?;
                0
            }
        };
        while gone < sealer.record().len() {
            progress.record = Some(gone);
            progress.system_calls += 1;
            // SAFETY: the record is a slice that nobody changes during the call.
            match unsafe { socket::send(fd, &[Region::of(&sealer.record()[gone..])], pieces.message.more) }
                .map_err(Failed::Socket)?
            {
                Moved::Bytes(n) => {
                    progress.moved |= n > 0;
                    progress.bytes += n as u64;
                    gone += n;
                }
                Moved::Blocked | Moved::End => return Ok(false),
            }
        }
        progress.record = None;
    }
}

impl Progress {
    /// Takes back a message of which no byte has gone: the number of its first record may be used again.
    pub fn take_back(&mut self, sealer: Option<&mut Sealer>) {
        debug_assert!(!self.moved);
        if let (Some(_), Some(sealer)) = (self.record.take(), sealer) {
            sealer.take_back();
        }
    }

    /// What a system call gets next; nothing when all is gone.
    fn next(&mut self, pieces: Pieces<'_>) -> SmallVec<[Region; REGIONS]> {
        let mut regions = SmallVec::new();
        let mut within = self.within;
        for i in self.at..pieces.count().min(self.at + REGIONS) {
            let Some(piece) = pieces.get(i) else { break };
            if piece.len() > within {
                regions.push(piece.skip(within));
            }
            within = 0;
        }
        // Empty ones only, REGIONS of them: those after them may not be.
        if regions.is_empty() && self.at + REGIONS < pieces.count() {
            (self.at, self.within) = (self.at + REGIONS, 0);
            return self.next(pieces);
        }
        regions
    }

    /// How many bytes have not gone yet.
    fn left(&self, pieces: Pieces<'_>) -> usize {
        let all = (self.at..pieces.count()).filter_map(|i| pieces.get(i)).map(|piece| piece.len());
        all.fold(0, usize::saturating_add).saturating_sub(self.within)
    }

    fn advance(&mut self, pieces: Pieces<'_>, mut n: usize) {
        while let Some(piece) = pieces.get(self.at) {
            let left = piece.len() - self.within;
            if n < left {
                self.within += n;
                return;
            }
            n -= left;
            (self.at, self.within) = (self.at + 1, 0);
        }
    }

    /// Appends the next bytes to `plain`, up to a full record; false when there are none.
    fn gather(&mut self, pieces: Pieces<'_>, plain: &mut Vec<u8>) -> bool {
        let before = plain.len();
        while let Some(piece) = pieces.get(self.at) {
            let piece = piece.skip(self.within);
            let n = piece.len().min(MAX_PLAIN - (plain.len() - before));
            if n == 0 && !piece.is_empty() {
                break;
            }
            // `Sealer::make_room` has made it: nothing is allocated here.
            plain.reserve(n);
            // SAFETY: the piece is valid (see `push`), and the vector has room for `n` more bytes, which are then
            // written. A tensor that another thread writes meanwhile gives some of the old bytes and some of the new.
            unsafe {
                std::ptr::copy_nonoverlapping(piece.start(), plain.as_mut_ptr().add(plain.len()), n);
                plain.set_len(plain.len() + n);
            }
            self.within += n;
            if n == piece.len() {
                (self.at, self.within) = (self.at + 1, 0);
            }
        }
        plain.len() > before
    }
}
