//! The receiving half of a stream: the state machine of doc/stream.md. Imports its siblings `read_buffer`,
//! `descriptor`, `frame`, `place`, `policy` and `secure`.

mod reading;

use std::os::fd::RawFd;

use super::Target;
use super::descriptor::Descriptor;
use super::frame::{HEADER, Header};
use super::place::{Place, attachment, attachments, copy, fits, same, view};
use super::policy::Limits;
use super::read_buffer::ReadBuffer;
use super::secure::{IDLE, Opener};
use crate::err;
use crate::error::{Code, Error, Result};
use crate::sys::socket::Empty;
use crate::sys::{check_memory, leaves_room};
use crate::wire::{Attachment, Message};

/// The message's buffer starts at no more than this, whatever was announced, and doubles as data really comes.
const FIRST_STEP: usize = 1 << 20;

/// Data of fewer bytes is nothing to speak of.
const FEW: usize = 64 << 10;

/// Nothing has changed: the receive can be tried again.
fn no_memory_for(next: &Descriptor) -> Error {
    err!(Limit, "not enough memory for a {}, which is to come", next.name()).shortage()
}

/// How far a look at the socket got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A message is whole: [`Receiver::hand_out`] has it.
    Whole,
    /// The socket has nothing more now.
    Blocked,
}

/// A failure, and whether the stream can go on after it.
#[derive(Debug)]
pub(super) enum Fault {
    /// This message is lost; the next one is found.
    Message(Error),
    /// There was no memory for it; nothing has changed, and the next call goes on.
    Memory(Error),
    /// Nothing more can come.
    Stream(Error),
    /// The peer has closed; true in the middle of a message.
    End(bool),
}

#[derive(Debug)]
enum Phase {
    Header,
    Body,
    Data,
    Skip { left: u64, fault: Error },
}

/// Counts for the statistics.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub bytes: u64,
    pub regions: u64,
    pub system_calls: u64,
}

/// The state of the receiving direction.
#[derive(Debug)]
pub(super) struct Receiver {
    limits: Limits,
    functions: bool,
    phase: Phase,
    header: Header,
    bytes: Vec<u8>,
    descriptors: Vec<u8>,
    /// What is to come after the body.
    described: Vec<Descriptor>,
    /// Where that goes: up to the one being filled. What was only announced costs no memory.
    places: Vec<Place>,
    /// The place being filled, and how far.
    at: usize,
    filled: usize,
    /// What this message is being received into.
    given: Option<Attachment>,
    buffer: ReadBuffer,
    opener: Option<Opener>,
    /// Whether the system call that finds nothing may wait.
    empty: Empty,
    /// How many such calls of this look have brought something, and when the second one had.
    calls: u32,
    since: u64,
    pub counts: Counts,
}

impl Receiver {
    pub fn new(limits: Limits, functions: bool, opener: Option<Opener>) -> Receiver {
        Receiver {
            limits,
            functions,
            phase: Phase::Header,
            header: Header { functions: false, descriptors: 0, bytes: 0 },
            bytes: Vec::new(),
            descriptors: Vec::new(),
            described: Vec::new(),
            places: Vec::new(),
            at: 0,
            filled: 0,
            given: None,
            buffer: ReadBuffer::default(),
            opener,
            empty: Empty::Return,
            calls: 0,
            since: 0,
            counts: Counts::default(),
        }
    }

    /// Whether encrypted bytes were read of which the socket will not tell again.
    fn has_record(&self) -> bool {
        self.opener.as_ref().is_some_and(Opener::has_record)
    }

