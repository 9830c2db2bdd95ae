//! doc/stream.md, sentence by sentence, over socketpairs; and what holds over every link (`every`).
#![allow(clippy::unwrap_used)]

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::descriptor::{Descriptor, Kind};
use super::frame::Header;
use super::secure::{Handshake, Keys, Role, Secret};
use super::{Connection, InProcess, InProcessEnd, Limits, Parcel, Policy, Stream, Target};
use crate::err;
use crate::error::{Code, Result};
use crate::sys::Fd;
use crate::sys::socket::{self, Address, Empty, Moved, Region};
use crate::tensor::{DType, Storage, Tensor};
use crate::wait::{Cancel, Deadline, Interest, Interrupt, Wait, poll_fd};
use crate::wire::{Attachment, Message, ext};

mod any;
mod closing;
mod every;
mod messages;
mod put_back;
mod sends;
mod share;

const LONE: &[u8] = &[0x10, 0xd6, 2, 0, 0, 0, 0];

fn never() -> Wait<'static> {
    Wait::until(Deadline::NEVER)
}

fn soon() -> Wait<'static> {
    Wait::until(Deadline::after(0.01))
}

fn keys() -> (Keys, Keys) {
    let secret = Secret::new(b"s");
    let mut i = Handshake::new(Role::Initiator, &secret, b"").unwrap();
    let mut r = Handshake::new(Role::Responder, &secret, b"").unwrap();
    r.read(&i.write(b"").unwrap()).unwrap();
    i.read(&r.write(b"").unwrap()).unwrap();
    (i.finish().unwrap(), r.finish().unwrap())
}

fn stream(fd: Fd, policy: Policy, keys: Option<Keys>) -> Arc<Stream> {
    let nowhere = Address::Unix(Default::default());
    Arc::new(Stream::new(fd, &nowhere, "the peer".into(), policy, keys).unwrap())
}

fn pair_with(policy: Policy, sealed: bool) -> (Arc<Stream>, Arc<Stream>) {
    let (a, b) = socket::pair().unwrap();
    let (ka, kb) = if sealed { Some(keys()).unzip() } else { (None, None) };
    (stream(a, policy, ka), stream(b, policy, kb))
}

fn pair() -> (Arc<Stream>, Arc<Stream>) {
    pair_with(Policy::default(), false)
}

/// One end of whatever link.
type End = Arc<dyn Connection>;

/// Both ends of a link of each kind.
fn every_with(policy: Policy) -> Vec<(&'static str, End, End)> {
    let (plain, sealed) = (pair_with(policy, false), pair_with(policy, true));
    let (one, other) = InProcessEnd::pair();
    let end = |end| -> End { Arc::new(InProcess::new(end, "the peer".into(), policy)) };
    vec![("socket", plain.0, plain.1), ("sealed", sealed.0, sealed.1), ("memory", end(one), end(other))]
}

fn every() -> Vec<(&'static str, End, End)> {
    every_with(Policy::default())
}

fn text(bytes: &[u8]) -> Message {
    Message { bytes: bytes.to_vec(), ..Message::default() }
}

fn tensor(values: &[f32]) -> Tensor {
    Tensor::from_slice(values).unwrap()
}

fn lone(t: &Tensor) -> Message {
    Message { bytes: LONE.to_vec(), attachments: vec![Attachment::Tensor(t.clone())], ..Message::default() }
}

fn receive(c: &dyn Connection) -> Result<Message> {
    let mut out = Message::default();
    c.recv(None, &mut out, &never())?;
    Ok(out)
}

fn content(m: &Message) -> (Vec<u8>, Vec<Vec<u8>>) {
    let data = m.attachments.iter().map(|a| match a {
        Attachment::Tensor(t) => t.contiguous().unwrap().bytes().unwrap().to_vec(),
        Attachment::Storage(s) => s.span().unwrap().to_vec(),
        other => panic!("{other:?}"),
    });
    (m.bytes.clone(), data.collect())
}

/// One end of a socketpair as bytes.
struct Raw(Fd);

impl Raw {
    fn write(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            // SAFETY: a slice.
            match unsafe { socket::send(self.0.as_raw_fd(), &[Region::of(bytes)], false) } {
                Ok(Moved::Bytes(n)) => bytes = &bytes[n..],
                Ok(_) => assert!(poll_fd(self.0.as_raw_fd(), Interest::Write, &never()).unwrap()),
                Err(_) => return false,
            }
        }
        true
    }

    fn read(&self, most: usize) -> Option<Vec<u8>> {
        let mut buf = vec![0; most];
        loop {
            // SAFETY: a buffer of the stated length.
            match unsafe { socket::receive(self.0.as_raw_fd(), &[Region::new(buf.as_mut_ptr(), most)], Empty::Return) }
            {
                Ok(Moved::Bytes(n)) => {
                    buf.truncate(n);
                    return Some(buf);
                }
                Ok(Moved::Blocked) => assert!(poll_fd(self.0.as_raw_fd(), Interest::Read, &never()).unwrap()),
                _ => return None,
            }
        }
    }
}

fn raw_pair(policy: Policy) -> (Raw, Arc<Stream>) {
    let (a, b) = socket::pair().unwrap();
    (Raw(a), stream(b, policy, None))
}