    /// Goes on as far as the socket lets it. Between messages `into` says where the next one's data goes; `empty`,
    /// whether to wait a while for more.
    pub fn drive(&mut self, fd: RawFd, into: Option<Target<'_>>, empty: Empty) -> std::result::Result<Step, Fault> {
        self.empty = empty;
        self.calls = 0;
        loop {
            match &mut self.phase {
                Phase::Header => {
                    if !self.fill_buffer(fd, HEADER)? {
                        self.rest();
                        return Ok(Step::Blocked);
                    }
                    let mut raw = [0; HEADER];
                    self.buffer.take(&mut raw);
                    self.header = Header::decode(&raw, self.limits.message).map_err(Fault::Stream)?;
                    self.bytes.clear();
                    self.descriptors.clear();
                    self.phase = Phase::Body;
                }
                Phase::Body => {
                    if !self.fill_vec(fd, |r| &mut r.bytes, self.header.bytes)?
                        || !self.fill_vec(fd, |r| &mut r.descriptors, self.header.descriptors)?
                    {
                        return Ok(Step::Blocked);
                    }
                    self.place(into)?;
                }
                Phase::Data => {
                    while let Some(next) = self.described.get(self.at) {
                        if self.places.len() == self.at {
                            // Each is small beside its data: many must not live on the allocator's reserve.
                            check_memory().map_err(Fault::Memory)?;
                            // What was only announced is not to take the last of it.
                            if next.data() >= FEW && !leaves_room(next.data()) {
                                return Err(Fault::Memory(no_memory_for(next)));
                            }
                            self.places.try_reserve(1).map_err(|e| Fault::Memory(e.into()))?;
                            // No shortage of this process's own making: the peer says how much it takes.
                            self.places.push(Place::new(next, &self.places).map_err(|e| match e.code() {
                                Code::Limit => Fault::Memory(no_memory_for(next)),
                                _ => Fault::Stream(e),
                            })?);
                        }
                        let place = &self.places[self.at];
                        let (start, len) = (place.span.as_ptr(), place.span.len());
                        while self.filled < len {
                            // SAFETY: `filled` < `len`: within the span, which the place keeps alive.
                            let n = unsafe { self.read(fd, start.add(self.filled), len - self.filled)? };
                            if n == 0 {
                                return Ok(Step::Blocked);
                            }
                            self.filled += n;
                        }
                        self.counts.regions += u64::from(len != 0);
                        self.at += 1;
                        self.filled = 0;
                    }
                    return Ok(Step::Whole);
                }
                Phase::Skip { left, fault } => {
                    if *left == 0 {
                        let fault = std::mem::replace(fault, err!(State, ""));
                        self.reset();
                        return Err(Fault::Message(fault));
                    }
                    let most = *left;
                    if self.buffer.is_empty() && !self.fill_buffer(fd, 1)? {
                        return Ok(Step::Blocked);
                    }
                    let n = self.buffer.skip(usize::try_from(most).unwrap_or(usize::MAX)) as u64;
                    if let Phase::Skip { left, .. } = &mut self.phase {
                        *left -= n;
                    }
                }
            }
        }
    }

    /// Moves the whole message to `out`, whose memory is kept for the next one. An error loses the message.
    pub fn hand_out(&mut self, into: Option<Target<'_>>, out: &mut Message) -> Result<()> {
        out.clear();
        // Where there is no memory the message stays for the next call.
        out.attachments.try_reserve(self.places.len())?;
        let done = self.deliver(into);
        if done.is_ok() {
            std::mem::swap(&mut out.bytes, &mut self.bytes);
            out.functions = self.header.functions;
            out.attachments.extend(attachments(&self.described, self.places.drain(..)));
        }
        self.reset();
        done
    }

    fn deliver(&mut self, into: Option<Target<'_>>) -> Result<()> {
        for place in &self.places {
            if let Some(through) = &place.through {
                copy(&place.attachment, through)?;
            }
        }
        let Some(target) = into else { return Ok(()) };
        if self.given.as_ref().is_some_and(|given| same(given, target)) {
            return Ok(());
        }
        // The message began under a call that gave no tensor, or another one.
        fits(&self.bytes, &self.described, target)?;
        let target = attachment(target);
        if let Some(place) = self.places.first_mut() {
            copy(&target, &view(&place.attachment)?)?;
            place.attachment = target;
        }
        Ok(())
    }

    /// Lets go of everything: nothing more will come.
    pub fn finish(&mut self) {
        self.reset();
        self.bytes = Vec::new();
        self.descriptors = Vec::new();
        self.described = Vec::new();
        self.places = Vec::new();
        self.buffer = ReadBuffer::default();
        self.opener = None;
    }

    /// Nothing has come, and nothing may come for long: lets go of what large messages left behind.
    fn rest(&mut self) {
        if let Some(opener) = &mut self.opener {
            opener.rest();
            self.buffer.rest(IDLE);
            if self.bytes.capacity() > IDLE {
                self.bytes = Vec::new();
            }
        }
        if self.descriptors.capacity() > IDLE {
            self.descriptors = Vec::new();
        }
        if self.described.capacity() > IDLE / size_of::<Descriptor>() {
            (self.described, self.places) = (Vec::new(), Vec::new());
        }
    }

    /// Lets go of the message.
    pub fn reset(&mut self) {
        self.phase = Phase::Header;
        self.described.clear();
        self.places.clear();
        (self.at, self.filled) = (0, 0);
        self.given = None;
        // One large message should not hold its memory for ever.
        if self.bytes.capacity() > FIRST_STEP {
            self.bytes = Vec::new();
        }
    }

    /// All is known about the message but its data: decides where that goes, or to skip it.
    fn place(&mut self, into: Option<Target<'_>>) -> std::result::Result<(), Fault> {
        self.counts.regions += 1;
        let most = self.limits.tensors as usize;
        let described =
            Descriptor::decode_all(&self.descriptors, self.bytes.len(), most).map_err(|e| match e.is_shortage() {
                true => Fault::Memory(e),
                false => Fault::Stream(e),
            })?;
        let total = |of: fn(&Descriptor) -> usize| {
            let total = described.iter().try_fold(0u64, |sum, d| sum.checked_add(of(d) as u64));
            total.ok_or_else(|| Fault::Stream(err!(Protocol, "the sizes of a message's tensors overflow")))
        };
        // What is shown counts, too: a tensor whose elements are one and the same is as large to who copies it.
        let left = total(Descriptor::data)?;
        let most = left.max(total(|d| if d.is_attachment() { d.shown() } else { 0 })?);
        if most > self.limits.tensor_bytes {
            return Err(Fault::Stream(err!(
                Limit,
                "tensors of {most} bytes announced in a message, at most {} are taken (max_tensor_bytes =)",
                self.limits.tensor_bytes
            )));
        }
        let refused = if self.header.functions && !self.functions {
            Some(err!(
                Unsupported,
                "the message holds a Lua function, which is accepted only where both ends ask for it (functions = true)"
            ))
        } else {
            into.and_then(|target| self.aim(&described, target).err())
        };
        if let Some(fault) = refused {
            self.phase = Phase::Skip { left, fault };
            return Ok(());
        }
        self.given = into.map(attachment);
        self.described = described;
        self.phase = Phase::Data;
        Ok(())
    }

    /// Has the data go to `target`, if it fits.
    fn aim(&mut self, described: &[Descriptor], target: Target<'_>) -> Result<()> {
        fits(&self.bytes, described, target)?;
        let place = Place::of(target)?;
        let bytes: usize = described.iter().map(Descriptor::data).sum();
        if place.span.len() != bytes {
            return Err(err!(State, "the storage changed its size while it was to be filled"));
        }
        self.places.push(place);
        Ok(())
    }

    /// How many bytes the data that is awaited has taken, or would take, and not filled.
    pub fn unfilled(&self) -> usize {
        match (self.places.get(self.at), self.described.get(self.at)) {
            (Some(place), _) => place.span.len() - self.filled,
            (None, Some(next)) => next.data(),
            (None, None) => 0,
        }
    }

    /// Whether a whole message is here, to be handed out.
    pub fn is_whole(&self) -> bool {
        matches!(self.phase, Phase::Data) && self.at == self.described.len()
    }

    fn is_partial(&self) -> bool {
        !matches!(self.phase, Phase::Header) || !self.buffer.is_empty()
    }

    /// Whether a whole message is here or in the read buffer, or something that a receive would raise at once.
    pub fn is_ready(&self) -> bool {
        if self.has_record() {
            return true;
        }
        if self.is_whole() {
            return true;
        }
        if !matches!(self.phase, Phase::Header) {
            // Its rest may lie in the read buffer, if it is small; looking is cheap.
            return !self.buffer.is_empty();
        }
        let buffered = self.buffer.bytes();
        let Some((raw, rest)) = buffered.split_first_chunk::<HEADER>() else { return false };
        let Ok(header) = Header::decode(raw, self.limits.message) else { return true };
        let Some(mut descriptors) = rest.get(header.bytes..).and_then(|r| r.get(..header.descriptors)) else {
            return false;
        };
        let mut need = header.bytes + header.descriptors;
        while !descriptors.is_empty() {
            match Descriptor::decode(&mut descriptors) {
                Ok(d) => need = need.saturating_add(d.data()),
                Err(_) => return true,
            }
        }
        rest.len() >= need
    }
}
